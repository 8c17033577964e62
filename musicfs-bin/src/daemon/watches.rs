//! Directories of this machine that are watched, so that what changes in them is scanned at once.
//!
//! One task runs all watchers. When the configuration changes, those that are no longer named end and new ones begin;
//! the others go on. One lock guards the table of watchers; it is held for a few lines and never across an await.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use musicfs_core::{Clock, OriginId, SystemClock};
use musicfs_sync::{FolderWatcher, WatchState, Watched};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::scans::{Part, Scans};

struct One {
    watcher: Arc<FolderWatcher>,
    state: WatchState,
}

/// What is watched.
#[derive(Default)]
pub(super) struct Watches {
    all: Mutex<BTreeMap<OriginId, One>>,
    reload: Notify,
}

impl Watches {
    /// Says how an origin is watched; `None` when it is not.
    pub(super) fn state(&self, origin: &OriginId) -> Option<WatchState> {
        self.all.lock().get(origin).map(|one| one.state.clone())
    }

    /// Has a lost watch of an origin that is back begin again at once.
    pub(super) fn retry_now(&self, origin: &OriginId) {
        if let Some(one) =
            self.all.lock().get(origin).filter(|one| matches!(one.state, WatchState::Lost { .. }))
        {
            one.watcher.retry_now();
        }
    }

    /// Looks again at what is to be watched.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Watches what `roots` names, until cancelled.
    pub(super) async fn run(
        self: Arc<Self>,
        roots: impl Fn() -> Vec<(OriginId, PathBuf)>,
        clock: Arc<SystemClock>,
        scans: Arc<Scans>,
        cancel: CancellationToken,
    ) {
        let mut running: JoinSet<()> = JoinSet::new();
        let mut handles: BTreeMap<OriginId, (PathBuf, AbortHandle)> = BTreeMap::new();
        loop {
            let wanted: BTreeMap<OriginId, PathBuf> = roots().into_iter().collect();
            handles.retain(|origin, (root, handle)| {
                let stays = wanted.get(origin) == Some(root);
                if !stays {
                    handle.abort();
                    self.all.lock().remove(origin);
                    scans.set_watched(origin, false);
                }
                stays
            });
            for (origin, root) in wanted {
                if let Entry::Vacant(place) = handles.entry(origin) {
                    let handle = self.begin(&mut running, place.key(), &root, clock.clone(), scans.clone());
                    place.insert((root, handle));
                }
            }
            tokio::select! {
                () = self.reload.notified() => {}
                () = cancel.cancelled() => return,
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Err(Ok(panic)) = ended.map_err(tokio::task::JoinError::try_into_panic) {
                        // The task that looks after this one logs it, and all begins anew.
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        running: &mut JoinSet<()>,
        origin: &OriginId,
        root: &std::path::Path,
        clock: Arc<SystemClock>,
        scans: Arc<Scans>,
    ) -> AbortHandle {
        let clock: Arc<dyn Clock> = clock;
        let watcher = Arc::new(FolderWatcher::new(root, clock));
        let one = One { watcher: watcher.clone(), state: WatchState::default() };
        self.all.lock().insert(origin.clone(), one);
        let (watches, origin) = (self.clone(), origin.clone());
        running.spawn(async move { watcher.run(|what| watches.take(&origin, what, &scans)).await })
    }

    fn take(&self, origin: &OriginId, what: Watched, scans: &Scans) {
        match what {
            Watched::State(state) => {
                scans.set_watched(origin, state.is_complete());
                if let Some(one) = self.all.lock().get_mut(origin) {
                    one.state = state;
                }
            }
            Watched::Paths(paths) => scans.changed(Part { origin: origin.clone(), paths: Some(paths) }),
            Watched::Everything => scans.changed(Part::whole(origin.clone())),
        }
    }
}
