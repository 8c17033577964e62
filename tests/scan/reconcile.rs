//! What a pass believes, what it keeps, and what it follows.

use std::time::Duration;

use musicfs_core::{
    Batch, FileKind, FileMeta, FileQuery, FileState, MetaDb, Op, OriginErrorKind, Refreshed, Refresher,
    UnixNanos,
};
use musicfs_sync::{Identity, PassOptions, TrashFilter, Trashed};
use musicfs_test_utils::library::{Sample, Track};
use musicfs_test_utils::{MemoryOrigin, make_file_meta};

use crate::shelf::{Shelf, id, path, tagged, track};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn unchanged_files_cost_neither_a_query_nor_a_read_nor_a_batch() {
    let mut costs = Vec::new();
    for files in [10, 200] {
        let shelf = Shelf::new().with_tracks(0..files);
        shelf.scan().await;
        let (stats, reads, revision) =
            (shelf.asked.stats(), shelf.asked.reads(), shelf.db.revision().unwrap());
        let report = shelf.scan().await;
        assert_eq!((report.unchanged, report.listed), (u64::from(files), u64::from(files)));
        assert_eq!(shelf.db.revision().unwrap(), revision, "nothing is written");
        costs.push((shelf.asked.stats() - stats, shelf.asked.reads() - reads));
    }
    assert_eq!(costs, [(0, 0), (0, 0)]);
}

#[tokio::test]
async fn vanished_files_are_missing_and_come_back_as_themselves() {
    let shelf = Shelf::new().with_tracks(0..10);
    shelf.scan().await;
    let before = shelf.tree();
    let bytes = track(3);
    let kept = shelf.file(shelf.id_at("a/0003.mp3"));
    shelf.origin.remove("a/0003.mp3");
    assert_eq!(shelf.scan().await.missing, 1);
    let row = shelf.file(kept.id);
    assert_eq!((row.state, &row.audio), (FileState::Missing, &kept.audio));
    assert_eq!(shelf.scan().await.missing, 0, "once");
    shelf.origin.put_with_mtime("a/0003.mp3", bytes, kept.version.mtime.unwrap());
    let report = shelf.scan().await;
    assert_eq!((report.returned, report.added, report.moved), (1, 0, 0));
    assert_eq!(shelf.tree(), before);
}

#[tokio::test]
async fn rows_that_wait_for_their_first_read_are_left_alone() {
    let shelf = Shelf::new().with_tracks(0..3);
    let broken = OriginErrorKind::Unavailable;
    shelf.scan().await;
    let listed = shelf.origin.clone();
    listed.put("a/late.mp3", track(77));
    // Listed, and then every read fails.
    shelf.asked.hang_on("never");
    let mut row = shelf.file(shelf.id_at("a/0001.mp3"));
    row.id = shelf.id_at("a/pending.mp3");
    row.path = path("a/pending.mp3");
    (row.state, row.kind, row.audio) = (FileState::Pending, FileKind::Unparsed, None);
    shelf.db.upsert_file(&row).unwrap();
    let report = shelf.scan().await;
    assert_eq!(report.missing, 0, "{broken}");
    assert_eq!(shelf.file(row.id).state, FileState::Pending);
}

#[tokio::test]
async fn files_that_are_not_ours_are_ignored_and_rows_of_another_origin_are_not_adopted() {
    let shelf = Shelf::new().with_tracks(0..3);
    shelf.origin.put("a/program.exe", "x");
    shelf.origin.put("a/._0001.mp3", "x");
    shelf.scan().await;
    let mut foreign = shelf.file(shelf.id_at("a/0001.mp3"));
    foreign.origin = "unknown".into();
    foreign.id = musicfs_core::FileId::derive(&foreign.origin, &foreign.path, 0);
    foreign.shown_at = None;
    shelf.db.upsert_file(&foreign).unwrap();
    let report = shelf.scan().await;
    assert_eq!((report.listed, report.missing), (3, 0));
    assert_eq!(shelf.file(foreign.id), foreign);
}

#[tokio::test]
async fn pass_writes_only_its_own_fields() {
    let shelf = Shelf::new().with_tracks(0..3);
    shelf.scan().await;
    let id_of = shelf.id_at("a/0001.mp3");
    shelf.cache(id_of);
    let manifest = shelf.db.manifest(id_of).unwrap();
    let numbers = shelf.library.name_numbers().unwrap();
    let seen = shelf.library.origins().unwrap();
    shelf.pass(&PassOptions { reread: true, ..PassOptions::default() }).await.unwrap();
    assert_eq!(shelf.db.manifest(id_of).unwrap(), manifest);
    assert_eq!(shelf.library.name_numbers().unwrap(), numbers);
    assert_eq!(shelf.library.origins().unwrap(), seen);
}

