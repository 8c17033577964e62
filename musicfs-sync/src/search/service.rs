//! The index beside a running mount: opened when there is time, kept up to date, built again when it must be.
//!
//! [`Search::run`] is the one that writes; [`Searcher`] answers beside it with what there is. One lock guards the
//! state; it is held for a few lines and never across I/O.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use musicfs_core::{Clock, Found, MetaDb, MonoTime, Revision, SearchFailure, Searcher};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{CatchUp, Opened, SearchError, SearchIndex, remove};

/// Wait after a change for others that come with it: a scan writes some batches a second.
const GATHER: Duration = Duration::from_millis(500);
/// Waits after failures in a row; the last is repeated.
const BACK_OFF: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(300)];
/// Time without a search after which what searching takes of memory is freed.
const IDLE: Duration = Duration::from_secs(60);

/// What the index is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchPhase {
    /// It is not open yet.
    #[default]
    Opening,
    /// It is being built from all files; what is found is not all.
    Building,
    /// It has all of the catalogue, but for what changed a moment ago.
    Ready,
    /// It cannot be brought up to date now, and is tried again.
    Failed,
}

/// How the index is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchStatus {
    /// What it is doing.
    pub phase: SearchPhase,
    /// Files that the round under way has done.
    pub done: u64,
    /// How often it was built from all files since the start.
    pub builds: u64,
    /// Why it failed, or was built again.
    pub reason: Option<String>,
}

/// What is wrong with an index, and why one thinks so.
#[derive(Clone, Debug)]
enum Trouble {
    /// It cannot be written to as it is: it is to be removed.
    Damaged(String),
    /// A search failed as it does when the index is damaged: it is to be checked.
    Doubtful(String),
}

#[derive(Default)]
struct State {
    index: Option<Arc<SearchIndex>>,
    status: SearchStatus,
    /// What is wrong with the index, when something is.
    trouble: Option<Trouble>,
    /// The generation at which the index was found sound although a search had failed: that query fails for another
    /// reason, and the next look at the index would find no more.
    sound_at: Option<u64>,
    /// How often an index was opened.
    opened: u64,
    /// When it was searched last; `None` when nothing is in memory for searching.
    searched: Option<MonoTime>,
    /// As [`CatchUp::opened_at`].
    opened_at: Option<Revision>,
}

/// The search index of a running mount.
pub struct Search {
    dir: PathBuf,
    db: Arc<dyn MetaDb>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    done: AtomicU64,
    wake: Notify,
    ended: watch::Sender<bool>,
}

