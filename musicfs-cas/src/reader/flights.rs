//! Fetches under way: each is a task, from the request to the manifest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::join_all;
use musicfs_core::{
    Batch, ByteRange, ChunkError, ChunkExtent, ChunkHash, ChunkManifest, EventKind, FileId, FileVersion, Op,
    ReadPlan,
};
use tokio::sync::watch;
use tracing::{error, warn};

use super::table::{Shared, Tracked};
use super::{Inner, RETRY_STORE, blocking};
use crate::cached_file::Launch;
use crate::chunker::Cut;
use crate::keeper::CacheKeeper;

/// A manifest is saved when this much of its file has come, and when nothing more is coming: what a kill loses.
const SAVE_EVERY: u64 = 8 << 20;
/// How often it is tried to make room for a chunk, each time to lose it to another.
const TRIES_FOR_ROOM: usize = 8;

/// Counts something for as long as it goes on.
pub(super) struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    pub(super) fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Who asked for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Somebody who reads, or is about to.
    Reader,
    /// Nobody yet.
    Prefetch,
}

impl Inner {
    pub(super) fn start(
        self: &Arc<Self>,
        file: &Shared,
        plan: &ReadPlan,
        launches: Vec<Launch>,
        asked: Asked,
    ) {
        for launch in launches {
            // Counted from now, so that whoever waits for the end waits for this one.
            let landing = Landing::new(file);
            let (inner, file, plan) = (self.clone(), file.clone(), plan.clone());
            tokio::spawn(async move {
                let _done = landing;
                let _reading = (asked == Asked::Reader).then(|| Counted::new(&inner.reading));
                inner.fly(&file, &plan, launch, asked).await;
            });
        }
    }

    /// One fetch.
    async fn fly(&self, file: &Shared, plan: &ReadPlan, launch: Launch, asked: Asked) {
        let Launch { range, outcome } = launch;
        let cuts = match self.fetcher.fetch(plan, range).await {
            Ok(bytes) => {
                if asked == Asked::Prefetch {
                    self.counters.prefetched.fetch_add(range.len(), Ordering::Relaxed);
                }
                let refuted = self.compare_with_guess(file, range, &bytes);
                outcome.send_replace(Some(Ok(bytes.clone())));
                let cuts = file.lock().arrived(range, bytes);
                if refuted {
                    self.correct(plan).await;
                }
                cuts
            }
            Err(error) => {
                let cuts = file.lock().failed(range);
                outcome.send_replace(Some(Err(Arc::new(error))));
                cuts
            }
        };
        // Several at once: what forces one chunk to disk often takes the others along.
        join_all(cuts.into_iter().map(|cut| self.keep(file, cut, asked))).await;
        if !self.store_is_down() {
            self.save_if_due(file, plan, SAVE_EVERY).await;
        }
    }

    /// Stores a chunk, when there is room.
    pub(super) async fn keep(&self, file: &Shared, cut: Cut, asked: Asked) {
        if self.store_is_down() {
            file.lock().not_stored();
            return;
        }
        // A guess that was right is in the store, and counted.
        let guess = file.lock().guess_of(cut.range);
        let is_there = guess.is_some_and(|guess| self.is_counted(&guess.hash));
        match self.put(&cut.bytes, is_there).await {
            Ok(hash) => {
                if self.told_down.swap(false, Ordering::Relaxed) {
                    self.tell(EventKind::CacheAvailable);
                }
                if !is_there {
                    self.took_in(file, &hash, cut.range);
                }
                if asked == Asked::Reader {
                    self.hot.insert(&hash, cut.bytes);
                }
                file.lock().stored(ChunkExtent { range: cut.range, hash });
            }
            Err(error) => {
                if let Some(error) = error {
                    self.store_failed(&error);
                }
                self.counters.not_stored.fetch_add(1, Ordering::Relaxed);
                file.lock().not_stored();
            }
        }
    }