#[tokio::test]
async fn origin_that_fails_before_or_in_its_listing_takes_nothing_away() {
    let shelf = Shelf::new().with_tracks(0..30);
    shelf.scan().await;
    let before = shelf.tree();
    for kind in [OriginErrorKind::Unavailable, OriginErrorKind::Denied, OriginErrorKind::TimedOut] {
        shelf.origin.take_down(kind);
        assert!(shelf.pass(&PassOptions::default()).await.is_err());
        shelf.origin.bring_up();
    }
    for pages in 0..5 {
        shelf.origin.cut_listings(pages);
        assert!(!shelf.scan().await.complete);
        shelf.origin.fail_listings(pages, OriginErrorKind::Unavailable);
        assert!(shelf.pass(&PassOptions::default()).await.is_err());
    }
    shelf.origin.heal_listings();
    assert_eq!(shelf.tree(), before);
    assert_eq!(shelf.scan().await.unchanged, 30);
}

#[tokio::test]
async fn other_disk_in_the_place_changes_nothing_until_confirmed() {
    let shelf = Shelf::new().with_tracks(0..10);
    shelf.scan().await;
    let before = shelf.tree();
    shelf.origin.set_identity(Some("another"));
    let files: Vec<String> = (0..10).map(|n| format!("a/{n:04}.mp3")).collect();
    files.iter().for_each(|file| assert!(shelf.origin.remove(file)));
    shelf.origin.put("other/1.mp3", track(50));
    let report = shelf.scan().await;
    assert!(report.needs_confirmation && !report.complete, "{report:?}");
    assert_eq!(shelf.tree(), before);
    assert!(shelf.scan_paths(&["other"]).await.needs_confirmation);
    assert_eq!(shelf.tree(), before);
    let report = shelf.confirm().await;
    assert_eq!((report.missing, report.added), (10, 1));
    assert!(!shelf.scan().await.needs_confirmation, "it is the origin's storage now");
}

#[tokio::test]
async fn library_copied_to_a_new_disk_is_recognised_by_its_files() {
    let shelf = Shelf::new().with_tracks(0..10);
    shelf.scan().await;
    shelf.origin.set_identity(Some("new disk"));
    shelf.origin.put("a/new.mp3", track(20));
    let report = shelf.scan().await;
    assert_eq!((report.unchanged, report.added, report.needs_confirmation), (10, 1, false));
    shelf.origin.remove("a/new.mp3");
    assert_eq!(shelf.scan().await.missing, 1);
}

#[tokio::test]
async fn brake_stops_a_pass_that_would_lose_much_until_confirmed_or_all_is_back() {
    let shelf = Shelf::new().with_tracks(0..100);
    shelf.scan().await;
    let before = shelf.tree();
    let lost: Vec<u32> = (0..60).collect();
    let versions: Vec<_> = lost
        .iter()
        .map(|n| {
            let at = format!("a/{n:04}.mp3");
            let version = shelf.file(shelf.id_at(&at)).version;
            shelf.origin.remove(&at);
            (at, track(*n), version.mtime.unwrap())
        })
        .collect();
    for _ in 0..2 {
        let report = shelf.scan().await;
        assert!(report.needs_confirmation && report.held_back.is_some() && report.missing == 0, "{report:?}");
        assert_eq!(shelf.tree(), before);
    }
    versions.iter().for_each(|(at, bytes, time)| drop(shelf.origin.put_with_mtime(at, bytes.clone(), *time)));
    let report = shelf.scan().await;
    assert_eq!((report.needs_confirmation, report.unchanged), (false, 100));
    versions.iter().for_each(|(at, ..)| assert!(shelf.origin.remove(at)));
    shelf.scan().await;
    assert_eq!(shelf.confirm().await.missing, 60);
    assert_eq!(shelf.music(), 40);
}

