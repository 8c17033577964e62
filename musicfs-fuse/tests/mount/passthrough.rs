//! Files that the kernel reads by itself: the same bytes, and no reads for the daemon.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

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

#[test]
fn file_replaced_while_the_kernel_reads_it_plays_on_and_is_opened_anew_at_once() {
    let origin = tempfile::tempdir().unwrap();
    let library = Library::new();
    library.put("x.flac", on_disk(origin.path(), "old", &noise(1, 100_000)));
    let mounted = library.mount();
    let playing = File::open(mounted.at("x.flac")).unwrap();
    library.put("x.flac", on_disk(origin.path(), "new", &noise(2, 120_000)));
    eventually_blocking("the new version is read", || {
        fs::read(mounted.at("x.flac")).is_ok_and(|bytes| bytes == noise(2, 120_000))
    });
    let another = File::open(mounted.at("x.flac")).unwrap();
    let mut bytes = vec![0; 100_000];
    playing.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == noise(1, 100_000));
    drop(playing);
    assert!(fs::read(mounted.at("x.flac")).unwrap() == noise(2, 120_000));
    drop(another);
    eventually_blocking("all handles are closed", || mounted.session().stats().open_handles == 0);
    let before = mounted.session().stats();
    assert!(fs::read(mounted.at("x.flac")).unwrap() == noise(2, 120_000));
    let after = mounted.session().stats();
    assert_eq!(after.reads, before.reads, "the kernel reads by itself again");
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
