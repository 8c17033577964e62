//! Reading through the cache.
//!
//! A read takes what is in chunks from the chunk store, verified, and what is in nobody's hands from the source;
//! what comes is served at once, cut into chunks, stored, and recorded in the file's manifest, so that it is there
//! after a restart with every origin down.
//!
//! Invariants:
//! * One fetch per stretch, however many read it. Fetches are tasks of their own: a reader that goes away harms no
//!   other, and what was asked for still arrives.
//! * The cache is never trusted and never fatal. A damaged or missing chunk is fetched again inside the same read;
//!   a store that fails turns reads into reads of the source, and is tried again after a while.
//! * Never a whole file in memory: what is ahead of all readers fits one budget.
//!
//! Locks: `files`, and each file's state, held for a few lines, the second inside the first never, neither across
//! an await. A file's `saving` is held while its manifest is written, so that none overtakes another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use musicfs_core::{
    Batch, ByteRange, ChunkError, ChunkExtent, ChunkHash, ChunkManifest, ChunkStore, Clock, ContentReader,
    FileId, FileMeta, FileVersion, MetaDb, MonoTime, Op, OriginId, ReadError, ReadPlan,
};
use parking_lot::Mutex;
use serde::Serialize;
use tracing::{error, warn};

use crate::cached_file::{CachedFile, Launch, Place};
use crate::fetcher::{ContentFetcher, same_error};
use crate::hot::HotChunks;

/// Verified chunks kept in memory for all files together.
const HOT_BYTES: usize = 32 << 20;
/// Files whose state is kept in memory; beyond, the one opened longest ago is loaded again when it is next read.
const MAX_FILES: usize = 512;
/// A manifest is saved when this much of its file has come, and when nothing more is coming: what a kill loses.
const SAVE_EVERY: u64 = 8 << 20;
/// A store that failed is left alone for this long.
const RETRY_STORE: Duration = Duration::from_secs(60);
/// How often one byte of a read is tried: a chunk may be damaged, then its fetch ahead may fail, then its own.
const MAX_TRIES: usize = 4;

/// What a reader counts, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReaderStats {
    /// Bytes served from chunks.
    pub from_cache: u64,
    /// Bytes served as they came from an origin.
    pub from_origins: u64,
    /// Bytes fetched, read-ahead included.
    pub fetched: u64,
    /// Chunks that were damaged or gone, and were fetched again.
    pub repaired: u64,
    /// Chunks that could not be stored.
    pub not_stored: u64,
    /// Whether the store is left alone because it failed a short while ago.
    pub passing_through: bool,
}

/// Reads files through a chunk store. Cloning gives another handle on the same reader.
#[derive(Clone)]
pub struct FileReader {
    inner: Arc<Inner>,
}

/// Tells whether the files of an origin are worth caching.
pub type WorthCaching = dyn Fn(&OriginId) -> bool + Send + Sync;

struct Inner {
    store: Arc<dyn ChunkStore>,
    fetcher: ContentFetcher,
    db: Arc<dyn MetaDb>,
    clock: Arc<dyn Clock>,
    worth_caching: Box<WorthCaching>,
    hot: HotChunks,
    files: Mutex<Files>,
    store_down_until: Mutex<Option<MonoTime>>,
    from_cache: AtomicU64,
    from_origins: AtomicU64,
    repaired: AtomicU64,
    not_stored: AtomicU64,
}

type Shared = Arc<Tracked>;

/// A file's state, with the turn of those who save it: what is saved last must be what was known last.
#[derive(Debug)]
struct Tracked {
    state: Mutex<CachedFile>,
    saving: tokio::sync::Mutex<()>,
}

impl Tracked {
    fn lock(&self) -> parking_lot::MutexGuard<'_, CachedFile> {
        self.state.lock()
    }
}

