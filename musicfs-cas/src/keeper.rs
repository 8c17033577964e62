//! What is kept in the cache, and what goes.
//!
//! The store says when there is no room; the keeper makes it. It evicts the chunks used longest ago, the middle of
//! files before their heads and tails, and never one that is pinned or being read. How full the cache is has
//! consequences at fixed marks (see [`CacheLevel`]).
//!
//! Invariants: what an eviction says it freed was freed. An eviction goes over its victims once: one that cannot
//! be deleted is counted and left, so that it ends whatever the disk does. One eviction at a time: whoever finds
//! one under way waits for it, or goes without.
//!
//! Not here: which bytes are fetched and when, which is [`FileReader`](crate::FileReader)'s.

mod level;
mod marks;
mod verify;
mod victims;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use musicfs_core::{ChunkError, ChunkHash, Clock, EventBus, EventKind, MonoTime, PinSet};
use parking_lot::Mutex;
use serde::Serialize;

use crate::index::{ChunkClass, Sums};
use crate::store::CasStore;
pub use level::CacheLevel;
pub use verify::Verified;
use victims::Victims;

/// Entries that are taken from the index at a time.
const PAGE: usize = 1024;
/// Time between two rounds of [`CacheKeeper::run`].
const ROUND: Duration = Duration::from_secs(30);
/// For how long it is not tried again to make room after there was nothing to evict: looking takes time.
const FUTILE: Duration = Duration::from_secs(10);
/// How many chunks make room for one when the disk is full: as many may be written at once.
const CHUNKS_AT_ONCE: u64 = 4;
/// Heads and tails are evicted last while they take no more than this part of the room, in percent. The tags of
/// 10,000 files are some 6 GB at the most.
const EDGE_SHARE: u64 = 40;

/// Up to here, in percent of the room, heads and tails are taken that nobody asked for: they are to leave as much to
/// those that somebody did.
const UNASKED_SHARE: u64 = 20;
/// The same, in chunks: what is known of each is in memory, some 80 bytes.
const UNASKED_CHUNKS: u64 = 200_000;

/// Decides what stays in a [`CasStore`]. Clones are the same keeper.
#[derive(Clone)]
pub struct CacheKeeper {
    inner: Arc<Inner>,
}

struct Inner {
    store: CasStore,
    clock: Arc<dyn Clock>,
    max_age: Option<Duration>,
    /// Held by the eviction under way.
    evicting: tokio::sync::Mutex<()>,
    pins: Mutex<Arc<PinSet>>,
    /// The round of marking that a chunk must be of to be pinned.
    round: AtomicU8,
    /// Whether it is known which chunks are pinned, and which are in no file.
    marked: AtomicBool,
    /// Held by the marking under way.
    marking: Mutex<()>,
    /// Until when it is not tried to make room, as there was nothing to evict.
    futile_until: Mutex<Option<MonoTime>>,
    evicted_chunks: AtomicU64,
    evicted_bytes: AtomicU64,
    undeletable: AtomicU64,
    events: OnceLock<EventBus>,
}

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// Chunks that were removed.
    pub chunks: u64,
    /// Their bytes, which are free now.
    pub bytes: u64,
    /// Chunks that should have gone and could not be deleted.
    pub undeletable: u64,
}

/// How a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes that they may have; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// What the limit and the free space on the disk together allow; `None` for no limit.
    pub room: Option<u64>,
    /// How full that is.
    pub level: CacheLevel,
    /// Whether all chunks are counted; they are, shortly after the start.
    pub counted: bool,
    /// Chunks of heads and tails of files.
    pub edge_chunks: u64,
    /// Their bytes.
    pub edge_bytes: u64,
    /// Pinned chunks.
    pub pinned_chunks: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
    /// Bytes of the chunks that are known to be in files.
    pub referenced_bytes: u64,
    /// What those would take if nothing were stored once for several files.
    pub unshared_bytes: u64,
    /// Chunks evicted since the start.
    pub evicted_chunks: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Times that a chunk could not be deleted.
    pub undeletable: u64,
}

