//! How much the cache may take.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::disk::SmallDisk;
use musicfs_tests::home::Home;

use super::{assert_plays, bytes_on_disk, cache, number, state};
use crate::served::{Kind, Served};
use crate::{chunk_files, chunks};

/// What a limit may be exceeded by: one chunk.
const CHUNK: u64 = 2 << 20;

/// Returns what is taken of the disk that holds the chunks and nothing else, but for the index beside them. The
/// system tells it in one answer: what is counted file by file changes meanwhile.
fn taken(chunks: &Path) -> u64 {
    let disk = nix::sys::statvfs::statvfs(chunks).unwrap();
    let taken = (disk.blocks() - disk.blocks_free()) * disk.fragment_size();
    let index = fs::read_dir(chunks.join("index-1")).into_iter().flatten().map_while(Result::ok);
    let index: u64 = index.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum();
    taken.saturating_sub(index)
}

#[test]
fn limit_is_never_exceeded_by_more_than_a_chunk_while_ten_times_as_much_is_read() {
    const LIMIT: u64 = 8 << 20;
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let album = served.add_album("Long", 20, LIMIT as usize / 2);
    assert!(album.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() >= 10 * LIMIT);
    home.configure(&format!("cache_size = \"8MiB\"\n{}", served.table("nas", "")));
    let dir = chunks(&home);
    let _disk = SmallDisk::over(&dir, "size=64m");
    let mount = home.mount_configured();
    mount.wait_scanned();
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                most.fetch_max(taken(&dir), Ordering::AcqRel);
            }
        });
        // Two read at once, as a player and a scanner may.
        let readers: Vec<_> = album
            .chunks(album.len() / 2)
            .map(|part| {
                let mount = &mount;
                scope.spawn(move || part.iter().for_each(|(path, bytes)| assert_plays(mount, path, bytes)))
            })
            .collect();
        let failed = readers.into_iter().map(|reader| reader.join()).filter(Result::is_err).count();
        done.store(true, Ordering::Release);
        assert_eq!(failed, 0, "a reader failed");
    });
    let most = most.into_inner();
    assert!(most <= LIMIT + CHUNK, "{most} bytes were on the disk, {LIMIT} are allowed");
    assert!(most > LIMIT / 2, "{most} bytes were on the disk at the most: nothing is kept");
    let cache = cache(&mount);
    assert_eq!(cache["max_size"].as_u64(), Some(LIMIT));
    assert_eq!(cache["passing_through"], false, "{cache}");
    let fetched: u64 = album.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(cache["fetched"].as_u64() < Some(fetched * 3 / 2), "too much was fetched: {cache}");
    // What is fetched ahead goes on for a while.
    eventually_blocking("the sum to be what is on the disk", || {
        number(&mount, "size") == bytes_on_disk(&home)
    });
    mount.unmount();
}

#[test]
fn part_of_the_disk_that_is_to_stay_free_stays_free() {
    const DISK: u64 = 24 << 20;
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let album = served.add_album("Long", 6, 4 << 20);
    let dir = chunks(&home);
    let _disk = SmallDisk::over(&dir, &format!("size={DISK}"));
    home.configure(&served.table("nas", ""));
    let args = ["--cache-min-free", "50"].map(std::ffi::OsString::from);
    let mount = musicfs_tests::mount::Mount::start_configured(&home, &args);
    mount.wait_scanned();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
        let disk = nix::sys::statvfs::statvfs(&dir).unwrap();
        let free = disk.blocks_available() * disk.fragment_size();
        assert!(free + CHUNK >= DISK / 2, "{free} bytes are free");
    }
    assert!(number(&mount, "size") > DISK / 8, "nothing is kept");
    assert!(number(&mount, "evicted") > 0);
    mount.unmount();
}

#[test]
fn what_is_too_old_goes_and_what_is_younger_or_pinned_stays() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    let album = served.add_album("Long", 3, 2 << 20);
    home.configure(&format!("cache_max_age = \"1h\"\nprefetch = false\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let play = |mount: &_, n: usize| {
        let (path, bytes) = &album[n];
        assert_plays(mount, path, bytes);
    };
    play(&mount, 0);
    crate::wait_cached(&mount.join(&album[0].0), "full");
    let pinned = mount.join(&album[1].0);
    home.succeed(["cache", "pin", pinned.to_str().unwrap()]);
    let old = chunk_files(&home);
    play(&mount, 2);
    crate::wait_cached(&mount.join(&album[2].0), "full");
    mount.unmount();

    // When each was used last is in the index; without it, the files say.
    for chunk in &old {
        let written = fs::metadata(chunk).unwrap().modified().unwrap();
        let long_ago = written - Duration::from_secs(7200);
        fs::File::options().write(true).open(chunk).unwrap().set_modified(long_ago).unwrap();
    }
    let young: Vec<PathBuf> = chunk_files(&home).into_iter().filter(|chunk| !old.contains(chunk)).collect();
    assert!(young.len() > 2);
    for index in fs::read_dir(chunks(&home)).unwrap().map(Result::unwrap) {
        if index.file_name().to_string_lossy().starts_with("index") {
            fs::remove_dir_all(index.path()).unwrap();
        }
    }
    let mount = home.mount_configured();
    eventually_blocking("what is too old to go", || state(&mount, &album[0].0).as_deref() == Some("none"));
    assert_eq!(state(&mount, &album[1].0).as_deref(), Some("full"), "it is pinned");
    assert!(young.iter().all(|chunk| chunk.exists()));
    assert!(number(&mount, "evicted") > 0);
    play(&mount, 0);
    mount.unmount();
}

#[test]
fn configured_limits_are_shown() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    served.add("one.flac", "One", 1000);
    let keys = "cache_size = \"3GB\"\ncache_max_age = \"30d\"\nprefetch = false\n";
    home.configure(&format!("{keys}{}", served.table("nas", "")));
    let shown = home.succeed(["config", "show"]);
    for line in ["cache_size = \"3GB\"", "cache_max_age = ", "cache_min_free = 0", "prefetch = false"] {
        assert!(shown.contains(line), "no {line} in\n{shown}");
    }
    let mount = home.mount_configured();
    let cache = cache(&mount);
    assert_eq!(
        (cache["max_size"].as_u64(), &cache["prefetch"]),
        (Some(3_000_000_000), &false.into()),
        "{cache}"
    );
    let said = home.succeed(["status"]);
    assert!(said.contains("0 B of 2.8 GiB"), "{said}");
    mount.unmount();
}