#[tokio::test]
async fn removed_folder_is_braked_in_a_partial_pass_too() {
    let shelf = Shelf::new().with_tracks(0..60);
    shelf.origin.put("b/1.mp3", track(70));
    shelf.scan().await;
    (0..60).for_each(|n| assert!(shelf.origin.remove(format!("a/{n:04}.mp3"))));
    assert!(shelf.scan_paths(&["a"]).await.needs_confirmation);
    assert_eq!(shelf.music(), 61);
    shelf.origin.remove("b/1.mp3");
    let report = shelf.scan_paths(&["b/1.mp3"]).await;
    assert_eq!((report.missing, report.needs_confirmation), (1, false));
}

#[tokio::test]
async fn file_that_goes_in_one_part_and_comes_in_another_has_moved() {
    let shelf = Shelf::new().with_tracks(0..3);
    shelf.scan().await;
    let (id, before) = (shelf.id_at("a/0001.mp3"), shelf.tree());
    shelf.origin.rename("a/0001.mp3", "b/1.mp3");
    assert_eq!(shelf.scan_paths(&["a"]).await.missing, 1);
    // Nothing is known of this part yet.
    let report = shelf.scan_paths(&["b"]).await;
    assert_eq!((report.moved, report.added), (1, 0));
    assert_eq!((shelf.file(id).path.to_string(), shelf.tree()), ("b/1.mp3".to_owned(), before));
}

#[tokio::test]
async fn file_that_moves_is_itself_and_not_a_copy_that_went_before() {
    let shelf = Shelf::new().with_tracks(0..3);
    shelf.scan().await;
    let id = shelf.id_at("a/0001.mp3");
    let time = shelf.file(id).version.mtime.unwrap();
    shelf.origin.put_with_mtime("a/0000 copy.mp3", track(1), time);
    shelf.scan().await;
    shelf.origin.remove("a/0000 copy.mp3");
    assert_eq!(shelf.scan().await.missing, 1);
    shelf.origin.rename("a/0001.mp3", "a/9.mp3");
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.missing), (1, 0));
    assert_eq!(shelf.file(id).path.to_string(), "a/9.mp3");
}

#[tokio::test]
async fn cached_file_stays_listed_for_its_time_of_grace() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let (cached, other) = (shelf.id_at("a/0001.mp3"), shelf.id_at("a/0002.mp3"));
    shelf.cache(cached);
    shelf.origin.remove("a/0001.mp3");
    shelf.origin.remove("a/0002.mp3");
    shelf.scan().await;
    let shown = |id| shelf.file(id).shown_at.is_some();
    assert_eq!((shown(cached), shown(other)), (true, false));
    shelf.wait(7 * DAY - Duration::from_secs(1));
    shelf.scan().await;
    assert!(shown(cached));
    shelf.wait(Duration::from_secs(1));
    shelf.scan().await;
    assert!(!shown(cached));
    // Restored, it is shown for as long again, and counts as gone from then on.
    let ids = |found: Vec<Trashed>| found.iter().map(|t| t.file.id).collect::<Vec<_>>();
    let restored = shelf.scanner.restore_trash(TrashFilter::default()).await.unwrap();
    assert_eq!(ids(restored), [cached]);
    let old = TrashFilter { older_than: Some(DAY), ..TrashFilter::default() };
    assert_eq!(ids(shelf.scanner.trash(old).await.unwrap()), [other]);
    shelf.wait(6 * DAY);
    shelf.scan().await;
    assert!(shown(cached));
    shelf.wait(DAY);
    shelf.scan().await;
    assert!(!shown(cached));
}

#[tokio::test]
async fn trash_is_listed_and_purged_by_age_origin_and_path() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.origin.put("b/9.mp3", track(9));
    shelf.scan().await;
    shelf.origin.remove("a/0001.mp3");
    shelf.scan().await;
    shelf.wait(DAY);
    shelf.origin.remove("b/9.mp3");
    shelf.scan().await;
    let list = async |filter| {
        let mut found: Vec<_> =
            shelf.scanner.trash(filter).await.unwrap().into_iter().map(|t| t.file.path.to_string()).collect();
        found.sort();
        found
    };
    let all = TrashFilter::default();
    assert_eq!(list(all.clone()).await, ["a/0001.mp3", "b/9.mp3"]);
    assert_eq!(list(TrashFilter { older_than: Some(DAY), ..all.clone() }).await, ["a/0001.mp3"]);
    assert_eq!(list(TrashFilter { newer_than: Some(DAY), ..all.clone() }).await, ["b/9.mp3"]);
    assert_eq!(list(TrashFilter { under: Some(path("b")), ..all.clone() }).await, ["b/9.mp3"]);
    let other = TrashFilter { origin: Some("other".into()), ..all.clone() };
    assert!(
        list(other.clone()).await.is_empty() && shelf.scanner.purge_trash(other).await.unwrap().is_empty()
    );
    let older = TrashFilter { older_than: Some(DAY), ..all.clone() };
    assert_eq!(shelf.scanner.purge_trash(older).await.unwrap().len(), 1);
    assert_eq!(list(all).await, ["b/9.mp3"]);
    assert_eq!(shelf.db.file(shelf.id_at("a/0001.mp3")).unwrap(), None);
    assert_eq!(shelf.scan().await.unchanged, 3, "what is there is not touched");
}

