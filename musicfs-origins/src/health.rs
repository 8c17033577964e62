//! How origins are doing.
//!
//! Each origin is asked on its own, all at the same time, and each question is bounded, so that one that hangs
//! delays nobody. What a single answer means is decided purely ([`Condition::after`]).
//!
//! One lock guards the table of origins; it is held for a few lines and never while an origin is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use musicfs_core::{Clock, MonoTime, Origin, OriginErrorKind, OriginId, SystemClock};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

/// How long an origin may take to say that it is well.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Failures in a row that make an origin of this machine unhealthy: it does not fail by chance.
const LOCAL_FAILURES: u32 = 1;
/// Failures in a row that make a remote origin unhealthy: a lost packet is not an outage.
const REMOTE_FAILURES: u32 = 3;
/// An answer slower than this makes an origin degraded: it works, but others are to be preferred.
const SLOW: Duration = Duration::from_secs(1);
/// Weight of the newest answer in the latency, as one part of this many.
const LATENCY_WEIGHT: u32 = 4;
/// An origin whose name does not resolve is asked again after this long: resolvers come back soon.
const DNS_RECHECK: Duration = Duration::from_secs(5);

/// What can be expected of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It answers.
    Healthy,
    /// It has not been asked yet.
    #[default]
    Unknown,
    /// It answers slowly or now and then.
    Degraded,
    /// It does not answer.
    Unhealthy,
}

impl Health {
    /// Returns the state in one word, as `status` shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of an origin's condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The conclusion.
    pub health: Health,
    /// Checks that failed in a row.
    pub failures: u32,
    /// How long an answer takes, averaged over the last few; `None` before the first.
    pub latency: Option<Duration>,
    /// Why the last check failed; `None` when it did not.
    pub error: Option<OriginErrorKind>,
    /// When it was checked last.
    pub checked: Option<MonoTime>,
    /// What identifies the storage behind the origin, as it said last.
    pub identity: Option<String>,
}

/// What came of one check.
type Answer = Result<(Duration, Option<String>), OriginErrorKind>;

impl Condition {
    fn after(&self, answer: Answer, remote: bool, now: MonoTime) -> Self {
        match answer {
            Ok((took, identity)) => {
                let latency = self.latency.map_or(took, |old| (old * (LATENCY_WEIGHT - 1) + took) / LATENCY_WEIGHT);
                let health = if latency > SLOW { Health::Degraded } else { Health::Healthy };
                let (latency, checked) = (Some(latency), Some(now));
                Self { health, failures: 0, latency, error: None, checked, identity }
            }
            Err(kind) => {
                let failures = self.failures.saturating_add(1);
                let bound = if remote { REMOTE_FAILURES } else { LOCAL_FAILURES };
                let health = match kind {
                    // The origin may be well; it is its name that cannot be found out.
                    OriginErrorKind::Dns => Health::Degraded,
                    _ if failures >= bound => Health::Unhealthy,
                    _ => Health::Degraded,
                };
                Self { health, failures, error: Some(kind), checked: Some(now), ..self.clone() }
            }
        }
    }
}

/// The conditions of all origins at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthSnapshot {
    conditions: BTreeMap<OriginId, Condition>,
}

impl HealthSnapshot {
    /// Returns what is known of an origin.
    pub fn condition(&self, id: &OriginId) -> Option<&Condition> {
        self.conditions.get(id)
    }

    /// Returns all conditions by origin.
    pub fn iter(&self) -> impl Iterator<Item = (&OriginId, &Condition)> {
        self.conditions.iter()
    }

    /// Tells whether an origin answers as it should.
    pub fn is_healthy(&self, id: &OriginId) -> bool {
        self.condition(id).is_some_and(|c| c.health == Health::Healthy)
    }

    /// Tells whether an origin is known not to answer.
    pub fn is_unhealthy(&self, id: &OriginId) -> bool {
        self.condition(id).is_some_and(|c| c.health == Health::Unhealthy)
    }

    /// Tells whether there are origins, and none of them answers.
    pub fn all_unhealthy(&self) -> bool {
        !self.conditions.is_empty() && self.conditions.values().all(|c| c.health == Health::Unhealthy)
    }
}

/// Asks origins how they are, and remembers.
pub struct HealthMonitor {
    interval: Duration,
    clock: Arc<dyn Clock>,
    origins: Mutex<BTreeMap<OriginId, Arc<dyn Origin>>>,
    state: watch::Sender<HealthSnapshot>,
}

