//! Damaged, foreign and later files; how the catalogue is closed and opened.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_core::{Cookie, FileQuery, MetaDb, MetaError, OriginId, ROOT_INODE, Revision};
use rusqlite::Connection;

use super::{Fixture, place, put, track};
use crate::database::store;
use crate::{Database, DatabaseError};
use musicfs_test_utils::ManualClock;

/// A catalogue of 2,000 files that was closed, in order or not.
fn closed(in_order: bool) -> (tempfile::TempDir, PathBuf) {
    let fixture = Fixture::new();
    let mut ops = Vec::new();
    for n in 0..2000 {
        let x = track(&format!("{}/{n}.flac", n / 12));
        ops.extend([put(&x), place(x.id, &format!("Album {}/{n}.flac", n / 12), 0)]);
    }
    fixture.apply(1, ops);
    if in_order {
        fixture.db.checkpoint().unwrap();
    }
    let path = fixture.path();
    let Fixture { dir, db } = fixture;
    drop(db);
    (dir, path)
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Opens a damaged catalogue, and checks that it was put away whole and that the new one works.
fn assert_rebuilt(path: &Path) {
    let before = fs::read(path).unwrap();
    assert!(matches!(Database::open_with_integrity_check(path), Err(DatabaseError::Corrupt { .. })));
    assert_eq!(fs::read(path).unwrap(), before, "it was changed by looking at it");
    let (db, quarantine) = Database::open_or_rebuild(path, &ManualClock::new()).unwrap();
    let quarantine = quarantine.expect("it should have been put into quarantine");
    assert_eq!(quarantine, store::beside(path, ".quarantine-1577836800"));
    assert_eq!(fs::read(&quarantine).unwrap(), before);
    assert_eq!(db.revision().unwrap(), Revision(0));
    let x = track("x");
    db.upsert_file(&x).unwrap();
    assert_eq!(db.file(x.id).unwrap(), Some(x));
    drop(db);
    let (_, quarantine) = Database::open_or_rebuild(path, &ManualClock::new()).unwrap();
    assert_eq!(quarantine, None);
}

#[test]
fn garbage_header_is_rebuilt() {
    for in_order in [true, false] {
        let (_dir, path) = closed(in_order);
        write_at(&path, 0, &[0xa5; 4096]);
        assert_rebuilt(&path);
    }
}

#[test]
fn garbage_schema_is_rebuilt() {
    let (_dir, path) = closed(true);
    write_at(&path, 100, &[0xa5; 3996]);
    assert_rebuilt(&path);
}

#[test]
fn garbage_in_the_middle_is_rebuilt() {
    let (_dir, path) = closed(true);
    for page in [20, 40, 60] {
        write_at(&path, page * 4096, &[0xa5; 4096]);
    }
    assert_rebuilt(&path);
}

#[test]
fn file_cut_short_is_rebuilt() {
    for keep in [1, 99, 4096, 100_000] {
        let (_dir, path) = closed(true);
        cut(&path, keep);
        // That shows without a look through the file.
        assert!(matches!(Database::open(&path), Err(DatabaseError::Corrupt { .. })));
        assert_rebuilt(&path);
    }
}

#[test]
fn empty_file_is_rebuilt() {
    let (_dir, path) = closed(true);
    cut(&path, 0);
    assert_rebuilt(&path);
}

#[test]
fn second_quarantine_within_a_second_does_not_replace_the_first() {
    let (dir, path) = closed(true);
    for n in 0..3 {
        fs::write(&path, format!("garbage {n}")).unwrap();
        let (_, quarantine) = Database::open_or_rebuild(&path, &ManualClock::new()).unwrap();
        assert_eq!(fs::read_to_string(quarantine.unwrap()).unwrap(), format!("garbage {n}"));
    }
    let kept = fs::read_dir(dir.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("catalogue.db.quarantine-1577836800")
    });
    assert_eq!(kept.count(), 3);
}

#[test]
fn log_of_a_damaged_file_goes_with_it() {
    let (dir, path) = closed(true);
    let db = Database::open(&path).unwrap();
    db.upsert_file(&track("in the log")).unwrap();
    // As a kill leaves it: the log is there.
    let copy = dir.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(store::beside(&path, "-wal"), store::beside(&copy, "-wal")).unwrap();
    write_at(&copy, 0, &[0; 100]);
    let (rebuilt, quarantine) = Database::open_or_rebuild(&copy, &ManualClock::new()).unwrap();
    assert_eq!(rebuilt.revision().unwrap(), Revision(0));
    assert!(store::beside(&quarantine.unwrap(), "-wal").metadata().unwrap().len() > 0);
}

