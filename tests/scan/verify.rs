//! Comparing what is known of files with what they hold.

use std::io;

use musicfs_core::{FileState, MetaDb};
use musicfs_sync::Verification;
use musicfs_test_utils::FailMode;
use musicfs_test_utils::library::Track;
use tokio_util::sync::CancellationToken;

use crate::shelf::{Shelf, id, tagged};
use crate::{World, song};

async fn verify(shelf: &Shelf) -> Verification {
    let cancel = CancellationToken::new();
    shelf.scanner.verify(&id(), None, &cancel, &|_| {}).await.unwrap()
}

fn counts(done: &Verification) -> (u64, u64, u64) {
    (done.verified, done.differing, done.unread)
}

#[tokio::test]
async fn file_that_fails_on_the_second_look_is_counted_and_the_others_are_compared() {
    let shelf = Shelf::new().with_tracks(0..1);
    shelf.scan().await;
    let reads = shelf.asked.reads();
    assert_eq!(counts(&verify(&shelf).await), (1, 0, 0));
    let reads = shelf.asked.reads() - reads;
    let shelf = shelf.with_tracks(1..3);
    shelf.scan().await;
    for n in 0..3 {
        let at = format!("a/{n:04}.mp3");
        let mtime = shelf.file(shelf.id_at(&at)).version.mtime.unwrap();
        shelf.origin.put_with_mtime(at, tagged(n, &format!("Other {n:04}")), mtime);
    }
    // The health at the start and the reads of the first look; then the second look fails.
    let mut script = vec![FailMode::Healthy; 1 + reads as usize];
    script.push(FailMode::ReturnError(io::ErrorKind::ConnectionReset));
    shelf.asked.script(script);
    assert_eq!(counts(&verify(&shelf).await), (0, 2, 1));
    assert_eq!(counts(&verify(&shelf).await), (2, 1, 0), "what was found was recorded");
}

#[tokio::test]
async fn file_that_is_replaced_or_deleted_meanwhile_is_no_news_of_what_it_held() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    shelf.origin.put("a/0001.mp3", tagged(1, "Replaced"));
    shelf.origin.remove("a/0002.mp3");
    assert_eq!(counts(&verify(&shelf).await), (2, 0, 0));
    let replaced = shelf.file(shelf.id_at("a/0001.mp3"));
    assert_eq!(replaced.audio.unwrap().title.as_deref(), Some("Replaced"), "it is recorded as it is now");
    assert_eq!(shelf.file(shelf.id_at("a/0002.mp3")).state, FileState::Present, "that is for a pass to say");
    // In the place of a disk that is not mounted nothing is found, and nothing is known by that.
    let cancel = CancellationToken::new();
    let exchange = |_: &Verification| {
        shelf.origin.set_identity(Some("nothing"));
        for n in 0..4 {
            shelf.origin.remove(format!("a/{n:04}.mp3"));
        }
    };
    let done = shelf.scanner.verify(&id(), None, &cancel, &exchange).await.unwrap();
    assert!(done.unread >= 2, "{done:?}");
}

#[tokio::test]
async fn file_of_this_machine_that_is_rewritten_is_not_taken_for_one_that_changed_unseen() {
    let world = World::new();
    let add = |n: u32, track: Track| world.add(&format!("{n}.flac"), track);
    (1..3).for_each(|n| drop(add(n, song("A", "L", n, "Title"))));
    world.scan().await;
    add(1, song("A", "L", 1, "A longer title"));
    let cancel = CancellationToken::new();
    let done = world.scanner.verify(&"music".into(), None, &cancel, &|_| {}).await.unwrap();
    assert_eq!(counts(&done), (1, 0, 0));
    let row = world.db.file(world.id("1.flac")).unwrap().unwrap();
    assert_eq!(row.audio.unwrap().title.as_deref(), Some("A longer title"));
}
