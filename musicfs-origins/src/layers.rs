//! What stands between an origin and its callers: deadlines, limits, one retry, counters.
//!
//! Each layer is an [`Origin`] around another and does one thing. [`layered`] is the one place that stacks them,
//! as `settle(metrics(retry(limit(timeout(origin)))))`:
//!
//! * [`Timeout`] is innermost, so that a try is cut, not the whole of them, and waiting for a turn costs no time;
//! * [`Limit`] is inside [`Retry`], so that nothing is held while a back-off passes;
//! * [`Metrics`] sees what the caller sees;
//! * [`Settle`] is outermost, as its wait is none of the origin's.
//!
//! # Invariants
//! * Errors are handed on unchanged; only [`Timeout`] makes one of its own.
//! * Dropping a call or a stream drops the permit, the deadline and the inner call with it.
//! * Time comes from a [`Clock`] and chance from a [`Jitter`], both given.
//! * A local origin stays local ([`Origin::local`]) unless its bandwidth is capped: what the kernel reads by
//!   itself is seen by no layer.
//!
//! No lock is held across an await.

mod jitter;
mod limit;
mod metrics;
mod progress;
mod retry;
mod settle;
#[cfg(test)]
mod tests;
mod timeout;

use std::sync::Arc;

use musicfs_core::{Clock, Origin};

pub use jitter::Jitter;
pub use limit::{Limit, Limits};
pub use metrics::{Metrics, MetricsSnapshot, OriginMetrics};
pub use progress::Progress;
pub use retry::{Retry, RetryPolicy};
pub use settle::Settle;
pub use timeout::{Timeout, Timeouts};

/// Figures of all layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// When a call counts as dead.
    pub timeouts: Timeouts,
    /// How much may happen at once.
    pub limits: Limits,
    /// When a failed call is repeated.
    pub retry: RetryPolicy,
}

/// An origin with all layers around it.
#[derive(Clone)]
pub struct Layered {
    /// The origin to use.
    pub origin: Arc<dyn Origin>,
    /// What it has done so far.
    pub metrics: Arc<OriginMetrics>,
}

impl std::fmt::Debug for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").field("origin", self.origin.id()).finish_non_exhaustive()
    }
}

/// Puts all layers around `origin`, in the one right order.
pub fn layered(
    origin: Arc<dyn Origin>,
    config: &LayerConfig,
    clock: &Arc<dyn Clock>,
    jitter: Jitter,
) -> Layered {
    let timeout = Timeout::new(origin, config.timeouts.clone(), Arc::clone(clock));
    let limit = Limit::new(timeout, &config.limits, Arc::clone(clock));
    let retry = Retry::new(limit, config.retry.clone(), Arc::clone(clock), jitter);
    let metrics = Metrics::new(retry, Arc::clone(clock));
    let counters = metrics.counters();
    Layered { origin: Arc::new(Settle::new(metrics, Arc::clone(clock))), metrics: counters }
}
