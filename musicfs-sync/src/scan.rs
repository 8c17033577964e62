//! Passes over origins: list, compare, parse, apply.
//!
//! A pass takes one listing and turns it into batches: [`DeltaDetector`] decides on each entry with what one query
//! loaded before, files to be read are parsed on all cores in listing order, and results are applied as they come,
//! at the latest a fraction of a second after they were parsed. The same listing always gives the same catalogue.
//!
//! A pass over a part of an origin ([`PassOptions::paths`]) is the same with less to list.
//!
//! Invariants:
//! * Nothing is concluded to be gone but from a complete listing of a storage that proved to be the one it was,
//!   nor from an empty one, nor below a folder that could not be listed, nor much at once (`proof.rs` decides).
//! * A file that is found elsewhere, in the pass in which it went or in a later one, is the same file (`moves.rs`).
//! * What is missing is remembered; it goes for good by the user's word alone, given for each or as an age for all.
//! * A pass writes what it observed and where files are shown; nothing of the user's.
//! * Each batch says that a pass is under way. One that ended early deletes nothing; the next one reads what is left
//!   to read and puts the tree in order (`record.rs`).
//! * Passes over different origins run side by side, and so may a refresh of a single file: batches are applied one
//!   after the other and each is right by itself. Over one origin there is one pass at a time. What somebody waits
//!   for is written before what a pass over all of an origin found (`turns.rs`).
//!
//! Not here: when passes are run, and watching.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use musicfs_core::{
    ChunkStore, Clock, ContentVerifier, EventBus, EventKind, FileId, FileMeta, MetaDb, MonoTime, Op, Origin,
    OriginId, OriginPath, Refreshed, Refresher, SeenKeeper, Template, UnixNanos,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::library::Library;

mod delta;
mod exclude;
mod former;
mod ids;
mod known;
mod moves;
mod parse;
mod pass;
mod proof;
mod rearrange;
mod record;
mod refresh;
mod report;
mod retag;
mod trash;
mod turns;
mod verify;
mod writer;

pub use delta::{Delta, DeltaDetector, Listed, Reread};
pub use exclude::Excluded;
pub use rearrange::arranged_by;
pub use report::{
    PassOptions, PassProgress, ScanError, ScanPhase, ScanProgress, ScanReport, ScannerConfig, Unlisted,
};
pub use trash::{TrashFilter, Trashed};
pub use verify::Verification;

use turns::{Lane, Turns};

/// Names at most `most` paths that cover all of these, by the folders above where there are more.
pub fn few_paths(paths: Vec<OriginPath>, most: usize) -> Vec<OriginPath> {
    pass::few_paths(paths, most)
}

/// More paths than this are looked at by the folders above them: each costs a query and a call to the origin.
pub const MANY_PATHS: usize = 256;

/// Difference between the two clocks from which on the wall clock is taken to have been set.
const CLOCK_JUMP: Duration = Duration::from_secs(5);

/// Keeps the catalogue true to its origins.
///
/// Locks: an origin's in `passes` is held over a whole pass, across awaits, and so is `arranging` for reading; the
/// others for a few lines. An origin's lock is taken before `arranging`.
pub struct Scanner {
    db: Arc<dyn MetaDb>,
    library: Arc<Library>,
    origins: RwLock<Vec<Arc<dyn Origin>>>,
    clock: Arc<dyn Clock>,
    template: RwLock<Arc<Template>>,
    workers: usize,
    grace: RwLock<Duration>,
    max_age: RwLock<Duration>,
    events: Option<EventBus>,
    chunks: Option<Arc<dyn ChunkStore>>,
    seen: Option<Arc<dyn SeenKeeper>>,
    verifier: Option<Arc<dyn ContentVerifier>>,
    /// When the last pass over all of an origin began that came to its end, or else the first that did not, by both
    /// clocks.
    last: Mutex<HashMap<OriginId, Began>>,
    passes: Mutex<HashMap<OriginId, Arc<tokio::sync::Mutex<()>>>>,
    /// Taken for writing while the whole tree is arranged anew.
    arranging: tokio::sync::RwLock<()>,
    turns: Arc<Turns>,
    progress: watch::Sender<ScanProgress>,
    refreshing: Mutex<HashMap<FileId, Arc<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl Scanner {
    /// Makes a scanner over `origins`. Does no I/O.
    pub fn new(
        db: Arc<dyn MetaDb>,
        library: Arc<Library>,
        origins: Vec<Arc<dyn Origin>>,
        clock: Arc<dyn Clock>,
        config: ScannerConfig,
    ) -> Self {
        let cores = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            db,
            library,
            origins: RwLock::new(origins),
            clock,
            template: RwLock::new(Arc::new(config.template)),
            workers: if config.workers == 0 { cores() } else { config.workers },
            grace: RwLock::new(config.missing_grace),
            max_age: RwLock::new(config.missing_max_age),
            events: None,
            chunks: None,
            seen: None,
            verifier: None,
            last: Mutex::default(),
            passes: Mutex::default(),
            arranging: tokio::sync::RwLock::default(),
            turns: Arc::default(),
            progress: watch::Sender::default(),
            refreshing: Mutex::default(),
        }
    }

