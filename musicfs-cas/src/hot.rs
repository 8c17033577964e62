//! Chunks in memory: verified once, served many times.
//!
//! The kernel asks for a chunk in several reads at once; the first loads it, the others wait for that load. One
//! lock guards the table for a few lines; it is never held while a chunk is loaded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::buffers;

type Slot = Arc<OnceCell<Bytes>>;

/// Uses of others after which nobody is taken to come back to a chunk. Thirty readers at once, of whom each has 8 MiB
/// loaded ahead, use others some 1,000 times before they come to it.
const AGED: u64 = 4096;

/// A bounded table of loaded chunks. Those that were read to their ends leave first, then those used longest ago; before
/// both what was left in the middle, or never come to, [`AGED`] uses ago.
#[derive(Debug)]
pub(crate) struct HotChunks {
    max_bytes: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<ChunkHash, Entry>,
    by_use: BTreeMap<Use, ChunkHash>,
    uses: u64,
    bytes: usize,
    /// How much of that was loaded ahead, and nobody has come to it yet.
    ahead: usize,
}

/// When a chunk was used last: what has been read to its end is before all others, as the kernel keeps it by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    goes_on: bool,
    nth: u64,
}

#[derive(Debug, Default)]
struct Entry {
    slot: Slot,
    used: Use,
    /// What it counts for in the table's sum: nothing until it is loaded.
    counted: usize,
    /// Somebody has come to it; until then it is loaded ahead.
    wanted: bool,
}

impl HotChunks {
    /// Makes a table that holds `max_bytes` at the most, besides what is being served.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, table: Mutex::default() }
    }

    /// Tells whether more can be loaded ahead without driving out what is about to be read.
    pub(crate) fn has_room_ahead(&self) -> bool {
        self.table.lock().ahead < self.max_bytes / 2
    }

    /// Loads a chunk as [`Self::get`] does, ahead of whoever will read it.
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    pub(crate) async fn get_ahead(
        &self,
        store: &dyn ChunkStore,
        hash: &ChunkHash,
    ) -> Result<Option<Bytes>, ChunkError> {
        self.load(store, hash, false).await
    }

    /// Returns a chunk's bytes, from memory or else from `store`; `None` when the store has it not.
    ///
    /// # Errors
    /// As [`ChunkStore::get`]. Dropping the future lets another caller load the chunk.
    pub(crate) async fn get(
        &self,
        store: &dyn ChunkStore,
        hash: &ChunkHash,
    ) -> Result<Option<Bytes>, ChunkError> {
        self.load(store, hash, true).await
    }

    async fn load(
        &self,
        store: &dyn ChunkStore,
        hash: &ChunkHash,
        wanted: bool,
    ) -> Result<Option<Bytes>, ChunkError> {
        let slot = self.table.lock().touch(hash, wanted);
        let mut loaded_now = false;
        let load = async {
            let bytes = store.get(hash).await.map_err(Some)?;
            loaded_now = true;
            bytes.ok_or(None)
        };
        match slot.get_or_try_init(|| load).await {
            Ok(bytes) => {
                let bytes = bytes.clone();
                if loaded_now {
                    self.table.lock().account(hash, &slot, bytes.len(), self.max_bytes);
                }
                Ok(Some(bytes))
            }
            Err(error) => {
                self.table.lock().remove(hash);
                error.map_or(Ok(None), Err)
            }
        }
    }

    /// Takes note that somebody has read a chunk to its end: it leaves before those that are being read.
    pub(crate) fn is_read(&self, hash: &ChunkHash) {
        self.table.lock().is_read(hash);
    }

    /// Drops all chunks; those who are served one keep it.
    pub(crate) fn clear(&self) {
        let table = std::mem::take(&mut *self.table.lock());
        // Outside the lock: this frees a lot.
        drop(table);
    }

    /// Puts a chunk that was just stored into memory: it is about to be read.
    pub(crate) fn insert(&self, hash: &ChunkHash, bytes: Bytes) {
        let mut table = self.table.lock();
        let slot = table.touch(hash, true);
        let len = bytes.len();
        if slot.set(bytes).is_ok() {
            table.account(hash, &slot, len, self.max_bytes);
        }
    }
}

