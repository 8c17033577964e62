//! Chunk files.
//!
//! # Invariants
//! * A chunk file is written whole, forced to disk and then named (see `durable.rs`), and only then counted. What
//!   a stop of the machine leaves is a chunk that the next start counts, or nothing but a temporary file.
//! * The sum of sizes is that of the chunks counted; a chunk is counted with the length it was put or found with,
//!   whatever happens to its file, and taken off the sum once.
//! * Nothing read is trusted: it is hashed before it is handed out. A chunk that fails goes into quarantine and
//!   is no longer counted.
//! * Limits hold when a chunk is written: the size of all, and what is left free on the disk. Nothing is evicted
//!   here; see [`CacheKeeper`](crate::CacheKeeper).
//! * One store per folder: another process that writes there is not noticed.
//!
//! # Starting
//! What is there is known from a copy of the index on disk, or where there is none from the files; either way the
//! files are compared with it (`index/sweep.rs`). [`CasStore::open`] waits for all of it. [`CasStore::open_at_once`]
//! does it behind: until it is done chunks are looked for as files, so that what is cached can be read at once.
//!
//! # Locking
//! Changes to one chunk take turns: there are some turns, and a chunk's hash says which is its own. A turn, like
//! the permit that bounds the number of blocking threads, is held by the closure that does the work, to its end,
//! also when its caller is gone. The index has a lock of its own that is held for a look-up, never over I/O.

pub(crate) mod files;
mod together;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use musicfs_core::{ChunkError, ChunkHash, ChunkStore, Clock, SystemClock};
use tokio::sync::Semaphore;

use crate::index::{Entry, Known, disk, sweep};
use crate::layout::{Layout, MAX_CHUNK};
use crate::space::Space;
use files::{Counting, Files, Held};

/// Blocking threads that a store uses at once: enough for any disk, few enough that a dead one leaves most of
/// the pool to others.
const THREADS: usize = 32;
/// Longest chunk in bytes that is hashed without leaving the caller's thread: some 100 microseconds.
const QUICK_HASH: usize = 512 * 1024;
/// Chunks that a listing takes from the index at a time.
const LIST_PAGE: usize = 1024;
/// Changes after which the index is written to disk without being told to.
const SAVE_AFTER: usize = 4096;

/// Where a store is, and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CasConfig {
    /// The folder that holds the chunks; made when it is not there.
    pub chunks_dir: PathBuf,
    /// Most bytes that all chunks together may have. A `put` that would exceed it fails with
    /// [`ChunkError::Full`].
    pub max_size: u64,
    /// How much of the disk is left free for others, in percent; 0 for none. A `put` that would need it fails with
    /// [`ChunkError::Full`].
    pub min_free_percent: u8,
}

impl CasConfig {
    /// Takes a folder, without a limit.
    pub fn new(chunks_dir: impl Into<PathBuf>) -> Self {
        Self { chunks_dir: chunks_dir.into(), max_size: u64::MAX, min_free_percent: 0 }
    }

    /// Sets [`CasConfig::max_size`].
    pub fn with_max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets [`CasConfig::min_free_percent`].
    pub fn with_min_free_percent(mut self, percent: u8) -> Self {
        self.min_free_percent = percent.min(100);
        self
    }
}

/// Keeps chunks in files; see [`ChunkStore`] for what it promises. Clones are the same store.
#[derive(Clone)]
pub struct CasStore {
    pub(crate) files: Arc<Files>,
    threads: Arc<Semaphore>,
}

impl std::fmt::Debug for CasStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CasStore")
            .field("layout", &self.files.layout)
            .field("current_size", &self.current_size())
            .finish_non_exhaustive()
    }
}

impl CasStore {
    /// Opens the store, counts its chunks and sweeps away what a stop left half done. Cancel safe.
    ///
    /// # Errors
    /// [`ChunkError::Io`] when the folder cannot be made, read or written, or holds chunks of another format.
    pub async fn open(config: CasConfig) -> Result<Self, ChunkError> {
        Self::open_with_clock(config, Arc::new(SystemClock::new())).await
    }

