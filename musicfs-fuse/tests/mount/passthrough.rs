//! Files that the kernel reads by itself: the same bytes, and no reads for the daemon.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use musicfs_fuse::MountOptions;
use musicfs_test_utils::eventually_blocking;

use crate::support::{Content, Library, noise};

fn on_disk(dir: &Path, name: &str, bytes: &[u8]) -> Content {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    Content::File(path)
}

#[test]
fn content_is_identical_with_and_without() {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    for (n, len) in [0, 1, 4097, 2_000_003].into_iter().enumerate() {
        library.put(&format!("{n}.flac"), on_disk(origin.path(), &n.to_string(), &noise(n as u64, len)));
    }
    for passthrough in [true, false] {
        let mounted = library.mount_with(MountOptions { passthrough, ..MountOptions::default() });
        for (n, len) in [0, 1, 4097, 2_000_003].into_iter().enumerate() {
            let path = mounted.at(&format!("{n}.flac"));
            assert!(fs::read(&path).unwrap() == noise(n as u64, len));
            if len > 5000 {
                let mut piece = [0; 1000];
                File::open(&path).unwrap().read_exact_at(&mut piece, 3333).unwrap();
                assert!(piece == noise(n as u64, len)[3333..4333]);
            }
        }
        let stats = mounted.session().stats();
        if passthrough {
            assert_eq!((stats.passthrough_opens, stats.reads), (5, 0), "{stats:?}");
        } else {
            assert_eq!(stats.passthrough_opens, 0);
            assert!(stats.reads > 0);
        }
        assert!(!stats.passthrough_refused);
    }
}

#[test]
fn many_handles_of_one_file_share_it_and_the_last_one_lets_go() {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    library.put("x.flac", on_disk(origin.path(), "x", &noise(1, 100_000)));
    let mounted = library.mount();
    for _ in 0..3 {
        let handles: Vec<_> = (0..10).map(|_| File::open(mounted.at("x.flac")).unwrap()).collect();
        for handle in &handles {
            let mut bytes = vec![0; 100_000];
            handle.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == noise(1, 100_000));
        }
        drop(handles);
        eventually_blocking("all handles are closed", || mounted.session().stats().open_handles == 0);
    }
    assert_eq!(mounted.session().stats().reads, 0);
}

#[test]
fn file_opened_through_the_daemon_stays_so_until_it_is_closed() {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    let bytes = noise(1, 100_000);
    library.put_bytes("x.flac", &bytes);
    let mounted = library.mount();
    let first = File::open(mounted.at("x.flac")).unwrap();
    // The same version turns out to be on disk: fetched meanwhile, say.
    library.same_version("x.flac", on_disk(origin.path(), "x", &bytes));
    let second = File::open(mounted.at("x.flac")).unwrap();
    for handle in [&first, &second] {
        let mut read = vec![0; 100_000];
        handle.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
    }
    assert_eq!(mounted.session().stats().passthrough_opens, 0);
    drop((first, second));
    eventually_blocking("all handles are closed", || mounted.session().stats().open_handles == 0);
    assert!(fs::read(mounted.at("x.flac")).unwrap() == bytes);
    assert_eq!(mounted.session().stats().passthrough_opens, 1);
}

/// Tells how long a file is that is open, and its inode number.
fn stat(file: &File) -> (u64, u64) {
    let found = file.metadata().unwrap();
    (found.len(), found.ino())
}

