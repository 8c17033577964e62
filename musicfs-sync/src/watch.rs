//! Watching a folder of this machine, so that what changes there is seen at once.
//!
//! [`FolderWatcher`] says which paths changed, once they have been quiet for a while: a file that is being written is
//! told of after its last write. It concludes nothing; a pass over these paths does ([`crate::PassOptions::paths`]).
//!
//! # Invariants
//! * Nothing that changes while it watches is lost: what the kernel's queue could not hold, and whatever may have
//!   changed before it began, is told as [`Watched::Everything`]. Of what the queue could not hold, the folders in which
//!   files came or went are told first.
//! * What it cannot watch it says: [`WatchState::Partly`] when the system gives no more watches, [`WatchState::Lost`]
//!   when the folder is gone. Whoever listens polls then. It tries again by itself, after 1, 5 and then every 30 s.
//! * A folder that another storage was mounted over is noticed within half a minute.
//! * Only folders that may hold music are watched; what the scanner ignores is not.
//!
//! # Locking
//! None. The kernel's queue is read, and folders are listed, where blocking is allowed; what is known of the folders goes
//! there and comes back.
//!
//! Not here: what lies behind a network, where nobody tells what changes; and what links lead to out of the folder. What
//! they lead to in it is watched where it is, and told by every way that leads to it.

mod folders;
mod links;
mod pending;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, MonoTime, OriginPath};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::scan::{MANY_PATHS, few_paths};
use folders::Folders;
use pending::Pending;

/// How long a path must have been left alone: longer than the pauses of a program that writes a file, short enough
/// for a change to be seen within a second.
const QUIET: Duration = Duration::from_millis(500);
/// Waits before it begins again, the last one from then on.
const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// Time between two looks whether the folder is still the one that is watched.
const CHECK: Duration = Duration::from_secs(30);

/// How watching goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum WatchState {
    /// It is beginning.
    #[default]
    Starting,
    /// All folders are watched.
    Watching {
        /// How many.
        folders: u64,
    },
    /// The system gives no more watches: some folders are not watched.
    Partly {
        /// How many are.
        folders: u64,
    },
    /// Nothing is watched; it is tried again.
    Lost {
        /// Why.
        reason: String,
    },
}

impl WatchState {
    /// Tells whether every change is seen.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Watching { .. })
    }
}

/// What a watcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Watching goes otherwise than before.
    State(WatchState),
    /// Something changed at these paths, or below them; none of them is below another.
    Paths(Vec<OriginPath>),
    /// Anything may have changed.
    Everything,
}

/// Watches a folder with all below it.
pub struct FolderWatcher {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    again: Notify,
}

impl std::fmt::Debug for FolderWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderWatcher").field("root", &self.root).finish_non_exhaustive()
    }
}

impl FolderWatcher {
    /// Makes a watcher of the folder `root`. Does no I/O.
    pub fn new(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { root: root.into(), clock, again: Notify::new() }
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Ends the wait before it begins again: the folder is said to be back.
    pub fn retry_now(&self) {
        self.again.notify_one();
    }

    /// Watches until dropped, which may be at any time. `tell` is called in order and must not block.
    pub async fn run(&self, tell: impl Fn(Watched) + Send + Sync) {
        let mut failures = 0;
        loop {
            tell(Watched::State(WatchState::Starting));
            let began = self.clock.now();
            let error = match Watch::begin(self).await {
                Ok(mut watch) => watch.go(&tell).await,
                Err(error) => error,
            };
            if self.clock.now().since(began) > CHECK {
                failures = 0;
            }
            warn!(folder = %self.root.display(), %error, "the folder is not watched; polled until it is");
            tell(Watched::State(WatchState::Lost { reason: error.to_string() }));
            let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
            failures += 1;
            tokio::select! {
                () = self.clock.sleep_until(self.clock.now().plus(wait)) => {}
                () = self.again.notified() => failures = 0,
            }
        }
    }
}

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("it cannot be watched: {0}")]
    Io(#[from] std::io::Error),
    #[error("it was moved, deleted or unmounted")]
    Gone,
    #[error("something else is in its place")]
    Replaced,
}

