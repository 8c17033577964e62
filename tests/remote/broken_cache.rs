//! A cache that is damaged, full, read-only or gone: right bytes all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_test_utils::{eventually_blocking, eventually_within};
use musicfs_tests::disk::SmallDisk;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use musicfs_tests::mount::Mount;

use crate::served::{Kind, Served};
use crate::{chunk_files, chunks, read_afresh, wait_cached};

const LARGE: usize = 16 << 20;

struct Cached {
    served: Served,
    home: Home,
    wanted: Vec<u8>,
}

impl Cached {
    fn new() -> Self {
        let (served, home) = (Served::empty(Kind::Webdav), Home::new());
        let wanted = served.add("long.flac", "Long", LARGE);
        home.configure(&served.table("nas", ""));
        Self { served, home, wanted }
    }

    fn mount(&self) -> (Mount<'_>, PathBuf) {
        let mount = self.home.mount_configured();
        mount.wait_scanned();
        let path = mount.join(files::files(&mount.at()).remove(0));
        (mount, path)
    }

    fn assert_whole(&self, path: &Path) {
        assert!(
            read_afresh(path, 0, self.wanted.len()).unwrap() == self.wanted,
            "{} differs",
            path.display()
        );
    }
}

#[test]
fn chunks_damaged_cut_or_deleted_are_fetched_again_and_counted() {
    let cached = Cached::new();
    let (mount, path) = cached.mount();
    cached.assert_whole(&path);
    wait_cached(&path, "full");
    mount.unmount();
    let all = chunk_files(&cached.home);
    assert!(all.len() >= 12, "{} chunks", all.len());
    for (n, chunk) in all.iter().enumerate() {
        let mut bytes = fs::read(chunk).unwrap();
        match n % 3 {
            0 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(chunk, bytes).unwrap();
            }
            1 => fs::write(chunk, &bytes[..bytes.len() / 2]).unwrap(),
            _ => fs::remove_file(chunk).unwrap(),
        }
    }
    let (mount, path) = cached.mount();
    cached.assert_whole(&path);
    let cache = mount.status()["cache"].clone();
    assert!(cache["repaired"].as_u64().unwrap() > 0, "{cache}");
    wait_cached(&path, "full");
    mount.unmount();

    let Cached { mut served, home, wanted } = cached;
    served.kill();
    let mount = home.mount_configured();
    let path = mount.join(files::files(&mount.at()).remove(0));
    assert!(fs::read(&path).unwrap() == wanted, "the repair did not last");
    mount.unmount();
}

#[test]
fn cache_on_a_full_disk_costs_the_cache_only() {
    let cached = Cached::new();
    let dir = chunks(&cached.home);
    let _disk = SmallDisk::over(&dir, "size=3m");
    let (mount, path) = cached.mount();
    for _ in 0..2 {
        cached.assert_whole(&path);
    }
    let stored = mount.status()["cache"]["size"].as_u64().unwrap();
    assert!(stored <= 3 << 20, "{stored} bytes in 3 MiB");
    mount.unmount();
}

#[test]
fn cache_that_becomes_read_only_costs_the_cache_only() {
    let cached = Cached::new();
    let dir = chunks(&cached.home);
    let disk = SmallDisk::over(&dir, "size=64m");
    let (mount, path) = cached.mount();
    assert!(read_afresh(&path, 0, 1 << 20).unwrap() == cached.wanted[..1 << 20]);
    disk.make_read_only();
    cached.assert_whole(&path);
    // Nobody who reads waits for what is stored.
    eventually_blocking("the cache to be passed by", || mount.status()["cache"]["passing_through"] == true);
    mount.unmount();
}

#[test]
fn cache_that_fails_and_is_well_again_is_used_again_and_both_are_told() {
    let cached = Cached::new();
    let dir = chunks(&cached.home);
    let disk = SmallDisk::over(&dir, "size=64m");
    let (mount, path) = cached.mount();
    let types = ["--json", "--type", "cache_unavailable,cache_available"];
    let mut listener = Listener::start(&cached.home, &types);
    disk.make_read_only();
    cached.assert_whole(&path);
    let told = listener.event();
    assert_eq!(told["type"], "cache_unavailable");
    assert!(told["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{told}");
    disk.make_writable();
    // It is tried again after a minute.
    eventually_within(Duration::from_secs(100), "the cache to be tried again", || {
        mount.status()["cache"]["passing_through"] == false
    });
    cached.assert_whole(&path);
    assert_eq!(listener.event()["type"], "cache_available");
    wait_cached(&path, "full");
    mount.unmount();
}

#[test]
fn cache_that_is_removed_while_in_use_costs_the_cache_only() {
    let cached = Cached::new();
    let (mount, path) = cached.mount();
    cached.assert_whole(&path);
    wait_cached(&path, "full");
    fs::remove_dir_all(chunks(&cached.home)).unwrap();
    for _ in 0..2 {
        cached.assert_whole(&path);
    }
    mount.unmount();
}

#[test]
fn cache_that_cannot_be_opened_costs_the_cache_only() {
    let cached = Cached::new();
    fs::create_dir_all(cached.home.folder("cache/musicfs")).unwrap();
    fs::write(chunks(&cached.home), "not a folder").unwrap();
    let (mount, path) = cached.mount();
    cached.assert_whole(&path);
    let status = mount.status();
    let said = status["notices"].to_string() + &status["cache"].to_string();
    assert!(said.contains("cached") || status["cache"]["passing_through"] == true, "{status}");
    mount.unmount();
}
