//! Who is asked first, and who is asked when that fails.
//!
//! * [`Router`] orders origins: by health, then by priority, then by latency.
//! * `breaker.rs` remembers which origins fail call after call, so that they are not asked while others can be, and
//!   not for each read of what they alone have ([`CircuitReader`]).
//! * [`FailoverExecutor`] reads a path that several origins hold, for programs of one's own.
//! * [`FailoverReader`] reads files of the catalogue, each of which may have copies.
//!
//! An origin that fails is reported to the [`HealthMonitor`], which asks it at once. No lock is held across an await.

mod breaker;
mod circuit;
mod executor;
mod reader;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, OriginId, ReadError};
use parking_lot::Mutex;

use crate::{Condition, Health, HealthMonitor, OriginRegistry};
use breaker::{Admission, Breakers};
pub use circuit::CircuitReader;
pub use executor::{FailoverExecutor, RetryConfig};
pub use reader::FailoverReader;

/// How long one of several origins is waited for before the next is asked: a little more than a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an origin that was lost must have been well before it is preferred again: one that comes and goes would
/// take its readers along each time.
pub const FAILBACK_DELAY: Duration = Duration::from_secs(300);

/// How much an origin is to be preferred; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    health: u8,
    priority: u32,
    latency: u8,
}

/// Orders the origins of a registry by what is known of them.
pub struct Router {
    registry: Arc<OriginRegistry>,
    monitor: Option<Arc<HealthMonitor>>,
    breakers: Breakers,
    clock: Arc<dyn Clock>,
    failback_delay: Mutex<Duration>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Router {
    /// Makes a router. Without a monitor, health is what calls have shown.
    pub fn new(
        registry: Arc<OriginRegistry>,
        monitor: Option<Arc<HealthMonitor>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (breakers, failback_delay) = (Breakers::default(), Mutex::new(FAILBACK_DELAY));
        Self { registry, monitor, breakers, clock, failback_delay }
    }

    /// Changes how long an origin that was lost must have been well before it is preferred again.
    pub fn set_failback_delay(&self, delay: Duration) {
        *self.failback_delay.lock() = delay;
    }

    /// Ranks an origin.
    pub fn rank(&self, id: &OriginId) -> Rank {
        let condition = self.condition(id);
        let now = self.clock.now();
        let standing = match &condition {
            condition if self.breakers.is_open(id, condition.as_ref(), now) => Standing::LeftAlone,
            Some(Condition { recovered: Some(at), .. }) if now.since(*at) < *self.failback_delay.lock() => {
                Standing::Recovering
            }
            _ => Standing::Trusted,
        };
        let all = self.registry.all();
        let priority = all.iter().find(|r| r.origin.id() == id).map(|r| r.priority);
        rank(condition.as_ref(), standing, priority)
    }

    /// Lets a call to an origin through, unless it has failed and the last check of it has, too (or, without a monitor,
    /// it fails call after call): then one call in a while is, to see. Who is refused has the origin checked soon.
    fn admit(&self, id: &OriginId) -> Option<Admission<'_>> {
        let now = self.clock.now();
        let refused = match &self.monitor {
            None => self.breakers.is_failing(id),
            Some(monitor) => {
                monitor.snapshot().condition(id).is_some_and(|condition| condition.error.is_some())
            }
        };
        let admission = self.breakers.admit(id, refused, now);
        if let (None, Some(monitor)) = (&admission, &self.monitor) {
            monitor.suspect(id);
        }
        admission
    }

    /// Returns the origins of the registry, the best first; equals stay in the registry's order.
    pub fn order(&self) -> Vec<OriginId> {
        let mut ids: Vec<OriginId> = self.registry.all().iter().map(|r| r.origin.id().clone()).collect();
        ids.sort_by_cached_key(|id| self.rank(id));
        ids
    }

    /// Tells whether an origin is known not to answer.
    pub fn is_lost(&self, id: &OriginId) -> bool {
        self.rank(id).health == LOST
    }

    /// Takes note that an origin answered.
    pub fn succeeded(&self, id: &OriginId) {
        self.breakers.succeeded(id);
    }

    /// Takes note that an origin failed to answer, and has it checked.
    pub fn failed(&self, id: &OriginId) {
        self.breakers.failed(id, self.clock.now());
        if let Some(monitor) = &self.monitor {
            monitor.suspect(id);
        }
    }

    fn condition(&self, id: &OriginId) -> Option<Condition> {
        self.monitor.as_ref()?.snapshot().condition(id).cloned()
    }
}

/// The rank by health of an origin that does not answer.
const LOST: u8 = 3;

/// What calls, and the time since it was lost, say of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing.
    Trusted,
    /// It was lost and is back, not for long.
    Recovering,
    /// It fails call after call.
    LeftAlone,
}

/// Ranks an origin by what is known of it. An origin that is not there any more comes last.
fn rank(condition: Option<&Condition>, standing: Standing, priority: Option<u32>) -> Rank {
    let health = match condition.map(|condition| condition.health).unwrap_or_default() {
        _ if standing == Standing::LeftAlone || priority.is_none() => LOST,
        Health::Healthy | Health::Unknown if standing == Standing::Recovering => 1,
        Health::Healthy | Health::Unknown => 0,
        Health::Degraded => 2,
        Health::Unhealthy => LOST,
    };
    // By order of magnitude: two servers on one network shall not take turns.
    let latency =
        condition.and_then(|condition| condition.latency).map_or(0, |took| match took.as_millis() {
            0..10 => 0,
            10..100 => 1,
            100..1000 => 2,
            _ => 3,
        });
    Rank { health, priority: priority.unwrap_or(u32::MAX), latency }
}

/// Tells whether another origin may do better: not when the catalogue failed, or the answer would be the same.
fn is_of_origin(error: &ReadError) -> bool {
    match error {
        ReadError::Unavailable(_) | ReadError::TimedOut { .. } => true,
        ReadError::Gone(_)
        | ReadError::Denied(_)
        | ReadError::Changed(_)
        // It was not even asked.
        | ReadError::LeftAlone { .. }
        | ReadError::UnknownOrigin(_)
        | ReadError::Catalogue(_) => false,
    }
}
