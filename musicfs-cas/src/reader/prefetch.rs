//! Fetching what nobody asked for yet: the rest of a track that is being played, the next of its album, or a whole
//! file by order.
//!
//! A track counts as being played when a stretch of it was read forward. Its rest is fetched piece by piece, each
//! only while no reader's fetch is under way, for as long as there is no seek in it, there is room in the cache, and
//! it is switched on. Then the next file of the same directory is fetched likewise, and no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use musicfs_core::{ByteRange, Cookie, FileKind, FileMeta, MetaDb, MetaError, NodeKind, ReadError, ReadPlan};

use super::flights::Asked;
use super::table::Shared;
use super::{FileReader, Inner, blocking};
use crate::cached_file::Guesses;
use crate::fetcher::same_error;
use crate::keeper::CacheLevel;

/// Pieces that a fetch by order has under way at once.
const AT_ONCE: u64 = 4;
/// Length of a piece.
const PIECE: u64 = 1 << 20;
/// Entries of a directory that are looked at for the next track; in a longer one there is none.
const MAX_ALBUM: usize = 5000;
/// Tracks that are fetched ahead at once; a player has one, and seldom two.
pub(super) const MAX_TRACKS: usize = 4;

/// What fetching a file came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Bytes that were fetched.
    pub fetched: u64,
    /// Whether all of the file is in the cache now; it is not when there is no room, or the cache fails.
    pub complete: bool,
}

impl FileReader {
    /// Fetches all of a file that is not in the cache, for as long as the cache takes it; tells each piece.
    /// Cancel safe: what came stays.
    ///
    /// # Errors
    /// As a read of the first stretch that could not be had. What is cached of it stays, and the rest is not tried.
    pub async fn warm(&self, file: &FileMeta, progress: &(dyn Fn(u64) + Sync)) -> Result<Warmed, ReadError> {
        let inner = &self.inner;
        if !(inner.worth_caching)(&file.origin) {
            return Ok(Warmed { fetched: 0, complete: true });
        }
        let plan = ReadPlan::verbatim(file);
        let shared = inner.file(file.id, &file.version, Some(file), Asked::Prefetch).await?;
        inner.forget_evicted(&shared);
        let mut fetched = 0;
        let mut at = 0;
        loop {
            let gap = shared.lock().next_gap(at);
            let Some(gap) = gap.filter(|_| !inner.keeps_nothing()) else { break };
            let stretch = ByteRange::new(gap.start(), gap.end().min(gap.start() + AT_ONCE * PIECE));
            inner.fetch_stretch(&shared, &plan, stretch).await?;
            at = stretch.end();
            fetched += stretch.len();
            progress(stretch.len());
        }
        let mut in_flight = shared.in_flight.subscribe();
        // The sender is in `shared`.
        let _ = in_flight.wait_for(|count| *count == 0).await;
        inner.save_if_due(&shared, &plan, 0).await;
        let complete = shared.lock().manifest().covered() >= plan.size();
        Ok(Warmed { fetched, complete })
    }

    /// Switches fetching ahead of readers on or off: the rest of a track, and the next. It is on at first.
    pub fn set_prefetch(&self, on: bool) {
        self.inner.prefetch.store(on, Ordering::Relaxed);
    }
}

impl Inner {
    /// Fetches a stretch, if it is not there, and nothing else, and waits for it.
    pub(super) async fn fetch_stretch(
        self: &Arc<Self>,
        file: &Shared,
        plan: &ReadPlan,
        stretch: ByteRange,
    ) -> Result<(), ReadError> {
        let (launches, mut outcomes) = {
            let mut state = file.lock();
            let launches = state.launch_exactly(stretch);
            (launches, state.outcomes(stretch))
        };
        self.start(file, plan, launches, Asked::Prefetch);
        for outcome in &mut outcomes {
            // One whose sender is gone has been dropped with its task; whoever reads it asks again.
            let done = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            if let Ok(Some(Err(error))) = done {
                return Err(same_error(&error));
            }
        }
        Ok(())
    }

    /// Begins to fetch the rest of a track, unless that is being done.
    pub(super) fn follow(self: &Arc<Self>, file: &Shared, plan: &ReadPlan) {
        // Of an origin that is away there is nothing to fetch.
        if !self.may_prefetch() || self.what_to_do_with_guesses(file, plan) == Guesses::Serve {
            return;
        }
        let Ok(permit) = self.tracks.clone().try_acquire_owned() else { return };
        let Some(round) = file.lock().begin_following() else { return };
        let (inner, file, plan) = (self.clone(), file.clone(), plan.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let wanted = || file.lock().is_followed(round);
            let from = file.lock().played_to();
            let done = match inner.fetch_quietly(&file, &plan, from, &wanted).await {
                false => false,
                true => match inner.next_track(&plan).await {
                    Some((next, its_plan)) => inner.fetch_quietly(&next, &its_plan, 0, &wanted).await,
                    None => true,
                },
            };
            if !done {
                // What stood in the way may have passed when the reader goes on.
                file.lock().end_following(round);
            }
        });
    }

    /// Fetches a file from an offset on, each piece when nobody reads; tells whether it is all there.
    async fn fetch_quietly(
        self: &Arc<Self>,
        file: &Shared,
        plan: &ReadPlan,
        from: u64,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> bool {
        let mut at = from;
        let mut reading = self.reading.subscribe();
        loop {
            // The sender is in `self`.
            let _ = reading.wait_for(|count| *count == 0).await;
            if !wanted() || !self.may_prefetch() {
                return false;
            }
            let gap = file.lock().next_gap(at);
            let Some(gap) = gap else { return true };
            let piece = ByteRange::new(gap.start(), gap.end().min(gap.start() + PIECE));
            let Some(_share) = self.fetcher.share(piece.len()) else { return false };
            if self.fetch_stretch(file, plan, piece).await.is_err() {
                return false;
            }
            at = piece.end();
            // Until it is stored it takes memory.
            let mut in_flight = file.in_flight.subscribe();
            let _ = in_flight.wait_for(|count| *count == 0).await;
        }
    }

    fn may_prefetch(&self) -> bool {
        self.prefetch.load(Ordering::Relaxed) && self.has_room_to_spare()
    }

    pub(super) fn has_room_to_spare(&self) -> bool {
        !self.keeps_nothing() && self.keeper.get().is_none_or(|keeper| keeper.level() < CacheLevel::Tight)
    }

    /// Finds the file after one in its directory.
    async fn next_track(&self, plan: &ReadPlan) -> Option<(Shared, ReadPlan)> {
        let (db, id) = (self.db.clone(), plan.file());
        let next = blocking(move || next_in_directory(&*db, id)).await.ok().flatten()?;
        if !(self.worth_caching)(&next.origin) {
            return None;
        }
        let shared = self.file(next.id, &next.version, Some(&next), Asked::Prefetch).await.ok()?;
        Some((shared, ReadPlan::verbatim(&next)))
    }
}

/// Returns the music that comes after a file in the order of names, in the directory that it is shown in.
fn next_in_directory(db: &dyn MetaDb, id: musicfs_core::FileId) -> Result<Option<FileMeta>, MetaError> {
    let Some(node) = db.node(id.ino())? else { return Ok(None) };
    let entries = db.list(node.parent, Cookie::default(), MAX_ALBUM)?;
    let later = entries.into_iter().filter(|entry| entry.kind == NodeKind::File && entry.name > node.name);
    let mut later: Vec<_> = later.collect();
    later.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in later {
        let file = entry.ino.file_id().map(|id| db.file(id)).transpose()?.flatten();
        if let Some(file) = file.filter(|file| file.kind == FileKind::Audio) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