impl std::fmt::Debug for HealthMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthMonitor").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl HealthMonitor {
    /// Makes a monitor that asks every `interval`, by the system's clock, once it is [run](HealthMonitor::run).
    pub fn new(interval: Duration) -> Self {
        Self::with_clock(interval, Arc::new(SystemClock::new()))
    }

    /// Makes a monitor that goes by `clock`.
    pub fn with_clock(interval: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { interval, clock, origins: Mutex::default(), state: watch::Sender::default() }
    }

    /// Adds an origin, in place of one with the same id. Its health is unknown until it is asked.
    pub fn add_origin(&self, origin: Arc<dyn Origin>) {
        let id = origin.id().clone();
        self.origins.lock().insert(id.clone(), origin);
        self.state.send_modify(|state| {
            state.conditions.insert(id, Condition::default());
        });
    }

    /// Removes an origin.
    pub fn remove_origin(&self, id: &OriginId) {
        self.origins.lock().remove(id);
        self.state.send_modify(|state| {
            state.conditions.remove(id);
        });
    }

    /// Returns what is known now.
    pub fn snapshot(&self) -> HealthSnapshot {
        self.state.borrow().clone()
    }

    /// Returns a receiver of what is known, after each check.
    pub fn subscribe(&self) -> watch::Receiver<HealthSnapshot> {
        self.state.subscribe()
    }

    /// Asks one origin, for at most 5 s. Does nothing for an unknown id. Dropping the future concludes nothing.
    pub async fn check_now(&self, id: &OriginId) {
        let origin = self.origins.lock().get(id).cloned();
        if let Some(origin) = origin {
            self.check(&*origin).await;
        }
    }

    /// Asks all origins at the same time; ends when the slowest has answered, at most after 5 s. Dropping the
    /// future concludes nothing of those that have not answered.
    pub async fn check_all(&self) {
        let origins: Vec<_> = self.origins.lock().values().cloned().collect();
        let mut checks: FuturesUnordered<_> = origins.iter().map(|origin| self.check(&**origin)).collect();
        while checks.next().await.is_some() {}
    }

    /// Asks all origins again and again. Never ends; dropping the future is safe.
    pub async fn run(&self) {
        loop {
            self.check_all().await;
            let unresolved = self.state.borrow().iter().any(|(_, c)| c.error == Some(OriginErrorKind::Dns));
            let wait = if unresolved { self.interval.min(DNS_RECHECK) } else { self.interval };
            self.clock.sleep_until(self.clock.now().plus(wait)).await;
        }
    }

    async fn check(&self, origin: &dyn Origin) {
        let begun = self.clock.now();
        let ask = async {
            fail::fail_point!("health-check-hang", |_| std::future::pending().await);
            origin.health().await
        };
        let answer = tokio::select! {
            answer = ask => match answer {
                Ok(health) => Ok((self.clock.now().since(begun), health.identity)),
                Err(error) => Err(error.kind),
            },
            () = self.clock.sleep_until(begun.plus(CHECK_LIMIT)) => Err(OriginErrorKind::TimedOut),
        };
        self.conclude(origin, answer);
    }

    fn conclude(&self, origin: &dyn Origin, answer: Answer) {
        let (id, remote, now) = (origin.id(), origin.caps().remote, self.clock.now());
        self.state.send_modify(|state| {
            // It may have been removed while it was asked.
            let Some(before) = state.conditions.get_mut(id) else { return };
            let after = before.after(answer, remote, now);
            if after.health != before.health {
                match (&after.health, after.error) {
                    (Health::Healthy, _) => info!(origin = %id, "origin answers"),
                    (health, Some(why)) => warn!(origin = %id, "origin is {}: {why}", health.as_str()),
                    (health, None) => warn!(origin = %id, latency = ?after.latency, "origin is {}", health.as_str()),
                }
            }
            *before = after;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well(ms: u64) -> Answer {
        Ok((Duration::from_millis(ms), None))
    }

    fn after(answers: &[Answer], remote: bool) -> Health {
        let step = |c: Condition, a: &Answer| c.after(a.clone(), remote, MonoTime::default());
        answers.iter().fold(Condition::default(), step).health
    }

    #[test]
    fn local_origin_fails_at_once_and_a_remote_one_after_three_failures() {
        let down = Err(OriginErrorKind::Unavailable);
        assert_eq!(after(&[well(1)], true), Health::Healthy);
        assert_eq!(after(&[well(1), down.clone()], false), Health::Unhealthy);
        assert_eq!(after(&[well(1), down.clone(), down.clone()], true), Health::Degraded);
        assert_eq!(after(&[down.clone(), down.clone(), down.clone()], true), Health::Unhealthy);
        assert_eq!(after(&[down.clone(), down.clone(), down.clone(), well(1)], true), Health::Healthy);
        assert_eq!(after(&[down.clone(), down.clone(), well(1), down.clone()], true), Health::Degraded);
    }

    #[test]
    fn slow_origin_and_one_whose_name_is_not_found_are_degraded() {
        assert_eq!(after(&[well(3000)], true), Health::Degraded);
        assert_eq!(after(&[well(10), well(1200)], true), Health::Healthy);
        let dns: Vec<Answer> = (0..9).map(|_| Err(OriginErrorKind::Dns)).collect();
        assert_eq!(after(&dns, true), Health::Degraded);
    }
}
