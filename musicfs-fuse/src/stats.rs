//! Counters of what the mount did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// What a mount did since it was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStats {
    /// Names looked up.
    pub lookups: u64,
    /// Attributes asked for.
    pub getattrs: u64,
    /// Pages of directories delivered.
    pub readdirs: u64,
    /// Files opened.
    pub opens: u64,
    /// Files among them that the kernel reads by itself.
    pub passthrough_opens: u64,
    /// Reads answered by the daemon.
    pub reads: u64,
    /// Bytes delivered by them.
    pub read_bytes: u64,
    /// Requests that failed for a reason that is not the caller's.
    pub errors: u64,
    /// Requests in which the daemon panicked.
    pub panics: u64,
    /// Notifications sent to the kernel.
    pub notifications: u64,
    /// Handles open now.
    pub open_handles: u64,
    /// Reads waiting for bytes now.
    pub reads_in_flight: u64,
    /// Whether the kernel refused to read files by itself although it was asked to.
    pub passthrough_refused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lookups: AtomicU64,
    pub(crate) getattrs: AtomicU64,
    pub(crate) readdirs: AtomicU64,
    pub(crate) opens: AtomicU64,
    pub(crate) passthrough_opens: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) notifications: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> FsStats {
        FsStats {
            lookups: self.lookups.load(Relaxed),
            getattrs: self.getattrs.load(Relaxed),
            readdirs: self.readdirs.load(Relaxed),
            opens: self.opens.load(Relaxed),
            passthrough_opens: self.passthrough_opens.load(Relaxed),
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            errors: self.errors.load(Relaxed),
            panics: self.panics.load(Relaxed),
            notifications: self.notifications.load(Relaxed),
            ..FsStats::default()
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