impl Search {
    /// Makes the service of an index in `dir`, before anything is written to the catalogue. Does no I/O.
    pub fn new(dir: &Path, db: Arc<dyn MetaDb>, clock: Arc<dyn Clock>) -> Self {
        let opened_at = Some(*db.subscribe().borrow());
        Self {
            dir: dir.to_owned(),
            db,
            clock,
            state: Mutex::new(State { opened_at, ..State::default() }),
            done: AtomicU64::new(0),
            wake: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    /// Returns how the index is doing.
    pub fn status(&self) -> SearchStatus {
        SearchStatus { done: self.done.load(Ordering::Relaxed), ..self.state.lock().status.clone() }
    }

    /// Opens the index and keeps it up to date until cancelled; commits at the end. Dropping the future leaves the
    /// round under way to end by itself.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        self.ended.send_replace(false);
        let mut revisions = self.db.subscribe();
        let mut failures = 0;
        while !cancel.is_cancelled() {
            revisions.borrow_and_update();
            let (this, stop) = (self.clone(), cancel.clone());
            let wait = match tokio::task::spawn_blocking(move || this.round(&stop)).await {
                Ok(Ok(())) => {
                    failures = 0;
                    None
                }
                Ok(Err(SearchError::Cancelled)) => break,
                Ok(Err(error)) => Some(self.failed(&error, &mut failures)),
                Err(panic) => {
                    // Nobody knows what it left behind.
                    self.trouble(Trouble::Damaged(panic.to_string()));
                    Some(BACK_OFF[0])
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.rest(wait, &mut revisions) => {}
            }
        }
        self.ended.send_replace(true);
    }

    /// Waits until [`Search::run`] has ended after it was cancelled, at most until `deadline`.
    pub async fn wait_ended(&self, deadline: MonoTime) {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = self.clock.sleep_until(deadline) => {}
        }
    }

    /// Waits for something to do.
    async fn rest(&self, wait: Option<Duration>, revisions: &mut watch::Receiver<Revision>) {
        let after = |wait| self.clock.sleep_until(self.clock.now().plus(wait));
        if let Some(wait) = wait {
            return after(wait).await;
        }
        loop {
            tokio::select! {
                changed = revisions.changed() => {
                    match changed {
                        Ok(()) => after(GATHER).await,
                        // The catalogue is closed.
                        Err(_) => std::future::pending().await,
                    }
                    return;
                }
                () = self.wake.notified() => return,
                () = after(IDLE) => self.release(),
            }
        }
    }

    /// Frees what searching takes, when nobody has searched for a while.
    fn release(&self) {
        let mut state = self.state.lock();
        if state.searched.is_some_and(|at| self.clock.now().since(at) >= IDLE) {
            state.searched = None;
            let index = state.index.clone();
            drop(state);
            if let Some(index) = index {
                index.release();
            }
        }
    }

    /// Opens the index when it is not open, and brings it up to date.
    fn round(&self, cancel: &CancellationToken) -> Result<(), SearchError> {
        let index = self.opened()?;
        self.done.store(0, Ordering::Relaxed);
        let opened_at = self.state.lock().opened_at;
        let progress = |done: u64| self.done.store(done, Ordering::Relaxed);
        let how = CatchUp { db: &*self.db, clock: &*self.clock, cancel, opened_at, progress: &progress };
        if !index.is_followed(&how)? {
            self.set_phase(SearchPhase::Building);
        }
        let caught = index.bring_up(&how)?;
        let mut state = self.state.lock();
        state.opened_at = None;
        state.status.phase = SearchPhase::Ready;
        state.status.builds += u64::from(caught.built);
        drop(state);
        if caught.built {
            tracing::info!(files = caught.files, "the search index is built");
        }
        // What is merged meanwhile is found all the same.
        index.rest()
    }

    fn set_phase(&self, phase: SearchPhase) {
        self.state.lock().status.phase = phase;
    }

    fn opened(&self) -> Result<Arc<SearchIndex>, SearchError> {
        let trouble = {
            let mut state = self.state.lock();
            if let Some(index) = state.index.clone().filter(|_| state.trouble.is_none()) {
                return Ok(index);
            }
            state.index = None;
            state.trouble.clone()
        };
        if let Some(Trouble::Damaged(reason)) = &trouble {
            tracing::warn!(reason, "the search index is damaged and is built again");
            remove(&self.dir)?;
        }
        let (index, opened) = SearchIndex::open_with_recovery(&self.dir)?;
        let index = Arc::new(index);
        let mut state = self.state.lock();
        state.index = Some(index.clone());
        state.trouble = None;
        state.opened += 1;
        state.sound_at = None;
        match (trouble, opened) {
            (Some(Trouble::Doubtful(reason)), Opened::Sound) => {
                state.sound_at = Some(index.generation());
                drop(state);
                tracing::warn!(reason, "a search failed, and the index is sound");
            }
            (_, Opened::Anew { reason }) | (Some(Trouble::Damaged(reason)), _) => {
                state.status.reason = Some(reason);
            }
            (None, Opened::Sound) => {}
        }
        Ok(index)
    }

    fn failed(&self, error: &SearchError, failures: &mut usize) -> Duration {
        let wait = BACK_OFF[(*failures).min(BACK_OFF.len() - 1)];
        *failures += 1;
        if let SearchError::Damaged { reason, .. } = error {
            self.trouble(Trouble::Damaged(reason.clone()));
        } else {
            let reason = told(error);
            tracing::warn!(
                reason,
                wait_s = wait.as_secs(),
                "the search index could not be brought up to date; it is tried again"
            );
            let mut state = self.state.lock();
            state.status.phase = SearchPhase::Failed;
            state.status.reason = Some(reason);
        }
        wait
    }

    fn trouble(&self, trouble: Trouble) {
        let mut state = self.state.lock();
        state.status.phase = SearchPhase::Building;
        state.trouble = Some(trouble);
        drop(state);
        self.wake.notify_one();
    }
}

/// Says what failed, and why.
fn told(error: &SearchError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Searcher for Search {
    fn search(&self, query: &str, limit: usize) -> Result<Found, SearchFailure> {
        let (index, complete, sound_at) = {
            let mut state = self.state.lock();
            state.searched = Some(self.clock.now());
            let index = state.index.clone().filter(|_| state.trouble.is_none());
            (index, state.status.phase == SearchPhase::Ready, state.sound_at)
        };
        let Some(index) = index else { return Ok(Found::default()) };
        match index.search(query, limit) {
            Ok(files) => Ok(Found { files, complete }),
            Err(SearchError::TooLarge(error)) => Err(SearchFailure::Refused(error.to_string())),
            Err(SearchError::Damaged { reason, .. }) if sound_at == Some(index.generation()) => {
                Err(SearchFailure::Unavailable(reason))
            }
            Err(SearchError::Damaged { reason, .. }) => {
                self.trouble(Trouble::Doubtful(reason));
                Ok(Found::default())
            }
            Err(error) => Err(SearchFailure::Unavailable(told(&error))),
        }
    }

    fn generation(&self) -> u64 {
        let state = self.state.lock();
        let within = state.index.as_ref().map_or(0, |index| index.generation());
        (state.opened << 32) + (within << 1) + u64::from(state.status.phase == SearchPhase::Ready)
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search")
            .field("dir", &self.dir)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
