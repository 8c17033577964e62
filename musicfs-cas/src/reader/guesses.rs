//! What is cached by guess: compared with its origin, by whoever reads it or in the end by a task.
//!
//! A stretch is compared by fetching it. The task does so a while after the guess was made, one chunk after the other,
//! each only while nobody reads; it rests for longer than it fetches, and leaves off while the cache fails. What it has
//! compared is recorded in the manifests, so that it goes on where it was after a restart.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{
    Batch, ByteRange, ChunkHash, EventKind, FileId, FileMeta, FileQuery, Op, OriginId, ReadError, ReadPlan,
};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::flights::Asked;
use super::table::Shared;
use super::{FileReader, Inner, blocking};
use crate::cached_file::Guesses;

/// Tells whether an origin is known not to answer.
pub type IsAway = dyn Fn(&OriginId) -> bool + Send + Sync;

/// How many times as long as a chunk took to fetch the task rests after it: a quarter of a link is what it takes at most.
const REST: u32 = 3;
/// Least time after which what could not be compared is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// How long changes of the catalogue are gathered before it is asked for guesses.
const GATHER: Duration = Duration::from_secs(1);
/// Files that the catalogue is asked for at once.
const PAGE: usize = 64;

impl FileReader {
    /// Serves what is cached by guess, without asking, for origins that are known not to answer.
    pub fn with_away(self, is_away: Box<IsAway>) -> Self {
        // The first stays.
        let _ = self.inner.is_away.set(is_away);
        self
    }

    /// Sets how long what is cached by guess waits to be compared by [`FileReader::compare_guesses`] while nobody reads
    /// it: `None` for ever, which it is at first.
    pub fn set_compare_after(&self, after: Option<Duration>) {
        self.inner.compare_after.send_replace(after);
    }

    /// Compares what is cached by guess with its origins, as long as the future is polled. Cancel safe: what was
    /// compared stays so.
    pub async fn compare_guesses(&self) {
        let inner = &self.inner;
        let mut revisions = inner.db.subscribe();
        let mut setting = inner.compare_after.subscribe();
        loop {
            // The senders are in `inner`.
            let after = *setting.borrow_and_update();
            let any = after.is_some() && !inner.guessed(None).await.is_empty();
            let Some(after) = after.filter(|_| any) else {
                tokio::select! {
                    _ = revisions.changed() => inner.rest(GATHER).await,
                    _ = setting.changed() => {}
                }
                continue;
            };
            tokio::select! {
                () = inner.rest(after) => {}
                _ = setting.changed() => continue,
            }
            if !inner.compare_all(&mut setting).await {
                tokio::select! {
                    () = inner.rest(RETRY) => {}
                    _ = setting.changed() => {}
                }
            }
        }
    }
}

impl Inner {
    pub(super) fn what_to_do_with_guesses(&self, file: &Shared, plan: &ReadPlan) -> Guesses {
        let is_away = || {
            let known = self.is_away.get().zip(plan.as_verbatim());
            known.is_some_and(|(is_away, (origin, ..))| is_away(origin))
        };
        if file.lock().has_guesses() && is_away() { Guesses::Serve } else { Guesses::Compare }
    }

    /// Compares what came with the guess that there was of it, and tells whether that was wrong. Then no guess of the
    /// file is believed any more.
    pub(super) fn compare_with_guess(&self, file: &Shared, range: ByteRange, bytes: &Bytes) -> bool {
        let Some(guess) = file.lock().guess_of(range) else { return false };
        if ChunkHash::of(bytes) == guess.hash {
            self.counters.proven.fetch_add(range.len(), Ordering::Relaxed);
            return false;
        }
        file.lock().refuted();
        true
    }

    /// Says that what was cached of a file was not what it holds.
    pub(super) async fn correct(&self, plan: &ReadPlan) {
        let Some((origin, path, _)) = plan.as_verbatim() else { return };
        self.counters.mismatched.fetch_add(1, Ordering::Relaxed);
        warn!(%origin, %path, "what was cached of the file is not what it holds; it is fetched anew");
        let (id, path) = (plan.file(), path.to_string());
        self.tell(EventKind::CacheMismatch { id, origin: origin.clone(), path });
        let (db, version, at) = (self.db.clone(), plan.version().clone(), self.clock.unix());
        let corrected = blocking(move || {
            if db.file(id)?.is_some_and(|file| file.version.is_same(&version)) {
                db.apply(&Batch { at, ops: vec![Op::Correct(id)] })?;
            }
            Ok(())
        });
        if let Err(error) = corrected.await {
            let error = &error as &dyn std::error::Error;
            warn!(file = %id, error, "it could not be recorded that the file is another");
        }
    }

    /// Returns some of the files that have guesses; none when the catalogue fails.
    async fn guessed(&self, after: Option<FileId>) -> Vec<FileMeta> {
        let db = self.db.clone();
        let found = blocking(move || Ok(db.files(&FileQuery::Guessed, after, PAGE)?.files)).await;
        found.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "the catalogue cannot be asked for guesses");
            Vec::new()
        })
    }

    async fn rest(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now().plus(time)).await;
    }

    /// Compares all guesses there are; tells whether none is left.
    async fn compare_all(self: &Arc<Self>, setting: &mut watch::Receiver<Option<Duration>>) -> bool {
        let (mut after, mut all) = (None, true);
        let mut failed: HashSet<OriginId> = HashSet::new();
        loop {
            let files = self.guessed(after).await;
            let Some(last) = files.last() else { return all };
            after = Some(last.id);
            for file in files {
                if failed.contains(&file.origin) || setting.has_changed().unwrap_or(true) {
                    all = false;
                    continue;
                }
                let (origin, path) = (&file.origin, &file.path);
                match self.compare_file(&file).await {
                    Ok(done) => all &= done,
                    Err(error) => {
                        debug!(%origin, %path, %error, "what is kept of the file cannot be compared now");
                        all = false;
                        if super::is_away(&error) {
                            failed.insert(file.origin);
                        }
                    }
                }
            }
        }
    }

    /// Compares the guesses of a file; tells whether none is left.
    async fn compare_file(self: &Arc<Self>, file: &FileMeta) -> Result<bool, ReadError> {
        let plan = ReadPlan::verbatim(file);
        let shared = self.file(file.id, &file.version, Some(file), Asked::Prefetch).await?;
        self.forget_evicted(&shared);
        let mut reading = self.reading.subscribe();
        let mut compared = 0;
        loop {
            // The sender is in `self`.
            let _ = reading.wait_for(|count| *count == 0).await;
            if self.store_is_down() {
                return Ok(false);
            }
            let Some(guess) = shared.lock().manifest().guesses().first().copied() else { break };
            let began = self.clock.now();
            self.fetch_stretch(&shared, &plan, guess.range).await?;
            let mut in_flight = shared.in_flight.subscribe();
            let _ = in_flight.wait_for(|count| *count == 0).await;
            if shared.lock().guess_of(guess.range).is_some() {
                // It could not be stored.
                return Ok(false);
            }
            compared += 1;
            self.rest(self.clock.now().since(began) * REST).await;
        }
        self.save_if_due(&shared, &plan, 0).await;
        if compared == 0 {
            // What is recorded is of another version, or was evicted.
            self.save_anyhow(&shared, &plan).await;
        } else {
            debug!(origin = %file.origin, path = %file.path, compared, "what was kept of the file was compared");
        }
        Ok(true)
    }
}
