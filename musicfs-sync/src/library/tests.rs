//! Tests of the library: what it remembers, its backups, and what happens when it is damaged.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use musicfs_core::{FileId, OriginId, OriginPath, Pin, Suffixed, UnixNanos, VirtualPath};
use musicfs_test_utils::ManualClock;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Identity, Library, LibraryError, Restored};
use crate::DatabaseError;
use crate::database::store;

fn new() -> (TempDir, PathBuf, Library) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("library.db");
    let library = sound(&path);
    (dir, path, library)
}

/// Opens a library that must need no restoring.
fn sound(path: &Path) -> Library {
    let (library, restored) = Library::open(path, &ManualClock::new()).unwrap();
    assert_eq!(restored, None);
    library
}

fn restored(path: &Path) -> (Library, Restored) {
    let (library, restored) = Library::open(path, &ManualClock::new()).unwrap();
    (library, restored.expect("it should say that it was restored"))
}

fn identity(path: &str, salt: u32) -> Identity {
    let origin = OriginId::from("nas");
    let path = OriginPath::new(path).unwrap();
    Identity { id: FileId::derive(&origin, &path, salt), origin, path }
}

fn suffixed(name: &str, path: &str, n: u32) -> Suffixed {
    Suffixed { id: identity(name, 0).id, path: VirtualPath::from_text(path).unwrap(), n }
}

fn backups(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".backup-"))
        .collect();
    names.sort();
    names
}

/// A closed library with one identity in a backup, and another that came after it.
fn with_backup() -> (TempDir, PathBuf) {
    let (dir, path, library) = new();
    library.add_identity(&identity("old", 1)).unwrap();
    assert!(library.backup().unwrap().is_some());
    library.add_identity(&identity("young", 1)).unwrap();
    (dir, path)
}

#[test]
fn identities_are_kept_and_never_replaced() {
    let (_dir, path, library) = new();
    let (a, b) = (identity("a", 1), identity("b\u{fc}", 2));
    library.add_identity(&b).unwrap();
    library.add_identity(&a).unwrap();
    library.add_identity(&a).unwrap();
    let other_id = Identity { id: identity("c", 0).id, ..a.clone() };
    let other_path = Identity { id: a.id, ..identity("c", 0) };
    for bad in [other_id, other_path] {
        assert!(matches!(library.add_identity(&bad), Err(LibraryError::Conflict { .. })));
    }
    drop(library);
    assert_eq!(sound(&path).identities().unwrap(), [a, b]);
}

#[test]
fn numbers_are_kept_and_replaced_by_newer_ones() {
    let (_dir, path, library) = new();
    library.record_numbers(&[suffixed("a", "A/x", 2), suffixed("b", "A/x", 3)]).unwrap();
    library.record_numbers(&[suffixed("a", "B/y", 4)]).unwrap();
    library.record_numbers(&[]).unwrap();
    drop(library);
    let number = |name, path, n| (identity(name, 0).id, (VirtualPath::from_text(path).unwrap(), n));
    let expected = HashMap::from([number("a", "B/y", 4), number("b", "A/x", 3)]);
    assert_eq!(sound(&path).name_numbers().unwrap(), expected);
}

#[test]
fn origins_keep_the_time_they_were_first_seen() {
    let (_dir, path, library) = new();
    let (nas, usb) = (OriginId::from("nas"), OriginId::from("usb"));
    library.record_origin(&usb, UnixNanos(5)).unwrap();
    library.record_origin(&nas, UnixNanos(6)).unwrap();
    library.record_origin(&usb, UnixNanos(7)).unwrap();
    drop(library);
    assert_eq!(sound(&path).origins().unwrap(), [(nas, UnixNanos(6)), (usb, UnixNanos(5))]);
}

#[test]
fn library_at_rest_is_one_file() {
    let (dir, _path, library) = new();
    library.add_identity(&identity("a", 1)).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn backup_is_taken_only_when_something_changed_and_three_are_kept() {
    let (_dir, path, library) = new();
    assert_eq!(library.backup().unwrap(), None, "there is nothing in it");
    for n in 1..=5 {
        library.add_identity(&identity(&n.to_string(), n)).unwrap();
        assert_eq!(library.backup().unwrap(), Some(store::beside(&path, &format!(".backup-{n}"))));
        assert_eq!(library.backup().unwrap(), None);
    }
    // What changed nothing needs no backup; neither does opening.
    library.add_identity(&identity("5", 5)).unwrap();
    library.record_numbers(&[]).unwrap();
    assert_eq!(library.backup().unwrap(), None);
    drop(library);
    let library = sound(&path);
    assert_eq!(library.backup().unwrap(), None);
    assert_eq!(backups(&path), ["library.db.backup-3", "library.db.backup-4", "library.db.backup-5"]);
    // When the user deletes them, there is one again.
    for name in backups(&path) {
        fs::remove_file(path.with_file_name(name)).unwrap();
    }
    assert!(library.backup().unwrap().is_some());
}

#[test]
fn backup_replaces_what_an_interrupted_one_left() {
    let (_dir, path, library) = new();
    library.add_identity(&identity("a", 1)).unwrap();
    let left = store::beside(&path, ".backup-new");
    fs::write(&left, "half a backup").unwrap();
    let backup = library.backup().unwrap().unwrap();
    assert!(!left.exists());
    assert_eq!(sound(&backup).identities().unwrap(), [identity("a", 1)]);
}

#[test]
fn damaged_library_is_restored_from_its_backup_and_kept() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("header", |bytes| bytes[..100].fill(0xa5)),
        ("schema", |bytes| bytes[100..4096].fill(0xa5)),
        ("middle", |bytes| bytes[4096..].fill(0xa5)),
        ("cut", |bytes| bytes.truncate(5000)),
        ("empty", |bytes| bytes.clear()),
    ];
    for (name, damage) in damages {
        let (_dir, path) = with_backup();
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let (library, restored) = restored(&path);
        let quarantine = store::beside(&path, ".quarantine-1577836800");
        assert_eq!(restored.from, Some(store::beside(&path, ".backup-1")), "{name}");
        assert_eq!(restored.quarantined, Some(quarantine.clone()), "{name}");
        assert_eq!(fs::read(quarantine).unwrap(), bytes, "{name}");
        assert_eq!(library.identities().unwrap(), [identity("old", 1)], "{name}");
        library.add_identity(&identity("new", 1)).unwrap();
        drop(library);
        assert_eq!(sound(&path).identities().unwrap().len(), 2, "{name}");
    }
}