#[tokio::test]
async fn moved_file_keeps_id_inode_and_chunks_within_a_pass_and_across_two() {
    let mut shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let moved = shelf.id_at("a/0001.mp3");
    shelf.cache(moved);
    let (before, manifest) = (shelf.tree(), shelf.db.manifest(moved).unwrap());
    shelf.origin.rename("a/0001.mp3", "b/one.mp3");
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (1, 0, 0), "{report:?}");
    assert_eq!(shelf.file(moved).path, path("b/one.mp3"));
    assert_eq!((shelf.tree(), shelf.db.manifest(moved).unwrap()), (before.clone(), manifest));
    assert_eq!(shelf.scan().await.unchanged, 4);
    // Away in one pass, back elsewhere in a later one, with another time and other tags.
    shelf.origin.remove("b/one.mp3");
    assert_eq!(shelf.scan().await.missing, 1);
    shelf.restart();
    shelf.origin.put("c/renamed.mp3", tagged(1, "Better Title"));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added), (1, 0), "{report:?}");
    let file = shelf.file(moved);
    assert_eq!((file.state, file.path), (FileState::Present, path("c/renamed.mp3")));
    assert_eq!(file.audio.unwrap().title.as_deref(), Some("Better Title"));
    // The id survives a rebuilt catalogue.
    let before = shelf.tree();
    shelf.rebuild();
    shelf.scan().await;
    assert_eq!(shelf.tree(), before);
    assert!(shelf.library.name_numbers().unwrap().is_empty(), "nothing is left of the names in between");
}

#[tokio::test]
async fn successor_at_the_old_path_of_a_moved_file_is_another_file() {
    let mut shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let moved = shelf.id_at("a/0001.mp3");
    shelf.origin.rename("a/0001.mp3", "b/1.mp3");
    shelf.scan().await;
    shelf.origin.put("a/0001.mp3", track(30));
    let report = shelf.scan().await;
    assert_eq!((report.added, report.changed), (1, 0), "{report:?}");
    let page = shelf.db.files(&FileQuery::Folder(id(), path("a")), None, 10).unwrap();
    let new = page.files.iter().find(|f| f.path == path("a/0001.mp3")).unwrap();
    assert_ne!(new.id, moved);
    assert_eq!(shelf.file(moved).path, path("b/1.mp3"));
    let before = shelf.tree();
    assert_eq!(shelf.scan().await.unchanged, 5);
    shelf.rebuild();
    shelf.scan().await;
    assert_eq!(shelf.tree(), before);
}

#[tokio::test]
async fn moved_folder_takes_its_sidecars_along() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.origin.put("a/cover.jpg", "cover");
    shelf.origin.put("a/Scans/back.jpg", "back");
    shelf.scan().await;
    let before = shelf.tree();
    for at in ["0000.mp3", "0001.mp3", "0002.mp3", "0003.mp3", "cover.jpg", "Scans/back.jpg"] {
        shelf.origin.rename(format!("a/{at}"), format!("z/new/{at}"));
    }
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (6, 0, 0), "{report:?}");
    assert_eq!(shelf.tree(), before);
}

#[tokio::test]
async fn better_copy_takes_the_place_of_a_worse_one_with_its_history() {
    let shelf = Shelf::new();
    let song = |sample| Track::new(sample).artist("A").album("L").track(1, 0).title("T").to_bytes().unwrap();
    shelf.origin.put("a/1.mp3", song(Sample::Mp3Cbr));
    shelf.origin.put("a/2.mp3", track(2));
    shelf.scan().await;
    let old = shelf.id_at("a/1.mp3");
    shelf.origin.remove("a/1.mp3");
    shelf.origin.put("flac/1.flac", song(Sample::Flac));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.missing, report.added), (1, 0, 0), "{report:?}");
    let file = shelf.file(old);
    assert_eq!(file.path, path("flac/1.flac"));
    assert_eq!(file.shown_at.unwrap().to_string(), "A/L/01 - T.flac");
}

