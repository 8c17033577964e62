//! Files that are renamed to names that others have: each stays itself.

use std::collections::BTreeMap;

use musicfs_core::{FileId, FileState, Ino, MetaDb, Refreshed, Refresher};

use crate::shelf::{Shelf, path, tagged, track};

/// Renames files at once: all go before any comes.
fn rename(shelf: &Shelf, names: &[(&str, &str)]) {
    names.iter().for_each(|(from, _)| shelf.origin.rename(from, format!("going/{from}")));
    names.iter().for_each(|(from, to)| shelf.origin.rename(format!("going/{from}"), to));
}

/// The files of a shelf by their paths on the origin, whose ids and cached chunks are to go with them.
struct Before {
    ids: BTreeMap<String, FileId>,
    tree: BTreeMap<String, Ino>,
}

impl Before {
    async fn of(shelf: &Shelf) -> Self {
        shelf.scan().await;
        let ids: BTreeMap<_, _> = shelf.paths();
        ids.values().for_each(|id| shelf.cache(*id));
        Self { ids, tree: shelf.tree() }
    }

    /// The ids by path after renaming.
    fn moved(&self, names: &[(&str, &str)]) -> BTreeMap<String, FileId> {
        let mut moved = self.ids.clone();
        moved.retain(|at, _| !names.iter().any(|(from, _)| from == at));
        moved.extend(names.iter().map(|(from, to)| ((*to).to_owned(), self.ids[*from])));
        moved
    }

    /// Checks that all is where it was in the tree, and that these files, and no others, are elsewhere on the origin.
    fn assert_followed(&self, shelf: &Shelf, names: &[(&str, &str)]) {
        let expected = self.moved(names);
        assert_eq!(shelf.paths(), expected);
        assert_eq!(shelf.tree(), self.tree);
        for id in expected.values() {
            let (version, manifest) = shelf.db.manifest(*id).unwrap().unwrap();
            assert!(version.is_same(&shelf.file(*id).version) && manifest.covered() == version.size);
        }
        assert!(shelf.library.name_numbers().unwrap().is_empty(), "nothing is left of names in between");
    }
}

const RENUMBERED: [(&str, &str); 4] = [
    ("a/0000.mp3", "a/0001.mp3"),
    ("a/0001.mp3", "a/0002.mp3"),
    ("a/0002.mp3", "a/0003.mp3"),
    ("a/0003.mp3", "a/0004.mp3"),
];
const TURNED: [(&str, &str); 3] =
    [("a/0000.mp3", "a/0002.mp3"), ("a/0001.mp3", "a/0000.mp3"), ("a/0002.mp3", "a/0001.mp3")];

#[tokio::test]
async fn renumbered_album_and_exchanged_names_are_followed() {
    for names in [&RENUMBERED[..], &TURNED, &[("a/0001.mp3", "a/0003.mp3"), ("a/0003.mp3", "a/0001.mp3")]] {
        let mut shelf = Shelf::new().with_tracks(0..4);
        let before = Before::of(&shelf).await;
        rename(&shelf, names);
        let report = shelf.scan().await;
        let counts = (report.moved, report.added, report.changed, report.missing);
        assert_eq!(counts, (names.len() as u64, 0, 0, 0), "{report:?}");
        before.assert_followed(&shelf, names);
        let report = shelf.scan().await;
        assert_eq!((report.unchanged, report.listed), (4, 4), "{report:?}");
        shelf.rebuild();
        shelf.scan().await;
        assert_eq!((shelf.paths(), shelf.tree()), (before.moved(names), before.tree));
    }
}

#[tokio::test]
async fn exchanged_folders_take_their_files_and_covers_along() {
    let shelf = Shelf::new();
    for (folder, first) in [("one", 0), ("two", 10)] {
        (1..4).for_each(|n| drop(shelf.origin.put(format!("{folder}/{n}.mp3"), track(first + n))));
        shelf.origin.put(format!("{folder}/cover.jpg"), folder.repeat(first as usize + 1));
    }
    let before = Before::of(&shelf).await;
    let names: Vec<(String, String)> = before
        .ids
        .keys()
        .map(|at| {
            (
                at.clone(),
                match at.split_once('/').unwrap() {
                    ("one", name) => format!("two/{name}"),
                    (_, name) => format!("one/{name}"),
                },
            )
        })
        .collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    rename(&shelf, &names);
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.changed, report.missing), (8, 0, 0), "{report:?}");
    before.assert_followed(&shelf, &names);
}

