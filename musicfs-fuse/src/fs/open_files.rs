//! The handles that are open, and the reads that wait for bytes.
//!
//! Two locks, each held for a few lines: the table of handles, and the counts of reads per inode. A handle is
//! never refused for want of a slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fuser::BackingId;
use musicfs_core::{FileMeta, Ino, OriginId, OriginPath, ReadPlan, UnixNanos};
use parking_lot::{Mutex, RwLock};

use super::complaints::Complaints;
use super::failures::Failures;
use crate::passthrough::{Mode, OpenModes};

/// A file that is open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) ino: Ino,
    /// What it reads, fixed when it was opened.
    pub(crate) plan: ReadPlan,
    /// Where the file is, for a log.
    pub(crate) origin: OriginId,
    pub(crate) path: OriginPath,
    pub(crate) mtime: UnixNanos,
    pub(crate) mode: Mode,
    /// The kernel has been told of another size since, by which it reads this handle, too.
    pub(crate) outlived: AtomicBool,
}

impl OpenFile {
    pub(crate) fn new(file: FileMeta, plan: ReadPlan, mode: Mode) -> Self {
        let mtime = file.version.mtime.unwrap_or(UnixNanos(0));
        let (ino, outlived) = (file.id.ino(), AtomicBool::new(false));
        Self { ino, plan, origin: file.origin, path: file.path, mtime, mode, outlived }
    }
}

pub(crate) struct OpenFiles {
    next: AtomicU64,
    table: RwLock<HashMap<u64, Arc<OpenFile>>>,
    reads: Arc<Mutex<HashMap<Ino, u64>>>,
    pub(crate) modes: OpenModes<BackingId>,
    pub(crate) failures: Failures,
    pub(crate) complaints: Complaints,
}

/// Counts a read as in flight until it is dropped.
pub(crate) struct ReadInFlight {
    ino: Ino,
    reads: Arc<Mutex<HashMap<Ino, u64>>>,
}

impl Drop for ReadInFlight {
    fn drop(&mut self) {
        let mut reads = self.reads.lock();
        if let Some(count) = reads.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                reads.remove(&self.ino);
            }
        }
    }
}

impl OpenFiles {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            table: RwLock::default(),
            reads: Arc::default(),
            modes: OpenModes::new(),
            failures: Failures::default(),
            complaints: Complaints::default(),
        }
    }

    pub(crate) fn insert(&self, file: OpenFile) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.table.write().insert(handle, Arc::new(file));
        handle
    }

    pub(crate) fn get(&self, handle: u64) -> Option<Arc<OpenFile>> {
        self.table.read().get(&handle).cloned()
    }

    pub(crate) fn remove(&self, handle: u64) -> Option<Arc<OpenFile>> {
        self.table.write().remove(&handle)
    }

    /// Returns some open handle of an inode, by a walk of all: for the rare file that is open and not in the tree.
    pub(crate) fn of_inode(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        self.table.read().values().find(|file| file.ino == ino).cloned()
    }

    /// Notes that the kernel is told of a size, and tells whether handles of another are open through its cache.
    pub(crate) fn outlive(&self, ino: Ino, size: u64) -> bool {
        if !self.modes.is_cached(ino) {
            return false;
        }
        let table = self.table.read();
        let through_cache = |file: &&Arc<OpenFile>| matches!(file.mode, Mode::Cached(_));
        let others = table.values().filter(|file| file.ino == ino).filter(through_cache);
        others.fold(false, |any, file| {
            let other = file.plan.size() != size;
            if other {
                file.outlived.store(true, Ordering::SeqCst);
            }
            any || other
        })
    }

    pub(crate) fn handles(&self) -> usize {
        self.table.read().len()
    }

    /// Counts a read of an inode as in flight.
    pub(crate) fn begin_read(&self, ino: Ino) -> ReadInFlight {
        *self.reads.lock().entry(ino).or_default() += 1;
        ReadInFlight { ino, reads: self.reads.clone() }
    }

    /// Tells whether a read of the inode waits for bytes: the kernel then holds pages of it locked.
    pub(crate) fn is_reading(&self, ino: Ino) -> bool {
        self.reads.lock().contains_key(&ino)
    }

    pub(crate) fn reads_in_flight(&self) -> u64 {
        self.reads.lock().values().sum()
    }
}