impl Table {
    fn touch(&mut self, hash: &ChunkHash, wanted: bool) -> Slot {
        let entry = self.entries.entry(*hash).or_default();
        if wanted && !entry.wanted {
            entry.wanted = true;
            self.ahead -= entry.counted;
        }
        let slot = entry.slot.clone();
        self.used(hash, true);
        slot
    }

    fn is_read(&mut self, hash: &ChunkHash) {
        self.used(hash, false);
    }

    fn used(&mut self, hash: &ChunkHash, goes_on: bool) {
        let Some(entry) = self.entries.get_mut(hash) else { return };
        self.uses += 1;
        let used = Use { goes_on, nth: self.uses };
        self.by_use.remove(&std::mem::replace(&mut entry.used, used));
        self.by_use.insert(used, *hash);
    }

    /// Drops a chunk from the table; those who wait for it or serve it keep it.
    fn remove(&mut self, hash: &ChunkHash) {
        if let Some(entry) = self.entries.remove(hash) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.counted;
            self.ahead -= if entry.wanted { 0 } else { entry.counted };
        }
    }

    /// Counts a chunk that has been loaded into a slot, and makes room for it.
    fn account(&mut self, hash: &ChunkHash, slot: &Slot, len: usize, max: usize) {
        // It may have been dropped while it was loading, and others may be loading it again.
        let Some(entry) = self.entries.get_mut(hash).filter(|entry| Arc::ptr_eq(&entry.slot, slot)) else {
            return;
        };
        entry.counted = buffers::taken(len);
        self.bytes += entry.counted;
        self.ahead += if entry.wanted { 0 } else { entry.counted };
        while self.bytes > max
            && let Some(victim) = self.victim()
        {
            self.remove(&victim);
        }
    }

    /// Returns the chunk that is to leave first.
    fn victim(&self) -> Option<ChunkHash> {
        let begun = self.by_use.range(Use { goes_on: true, nth: 0 }..).next();
        let aged = begun.filter(|(used, _)| self.uses - used.nth > AGED);
        aged.or_else(|| self.by_use.first_key_value()).map(|(_, hash)| *hash)
    }
}

#[cfg(test)]
mod tests {
    use musicfs_test_utils::MemoryChunkStore;

    use super::*;

    fn chunk(n: u8) -> (ChunkHash, Bytes) {
        let bytes = Bytes::from(vec![n; 100]);
        (ChunkHash::of(&bytes), bytes)
    }

    #[test]
    fn table_stays_within_its_bound_and_drops_what_was_used_longest_ago() {
        let hot = HotChunks::new(250);
        let chunks: Vec<_> = (0..3).map(chunk).collect();
        hot.insert(&chunks[0].0, chunks[0].1.clone());
        hot.insert(&chunks[1].0, chunks[1].1.clone());
        hot.table.lock().touch(&chunks[0].0, true);
        hot.insert(&chunks[2].0, chunks[2].1.clone());
        let table = hot.table.lock();
        assert_eq!(table.bytes, 200);
        assert!(table.entries.contains_key(&chunks[0].0) && !table.entries.contains_key(&chunks[1].0));
        assert_eq!(table.by_use.len(), table.entries.len());
    }

