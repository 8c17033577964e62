//! The cache directory's lock: one daemon, or one scan, at a time.
//!
//! The lock is `flock` on the file `lock`, which the kernel drops with the process, however that ends. The file
//! says who holds it; it is written only after the lock is held, and never removed, as a new file of the same name
//! would be another lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{output, process};

/// The file's name.
const FILE: &str = "lock";

/// Who holds a cache directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The process.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// Since when it holds the lock, in seconds since 1970.
    pub(crate) since: i64,
    /// What it has mounted; `None` for a scan without a mount.
    pub(crate) mountpoint: Option<PathBuf>,
}

impl Holder {
    /// Describes this process.
    pub(crate) fn this(mountpoint: Option<PathBuf>, unix_secs: i64) -> Self {
        let pid = std::process::id();
        let start_ticks = process::start_ticks(pid).unwrap_or_default();
        Self { pid, start_ticks, since: unix_secs, mountpoint }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} since {}", self.pid, output::timestamp(self.since))?;
        match &self.mountpoint {
            Some(mountpoint) => write!(f, ", mounted at {}", mountpoint.display()),
            None => f.write_str(", for a scan"),
        }
    }
}

/// Why a cache directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process holds it.
    #[error(
        "the cache directory {} is in use by {}; end that first (musicfs umount), or give this mount a --cache-dir \
         of its own",
        dir.display(),
        holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string)
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, when it has said so.
        holder: Option<Holder>,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock the cache directory {}; --cache-dir names another", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Holds a cache directory until dropped.
#[derive(Debug)]
pub(crate) struct CacheLock {
    _file: File,
}

impl CacheLock {
    /// Locks a cache directory, which is made when it does not exist.
    pub(crate) fn acquire(dir: &Path, holder: &Holder) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        crate::control::private_dir_if_new(dir).map_err(failed)?;
        // Not truncated on opening: it may be another's.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(FILE)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: read(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let text = serde_json::to_vec(holder).map_err(|error| failed(error.into()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Returns who holds a cache directory now. Asks without taking the lock, which could make a daemon that is just
/// starting fail.
pub(crate) fn holder(dir: &Path) -> Option<Holder> {
    let holder = read(&mut File::open(dir.join(FILE)).ok()?)?;
    process::is_running(holder.pid, holder.start_ticks).then_some(holder)
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_is_told_who_holds_the_first_and_leaves_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let first = Holder::this(Some("/mnt/music".into()), 1_763_716_252);
        let lock = CacheLock::acquire(dir.path(), &first).unwrap();
        let second = CacheLock::acquire(dir.path(), &Holder::this(None, 2)).unwrap_err();
        let told = second.to_string();
        for part in [&format!("process {}", first.pid), "2025-11-21T09:10:52Z", "/mnt/music", "--cache-dir"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(holder(dir.path()), Some(first));
        drop(lock);
        let scan = Holder::this(None, 3);
        let _lock = CacheLock::acquire(dir.path(), &scan).unwrap();
        assert_eq!(holder(dir.path()), Some(scan));
    }

    #[test]
    fn record_of_a_process_that_is_gone_is_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Holder { start_ticks: 1, ..Holder::this(None, 3) };
        drop(CacheLock::acquire(dir.path(), &gone).unwrap());
        assert_eq!(holder(dir.path()), None);
        std::fs::write(dir.path().join(FILE), "garbage").unwrap();
        assert_eq!(holder(dir.path()), None);
        CacheLock::acquire(dir.path(), &gone).expect("garbage in the file is no obstacle");
    }
}
