//! Keeping what was read of files for another purpose: their heads and tails, of whoever looked for tags.
//!
//! Nobody waits for it. Nothing is evicted for it, what comes at once is forced to disk at once
//! (`store/together.rs`) and recorded in one batch, and whatever fails is left out, with no consequence for others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use musicfs_core::{ByteRange, ChunkError, ChunkExtent, OriginId, SeenFile, SeenKeeper};
use tracing::{debug, error, warn};

use super::flights::{Asked, Landing};
use super::table::Shared;
use super::{FileReader, Inner};
use crate::chunker::Cut;
use crate::edges::SEEN_HEAD;
use crate::keeper::CacheKeeper;

/// Most that is kept of one file.
const MOST: u64 = 1 << 20;
/// Parts shorter than this are not worth a chunk of their own.
const SHORTEST: u64 = 16 << 10;

/// A file of which something is being kept.
struct Keeping {
    file: Shared,
    seen: SeenFile,
    taken: Vec<ByteRange>,
    cuts: Vec<Cut>,
    _landing: Landing,
}

impl SeenKeeper for FileReader {
    fn head(&self, origin: &OriginId) -> Option<u64> {
        let inner = &self.inner;
        let keeper = inner.keeper.get()?;
        let takes =
            (inner.worth_caching)(origin) && !inner.store_is_down() && keeper.room_for_unasked() >= SEEN_HEAD;
        takes.then_some(SEEN_HEAD)
    }

    fn keep(&self, seen: Vec<SeenFile>) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        let kept = tokio::spawn(async move {
            if let Some(keeper) = inner.keeper.get() {
                inner.keep_seen(keeper, seen).await;
            }
        });
        async move {
            if let Err(error) = kept.await {
                error!(error = &error as &dyn std::error::Error, "what was read for tags could not be kept");
            }
        }
        .boxed()
    }
}

impl Inner {
    async fn keep_seen(self: &Arc<Self>, keeper: &CacheKeeper, seen: Vec<SeenFile>) {
        let mut all = Vec::with_capacity(seen.len());
        let mut room = keeper.room_for_unasked();
        for seen in seen {
            let meta = &seen.file;
            if !(self.worth_caching)(&meta.origin) || self.store_is_down() || room == 0 {
                continue;
            }
            // As the catalogue knows it by now: also where it is shown, which pins go by.
            let known = self.file(meta.id, &meta.version, None, Asked::Prefetch).await;
            let Ok(file) = known else { continue };
            let landing = Landing::new(&file);
            let (taken, cuts) = take(&file, &seen.parts, room.min(MOST));
            room = room.saturating_sub(taken.iter().map(ByteRange::len).sum());
            all.push(Keeping { file, seen, taken, cuts, _landing: landing });
        }
        let chunks: Vec<Bytes> =
            all.iter().flat_map(|k| k.cuts.iter().map(|cut| cut.bytes.clone())).collect();
        if chunks.is_empty() {
            return;
        }
        let hashes = match keeper.store().put_together(chunks).await {
            Ok(hashes) => hashes,
            Err(error) => {
                for keeping in &all {
                    let mut state = keeping.file.lock();
                    // Nobody waited for it to be cut: it came at once.
                    keeping.taken.iter().for_each(|range| state.failed(*range));
                }
                // Nothing is concluded from it for what is read: a disk may tell of others' writes here.
                let is_full = matches!(error, ChunkError::Full { .. });
                let quiet = is_full || self.told_unkept.swap(true, Ordering::Relaxed);
                match &error as &dyn std::error::Error {
                    error if quiet => debug!(error, "what was read for tags is not kept"),
                    error => warn!(error, "what was read for tags is not kept"),
                }
                return;
            }
        };
        self.told_unkept.store(false, Ordering::Relaxed);
        let mut hashes = hashes.into_iter();
        for keeping in &all {
            for (cut, hash) in keeping.cuts.iter().zip(hashes.by_ref()) {
                self.took_in(&keeping.file, &hash, cut.range);
                keeping.file.lock().stored(ChunkExtent { range: cut.range, hash });
            }
        }
        self.record(all).await;
    }

    /// Saves the manifests of all, in one batch.
    async fn record(&self, mut all: Vec<Keeping>) {
        // Whoever takes several of these turns takes them in this order.
        all.sort_by_key(|keeping| keeping.seen.file.id);
        all.dedup_by_key(|keeping| keeping.seen.file.id);
        let mut turns = Vec::with_capacity(all.len());
        let mut manifests = Vec::with_capacity(all.len());
        for Keeping { file, seen, .. } in &all {
            turns.push(file.saving.lock().await);
            let unsaved = file.lock().take_unsaved(1);
            manifests.extend(unsaved.map(|manifest| (seen.file.id, seen.file.version.clone(), manifest)));
        }
        self.save(manifests).await;
    }
}

/// Takes of the parts of a file what is worth it, `left` bytes at the most.
fn take(file: &Shared, parts: &[(u64, Bytes)], mut left: u64) -> (Vec<ByteRange>, Vec<Cut>) {
    let (mut taken, mut cuts) = (Vec::new(), Vec::new());
    for (at, bytes) in parts {
        for edge in file.edges.within(ByteRange::at(*at, bytes.len() as u64)) {
            let edge = ByteRange::at(edge.start(), edge.len().min(left));
            if edge.len() < SHORTEST {
                continue;
            }
            left -= edge.len();
            let from = (edge.start() - at) as usize;
            let (ranges, cut) =
                file.lock().offer(edge.start(), &bytes.slice(from..from + edge.len() as usize));
            taken.extend(ranges);
            cuts.extend(cut);
        }
    }
    (taken, cuts)
}
