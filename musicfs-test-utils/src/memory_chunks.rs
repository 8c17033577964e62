//! A chunk store in memory, stricter than any real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};
use parking_lot::Mutex;

/// Longest chunk, by the contract.
const MAX_CHUNK: usize = 16 * 1024 * 1024;

/// A chunk store in memory. Clones are the same store.
///
/// It panics when its caller breaks the contract: when a chunk is empty or longer than 16 MiB.
#[derive(Clone, Debug)]
pub struct MemoryChunkStore {
    max_size: u64,
    chunks: Arc<Mutex<BTreeMap<ChunkHash, Chunk>>>,
}

#[derive(Clone, Debug)]
struct Chunk {
    bytes: Bytes,
    damaged: bool,
}

impl Default for MemoryChunkStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryChunkStore {
    /// Makes a store without a limit.
    pub fn new() -> Self {
        Self { max_size: u64::MAX, chunks: Arc::default() }
    }

    /// Sets how many bytes all chunks together may have.
    pub fn with_max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// Damages a chunk; tells whether it was there.
    pub fn damage(&self, hash: &ChunkHash) -> bool {
        self.chunks.lock().get_mut(hash).map(|chunk| chunk.damaged = true).is_some()
    }
}

fn sum(chunks: &BTreeMap<ChunkHash, Chunk>) -> u64 {
    chunks.values().map(|chunk| chunk.bytes.len() as u64).sum()
}

#[async_trait]
impl ChunkStore for MemoryChunkStore {
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError> {
        assert!((1..=MAX_CHUNK).contains(&bytes.len()), "a chunk of {} bytes", bytes.len());
        let hash = ChunkHash::of(&bytes);
        let mut chunks = self.chunks.lock();
        if !chunks.contains_key(&hash) {
            let needed = bytes.len() as u64;
            if sum(&chunks).saturating_add(needed) > self.max_size {
                return Err(ChunkError::Full { needed });
            }
            chunks.insert(hash, Chunk { bytes, damaged: false });
        }
        Ok(hash)
    }

    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        let mut chunks = self.chunks.lock();
        match chunks.get(hash) {
            Some(chunk) if chunk.damaged => {
                chunks.remove(hash);
                Err(ChunkError::Corrupt(*hash))
            }
            found => Ok(found.map(|chunk| chunk.bytes.clone())),
        }
    }

    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError> {
        Ok(self.chunks.lock().contains_key(hash))
    }

    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        Ok(self.chunks.lock().remove(hash).map(|chunk| chunk.bytes.len() as u64))
    }

    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>> {
        let chunks = self.chunks.lock();
        let listed: Vec<_> = chunks.iter().map(|(hash, c)| Ok((*hash, c.bytes.len() as u64))).collect();
        stream::iter(listed).boxed()
    }

    fn current_size(&self) -> u64 {
        sum(&self.chunks.lock())
    }
}
