//! A chunk store that fails on demand.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};

/// Linux's number for an input/output error.
const EIO: i32 = 5;

/// Wraps a chunk store and makes its disk full, unreadable or rotten, each for as long as it is told to.
///
/// When nothing is injected it does what the inner store does.
#[derive(Debug)]
pub struct FaultyCasStore<S = musicfs_cas::CasStore> {
    inner: S,
    enospc: AtomicBool,
    eio_on_read: AtomicBool,
    hang_on_read: AtomicBool,
    corruption: AtomicBool,
}

impl<S: ChunkStore> FaultyCasStore<S> {
    /// Wraps a store.
    pub fn new(inner: S) -> Self {
        let off = || AtomicBool::new(false);
        Self { inner, enospc: off(), eio_on_read: off(), hang_on_read: off(), corruption: off() }
    }

    /// Returns the store that is wrapped.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes every `put` of a chunk that is not there fail for want of room.
    pub fn inject_enospc(&self, on: bool) {
        self.enospc.store(on, Ordering::SeqCst);
    }

    /// Makes every `get` of a chunk that is there fail with an input/output error.
    pub fn inject_eio_on_read(&self, on: bool) {
        self.eio_on_read.store(on, Ordering::SeqCst);
    }

    /// Makes every `get` of a chunk that is there hang.
    pub fn inject_hang_on_read(&self, on: bool) {
        self.hang_on_read.store(on, Ordering::SeqCst);
    }

    /// Makes every `get` of a chunk that is there find it damaged: it is reported once, and gone.
    pub fn inject_corruption(&self, on: bool) {
        self.corruption.store(on, Ordering::SeqCst);
    }
}

#[async_trait]
impl<S: ChunkStore> ChunkStore for FaultyCasStore<S> {
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError> {
        if self.enospc.load(Ordering::SeqCst) && !self.inner.contains(&ChunkHash::of(&bytes)).await? {
            return Err(ChunkError::Full { needed: bytes.len() as u64 });
        }
        self.inner.put(bytes).await
    }

    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        if self.eio_on_read.load(Ordering::SeqCst) && self.inner.contains(hash).await? {
            return Err(ChunkError::Io(io::Error::from_raw_os_error(EIO)));
        }
        if self.hang_on_read.load(Ordering::SeqCst) && self.inner.contains(hash).await? {
            std::future::pending::<()>().await;
        }
        if self.corruption.load(Ordering::SeqCst) && self.inner.remove(hash).await?.is_some() {
            return Err(ChunkError::Corrupt(*hash));
        }
        self.inner.get(hash).await
    }

    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError> {
        self.inner.contains(hash).await
    }

    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        self.inner.remove(hash).await
    }

    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>> {
        self.inner.list()
    }

    fn current_size(&self) -> u64 {
        self.inner.current_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryChunkStore;

    #[tokio::test]
    async fn injected_faults_come_and_go() {
        let store = FaultyCasStore::new(MemoryChunkStore::new());
        let hash = store.put(Bytes::from_static(b"x")).await.unwrap();
        store.inject_enospc(true);
        assert!(matches!(store.put(Bytes::from_static(b"yy")).await, Err(ChunkError::Full { needed: 2 })));
        assert_eq!(store.put(Bytes::from_static(b"x")).await.unwrap(), hash);
        store.inject_enospc(false);
        store.inject_eio_on_read(true);
        let error = store.get(&hash).await.unwrap_err();
        assert!(matches!(error, ChunkError::Io(e) if e.raw_os_error() == Some(EIO)));
        assert_eq!(store.get(&ChunkHash::of(b"absent")).await.unwrap(), None);
        store.inject_eio_on_read(false);
        store.inject_corruption(true);
        assert!(matches!(store.get(&hash).await, Err(ChunkError::Corrupt(_))));
        assert_eq!(store.get(&hash).await.unwrap(), None);
        assert_eq!(store.current_size(), 0);
    }
}
