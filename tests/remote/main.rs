//! Music on servers, mounted by the real binary: real servers, as ordinary processes, and a proxy that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod away;
mod broken_cache;
mod bytes;
mod caching;
mod failover;
mod first_mount;
mod health;
mod left_alone;
mod listing;
mod outage;
mod refused;
mod renamed;
mod replaced;
mod retag;
mod served;
mod side_by_side;
mod verify;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_tests::files;
use musicfs_tests::home::Home;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Returns the folder that holds the cache's chunks.
fn chunks(home: &Home) -> PathBuf {
    home.folder("cache/musicfs/chunks")
}

/// Returns the files of all chunks, those being written left out.
fn chunk_files(home: &Home) -> Vec<PathBuf> {
    let dir = chunks(home);
    let is_chunk = |path: &PathBuf| {
        let len = |name: Option<&std::ffi::OsStr>| name.map_or(0, std::ffi::OsStr::len);
        len(path.file_name()) == 64 && len(path.parent().map(Path::as_os_str)) == 2
    };
    files::files(&dir).into_iter().filter(is_chunk).map(|path| dir.join(path)).collect()
}

/// Reads a range past the kernel's page cache.
fn read_afresh(path: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Waits until so much of a file is cached: what was read is stored a little later.
fn wait_cached(path: &Path, state: &str) {
    musicfs_test_utils::eventually_blocking(&format!("{} to be cached: {state}", path.display()), || {
        files::attribute(path, "user.musicfs.cached").as_deref() == Some(state)
    });
}