/// Maps a file into memory, shared and private, and sends it, as programs do that do not read; the three must agree.
fn mapped_and_sent(path: &Path) -> Vec<u8> {
    const SCRIPT: &str = "
import mmap, os, sys
with open(sys.argv[1], 'rb') as file:
    size = os.fstat(file.fileno()).st_size
    seen = []
    for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        with mmap.mmap(file.fileno(), size, flags, mmap.PROT_READ) as mapped:
            seen.append(mapped[:])
    with open(sys.argv[2], 'w+b') as sent:
        at = 0
        while at < size + 1:
            some = os.sendfile(sent.fileno(), file.fileno(), at, size + 1 - at)
            if some == 0:
                break
            at += some
        sent.seek(0)
        seen.append(sent.read())
    assert seen[0] == seen[1] == seen[2], [len(one) for one in seen]
";
    let sent = tempfile::NamedTempFile::new().unwrap();
    let ran = Command::new("python3").args(["-c", SCRIPT]).arg(path).arg(sent.path()).output().unwrap();
    assert!(ran.status.success(), "{:?}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    fs::read(sent.path()).unwrap()
}

fn replaced_file_plays_on_and_is_opened_anew_at_once(passthrough: bool, old_len: usize, new_len: usize) {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    library.keep_old_versions();
    let (old, new) = (noise(1, old_len), noise(2, new_len));
    library.put("x.flac", on_disk(origin.path(), "old", &old));
    let mounted = library.mount_with(MountOptions { passthrough, ..MountOptions::default() });
    let path = mounted.at("x.flac");
    let playing = File::open(&path).unwrap();
    let mut head = [0; 1000];
    playing.read_exact_at(&mut head, 0).unwrap();
    let (len, ino) = stat(&playing);
    assert_eq!(len, old_len as u64);
    library.put("x.flac", on_disk(origin.path(), "new", &new));
    eventually_blocking("the new time", || {
        fs::metadata(&path).unwrap().modified().unwrap() > playing.metadata().unwrap().modified().unwrap()
    });
    for _ in 0..3 {
        // Each has its own bytes and size, however they are read and in whatever order.
        assert!(mapped_and_sent(&path) == new);
        assert!(fs::read(&path).unwrap() == new);
        let mut bytes = Vec::new();
        (&playing).rewind().unwrap();
        (&playing).read_to_end(&mut bytes).unwrap();
        assert!(bytes == old);
        assert_eq!(stat(&playing), (old_len as u64, ino));
        assert_eq!(stat(&File::open(&path).unwrap()), (new_len as u64, ino), "it is the same inode");
        assert_eq!(fs::metadata(&path).unwrap().ino(), ino);
    }
    // And once more, with both open.
    let another = File::open(&path).unwrap();
    let third = noise(3, new_len + 77);
    library.put("x.flac", on_disk(origin.path(), "third", &third));
    eventually_blocking("the third version", || fs::metadata(&path).unwrap().len() == third.len() as u64);
    assert!(mapped_and_sent(&path) == third);
    for (mut file, wanted) in [(&playing, &old), (&another, &new)] {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == *wanted);
    }
    drop((playing, another));
    eventually_blocking("all handles are closed", || mounted.session().stats().open_handles == 0);
    let before = mounted.session().stats();
    assert!(fs::read(&path).unwrap() == third);
    let after = mounted.session().stats();
    assert_eq!(after.passthrough_opens - before.passthrough_opens, u64::from(passthrough));
}

#[test]
fn file_replaced_while_the_kernel_reads_it_plays_on_and_is_opened_anew_at_once() {
    replaced_file_plays_on_and_is_opened_anew_at_once(true, 100_000, 120_000);
    replaced_file_plays_on_and_is_opened_anew_at_once(true, 100_000, 50_000);
}

#[test]
fn file_replaced_while_the_daemon_reads_it_plays_on_and_is_opened_anew_at_once() {
    replaced_file_plays_on_and_is_opened_anew_at_once(false, 100_000, 120_000);
    replaced_file_plays_on_and_is_opened_anew_at_once(false, 100_000, 50_000);
    replaced_file_plays_on_and_is_opened_anew_at_once(false, 100_000, 100_000);
}

#[test]
fn backing_of_another_size_is_not_given_to_the_kernel() {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    library.put_bytes("x.flac", &noise(1, 5000));
    let mounted = library.mount();
    library.same_version("x.flac", on_disk(origin.path(), "x", &noise(1, 6000)));
    assert!(fs::read(mounted.at("x.flac")).unwrap() == noise(1, 5000));
    assert_eq!(mounted.session().stats().passthrough_opens, 0);
}
