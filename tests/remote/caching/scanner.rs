//! Whoever looks at heads and tails of files, as the scanners of media servers do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use super::{asked, assert_plays, number};
use crate::served::{Kind, Served};

const TRACK: usize = 3 << 20;
const TRACKS: u32 = 8;

/// What scanners read: the beginning in small reads, up to a picture, then the end, where some formats have tags.
fn look(path: &Path, size: usize) -> Vec<u8> {
    let file = File::open(path).unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    let mut seen = Vec::new();
    let mut read = |offset: usize, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset as u64).unwrap();
        seen.extend(bytes);
    };
    for n in 0..40 {
        read(n * 4096, 4096);
    }
    read(size - 128, 128);
    read(size - (32 << 10), 32 << 10);
    seen
}

fn walk(mount: &Mount<'_>, album: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in album {
        let seen = look(&mount.join(path), bytes.len());
        let tail = bytes.len() - (32 << 10);
        let wanted = [&bytes[..40 * 4096], &bytes[bytes.len() - 128..], &bytes[tail..]].concat();
        assert!(seen == wanted, "{} differs", path.display());
    }
}

#[test]
fn scanner_costs_a_mebibyte_a_file_at_most_and_nothing_the_second_time() {
    let (mut served, home) = (Served::empty(Kind::Webdav), Home::new());
    let album = served.add_album("Seen", TRACKS, TRACK);
    home.configure(&format!("cache_size = \"24MiB\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    walk(&mount, &album);
    // What the kernel reads ahead may still be under way.
    eventually_blocking("a walk to cost the origin nothing", || {
        let before = asked(&mount);
        walk(&mount, &album);
        asked(&mount) == before
    });
    let fetched = number(&mount, "fetched");
    assert!(fetched <= u64::from(TRACKS) << 20, "{fetched} bytes for {TRACKS} files");
    assert_eq!(number(&mount, "prefetched"), 0);
    mount.unmount();

    // Nor later: what is played fills the cache, and heads and tails stay.
    let long = served.add_album("Played", 7, TRACK);
    let mount = home.mount_configured();
    mount.wait_scanned();
    eventually_blocking("the new album to be found", || mount.join(&long[6].0).exists());
    for (path, bytes) in &long {
        assert_plays(&mount, path, bytes);
    }
    assert!(number(&mount, "evicted") > 0, "the cache was never full");
    let fetched = number(&mount, "fetched");
    served.kill();
    walk(&mount, &album);
    assert_eq!(number(&mount, "fetched"), fetched);
    mount.unmount();
}