    /// As [`CasStore::open`], with a clock of the caller's.
    ///
    /// # Errors
    /// As [`CasStore::open`].
    pub async fn open_with_clock(config: CasConfig, clock: Arc<dyn Clock>) -> Result<Self, ChunkError> {
        let store = Self::unloaded(config, clock).await?;
        let files = store.files.clone();
        joined(tokio::task::spawn_blocking(move || load(&files)).await)?.map_err(ChunkError::Io)?;
        Ok(store)
    }

    /// Opens the store and returns at once; its chunks are counted behind. Until [`CasStore::counted`] the size
    /// is that of the chunks known so far, and a `put` waits when there is a limit to keep. Cancel safe.
    ///
    /// # Errors
    /// As [`CasStore::open`], but for what is found while counting: that is logged, and counting begins anew with
    /// the next [`CasStore::recount`].
    pub async fn open_at_once(config: CasConfig, clock: Arc<dyn Clock>) -> Result<Self, ChunkError> {
        let store = Self::unloaded(config, clock).await?;
        let files = store.files.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = load(&files) {
                tracing::warn!(%error, "the chunk files cannot be counted");
            }
        });
        Ok(store)
    }

    async fn unloaded(config: CasConfig, clock: Arc<dyn Clock>) -> Result<Self, ChunkError> {
        let layout = Layout::new(config.chunks_dir);
        let opened = tokio::task::spawn_blocking(move || layout.open().map(|()| layout));
        let layout = joined(opened.await)?.map_err(ChunkError::Io)?;
        let space = Space::new(layout.root().to_owned(), config.min_free_percent);
        let files = Files::new(layout, config.max_size, space, clock);
        Ok(Self { files: Arc::new(files), threads: Arc::new(Semaphore::new(THREADS)) })
    }

    /// Waits until all chunks are counted, and tells whether they could be. Cancel safe.
    pub async fn counted(&self) -> bool {
        let mut counting = self.files.counting.subscribe();
        let end = counting.wait_for(|counting| *counting != Counting::UnderWay).await;
        end.is_ok_and(|end| *end == Counting::Done)
    }

    /// Compares what is counted with the files again. Cancel safe.
    ///
    /// # Errors
    /// [`ChunkError::Io`] when the files cannot be listed; what was counted stays.
    pub async fn recount(&self) -> Result<(), ChunkError> {
        let files = self.files.clone();
        let swept = tokio::task::spawn_blocking(move || compare(&files));
        joined(swept.await)?.map_err(ChunkError::Io)
    }

    /// Writes to disk what is known of the chunks, so that the next start need not find it out. Cancel safe.
    pub async fn save_index(&self) {
        let files = self.files.clone();
        if let Err(error) = joined(tokio::task::spawn_blocking(move || files.save()).await) {
            tracing::warn!(%error, "the chunk index could not be written");
        }
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
        self.files.layout.chunk(hash)
    }

    /// Returns the sum of the lengths of all chunks.
    pub fn current_size(&self) -> u64 {
        self.files.index.lock().sums().all.bytes
    }

    /// Runs `work` where blocking is allowed. What it needs to hold until it is done, it takes with it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, ChunkError> + Send + 'static,
    ) -> Result<T, ChunkError> {
        let closed = |e| ChunkError::Io(io::Error::other(e));
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(closed)?;
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&files)
        });
        joined(done.await)?
    }

    /// Has the index written when much of it changed.
    fn save_if_due(&self) {
        if self.files.index.lock().unsaved() < SAVE_AFTER || self.files.saving.swap(true, Ordering::AcqRel) {
            return;
        }
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || {
            files.save();
            files.saving.store(false, Ordering::Release);
        });
    }
}

fn joined<T>(done: Result<T, tokio::task::JoinError>) -> Result<T, ChunkError> {
    done.map_err(|error| ChunkError::Io(io::Error::other(error)))
}

