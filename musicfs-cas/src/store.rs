//! Chunk files.
//!
//! # Invariants
//! * A chunk file is written whole, forced to disk and then named (see `durable.rs`), and only then counted. What
//!   a stop of the machine leaves is a chunk that the next start counts, or nothing but a temporary file.
//! * The sum of sizes is that of the chunks counted; a chunk is counted with the length it was put or found with,
//!   whatever happens to its file, and taken off the sum once.
//! * Nothing read is trusted: it is hashed before it is handed out. A chunk that fails goes into quarantine and
//!   is no longer counted.
//! * One store per folder: another process that writes there is not noticed.
//!
//! # Locking
//! Changes to one chunk take turns: there are some turns, and a chunk's hash says which is its own. A turn, like
//! the permit that bounds the number of blocking threads, is held by the closure that does the work, to its end,
//! also when its caller is gone. The index has a lock of its own that is held for a look-up, never over I/O.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use musicfs_core::{ChunkError, ChunkHash, ChunkStore};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::durable;
use crate::index::Index;
use crate::layout::{Layout, MAX_CHUNK};

/// Blocking threads that a store uses at once: enough for any disk, few enough that a dead one leaves most of
/// the pool to others.
const THREADS: usize = 32;
/// Turns for changes; chunks that share one wait for each other.
const TURNS: usize = 256;
/// Longest chunk in bytes that is hashed without leaving the caller's thread: some 100 microseconds.
const QUICK_HASH: usize = 512 * 1024;
/// Chunks that a listing takes from the index at a time.
const LIST_PAGE: usize = 1024;

/// Where a store is, and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CasConfig {
    /// The folder that holds the chunks; made when it is not there.
    pub chunks_dir: PathBuf,
    /// Most bytes that all chunks together may have. A `put` that would exceed it fails with
    /// [`ChunkError::Full`].
    pub max_size: u64,
}

impl CasConfig {
    /// Takes a folder, without a limit.
    pub fn new(chunks_dir: impl Into<PathBuf>) -> Self {
        Self { chunks_dir: chunks_dir.into(), max_size: u64::MAX }
    }

    /// Sets [`CasConfig::max_size`].
    pub fn with_max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }
}

/// Keeps chunks in files; see [`ChunkStore`] for what it promises. Clones are the same store.
#[derive(Clone)]
pub struct CasStore {
    inner: Arc<Inner>,
    turns: Arc<[Arc<tokio::sync::Mutex<()>>]>,
    threads: Arc<Semaphore>,
}

struct Inner {
    layout: Layout,
    max_size: u64,
    index: Mutex<Index>,
    temporaries: AtomicU64,
}

impl std::fmt::Debug for CasStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CasStore")
            .field("layout", &self.inner.layout)
            .field("current_size", &self.current_size())
            .finish_non_exhaustive()
    }
}

/// What reading a chunk file gave.
enum Found {
    Good(Bytes),
    Damaged,
    Missing,
}

impl CasStore {
    /// Opens the store, counts its chunks and sweeps away what a stop left half done. Cancel safe.
    ///
    /// # Errors
    /// [`ChunkError::Io`] when the folder cannot be made, read or written, or holds chunks of another format.
    pub async fn open(config: CasConfig) -> Result<Self, ChunkError> {
        let layout = Layout::new(config.chunks_dir);
        let opened = tokio::task::spawn_blocking(move || layout.open().map(|index| (layout, index)));
        let (layout, index) = joined(opened.await)?.map_err(ChunkError::Io)?;
        let inner = Inner {
            layout,
            max_size: config.max_size,
            index: Mutex::new(index),
            temporaries: AtomicU64::new(0),
        };
        let turns = std::iter::repeat_with(|| Arc::new(tokio::sync::Mutex::new(()))).take(TURNS).collect();
        Ok(Self { inner: Arc::new(inner), turns, threads: Arc::new(Semaphore::new(THREADS)) })
    }

    /// Stores `bytes` and returns their hash. Cancel safe: see [`ChunkStore`].
    ///
    /// # Errors
    /// As [`ChunkStore::put`].
    pub async fn put(&self, bytes: &[u8]) -> Result<ChunkHash, ChunkError> {
        ChunkStore::put(self, Bytes::copy_from_slice(bytes)).await
    }

    /// Returns the chunk's bytes, verified, or `None` when it is not there. Cancel safe: see [`ChunkStore`].
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    pub async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        ChunkStore::get(self, hash).await
    }

    /// Returns where the chunk's file is, or would be.
    pub fn chunk_path(&self, hash: &ChunkHash) -> PathBuf {
        self.inner.layout.chunk(hash)
    }

    /// Returns the sum of the lengths of all chunks.
    pub fn current_size(&self) -> u64 {
        self.inner.index.lock().stored()
    }

    async fn turn(&self, hash: &ChunkHash) -> OwnedMutexGuard<()> {
        let at = usize::from(hash.as_bytes()[0]) % self.turns.len();
        Arc::clone(&self.turns[at]).lock_owned().await
    }

    /// Runs `work` where blocking is allowed. What it needs to hold until it is done, it takes with it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ChunkError> + Send + 'static,
    ) -> Result<T, ChunkError> {
        let closed = |e| ChunkError::Io(io::Error::other(e));
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(closed)?;
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&inner)
        });
        joined(done.await)?
    }
}

fn joined<T>(done: Result<T, tokio::task::JoinError>) -> Result<T, ChunkError> {
    done.map_err(|error| ChunkError::Io(io::Error::other(error)))
}

/// Room kept for a chunk, given back when dropped.
struct Reserved<'a> {
    inner: &'a Inner,
    len: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.inner.index.lock().release(self.len);
    }
}

