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
//! * What is missing is remembered; it goes for good by the user's word alone.
//! * A pass writes what it observed and where files are shown; nothing of the user's.
//! * Each batch says that a pass is under way. One that ended early deletes nothing; the next one reads what is left
//!   to read and puts the tree in order (`record.rs`).
//! * At most one pass runs at a time; a refresh of a single file may run beside it, since batches are applied one
//!   after the other and each is right by itself.
//!
//! Not here: when passes are run, and watching.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use musicfs_core::{
    ChunkStore, Clock, EventBus, EventKind, FileId, FileMeta, MetaDb, MetaError, MonoTime, Op, Origin,
    OriginError, OriginId, OriginPath, Refreshed, Refresher, Template, UnixNanos,
};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::library::{Library, LibraryError};

mod delta;
mod known;
mod moves;
mod parse;
mod pass;
mod proof;
mod rearrange;
mod record;
mod refresh;
mod retag;
mod trash;
mod writer;

pub use delta::{Delta, DeltaDetector, Listed, Reread};
pub use rearrange::arranged_by;
pub use trash::{TrashFilter, Trashed};

/// Names at most `most` paths that cover all of these, by the folders above where there are more.
pub(crate) fn few_paths(paths: Vec<OriginPath>, most: usize) -> Vec<OriginPath> {
    pass::few_paths(paths, most)
}

/// More paths than this are looked at by the folders above them: each costs a query and a call to the origin.
pub(crate) const MANY_PATHS: usize = 256;

/// Difference between the two clocks from which on the wall clock is taken to have been set.
const CLOCK_JUMP: Duration = Duration::from_secs(5);
/// How long a missing file that is cached stays in the tree, unless the user says otherwise.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a scanner works.
#[derive(Clone, Debug)]
pub struct ScannerConfig {
    /// How tags become paths.
    pub template: Template,
    /// How many files are parsed at once; 0 for as many as there are cores.
    pub workers: usize,
    /// How long a missing file that is cached whole stays in the tree.
    pub missing_grace: Duration,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        Self { template: Template::default(), workers: 0, missing_grace: GRACE }
    }
}

/// What a pass is to do, beyond bringing the catalogue up to date with the whole of an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOptions {
    /// The files and folders to look at; all when `None`.
    pub paths: Option<Vec<OriginPath>>,
    /// Reads music again that seems unchanged.
    pub reread: bool,
    /// The user has said that the origin is as it should be, however much is gone.
    pub confirmed: bool,
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScanReport {
    /// The origin.
    pub origin: OriginId,
    /// Files listed that are music, or belong to music.
    pub listed: u64,
    /// Files that were as the catalogue had them, and were not opened.
    pub unchanged: u64,
    /// Files that are new.
    pub added: u64,
    /// Files that changed.
    pub changed: u64,
    /// Files that are at another path than they were, or another format of the same track.
    pub moved: u64,
    /// Files that were found to be gone.
    pub missing: u64,
    /// Files that had been gone and are back.
    pub returned: u64,
    /// Files that were read and could not be parsed.
    pub problems: u64,
    /// Whether the listing was complete.
    pub complete: bool,
    /// Why nothing was taken for gone although files are not listed; `None` when there is no such reason.
    pub held_back: Option<String>,
    /// What was held back waits for the user to confirm it.
    pub needs_confirmation: bool,
    /// The pass before had not come to its end.
    pub resumed: bool,
    /// It went on where that pass was, so that what came before was not listed.
    #[serde(skip)]
    goes_on: bool,
    /// It was over a part, and what goes by other parts is not settled.
    #[serde(skip)]
    unsettled: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl ScanReport {
    fn new(origin: OriginId) -> Self {
        Self {
            origin,
            listed: 0,
            unchanged: 0,
            added: 0,
            changed: 0,
            moved: 0,
            missing: 0,
            returned: 0,
            problems: 0,
            complete: false,
            held_back: None,
            needs_confirmation: false,
            resumed: false,
            goes_on: false,
            unsettled: false,
            elapsed_ms: 0,
        }
    }

    /// Joins the report of a pass that went on with that of the one that brought it to its end.
    fn after(self, first: &Self) -> Self {
        Self {
            added: self.added + first.added,
            changed: self.changed + first.changed,
            moved: self.moved + first.moved,
            returned: self.returned + first.returned,
            problems: self.problems + first.problems,
            unchanged: self.unchanged.saturating_sub(first.added + first.changed),
            missing: self.missing + first.missing,
            resumed: self.resumed || first.goes_on,
            elapsed_ms: self.elapsed_ms + first.elapsed_ms,
            ..self
        }
    }
}

/// What a scanner is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanPhase {
    /// Nothing.
    #[default]
    Idle,
    /// Loading what is known.
    Loading,
    /// Listing an origin and parsing what is new.
    Scanning,
    /// Arranging the tree after a change of the template.
    Arranging,
}

