//! Bytes.

use std::fs;
use std::sync::Barrier;
use std::thread;

use musicfs_core::AudioMeta;
use musicfs_test_utils::library::{bench_library, library_of_every_format, noise_flac};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::windows::{assert_same_at_random, assert_same_mapped};
use serde_json::Value;
use tempfile::TempDir;

/// Size of the one large file, in bytes: many times the kernel's read-ahead.
const LARGE: usize = 24 << 20;

fn library() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    library_of_every_format(dir.path()).unwrap();
    let audio =
        AudioMeta { title: Some("Long".into()), artists: vec!["Noise".into()], ..AudioMeta::default() };
    fs::write(dir.path().join("long.flac"), noise_flac(&audio, LARGE)).unwrap();
    dir
}

/// Reads every file in every way, and returns what the mount counted meanwhile.
fn assert_every_byte_is_the_origins(args: &[&str]) -> Value {
    let (music, home) = (library(), Home::new());
    let mount = home.mount_with(music.path(), args);
    let found = files::files(&mount.at());
    assert_eq!(found.len(), files::files(music.path()).len());
    for path in found {
        let path = mount.join(path);
        let origin = files::attribute(&path, "user.musicfs.path").unwrap();
        let wanted = fs::read(music.path().join(origin)).unwrap();
        assert_same_at_random(&path, &wanted);
        assert_same_mapped(&path, &wanted);
        assert!(fs::read(&path).unwrap() == wanted, "{} differs", path.display());
        assert_eq!(files::hash(&path), blake3::hash(&wanted));
    }
    let counted = mount.status()["fuse"].clone();
    mount.unmount();
    counted
}

#[test]
fn bytes_equal_the_origins_however_they_are_read() {
    let counted = assert_every_byte_is_the_origins(&[]);
    // Where the kernel may read by itself, it does; else it says that it may not.
    let by_kernel = counted["passthrough_opens"].as_u64().unwrap() > 0;
    assert_ne!(by_kernel, counted["passthrough_refused"] == true, "{counted}");
}

#[test]
fn bytes_equal_the_origins_without_passthrough() {
    let counted = assert_every_byte_is_the_origins(&["--no-passthrough"]);
    assert_eq!(counted["passthrough_opens"], 0, "{counted}");
    assert!(counted["read_bytes"].as_u64().unwrap() >= LARGE as u64, "{counted}");
}

#[test]
fn hundred_files_read_at_once_all_arrive() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    bench_library(music.path(), 100).unwrap();
    let mount = home.mount_with(music.path(), &["--no-passthrough"]);
    let found = files::files(&mount.at());
    assert_eq!(found.len(), 100);
    let start = Barrier::new(found.len());
    thread::scope(|scope| {
        for path in &found {
            let (path, start, music) = (mount.join(path), &start, music.path());
            scope.spawn(move || {
                start.wait();
                let bytes = fs::read(&path).unwrap();
                let origin = files::attribute(&path, "user.musicfs.path").unwrap();
                assert!(bytes == fs::read(music.join(origin)).unwrap(), "{} differs", path.display());
            });
        }
    });
}
