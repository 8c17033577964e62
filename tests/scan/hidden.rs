//! What the user does not want to see stays unseen wherever it goes on its origin.

use std::collections::BTreeMap;

use musicfs_core::{Change, FileId, FileKind, FileQuery, FileState, MetaDb, UnixNanos};
use musicfs_sync::ScanReport;

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

/// What is in each of the folders that are exchanged.
const FILES: [&str; 5] = ["1.mp3", "2.mp3", "3.mp3", "cover.jpg", "below/4.mp3"];

/// Folders with the same names of files, whose audio differs, of which some are excluded.
async fn folders(names: &[&str], excluded: &[&str]) -> Shelf {
    let shelf = Shelf::new();
    for (n, folder) in names.iter().enumerate() {
        for (m, name) in FILES.iter().enumerate() {
            match name.ends_with("jpg") {
                // Covers are copies of each other, as they often are.
                true => shelf.origin.put_with_mtime(format!("{folder}/{name}"), "cover", UnixNanos(5)),
                false => shelf.origin.put(format!("{folder}/{name}"), track((10 * n + m) as u32)),
            };
        }
    }
    shelf.scan().await;
    shelf.scanner.exclude(&id(), excluded.iter().map(|at| path(at)).collect()).await.unwrap();
    shelf
}

/// Renames folders at once: all go before any comes.
fn rename_folders(shelf: &Shelf, names: &[(&str, &str)]) {
    for file in FILES {
        names
            .iter()
            .for_each(|(from, _)| shelf.origin.rename(format!("{from}/{file}"), format!("{from}!{file}")));
        names
            .iter()
            .for_each(|(from, to)| shelf.origin.rename(format!("{from}!{file}"), format!("{to}/{file}")));
    }
}

/// The paths on the origin of what is shown, but for covers.
fn shown(shelf: &Shelf) -> Vec<String> {
    let at = |ino: &musicfs_core::Ino| shelf.file(ino.file_id().unwrap()).path.to_string();
    let mut shown: Vec<String> = shelf.tree().values().map(at).filter(|at| at.ends_with("mp3")).collect();
    shown.sort();
    shown
}

/// All music that is known by its paths on the origin, shown or not.
fn known(shelf: &Shelf) -> BTreeMap<String, FileId> {
    let all = shelf.db.files(&FileQuery::All, None, usize::MAX).unwrap().files;
    let music = all.into_iter().filter(|file| file.kind == FileKind::Audio);
    music.map(|file| (file.path.to_string(), file.id)).collect()
}

/// Scans these paths, or with none all of the origin.
async fn scan(shelf: &Shelf, part: Option<&[&str]>) -> ScanReport {
    match part {
        Some(paths) => shelf.scan_paths(paths).await,
        None => shelf.scan().await,
    }
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

/// Folders that are there, those of them that are excluded, and names that they take.
type Exchange = (&'static [&'static str], &'static [&'static str], &'static [(&'static str, &'static str)]);

const EXCHANGES: [Exchange; 8] = [
    (&["a", "b"], &["a"], &[("a", "b"), ("b", "a")]),
    (&["a", "b"], &["a"], &[("a", "x"), ("b", "a")]),
    (&["a", "b"], &["a", "b"], &[("a", "b"), ("b", "a")]),
    (&["a", "b", "c"], &["b"], &[("a", "b"), ("b", "c"), ("c", "a")]),
    (&["a", "b", "c"], &["a", "c"], &[("a", "b"), ("b", "c"), ("c", "a")]),
    (&["p/a", "p/c", "q/a"], &["p/a"], &[("p/a", "q/a"), ("p/c", "q/c"), ("q/a", "p/a")]),
    (&["p/a", "p/c", "q"], &["p/a"], &[("p/a", "q"), ("q", "p/a")]),
    (&["a", "b"], &["a", "a/below"], &[("a", "b"), ("b", "a")]),
];