    /// Puts a chunk into the store, making room for it unless it `is_there`; fails without an error when the limits leave
    /// none.
    async fn put(&self, bytes: &Bytes, is_there: bool) -> Result<ChunkHash, Option<ChunkError>> {
        let Some(keeper) = self.keeper.get() else {
            return self.store.put(bytes.clone()).await.map_err(Some);
        };
        let len = bytes.len() as u64;
        // What is made room for may be taken by another, whose chunk came first.
        for _ in 0..TRIES_FOR_ROOM {
            if !is_there && !keeper.admit(len).await {
                return Err(None);
            }
            let refused = keeper.refused_by_disk();
            match self.store.put(bytes.clone()).await {
                Err(ChunkError::Full { .. }) if keeper.refused_by_disk() == refused => {}
                Err(error @ ChunkError::Full { .. }) => {
                    if !keeper.make_room(len).await {
                        return Err(Some(error));
                    }
                    return self.store.put(bytes.clone()).await.map_err(Some);
                }
                done => return done.map_err(Some),
            }
        }
        Err(None)
    }

    pub(super) fn took_in(&self, file: &Tracked, hash: &ChunkHash, range: ByteRange) {
        if let Some(keeper) = self.keeper.get() {
            let pinned = file.meta.as_ref().is_some_and(|meta| keeper.is_pinned(meta));
            keeper.stored(hash, file.edges.class(range), pinned);
        }
    }

    /// Saves the manifest, when `enough` of it changed or nothing more is coming.
    pub(super) async fn save_if_due(&self, file: &Shared, plan: &ReadPlan, enough: u64) {
        let _turn = file.saving.lock().await;
        let unsaved = file.lock().take_unsaved(enough);
        if let Some(manifest) = unsaved {
            self.save(vec![(plan.file(), plan.version().clone(), manifest)]).await;
        }
    }

    /// Saves the manifest as it is in memory.
    pub(super) async fn save_anyhow(&self, file: &Shared, plan: &ReadPlan) {
        let _turn = file.saving.lock().await;
        let manifest = file.lock().manifest().clone();
        self.save(vec![(plan.file(), plan.version().clone(), manifest)]).await;
    }

    /// Records manifests, all at once.
    pub(super) async fn save(&self, manifests: Vec<(FileId, FileVersion, ChunkManifest)>) {
        let (db, at) = (self.db.clone(), self.clock.unix());
        let saved = blocking(move || {
            let mut ops = Vec::with_capacity(manifests.len());
            for (id, version, manifest) in manifests {
                // What is cached of a newer version is not to be lost for the sake of one that is gone.
                if db.file(id)?.is_some_and(|file| file.version.is_same(&version)) {
                    ops.push(Op::PutManifest { id, version, manifest });
                }
            }
            if ops.is_empty() { Ok(()) } else { db.apply(&Batch { at, ops }).map(drop) }
        })
        .await;
        if let Err(error) = saved {
            warn!(error = &error as &dyn std::error::Error, "what is cached could not be recorded");
        }
    }

    pub(super) fn store_is_down(&self) -> bool {
        self.store_down_until.lock().is_some_and(|until| self.clock.now() < until)
    }

    /// Tells whether what is read now will not be kept: the store fails, or is full and nothing may go.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.store_is_down() || self.keeper.get().is_some_and(CacheKeeper::is_stuck)
    }

    /// Tells what happened to the cache.
    pub(super) fn tell(&self, event: EventKind) {
        if let Some(keeper) = self.keeper.get() {
            keeper.tell(event);
        }
    }

    pub(super) fn store_failed(&self, error: &ChunkError) {
        let until = self.clock.now().plus(RETRY_STORE);
        let before = self.store_down_until.lock().replace(until);
        if before.is_none_or(|before| before < self.clock.now()) {
            error!(
                error = error as &dyn std::error::Error,
                "the cache fails; reading from origins, trying again in {} s",
                RETRY_STORE.as_secs()
            );
            self.told_down.store(true, Ordering::Relaxed);
            self.tell(EventKind::CacheUnavailable { reason: error.to_string() });
        }
    }
}

/// A fetch under way; takes note that it is over.
pub(super) struct Landing(Shared);

impl Landing {
    pub(super) fn new(file: &Shared) -> Self {
        file.in_flight.send_modify(|count| *count += 1);
        Self(file.clone())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}
