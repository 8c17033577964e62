//! Keeps one file that hangs from harming others.
//!
//! Each file has a few turns. A call takes one and keeps it until its work is really over: work in the blocking
//! pool cannot be stopped, so that when its caller goes away it is handed to a task that sees it through.
//!
//! One lock over the map of files, held for a look-up.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use futures::future::BoxFuture;
use musicfs_core::{OriginError, OriginId, OriginPath};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls that may be under way for one file: enough to keep a reader ahead supplied, far fewer than an origin
/// has permits or the blocking pool has threads.
pub(super) const CALLS_PER_FILE: usize = 4;

type Key = (OriginId, OriginPath);

/// The files that calls are under way for.
#[derive(Default)]
pub(super) struct Guards {
    files: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    /// Calls that wait or run; the entry lives as long as there are any.
    present: usize,
    /// Calls among them that passed their deadline and have not come back.
    stuck: usize,
    turns: Arc<Semaphore>,
}

impl Guards {
    /// Joins those who want a file, or returns `None` when all its turns are stuck.
    pub(super) fn enter(self: &Arc<Self>, origin: &OriginId, path: &OriginPath) -> Option<Presence> {
        let key = (origin.clone(), path.clone());
        let mut files = self.files.lock();
        let fresh = || Entry { present: 0, stuck: 0, turns: Arc::new(Semaphore::new(CALLS_PER_FILE)) };
        let entry = files.entry(key.clone()).or_insert_with(fresh);
        if entry.stuck >= CALLS_PER_FILE {
            return None;
        }
        entry.present += 1;
        let turns = Arc::clone(&entry.turns);
        drop(files);
        Some(Presence { guards: Arc::clone(self), key, turns, stuck: false })
    }
}

/// One call's place among those for its file.
pub(super) struct Presence {
    guards: Arc<Guards>,
    key: Key,
    turns: Arc<Semaphore>,
    stuck: bool,
}

impl Presence {
    /// Waits for a turn.
    pub(super) async fn turn(self) -> Turn {
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        Turn { presence: self, _permit: permit }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut files = self.guards.files.lock();
        if let Some(entry) = files.get_mut(&self.key) {
            entry.present -= 1;
            entry.stuck -= usize::from(self.stuck);
            if entry.present == 0 {
                files.remove(&self.key);
            }
        }
    }
}

/// A turn at a file.
pub(super) struct Turn {
    presence: Presence,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    fn mark_stuck(&mut self) {
        if !std::mem::replace(&mut self.presence.stuck, true)
            && let Some(entry) = self.presence.guards.files.lock().get_mut(&self.presence.key)
        {
            entry.stuck += 1;
        }
    }
}

/// What becomes of work that nobody waits for any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leftover {
    /// Dropping it stops it.
    Drop,
    /// It goes on whatever we do; its turn lasts as long.
    Finish,
}

/// Work under way, with its turn.
pub(super) struct Running<T: Send + 'static> {
    /// Both are there until the work is over or handed on.
    parts: Option<(BoxFuture<'static, Result<T, OriginError>>, Turn)>,
    leftover: Leftover,
}

impl<T: Send + 'static> Running<T> {
    pub(super) fn new(
        work: BoxFuture<'static, Result<T, OriginError>>,
        turn: Turn,
        leftover: Leftover,
    ) -> Self {
        Self { parts: Some((work, turn)), leftover }
    }

    /// Waits for the work's result. Cancel safe; not to be called again after it returned.
    pub(super) async fn done(&mut self) -> Result<T, OriginError> {
        let done = poll_fn(|context| match &mut self.parts {
            Some((work, _)) => work.as_mut().poll(context),
            None => std::task::Poll::Pending,
        })
        .await;
        self.parts = None;
        done
    }

    /// Gives the work up at its deadline.
    pub(super) fn abandon(mut self) {
        if self.leftover == Leftover::Finish
            && let Some((_, turn)) = &mut self.parts
        {
            turn.mark_stuck();
        }
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        let Some((work, turn)) = self.parts.take() else { return };
        if self.leftover == Leftover::Finish
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // Its result is for nobody; its end gives the turn back.
                let _ = work.await;
                drop(turn);
            });
        }
    }
}
