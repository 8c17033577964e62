//! What every [`Clock`] promises.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use musicfs_core::{Clock, MonoTime};

/// A time far enough away not to come during a check.
const FAR: Duration = Duration::from_secs(3600);
/// A time that a check can wait for.
const NEAR: Duration = Duration::from_millis(15);

/// A clock, and how time goes by on it.
pub struct Fixture {
    clock: Arc<dyn Clock>,
    pass: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Fixture {
    /// Takes a clock that goes by itself.
    pub fn ticking(clock: impl Clock) -> Self {
        Self::manual(clock, |_| {})
    }

    /// Takes a clock that `pass` moves on.
    pub fn manual(clock: impl Clock, pass: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), pass: Box::new(pass) }
    }
}

/// The monotonic time never goes back, whichever threads ask.
pub async fn now_never_goes_back(fixture: Fixture) {
    let (clock, pass) = (&fixture.clock, &fixture.pass);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut last = clock.now();
                for _ in 0..2000 {
                    let now = clock.now();
                    assert!(now >= last);
                    last = now;
                    let _ = clock.unix();
                }
            });
        }
        (0..100).for_each(|_| pass(Duration::from_micros(10)));
    });
}

/// A sleep to a moment that has come completes at once.
pub async fn sleep_to_a_moment_that_has_come_completes_at_once(fixture: Fixture) {
    (fixture.pass)(NEAR);
    fixture.clock.sleep_until(MonoTime::default()).await;
    fixture.clock.sleep_until(fixture.clock.now()).await;
}

/// A sleep completes when its moment has come, by the clock that `now` tells, and not before.
pub async fn sleep_completes_at_its_deadline_and_not_before(fixture: Fixture) {
    let deadline = fixture.clock.now().plus(NEAR);
    let mut far = fixture.clock.sleep_until(fixture.clock.now().plus(FAR));
    let near = fixture.clock.sleep_until(deadline);
    assert!(futures::poll!(&mut far).is_pending());
    (fixture.pass)(NEAR);
    near.await;
    assert!(fixture.clock.now() >= deadline);
    assert!(futures::poll!(&mut far).is_pending());
}

/// Sleeps may be dropped, begun or not, and others go on.
pub async fn sleep_may_be_dropped(fixture: Fixture) {
    let near = fixture.clock.sleep_until(fixture.clock.now().plus(NEAR));
    for polled in [true, false] {
        let mut dropped = fixture.clock.sleep_until(fixture.clock.now().plus(NEAR / 2));
        if polled {
            let _ = futures::poll!(&mut dropped);
        }
    }
    (fixture.pass)(NEAR);
    near.await;
}

/// Many sleep at once, in any task, each to its own moment.
pub async fn many_sleep_at_once(fixture: Fixture) {
    let clock = &fixture.clock;
    let begun = clock.now();
    let sleeps = (0..50u32).map(|n| {
        let (clock, deadline) = (Arc::clone(clock), begun.plus(NEAR * n / 50));
        tokio::spawn(async move {
            clock.sleep_until(deadline).await;
            assert!(clock.now() >= deadline);
        })
    });
    let sleeps: Vec<_> = sleeps.collect();
    (fixture.pass)(NEAR);
    for slept in join_all(sleeps).await {
        slept.expect("a sleep");
    }
}

/// A moment that never comes is no mistake.
pub async fn endless_sleep_is_just_long(fixture: Fixture) {
    let mut endless = fixture.clock.sleep_until(MonoTime(Duration::MAX));
    assert!(futures::poll!(&mut endless).is_pending());
}

/// Makes tests of all that a [`Clock`](musicfs_core::Clock) promises.
///
/// Takes a name for the module of tests, and an expression that gives a
/// [`Fixture`](crate::conformance::clock::Fixture).
#[macro_export]
macro_rules! clock_conformance {
    ($suite:ident, $factory:expr) => {
        $crate::__conformance_suite! { async clock $suite ($factory)
            now_never_goes_back
            sleep_to_a_moment_that_has_come_completes_at_once
            sleep_completes_at_its_deadline_and_not_before
            sleep_may_be_dropped
            many_sleep_at_once
            endless_sleep_is_just_long
        }
    };
}
