//! The handles that are open, and the reads that wait for bytes.
//!
//! Two locks, each held for a few lines: the table of handles, and the counts of reads per number. A handle is
//! never refused for want of a slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use musicfs_core::{FileId, FileMeta, FileVersion, Ino, OriginId, OriginPath, ReadPlan};
use parking_lot::{Mutex, RwLock};

use super::complaints::Complaints;
use super::failures::Failures;
use crate::backed::Backed;
use crate::numbers::Numbers;

/// A file that is open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The number under which it is open.
    pub(crate) number: Ino,
    /// What it reads, fixed when it was opened.
    pub(crate) plan: ReadPlan,
    /// The file, and its version by the catalogue when it was opened.
    pub(crate) id: FileId,
    pub(crate) version: FileVersion,
    /// Where the file is, for a log.
    pub(crate) origin: OriginId,
    pub(crate) path: OriginPath,
}

impl OpenFile {
    pub(crate) fn new(number: Ino, file: FileMeta, plan: ReadPlan) -> Self {
        let FileMeta { id, version, origin, path, .. } = file;
        Self { number, plan, id, version, origin, path }
    }
}

pub(crate) struct OpenFiles {
    next: AtomicU64,
    table: RwLock<HashMap<u64, Arc<OpenFile>>>,
    reads: Arc<Mutex<HashMap<Ino, u64>>>,
    pub(crate) numbers: Numbers<Backed>,
    pub(crate) failures: Failures,
    pub(crate) complaints: Complaints,
}

/// Counts a read as in flight until it is dropped.
pub(crate) struct ReadInFlight {
    number: Ino,
    reads: Arc<Mutex<HashMap<Ino, u64>>>,
}

impl Drop for ReadInFlight {
    fn drop(&mut self) {
        let mut reads = self.reads.lock();
        if let Some(count) = reads.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                reads.remove(&self.number);
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
            numbers: Numbers::new(),
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

    pub(crate) fn handles(&self) -> usize {
        self.table.read().len()
    }

    /// Counts a read under a number as in flight.
    pub(crate) fn begin_read(&self, number: Ino) -> ReadInFlight {
        *self.reads.lock().entry(number).or_default() += 1;
        ReadInFlight { number, reads: self.reads.clone() }
    }

    /// Tells whether a read under a number waits for bytes: the kernel then holds pages of it locked.
    pub(crate) fn is_reading(&self, number: Ino) -> bool {
        self.reads.lock().contains_key(&number)
    }

    pub(crate) fn reads_in_flight(&self) -> u64 {
        self.reads.lock().values().sum()
    }
}
