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
//! * What is cached by guess ([`ChunkManifest::guesses`]) is served only when the origin does not answer; else it is
//!   fetched, and thereby compared.
//!
//! What is cached is loaded, and mended, in `reader/load.rs`. What is fetched is in `reader/flights.rs`, what is fetched though nobody asked in `reader/prefetch.rs`, what is
//! compared in `reader/guesses.rs` and, by order, in `reader/verify.rs`, what others read of files, and is kept as well, in
//! `reader/seen.rs`.
//!
//! Locks: `files`, and each file's state, held for a few lines, the second inside the first never, neither across
//! an await. A file's `saving` is held while its manifest is written, so that none overtakes another.

mod flights;
mod guesses;
mod load;
mod prefetch;
mod seen;
mod stats;
mod table;
mod verify;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkExtent, ChunkHash, ChunkManifest, ChunkStore, Clock, ContentReader, FileId, FileMeta,
    FileVersion, MetaDb, MonoTime, OriginId, OriginPath, ReadError, ReadPlan,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::buffers::Buffers;
use crate::cached_file::{CachedFile, Guesses, Place};
use crate::edges::Edges;
use crate::fetcher::{ContentFetcher, same_error};
use crate::hot::HotChunks;
use crate::index::Known;
use crate::keeper::CacheKeeper;
use flights::{Asked, Counted};
pub use guesses::IsAway;
pub use prefetch::Warmed;
use stats::Counters;
pub use stats::ReaderStats;
use table::{Files, Shared};

/// Verified chunks kept in memory for all files together.
const HOT_BYTES: usize = 64 << 20;
/// Pieces of free memory that are kept for the answers of the next reads.
const JOINED: usize = 4;
/// Length of such a piece: what the kernel asks for at once.
const ANSWER: usize = 512 << 10;
/// Chunks that are loaded at once while any is loaded ahead: one is hashed while the disk reads others.
const LOADS: usize = 3;
/// A store that failed is left alone for this long.
const RETRY_STORE: Duration = Duration::from_secs(60);
/// How often one byte of a read is tried: a chunk may be damaged, then its fetch ahead may fail, then its own.
const MAX_TRIES: usize = 4;
/// How far to read ahead while nothing can be stored: what came is kept for as long as it is ahead only.
const AHEAD_WITHOUT_STORE: u64 = 1 << 20;
/// How long a read waits for what is being fetched, unless said otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads files through a chunk store. Cloning gives another handle on the same reader.
#[derive(Clone)]
pub struct FileReader {
    inner: Arc<Inner>,
}

/// Tells whether the files of an origin are worth caching.
pub type WorthCaching = dyn Fn(&OriginId) -> bool + Send + Sync;

struct Inner {
    store: Arc<dyn ChunkStore>,
    keeper: OnceLock<CacheKeeper>,
    is_away: OnceLock<Box<IsAway>>,
    fetcher: Arc<ContentFetcher>,
    db: Arc<dyn MetaDb>,
    clock: Arc<dyn Clock>,
    worth_caching: Box<WorthCaching>,
    hot: HotChunks,
    /// For what is put together of several chunks.
    buffers: Buffers,
    files: Mutex<Files>,
    store_down_until: Mutex<Option<MonoTime>>,
    /// Whether the last chunk was waited for in vain.
    store_hangs: AtomicBool,
    /// Whether it was told that the store fails, and not yet that it works again.
    told_down: AtomicBool,
    /// Whether it was told that what was read for tags cannot be kept, and none was since.
    told_unkept: AtomicBool,
    counters: Counters,
    /// Readers that wait for an origin, and fetches for them: prefetching waits until there are none.
    reading: watch::Sender<usize>,
    prefetch: AtomicBool,
    /// One permit for each chunk that is loaded ahead at once, and for those that are waited for meanwhile.
    loads: Arc<Semaphore>,
    /// One permit for each track that is fetched ahead.
    tracks: Arc<Semaphore>,
    /// How long a guess waits to be compared while nobody reads it; `None` for ever.
    compare_after: watch::Sender<Option<Duration>>,
    /// How long a read waits for what is being fetched.
    deadline: Mutex<Duration>,
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
            keeper: OnceLock::new(),
            is_away: OnceLock::new(),
            fetcher: Arc::new(fetcher),
            db,
            clock,
            worth_caching,
            hot: HotChunks::new(HOT_BYTES),
            buffers: Buffers::new(ANSWER, JOINED),
            files: Mutex::default(),
            store_down_until: Mutex::default(),
            store_hangs: AtomicBool::new(false),
            told_down: AtomicBool::new(false),
            told_unkept: AtomicBool::new(false),
            counters: Counters::default(),
            reading: watch::channel(0).0,
            prefetch: AtomicBool::new(true),
            loads: Arc::new(Semaphore::new(LOADS)),
            tracks: Arc::new(Semaphore::new(prefetch::MAX_TRACKS)),
            compare_after: watch::channel(None).0,
            deadline: Mutex::new(DEADLINE),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has `keeper` make room in the store, which must be its own: without one, a full store stays full.
    pub fn with_keeper(self, keeper: CacheKeeper) -> Self {
        // The first stays; a second would be of another store.
        let _ = self.inner.keeper.set(keeper);
        self
    }

