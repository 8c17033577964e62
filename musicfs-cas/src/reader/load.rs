//! Loading what is cached, verified, and mending it.
//!
//! A chunk that is damaged or gone is fetched again from its file's own origin, as any gap is. While that is away, from
//! any copy of the file, as the chunk's hash is still known.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkError, ChunkExtent, ChunkHash, EventKind, FileMeta, FileState, OriginId, ReadPlan,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::flights::Asked;
use super::table::Shared;
use super::{Inner, blocking};
use crate::cached_file::{Fetched, Guesses, Place};
use crate::chunker::Cut;

/// How long a file's own origin is waited for before copies are asked for a lost chunk: less than readers wait for it
/// before they go over to a copy altogether.
const SLOW: Duration = Duration::from_secs(2);

/// How long a chunk is waited for: a disk that takes longer for 2 MiB hangs.
const HANGS: Duration = Duration::from_secs(5);
/// How long the next ones are waited for after one was in vain: each would take as long in turn.
const HANGS_STILL: Duration = Duration::from_millis(100);

impl Inner {
    /// Loads the part of a chunk that a read wants; `None` when the chunk is of no use.
    pub(super) async fn load_part(
        &self,
        file: &Shared,
        extent: &ChunkExtent,
        want: ByteRange,
    ) -> Option<Bytes> {
        let bytes = self.load(file, extent, Asked::Reader).await?;
        let part = part(&bytes, extent.range, want)?;
        if want.end() >= extent.range.end() {
            self.hot.is_read(&extent.hash);
        }
        self.counters.from_cache.fetch_add(part.len() as u64, Ordering::Relaxed);
        Some(part)
    }

    /// Loads a chunk. One that is of no use is taken out of the file's manifest; one that cannot be read now may be later,
    /// and stays as a guess.
    async fn load(&self, file: &Shared, extent: &ChunkExtent, asked: Asked) -> Option<Bytes> {
        let evicted = self.is_evicted(&extent.hash);
        let load = async {
            match asked {
                Asked::Reader => self.hot.get(&*self.store, &extent.hash).await,
                Asked::Prefetch => self.hot.get_ahead(&*self.store, &extent.hash).await,
            }
        };
        let patience = if self.store_hangs.load(Ordering::Relaxed) { HANGS_STILL } else { HANGS };
        let in_time = self.by(self.clock.now().plus(patience), load).await;
        self.store_hangs.store(in_time.is_none(), Ordering::Relaxed);
        let loaded = match in_time.unwrap_or_else(|| Err(ChunkError::Io(io::ErrorKind::TimedOut.into()))) {
            Ok(bytes) => bytes.filter(|bytes| bytes.len() as u64 == extent.range.len()),
            Err(error @ ChunkError::Corrupt(_)) => {
                warn!(error = &error as &dyn std::error::Error, "damaged chunk; fetching it again");
                self.tell(EventKind::CacheCorrupt { chunk: extent.hash.to_string() });
                None
            }
            Err(error) => {
                self.store_failed(&error);
                file.lock().unreadable(extent);
                return None;
            }
        };
        // Others may load it as well; it is repaired once.
        if loaded.is_none() && file.lock().lost(extent) && !evicted {
            self.counters.repaired.fetch_add(1, Ordering::Relaxed);
        }
        loaded
    }

