//! Orders that are carried out to their end, whoever waits for them, and that must have ended before the stores are put
//! in order.

use std::time::Duration;

use musicfs_core::Clock;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::refusal::Refusal;

/// Wait for an order, before whoever gave it is told that it is under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// What an order is told that comes too late.
pub(super) const STOPPING: &str = "the mount is being unmounted";

/// The orders under way.
#[derive(Debug, Default)]
pub(super) struct Given(TaskTracker);

impl Given {
    /// Has an order carried out; `None` when that takes a while, and goes on. Dropping the future leaves it going on.
    pub(super) async fn carry_out<T: Send + 'static>(
        &self,
        clock: &dyn Clock,
        order: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<Option<T>, Refusal> {
        if self.0.is_closed() {
            return Err(Refusal::Failed(STOPPING.to_owned()));
        }
        let mut working = self.0.spawn(order);
        tokio::select! {
            biased;
            done = &mut working => done.map_err(|error| Refusal::failed(&error))?.map(Some),
            () = clock.sleep_until(clock.now().plus(PATIENCE)) => {
                self.0.spawn(async move {
                    if let Ok(Err(error)) = working.await {
                        warn!(%error, "an order failed for which nobody waits any more");
                    }
                });
                Ok(None)
            }
        }
    }

    /// Takes no more orders.
    pub(super) fn close(&self) {
        self.0.close();
    }

    /// Waits for the orders under way, once no more are taken; tells whether all have ended in time.
    pub(super) async fn ended(&self, clock: &dyn Clock, limit: Duration) -> bool {
        tokio::select! {
            () = self.0.wait() => true,
            () = clock.sleep_until(clock.now().plus(limit)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use musicfs_core::SystemClock;
    use musicfs_test_utils::{ManualClock, eventually};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn order_that_takes_long_is_carried_out_though_nobody_waits() {
        let (given, clock) = (Arc::new(Given::default()), Arc::new(ManualClock::new()));
        let (goes_on, done) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let asking = tokio::spawn({
            let (given, clock, goes_on, done) = (given.clone(), clock.clone(), goes_on.clone(), done.clone());
            async move {
                let order = async move {
                    goes_on.notified().await;
                    done.store(true, Ordering::SeqCst);
                    Ok(())
                };
                given.carry_out(&*clock, order).await
            }
        });
        eventually("it to be waited for", || clock.sleepers() == 1).await;
        clock.advance(PATIENCE);
        assert_eq!(asking.await.unwrap(), Ok(None));
        assert!(!done.load(Ordering::SeqCst));
        goes_on.notify_one();
        given.close();
        assert!(given.ended(&SystemClock::new(), Duration::from_secs(60)).await);
        assert!(done.load(Ordering::SeqCst));
        assert_eq!(
            given.carry_out(&*clock, async { Ok(()) }).await,
            Err(Refusal::Failed(STOPPING.to_owned()))
        );
    }

    #[tokio::test]
    async fn order_is_answered_and_one_that_does_not_end_is_not_waited_for_without_end() {
        let (given, clock) = (Given::default(), SystemClock::new());
        assert_eq!(given.carry_out(&clock, async { Ok(7) }).await, Ok(Some(7)));
        let no = || Refusal::Wrong("no".to_owned());
        assert_eq!(given.carry_out(&clock, async move { Err::<(), _>(no()) }).await, Err(no()));
        given.0.spawn(std::future::pending::<()>());
        given.close();
        assert!(!given.ended(&clock, Duration::ZERO).await);
    }
}