    /// Tells events of passes to those who listen to `bus`.
    pub fn with_events(mut self, bus: EventBus) -> Self {
        self.events = Some(bus);
        self
    }

    /// Keeps what is cached in `chunks` of the audio of files whose tags change.
    pub fn with_chunks(mut self, chunks: Arc<dyn ChunkStore>) -> Self {
        self.chunks = Some(chunks);
        self
    }

    /// Hands what is read of files on servers to `keeper`.
    pub fn with_seen_keeper(mut self, keeper: Arc<dyn SeenKeeper>) -> Self {
        self.seen = Some(keeper);
        self
    }

    /// Changes how long a missing file that is cached whole stays in the tree.
    pub fn set_missing_grace(&self, grace: Duration) {
        *self.grace.write() = grace;
    }

    /// Changes how long a missing file is remembered; zero for ever.
    pub fn set_missing_max_age(&self, age: Duration) {
        *self.max_age.write() = age;
    }

    /// Returns a receiver of the progress made.
    pub fn progress(&self) -> watch::Receiver<ScanProgress> {
        self.progress.subscribe()
    }

    /// Replaces the template. What is scanned from now on is arranged by it; [`Scanner::arrange`] arranges the
    /// rest.
    pub fn set_template(&self, template: Template) {
        *self.template.write() = Arc::new(template);
    }

    /// Replaces the origins. A pass that is under way goes on with the origin it has.
    pub fn set_origins(&self, origins: Vec<Arc<dyn Origin>>) {
        *self.origins.write() = origins;
    }