    /// Changes the deadline of reads that begin from now on; at first it is 30 s. What is being fetched goes on beyond it
    /// for as long as it brings something, and is there for the next.
    pub fn set_deadline(&self, deadline: Duration) {
        *self.inner.deadline.lock() = deadline;
    }

    /// Forgets what is kept in memory of files and chunks: what is read from now on comes from the store, or the
    /// source. Who is reading goes on with what it has.
    pub fn forget(&self) {
        self.inner.files.lock().forget_idle();
        self.inner.hot.clear();
    }

    /// Waits until all that is being fetched has come or failed, and is stored and recorded. Cancel safe; has no bound of
    /// its own.
    pub async fn wait_stored(&self) {
        let files = self.inner.files.lock().all();
        for file in files {
            let mut in_flight = file.in_flight.subscribe();
            // The sender is in `file`.
            let _ = in_flight.wait_for(|count| *count == 0).await;
        }
    }

    /// Returns what was counted so far.
    pub fn stats(&self) -> ReaderStats {
        let inner = &*self.inner;
        inner.counters.read(inner.fetcher.fetched(), inner.store_is_down())
    }
}

impl Inner {
    /// Returns the state of a file, loading its manifest when it is not in memory. What nobody asked for stays in memory
    /// only as long as there is room.
    async fn file(
        &self,
        id: FileId,
        version: &FileVersion,
        meta: Option<&FileMeta>,
        asked: Asked,
    ) -> Result<Shared, ReadError> {
        let key = (id, version.clone());
        if let Some(file) = self.files.lock().get(&key, asked) {
            return Ok(file);
        }
        let (db, known) = (self.db.clone(), meta.cloned());
        let (saved, meta) = blocking(move || {
            let meta = known.map_or_else(|| db.file(id), |meta| Ok(Some(meta)))?;
            Ok((db.manifest(id)?, meta.map(Box::new)))
        })
        .await?;
        let manifest = saved.filter(|(of, _)| of.is_same(version)).map(|(_, manifest)| manifest);
        let edges = edges(meta.as_deref(), version);
        let mut fresh = CachedFile::new(version.size, manifest.unwrap_or_default(), edges.fences());
        self.drop_evicted(&mut fresh);
        Ok(self.files.lock().insert(key, fresh, meta, edges, asked))
    }

    /// Takes out of a file's manifest the chunks that have been evicted.
    fn forget_evicted(&self, file: &Shared) {
        self.drop_evicted(&mut file.lock());
    }

    fn drop_evicted(&self, file: &mut CachedFile) {
        let gone: Vec<ChunkExtent> =
            file.manifest().all().filter(|extent| self.is_evicted(&extent.hash)).copied().collect();
        for extent in &gone {
            file.lost(extent);
        }
    }

    fn is_evicted(&self, hash: &ChunkHash) -> bool {
        self.keeper.get().is_some_and(|keeper| keeper.store().files.known(hash) == Known::Absent)
    }

    fn is_counted(&self, hash: &ChunkHash) -> bool {
        self.keeper.get().is_some_and(|keeper| matches!(keeper.store().files.known(hash), Known::There(_)))
    }

    /// Returns how much of a manifest is there.
    fn covered(&self, manifest: &ChunkManifest) -> u64 {
        let there = manifest.extents().iter().filter(|extent| !self.is_evicted(&extent.hash));
        there.map(|extent| extent.range.len()).sum()
    }

