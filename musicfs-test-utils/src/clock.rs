//! A clock that stands still until it is told to go on.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use musicfs_core::{Clock, MonoTime, UnixNanos};
use parking_lot::Mutex;
use tokio::sync::watch;

/// A clock that moves only by [`ManualClock::advance`] and [`ManualClock::jump_unix`]. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<MonoTime>>,
    unix: Arc<Mutex<UnixNanos>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// Makes a clock whose monotonic time is zero and whose wall clock shows 2020-01-01.
    pub fn new() -> Self {
        let unix = UnixNanos::from_parts(1_577_836_800, 0);
        Self { now: Arc::new(watch::channel(MonoTime::default()).0), unix: Arc::new(Mutex::new(unix)) }
    }

    /// Lets time go by, on both clocks, and wakes those whose time has come.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        {
            let mut unix = self.unix.lock();
            *unix = UnixNanos(unix.0.saturating_add(nanos));
        }
        self.now.send_modify(|now| *now = now.plus(by));
    }

    /// Sets the wall clock, as a person or a time server does; the monotonic time is not touched.
    pub fn jump_unix(&self, to: UnixNanos) {
        *self.unix.lock() = to;
    }

    /// Returns how many sleeps were begun and neither completed nor dropped. A test waits for it to know that the
    /// code under test has come to its sleep.
    pub fn sleepers(&self) -> usize {
        self.now.receiver_count()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> MonoTime {
        *self.now.borrow()
    }

    fn unix(&self) -> UnixNanos {
        *self.unix.lock()
    }

    fn sleep_until(&self, deadline: MonoTime) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        async move {
            // When the clock itself is gone, nobody can advance it any more.
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advance_wakes_those_whose_time_has_come_and_no_others() {
        let clock = ManualClock::new();
        let at = |s| MonoTime(Duration::from_secs(s));
        let (mut soon, mut later) = (clock.sleep_until(at(1)), clock.sleep_until(at(10)));
        assert!(futures::poll!(&mut soon).is_pending());
        assert_eq!(clock.sleepers(), 2);
        clock.advance(Duration::from_secs(2));
        soon.await;
        assert!(futures::poll!(&mut later).is_pending());
        drop(later);
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn wall_clock_jumps_without_the_other() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.unix(), UnixNanos::from_parts(1_577_836_801, 0));
        clock.jump_unix(UnixNanos(-5));
        assert_eq!((clock.now(), clock.unix()), (MonoTime(Duration::from_secs(1)), UnixNanos(-5)));
    }
}
