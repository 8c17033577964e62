//! What checks say of origins, and what follows: pure decisions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginErrorKind, OriginId};

/// Failures in a row that make an origin of this machine unhealthy: it does not fail by chance.
const LOCAL_FAILURES: u32 = 1;
/// Failures in a row that make a remote origin unhealthy: a lost packet is not an outage.
const REMOTE_FAILURES: u32 = 3;
/// An answer slower than this makes an origin degraded: it works, but others are to be preferred.
const SLOW: Duration = Duration::from_secs(1);
/// Weight of the newest answer in the latency, as one part of this many.
const LATENCY_WEIGHT: u32 = 4;

/// What can be expected of an origin; the best is the least.
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

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// What kind of failure the last check met; `None` when it met none.
    pub error: Option<OriginErrorKind>,
    /// The same in words.
    pub reason: Option<String>,
    /// When it was checked last.
    pub checked: Option<MonoTime>,
    /// What identifies the storage behind the origin, as it said last.
    pub identity: Option<String>,
    /// Since when it answers again, after it was unhealthy; `None` when it never was, or is now.
    pub recovered: Option<MonoTime>,
}

/// What came of one check.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It answered.
    Well {
        /// How long that took.
        took: Duration,
        /// What identifies its storage.
        identity: Option<String>,
    },
    /// It did not.
    Failed {
        /// How.
        kind: OriginErrorKind,
        /// The same in words.
        reason: String,
    },
}

impl Condition {
    /// Returns the condition after one more check.
    pub(super) fn after(&self, answer: Answer, remote: bool, now: MonoTime) -> Self {
        match answer {
            Answer::Well { took, identity } => {
                // What it took before an outage says nothing of now.
                let before = self.latency.filter(|_| self.failures == 0);
                let latency =
                    before.map_or(took, |before| (before * (LATENCY_WEIGHT - 1) + took) / LATENCY_WEIGHT);
                let health = if latency > SLOW { Health::Degraded } else { Health::Healthy };
                let (latency, checked) = (Some(latency), Some(now));
                let recovered = if self.health == Health::Unhealthy { Some(now) } else { self.recovered };
                Self { health, failures: 0, latency, error: None, reason: None, checked, identity, recovered }
            }
            Answer::Failed { kind, reason } => {
                let failures = self.failures.saturating_add(1);
                let bound = if remote { REMOTE_FAILURES } else { LOCAL_FAILURES };
                let health = match kind {
                    // The origin may be well; it is its name that cannot be found out.
                    OriginErrorKind::Dns => Health::Degraded,
                    _ if failures >= bound => Health::Unhealthy,
                    _ => Health::Degraded,
                };
                let (error, reason, checked) = (Some(kind), Some(reason), Some(now));
                let recovered = self.recovered.filter(|_| health != Health::Unhealthy);
                Self { health, failures, error, reason, checked, recovered, ..self.clone() }
            }
        }
    }

    /// Tells whether the next check is to come soon: the last one failed, and nothing is concluded of it yet.
    pub(super) fn is_undecided(&self) -> bool {
        self.error.is_some() && self.health != Health::Unhealthy
    }
}

/// How the origins are as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outlook {
    /// None is known not to answer.
    #[default]
    Ready,
    /// Some do not answer, or not as they should.
    Degraded,
    /// None answers.
    Offline,
}

