//! The circuit breakers: an origin that failed call after call is not asked for a while.
//!
//! The first call after that is a probe: while it is under way, no other is let through.
//!
//! One lock, held for a few lines.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId};
use parking_lot::Mutex;

use crate::{Condition, Health};

/// Failures in a row after which an origin is left alone.
const FAILURES: u32 = 3;
/// Failures further apart than this are not in a row: each may take a read's whole deadline.
const ROW: Duration = Duration::from_secs(120);
/// How long it is left alone, unless a check finds it well before. The first call after that decides.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    last: MonoTime,
    /// A call is under way that is to tell whether it answers again.
    probing: bool,
}

/// The right to make a call, for as long as it takes.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    probe: Option<(&'a Breakers, OriginId)>,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some((breakers, id)) = &self.probe
            && let Some(breaker) = breakers.0.lock().get_mut(id)
        {
            breaker.probing = false;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<OriginId, Breaker>>);

impl Breakers {
    pub(super) fn succeeded(&self, id: &OriginId) {
        self.0.lock().remove(id);
    }

    pub(super) fn failed(&self, id: &OriginId, now: MonoTime) {
        let mut all = self.0.lock();
        let breaker = all.entry(id.clone()).or_default();
        if now.since(breaker.last) > ROW {
            breaker.failures = 0;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.last = now;
    }

    /// Lets a call through to an origin that is `suspect`: when none has failed, or, after a pause, as a probe.
    pub(super) fn admit(&self, id: &OriginId, suspect: bool, now: MonoTime) -> Option<Admission<'_>> {
        let mut all = self.0.lock();
        let Some(breaker) = all.get_mut(id).filter(|_| suspect) else {
            return Some(Admission { probe: None });
        };
        let probe = !breaker.probing && now.since(breaker.last) >= PAUSE;
        breaker.probing |= probe;
        probe.then(|| Admission { probe: Some((self, id.clone())) })
    }

    /// Tells whether an origin failed call after call, however long ago.
    pub(super) fn is_failing(&self, id: &OriginId) -> bool {
        self.0.lock().get(id).is_some_and(|breaker| breaker.failures >= FAILURES)
    }

    /// Tells whether an origin is to be left alone.
    pub(super) fn is_open(&self, id: &OriginId, condition: Option<&Condition>, now: MonoTime) -> bool {
        let Some(breaker) = self.0.lock().get(id).copied() else { return false };
        let checked_well = condition.is_some_and(|condition| {
            condition.health == Health::Healthy && condition.checked.is_some_and(|at| at > breaker.last)
        });
        breaker.failures >= FAILURES && !checked_well && now.since(breaker.last) < PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> MonoTime {
        MonoTime(Duration::from_secs(secs))
    }

    #[test]
    fn circuit_opens_after_failures_in_a_row_and_closes_by_a_check_a_pause_or_a_success() {
        let (breakers, id) = (Breakers::default(), OriginId::from("nas"));
        let fail = |from: u64| (from..from + 3).for_each(|n| breakers.failed(&id, at(n)));
        breakers.failed(&id, at(100));
        breakers.failed(&id, at(101));
        breakers.failed(&id, at(330));
        assert!(!breakers.is_open(&id, None, at(330)), "they were not in a row");
        fail(400);
        assert!(breakers.is_open(&id, None, at(402)));
        let well =
            |secs| Condition { health: Health::Healthy, checked: Some(at(secs)), ..Condition::default() };
        assert!(breakers.is_open(&id, Some(&well(401)), at(403)), "the check was before the failure");
        assert!(!breakers.is_open(&id, Some(&well(403)), at(403)));
        assert!(!breakers.is_open(&id, None, at(412)));
        breakers.failed(&id, at(413));
        assert!(breakers.is_open(&id, None, at(413)), "the first call after the pause failed");
        breakers.succeeded(&id);
        assert!(!breakers.is_open(&id, None, at(413)));
    }

    #[test]
    fn suspect_origin_that_failed_is_asked_by_one_probe_after_a_pause() {
        let (breakers, id) = (Breakers::default(), OriginId::from("nas"));
        assert!(breakers.admit(&id, true, at(100)).is_some(), "no call has failed");
        breakers.failed(&id, at(100));
        assert!(breakers.admit(&id, false, at(101)).is_some(), "it is not suspect");
        assert!(breakers.admit(&id, true, at(109)).is_none());
        let probe = breakers.admit(&id, true, at(110)).unwrap();
        assert!(breakers.admit(&id, true, at(200)).is_none(), "one probe is under way");
        breakers.failed(&id, at(140));
        drop(probe);
        assert!(breakers.admit(&id, true, at(149)).is_none());
        drop(breakers.admit(&id, true, at(150)).unwrap());
        assert!(breakers.admit(&id, true, at(151)).is_some(), "a probe that concluded nothing is made again");
        breakers.succeeded(&id);
        assert!(breakers.admit(&id, true, at(151)).is_some());
    }
}
