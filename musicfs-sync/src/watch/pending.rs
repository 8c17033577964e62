//! What changed and has not been told yet. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use musicfs_core::{MonoTime, OriginPath};

use super::Watched;
use crate::scan::{MANY_PATHS, few_paths};

/// More changed paths than this are not told one from another.
const MOST: usize = 50_000;

/// Paths with the time of their last change.
#[derive(Debug)]
pub(super) struct Pending {
    quiet: Duration,
    times: HashMap<OriginPath, MonoTime>,
    in_order: BTreeSet<(MonoTime, OriginPath)>,
    everything: Option<MonoTime>,
}

impl Pending {
    /// Makes an empty one; a path is due when it has been left alone for `quiet`.
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, times: HashMap::new(), in_order: BTreeSet::new(), everything: None }
    }

    /// Something changed at a path.
    pub(super) fn touch(&mut self, path: OriginPath, now: MonoTime) {
        if self.everything.is_some() || path.is_root() || self.times.len() >= MOST {
            return self.touch_everything(now);
        }
        if let Some(before) = self.times.insert(path.clone(), now) {
            self.in_order.remove(&(before, path.clone()));
        }
        self.in_order.insert((now, path));
    }

    /// Anything may have changed.
    pub(super) fn touch_everything(&mut self, now: MonoTime) {
        self.times.clear();
        self.in_order.clear();
        self.everything = Some(now);
    }

    /// Returns when something is to be told.
    pub(super) fn due(&self) -> Option<MonoTime> {
        let first = self.in_order.first().map(|(time, _)| *time);
        self.everything.or(first).map(|time| time.plus(self.quiet))
    }

    /// Returns what is due, with what nearly is, so that the two ends of a move come together.
    pub(super) fn take(&mut self, now: MonoTime) -> Watched {
        if self.everything.take().is_some() {
            return Watched::Everything;
        }
        let mut due = Vec::new();
        while let Some((time, path)) = self.in_order.pop_first() {
            if time.plus(self.quiet / 2) > now {
                self.in_order.insert((time, path));
                break;
            }
            self.times.remove(&path);
            due.push(path);
        }
        let due = few_paths(due, MANY_PATHS);
        if due.iter().any(OriginPath::is_root) { Watched::Everything } else { Watched::Paths(due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text).unwrap()
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime(Duration::from_millis(ms))
    }

    #[test]
    fn path_is_due_after_its_last_change_and_takes_what_is_nearly_due_along() {
        let mut pending = Pending::new(Duration::from_millis(500));
        assert_eq!(pending.due(), None);
        pending.touch(path("a"), at(0));
        pending.touch(path("a"), at(400));
        assert_eq!(pending.due(), Some(at(900)));
        pending.touch(path("b"), at(600));
        pending.touch(path("c"), at(800));
        assert_eq!(pending.take(at(900)), Watched::Paths(vec![path("a"), path("b")]));
        assert_eq!(pending.due(), Some(at(1300)));
        assert_eq!(pending.take(at(1300)), Watched::Paths(vec![path("c")]));
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn many_paths_become_their_folders_and_all_paths_everything() {
        let mut pending = Pending::new(Duration::ZERO);
        for n in 0..10 * MANY_PATHS {
            pending.touch(path(&format!("new/{n}")), at(1));
        }
        pending.touch(path("other/x"), at(1));
        assert_eq!(pending.take(at(1)), Watched::Paths(vec![path("new"), path("other")]));
        pending.touch(path("a"), at(2));
        pending.touch_everything(at(2));
        pending.touch(path("b"), at(3));
        assert_eq!(pending.take(at(3)), Watched::Everything);
        assert_eq!(pending.due(), None);
        pending.touch(OriginPath::root(), at(4));
        assert_eq!(pending.take(at(4)), Watched::Everything);
    }
}