#[tokio::test]
async fn excluded_folders_whose_names_others_take_in_one_scan_stay_excluded_and_the_others_are_shown() {
    for (names, out, moved) in EXCHANGES {
        for parts in [&[][..], &["all"], &["each"]] {
            let case = format!("{out:?} are excluded, {moved:?}, {parts:?}");
            let mut shelf = folders(names, out).await;
            let now = |at: &str| {
                let to = |(from, to): &(&str, &str)| Some(format!("{to}{}", at.strip_prefix(from)?));
                moved.iter().find_map(to).unwrap_or_else(|| at.to_owned())
            };
            let before = known(&shelf);
            rename_folders(&shelf, moved);
            let involved: Vec<&str> = moved.iter().flat_map(|(from, to)| [*from, *to]).collect();
            match parts {
                ["all"] => drop(shelf.scan_paths(&involved).await),
                ["each"] => {
                    for part in &involved {
                        shelf.scan_paths(&[part]).await;
                    }
                }
                _ => {}
            }
            if parts.is_empty() || out.len() > 1 {
                shelf.scan().await;
            }
            let mut hidden: Vec<String> = out.iter().map(|at| now(at)).collect();
            hidden.sort();
            assert_eq!(excluded(&shelf), hidden, "{case}");
            let is_hidden = |at: &String| hidden.iter().any(|folder| path(at).is_within(&path(folder)));
            let expected: BTreeMap<_, _> = before.iter().map(|(at, id)| (now(at), *id)).collect();
            let music = expected.keys().filter(|at| !is_hidden(at));
            assert_eq!(shown(&shelf), music.cloned().collect::<Vec<_>>(), "{case}");
            if parts != ["each"] {
                assert_eq!(known(&shelf), expected, "{case}: each file is itself");
            }
            // Once it is settled nothing is read, and nothing changes, whatever comes below.
            let reads = shelf.asked.reads();
            shelf.restart();
            let report = shelf.scan().await;
            assert_eq!((report.moved, report.added, report.changed, report.missing), (0, 0, 0, 0), "{case}");
            assert_eq!(shelf.asked.reads(), reads, "{case}");
            shelf.origin.put(format!("{}/later.mp3", hidden[0]), track(90));
            assert_eq!(shelf.scan().await.added, 0, "{case}");
            assert_eq!(excluded(&shelf), hidden, "{case}");
        }
    }
}

#[tokio::test]
async fn new_folder_of_the_name_of_an_excluded_one_that_has_moved_is_shown() {
    for parts in [false, true] {
        let shelf = folders(&["a", "b"], &["a"]).await;
        // It had a file that nobody has seen, too.
        shelf.origin.put("a/0.mp3", track(70));
        shelf.origin.rename("a/0.mp3", "x/0.mp3");
        rename_folders(&shelf, &[("a", "x")]);
        shelf.origin.put("a/fresh.mp3", track(80));
        shelf.origin.put("a/1.mp3", track(81));
        shelf.origin.put("a/cover.jpg", "another");
        let report = scan(&shelf, parts.then_some(&["x", "a"])).await;
        assert_eq!((report.moved, report.missing), (5, 0), "{report:?}");
        assert_eq!((excluded(&shelf), report.added), (vec!["x".to_owned()], 3), "{report:?}");
        let b = ["b/1.mp3", "b/2.mp3", "b/3.mp3", "b/below/4.mp3"];
        let now: Vec<&str> = ["a/1.mp3", "a/fresh.mp3"].into_iter().chain(b).collect();
        assert_eq!(shown(&shelf), now);
        assert!(shelf.tree().keys().any(|at| at.starts_with("/Artist/Album 8/cover")), "{:?}", shelf.tree());
        assert_eq!(shelf.scan().await.unchanged, 8);
        assert_eq!(shown(&shelf), now);
    }
}

#[tokio::test]
async fn file_that_is_added_to_an_excluded_folder_which_moves_in_the_same_scan_is_never_shown() {
    let shelf = folders(&["a", "b"], &["a"]).await;
    let before = shelf.tree();
    let since = shelf.db.revision().unwrap();
    rename_folders(&shelf, &[("a", "z/x")]);
    shelf.origin.put("z/x/0 new.mp3", track(70));
    shelf.origin.put("z/x/new.mp3", track(71));
    let report = shelf.scan().await;
    assert_eq!((report.moved, report.added, report.missing), (5, 0, 0), "{report:?}");
    assert_eq!((shelf.tree(), excluded(&shelf)), (before.clone(), vec!["z/x".to_owned()]));
    let changes = shelf.db.changes_since(since, 1_000).unwrap().changes;
    let came = |change: &&Change| matches!(change, Change::EntryAdded { .. });
    assert_eq!(changes.iter().find(came), None);
    assert_eq!(shelf.scan().await.added, 0);
    assert_eq!(shelf.tree(), before);
}

