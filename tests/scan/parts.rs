//! Files that move while each pass sees only a part of their origin.

use std::collections::BTreeMap;

use musicfs_core::{FileId, MetaDb};
use musicfs_sync::PassOptions;
use musicfs_test_utils::FailMode;

use crate::shelf::{Shelf, path, tagged, track};

/// Twelve tracks in a folder and a cover, all cached, and one track in another.
async fn shelf() -> (Shelf, BTreeMap<String, FileId>) {
    let shelf = Shelf::new().with_tracks(0..12);
    shelf.origin.put("a/cover.jpg", b"a cover".to_vec());
    shelf.origin.put("other/0.mp3", track(50));
    shelf.scan().await;
    let ids = shelf.paths();
    ids.values().for_each(|id| shelf.cache(*id));
    (shelf, ids)
}

#[tokio::test]
async fn what_comes_in_one_part_before_it_is_missed_in_another_has_moved() {
    let (shelf, ids) = shelf().await;
    let tree = shelf.tree();
    shelf.origin.rename("a/0001.mp3", "other/one.mp3");
    let stats = shelf.asked.stats();
    let report = shelf.scan_paths(&["other"]).await;
    assert_eq!((report.moved, report.added, report.missing), (1, 0, 0), "{report:?}");
    assert!(shelf.asked.stats() - stats <= 2, "nothing is asked of files that are like none that came");
    assert_eq!((shelf.paths()["other/one.mp3"], shelf.tree()), (ids["a/0001.mp3"], tree.clone()));
    let report = shelf.scan_paths(&["a"]).await;
    assert_eq!((report.moved, report.added, report.missing), (0, 0, 0), "{report:?}");
    // The folder with all that is left in it.
    for at in ids.keys().filter(|at| at.starts_with("a/") && *at != "a/0001.mp3") {
        shelf.origin.rename(at, at.replacen("a/", "b/", 1));
    }
    let report = shelf.scan_paths(&["b"]).await;
    assert_eq!((report.moved, report.added), (12, 0), "{report:?}");
    shelf.scan_paths(&["a"]).await;
    let now = |at: &String| match at.as_str() {
        "a/0001.mp3" => "other/one.mp3".to_owned(),
        at => at.replacen("a/", "b/", 1),
    };
    let expected: BTreeMap<_, _> = ids.iter().map(|(at, id)| (now(at), *id)).collect();
    assert_eq!((shelf.paths(), shelf.tree()), (expected, tree));
    for id in ids.values() {
        let (version, manifest) = shelf.db.manifest(*id).unwrap().unwrap();
        assert!(version.is_same(&shelf.file(*id).version) && manifest.covered() == version.size);
    }
    assert_eq!(shelf.scan().await.unchanged, 14);
}

#[tokio::test]
async fn file_that_has_gone_is_one_of_those_that_came_like_it() {
    let (shelf, ids) = shelf().await;
    shelf.origin.rename("a/0001.mp3", "a/new.mp3");
    shelf.origin.put("a/other.mp3", tagged(1, "Other 0001"));
    let report = shelf.scan_paths(&["a/new.mp3", "a/other.mp3"]).await;
    assert_eq!((report.moved, report.added), (1, 1), "{report:?}");
    let now = shelf.paths();
    assert_eq!((now["a/new.mp3"], now.len()), (ids["a/0001.mp3"], ids.len() + 1));
}

#[tokio::test]
async fn copy_of_a_file_that_is_still_there_is_another_file_in_a_part() {
    let (shelf, mut ids) = shelf().await;
    let time = shelf.file(ids["a/0001.mp3"]).version.mtime.unwrap();
    shelf.origin.put_with_mtime("b/copy.mp3", track(1), time);
    let report = shelf.scan_paths(&["b"]).await;
    assert_eq!((report.moved, report.added), (0, 1), "{report:?}");
    ids.insert("b/copy.mp3".to_owned(), shelf.id_at("b/copy.mp3"));
    assert_eq!(shelf.paths(), ids);
    // Of two copies that one has moved which is gone.
    shelf.origin.rename("b/copy.mp3", "c/copy.mp3");
    assert_eq!(shelf.scan_paths(&["c"]).await.moved, 1);
    let copy = ids.remove("b/copy.mp3").unwrap();
    ids.insert("c/copy.mp3".to_owned(), copy);
    assert_eq!(shelf.paths(), ids);
    // What was changed where it was has not moved.
    shelf.origin.put_with_mtime("d/copy.mp3", track(2), shelf.file(ids["a/0002.mp3"]).version.mtime.unwrap());
    shelf.origin.put("a/0002.mp3", track(60));
    assert_eq!(shelf.scan_paths(&["d"]).await.moved, 0);
    assert_eq!(shelf.file(ids["a/0002.mp3"]).path, path("a/0002.mp3"));
}

#[tokio::test]
async fn file_that_cannot_be_asked_about_has_not_moved() {
    let mut unasked = 0;
    // The last call of such a pass asks about the file.
    for calls in 0..100 {
        let (shelf, ids) = shelf().await;
        shelf.origin.rename("a/0001.mp3", "b/1.mp3");
        shelf.asked.set_mode(FailMode::FailAfterN(calls));
        let options = PassOptions { paths: Some(vec![path("b")]), ..PassOptions::default() };
        let done = shelf.pass(&options).await;
        shelf.asked.set_mode(FailMode::Healthy);
        if done.as_ref().is_ok_and(|report| report.moved == 1) {
            assert_eq!(unasked, 1, "{calls} calls");
            return;
        }
        assert_eq!(shelf.file(ids["a/0001.mp3"]).path, path("a/0001.mp3"));
        if done.is_ok_and(|report| report.complete && report.added == 1) {
            unasked += 1;
            assert_eq!(shelf.paths().len(), ids.len() + 1);
            shelf.scan_paths(&["a"]).await;
            assert_eq!(shelf.paths().len(), ids.len());
        }
    }
    panic!("no pass went well");
}
