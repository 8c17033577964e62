//! What the user does not want to see, when the catalogue and the library are not of one mind, as after a kill.

use std::time::Duration;

use musicfs_core::{FileState, MetaDb};
use musicfs_sync::TrashFilter;

use crate::shelf::{Shelf, id, path, tagged, track};

#[tokio::test]
async fn excluded_files_are_not_invented_again() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.library.exclude(&id(), &[path("a/0001.mp3")]).unwrap();
    shelf.scan().await;
    assert_eq!(shelf.music(), 3);
    assert!(shelf.db.file(shelf.id_at("a/0001.mp3")).unwrap().is_none());
    assert_eq!(shelf.library.include(&id(), &[path("a/0001.mp3")]).unwrap(), 1);
    assert_eq!(shelf.scan().await.added, 1);
    assert_eq!(shelf.music(), 4);
}

#[tokio::test]
async fn exclusion_that_was_cut_short_is_completed_by_a_pass_and_loses_nothing() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.origin.put("a/broken.mp3", "x");
    shelf.scan().await;
    let before = shelf.tree();
    let (one, broken) = (shelf.id_at("a/0001.mp3"), shelf.id_at("a/broken.mp3"));
    // Killed between the library and the catalogue.
    shelf.library.exclude(&id(), &[path("a/0001.mp3"), path("a/broken.mp3")]).unwrap();
    let report = shelf.scan().await;
    assert_eq!((report.missing, report.held_back), (0, None));
    assert_eq!(shelf.tree().len(), before.len() - 2);
    assert!([one, broken].iter().all(|id| shelf.file(*id).state == FileState::Excluded));
    let revision = shelf.db.revision().unwrap();
    shelf.scan().await;
    assert_eq!(shelf.db.revision().unwrap(), revision, "once");
    // And again.
    shelf.library.include(&id(), &[path("a/0001.mp3"), path("a/broken.mp3")]).unwrap();
    shelf.scan().await;
    assert_eq!(shelf.tree(), before);
    assert!([one, broken].iter().all(|id| shelf.file(*id).state == FileState::Present));
}

#[tokio::test]
async fn missing_file_that_is_excluded_and_included_is_as_missing_as_before() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let (cached, other) = (shelf.id_at("a/0001.mp3"), shelf.id_at("a/0002.mp3"));
    shelf.cache(cached);
    shelf.origin.remove("a/0001.mp3");
    shelf.origin.remove("a/0002.mp3");
    shelf.scan().await;
    let (before, since) = (shelf.tree(), shelf.db.missing_since(other).unwrap());
    assert!(since.is_some() && before.len() == 3);
    shelf.wait(Duration::from_secs(60));
    assert_eq!(shelf.scanner.exclude(&id(), vec![path("a")]).await.unwrap(), 3);
    assert!(shelf.tree().is_empty());
    shelf.scanner.restore_trash(TrashFilter::default()).await.unwrap();
    assert!(shelf.tree().is_empty(), "what is excluded is not restored into the tree");
    assert_eq!(shelf.scanner.exclude(&id(), vec![path("a/0001.mp3")]).await.unwrap(), 0);
    assert_eq!(
        shelf.scanner.include(&id(), vec![path("a/0001.mp3")]).await.unwrap(),
        0,
        "all of it still is"
    );
    assert_eq!(shelf.scanner.include(&id(), vec![path("a")]).await.unwrap(), 3);
    assert_eq!(shelf.tree(), before);
    assert_eq!(shelf.file(other).state, FileState::Missing);
    assert_eq!(shelf.db.missing_since(other).unwrap(), since);
    // One that is back meanwhile is hidden like any other, and shown with the others.
    let mtime = shelf.file(other).version.mtime.unwrap();
    shelf.scanner.exclude(&id(), vec![path("a")]).await.unwrap();
    shelf.origin.put_with_mtime("a/0002.mp3", track(2), mtime);
    shelf.scan().await;
    assert_eq!((shelf.file(other).state, shelf.tree().len()), (FileState::Excluded, 0));
    shelf.scanner.include(&id(), vec![path("a")]).await.unwrap();
    assert_eq!(shelf.tree().len(), 4);
}

#[tokio::test]
async fn excluded_file_is_found_by_its_id_after_it_moved() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let moved = shelf.id_at("a/0001.mp3");
    shelf.origin.rename("a/0001.mp3", "b/one.mp3");
    assert_eq!(shelf.scan().await.moved, 1);
    shelf.origin.put("a/0001.mp3", tagged(30, "Successor"));
    shelf.scan().await;
    let before = shelf.tree();
    for (at, is_moved) in [("b/one.mp3", true), ("a/0001.mp3", false)] {
        assert_eq!(shelf.scanner.exclude(&id(), vec![path(at)]).await.unwrap(), 1);
        assert_eq!(shelf.file(moved).state == FileState::Excluded, is_moved, "{at}");
        let excluded = shelf.scanner.excluded().await.unwrap();
        assert_eq!((excluded.len(), excluded[0].files), (1, 1));
        assert_eq!(shelf.scanner.include(&id(), vec![path(at)]).await.unwrap(), 1);
        assert_eq!(shelf.tree(), before);
    }
}
