//! What the user does not want to see stays unseen wherever it goes on its origin.

use musicfs_core::{FileId, FileState};

use crate::shelf::{Shelf, id, path, tagged, track};

/// Tracks `a/0000.mp3` to `a/0003.mp3`, of which some paths are excluded.
async fn shelf(excluded: &[&str]) -> Shelf {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    shelf.scanner.exclude(&id(), excluded.iter().map(|at| path(at)).collect()).await.unwrap();
    shelf
}

fn excluded(shelf: &Shelf) -> Vec<String> {
    shelf.library.exclusions().unwrap().all().into_iter().map(|(_, path)| path.to_string()).collect()
}

/// Checks that a file is at a path of its origin, and not shown.
fn assert_hidden(shelf: &Shelf, file: FileId, at: &str) {
    let file = shelf.file(file);
    assert_eq!((file.path, file.state, file.shown_at), (path(at), FileState::Excluded, None));
}

#[tokio::test]
async fn excluded_file_that_is_renamed_stays_excluded_and_is_included_at_its_new_path() {
    let mut shelf = shelf(&["a/0001.mp3"]).await;
    let file = shelf.id_at("a/0001.mp3");
    shelf.origin.rename("a/0001.mp3", "a/renamed.mp3");
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (1, 0, 0), "{report:?}");
    assert_hidden(&shelf, file, "a/renamed.mp3");
    assert_eq!((excluded(&shelf), shelf.music()), (vec!["a/renamed.mp3".to_owned()], 3));
    // Away in one pass, and elsewhere in the next, with other tags.
    shelf.origin.remove("a/renamed.mp3");
    assert_eq!(shelf.scan().await.missing, 0);
    shelf.restart();
    shelf.origin.put("b/again.mp3", tagged(1, "Better"));
    assert_eq!(shelf.scan().await.added, 0);
    assert_hidden(&shelf, file, "b/again.mp3");
    // Seen by parts of the origin, first the one where it is not any more.
    shelf.origin.rename("b/again.mp3", "c/1.mp3");
    shelf.scan_paths(&["b"]).await;
    shelf.scan_paths(&["c"]).await;
    assert_hidden(&shelf, file, "c/1.mp3");
    shelf.origin.rename("c/1.mp3", "d/1.mp3");
    shelf.scan_paths(&["d"]).await;
    assert_hidden(&shelf, file, "d/1.mp3");
    // What comes to where it was is another file.
    shelf.origin.put("a/0001.mp3", track(30));
    assert_eq!(shelf.scan().await.added, 1);
    assert_eq!(shelf.music(), 4);
    assert_eq!(shelf.scanner.include(&id(), vec![path("d/1.mp3")]).await.unwrap(), 1);
    assert_eq!(shelf.scan().await.unchanged, 5);
    assert_eq!((shelf.music(), shelf.file(file).state), (5, FileState::Present));
    assert!(excluded(&shelf).is_empty());
}

#[tokio::test]
async fn excluded_file_in_a_renumbered_album_stays_excluded_and_the_others_are_shown() {
    let shelf = shelf(&["a/0001.mp3"]).await;
    let before = shelf.tree();
    let ids: Vec<FileId> = (0..4).map(|n| shelf.id_at(&format!("a/{n:04}.mp3"))).collect();
    (0..4).rev().for_each(|n| shelf.origin.rename(format!("a/{n:04}.mp3"), format!("a/{:04}.mp3", n + 1)));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing, report.changed), (4, 0, 0, 0), "{report:?}");
    assert_hidden(&shelf, ids[1], "a/0002.mp3");
    assert_eq!((excluded(&shelf), shelf.tree()), (vec!["a/0002.mp3".to_owned()], before.clone()));
    // Its name is taken, and it is nowhere.
    shelf.origin.remove("a/0002.mp3");
    shelf.origin.rename("a/0003.mp3", "a/0002.mp3");
    assert_eq!(shelf.scan().await.moved, 1);
    assert_eq!((excluded(&shelf), shelf.tree()), (vec![], before.clone()));
    shelf.origin.put("z/back.mp3", track(1));
    assert_eq!(shelf.scan().await.added, 0);
    assert_hidden(&shelf, ids[1], "z/back.mp3");
    assert_eq!((excluded(&shelf), shelf.tree()), (vec!["z/back.mp3".to_owned()], before));
}