    /// Loads the chunks that a reader wants, all at once, and those that a forward reader comes to next.
    pub(super) fn load_ahead(self: &Arc<Self>, file: &Shared, read: ByteRange, upto: u64) {
        let near = ByteRange::new(read.start(), upto.max(read.end()));
        let chunks = file.lock().take_to_load(near);
        if chunks.len() < 2 && upto <= read.end() {
            // The read loads it.
            return;
        }
        let (wanted, ahead): (Vec<_>, Vec<_>) =
            chunks.into_iter().partition(|extent| extent.range.start() < read.end());
        for extent in wanted {
            let (inner, file) = (self.clone(), file.clone());
            // It waits for nobody, but what is loaded ahead waits for it.
            let turn = self.loads.clone().try_acquire_owned();
            tokio::spawn(async move {
                let _turn = turn;
                inner.load(&file, &extent, Asked::Reader).await.is_some()
            });
        }
        if ahead.is_empty() {
            return;
        }
        let (inner, file) = (self.clone(), file.clone());
        tokio::spawn(async move {
            for extent in ahead {
                let Ok(turn) = inner.loads.clone().acquire_owned().await else { return };
                if !inner.hot.has_room_ahead() {
                    return file.lock().not_loaded(extent.range.start());
                }
                let (inner, file) = (inner.clone(), file.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    inner.load(&file, &extent, Asked::Prefetch).await.is_some()
                });
            }
        });
    }

    /// Fetches the lost chunk that a read begins in from a copy of its file, as the file's own origin is away; `None`
    /// when no other has it. Nothing but the chunk need be the same there: its hash says what belongs in it.
    pub(super) async fn mend(&self, file: &Shared, plan: &ReadPlan, want: ByteRange) -> Option<Bytes> {
        // One fetches it for all.
        let _turn = file.mending.lock().await;
        let lost = file.lock().lost_at(want.start());
        let Some(extent) = lost else {
            let place = file.lock().place(want.start(), Guesses::Compare);
            let Place::Chunk(mended) = place else { return None };
            return self.load_part(file, &mended, want).await;
        };
        for copy in self.other_copies(plan).await {
            let (origin, path) = (&copy.origin, &copy.path);
            match self.fetcher.fetch(&ReadPlan::verbatim(&copy), extent.range).await {
                Ok(bytes) if ChunkHash::of(&bytes) == extent.hash => {
                    info!(%origin, %path, chunk = %extent.hash, "a lost chunk is fetched from a copy of its file");
                    self.counters.from_origins.fetch_add(extent.range.len(), Ordering::Relaxed);
                    let part = part(&bytes, extent.range, want);
                    self.keep(file, Cut { range: extent.range, bytes }, Asked::Reader).await;
                    self.save_if_due(file, plan, 1).await;
                    return part;
                }
                Ok(_) => debug!(%origin, %path, "the copy holds other bytes there"),
                Err(error) => debug!(%origin, %path, %error, "the copy cannot be read"),
            }
        }
        None
    }

    /// Mends as [`Inner::mend`] when what a read waits for, of the file's own origin, takes long and a lost chunk is there.
    pub(super) async fn mend_if_slow(
        &self,
        file: &Shared,
        plan: &ReadPlan,
        want: ByteRange,
        outcome: &mut watch::Receiver<Option<Fetched>>,
    ) -> Option<Bytes> {
        file.lock().lost_at(want.start())?;
        let slow = self.clock.now().plus(SLOW);
        tokio::select! {
            biased;
            _ = async { outcome.wait_for(Option::is_some).await.is_ok() } => None,
            () = self.clock.sleep_until(slow) => self.mend(file, plan, want).await,
        }
    }

    /// Returns the copies of a file that are as long as it, on origins that are not known to be away.
    async fn other_copies(&self, plan: &ReadPlan) -> Vec<FileMeta> {
        let (db, id) = (self.db.clone(), plan.file());
        let copies = blocking(move || db.copies(id)).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "the catalogue cannot be asked for copies");
            Vec::new()
        });
        let is_away = |origin: &OriginId| self.is_away.get().is_some_and(|is_away| is_away(origin));
        let can_mend = |copy: &FileMeta| {
            let there = copy.state == FileState::Present && !is_away(&copy.origin);
            there && copy.id != id && copy.version.size == plan.size()
        };
        copies.into_iter().filter(can_mend).collect()
    }
}

/// Returns what `want` has of the bytes of a chunk.
fn part(bytes: &Bytes, range: ByteRange, want: ByteRange) -> Option<Bytes> {
    let part = range.intersect(&want)?;
    let from = usize::try_from(part.start() - range.start()).ok()?;
    let len = usize::try_from(part.len()).ok()?;
    Some(bytes.slice(from..from + len))
}
