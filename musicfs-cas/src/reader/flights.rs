//! Fetches under way: each is a task, from the request to the manifest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use musicfs_core::{Batch, ByteRange, ChunkError, ChunkExtent, ChunkHash, ChunkManifest, Op, ReadPlan};
use tokio::sync::watch;
use tracing::{error, warn};

use super::table::{Shared, Tracked};
use super::{Inner, RETRY_STORE, blocking};
use crate::cached_file::Launch;
use crate::chunker::Cut;
use crate::index::ChunkClass;

/// A manifest is saved when this much of its file has come, and when nothing more is coming: what a kill loses.
const SAVE_EVERY: u64 = 8 << 20;
/// How much of a file's beginning is its head: the tags and most pictures.
const HEAD: u64 = 512 << 10;
/// How much of a file's end is its tail.
const TAIL: u64 = 128 << 10;

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
            file.in_flight.send_modify(|count| *count += 1);
            let (inner, file, plan) = (self.clone(), file.clone(), plan.clone());
            tokio::spawn(async move {
                let _done = Landing(&file);
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
                outcome.send_replace(Some(Ok(bytes.clone())));
                file.lock().arrived(range, bytes)
            }
            Err(error) => {
                let cuts = file.lock().failed(range);
                outcome.send_replace(Some(Err(Arc::new(error))));
                cuts
            }
        };
        // Several at once: what forces one chunk to disk often takes the others along.
        join_all(cuts.into_iter().map(|cut| self.keep(file, plan, cut, asked))).await;
        if !self.store_is_down() {
            self.save_if_due(file, plan, SAVE_EVERY).await;
        }
    }

    /// Stores a chunk.
    async fn keep(&self, file: &Shared, plan: &ReadPlan, cut: Cut, asked: Asked) {
        let len = cut.bytes.len() as u64;
        let keeper = self.keeper.get();
        if self.store_is_down() {
            file.lock().not_stored();
            return;
        }
        let admitted = match keeper {
            Some(keeper) => keeper.admit(len).await,
            None => true,
        };
        let mut stored = match admitted {
            true => self.store.put(cut.bytes.clone()).await,
            false => Err(ChunkError::Full { needed: len }),
        };
        if let (Err(ChunkError::Full { .. }), Some(keeper)) = (&stored, keeper)
            && admitted
            && keeper.make_room(len).await
        {
            stored = self.store.put(cut.bytes.clone()).await;
        }
        match stored {
            Ok(hash) => {
                self.took_in(file, plan, &hash, cut.range);
                if asked == Asked::Reader {
                    self.hot.insert(&hash, cut.bytes);
                }
                file.lock().stored(ChunkExtent { range: cut.range, hash });
            }
            Err(error) => {
                self.store_failed(&error);
                self.counters.not_stored.fetch_add(1, Ordering::Relaxed);
                file.lock().not_stored();
            }
        }
    }

    fn took_in(&self, file: &Tracked, plan: &ReadPlan, hash: &ChunkHash, range: ByteRange) {
        if let Some(keeper) = self.keeper.get() {
            let pinned = file.meta.as_ref().is_some_and(|meta| keeper.is_pinned(meta));
            keeper.stored(hash, class_of(range, plan.size()), pinned);
        }
    }

    /// Saves the manifest, when `enough` of it changed or nothing more is coming.
    pub(super) async fn save_if_due(&self, file: &Shared, plan: &ReadPlan, enough: u64) {
        let _turn = file.saving.lock().await;
        let unsaved = file.lock().take_unsaved(enough);
        if let Some(manifest) = unsaved {
            self.save(plan, manifest).await;
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

    pub(super) fn store_is_down(&self) -> bool {
        self.store_down_until.lock().is_some_and(|until| self.clock.now() < until)
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
        }
    }
}

/// Takes note that a fetch is over.
struct Landing<'a>(&'a Tracked);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}

/// Tells what part of its file a chunk is.
fn class_of(range: ByteRange, size: u64) -> ChunkClass {
    let is_edge = range.start() < HEAD || range.end().saturating_add(TAIL) > size;
    if is_edge { ChunkClass::Edge } else { ChunkClass::Body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_of_a_file_are_its_edges() {
        let size = 30 << 20;
        let class = |start, len| class_of(ByteRange::at(start, len), size);
        assert_eq!(class(0, 64 << 10), ChunkClass::Edge);
        assert_eq!(class(HEAD - 1, 1 << 20), ChunkClass::Edge);
        assert_eq!(class(HEAD, 1 << 20), ChunkClass::Body);
        assert_eq!(class(size - (1 << 20), 1 << 20), ChunkClass::Edge);
        assert_eq!(class(size - TAIL - 100, 100), ChunkClass::Body);
    }
}