#[tokio::test]
async fn renumbered_files_that_are_tagged_anew_are_followed_to_names_of_the_tree_in_use() {
    let shelf = Shelf::new();
    let put = |at: &str, audio: u32, title: &str| drop(shelf.origin.put(at, tagged(audio, title)));
    (1..4).for_each(|n| put(&format!("a/{n}.mp3"), n, &format!("Title {n}")));
    shelf.scan().await;
    let ids = shelf.paths();
    // The tags of each are exchanged with the name: the tree has the same names, of other files.
    let (tree, titles) = (shelf.tree(), ["Title 1", "Title 2", "Title 3"]);
    for (n, at) in [(1u32, 2u32), (2, 3), (3, 1)] {
        shelf.origin.put(format!("a/{at}.mp3"), tagged(n, titles[at as usize - 1]));
    }
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.changed, report.missing, report.added), (3, 3, 0, 0), "{report:?}");
    let now = shelf.paths();
    for (n, at) in [(1, 2), (2, 3), (3, 1)] {
        assert_eq!(now[&format!("a/{at}.mp3")], ids[&format!("a/{n}.mp3")]);
    }
    assert_eq!(shelf.tree().len(), tree.len());
    assert!(shelf.tree().keys().all(|name| !name.contains('(')), "{:?}", shelf.tree());
    assert!(shelf.library.name_numbers().unwrap().is_empty());
}

#[tokio::test]
async fn file_that_is_replaced_in_its_place_stays_itself_in_any_pass() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let ids = shelf.paths();
    shelf.origin.put("a/0001.mp3", track(31));
    let report = shelf.scan().await;
    assert_eq!((report.changed, report.moved, report.added, report.missing), (1, 0, 0, 0), "{report:?}");
    shelf.origin.put("a/0002.mp3", track(32));
    let report = shelf.scan_paths(&["a/0002.mp3"]).await;
    assert_eq!((report.changed, report.moved, report.added, report.missing), (1, 0, 0, 0), "{report:?}");
    assert_eq!(shelf.paths(), ids);
    let title = |at: &str| shelf.file(ids[at]).audio.unwrap().title.unwrap();
    assert_eq!((title("a/0001.mp3"), title("a/0002.mp3")), ("Title 0031".into(), "Title 0032".into()));
    assert!(shelf.tree().contains_key("/Artist/Album 3/02 - Title 0031.mp3"), "{:?}", shelf.tree());
}

#[tokio::test]
async fn file_whose_name_is_taken_and_that_is_nowhere_is_missing_and_comes_back() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let ids = shelf.paths();
    let first = shelf.file(ids["a/0000.mp3"]);
    shelf.origin.remove("a/0000.mp3");
    rename(&shelf, &[("a/0001.mp3", "a/0000.mp3"), ("a/0002.mp3", "a/0001.mp3")]);
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.missing, report.changed, report.added), (2, 1, 0, 0), "{report:?}");
    assert_eq!(shelf.file(first.id).state, FileState::Missing);
    assert_eq!(shelf.paths()["a/0000.mp3"], ids["a/0001.mp3"]);
    assert_eq!(shelf.scan().await.unchanged, 3);
    // It comes back under the name of another again.
    shelf.origin.rename("a/0003.mp3", "a/0009.mp3");
    shelf.origin.put_with_mtime("a/0003.mp3", track(0), first.version.mtime.unwrap());
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (2, 0, 0), "{report:?}");
    let now = shelf.paths();
    assert_eq!((now["a/0003.mp3"], now["a/0009.mp3"]), (first.id, ids["a/0003.mp3"]));
    // What comes under the first name of all finds it free.
    shelf.origin.rename("a/0000.mp3", "z/1.mp3");
    shelf.origin.put("a/0000.mp3", track(40));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (1, 1, 0), "{report:?}");
    assert_eq!(shelf.scan().await.unchanged, 5);
    assert_eq!(shelf.music(), 5);
}

