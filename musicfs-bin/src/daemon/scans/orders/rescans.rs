//! When origins are to be rescanned, as nobody asks for it. Pure: told the time, it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId};

/// What is watched is rescanned so many times less often: changes are seen without it, unless they were made by another
/// hard link or below a directory that is mounted from a network. README.md tells the number.
pub(super) const WATCHED_EVERY: u32 = 12;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rescans {
    /// Zero for none.
    interval: Duration,
    /// When each origin is due that was scanned once; `None` while there is no interval.
    due: BTreeMap<OriginId, Option<MonoTime>>,
    /// Origins whose changes are seen as they happen.
    watched: BTreeSet<OriginId>,
}

impl Rescans {
    /// Makes one without origins.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Has an origin rescanned after a while.
    pub(super) fn rest(&mut self, origin: &OriginId, now: MonoTime) {
        let times = if self.watched.contains(origin) { WATCHED_EVERY } else { 1 };
        let after = self.interval.saturating_mul(times);
        self.due.insert(origin.clone(), (!after.is_zero()).then(|| now.plus(after)));
    }

    /// Returns the origins that are due; each is again after another while, whatever becomes of it now.
    pub(super) fn take(&mut self, now: MonoTime) -> Vec<OriginId> {
        let is_due = |at: &Option<MonoTime>| at.is_some_and(|at| at <= now);
        let due: Vec<OriginId> =
            self.due.iter().filter(|(_, at)| is_due(at)).map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|origin| self.rest(origin, now));
        due
    }

    /// Returns when the next one is due.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.due.values().flatten().min().copied()
    }

    /// Notes whether changes of an origin are seen as they happen.
    pub(super) fn set_watched(&mut self, origin: &OriginId, watched: bool, now: MonoTime) {
        let changed = if watched { self.watched.insert(origin.clone()) } else { self.watched.remove(origin) };
        if changed && self.due.contains_key(origin) {
            self.rest(origin, now);
        }
    }

    /// Changes the time between rescans; zero for none.
    pub(super) fn set_interval(&mut self, interval: Duration, now: MonoTime) {
        self.interval = interval;
        let known: Vec<OriginId> = self.due.keys().cloned().collect();
        known.iter().for_each(|origin| self.rest(origin, now));
    }

    /// Forgets origins that are no more.
    pub(super) fn keep_only(&mut self, origins: &[OriginId]) {
        self.due.retain(|origin, _| origins.contains(origin));
    }
}
