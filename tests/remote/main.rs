//! Music on servers, mounted by the real binary: real servers, as ordinary processes, and a proxy that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broken_cache;
mod bytes;
mod health;
mod outage;
mod replaced;
mod served;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

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
        musicfs_tests::files::attribute(path, "user.musicfs.cached").as_deref() == Some(state)
    });
}