#[derive(Default)]
struct Files {
    by_version: HashMap<(FileId, FileVersion), (Shared, u64)>,
    opens: u64,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Makes a reader which keeps in `store` what `fetcher` brings, and its manifests in `db`. Files of origins that
    /// are not `worth_caching` are read from the fetcher's source.
    pub fn with_fetcher(
        store: Arc<dyn ChunkStore>,
        fetcher: ContentFetcher,
        db: Arc<dyn MetaDb>,
        clock: Arc<dyn Clock>,
        worth_caching: Box<WorthCaching>,
    ) -> Self {
        let inner = Inner {
            store,
            fetcher,
            db,
            clock,
            worth_caching,
            hot: HotChunks::new(HOT_BYTES),
            files: Mutex::default(),
            store_down_until: Mutex::default(),
            from_cache: AtomicU64::new(0),
            from_origins: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            not_stored: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns what was counted so far.
    pub fn stats(&self) -> ReaderStats {
        let inner = &*self.inner;
        ReaderStats {
            from_cache: inner.from_cache.load(Ordering::Relaxed),
            from_origins: inner.from_origins.load(Ordering::Relaxed),
            fetched: inner.fetcher.fetched(),
            repaired: inner.repaired.load(Ordering::Relaxed),
            not_stored: inner.not_stored.load(Ordering::Relaxed),
            passing_through: inner.store_is_down(),
        }
    }
}

impl Inner {
    fn store_is_down(&self) -> bool {
        self.store_down_until.lock().is_some_and(|until| self.clock.now() < until)
    }

    fn store_failed(&self, error: &ChunkError) {
        let until = self.clock.now().plus(RETRY_STORE);
        let before = self.store_down_until.lock().replace(until);
        if before.is_none_or(|before| before < self.clock.now()) {
            error!(
                error = error as &dyn std::error::Error,
                "the cache fails; reading from origins, trying again in {} s",
                RETRY_STORE.as_secs()
            );
        }
    }

    /// Returns the state of a file, loading its manifest when it is not in memory.
    async fn file(&self, id: FileId, version: &FileVersion) -> Result<Shared, ReadError> {
        let key = (id, version.clone());
        if let Some(file) = self.files.lock().get(&key) {
            return Ok(file);
        }
        let db = self.db.clone();
        let saved = blocking(move || db.manifest(id)).await?;
        let manifest = saved.filter(|(of, _)| of.is_same(version)).map(|(_, manifest)| manifest);
        let fresh = CachedFile::new(version.size, manifest.unwrap_or_default(), Vec::new());
        Ok(self.files.lock().insert(key, fresh))
    }

    /// Loads the part of a chunk that a read wants; `None` when the chunk is of no use.
    async fn load_part(&self, file: &Shared, extent: &ChunkExtent, want: ByteRange) -> Option<Bytes> {
        let loaded = match self.hot.get(&*self.store, &extent.hash).await {
            Ok(bytes) => bytes.filter(|bytes| bytes.len() as u64 == extent.range.len()),
            Err(error @ ChunkError::Corrupt(_)) => {
                warn!(error = &error as &dyn std::error::Error, "damaged chunk; fetching it again");
                None
            }
            Err(error) => {
                self.store_failed(&error);
                None
            }
        };
        let Some(bytes) = loaded else {
            file.lock().lost(extent);
            self.repaired.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let part = extent.range.intersect(&want)?;
        let from = usize::try_from(part.start() - extent.range.start()).ok()?;
        let len = usize::try_from(part.len()).ok()?;
        self.from_cache.fetch_add(part.len(), Ordering::Relaxed);
        Some(bytes.slice(from..from + len))
    }

    fn start(self: &Arc<Self>, file: &Shared, plan: &ReadPlan, launches: Vec<Launch>) {
        for launch in launches {
            let (inner, file, plan) = (self.clone(), file.clone(), plan.clone());
            tokio::spawn(async move { inner.fly(&file, &plan, launch).await });
        }
    }

    /// One fetch, from the request to the manifest.
    async fn fly(&self, file: &Shared, plan: &ReadPlan, launch: Launch) {
        let Launch { range, outcome } = launch;
        let cuts = match self.fetcher.fetch(plan, range).await {
            Ok(bytes) => {
                outcome.send_replace(Some(Ok(bytes.clone())));
                file.lock().arrived(range, bytes)
            }
            Err(error) => {
                let cuts = file.lock().failed(range);
                outcome.send_replace(Some(Err(Arc::new(error))));
                cuts
            }
        };
        for cut in cuts {
            if self.store_is_down() {
                file.lock().not_stored();
                continue;
            }
            match self.store.put(cut.bytes.clone()).await {
                Ok(hash) => {
                    self.hot.insert(&hash, cut.bytes);
                    file.lock().stored(ChunkExtent { range: cut.range, hash });
                }
                Err(error) => {
                    self.store_failed(&error);
                    self.not_stored.fetch_add(1, Ordering::Relaxed);
                    file.lock().not_stored();
                }
            }
        }
        if !self.store_is_down() {
            let _turn = file.saving.lock().await;
            let unsaved = file.lock().take_unsaved(SAVE_EVERY);
            if let Some(manifest) = unsaved {
                self.save(plan, manifest).await;
            }
        }
    }

    async fn save(&self, plan: &ReadPlan, manifest: ChunkManifest) {
        let (db, at) = (self.db.clone(), self.clock.unix());
        let op = Op::PutManifest { id: plan.file(), version: plan.version().clone(), manifest };
        let saved = blocking(move || db.apply(&Batch { at, ops: vec![op] })).await;
        if let Err(error) = saved {
            warn!(file = %plan.file(), error = &error as &dyn std::error::Error, "what is cached could not be recorded");
        }
    }

    async fn read(self: &Arc<Self>, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let file = self.file(plan.file(), plan.version()).await?;
        let ahead = {
            let mut state = file.lock();
            let ahead = state.note_read(range);
            let demand = state.launch_demand(range);
            let ahead_launches = state.launch_ahead(ahead, |bytes| self.fetcher.share(bytes));
            drop(state);
            self.start(&file, plan, demand);
            self.start(&file, plan, ahead_launches);
            ahead
        };
        self.warm(&file, ahead);
        let mut parts: Vec<Bytes> = Vec::new();
        let (mut at, mut tries) = (range.start(), 0);
        while at < range.end() {
            let place = file.lock().place(at);
            let want = ByteRange::new(at, range.end());
            let part = match place {
                Place::Chunk(extent) => self.load_part(&file, &extent, want).await,
                Place::Flight(of, mut outcome) => {
                    match outcome.wait_for(Option::is_some).await.map(|o| o.clone()) {
                        Ok(Some(Ok(bytes))) => {
                            let part = of.intersect(&want).map_or(0..0, |part| {
                                let from = (part.start() - of.start()) as usize;
                                from..from + part.len() as usize
                            });
                            self.from_origins.fetch_add(part.len() as u64, Ordering::Relaxed);
                            Some(bytes.slice(part))
                        }
                        Ok(Some(Err(error))) if tries > 0 || !may_pass(&error) => {
                            return Err(same_error(&error));
                        }
                        // It was fetched for another, or ahead; now it is wanted.
                        Ok(_) | Err(_) => None,
                    }
                }
                Place::Gap => None,
            };
            match part {
                Some(bytes) => {
                    at += bytes.len() as u64;
                    tries = 0;
                    parts.push(bytes);
                }
                None if tries < MAX_TRIES => {
                    tries += 1;
                    let demand = file.lock().launch_demand(want);
                    self.start(&file, plan, demand);
                }
                // The cache loses what is put into it as fast as it is read.
                None => {
                    let rest = self.fetcher.fetch(plan, want).await?;
                    at = range.end();
                    parts.push(rest);
                }
            }
        }
        Ok(join(parts))
    }

    /// Loads the chunks that a forward reader comes to next.
    fn warm(self: &Arc<Self>, file: &Shared, ahead: ByteRange) {
        if ahead.is_empty() {
            return;
        }
        let Place::Chunk(next) = file.lock().place(ahead.start()) else { return };
        let inner = self.clone();
        // What fails here fails again, and is mended, when it is read.
        tokio::spawn(async move { inner.hot.get(&*inner.store, &next.hash).await.is_ok() });
    }
}

#[async_trait]
impl ContentReader for FileReader {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        let inner = &self.inner;
        if !(inner.worth_caching)(&file.origin) {
            return inner.fetcher.source().open(file).await;
        }
        inner.file(file.id, &file.version).await?;
        Ok(ReadPlan::verbatim(file))
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let cached = plan.as_verbatim().is_some_and(|(origin, ..)| (self.inner.worth_caching)(origin));
        if !cached {
            return self.inner.fetcher.source().read(plan, range).await;
        }
        self.inner.read(plan, range.clamp_to(plan.size())).await
    }

    async fn backing(&self, plan: &ReadPlan) -> Option<std::fs::File> {
        self.inner.fetcher.source().backing(plan).await
    }

    async fn hash(&self, file: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        self.inner.fetcher.source().hash(file).await
    }

    fn cached(&self, file: &FileMeta) -> &'static str {
        let inner = &self.inner;
        if !(inner.worth_caching)(&file.origin) {
            return inner.fetcher.source().cached(file);
        }
        let in_memory = inner.files.lock().get(&(file.id, file.version.clone()));
        let covered = match in_memory {
            Some(state) => state.lock().manifest().covered(),
            None => match inner.db.manifest(file.id) {
                Ok(Some((version, manifest))) if version.is_same(&file.version) => manifest.covered(),
                _ => 0,
            },
        };
        match covered {
            0 if file.version.size > 0 => "none",
            covered if covered >= file.version.size => "full",
            _ => "partial",
        }
    }
}

impl Files {
    fn get(&mut self, key: &(FileId, FileVersion)) -> Option<Shared> {
        self.opens += 1;
        let (file, used) = self.by_version.get_mut(key)?;
        *used = self.opens;
        Some(file.clone())
    }

    /// Adds a file, unless another was quicker; makes room by forgetting files that nobody reads.
    fn insert(&mut self, key: (FileId, FileVersion), file: CachedFile) -> Shared {
        self.opens += 1;
        if self.by_version.len() >= MAX_FILES {
            let idle =
                |(_, (file, _)): &(&(FileId, FileVersion), &(Shared, u64))| Arc::strong_count(file) == 1;
            let oldest = self.by_version.iter().filter(idle).min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.by_version.remove(&key);
            }
        }
        let opens = self.opens;
        let (file, used) = self.by_version.entry(key).or_insert_with(|| {
            let tracked = Tracked { state: Mutex::new(file), saving: tokio::sync::Mutex::default() };
            (Arc::new(tracked), opens)
        });
        *used = opens;
        file.clone()
    }
}

/// Whether it makes sense to try again at once what failed for another.
fn may_pass(error: &ReadError) -> bool {
    matches!(error, ReadError::Unavailable(cause) if cause.kind.is_transient())
}

fn join(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(parts) => {
            let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, musicfs_core::MetaError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(musicfs_core::MetaError::Storage(Box::new(error)).into()),
        },
    }
}