#[tokio::test]
async fn excluded_folder_whose_files_are_all_replaced_stays_excluded_and_is_read_once() {
    let shelf = folders(&["a", "b"], &["a"]).await;
    let before = shelf.tree();
    FILES.iter().for_each(|file| assert!(shelf.origin.remove(format!("a/{file}"))));
    (1..4).for_each(|n| drop(shelf.origin.put(format!("a/{n}.mp3"), track(60 + n))));
    // What is shown and is moved there is hidden as well.
    shelf.origin.rename("b/1.mp3", "a/from b.mp3");
    let report = shelf.scan().await;
    assert_eq!((report.added, report.changed, excluded(&shelf)), (0, 0, vec!["a".to_owned()]), "{report:?}");
    let reads = shelf.asked.reads();
    shelf.scan().await;
    assert_eq!(shelf.asked.reads(), reads);
    assert_eq!(shown(&shelf), ["b/2.mp3", "b/3.mp3", "b/below/4.mp3"]);
    assert_eq!(shelf.tree().len() + 1, before.len());
}

#[tokio::test]
async fn excluded_folder_that_loses_files_elsewhere_stays_while_any_of_its_music_is_there() {
    let shelf = folders(&["a", "b"], &["a"]).await;
    for file in ["1.mp3", "2.mp3", "3.mp3"] {
        shelf.origin.rename(format!("a/{file}"), format!("x/{file}"));
        shelf.origin.rename(format!("b/{file}"), format!("a/{file}"));
    }
    shelf.scan().await;
    assert_eq!(excluded(&shelf), ["a"]);
    assert_eq!(shown(&shelf), ["b/below/4.mp3", "x/1.mp3", "x/2.mp3", "x/3.mp3"]);
}

#[tokio::test]
async fn excluded_folder_whose_files_are_tagged_anew_or_renamed_stays_when_one_is_taken_out() {
    for renamed in [false, true] {
        let shelf = folders(&["a", "b"], &["a"]).await;
        shelf.origin.rename("a/3.mp3", "x/3.mp3");
        // What is left has other tags, or another name.
        ["a/2.mp3", "a/below/4.mp3"].iter().for_each(|at| assert!(shelf.origin.remove(at)));
        match renamed {
            false => drop(shelf.origin.put("a/1.mp3", tagged(0, "Other"))),
            true => shelf.origin.rename("a/1.mp3", "a/2.mp3"),
        }
        shelf.scan().await;
        assert_eq!(excluded(&shelf), ["a"]);
        assert_eq!(shown(&shelf), ["b/1.mp3", "b/2.mp3", "b/3.mp3", "b/below/4.mp3", "x/3.mp3"]);
        let reads = shelf.asked.reads();
        shelf.scan().await;
        assert_eq!((shelf.asked.reads(), excluded(&shelf)), (reads, vec!["a".to_owned()]));
    }
}

/// Gives files that have been moved into a folder, by their former names; the folder has [`FILES`] of its own.
fn put_into(shelf: &Shelf, folder: &str, files: &[(&str, &str)]) {
    files.iter().for_each(|(from, to)| shelf.origin.rename(from, format!("{folder}/{to}")));
}

