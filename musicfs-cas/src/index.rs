//! Which chunks there are, what is known of each, and how much room they and those being written take.
//!
//! Held in memory (some 80 bytes for a chunk), so that no read or write waits for it. It is filled from the copy
//! on disk (`index/disk.rs`) or, where that cannot be trusted, from the chunk files; until one of them has been
//! read through it is *partial*: what it does not know may still be there, as a file.
//!
//! Invariants: the sums are those of the entries. An entry that changed is noted as such until the change has been
//! handed out to be written to the copy on disk.

pub(crate) mod disk;
pub(crate) mod sweep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use musicfs_core::ChunkHash;

/// What a chunk is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkClass {
    /// The middle of files.
    #[default]
    Body,
    /// The head or tail of a file: what scanners of libraries read, again and again.
    Edge,
}

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was used last: milliseconds since 1970.
    pub(crate) used: u64,
    /// Its length.
    pub(crate) len: u32,
    /// In how many stretches of files it is, as far as was counted.
    pub(crate) refs: u16,
    /// What it is part of.
    pub(crate) class: ChunkClass,
    /// Not 0 when it is pinned; the number is that of the round of marking which found it so.
    pub(crate) pinned: u8,
}

impl Entry {
    /// Makes the entry of a chunk that was just written or found.
    pub(crate) fn new(len: u64, used: u64) -> Self {
        // No chunk is longer than a `u32` can say.
        Self { used, len: u32::try_from(len).unwrap_or(u32::MAX), ..Self::default() }
    }

    fn bytes(&self) -> u64 {
        u64::from(self.len)
    }

    fn lasting(&self) -> (u64, u32, ChunkClass, bool) {
        (self.used, self.len, self.class, self.pinned != 0)
    }
}

/// How many chunks there are of a kind, and how long they are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.chunks += 1;
        self.bytes += entry.bytes();
    }

    fn take(&mut self, entry: &Entry) {
        self.chunks -= 1;
        self.bytes -= entry.bytes();
    }
}

/// The sums over all chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) all: Sum,
    pub(crate) edges: Sum,
    pub(crate) pinned: Sum,
    /// Chunks that some stretch of a file is known to be in.
    pub(crate) referenced: Sum,
    /// What those would take if each stretch had a chunk of its own.
    pub(crate) unshared_bytes: u64,
}

impl Sums {
    fn add(&mut self, entry: &Entry) {
        self.all.add(entry);
        if entry.class == ChunkClass::Edge {
            self.edges.add(entry);
        }
        if entry.pinned != 0 {
            self.pinned.add(entry);
        }
        if entry.refs != 0 {
            self.referenced.add(entry);
            self.unshared_bytes += entry.bytes() * u64::from(entry.refs);
        }
    }

    fn take(&mut self, entry: &Entry) {
        self.all.take(entry);
        if entry.class == ChunkClass::Edge {
            self.edges.take(entry);
        }
        if entry.pinned != 0 {
            self.pinned.take(entry);
        }
        if entry.refs != 0 {
            self.referenced.take(entry);
            self.unshared_bytes -= entry.bytes() * u64::from(entry.refs);
        }
    }
}

/// Whether a chunk is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is, and this long.
    There(u64),
    /// It is not.
    Absent,
    /// The index is partial: its file has to be looked at.
    Unsure,
}

/// A change to the copy on disk: what is known of a chunk, or that it is gone.
pub(crate) type Changed = (ChunkHash, Option<Entry>);

/// The chunks and the sums that follow from them.
#[derive(Debug, Default)]
pub(crate) struct Index {
    chunks: BTreeMap<ChunkHash, Entry>,
    sums: Sums,
    /// Bytes that writes under way may still add.
    reserved: u64,
    /// Chunks that are being read, with the number of readers.
    busy: HashMap<ChunkHash, u32>,
    /// What the copy on disk does not know yet.
    dirty: BTreeSet<ChunkHash>,
    /// Whether all chunks are known.
    complete: bool,
}

impl Index {
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes note that all chunks are known.
    pub(crate) fn set_complete(&mut self) {
        self.complete = true;
    }

    pub(crate) fn known(&self, hash: &ChunkHash) -> Known {
        match self.chunks.get(hash) {
            Some(entry) => Known::There(entry.bytes()),
            None if self.complete => Known::Absent,
            None => Known::Unsure,
        }
    }

    /// Returns what is known of a chunk.
    pub(crate) fn entry(&self, hash: &ChunkHash) -> Option<Entry> {
        self.chunks.get(hash).copied()
    }

    /// Adds a chunk, or replaces what is known of it.
    pub(crate) fn insert(&mut self, hash: ChunkHash, entry: Entry) {
        self.load(hash, entry);
        self.dirty.insert(hash);
    }

    /// Adds a chunk that the copy on disk knows.
    pub(crate) fn load(&mut self, hash: ChunkHash, entry: Entry) {
        if let Some(before) = self.chunks.insert(hash, entry) {
            self.sums.take(&before);
        }
        self.sums.add(&entry);
    }

    pub(crate) fn remove(&mut self, hash: &ChunkHash) -> Option<u64> {
        self.take(hash).map(|entry| entry.bytes())
    }

    /// Takes a chunk off, and returns what was known of it.
    pub(crate) fn take(&mut self, hash: &ChunkHash) -> Option<Entry> {
        let entry = self.chunks.remove(hash)?;
        self.sums.take(&entry);
        self.dirty.insert(*hash);
        Some(entry)
    }