impl Outlook {
    /// Returns the state in one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready: all origins answer",
            Self::Degraded => "degraded: some origins do not answer as they should",
            Self::Offline => "offline: no origin answers; what is cached can be played",
        })
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

    /// Returns an origin's health; unknown for one that is not watched.
    pub fn health(&self, id: &OriginId) -> Health {
        self.condition(id).map(|condition| condition.health).unwrap_or_default()
    }

    /// Tells whether an origin answers as it should.
    pub fn is_healthy(&self, id: &OriginId) -> bool {
        self.health(id) == Health::Healthy
    }

    /// Tells whether an origin is known not to answer.
    pub fn is_unhealthy(&self, id: &OriginId) -> bool {
        self.health(id) == Health::Unhealthy
    }

    /// Returns how the origins are as a whole.
    pub fn outlook(&self) -> Outlook {
        let of = |health| self.conditions.values().filter(|c| c.health == health).count();
        let (lost, poor) = (of(Health::Unhealthy), of(Health::Degraded));
        match lost {
            0 if poor == 0 => Outlook::Ready,
            all if all == self.conditions.len() => Outlook::Offline,
            _ => Outlook::Degraded,
        }
    }

    /// Says in a line what is wrong with each origin that does not answer.
    pub fn complaints(&self) -> String {
        let wrong = self.conditions.iter().filter_map(|(id, condition)| {
            condition.reason.as_deref().map(|reason| format!("{id} ({reason})"))
        });
        wrong.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn set(&mut self, id: OriginId, condition: Condition) {
        self.conditions.insert(id, condition);
    }

    pub(super) fn forget(&mut self, id: &OriginId) {
        self.conditions.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well(ms: u64) -> Answer {
        Answer::Well { took: Duration::from_millis(ms), identity: None }
    }

    fn failed(kind: OriginErrorKind) -> Answer {
        Answer::Failed { kind, reason: kind.to_string() }
    }

    fn after(answers: &[Answer], remote: bool) -> Condition {
        let step = |c: Condition, a: &Answer| c.after(a.clone(), remote, MonoTime::default());
        answers.iter().fold(Condition::default(), step)
    }

    #[test]
    fn local_origin_fails_at_once_and_a_remote_one_after_three_failures() {
        let down = || failed(OriginErrorKind::Unavailable);
        let health = |answers: &[Answer], remote| after(answers, remote).health;
        assert_eq!(health(&[well(1)], true), Health::Healthy);
        assert_eq!(health(&[well(1), down()], false), Health::Unhealthy);
        assert_eq!(health(&[well(1), down(), down()], true), Health::Degraded);
        assert_eq!(health(&[down(), down(), down()], true), Health::Unhealthy);
        assert_eq!(health(&[down(), down(), down(), well(1)], true), Health::Healthy);
        assert_eq!(health(&[down(), down(), well(1), down()], true), Health::Degraded);
    }

    #[test]
    fn origin_that_was_unhealthy_is_known_to_have_recovered_until_it_is_lost_again() {
        let down = || failed(OriginErrorKind::Unavailable);
        let recovered = |answers: &[Answer]| after(answers, false).recovered.is_some();
        assert!(!recovered(&[well(1), well(1)]) && !recovered(&[down()]));
        assert!(recovered(&[down(), well(1)]) && recovered(&[down(), well(1), well(2000), well(1)]));
        assert!(!recovered(&[down(), well(1), down()]));
        let blip = [well(1), down(), well(1)];
        assert_eq!(after(&blip, true).recovered, None, "it was not given up");
    }

    #[test]
    fn slow_origin_and_one_whose_name_is_not_found_are_degraded() {
        assert_eq!(after(&[well(3000)], true).health, Health::Degraded);
        assert_eq!(after(&[well(10), well(1200)], true).health, Health::Healthy);
        let dns: Vec<Answer> = (0..9).map(|_| failed(OriginErrorKind::Dns)).collect();
        let condition = after(&dns, true);
        assert_eq!((condition.health, condition.is_undecided()), (Health::Degraded, true));
    }

    #[test]
    fn outlook_follows_the_origins() {
        let mut snapshot = HealthSnapshot::default();
        assert_eq!(snapshot.outlook(), Outlook::Ready);
        let mut set = |id: &str, health| {
            snapshot.set(id.into(), Condition { health, ..Condition::default() });
            snapshot.outlook()
        };
        assert_eq!(set("a", Health::Healthy), Outlook::Ready);
        assert_eq!(set("b", Health::Unknown), Outlook::Ready);
        assert_eq!(set("b", Health::Degraded), Outlook::Degraded);
        assert_eq!(set("a", Health::Unhealthy), Outlook::Degraded);
        assert_eq!(set("b", Health::Unhealthy), Outlook::Offline);
    }
}
