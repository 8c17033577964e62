//! The circuit breakers: an origin that failed call after call is not asked for a while.
//!
//! One lock, held for a few lines.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId};
use parking_lot::Mutex;

use crate::{Condition, Health};

/// Failures in a row after which an origin is left alone.
const FAILURES: u32 = 3;
/// Failures further apart than this are not in a row.
const ROW: Duration = Duration::from_secs(30);
/// How long it is left alone, unless a check finds it well before. The first call after that decides.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    last: MonoTime,
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
        breakers.failed(&id, at(140));
        assert!(!breakers.is_open(&id, None, at(140)), "they were not in a row");
        fail(200);
        assert!(breakers.is_open(&id, None, at(202)));
        let well =
            |secs| Condition { health: Health::Healthy, checked: Some(at(secs)), ..Condition::default() };
        assert!(breakers.is_open(&id, Some(&well(201)), at(203)), "the check was before the failure");
        assert!(!breakers.is_open(&id, Some(&well(203)), at(203)));
        assert!(!breakers.is_open(&id, None, at(212)));
        breakers.failed(&id, at(213));
        assert!(breakers.is_open(&id, None, at(213)), "the first call after the pause failed");
        breakers.succeeded(&id);
        assert!(!breakers.is_open(&id, None, at(213)));
    }
}
