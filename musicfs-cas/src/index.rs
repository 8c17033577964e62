//! Which chunks there are, and how much room they and those being written take.
//!
//! Held in memory (some 50 bytes for a chunk) and made anew at start from the chunk files.

use std::collections::BTreeMap;
use std::ops::Bound;

use musicfs_core::ChunkHash;

/// The chunks with their lengths, and sums that follow from them.
#[derive(Debug, Default)]
pub(crate) struct Index {
    chunks: BTreeMap<ChunkHash, u32>,
    stored: u64,
    /// Bytes that writes under way may still add.
    reserved: u64,
}

impl Index {
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    pub(crate) fn get(&self, hash: &ChunkHash) -> Option<u64> {
        self.chunks.get(hash).copied().map(u64::from)
    }

    /// Adds a chunk. No chunk is longer than a `u32` can say.
    pub(crate) fn insert(&mut self, hash: ChunkHash, len: u64) {
        let counted = u32::try_from(len).unwrap_or(u32::MAX);
        let replaced = self.chunks.insert(hash, counted);
        self.stored = self.stored + u64::from(counted) - replaced.map_or(0, u64::from);
    }

    pub(crate) fn remove(&mut self, hash: &ChunkHash) -> Option<u64> {
        let len = self.chunks.remove(hash).map(u64::from)?;
        self.stored -= len;
        Some(len)
    }

    /// Keeps room for `len` bytes within `limit`; tells whether there is that much.
    pub(crate) fn reserve(&mut self, len: u64, limit: u64) -> bool {
        let wanted = self.stored.saturating_add(self.reserved).saturating_add(len);
        let fits = wanted <= limit;
        if fits {
            self.reserved += len;
        }
        fits
    }

    pub(crate) fn release(&mut self, len: u64) {
        self.reserved -= len;
    }

    /// Returns at most `limit` chunks after one, in order.
    pub(crate) fn page(&self, after: Option<ChunkHash>, limit: usize) -> Vec<(ChunkHash, u64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let chunks = self.chunks.range((from, Bound::Unbounded)).take(limit);
        chunks.map(|(hash, len)| (*hash, u64::from(*len))).collect()
    }
}