    /// Waits for `work` until `until`, then drops it.
    async fn by<T>(&self, until: MonoTime, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.clock.sleep_until(until) => None,
        }
    }

    async fn read(self: &Arc<Self>, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let (began, deadline) = (self.clock.now(), *self.deadline.lock());
        let until = began.plus(deadline);
        let file = self.file(plan.file(), plan.version(), None, Asked::Reader).await?;
        let mut guesses = self.what_to_do_with_guesses(&file, plan);
        let (ahead, plays) = {
            let mut state = file.lock();
            let (mut ahead, plays) = state.note_read(range);
            let keeps_nothing = self.keeps_nothing();
            if !keeps_nothing && *file.in_flight.borrow() == 0 {
                state.forget_unstored();
            }
            if keeps_nothing {
                let least = ahead.fetch.len().min(AHEAD_WITHOUT_STORE);
                ahead.fetch = ByteRange::at(ahead.fetch.start(), least);
            }
            let mut launches = state.launch_demand(range, guesses);
            let share = |bytes| self.fetcher.share(bytes);
            launches.append(&mut state.launch_ahead(ahead.fetch, ahead.step, guesses, share));
            drop(state);
            self.start(&file, plan, launches, Asked::Reader);
            (ahead, plays)
        };
        self.load_ahead(&file, range, ahead.load.end());
        if plays {
            self.follow(&file, plan);
        }
        let mut parts: Vec<Bytes> = Vec::new();
        let (mut at, mut tries) = (range.start(), 0);
        while at < range.end() {
            let place = file.lock().place(at, guesses);
            let want = ByteRange::new(at, range.end());
            let part = match place {
                Place::Chunk(extent) => self.load_part(&file, &extent, want).await,
                Place::Flight(of, mut outcome) => {
                    let _waiting = Counted::new(&self.reading);
                    let mut mended = None;
                    let coming = async {
                        mended = self.mend_if_slow(&file, plan, want, &mut outcome).await;
                        if mended.is_some() {
                            return None;
                        }
                        outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
                    };
                    let late = || Some(Err(Arc::new(timed_out(plan, deadline))));
                    let came = self.by(until, coming).await.unwrap_or_else(late);
                    match came {
                        _ if mended.is_some() => mended,
                        Some(Ok(bytes)) => {
                            let part = of.intersect(&want).map_or(0..0, |part| {
                                let from = (part.start() - of.start()) as usize;
                                from..from + part.len() as usize
                            });
                            self.counters.from_origins.fetch_add(part.len() as u64, Ordering::Relaxed);
                            Some(bytes.slice(part))
                        }
                        Some(Err(error)) if is_away(&error) && file.lock().guess_at(at).is_some() => {
                            guesses = Guesses::Serve;
                            continue;
                        }
                        Some(Err(error)) if tries > 0 || !may_pass(&error, self.clock.now().since(began)) => {
                            let mended = match is_away(&error) {
                                true => self.by(until, self.mend(&file, plan, want)).await.flatten(),
                                false => None,
                            };
                            Some(mended.ok_or_else(|| same_error(&error))?)
                        }
                        // It was fetched for another, or ahead; now it is wanted.
                        Some(Err(_)) | None => None,
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
                    let demand = file.lock().launch_demand(want, guesses);
                    self.start(&file, plan, demand, Asked::Reader);
                }
                // The cache loses what is put into it as fast as it is read.
                None => {
                    let rest = self.fetcher.fetch(plan, want).await?;
                    at = range.end();
                    parts.push(rest);
                }
            }
        }
        Ok(self.buffers.join(parts))
    }
}

#[async_trait]
impl ContentReader for FileReader {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        let inner = &self.inner;
        if !(inner.worth_caching)(&file.origin) {
            return inner.fetcher.source().open(file).await;
        }
        inner.file(file.id, &file.version, Some(file), Asked::Reader).await?;
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
        let in_memory = inner.files.lock().get(&(file.id, file.version.clone()), Asked::Prefetch);
        let manifest = match in_memory {
            Some(state) => state.lock().manifest().clone(),
            None => match inner.db.manifest(file.id) {
                Ok(Some((version, manifest))) if version.is_same(&file.version) => manifest,
                _ => ChunkManifest::default(),
            },
        };
        let any = manifest.all().any(|extent| !inner.is_evicted(&extent.hash));
        match inner.covered(&manifest) {
            covered if covered >= file.version.size => "full",
            _ if any => "partial",
            _ => "none",
        }
    }

    fn stand_in(&self, file: &FileMeta) -> Option<(OriginId, OriginPath)> {
        self.inner.fetcher.source().stand_in(file)
    }
}

/// Finds a file's head and tail.
fn edges(meta: Option<&FileMeta>, version: &FileVersion) -> Edges {
    let audio = meta.filter(|meta| meta.version.is_same(version)).and_then(|meta| meta.audio.as_ref());
    Edges::of(version.size, audio.and_then(|audio| audio.audio_region))
}

fn timed_out(plan: &ReadPlan, after: Duration) -> ReadError {
    let origin = plan.as_verbatim().map_or_else(|| OriginId::from("any"), |(origin, ..)| origin.clone());
    ReadError::TimedOut { origin, after }
}

/// Whether the origin did not answer.
fn is_away(error: &ReadError) -> bool {
    match error {
        ReadError::TimedOut { .. } | ReadError::LeftAlone { .. } => true,
        ReadError::Unavailable(cause) => cause.kind.is_transient(),
        _ => false,
    }
}

/// Whether it makes sense to try again at once what failed for another, for whom this read waited so long.
fn may_pass(error: &ReadError, waited: Duration) -> bool {
    match error {
        // Most of that time was before this read.
        ReadError::TimedOut { after, .. } => waited < *after / 2,
        // It would be left alone again.
        ReadError::LeftAlone { .. } => false,
        other => is_away(other),
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