#[test]
fn killed_catalogue_opens_with_all_that_was_applied() {
    let (dir, path) = closed(true);
    let db = Database::open(&path).unwrap();
    db.upsert_file(&track("in the log")).unwrap();
    let copy = dir.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(store::beside(&path, "-wal"), store::beside(&copy, "-wal")).unwrap();
    let (copied, quarantine) = Database::open_or_rebuild(&copy, &ManualClock::new()).unwrap();
    assert_eq!(quarantine, None);
    assert!(copied.file(track("in the log").id).unwrap().is_some());
    // A log that is garbage, or torn, holds no batch that was ever applied whole.
    drop(copied);
    let other = dir.path().join("other.db");
    fs::copy(&path, &other).unwrap();
    fs::write(store::beside(&other, "-wal"), [0x5a; 9000]).unwrap();
    let (other, quarantine) = Database::open_or_rebuild(&other, &ManualClock::new()).unwrap();
    assert_eq!((other.totals().unwrap().files, quarantine), (2000, None));
}

#[test]
fn file_of_another_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, pragma) in [("a.db", "PRAGMA application_id = 7"), ("b.db", "PRAGMA application_id = 0")] {
        let path = dir.path().join(name);
        let other = Connection::open(&path).unwrap();
        other.execute_batch(&format!("{pragma}; CREATE TABLE photos(x); PRAGMA user_version = 77;")).unwrap();
        drop(other);
        let before = fs::read(&path).unwrap();
        assert!(matches!(Database::open(&path), Err(DatabaseError::Foreign { .. })));
        let refused = Database::open_or_rebuild(&path, &ManualClock::new());
        assert!(matches!(refused, Err(DatabaseError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn file_of_a_later_version_is_refused_and_left_alone() {
    let (_dir, path) = closed(true);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    match Database::open_or_rebuild(&path, &ManualClock::new()) {
        Err(error @ DatabaseError::Newer { found: 99, known: 2.., .. }) => {
            assert!(error.to_string().contains("upgrade MusicFS"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn missing_directory_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none/catalogue.db");
    let error = Database::open_or_rebuild(&path, &ManualClock::new()).unwrap_err();
    assert!(matches!(error, DatabaseError::Storage { .. }), "{error:?}");
    assert!(error.to_string().contains("none/catalogue.db"), "{error}");
}

#[test]
fn damage_met_by_a_call_is_told_and_keeps_the_file_from_counting_as_clean() {
    let (_dir, path) = closed(true);
    let len = path.metadata().unwrap().len();
    // Opened by its header alone, as a large catalogue is that was closed in order.
    let db = Database::open(&path).unwrap();
    for page in 2..len / 4096 {
        write_at(&path, page * 4096, &[0xa5; 4096]);
    }
    let calls = [
        db.list(ROOT_INODE, Cookie(0), 10_000).map(drop),
        db.files(&FileQuery::All, None, 10).map(drop),
        db.known(&OriginId::from("nas"), &mut |_| {}),
    ];
    for call in calls {
        assert!(matches!(call, Err(MetaError::Corrupt(_))), "{call:?}");
    }
    // Whether or not it can still be written, the next opening finds the damage.
    let _ = db.checkpoint();
    drop(db);
    let (_, quarantine) = Database::open_or_rebuild(&path, &ManualClock::new()).unwrap();
    assert!(quarantine.is_some());
}

#[test]
fn checkpoint_leaves_one_clean_file_and_a_batch_takes_the_mark_away() {
    let (dir, path) = closed(true);
    let clean = || -> bool {
        let raw = Connection::open(&path).unwrap();
        raw.query_row("SELECT clean FROM state", [], |row| row.get(0)).unwrap()
    };
    assert!(clean());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let db = Database::open(&path).unwrap();
    db.totals().unwrap();
    assert!(clean(), "reading does not take the mark away");
    db.upsert_file(&track("new")).unwrap();
    assert!(!clean());
    db.checkpoint().unwrap();
    assert!(clean());
    assert_eq!(store::beside(&path, "-wal").metadata().unwrap().len(), 0);
    db.upsert_file(&track("newer")).unwrap();
    assert!(!clean());
}