    /// Arranges the tree anew when it was arranged by another template, and tells whether it was. No file is read;
    /// ids and inode numbers stay. Interrupted, it begins again the next time. Waits for passes that are under way.
    ///
    /// Dropping the future lets the batch under way be finished.
    ///
    /// # Errors
    /// [`ScanError::Cancelled`], [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn arrange(&self, cancel: &CancellationToken) -> Result<bool, ScanError> {
        if !rearrange::is_due(self).await? {
            return Ok(false);
        }
        let _all = self.arranging.write().await;
        let done = rearrange::run(self, cancel).await;
        self.progress.send_modify(|p| p.arranging = None);
        done
    }

    /// Brings the catalogue up to date with one origin. With `full`, music that seems unchanged is read again.
    ///
    /// Waits for a pass over the same origin that is under way. Dropping the future ends the pass; what was applied
    /// stays.
    ///
    /// # Errors
    /// See [`ScanError`]. A file that cannot be read or parsed is no error but a row with its reason.
    pub async fn scan(
        &self,
        origin: &OriginId,
        full: bool,
        cancel: &CancellationToken,
    ) -> Result<ScanReport, ScanError> {
        self.scan_with(origin, &PassOptions { reread: full, ..PassOptions::default() }, cancel).await
    }

    /// As [`Scanner::scan`], with more to choose from.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub async fn scan_with(
        &self,
        origin: &OriginId,
        options: &PassOptions,
        cancel: &CancellationToken,
    ) -> Result<ScanReport, ScanError> {
        let paths = options.paths.clone().map(|paths| few_paths(paths, MANY_PATHS));
        let paths = paths.filter(|paths| !paths.iter().any(OriginPath::is_root));
        let options = PassOptions { paths, ..options.clone() };
        let found = self.origins.read().iter().find(|o| o.id() == origin).cloned();
        let origin = found.ok_or_else(|| ScanError::UnknownOrigin(origin.clone()))?;
        let _one = self.alone(origin.id()).await;
        let _beside = self.arranging.read().await;
        let shown = Shown { scanner: self, origin: origin.id().clone() };
        let done = match pass::run(self, origin.clone(), &options, cancel).await {
            // What was listed before it went on was not listed now: only a whole listing tells what is gone.
            Ok(first) if first.goes_on => {
                let rest = pass::run(self, origin, &PassOptions { reread: false, ..options }, cancel).await;
                rest.map(|rest| rest.after(&first))
            }
            done => done,
        };
        drop(shown);
        if let Ok(report) = &done {
            self.progress.send_modify(|p| drop(p.last.insert(report.origin.clone(), report.clone())));
        }
        done
    }

    /// Waits until nobody else changes much of an origin.
    async fn alone(&self, origin: &OriginId) -> OwnedMutexGuard<()> {
        let lock = self.passes.lock().entry(origin.clone()).or_default().clone();
        lock.lock_owned().await
    }

    /// Tells whether no pass is under way over an origin.
    fn is_at_rest(&self, origin: &OriginId) -> bool {
        self.passes.lock().get(origin).is_none_or(|pass| pass.try_lock().is_ok())
    }

    fn grace(&self) -> Duration {
        *self.grace.read()
    }

    /// Returns which unchanged files a pass that begins at this time, by both clocks, reads.
    fn what_to_reread(&self, origin: &OriginId, options: &PassOptions, (now, unix): Began) -> Reread {
        // Whatever a pass that fails had recorded is believed to be of its time.
        let (then, unix_then) = *self.last.lock().entry(origin.clone()).or_insert((now, unix));
        if options.reread {
            return Reread::All;
        }
        let elapsed = i64::try_from(now.since(then).as_nanos()).unwrap_or(i64::MAX);
        let expected = unix_then.0.saturating_add(elapsed);
        if expected.abs_diff(unix.0) <= CLOCK_JUMP.as_nanos() as u64 {
            return Reread::None;
        }
        warn!("the clock of this machine was set; files of the time between are looked at");
        let from = unix_then.0.min(unix.0.saturating_sub(elapsed));
        Reread::Of(UnixNanos(from), UnixNanos(unix.0.max(expected)))
    }

    /// Returns the change that records what is cached of a changed file all the same.
    async fn still_cached(&self, origin: &dyn Origin, file: &FileMeta) -> Result<Option<Op>, ScanError> {
        let Some(chunks) = self.chunks.as_ref().filter(|_| file.audio.is_some() && origin.caps().remote)
        else {
            return Ok(None);
        };
        let manifest = retag::still_cached(&self.db, &**chunks, origin, file).await?;
        let put = |manifest| Op::PutManifest { id: file.id, version: file.version.clone(), manifest };
        Ok(manifest.map(put))
    }

    fn tell_superseded(&self, moves: &[moves::Move]) {
        let Some(events) = &self.events else { return };
        for m in moves {
            events.publish(EventKind::FileSuperseded { id: m.old, old: m.old, path: m.to.to_string() });
        }
    }

    fn parts(&self, lane: Lane) -> Parts {
        Parts {
            db: self.db.clone(),
            library: self.library.clone(),
            clock: self.clock.clone(),
            template: self.template.read().clone(),
            turns: self.turns.clone(),
            lane,
        }
    }

    /// Returns the origins that are less preferred than this one.
    fn less_preferred(&self, origin: &OriginId) -> Vec<OriginId> {
        let origins = self.origins.read();
        let less = origins.iter().map(|known| known.id()).skip_while(|id| *id != origin).skip(1);
        less.cloned().collect()
    }

    fn origin(&self, id: &OriginId) -> Option<Arc<dyn Origin>> {
        self.origins.read().iter().find(|o| o.id() == id).cloned()
    }
}

#[async_trait]
impl Refresher for Scanner {
    async fn refresh(&self, id: FileId) -> Refreshed {
        let gate = self.refreshing.lock().entry(id).or_default().clone();
        let refreshed = {
            let _one = gate.lock().await;
            refresh::run(self, id).await
        };
        let mut refreshing = self.refreshing.lock();
        // Two are the table's and this one: nobody else waits.
        if refreshing.get(&id).is_some_and(|gate| Arc::strong_count(gate) == 2) {
            refreshing.remove(&id);
        }
        drop(refreshing);
        refreshed.unwrap_or_else(|error| {
            warn!(file = %id, error = &error as &dyn std::error::Error, "file could not be refreshed");
            Refreshed::Unknown
        })
    }
}

/// When a pass began, by both clocks.
type Began = (MonoTime, UnixNanos);

/// What blocking work needs of a scanner.
struct Parts {
    db: Arc<dyn MetaDb>,
    library: Arc<Library>,
    clock: Arc<dyn Clock>,
    template: Arc<Template>,
    turns: Arc<Turns>,
    lane: Lane,
}

/// Shows a pass in the progress for as long as it is under way, even when its future is dropped.
struct Shown<'a> {
    scanner: &'a Scanner,
    origin: OriginId,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.scanner.progress.send_modify(|p| {
            p.passes.remove(&self.origin);
        });
    }
}

/// Runs blocking work where blocking is allowed. A panic in it goes on in the caller; dropping the future lets it
/// run to its end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ScanError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work.
            Err(_) => Err(ScanError::Cancelled),
        },
    }
}
