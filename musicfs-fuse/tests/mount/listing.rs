//! Directories: what they list, what is asked of the daemon for it, and what the kernel knows by itself.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use musicfs_core::UnixNanos;
use musicfs_test_utils::{MemoryMetaDb, eventually_blocking};

use crate::support::{Library, names, walk};

fn library(dirs: usize, files: usize) -> Library {
    let library = Library::new();
    let ops = (0..dirs).flat_map(|dir| {
        (0..files).flat_map(move |file| {
            Library::ops(&format!("artist {dir}/{file:03} - title.flac"), 1000 + file as u64, UnixNanos(5))
        })
    });
    library.apply(ops.collect());
    library
}

#[test]
fn second_walk_asks_the_daemon_nothing() {
    let library = library(40, 30);
    let mounted = library.mount();
    assert_eq!(walk(mounted.path()), (40, 1200, 40 * (30_000 + 435)));
    let first = mounted.session().stats();
    assert_eq!(walk(mounted.path()), (40, 1200, 40 * (30_000 + 435)));
    let second = mounted.session().stats();
    let asked = |s: musicfs_fuse::FsStats| (s.lookups, s.getattrs, s.readdirs);
    assert_eq!(asked(first), asked(second));
    // The first walk needs no lookup of a file: its attributes come with the listing.
    assert!(first.lookups <= 41, "{first:?}");
}

#[test]
fn directory_of_a_hundred_thousand_entries_is_listed_whole() {
    let library = Library::new();
    let ops = (0..100_000).flat_map(|n| Library::ops(&format!("all/{n:06} - title.flac"), n, UnixNanos(5)));
    library.apply(ops.collect());
    let mounted = library.mount();
    let found: HashSet<_> = names(&mounted.at("all")).into_iter().collect();
    assert_eq!(found.len(), 100_000);
    assert!(found.contains("099999 - title.flac"));
    assert_eq!(fs::metadata(mounted.at("all/054321 - title.flac")).unwrap().len(), 54_321);
}

#[test]
fn entry_added_to_a_listed_directory_appears() {
    let library = library(1, 3);
    let mounted = library.mount();
    let dir = mounted.at("artist 0");
    assert_eq!(names(&dir).len(), 3);
    assert_eq!(names(&dir).len(), 3);
    let before = fs::metadata(&dir).unwrap().mtime();
    library.put_bytes("artist 0/new.flac", b"new");
    eventually_blocking("the new entry is listed", || names(&dir).contains(&"new.flac".to_owned()));
    eventually_blocking("the directory's time is new", || fs::metadata(&dir).unwrap().mtime() != before);
    assert_eq!(fs::read(dir.join("new.flac")).unwrap(), b"new");
}

#[test]
fn entry_that_was_looked_for_in_vain_is_found_once_it_is_there() {
    let library = library(1, 3);
    let mounted = library.mount();
    let path = mounted.at("artist 0/new.flac");
    assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let asked = mounted.session().stats().lookups;
    for _ in 0..5 {
        assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(mounted.session().stats().lookups, asked, "the kernel remembers that there is none");
    library.put_bytes("artist 0/new.flac", b"new");
    eventually_blocking("the new entry is found", || fs::metadata(&path).is_ok());
}

#[test]
fn entry_removed_from_a_listed_directory_goes() {
    let library = library(2, 3);
    let mounted = library.mount();
    walk(mounted.path());
    library.remove("artist 0/001 - title.flac");
    let dir = mounted.at("artist 0");
    eventually_blocking("the entry is gone from the listing", || names(&dir).len() == 2);
    let gone = mounted.at("artist 0/001 - title.flac");
    eventually_blocking("the entry is not found", || fs::metadata(&gone).is_err());
    for file in ["000", "002"] {
        library.remove(&format!("artist 0/{file} - title.flac"));
    }
    eventually_blocking("the empty directory is gone", || names(mounted.path()) == ["artist 1"]);
    eventually_blocking("the empty directory is not found", || fs::metadata(&dir).is_err());
}

#[test]
fn moved_file_keeps_its_inode_and_is_found_in_its_new_place() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"music");
    let mounted = library.mount();
    let ino = fs::metadata(mounted.at("A/x.flac")).unwrap().ino();
    let id = Library::id("A/x.flac");
    let path = musicfs_core::VirtualPath::from_text("B/y.flac").unwrap();
    library.apply(vec![musicfs_core::Op::Place(musicfs_core::Placement { id, path, prefer: 0 })]);
    eventually_blocking("the file is in its new place", || mounted.at("B/y.flac").exists());
    eventually_blocking("the file is gone from its old place", || !mounted.at("A").exists());
    let found = fs::metadata(mounted.at("B/y.flac")).unwrap();
    assert_eq!((found.ino(), found.nlink()), (ino, 1));
    assert_eq!(fs::read(mounted.at("B/y.flac")).unwrap(), b"music");
}

#[test]
fn scan_of_what_nobody_looked_at_sends_no_notifications() {
    let library = Library::new();
    library.put_bytes("seen/x.flac", b"x");
    let mounted = library.mount();
    names(&mounted.at("seen"));
    for dir in 0..50 {
        let ops = (0..100).flat_map(|n| Library::ops(&format!("artist {dir}/{n}.flac"), 1, UnixNanos(5)));
        library.apply(ops.collect());
    }
    eventually_blocking("the root lists the new", || names(mounted.path()).len() == 51);
    let sent = mounted.session().stats().notifications;
    assert!(sent <= 200, "{sent} notifications for 5000 files");
}

#[test]
fn changes_that_were_lost_are_looked_up_again() {
    // The catalogue keeps no changes at all.
    let library = Library::with(MemoryMetaDb::new().keeping_changes_of(0));
    library.put_bytes("artist 0/x.flac", b"x");
    let mounted = library.mount();
    walk(mounted.path());
    let missing = mounted.at("artist 0/new.flac");
    assert!(!missing.exists());
    library.put_bytes("artist 0/new.flac", b"new");
    eventually_blocking("the entry is found although its change was lost", || missing.exists());
}

#[test]
fn statfs_tells_the_size_of_the_library() {
    let library = library(4, 10);
    let mounted = library.mount();
    let stat = nix::sys::statvfs::statvfs(mounted.path()).unwrap();
    let bytes: u64 = 4 * (0..10).map(|n| 1000 + n).sum::<u64>();
    assert_eq!((stat.block_size(), stat.fragment_size(), stat.name_max()), (4096, 4096, 255));
    assert_eq!((stat.blocks(), stat.blocks_free(), stat.blocks_available()), (bytes.div_ceil(4096), 0, 0));
    assert_eq!((stat.files(), stat.files_free()), (40 + 4 + 1, 0));
}