#[tokio::test]
async fn shown_files_that_are_moved_into_an_excluded_folder_go_where_it_goes_as_themselves() {
    let came =
        [("b/1.mp3", "from b.mp3"), ("b/2.mp3", "2b.mp3"), ("c/1.mp3", "c/1.mp3"), ("c/2.mp3", "c/2.mp3")];
    let rest = ["b/3.mp3", "b/below/4.mp3", "c/3.mp3", "c/below/4.mp3"];
    for (at_once, parts) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("at once: {at_once}, in parts: {parts}");
        let shelf = folders(&["a", "b", "c"], &["a"]).await;
        let before = shelf.paths();
        put_into(&shelf, "a", &came);
        let places = came.map(|(_, to)| format!("a/{to}"));
        if !at_once {
            // In parts, first as they are found where they came, and only then where they were.
            let places = places.each_ref().map(String::as_str);
            let report = scan(&shelf, parts.then_some(&places)).await;
            assert_eq!((report.added, report.missing, report.moved), (0, 0, 4), "{case}");
            came.iter().for_each(|(from, to)| assert_hidden(&shelf, before[*from], &format!("a/{to}")));
            assert_eq!(
                (excluded(&shelf), shown(&shelf)),
                (vec!["a".to_owned()], rest.map(str::to_owned).into())
            );
        }
        rename_folders(&shelf, &[("a", "z")]);
        came.iter().for_each(|(_, to)| shelf.origin.rename(format!("a/{to}"), format!("z/{to}")));
        scan(&shelf, parts.then_some(&["a", "b", "c", "z"])).await;
        assert_eq!(
            (excluded(&shelf), shown(&shelf)),
            (vec!["z".to_owned()], rest.map(str::to_owned).into()),
            "{case}"
        );
        came.iter().for_each(|(from, to)| assert_hidden(&shelf, before[*from], &format!("z/{to}")));
        shelf.origin.put("z/later.mp3", track(90));
        assert_eq!(shelf.scan().await.added, 0, "{case}");
        // In the place of another, which takes its own.
        let mut all: Vec<(String, String)> =
            came.iter().map(|(_, to)| (format!("z/{to}"), format!("c/{to}"))).collect();
        all.push(("z/later.mp3".into(), "c/later.mp3".into()));
        all.extend(FILES.map(|file| (format!("z/{file}"), format!("c/{file}"))));
        for file in ["3.mp3", "cover.jpg", "below/4.mp3"] {
            shelf.origin.rename(format!("c/{file}"), format!("z!{file}"));
        }
        all.iter().for_each(|(from, to)| shelf.origin.rename(from, to));
        for file in ["3.mp3", "cover.jpg", "below/4.mp3"] {
            shelf.origin.rename(format!("z!{file}"), format!("z/{file}"));
        }
        shelf.scan().await;
        let now = ["b/3.mp3", "b/below/4.mp3", "z/3.mp3", "z/below/4.mp3"].map(str::to_owned);
        assert_eq!((excluded(&shelf), shown(&shelf)), (vec!["c".to_owned()], now.into()), "{case}");
        shelf.scanner.include(&id(), vec![path("c")]).await.unwrap();
        shelf.scan().await;
        let after = shelf.paths();
        came.iter().for_each(|(from, to)| assert_eq!(after[&format!("c/{to}")], before[*from], "{case}"));
    }
}

#[tokio::test]
async fn excluded_folder_of_which_a_file_is_excluded_by_itself_goes_elsewhere_with_both_exclusions() {
    for order in [["a", "a/2.mp3"], ["a/2.mp3", "a"]] {
        let shelf = folders(&["a", "b"], &[]).await;
        for at in order {
            shelf.scanner.exclude(&id(), vec![path(at)]).await.unwrap();
        }
        rename_folders(&shelf, &[("a", "z")]);
        shelf.scan().await;
        assert_eq!(excluded(&shelf), ["z", "z/2.mp3"]);
        shelf.origin.put("z/new.mp3", track(90));
        assert_eq!(shelf.scan().await.added, 0);
        assert_eq!(shown(&shelf), ["b/1.mp3", "b/2.mp3", "b/3.mp3", "b/below/4.mp3"]);
    }
}