#[tokio::test]
async fn partial_pass_adds_changes_moves_and_loses_what_is_below_its_paths() {
    let shelf = Shelf::new().with_tracks(0..10);
    shelf.scan().await;
    let (stats, reads) = (shelf.asked.scans(), shelf.asked.reads());
    shelf.origin.put("n/new.mp3", track(20));
    shelf.origin.put("n/cover.jpg", "x");
    shelf.origin.put("a/0003.mp3", tagged(3, "Changed"));
    shelf.origin.rename("a/0004.mp3", "n/moved.mp3");
    shelf.origin.remove("a/0005.mp3");
    let report = shelf.scan_paths(&["n", "a/0003.mp3", "a/0004.mp3", "a/0005.mp3"]).await;
    assert_eq!((report.added, report.changed, report.moved, report.missing), (2, 1, 1, 1), "{report:?}");
    assert!(shelf.asked.scans() - stats <= 1 && shelf.asked.reads() - reads <= 12);
    let whole = shelf.tree();
    let report = shelf.scan().await;
    assert_eq!((report.added, report.changed, report.moved, report.missing), (0, 0, 0, 0));
    assert_eq!(shelf.tree(), whole, "a whole pass has nothing to add");
    assert!(whole.contains_key("/Artist/Album 0/cover.jpg"), "{whole:?}");
}

#[tokio::test]
async fn cover_that_comes_by_itself_joins_its_album_in_a_partial_pass() {
    let shelf = Shelf::new();
    shelf.origin.put("Album/CD1/1.mp3", track(1));
    shelf.origin.put("Album/CD2/2.mp3", track(2));
    shelf.scan().await;
    shelf.origin.put("Album/cover.jpg", "x");
    shelf.origin.put("Album/CD1/Scans/back.jpg", "x");
    shelf.scan_paths(&["Album/cover.jpg", "Album/CD1/Scans"]).await;
    let tree = shelf.tree();
    assert!(tree.contains_key("/Artist/Album 0/cover.jpg"), "{tree:?}");
    assert!(tree.contains_key("/Artist/Album 0/Scans/back.jpg"), "{tree:?}");
    // An album that is tagged anew takes what lies above and below along.
    for n in [1, 2] {
        let mp3 = Track::new(Sample::Mp3Cbr).artist("Artist").album("Other").title("x").track(n, 0);
        shelf.origin.put(format!("Album/CD{n}/{n}.mp3"), mp3.to_bytes().unwrap());
    }
    shelf.scan_paths(&["Album/CD1/1.mp3", "Album/CD2/2.mp3"]).await;
    let tree = shelf.tree();
    assert!(tree.contains_key("/Artist/Other/cover.jpg"), "{tree:?}");
    assert!(tree.contains_key("/Artist/Other/Scans/back.jpg"), "{tree:?}");
}

#[tokio::test]
async fn part_of_a_large_origin_asks_for_a_whole_pass_only_where_that_is_needed_and_makes_none() {
    let shelf = Shelf::new();
    let album = |title: &str| Track::new(Sample::Mp3Cbr).artist("Artist").album(title).title("x").track(1, 0);
    shelf.origin.put("Album/1.mp3", album("Old").to_bytes().unwrap());
    shelf.origin.put("Album/Scans/back.jpg", "x");
    shelf.scan().await;
    // More than is looked at around a change.
    let gone = |n: usize| {
        let at = format!("gone/{n}.mp3");
        let row =
            FileMeta { id: shelf.id_at(&at), origin: id(), path: path(&at), ..make_file_meta(1, "x", 1) };
        Op::PutFile(Box::new(FileMeta { state: FileState::Missing, shown_at: None, ..row }))
    };
    shelf.db.apply(&Batch { at: UnixNanos(1), ops: (0..20_001).map(gone).collect() }).unwrap();
    shelf.origin.put("Album/1.mp3", album("New").to_bytes().unwrap());
    assert!(!shelf.scan_paths(&["Album"]).await.unsettled, "all that goes by the album is below it");
    assert!(shelf.tree().contains_key("/Artist/New/Scans/back.jpg"), "{:?}", shelf.tree());
    // What lies above all goes by all.
    shelf.origin.put("cover.jpg", "x");
    shelf.scan().await;
    assert!(shelf.tree().contains_key("/Artist/New/cover.jpg"), "{:?}", shelf.tree());
    shelf.origin.put("Album/1.mp3", album("Newest").to_bytes().unwrap());
    let listings = shelf.asked.scans();
    assert!(shelf.scan_paths(&["Album"]).await.unsettled);
    assert_eq!(shelf.asked.scans() - listings, 1, "of the part");
    shelf.scan().await;
    assert!(shelf.tree().contains_key("/Artist/Newest/cover.jpg"), "{:?}", shelf.tree());
}

