//! The filesystem's logic, called as the kernel's adapter calls it.

use musicfs_core::{Batch, Ino, MetaDb, ROOT_INODE, UnixNanos};
use musicfs_fuse::{Emitted, FsError, Listing, Xattr};
use proptest::prelude::*;

use crate::support::{Library, noise};

/// One page of a listing: at most `room` entries, with where each goes on.
fn page(library: &Library, dir: Ino, from: u64, room: usize) -> Vec<(String, u64)> {
    let mut entries = Vec::new();
    let fs = library.fs();
    fs.readdir(dir, from, Listing::Attributes, &mut |entry| {
        if entries.len() == room {
            return Emitted::Full;
        }
        entries.push((String::from_utf8_lossy(entry.name).into_owned(), entry.next));
        Emitted::Taken
    })
    .unwrap();
    entries
}

#[test]
fn dot_and_dotdot_are_looked_up_by_inode() {
    let library = Library::new();
    library.put_bytes("A/B/x.flac", b"x");
    let fs = library.fs();
    let a = fs.lookup(ROOT_INODE, b"A").unwrap().ino;
    let b = fs.lookup(a, b"B").unwrap().ino;
    let x = fs.lookup(b, b"x.flac").unwrap().ino;
    assert_eq!(fs.lookup(b, b"..").unwrap().ino, a);
    assert_eq!(fs.lookup(b, b".").unwrap().ino, b);
    assert_eq!(fs.lookup(ROOT_INODE, b"..").unwrap().ino, ROOT_INODE);
    assert_eq!(fs.lookup(x, b".").unwrap().size, 1);
    assert_eq!(fs.lookup(x, b"..").unwrap().ino, b);
    assert_eq!(fs.lookup(a, b"x.flac"), Err(FsError::NotFound));
    assert_eq!(fs.getattr(Ino::from_raw(99)), Err(FsError::Stale));
}

#[test]
fn listing_starts_with_dot_and_dotdot_wherever_the_page_ends() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"x");
    library.put_bytes("A/y.flac", b"y");
    let a = library.fs().lookup(ROOT_INODE, b"A").unwrap().ino;
    let mut listed = Vec::new();
    let mut from = 0;
    while let Some((name, next)) = page(&library, a, from, 1).pop() {
        listed.push(name);
        from = next;
    }
    assert_eq!(listed, [".", "..", "x.flac", "y.flac"]);
    let x = library.fs().lookup(a, b"x.flac").unwrap().ino;
    let listed = library.fs().readdir(x, 0, Listing::Names, &mut |_| Emitted::Taken);
    assert_eq!(listed, Err(FsError::NotADirectory));
}

#[test]
fn listing_never_loads_the_directory() {
    let library = Library::new();
    let ops = (0..5000).flat_map(|n| Library::ops(&format!("A/{n}.flac"), n, UnixNanos(5)));
    library.apply(ops.collect());
    let a = library.fs().lookup(ROOT_INODE, b"A").unwrap().ino;
    let before = library.db.lists();
    assert_eq!(page(&library, a, 0, 20).len(), 20);
    assert_eq!(library.db.lists() - before, 1, "one page of the catalogue for one page of the kernel");
}

proptest! {
    // Each case makes a library of sixty files.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn listing_shows_what_stays_exactly_once_whatever_changes_meanwhile(
        steps in prop::collection::vec((0u8..3, 0usize..60), 0..60),
        room in 1usize..8,
    ) {
        let library = Library::new();
        let stays = |n: usize| format!("A/stays {n}.flac");
        let goes = |n: usize| format!("A/goes {n}.flac");
        for n in 0..30 {
            library.put_bytes(&stays(n), b"x");
            library.put_bytes(&goes(n), b"x");
        }
        let a = library.fs().lookup(ROOT_INODE, b"A").unwrap().ino;
        let (mut listed, mut from, mut steps) = (Vec::new(), 0, steps.into_iter());
        loop {
            let entries = page(&library, a, from, room);
            let Some((_, next)) = entries.last() else { break };
            from = *next;
            listed.extend(entries.into_iter().map(|(name, _)| name));
            if let Some((what, n)) = steps.next() {
                match what {
                    0 if n < 30 => library.remove(&goes(n)),
                    1 => library.put_bytes(&format!("A/new {n}.flac"), b"x"),
                    _ => {}
                }
            }
        }
        for n in 0..30 {
            let name = format!("stays {n}.flac");
            prop_assert_eq!(listed.iter().filter(|l| **l == name).count(), 1, "{} in {:?}", name, &listed);
        }
        let mut unique = listed.clone();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), listed.len());
    }
}