impl Inner {
    fn put(&self, hash: ChunkHash, bytes: &[u8]) -> Result<(), ChunkError> {
        let path = self.layout.chunk(&hash);
        let len = bytes.len() as u64;
        if let Some(known) = self.counted(&hash) {
            if fs::metadata(&path).is_ok_and(|found| found.len() == known && known == len) {
                return Ok(());
            }
            // Its file was lost or cut behind our back: it is written again, over what is left of it.
            self.index.lock().remove(&hash);
        }
        if !self.index.lock().reserve(len, self.max_size) {
            return Err(ChunkError::Full { needed: len });
        }
        let _reserved = Reserved { inner: self, len };
        fail::fail_point!("cas-put-before-write", |_| Err(
            self.failed(io::ErrorKind::StorageFull.into(), len)
        ));
        let written = self.write(&hash, &path, bytes);
        if let Err(error) = written {
            // It may have taken its name before it failed; nothing of it may be found by the next start.
            let _ = fs::remove_file(&path);
            return Err(self.failed(error, len));
        }
        self.index.lock().insert(hash, len);
        Ok(())
    }

    fn write(&self, hash: &ChunkHash, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            durable::create_folder(folder)?;
        }
        durable::write(&self.temporary(hash), path, bytes)?;
        fail::fail_point!("cas-put-after-write-before-index", |_| Err(io::Error::other("injected")));
        Ok(())
    }

    /// Returns a path for a temporary file that no other has.
    fn temporary(&self, hash: &ChunkHash) -> PathBuf {
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.layout.temporary(&format!("{hash}.{}.{n}", std::process::id()))
    }

    fn failed(&self, error: io::Error, needed: u64) -> ChunkError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ChunkError::Full { needed },
            _ => ChunkError::Io(error),
        }
    }

    fn counted(&self, hash: &ChunkHash) -> Option<u64> {
        self.index.lock().get(hash)
    }

    /// Reads a chunk's file. One of another length is damaged, and is not read at all.
    fn read(&self, hash: &ChunkHash, len: u64) -> io::Result<Found> {
        use std::io::Read;
        let file = match fs::File::open(self.layout.chunk(hash)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != len {
            return Ok(Found::Damaged);
        }
        let mut bytes = Vec::with_capacity(len as usize);
        file.take(len + 1).read_to_end(&mut bytes)?;
        let good = bytes.len() as u64 == len && ChunkHash::of(&bytes) == *hash;
        Ok(if good { Found::Good(bytes.into()) } else { Found::Damaged })
    }

    /// Looks again at a chunk that was not as it should be, in its turn: whoever changed it meanwhile is done.
    fn judge(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        let Some(len) = self.counted(hash) else { return Ok(None) };
        match self.read(hash, len).map_err(ChunkError::Io)? {
            Found::Good(bytes) => Ok(Some(bytes)),
            Found::Missing => {
                tracing::warn!(chunk = %hash, "the file of a chunk is gone; it is no longer counted");
                self.index.lock().remove(hash);
                Ok(None)
            }
            Found::Damaged => {
                let path = self.layout.chunk(hash);
                if let Err(error) = fs::rename(&path, self.layout.quarantined(hash)) {
                    tracing::warn!(chunk = %hash, %error, "a damaged chunk cannot be put into quarantine");
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(ChunkError::Io(error));
                        }
                        _ => {}
                    }
                }
                self.index.lock().remove(hash);
                Err(ChunkError::Corrupt(*hash))
            }
        }
    }

    fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        if self.counted(hash).is_none() {
            return Ok(None);
        }
        match fs::remove_file(self.layout.chunk(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ChunkError::Io(error)),
            _ => Ok(self.index.lock().remove(hash)),
        }
    }
}

#[async_trait]
impl ChunkStore for CasStore {
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError> {
        if bytes.is_empty() || bytes.len() > MAX_CHUNK {
            let message = format!("a chunk of {} bytes (1 to {MAX_CHUNK} are allowed)", bytes.len());
            return Err(ChunkError::Io(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        let hash = if bytes.len() <= QUICK_HASH {
            ChunkHash::of(&bytes)
        } else {
            let hashed = bytes.clone();
            self.blocking(move |_| Ok(ChunkHash::of(&hashed))).await?
        };
        let turn = self.turn(&hash).await;
        self.blocking(move |inner| {
            let _turn = turn;
            inner.put(hash, &bytes)
        })
        .await?;
        Ok(hash)
    }

    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        let hash = *hash;
        let Some(len) = self.inner.counted(&hash) else { return Ok(None) };
        let read = self.blocking(move |inner| inner.read(&hash, len).map_err(ChunkError::Io)).await?;
        if let Found::Good(bytes) = read {
            return Ok(Some(bytes));
        }
        let turn = self.turn(&hash).await;
        self.blocking(move |inner| {
            let _turn = turn;
            inner.judge(&hash)
        })
        .await
    }

    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError> {
        Ok(self.inner.counted(hash).is_some())
    }

    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        let hash = *hash;
        let turn = self.turn(&hash).await;
        self.blocking(move |inner| {
            let _turn = turn;
            inner.remove(&hash)
        })
        .await
    }

    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>> {
        let inner = Arc::clone(&self.inner);
        let pages = stream::unfold(None, move |after| {
            let page = inner.index.lock().page(after, LIST_PAGE);
            let last = page.last().map(|(hash, _)| *hash);
            async move { last.map(|last| (stream::iter(page).map(Ok), Some(last))) }
        });
        pages.flatten().boxed()
    }

    fn current_size(&self) -> u64 {
        Self::current_size(self)
    }
}