    /// Changes what is known of a chunk, if it is there.
    pub(crate) fn change(&mut self, hash: &ChunkHash, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.chunks.get_mut(hash) else { return };
        let before = *entry;
        change(entry);
        if *entry != before {
            let after = *entry;
            self.sums.take(&before);
            self.sums.add(&after);
            // How many refer to it is counted anew at every start.
            if after.lasting() != before.lasting() {
                self.dirty.insert(*hash);
            }
        }
    }

    /// Keeps room for `len` bytes within `limit`; tells whether there is that much.
    pub(crate) fn reserve(&mut self, len: u64, limit: u64) -> bool {
        let wanted = self.sums.all.bytes.saturating_add(self.reserved).saturating_add(len);
        let fits = wanted <= limit;
        if fits {
            self.reserved += len;
        }
        fits
    }

    pub(crate) fn release(&mut self, len: u64) {
        self.reserved -= len;
    }

    /// Returns the bytes that are stored or being written.
    pub(crate) fn taken(&self) -> u64 {
        self.sums.all.bytes + self.reserved
    }

    /// Takes note that a chunk is being read.
    pub(crate) fn hold(&mut self, hash: &ChunkHash) {
        *self.busy.entry(*hash).or_default() += 1;
    }

    /// Takes note that one reader of a chunk is done.
    pub(crate) fn let_go(&mut self, hash: &ChunkHash) {
        if let Some(readers) = self.busy.get_mut(hash) {
            *readers -= 1;
            if *readers == 0 {
                self.busy.remove(hash);
            }
        }
    }

    /// Tells whether a chunk may be evicted.
    pub(crate) fn is_evictable(&self, hash: &ChunkHash) -> bool {
        self.chunks.get(hash).is_some_and(|entry| entry.pinned == 0) && !self.busy.contains_key(hash)
    }

    /// Returns at most `limit` chunks after one, in order.
    pub(crate) fn page(&self, after: Option<ChunkHash>, limit: usize) -> Vec<(ChunkHash, Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let chunks = self.chunks.range((from, Bound::Unbounded)).take(limit);
        chunks.map(|(hash, entry)| (*hash, *entry)).collect()
    }

    /// Returns the chunks whose hashes begin with a byte.
    pub(crate) fn in_folder(&self, folder: u8) -> Vec<ChunkHash> {
        let mut bound = [0; 32];
        bound[0] = folder;
        let first = ChunkHash::from_bytes(bound);
        bound[1..].fill(0xff);
        let last = ChunkHash::from_bytes(bound);
        self.chunks.range(first..=last).map(|(hash, _)| *hash).collect()
    }

    /// Returns how many changes the copy on disk does not know yet.
    pub(crate) fn unsaved(&self) -> usize {
        self.dirty.len()
    }

    /// Hands out the changes that the copy on disk does not know yet.
    pub(crate) fn take_changes(&mut self) -> Vec<Changed> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|hash| (hash, self.chunks.get(&hash).copied())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> ChunkHash {
        ChunkHash::of(&[n])
    }

    #[test]
    fn sums_follow_every_change_of_an_entry() {
        let mut index = Index::default();
        for n in 0..4 {
            index.insert(hash(n), Entry::new(100, 1));
        }
        index.change(&hash(1), |entry| entry.class = ChunkClass::Edge);
        index.change(&hash(2), |entry| entry.pinned = 3);
        assert_eq!(index.sums().edges, Sum { chunks: 1, bytes: 100 });
        assert_eq!(index.sums().pinned, Sum { chunks: 1, bytes: 100 });
        index.insert(hash(1), Entry::new(50, 2));
        assert_eq!((index.sums().all.bytes, index.sums().edges.chunks), (350, 0));
        assert_eq!(index.remove(&hash(2)), Some(100));
        assert_eq!((index.sums().pinned.chunks, index.sums().all.chunks), (0, 3));
    }

    #[test]
    fn changes_are_handed_out_once_and_only_where_something_changed() {
        let mut index = Index::default();
        index.load(hash(0), Entry::new(1, 1));
        index.insert(hash(1), Entry::new(2, 1));
        index.change(&hash(0), |entry| entry.used = 1);
        assert_eq!(index.take_changes(), [(hash(1), Some(Entry::new(2, 1)))]);
        index.change(&hash(0), |entry| entry.used = 7);
        index.remove(&hash(1));
        assert_eq!(index.unsaved(), 2);
        assert!(index.take_changes().contains(&(hash(1), None)));
        assert!(index.take_changes().is_empty());
    }

    #[test]
    fn partial_index_is_unsure_of_what_it_does_not_know() {
        let mut index = Index::default();
        index.load(hash(0), Entry::new(9, 1));
        assert_eq!((index.known(&hash(0)), index.known(&hash(1))), (Known::There(9), Known::Unsure));
        index.set_complete();
        assert_eq!(index.known(&hash(1)), Known::Absent);
    }

    #[test]
    fn chunk_that_is_read_or_pinned_is_no_victim() {
        let mut index = Index::default();
        index.insert(hash(0), Entry::new(9, 1));
        assert!(index.is_evictable(&hash(0)));
        index.hold(&hash(0));
        index.hold(&hash(0));
        index.let_go(&hash(0));
        assert!(!index.is_evictable(&hash(0)));
        index.let_go(&hash(0));
        index.change(&hash(0), |entry| entry.pinned = 1);
        assert!(!index.is_evictable(&hash(0)) && !index.is_evictable(&hash(1)));
    }
}