#[tokio::test]
async fn exchange_is_followed_when_one_end_was_away_in_a_pass_between() {
    let shelf = Shelf::new().with_tracks(0..4);
    let before = Before::of(&shelf).await;
    let (one, time) = (track(1), shelf.file(before.ids["a/0001.mp3"]).version.mtime.unwrap());
    shelf.origin.rename("a/0002.mp3", "a/0001.mp3");
    assert_eq!(shelf.scan().await.missing, 1);
    shelf.origin.put_with_mtime("a/0002.mp3", one, time);
    assert_eq!(shelf.scan().await.moved, 1);
    before.assert_followed(&shelf, &[("a/0001.mp3", "a/0002.mp3"), ("a/0002.mp3", "a/0001.mp3")]);
}

#[tokio::test]
async fn many_files_that_would_lose_their_places_are_kept_until_that_is_confirmed() {
    let shelf = Shelf::new().with_tracks(0..120);
    let before = Before::of(&shelf).await;
    for n in 0..60 {
        shelf.origin.rename(format!("a/{:04}.mp3", n + 60), format!("a/{n:04}.mp3"));
    }
    for _ in 0..2 {
        let report = shelf.scan().await;
        assert!(report.needs_confirmation && report.missing == 0, "{report:?}");
        before.assert_followed(&shelf, &[]);
    }
    let report = shelf.confirm().await;
    assert_eq!((report.moved, report.missing), (60, 60), "{report:?}");
    assert_eq!(shelf.paths()["a/0007.mp3"], before.ids["a/0067.mp3"]);
    assert_eq!(shelf.scan().await.unchanged, 60);
    assert_eq!(shelf.music(), 120, "what is cached is kept for a while");
}

#[tokio::test]
async fn two_tracks_of_one_audio_do_not_change_places() {
    let shelf = Shelf::new();
    shelf.origin.put("a/1.mp3", tagged(1, "One"));
    shelf.origin.put("a/2.mp3", tagged(1, "Two"));
    shelf.origin.put("a/3.mp3", tagged(3, "Three"));
    let before = Before::of(&shelf).await;
    // Tagged anew each stays, and renumbered each is followed.
    shelf.origin.put("a/1.mp3", tagged(1, "Two"));
    shelf.origin.put("a/2.mp3", tagged(1, "One"));
    assert_eq!(shelf.scan().await.changed, 2);
    assert_eq!(shelf.paths(), before.ids);
    let names = [("a/1.mp3", "a/2.mp3"), ("a/2.mp3", "a/3.mp3"), ("a/3.mp3", "a/4.mp3")];
    rename(&shelf, &names);
    assert_eq!(shelf.scan().await.moved, 3);
    let now = shelf.paths();
    names.iter().for_each(|(from, to)| assert_eq!(now[*to], before.ids[*from]));
}

#[tokio::test]
async fn listing_that_is_cut_short_decides_on_no_exchange() {
    let mut shelf = Shelf::new().with_tracks(0..20);
    let before = Before::of(&shelf).await;
    let names = [RENUMBERED[0], RENUMBERED[1], RENUMBERED[2], ("a/0003.mp3", "z/3.mp3")];
    rename(&shelf, &names);
    shelf.origin.cut_listings(1);
    assert!(!shelf.scan().await.complete);
    assert_eq!(shelf.paths(), before.ids);
    shelf.origin.heal_listings();
    shelf.restart();
    assert_eq!(shelf.scan().await.moved, 4);
    before.assert_followed(&shelf, &names);
}