    #[tokio::test]
    async fn what_is_loaded_ahead_is_bounded_until_it_is_read_or_leaves() {
        let (hot, store) = (HotChunks::new(250), MemoryChunkStore::new());
        let chunks: Vec<_> = (0..4).map(chunk).collect();
        for (hash, bytes) in &chunks {
            assert_eq!(store.put(bytes.clone()).await.unwrap(), *hash);
        }
        hot.get_ahead(&store, &chunks[0].0).await.unwrap();
        assert!(hot.has_room_ahead());
        hot.get_ahead(&store, &chunks[1].0).await.unwrap();
        assert!(!hot.has_room_ahead());
        hot.get(&store, &chunks[1].0).await.unwrap();
        assert!(hot.has_room_ahead());
        // These drive out the first, which nobody has read.
        hot.get(&store, &chunks[2].0).await.unwrap();
        hot.get(&store, &chunks[3].0).await.unwrap();
        assert_eq!(hot.table.lock().ahead, 0);
    }

    #[test]
    fn what_was_read_to_its_end_leaves_first_unless_somebody_comes_back_to_it() {
        let hot = HotChunks::new(250);
        let chunks: Vec<_> = (0..4).map(chunk).collect();
        let is_there = |n: usize| hot.table.lock().entries.contains_key(&chunks[n].0);
        for (hash, bytes) in &chunks[..2] {
            hot.insert(hash, bytes.clone());
        }
        hot.is_read(&chunks[1].0);
        hot.insert(&chunks[2].0, chunks[2].1.clone());
        assert!(is_there(0) && !is_there(1));
        hot.is_read(&chunks[2].0);
        hot.table.lock().touch(&chunks[2].0, true);
        hot.insert(&chunks[3].0, chunks[3].1.clone());
        assert!(!is_there(0) && is_there(2));
        let table = hot.table.lock();
        assert_eq!(table.by_use.len(), table.entries.len());
    }

    #[tokio::test]
    async fn what_was_loaded_ahead_and_never_read_makes_room_for_others_that_are() {
        let (hot, store) = (HotChunks::new(1000), MemoryChunkStore::new());
        let (left, read): (Vec<_>, Vec<_>) = (0..200).map(chunk).partition(|(_, bytes)| bytes[0] < 5);
        for (hash, bytes) in &left {
            assert_eq!(store.put(bytes.clone()).await.unwrap(), *hash);
            hot.get_ahead(&store, hash).await.unwrap();
        }
        let mut read = read.iter().cycle();
        let mut go_on = |uses: u64| {
            // A chunk is used when it is put in, and once more at its end.
            for (hash, bytes) in read.by_ref().take(uses as usize / 2) {
                hot.insert(hash, bytes.clone());
                hot.is_read(hash);
            }
        };
        go_on(AGED - 100);
        assert!(!hot.has_room_ahead());
        go_on(200);
        assert!(hot.has_room_ahead());
        assert_eq!(hot.table.lock().ahead, 0);
    }

    #[test]
    fn chunk_that_is_dropped_while_it_is_loaded_is_counted_once_with_those_who_load_it_again() {
        let hot = HotChunks::new(1000);
        let (hash, bytes) = chunk(1);
        let mut table = hot.table.lock();
        let first = table.touch(&hash, false);
        table.remove(&hash);
        let second = table.touch(&hash, true);
        assert!(first.set(bytes.clone()).is_ok() && second.set(bytes).is_ok());
        table.account(&hash, &first, 100, 1000);
        assert_eq!((table.bytes, table.ahead), (0, 0));
        table.account(&hash, &second, 100, 1000);
        assert_eq!((table.bytes, table.ahead), (100, 0));
        table.remove(&hash);
        assert_eq!((table.bytes, table.ahead, table.by_use.len()), (0, 0, 0));
    }

    #[test]
    fn chunk_that_is_inserted_twice_counts_once() {
        let hot = HotChunks::new(1000);
        let (hash, bytes) = chunk(1);
        hot.insert(&hash, bytes.clone());
        hot.insert(&hash, bytes);
        assert_eq!(hot.table.lock().bytes, 100);
        hot.table.lock().remove(&hash);
        assert_eq!(hot.table.lock().bytes, 0);
    }
}