#[tokio::test]
async fn excluded_file_that_is_replaced_where_it_is_stays_excluded_and_costs_one_look() {
    let shelf = shelf(&["a/0001.mp3"]).await;
    shelf.origin.put("a/0001.mp3", track(30));
    let report = shelf.scan().await;
    assert_eq!((report.changed, report.added, report.listed), (0, 0, 3), "{report:?}");
    assert_hidden(&shelf, shelf.id_at("a/0001.mp3"), "a/0001.mp3");
    let reads = shelf.asked.reads();
    shelf.scan().await;
    assert_eq!(shelf.asked.reads(), reads);
}

#[tokio::test]
async fn excluded_folder_that_is_renamed_stays_excluded_with_what_comes_later() {
    let shelf = shelf(&["a"]).await;
    shelf.origin.put("other/1.mp3", track(20));
    shelf.scan().await;
    (0..4).for_each(|n| shelf.origin.rename(format!("a/{n:04}.mp3"), format!("above/A/{n:04}.mp3")));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added), (4, 0), "{report:?}");
    assert_eq!((excluded(&shelf), shelf.music()), (vec!["above/A".to_owned()], 1));
    shelf.origin.put("above/A/later.mp3", track(21));
    shelf.scan().await;
    assert_eq!(shelf.music(), 1);
    // By a folder above it, in two passes.
    for n in ["0000", "0001", "0002", "0003", "later"] {
        shelf.origin.rename(format!("above/A/{n}.mp3"), format!("beside/A/{n}.mp3"));
    }
    shelf.scan_paths(&["above"]).await;
    shelf.scan_paths(&["beside"]).await;
    assert_eq!(shelf.music(), 1, "{:?}", excluded(&shelf));
    shelf.scan().await;
    assert_eq!(shelf.music(), 1, "{:?}", excluded(&shelf));
}

#[tokio::test]
async fn file_that_is_taken_out_of_an_excluded_folder_is_shown_as_itself_and_hides_nothing() {
    let shelf = shelf(&["a"]).await;
    shelf.origin.put("b/1.mp3", track(20));
    shelf.scan().await;
    shelf.origin.rename("a/0001.mp3", "b/0001.mp3");
    assert_eq!(shelf.scan().await.moved, 1);
    let out = shelf.file(shelf.id_at("a/0001.mp3"));
    assert_eq!((out.state, out.path), (FileState::Present, path("b/0001.mp3")));
    assert_eq!((excluded(&shelf), shelf.music()), (vec!["a".to_owned()], 2));
    // When all of it goes to where others are, those are not hidden.
    [0, 2, 3].iter().for_each(|n| shelf.origin.rename(format!("a/{n:04}.mp3"), format!("b/{n:04}.mp3")));
    shelf.scan().await;
    assert_eq!(shelf.music(), 2);
    shelf.origin.put("b/2.mp3", track(21));
    shelf.scan().await;
    assert_eq!(shelf.music(), 3, "{:?}", excluded(&shelf));
}

#[tokio::test]
async fn copy_of_an_excluded_file_that_is_still_there_is_shown() {
    let shelf = shelf(&["a/0001.mp3"]).await;
    shelf.origin.put("b/copy.mp3", track(1));
    shelf.scan_paths(&["b"]).await;
    assert_eq!(shelf.music(), 4);
    shelf.origin.rename("b/copy.mp3", "b/renamed.mp3");
    shelf.scan().await;
    assert_eq!((shelf.music(), excluded(&shelf)), (4, vec!["a/0001.mp3".to_owned()]));
}

#[tokio::test]
async fn excluded_file_that_is_renamed_is_not_shown_by_a_listing_that_is_cut() {
    let shelf = shelf(&["a/0003.mp3"]).await;
    shelf.origin.put("z/1.mp3", track(20));
    shelf.scan().await;
    let before = shelf.tree();
    shelf.origin.rename("a/0003.mp3", "a/0000 first.mp3");
    shelf.origin.cut_listings(1);
    assert!(!shelf.scan().await.complete);
    assert_eq!(shelf.tree(), before);
    shelf.origin.heal_listings();
    shelf.scan().await;
    assert_eq!(shelf.tree(), before);
    assert_hidden(&shelf, shelf.id_at("a/0003.mp3"), "a/0000 first.mp3");
}