impl std::fmt::Debug for CacheKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheKeeper").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl CacheKeeper {
    /// Makes the keeper of a store. Chunks that were not used for `max_age` go, whether there is room or not.
    pub fn new(store: CasStore, clock: Arc<dyn Clock>, max_age: Option<Duration>) -> Self {
        let inner = Inner {
            store,
            clock,
            max_age,
            evicting: tokio::sync::Mutex::default(),
            pins: Mutex::default(),
            round: AtomicU8::new(1),
            marked: AtomicBool::new(false),
            marking: Mutex::default(),
            futile_until: Mutex::default(),
            evicted_chunks: AtomicU64::new(0),
            evicted_bytes: AtomicU64::new(0),
            undeletable: AtomicU64::new(0),
            events: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has what happens to the cache told on `bus`: chunks that are evicted or damaged, and a cache that fails.
    pub fn with_events(self, bus: EventBus) -> Self {
        // The first stays.
        let _ = self.inner.events.set(bus);
        self
    }

    /// Tells what happened to the cache.
    pub(crate) fn tell(&self, event: EventKind) {
        if let Some(bus) = self.inner.events.get() {
            bus.publish(event);
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &CasStore {
        &self.inner.store
    }

    /// Tells how full the cache is, as far as is known without asking the disk.
    pub fn level(&self) -> CacheLevel {
        let taken = self.inner.store.files.index.lock().taken();
        CacheLevel::of(taken, self.room(taken))
    }

    /// Returns how many bytes of heads and tails may still be taken that nobody asked for. Nothing is evicted for them.
    pub(crate) fn room_for_unasked(&self) -> u64 {
        let (sums, taken) = {
            let index = self.inner.store.files.index.lock();
            (index.sums(), index.taken())
        };
        if sums.edges.chunks >= UNASKED_CHUNKS {
            return 0;
        }
        let room = self.room(taken);
        let share = (room / 100).saturating_mul(UNASKED_SHARE).saturating_sub(sums.edges.bytes);
        share.min(level::before_evicting(taken, room))
    }

    /// Returns how the cache is.
    pub fn stats(&self) -> CacheStats {
        let inner = &*self.inner;
        let (sums, counted) = {
            let index = inner.store.files.index.lock();
            (index.sums(), index.is_complete())
        };
        let Sums { all, edges, pinned, referenced, unshared_bytes } = sums;
        let limit = |bytes: u64| (bytes != u64::MAX).then_some(bytes);
        let room = self.room(all.bytes);
        CacheStats {
            chunks: all.chunks,
            bytes: all.bytes,
            max_bytes: limit(inner.store.files.max_size),
            room: limit(room),
            level: CacheLevel::of(all.bytes, room),
            counted,
            edge_chunks: edges.chunks,
            edge_bytes: edges.bytes,
            pinned_chunks: pinned.chunks,
            pinned_bytes: pinned.bytes,
            referenced_bytes: referenced.bytes,
            unshared_bytes,
            evicted_chunks: inner.evicted_chunks.load(Ordering::Relaxed),
            evicted_bytes: inner.evicted_bytes.load(Ordering::Relaxed),
            undeletable: inner.undeletable.load(Ordering::Relaxed),
        }
    }

    /// Takes note of a chunk that was stored as part of a file.
    pub(crate) fn stored(&self, hash: &ChunkHash, class: ChunkClass, pinned: bool) {
        let round = self.inner.round.load(Ordering::Acquire);
        self.inner.store.files.index.lock().change(hash, |entry| {
            entry.class = entry.class.max(class);
            entry.refs = entry.refs.saturating_add(1);
            if pinned {
                entry.pinned = round;
            }
        });
    }

    /// Makes room for a chunk, and tells whether it should be written. Cancel safe.
    pub(crate) async fn admit(&self, len: u64) -> bool {
        if self.level_with(len) < CacheLevel::Evicting {
            return true;
        }
        self.evict_down(len).await;
        self.level_with(len) < CacheLevel::Full
    }

    /// Returns how many chunks the disk had no room for, though the limits had.
    pub(crate) fn refused_by_disk(&self) -> u64 {
        self.inner.store.files.refused_by_disk.load(Ordering::Relaxed)
    }

    /// Tells whether the cache is full, and there was nothing to evict when it was last tried, a short while ago.
    pub(crate) fn is_stuck(&self) -> bool {
        let now = self.inner.clock.now();
        self.inner.futile_until.lock().is_some_and(|until| now < until) && self.level() >= CacheLevel::Tight
    }

    /// Makes room for a chunk that the disk had no room for. Cancel safe.
    pub(crate) async fn make_room(&self, len: u64) -> bool {
        self.evict(len.saturating_mul(CHUNKS_AT_ONCE)).await.bytes >= len
    }

    /// Evicts until the cache is below its first mark and has room for `needed` bytes more, as far as it can.
    async fn evict_down(&self, needed: u64) -> Evicted {
        let _turn = self.inner.evicting.lock().await;
        let goal = self.look(move |keeper| {
            let taken = keeper.inner.store.files.index.lock().taken();
            level::surplus(taken.saturating_add(needed), keeper.room(taken))
        });
        let goal = goal.await;
        let now = self.inner.clock.now();
        if goal == 0 || self.inner.futile_until.lock().is_some_and(|until| now < until) {
            return Evicted::default();
        }
        let done = self.evict_oldest(goal, u64::MAX).await;
        *self.inner.futile_until.lock() = (done.bytes == 0).then(|| now.plus(FUTILE));
        done
    }

    /// Removes what was used longest ago, until `bytes` are free or there is nothing left that may go. Cancel safe:
    /// what was removed is gone.
    pub async fn evict(&self, bytes: u64) -> Evicted {
        let _turn = self.inner.evicting.lock().await;
        self.evict_oldest(bytes, u64::MAX).await
    }

    /// Removes what was not used for the longest time allowed. Cancel safe as [`CacheKeeper::evict`].
    pub async fn expire(&self) -> Evicted {
        let Some(age) = self.inner.max_age else { return Evicted::default() };
        let now = self.inner.store.files.now();
        let before = now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let _turn = self.inner.evicting.lock().await;
        self.evict_oldest(u64::MAX, before).await
    }

    /// Removes these chunks, but for those that are pinned or being read. Cancel safe as [`CacheKeeper::evict`].
    pub async fn evict_chunks(&self, hashes: Vec<ChunkHash>) -> Evicted {
        let _turn = self.inner.evicting.lock().await;
        self.remove(hashes).await
    }

    /// Removes everything, pinned or not. Cancel safe as [`CacheKeeper::evict`].
    pub async fn clear(&self) -> Evicted {
        let _turn = self.inner.evicting.lock().await;
        let store = self.inner.store.clone();
        let mut all = Evicted::default();
        let mut after = None;
        loop {
            let page = store.files.index.lock().page(after, PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (hash, _) in &page {
                store.files.index.lock().change(hash, |entry| entry.pinned = 0);
            }
            let done = self.remove(page.into_iter().map(|(hash, _)| hash).collect()).await;
            all.chunks += done.chunks;
            all.bytes += done.bytes;
            all.undeletable += done.undeletable;
        }
        all
    }

    /// Keeps the limits and writes the index, at once, as much may have become too old since the last stop, and again and
    /// again. Ends only when it is dropped; cancel safe.
    pub async fn run(&self) {
        loop {
            self.round().await;
            let wake = self.inner.clock.now().plus(ROUND);
            self.inner.clock.sleep_until(wake).await;
        }
    }

    /// One round of [`CacheKeeper::run`]. Cancel safe.
    pub async fn round(&self) {
        if !self.inner.store.counted().await
            && let Err(error) = self.inner.store.recount().await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the chunk files still cannot be counted"
            );
        }
        self.look(|keeper| keeper.inner.store.files.space.spare(&*keeper.inner.clock)).await;
        if self.level() >= CacheLevel::Evicting {
            self.evict_down(0).await;
        }
        self.expire().await;
        self.inner.store.save_index().await;
    }

    /// Tells how full the cache would be with `len` bytes more.
    fn level_with(&self, len: u64) -> CacheLevel {
        let taken = self.inner.store.files.index.lock().taken();
        CacheLevel::of(taken.saturating_add(len), self.room(taken))
    }

    /// Returns what all chunks together may take: the limit, or what is on the disk for them.
    fn room(&self, taken: u64) -> u64 {
        let files = &self.inner.store.files;
        let on_disk = files.space.last_spare().map_or(u64::MAX, |spare| taken.saturating_add_signed(spare));
        files.max_size.min(on_disk)
    }

    /// Runs `work`, which may ask the disk.
    async fn look<T: Default + Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let keeper = self.clone();
        let done = self.inner.store.blocking(move |_| Ok(work(&keeper))).await;
        done.unwrap_or_default()
    }

    /// Evicts chunks used before a time, the oldest first, until `goal` bytes are free. The caller has the turn.
    async fn evict_oldest(&self, goal: u64, before: u64) -> Evicted {
        if goal == 0 || !self.may_evict() {
            return Evicted::default();
        }
        let mut done = Evicted::default();
        // What was chosen may be wanted by the time it should go; others then go in its place, once.
        for _ in 0..2 {
            let missing = goal.saturating_sub(done.bytes);
            if missing == 0 || done.undeletable > 0 {
                break;
            }
            let victims = self.choose(missing, before);
            let pass = self.remove(victims).await;
            done.chunks += pass.chunks;
            done.bytes += pass.bytes;
            done.undeletable += pass.undeletable;
        }
        done
    }

    /// While it is not known which chunks are pinned, none may go.
    fn may_evict(&self) -> bool {
        self.inner.marked.load(Ordering::Acquire) || self.inner.pins.lock().is_empty()
    }

    fn choose(&self, goal: u64, before: u64) -> Vec<ChunkHash> {
        let index = &self.inner.store.files.index;
        let sums = index.lock().sums();
        let room = self.room(sums.all.bytes);
        let mut victims = Victims::new(goal, before);
        victims.spare_edges(sums.edges.bytes <= (room / 100).saturating_mul(EDGE_SHARE));
        victims.orphans_first(self.inner.marked.load(Ordering::Acquire));
        let mut after = None;
        loop {
            let page = index.lock().page(after, PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            page.iter().for_each(|(hash, entry)| victims.offer(*hash, entry));
        }
        victims.in_order()
    }

    /// Removes what is still to be removed of `hashes`. The caller has the turn.
    async fn remove(&self, hashes: Vec<ChunkHash>) -> Evicted {
        if hashes.is_empty() {
            return Evicted::default();
        }
        let work = move |files: &crate::store::files::Files| {
            let mut done = Evicted::default();
            for hash in hashes {
                match files.evict(&hash) {
                    Ok(Some(bytes)) => {
                        done.chunks += 1;
                        done.bytes += bytes;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        done.undeletable += 1;
                        tracing::debug!(chunk = %hash, error = chain(&error), "a chunk cannot be evicted");
                    }
                }
            }
            Ok(done)
        };
        let done = self.inner.store.blocking(work).await.unwrap_or_default();
        self.inner.evicted_chunks.fetch_add(done.chunks, Ordering::Relaxed);
        self.inner.evicted_bytes.fetch_add(done.bytes, Ordering::Relaxed);
        if done.chunks > 0 {
            self.tell(EventKind::CacheEvicted { chunks: done.chunks, bytes: done.bytes });
        }
        let before = self.inner.undeletable.fetch_add(done.undeletable, Ordering::Relaxed);
        if done.undeletable > 0 && before == 0 {
            tracing::warn!(chunks = done.undeletable, "chunks cannot be deleted; the cache may stay full");
        }
        done
    }
}

fn chain(error: &ChunkError) -> &(dyn std::error::Error + 'static) {
    error
}
