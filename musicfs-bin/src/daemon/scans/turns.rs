//! Whose turn it is to be scanned: in order of preference, but those that do not answer come last, so that nobody
//! waits for their deadlines.

use std::collections::VecDeque;

use musicfs_core::OriginId;
use musicfs_origins::HealthMonitor;

/// The origins that wait to be scanned.
pub(super) struct Turns<'a> {
    monitor: &'a HealthMonitor,
    waiting: VecDeque<OriginId>,
    put_off: VecDeque<OriginId>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(origins: Vec<OriginId>, monitor: &'a HealthMonitor) -> Self {
        Self { monitor, waiting: origins.into(), put_off: VecDeque::new() }
    }

    /// Returns the next; `None` when all had their turn. One that nobody has asked yet is asked first, for as long as
    /// the monitor waits, when there are others that could go before it.
    pub(super) async fn next(&mut self) -> Option<OriginId> {
        while let Some(origin) = self.waiting.pop_front() {
            if self.waiting.is_empty() && self.put_off.is_empty() || self.answers(&origin).await {
                return Some(origin);
            }
            self.put_off.push_back(origin);
        }
        self.put_off.pop_front()
    }

    async fn answers(&self, origin: &OriginId) -> bool {
        let asked = |origin| self.monitor.snapshot().condition(origin).is_none_or(|c| c.checked.is_some());
        if !asked(origin) {
            self.monitor.check_now(origin).await;
        }
        self.monitor.snapshot().condition(origin).is_none_or(|condition| condition.failures == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use musicfs_core::OriginErrorKind;
    use musicfs_test_utils::{ManualClock, MemoryOrigin};

    use super::*;

    #[tokio::test]
    async fn those_that_do_not_answer_have_the_last_turns() {
        let monitor = HealthMonitor::with_clock(Duration::from_secs(30), Arc::new(ManualClock::new()));
        for (id, up) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            let origin = MemoryOrigin::new(id);
            if !up {
                origin.take_down(OriginErrorKind::Unavailable);
            }
            monitor.add_origin(Arc::new(origin));
        }
        let order = async |ids: &[&str]| {
            let mut turns = Turns::new(ids.iter().map(|id| OriginId::from(*id)).collect(), &monitor);
            let mut order = String::new();
            while let Some(origin) = turns.next().await {
                order += origin.as_str();
            }
            order
        };
        assert_eq!(order(&["a", "b", "c", "d"]).await, "bdac");
        assert_eq!(order(&["d", "b"]).await, "db");
        assert_eq!(order(&["c"]).await, "c");
        assert_eq!(order(&["c", "a", "unknown"]).await, "unknownca");
        assert_eq!(order(&[]).await, "");
    }
}
