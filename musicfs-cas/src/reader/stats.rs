//! What a reader counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What a reader counts, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReaderStats {
    /// Bytes served from chunks.
    pub from_cache: u64,
    /// Bytes served as they came from an origin.
    pub from_origins: u64,
    /// Bytes fetched, read-ahead included.
    pub fetched: u64,
    /// Bytes of those that were fetched before anybody read near them.
    pub prefetched: u64,
    /// Chunks that were damaged or gone, and were fetched again.
    pub repaired: u64,
    /// Bytes that had been cached by guess and were found to be right.
    pub proven: u64,
    /// Files of which a guess, or what was verified by order, was wrong.
    pub mismatched: u64,
    /// Chunks that could not be stored.
    pub not_stored: u64,
    /// Whether the store is left alone because it failed a short while ago.
    pub passing_through: bool,
}

impl ReaderStats {
    /// Returns which part of the bytes served came from the cache, from 0 to 1; `None` when none were served.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.from_cache + self.from_origins;
        (all > 0).then(|| self.from_cache as f64 / all as f64)
    }
}

/// The counters behind [`ReaderStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) from_cache: AtomicU64,
    pub(super) from_origins: AtomicU64,
    pub(super) prefetched: AtomicU64,
    pub(super) repaired: AtomicU64,
    pub(super) proven: AtomicU64,
    pub(super) mismatched: AtomicU64,
    pub(super) not_stored: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self, fetched: u64, passing_through: bool) -> ReaderStats {
        ReaderStats {
            from_cache: self.from_cache.load(Ordering::Relaxed),
            from_origins: self.from_origins.load(Ordering::Relaxed),
            fetched,
            prefetched: self.prefetched.load(Ordering::Relaxed),
            repaired: self.repaired.load(Ordering::Relaxed),
            proven: self.proven.load(Ordering::Relaxed),
            mismatched: self.mismatched.load(Ordering::Relaxed),
            not_stored: self.not_stored.load(Ordering::Relaxed),
            passing_through,
        }
    }
}
