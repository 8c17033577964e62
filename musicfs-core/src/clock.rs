//! Time, injected.
//!
//! Nothing outside [`SystemClock`] and the binary asks the operating system for the time, so that a test can
//! stand still or leap (`ManualClock` in `musicfs-test-utils`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// A moment on a monotonic clock: the time since an arbitrary beginning, which differs between clocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct MonoTime(pub Duration);

impl MonoTime {
    /// Returns the moment `after` later, cut where durations end.
    pub const fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }

    /// Returns the time from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A wall-clock time: nanoseconds since 1970-01-01 UTC, negative before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    /// Makes a time from whole seconds and nanoseconds, as `stat` gives them; cut at the ends of the range.
    pub const fn from_parts(secs: i64, nanos: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// Returns whole seconds (rounded down) and the nanoseconds beyond them.
    pub const fn parts(self) -> (i64, u32) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u32)
    }
}

/// Tells the time and waits for it.
///
/// # Contract
/// * [`now`](Clock::now) never goes back and never jumps with the wall clock.
/// * [`unix`](Clock::unix) may jump either way.
/// * [`sleep_until`](Clock::sleep_until) completes once `now() >= deadline`, at once for a deadline that has
///   passed, and may be dropped at any time. It measures by the same clock as `now`.
/// * All methods may be called from any thread at the same time; `now` and `unix` do not block.
pub trait Clock: Send + Sync + 'static {
    /// Returns the monotonic time.
    fn now(&self) -> MonoTime;
    /// Returns the wall-clock time.
    fn unix(&self) -> UnixNanos;
    /// Waits until `now()` has reached `deadline`.
    fn sleep_until(&self, deadline: MonoTime) -> BoxFuture<'static, ()>;
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> MonoTime {
        (**self).now()
    }
    fn unix(&self) -> UnixNanos {
        (**self).unix()
    }
    fn sleep_until(&self, deadline: MonoTime) -> BoxFuture<'static, ()> {
        (**self).sleep_until(deadline)
    }
}

/// The operating system's clock. Sleeping needs a tokio runtime with time enabled.
#[derive(Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Makes a clock whose monotonic time starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MonoTime {
        MonoTime(self.start.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
    fn unix(&self) -> UnixNanos {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => UnixNanos(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => UnixNanos(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n)),
        }
    }

    fn sleep_until(&self, deadline: MonoTime) -> BoxFuture<'static, ()> {
        // A deadline beyond what an `Instant` can hold is one that never comes.
        match self.start.checked_add(deadline.0) {
            Some(instant) => Box::pin(tokio::time::sleep_until(instant.into())),
            None => Box::pin(std::future::pending()),
        }
    }
}
