//! Passes over origins: list, compare, parse, apply.
//!
//! A pass takes one listing and turns it into batches: [`DeltaDetector`] decides on each entry with what one query
//! loaded before, files to be read are parsed on all cores in listing order, and results are applied as they come,
//! at the latest a fraction of a second after they were parsed. The same listing always gives the same catalogue.
//!
//! Invariants:
//! * Nothing is concluded to be gone but from a complete listing, nor from an empty one of an origin that had
//!   files, nor below a folder that could not be listed.
//! * A pass writes what it observed and where files are shown; nothing of the user's.
//! * At most one pass runs at a time; a refresh of a single file may run beside it, since batches are applied one
//!   after the other and each is right by itself.
//!
//! Not here: watching, resuming a pass after a kill, and following files that move.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use musicfs_core::{
    Clock, FileId, MetaDb, MetaError, Origin, OriginError, OriginId, Refreshed, Refresher, Template,
};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::library::{Library, LibraryError};

mod delta;
mod parse;
mod pass;
mod rearrange;
mod refresh;
mod writer;

pub use delta::{Delta, DeltaDetector, Listed};

/// How a scanner works.
#[derive(Clone, Debug, Default)]
pub struct ScannerConfig {
    /// How tags become paths.
    pub template: Template,
    /// How many files are parsed at once; 0 for as many as there are cores.
    pub workers: usize,
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
            missing: 0,
            returned: 0,
            problems: 0,
            complete: false,
            held_back: None,
            elapsed_ms: 0,
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
            pass: tokio::sync::Mutex::new(()),
            progress: watch::Sender::default(),
            refreshing: Mutex::default(),
        }
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
        let found = self.origins.read().iter().find(|o| o.id() == origin).cloned();
        let origin = found.ok_or_else(|| ScanError::UnknownOrigin(origin.clone()))?;
        let _pass = self.pass.lock().await;
        let done = pass::run(self, origin, full, cancel).await;
        self.progress.send_modify(|p| {
            (p.phase, p.origin) = (ScanPhase::Idle, None);
            if let Ok(report) = &done {
                p.last.insert(report.origin.clone(), report.clone());
            }
        });
        done
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