/// Watching that goes well so far.
struct Watch<'a> {
    watcher: &'a FolderWatcher,
    /// Always there, except while it is at work on another thread.
    folders: Option<Folders>,
    pending: Pending,
    state: WatchState,
    check: MonoTime,
}

impl<'a> Watch<'a> {
    async fn begin(watcher: &'a FolderWatcher) -> Result<Self, Lost> {
        let root = watcher.root.clone();
        let folders = blocking(move || Folders::open(root)).await??;
        let check = watcher.clock.now().plus(CHECK);
        Ok(Self {
            watcher,
            folders: Some(folders),
            pending: Pending::new(QUIET),
            state: WatchState::Starting,
            check,
        })
    }

    async fn go(&mut self, tell: &(impl Fn(Watched) + Send + Sync)) -> Lost {
        match self.watch(tell).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn watch(
        &mut self,
        tell: &(impl Fn(Watched) + Send + Sync),
    ) -> Result<std::convert::Infallible, Lost> {
        let clock = self.watcher.clock.clone();
        let queue = self.folders.as_ref().ok_or(Lost::Gone)?.queue();
        #[expect(unsafe_code, reason = "registering asks for a descriptor that stays what it is")]
        // SAFETY: the descriptor is owned by the `Arc` that is handed over, and never replaced.
        let queue = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) };
        let queue = queue.map_err(|error| error.into_parts().1)?;
        self.say(tell);
        // What changed before is not known.
        tell(Watched::Everything);
        loop {
            let due = self.pending.due();
            tokio::select! {
                ready = queue.readable() => {
                    ready?.clear_ready();
                    self.read(tell).await?;
                    self.say(tell);
                }
                () = clock.sleep_until(due.unwrap_or_default()), if due.is_some() => {
                    tell(self.pending.take(clock.now()));
                }
                () = clock.sleep_until(self.check) => {
                    self.check = clock.now().plus(CHECK);
                    let same = self.work(|folders| folders.is_current()).await?;
                    if !same {
                        return Err(Lost::Replaced);
                    }
                }
            }
        }
    }

    fn say(&mut self, tell: &impl Fn(Watched)) {
        let Some(folders) = &self.folders else { return };
        let state = folders.state();
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) {
            debug!(folder = %self.watcher.root.display(), ?state, "watching");
        }
        if state != self.state {
            self.state = state.clone();
            tell(Watched::State(state));
        }
    }

    async fn read(&mut self, tell: &impl Fn(Watched)) -> Result<(), Lost> {
        let seen = self.work(Folders::read).await??;
        let now = self.watcher.clock.now();
        for path in seen.paths {
            self.pending.touch(path, now);
        }
        if seen.overflow {
            warn!(folder = %self.watcher.root.display(), "more changed at once than could be told; all is looked at");
            let changed = self.work(|folders| {
                // The folders that were made meanwhile are not watched yet.
                folders.walk();
                folders.changed()
            });
            let changed = few_paths(changed.await?, MANY_PATHS);
            // Where files came and went can be seen, and is told at once; where they were rewritten cannot.
            if !changed.is_empty() && !changed.iter().any(OriginPath::is_root) {
                tell(Watched::Paths(changed));
            }
            self.pending.touch_everything(now);
        }
        if seen.gone { Err(Lost::Gone) } else { Ok(()) }
    }

    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Folders) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let mut folders = self.folders.take().ok_or(Lost::Gone)?;
        let (folders, done) = blocking(move || {
            let done = work(&mut folders);
            (folders, done)
        })
        .await?;
        self.folders = Some(folders);
        Ok(done)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work.
            Err(_) => Err(Lost::Gone),
        },
    }
}

#[cfg(test)]
mod tests;
