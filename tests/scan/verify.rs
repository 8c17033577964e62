//! Comparing what is known of files with what they hold.

use std::io;

use musicfs_core::{Change, FileState, MetaDb, UnixNanos};
use musicfs_sync::Verification;
use musicfs_test_utils::FailMode;
use musicfs_test_utils::library::Track;
use tokio_util::sync::CancellationToken;

use crate::shelf::{Shelf, id, path, tagged, track};
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

/// Four tracks `a/<n>.mp3` of one size and time, all cached.
async fn alike() -> Shelf {
    let shelf = Shelf::new();
    for n in 0..4 {
        shelf.origin.put_with_mtime(format!("a/{n}.mp3"), track(n), UnixNanos(7));
    }
    shelf.scan().await;
    shelf.paths().values().for_each(|id| shelf.cache(*id));
    shelf
}

/// Exchanges the first two, which no scan notices.
async fn exchange(shelf: &Shelf) {
    for (from, to) in [("a/0.mp3", "between"), ("a/1.mp3", "a/0.mp3"), ("between", "a/1.mp3")] {
        shelf.origin.rename(from, to);
    }
    let report = shelf.scan().await;
    assert_eq!((report.changed, report.moved), (0, 0), "{report:?}");
}

#[tokio::test]
async fn files_of_one_size_and_time_that_exchanged_names_go_on_under_those_that_they_have() {
    let shelf = alike().await;
    let (before, tree) = (shelf.paths(), shelf.tree());
    exchange(&shelf).await;
    assert_eq!(counts(&verify(&shelf).await), (2, 2, 0));
    let mut after = before.clone();
    after.insert("a/0.mp3".into(), before["a/1.mp3"]);
    after.insert("a/1.mp3".into(), before["a/0.mp3"]);
    assert_eq!((shelf.paths(), shelf.tree()), (after, tree));
    for id in before.values() {
        assert!(shelf.db.manifest(*id).unwrap().is_some(), "what is cached of it is still right");
    }
    assert_eq!(counts(&verify(&shelf).await), (4, 0, 0));
}

#[tokio::test]
async fn exclusion_goes_with_its_file_when_that_exchanges_names_unseen() {
    let shelf = alike().await;
    let before = shelf.paths();
    shelf.scanner.exclude(&id(), vec![path("a/0.mp3")]).await.unwrap();
    let tree = shelf.tree();
    exchange(&shelf).await;
    assert_eq!(counts(&verify(&shelf).await), (2, 1, 0), "what is excluded is not compared");
    let excluded = shelf.library.exclusions().unwrap().all();
    assert_eq!(excluded, [(id(), path("a/1.mp3"))]);
    assert_eq!((shelf.tree(), shelf.paths().get("a/0.mp3")), (tree, before.get("a/1.mp3")));
    let hidden = shelf.file(before["a/0.mp3"]);
    assert_eq!((hidden.path, hidden.state), (path("a/1.mp3"), FileState::Excluded));
    assert_eq!(shelf.scan().await.unchanged, 3);
}

#[tokio::test]
async fn file_that_became_a_copy_of_another_unseen_stays_where_it_is_as_that_copy() {
    let shelf = alike().await;
    let before = shelf.paths();
    let since = shelf.db.revision().unwrap();
    shelf.origin.put_with_mtime("a/0.mp3", track(1), UnixNanos(7));
    assert_eq!(counts(&verify(&shelf).await), (3, 1, 0));
    assert_eq!(shelf.paths(), before);
    let [first, second] = ["a/0.mp3", "a/1.mp3"].map(|at| shelf.file(before[at]));
    assert_eq!(first.audio, second.audio);
    let changes = shelf.db.changes_since(since, usize::MAX).unwrap().changes;
    let is_told = |id| changes.contains(&Change::FileChanged { id, content: true });
    assert!(is_told(first.id) && !is_told(second.id), "what is cached of it is of no use: {changes:?}");
    assert_eq!(counts(&verify(&shelf).await), (4, 0, 0));
}

#[tokio::test]
async fn copy_whose_tags_were_changed_unseen_is_recorded_as_it_is() {
    let shelf = alike().await;
    shelf.origin.put_with_mtime("b/copy.mp3", track(0), UnixNanos(7));
    shelf.scan().await;
    let paths = shelf.paths();
    shelf.origin.put_with_mtime("b/copy.mp3", tagged(0, "Other 0000"), UnixNanos(7));
    assert_eq!(counts(&verify(&shelf).await), (4, 1, 0));
    assert_eq!(shelf.paths(), paths);
    let title = shelf.file(paths["b/copy.mp3"]).audio.unwrap().title;
    assert_eq!(title.as_deref(), Some("Other 0000"));
}