#[test]
fn vanished_library_is_restored_from_its_backup() {
    let (_dir, path) = with_backup();
    fs::remove_file(&path).unwrap();
    // What lies about of the old file must not be taken for the restored one's.
    fs::write(store::beside(&path, "-journal"), "old").unwrap();
    let (library, restored) = restored(&path);
    assert_eq!(restored.from, Some(store::beside(&path, ".backup-1")));
    assert!(restored.quarantined.is_some());
    assert_eq!(library.identities().unwrap(), [identity("old", 1)]);
}

#[test]
fn vanished_library_without_a_backup_is_not_passed_over_in_silence() {
    let (_dir, path, library) = new();
    drop(library);
    fs::remove_file(&path).unwrap();
    let journal = store::beside(&path, "-journal");
    fs::write(&journal, "what is left of it").unwrap();
    let (_library, restored) = restored(&path);
    assert_eq!(restored.from, None);
    let kept = store::beside(&restored.quarantined.unwrap(), "-journal");
    assert_eq!(fs::read_to_string(kept).unwrap(), "what is left of it");
}

#[test]
fn damaged_backup_is_passed_over_for_an_older_one() {
    let (_dir, path) = with_backup();
    let library = sound(&path);
    let newer = library.backup().unwrap().unwrap();
    drop(library);
    let len = newer.metadata().unwrap().len() as usize;
    fs::write(&newer, vec![0xa5; len]).unwrap();
    fs::write(&path, "garbage").unwrap();
    let (library, restored) = restored(&path);
    assert_eq!(restored.from, Some(store::beside(&path, ".backup-1")));
    assert_eq!(library.identities().unwrap(), [identity("old", 1)]);
    // The next backup takes a number of its own.
    library.add_identity(&identity("new", 1)).unwrap();
    assert_eq!(library.backup().unwrap(), Some(store::beside(&path, ".backup-3")));
}

#[test]
fn damaged_library_without_a_backup_begins_anew_and_says_so() {
    let (_dir, path, library) = new();
    library.add_identity(&identity("a", 1)).unwrap();
    drop(library);
    fs::write(&path, "garbage").unwrap();
    let (library, restored) = restored(&path);
    assert_eq!(restored.from, None);
    assert_eq!(fs::read_to_string(restored.quarantined.unwrap()).unwrap(), "garbage");
    assert_eq!(library.identities().unwrap(), []);
}

#[test]
fn catalogue_and_library_are_not_taken_for_each_other() {
    let (dir, path, library) = new();
    drop(library);
    assert!(matches!(crate::Database::open(&path), Err(DatabaseError::Foreign { .. })));
    let catalogue = dir.path().join("catalogue.db");
    drop(crate::Database::open(&catalogue).unwrap());
    let refused = Library::open(&catalogue, &ManualClock::new());
    assert!(matches!(refused, Err(LibraryError::Open(DatabaseError::Foreign { .. }))));
}

#[test]
fn library_of_a_later_version_is_refused_and_not_restored() {
    let (_dir, path) = with_backup();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Library::open(&path, &ManualClock::new());
    assert!(matches!(refused, Err(LibraryError::Open(DatabaseError::Newer { found: 99, .. }))));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn pins_are_kept_until_they_are_taken_back() {
    let (_dir, path, library) = new();
    let file = Pin::File(identity("a", 0).id);
    let folder = Pin::Folder(VirtualPath::from_text("Björk/Post").unwrap());
    let origin = Pin::Origin(OriginId::from("nas"));
    for pin in [&file, &folder, &origin] {
        assert!(library.pin(pin, UnixNanos(1)).unwrap());
        assert!(!library.pin(pin, UnixNanos(2)).unwrap());
    }
    assert!(library.unpin(&origin).unwrap());
    assert!(!library.unpin(&origin).unwrap());
    drop(library);
    assert_eq!(sound(&path).pins().unwrap(), [file, folder]);
}