#[tokio::test]
async fn handle_reads_its_file_until_it_is_released() {
    let library = Library::new();
    let bytes = noise(3, 10_000);
    library.put_bytes("x.flac", &bytes);
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    let opened = fs.open(ino).await.unwrap();
    assert_eq!(fs.read(opened.handle, 100, 50).await.unwrap(), bytes[100..150]);
    assert_eq!(fs.read(opened.handle, 9_990, 50).await.unwrap(), bytes[9_990..]);
    assert_eq!(fs.read(opened.handle, 10_000, 50).await.unwrap().len(), 0);
    assert_eq!(fs.stats().open_handles, 1);
    fs.release(opened.handle);
    assert_eq!(fs.read(opened.handle, 0, 50).await, Err(FsError::BadHandle));
    assert_eq!(fs.stats().open_handles, 0);
    assert_eq!(fs.open(ROOT_INODE).await.unwrap_err(), FsError::IsADirectory);
}

#[tokio::test]
async fn open_file_that_left_the_tree_keeps_its_attributes() {
    let library = Library::new();
    library.put_bytes("x.flac", b"12345");
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    let opened = fs.open(ino).await.unwrap();
    library.remove("x.flac");
    assert_eq!(fs.getattr(ino).unwrap().size, 5);
    fs.release(opened.handle);
    assert_eq!(fs.getattr(ino), Err(FsError::Stale));
}

#[tokio::test]
async fn file_replaced_while_it_is_open_is_known_by_another_number() {
    let library = Library::new();
    library.put_bytes("x.flac", &noise(1, 1000));
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    let old = fs.open(ino).await.unwrap();
    // The catalogue learns of a longer version; the store still has the old one for this handle.
    library.apply(Library::ops("x.flac", 5000, UnixNanos(77)).into());
    let found = fs.lookup(ROOT_INODE, b"x.flac").unwrap();
    assert_eq!((found.ino, found.size), (ino, 5000));
    assert_ne!(found.number, ino);
    assert_eq!((fs.getattr(found.number).unwrap().size, fs.getattr(ino).unwrap().size), (5000, 1000));
    assert_eq!(fs.lookup(found.number, b".").unwrap(), found);
    assert_eq!(fs.lookup(found.number, b"..").unwrap().ino, ROOT_INODE);
    assert_eq!(fs.read(old.handle, 900, 4096).await.unwrap(), noise(1, 1000)[900..]);
    assert_eq!(fs.open(ino).await.unwrap_err(), FsError::Stale);
    library.put_bytes("x.flac", &noise(2, 3000));
    let new = fs.open(found.number).await.unwrap();
    assert_eq!(fs.read(new.handle, 0, 4096).await.unwrap(), noise(2, 3000));
    assert_eq!(fs.read(old.handle, 0, 10).await, Err(FsError::Stale), "its bytes are nowhere any more");
    fs.release(old.handle);
    assert_eq!(fs.getattr(ino), Err(FsError::Stale));
    assert_eq!(fs.lookup(ROOT_INODE, b"x.flac").unwrap().number, found.number);
}

#[tokio::test]
async fn version_replaced_between_finding_and_opening_it_is_not_opened() {
    let library = Library::new();
    library.put_bytes("x.flac", &noise(1, 1000));
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    // While the reader has the file opened, the catalogue learns of another version.
    let ops = std::sync::Mutex::new(Some(Library::ops("x.flac", 5000, UnixNanos(77))));
    let db = library.db.clone();
    *library.store.opening.lock() = Some(Box::new(move || {
        if let Some(ops) = ops.lock().unwrap().take() {
            db.apply(&Batch { at: UnixNanos(9), ops: ops.into() }).unwrap();
        }
    }));
    assert_eq!(fs.open(ino).await.unwrap_err(), FsError::Stale);
    assert_eq!(fs.stats().open_handles, 0);
    let found = fs.lookup(ROOT_INODE, b"x.flac").unwrap();
    assert_eq!((found.number, found.size), (ino, 5000), "nothing is open under the number");
}