/// Fills the index. Blocks.
fn load(files: &Arc<Files>) -> io::Result<()> {
    let opened = disk::open(&files.layout.index(), &mut |hash, entry| {
        let mut index = files.index.lock();
        // What was put meanwhile is known better.
        if index.entry(&hash).is_none() {
            index.load(hash, entry);
        }
    });
    *files.disk.lock() = opened.disk;
    if opened.trusted {
        complete(files);
    }
    compare(files)
}

fn complete(files: &Files) {
    files.index.lock().set_complete();
    files.counting.send_replace(Counting::Done);
}

/// Makes the index say what the files say. Blocks.
fn compare(files: &Arc<Files>) -> io::Result<()> {
    let swept = match sweep::sweep(&Arc::downgrade(files)) {
        Ok(swept) => swept,
        Err(error) => {
            if !files.index.lock().is_complete() {
                files.counting.send_replace(Counting::Failed);
            }
            return Err(error);
        }
    };
    complete(files);
    if swept != sweep::Swept::default() {
        tracing::debug!(found = swept.found, lost = swept.lost, "the chunk index was put right");
        files.save();
    }
    Ok(())
}

#[async_trait]
impl ChunkStore for CasStore {
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError> {
        if bytes.is_empty() || bytes.len() > MAX_CHUNK {
            let message = format!("a chunk of {} bytes (1 to {MAX_CHUNK} are allowed)", bytes.len());
            return Err(ChunkError::Io(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        if self.files.max_size != u64::MAX && !self.counted().await {
            let message = "the chunks could not be counted, so the limit of their size cannot be kept";
            return Err(ChunkError::Io(io::Error::other(message)));
        }
        let hash = if bytes.len() <= QUICK_HASH {
            ChunkHash::of(&bytes)
        } else {
            let hashed = bytes.clone();
            self.blocking(move |_| Ok(ChunkHash::of(&hashed))).await?
        };
        let turn = self.files.turn(&hash).await;
        self.blocking(move |files| {
            let _turn = turn;
            files.put(hash, &bytes)
        })
        .await?;
        self.save_if_due();
        Ok(hash)
    }

    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        let hash = *hash;
        let (held, known) = Held::new(&self.files, hash);
        let read = match known {
            Known::Absent => return Ok(None),
            Known::Unsure => None,
            Known::There(len) => {
                self.blocking(move |files| {
                    let _held = held;
                    files.read_good(&hash, len).map_err(ChunkError::Io)
                })
                .await?
            }
        };
        let found = match read {
            Some(bytes) => Some(bytes),
            None => {
                let turn = self.files.turn(&hash).await;
                self.blocking(move |files| {
                    let _turn = turn;
                    files.judge(&hash)
                })
                .await?
            }
        };
        if found.is_some() {
            self.files.used(&hash);
            self.save_if_due();
        }
        Ok(found)
    }

    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError> {
        match self.files.known(hash) {
            Known::There(_) => Ok(true),
            Known::Absent => Ok(false),
            Known::Unsure => {
                let path = self.chunk_path(hash);
                self.blocking(move |_| path.try_exists().map_err(ChunkError::Io)).await
            }
        }
    }

    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        let hash = *hash;
        let turn = self.files.turn(&hash).await;
        self.blocking(move |files| {
            let _turn = turn;
            files.remove(&hash)
        })
        .await
    }

    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>> {
        let store = self.clone();
        let pages = stream::unfold((store, None), |(store, after)| async move {
            let _ = store.counted().await;
            let page = store.files.index.lock().page(after, LIST_PAGE);
            let last = page.last().map(|(hash, _)| *hash)?;
            Some((
                stream::iter(page).map(|(hash, Entry { len, .. })| Ok((hash, u64::from(len)))),
                (store, Some(last)),
            ))
        });
        pages.flatten().boxed()
    }

    fn current_size(&self) -> u64 {
        Self::current_size(self)
    }
}