#[tokio::test]
async fn album_that_is_seen_renumbered_name_by_name_is_followed_in_any_order() {
    let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3, 4, 2, 0], [2, 0, 1, 4, 3]];
    for order in orders {
        let shelf = Shelf::new().with_tracks(0..4);
        let before = Before::of(&shelf).await;
        rename(&shelf, &RENUMBERED);
        for n in order {
            shelf.scan_paths(&[&format!("a/{n:04}.mp3")]).await;
        }
        before.assert_followed(&shelf, &RENUMBERED);
        assert_eq!(shelf.scan().await.unchanged, 4, "{order:?}");
    }
}

#[tokio::test]
async fn part_asks_only_about_files_that_are_like_what_came() {
    let shelf = Shelf::new().with_tracks(0..200);
    shelf.scan().await;
    let stats = shelf.asked.stats();
    shelf.origin.put("a/new.mp3", track(300));
    shelf.origin.put("a/0007.mp3", track(301));
    shelf.scan_paths(&["a/new.mp3", "a/0007.mp3"]).await;
    assert_eq!(shelf.asked.stats() - stats, 2, "of the paths themselves");
    shelf.origin.rename("a/0008.mp3", "a/new name.mp3");
    assert_eq!(shelf.scan_paths(&["a/new name.mp3"]).await.moved, 1);
    assert_eq!(shelf.asked.stats() - stats, 4);
}

#[tokio::test]
async fn new_file_whose_id_is_that_of_a_file_elsewhere_is_shown_by_a_scan_of_its_part() {
    let shelf = Shelf::new().with_tracks(0..2);
    shelf.scan().await;
    // The id that follows from the first path went to another, where something else is by now.
    shelf.origin.rename("a/0000.mp3", "q/0.mp3");
    shelf.scan().await;
    shelf.origin.remove("q/0.mp3");
    shelf.scan().await;
    shelf.origin.rename("a/0001.mp3", "q/0.mp3");
    shelf.scan().await;
    shelf.origin.put("a/0000.mp3", track(30));
    assert_eq!(shelf.scan_paths(&["a/0000.mp3"]).await.added, 1);
    let now = shelf.paths();
    assert_eq!(now["q/0.mp3"], shelf.id_at("a/0001.mp3"));
    assert_eq!(shelf.file(shelf.id_at("a/0000.mp3")).state, FileState::Missing);
    assert_eq!((now.len(), shelf.music()), (2, 2), "{:?}", shelf.tree());
    assert_eq!(shelf.scan().await.unchanged, 2);
    assert_eq!(shelf.paths(), now);
}

#[tokio::test]
async fn file_that_a_reader_finds_another_known_one_in_the_place_of_stays_itself() {
    let shelf = Shelf::new().with_tracks(0..4);
    shelf.scan().await;
    let (mut paths, tree) = (shelf.paths(), shelf.tree());
    rename(&shelf, &[("a/0000.mp3", "a/0001.mp3"), ("a/0001.mp3", "a/0000.mp3")]);
    let first = shelf.id_at("a/0000.mp3");
    assert_eq!(shelf.scanner.refresh(first).await, Refreshed::Updated);
    paths.insert("a/0001.mp3".into(), first);
    paths.insert("a/0000.mp3".into(), shelf.id_at("a/0001.mp3"));
    assert_eq!((shelf.paths(), shelf.tree()), (paths.clone(), tree));
    // What was known of nobody takes the place of the file, as in a pass.
    shelf.origin.put("a/0002.mp3", track(40));
    let second = shelf.id_at("a/0002.mp3");
    assert_eq!(shelf.scanner.refresh(second).await, Refreshed::Updated);
    assert_eq!(shelf.paths(), paths);
    // A file that another has come to the place of is somewhere that nobody has looked at yet.
    rename(&shelf, &[("a/0003.mp3", "b/3.mp3"), ("a/0002.mp3", "a/0003.mp3")]);
    let third = shelf.id_at("a/0003.mp3");
    assert_eq!(shelf.scanner.refresh(third).await, Refreshed::Gone);
    assert_eq!(shelf.scan().await.moved, 1);
    assert_eq!(shelf.file(third).path, path("b/3.mp3"));
    assert_eq!(shelf.file(second).path, path("a/0003.mp3"));
}