#[tokio::test]
async fn opening_a_changed_file_is_stale_and_the_catalogue_is_right_after_it() {
    let library = Library::new();
    library.put_bytes("x.flac", b"old");
    library.replace("x.flac", crate::support::Content::Bytes(noise(4, 77).into()));
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    assert_eq!(fs.open(ino).await.unwrap_err(), FsError::Stale);
    assert_eq!(fs.getattr(ino).unwrap().size, 77);
    let opened = fs.open(ino).await.unwrap();
    assert_eq!(fs.read(opened.handle, 0, 100).await.unwrap(), noise(4, 77));
}

#[tokio::test]
async fn xattr_of_a_wrong_size_or_name_is_refused() {
    let library = Library::new();
    library.put_bytes("x.flac", b"12345");
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    let hash = b"user.musicfs.hash";
    let opens = fs.stats().opens;
    assert_eq!(fs.getxattr(ino, hash, 0).await, Ok(Xattr::Size(71)));
    assert_eq!(fs.getxattr(ino, hash, 70).await, Err(FsError::BufferTooSmall));
    let Ok(Xattr::Value(value)) = fs.getxattr(ino, hash, 71).await else { panic!() };
    assert_eq!(value.len(), 71);
    assert_eq!(fs.getxattr(ino, b"user.musicfs.path", 5).await, Err(FsError::BufferTooSmall));
    assert_eq!(fs.getxattr(ino, b"user.musicfs.path", 0).await, Ok(Xattr::Size(6)));
    assert_eq!(fs.getxattr(ino, b"user.musicfs.error", 100).await, Err(FsError::NoAttribute));
    assert_eq!(fs.getxattr(ino, b"security.capability", 100).await, Err(FsError::NoAttribute));
    assert_eq!(fs.getxattr(ROOT_INODE, hash, 100).await, Err(FsError::NoAttribute));
    assert_eq!(fs.listxattr(ROOT_INODE, 0), Ok(Xattr::Size(0)));
    assert_eq!(fs.listxattr(ino, 3), Err(FsError::BufferTooSmall));
    assert_eq!(fs.stats().opens, opens);
}

#[tokio::test]
async fn unparsed_file_tells_why_and_a_path_that_is_not_utf8_is_told_as_it_is() {
    let library = Library::new();
    let mut ops = Library::ops("x.flac", 5, UnixNanos(5));
    let musicfs_core::Op::PutFile(file) = &mut ops[0] else { panic!() };
    file.kind = musicfs_core::FileKind::Unparsed;
    file.format = None;
    file.problem = Some("not a FLAC file".into());
    file.path = musicfs_core::OriginPath::new(b"d\xff/x.flac").unwrap();
    library.apply(ops.into());
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    let value = |name: &'static [u8]| {
        let fs = &fs;
        async move {
            match fs.getxattr(ino, name, 100).await {
                Ok(Xattr::Value(value)) => Ok(value.to_vec()),
                other => Err(other),
            }
        }
    };
    assert_eq!(value(b"user.musicfs.error").await, Ok(b"not a FLAC file".to_vec()));
    assert_eq!(value(b"user.musicfs.path").await, Ok(b"d\xff/x.flac".to_vec()));
    assert_eq!(value(b"user.musicfs.format").await, Err(Err(FsError::NoAttribute)));
    let Ok(Xattr::Value(names)) = fs.listxattr(ino, 1000) else { panic!() };
    let names = String::from_utf8(names.to_vec()).unwrap();
    assert!(names.contains("user.musicfs.error\0") && !names.contains("format"), "{names}");
}

#[test]
fn access_allows_reading_only() {
    let library = Library::new();
    library.put_bytes("x.flac", b"x");
    let fs = library.fs();
    let ino = Library::id("x.flac").ino();
    assert_eq!(fs.access(ino, nix::libc::R_OK), Ok(()));
    assert_eq!(fs.access(ino, nix::libc::W_OK), Err(FsError::ReadOnly));
    assert_eq!(fs.access(ino, nix::libc::X_OK), Err(FsError::Denied));
    assert_eq!(fs.access(ROOT_INODE, nix::libc::R_OK | nix::libc::X_OK), Ok(()));
}