/// How far a scanner is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanProgress {
    /// The origin that is being scanned.
    pub origin: Option<OriginId>,
    /// What is being done.
    pub phase: ScanPhase,
    /// Files listed so far, or, while arranging, looked at.
    pub listed: u64,
    /// Files parsed so far.
    pub parsed: u64,
    /// Files found so far that are new or changed and must be parsed.
    pub to_parse: u64,
    /// What the last pass over each origin did.
    pub last: BTreeMap<OriginId, ScanReport>,
}

/// Why a pass ended early. What was applied until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no such origin.
    #[error("there is no origin named {0}")]
    UnknownOrigin(OriginId),
    /// The origin failed.
    #[error("the origin could not be listed")]
    Origin(#[source] OriginError),
    /// The catalogue failed.
    #[error("the catalogue could not be read or written")]
    Meta(#[from] MetaError),
    /// The library failed.
    #[error("the library could not be read or written")]
    Library(#[from] LibraryError),
    /// It was asked to stop.
    #[error("the scan was cancelled")]
    Cancelled,
}

/// Keeps the catalogue true to its origins.
///
/// Locks: `pass` is held over a whole pass, across awaits, and taken by no one else; the others for a few lines.
pub struct Scanner {
    db: Arc<dyn MetaDb>,
    library: Arc<Library>,
    origins: RwLock<Vec<Arc<dyn Origin>>>,
    clock: Arc<dyn Clock>,
    template: RwLock<Arc<Template>>,
    workers: usize,
    grace: RwLock<Duration>,
    events: Option<EventBus>,
    chunks: Option<Arc<dyn ChunkStore>>,
    /// When the last pass began, by both clocks.
    last: Mutex<Option<(MonoTime, UnixNanos)>>,
    pass: tokio::sync::Mutex<()>,
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
            events: None,
            chunks: None,
            last: Mutex::default(),
            pass: tokio::sync::Mutex::new(()),
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

    /// Changes how long a missing file that is cached whole stays in the tree.
    pub fn set_missing_grace(&self, grace: Duration) {
        *self.grace.write() = grace;
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
    /// ids and inode numbers stay. Interrupted, it begins again the next time.
    ///
    /// Dropping the future lets the batch under way be finished.
    ///
    /// # Errors
    /// [`ScanError::Cancelled`], [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn arrange(&self, cancel: &CancellationToken) -> Result<bool, ScanError> {
        let _pass = self.pass.lock().await;
        let done = rearrange::run(self, cancel).await;
        self.progress.send_modify(|p| p.phase = ScanPhase::Idle);
        done
    }

    /// Brings the catalogue up to date with one origin. With `full`, music that seems unchanged is read again.
    ///
    /// Waits for a pass that is under way. Dropping the future ends the pass; what was applied stays.
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
        let _pass = self.pass.lock().await;
        let done = match pass::run(self, origin.clone(), &options, cancel).await {
            // What was listed before it went on was not listed now: only a whole listing tells what is gone.
            Ok(first) if first.goes_on => {
                let rest = pass::run(self, origin, &PassOptions { reread: false, ..options }, cancel).await;
                rest.map(|rest| rest.after(&first))
            }
            // So much changed that what stands beside it elsewhere is found by looking at all.
            Ok(part) if part.unsettled && part.held_back.is_none() => {
                let rest = pass::run(self, origin, &PassOptions::default(), cancel).await;
                rest.map(|rest| rest.after(&part))
            }
            done => done,
        };
        self.progress.send_modify(|p| {
            (p.phase, p.origin) = (ScanPhase::Idle, None);
            if let Ok(report) = &done {
                p.last.insert(report.origin.clone(), report.clone());
            }
        });
        done
    }

    fn grace(&self) -> Duration {
        *self.grace.read()
    }

    /// Returns which unchanged files a pass that begins now reads.
    fn what_to_reread(&self, options: &PassOptions) -> Reread {
        let (now, unix) = (self.clock.now(), self.clock.unix());
        let last = self.last.lock().replace((now, unix));
        if options.reread {
            return Reread::All;
        }
        let Some((then, unix_then)) = last else { return Reread::None };
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

    fn parts(&self) -> Parts {
        Parts {
            db: self.db.clone(),
            library: self.library.clone(),
            clock: self.clock.clone(),
            template: self.template.read().clone(),
        }
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

/// What blocking work needs of a scanner.
struct Parts {
    db: Arc<dyn MetaDb>,
    library: Arc<Library>,
    clock: Arc<dyn Clock>,
    template: Arc<Template>,
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