#[tokio::test]
async fn clock_that_was_set_has_files_of_the_time_between_read_again() {
    let shelf = Shelf::new().with_tracks(0..3);
    let now = UnixNanos(musicfs_core::Clock::unix(&shelf.clock).0);
    shelf.origin.put_with_mtime("a/hidden.mp3", tagged(5, "Old"), now);
    shelf.scan().await;
    // The same size and time, and other content.
    shelf.origin.put_with_mtime("a/hidden.mp3", tagged(5, "New"), now);
    shelf.wait(Duration::from_secs(60));
    assert_eq!(shelf.scan().await.changed, 0, "nothing gives it away");
    shelf.clock.jump_unix(UnixNanos(now.0 - 10_000_000_000));
    let report = shelf.scan().await;
    assert_eq!((report.changed, report.unchanged), (1, 3), "{report:?}");
    assert_eq!(shelf.file(shelf.id_at("a/hidden.mp3")).audio.unwrap().title.as_deref(), Some("New"));
}

#[tokio::test]
async fn clock_that_was_set_is_not_forgotten_by_a_pass_that_fails() {
    let shelf = Shelf::new().with_tracks(0..30);
    let now = UnixNanos(musicfs_core::Clock::unix(&shelf.clock).0);
    let last = "z/hidden.mp3";
    shelf.origin.put_with_mtime(last, tagged(35, "Old"), now);
    shelf.scan().await;
    shelf.origin.put_with_mtime(last, tagged(35, "New"), now);
    shelf.wait(Duration::from_secs(60));
    shelf.clock.jump_unix(UnixNanos(now.0 - 10_000_000_000));
    shelf.origin.fail_listings(2, OriginErrorKind::Unavailable);
    assert!(shelf.pass(&PassOptions::default()).await.is_err());
    shelf.origin.heal_listings();
    assert_eq!(shelf.scan_paths(&["a"]).await.changed, 0);
    assert_eq!(shelf.scan().await.changed, 1, "what the pass that failed did not come to");
    assert_eq!(shelf.file(shelf.id_at(last)).audio.unwrap().title.as_deref(), Some("New"));
    assert_eq!(shelf.scan().await.changed, 0, "once");
}

#[tokio::test]
async fn interrupted_pass_goes_on_without_reading_twice_and_deletes_nothing() {
    let mut shelf = Shelf::over(MemoryOrigin::new("memory").with_page_size(5)).with_tracks(0..40);
    shelf.scan().await;
    let before = shelf.tree();
    // A pass that reads everything again and fails half way.
    shelf.origin.fail_listings(4, OriginErrorKind::Unavailable);
    let all = PassOptions { reread: true, ..PassOptions::default() };
    let reads = shelf.asked.reads();
    assert!(shelf.pass(&all).await.is_err());
    let first = shelf.asked.reads() - reads;
    assert!(first > 0);
    shelf.restart();
    shelf.origin.heal_listings();
    let reads = shelf.asked.reads();
    let report = shelf.pass(&all).await.unwrap();
    assert!(report.resumed && report.complete && report.missing == 0, "{report:?}");
    let second = shelf.asked.reads() - reads;
    let reads = shelf.asked.reads();
    shelf.pass(&all).await.unwrap();
    assert_eq!(first + second, shelf.asked.reads() - reads, "no file was read twice");
    assert_eq!(shelf.tree(), before);
    assert!(!shelf.scan().await.resumed);
}

#[tokio::test]
async fn identity_that_is_recorded_holds_for_a_file_that_was_never_seen() {
    let shelf = Shelf::new();
    let other = shelf.id_at("somewhere/else.mp3");
    shelf.library.add_identity(&Identity { origin: id(), path: path("a/1.mp3"), id: other }).unwrap();
    shelf.origin.put("a/1.mp3", track(1));
    shelf.scan().await;
    assert_eq!(shelf.file(other).path, path("a/1.mp3"));
    assert_eq!(shelf.scanner.refresh(other).await, Refreshed::Unchanged);
}