#[tokio::test]
async fn files_that_are_renamed_in_an_excluded_folder_are_followed_there() {
    for (all_at_once, parts) in [(false, true), (true, true), (false, false), (true, false)] {
        let case = format!("all at once: {all_at_once}, in parts: {parts}");
        let shelf = folders(&["a", "b"], &["a"]).await;
        let names = ["1.mp3", "2.mp3", "3.mp3", "below/4.mp3"]
            .map(|file| (format!("a/{file}"), format!("a/q{}", file.replace('/', " "))));
        let paths: Vec<&str> = names.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        for (n, (from, to)) in names.iter().enumerate() {
            shelf.origin.rename(from, to);
            if !all_at_once {
                scan(&shelf, parts.then_some(&paths[2 * n..2 * n + 2])).await;
            }
        }
        scan(&shelf, parts.then_some(&paths)).await;
        names.iter().for_each(|(from, to)| assert_hidden(&shelf, shelf.id_at(from), to));
        // One whose name a new file takes at once.
        shelf.origin.rename(&names[0].1, "a/1.mp3");
        shelf.origin.put(&names[0].1, track(80));
        scan(&shelf, parts.then_some(&paths[..2])).await;
        assert_hidden(&shelf, shelf.id_at("a/1.mp3"), "a/1.mp3");
        shelf.origin.rename("a/1.mp3", "z/1.mp3");
        assert_eq!(excluded(&shelf), ["a"], "{case}");
        names.iter().for_each(|(_, at)| shelf.origin.rename(at, at.replacen("a/", "z/", 1)));
        shelf.origin.remove("a/cover.jpg");
        scan(&shelf, parts.then_some(&["a", "z"])).await;
        assert_eq!(excluded(&shelf), ["z"], "{case}");
        assert_eq!(shown(&shelf), ["b/1.mp3", "b/2.mp3", "b/3.mp3", "b/below/4.mp3"], "{case}");
    }
}

#[tokio::test]
async fn excluded_folder_within_another_is_followed_there_and_what_takes_its_name_is_not_it() {
    for order in [["g", "g/n"], ["g/n", "g"]] {
        let shelf = folders(&["g", "g/n"], &[]).await;
        for at in order {
            shelf.scanner.exclude(&id(), vec![path(at)]).await.unwrap();
        }
        rename_folders(&shelf, &[("g/n", "g/h")]);
        ["1.mp3", "2.mp3", "new.mp3"]
            .iter()
            .zip(80..)
            .for_each(|(name, n)| drop(shelf.origin.put(format!("g/n/{name}"), track(n))));
        shelf.scan().await;
        assert_eq!((excluded(&shelf), shown(&shelf)), (vec!["g".to_owned(), "g/h".to_owned()], vec![]));
        shelf.scanner.include(&id(), vec![path("g")]).await.unwrap();
        shelf.scan().await;
        let now = ["g/1.mp3", "g/2.mp3", "g/3.mp3", "g/below/4.mp3", "g/n/1.mp3", "g/n/2.mp3", "g/n/new.mp3"];
        assert_eq!(shown(&shelf), now);
    }
}

#[tokio::test]
async fn files_that_are_gone_are_kept_though_copies_of_all_are_in_an_excluded_folder() {
    let shelf = Shelf::new();
    shelf.library.exclude(&id(), &[path("copies")]).unwrap();
    for n in 0..200 {
        for folder in ["a", "copies"] {
            shelf.origin.put_with_mtime(format!("{folder}/{n}.mp3"), track(n), UnixNanos(i64::from(n)));
        }
    }
    shelf.origin.put("b/1.mp3", track(200));
    shelf.scan().await;
    let before = shelf.tree();
    (0..200).for_each(|n| assert!(shelf.origin.remove(format!("a/{n}.mp3"))));
    let report = shelf.scan().await;
    assert!(report.held_back.is_some() && report.moved == 0, "{report:?}");
    assert_eq!(shelf.tree(), before);
}

#[tokio::test]
async fn excluded_folder_and_one_that_takes_its_name_are_themselves_though_a_file_alone_is_seen_first() {
    for parts in [&["x/1.mp3"][..], &["x/1.mp3", "x"], &["x"], &["a", "x"], &["x", "a"]] {
        let shelf = folders(&["a", "b", "c", "d"], &["a"]).await;
        let before = known(&shelf);
        rename_folders(&shelf, &[("a", "x"), ("b", "a")]);
        for part in parts {
            shelf.scan_paths(&[part]).await;
            assert!(shown(&shelf).iter().all(|at| !at.starts_with("x/")), "{parts:?}");
        }
        shelf.scan().await;
        assert_eq!(excluded(&shelf), ["x"], "{parts:?}");
        for name in FILES.iter().filter(|name| name.ends_with("mp3")) {
            assert_hidden(&shelf, before[&format!("a/{name}")], &format!("x/{name}"));
            let taker = shelf.file(before[&format!("b/{name}")]);
            assert_eq!(
                (taker.path, taker.state),
                (path(&format!("a/{name}")), FileState::Present),
                "{parts:?}"
            );
        }
    }
}
