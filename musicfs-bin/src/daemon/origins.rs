//! What the health of the origins means for the mount: pure readings of what the monitor knows, and the loop that
//! tells what changed.

use musicfs_core::{EventKind, OriginId, ServiceState};
use musicfs_origins::{Condition, Health, HealthSnapshot, Outlook};
use tokio::sync::watch;

use crate::control::api::{MountPhase, OriginState};

/// Returns how the mount is, as far as its origins are concerned.
pub(crate) fn phase(health: &HealthSnapshot) -> MountPhase {
    match health.outlook() {
        Outlook::Ready => MountPhase::Ready,
        Outlook::Degraded => MountPhase::Degraded,
        Outlook::Offline => MountPhase::Offline,
    }
}

/// Returns how an origin is, and why it is not well. One that answers and whose last scan failed is not well either.
pub(crate) fn state_of(condition: &Condition, scan_error: Option<String>) -> (OriginState, Option<String>) {
    let scan = scan_error.map(|error| format!("its last scan failed: {error}"));
    match condition.health {
        Health::Unhealthy => (OriginState::Unreachable, condition.reason.clone()),
        Health::Degraded => {
            let slow = || condition.latency.map(|took| format!("it takes {} ms to answer", took.as_millis()));
            (OriginState::Degraded, condition.reason.clone().or_else(slow))
        }
        Health::Healthy | Health::Unknown if scan.is_some() => (OriginState::Degraded, scan),
        Health::Healthy => (OriginState::Ok, None),
        Health::Unknown => (OriginState::Unknown, None),
    }
}

/// Follows the monitor until it is gone: hands what changed to `tell`, and calls `back` for each origin that answers
/// and did not when it was asked before, with whether it had been given up.
pub(super) async fn follow(
    mut health: watch::Receiver<HealthSnapshot>,
    tell: impl Fn(Vec<EventKind>),
    back: impl Fn(&OriginId, bool),
) {
    let mut before = HealthSnapshot::default();
    loop {
        let now = health.borrow_and_update().clone();
        let news = news(&before, &now);
        if !news.is_empty() {
            tell(news);
        }
        for (id, condition) in now.iter() {
            let was = before.condition(id);
            let failed = was.is_some_and(|was| was.error.is_some());
            if failed && condition.error.is_none() {
                back(id, before.is_unhealthy(id));
            }
        }
        before = now;
        if health.changed().await.is_err() {
            return;
        }
    }
}

/// Returns what there is to tell of a change.
fn news(before: &HealthSnapshot, now: &HealthSnapshot) -> Vec<EventKind> {
    let mut news = Vec::new();
    for (origin, condition) in now.iter() {
        let answers = condition.checked.is_some() && condition.error.is_none();
        match before.health(origin) {
            Health::Unhealthy | Health::Unknown if answers => {
                news.push(EventKind::OriginUp { origin: origin.clone() });
            }
            was if was != condition.health && condition.health == Health::Unhealthy => {
                let reason = condition.reason.clone().unwrap_or_default();
                news.push(EventKind::OriginDown { origin: origin.clone(), reason });
            }
            _ => {}
        }
    }
    let (from, to) = (service_state(before), service_state(now));
    if from != to {
        news.push(EventKind::StateChanged { from, to });
    }
    news
}

fn service_state(health: &HealthSnapshot) -> ServiceState {
    match health.outlook() {
        Outlook::Ready => ServiceState::Ready,
        Outlook::Degraded => ServiceState::Degraded,
        Outlook::Offline => ServiceState::Offline,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use musicfs_core::OriginErrorKind;
    use musicfs_origins::HealthMonitor;
    use musicfs_test_utils::{ManualClock, MemoryOrigin, eventually};
    use parking_lot::Mutex;

    #[tokio::test]
    async fn mount_is_degraded_then_offline_and_back_with_its_origins_and_all_is_told_once() {
        let clock = Arc::new(ManualClock::new());
        let monitor = Arc::new(HealthMonitor::with_clock(Duration::from_secs(30), clock.clone()));
        let (a, b) = (Arc::new(MemoryOrigin::new("a")), Arc::new(MemoryOrigin::new("b")));
        monitor.add_origin(a.clone());
        monitor.add_origin(b.clone());
        let (told, returned) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (telling, returning) = (told.clone(), returned.clone());
        let tell = move |news: Vec<EventKind>| telling.lock().extend(news.iter().map(EventKind::name));
        let back = move |id: &OriginId, lost| returning.lock().push((id.to_string(), lost));
        tokio::spawn(follow(monitor.subscribe(), tell, back));
        let running = monitor.clone();
        tokio::spawn(async move { running.run().await });
        let until = async |what: &str, holds: &dyn Fn() -> bool| {
            eventually(what, || {
                let held = holds();
                if !held {
                    clock.advance(Duration::from_secs(1));
                }
                held
            })
            .await;
        };
        until("both asked", &|| *told.lock() == ["origin_up", "origin_up"]).await;
        assert_eq!(phase(&monitor.snapshot()), MountPhase::Ready);
        a.take_down(OriginErrorKind::Unavailable);
        until("one lost", &|| told.lock().contains(&"origin_down")).await;
        assert_eq!(phase(&monitor.snapshot()), MountPhase::Degraded);
        let condition = monitor.snapshot().condition(&"a".into()).cloned().unwrap();
        let (state, reason) = state_of(&condition, None);
        assert!(state == OriginState::Unreachable && reason.is_some());
        b.take_down(OriginErrorKind::Unavailable);
        until("both lost", &|| phase(&monitor.snapshot()) == MountPhase::Offline).await;
        assert_eq!(*returned.lock(), []);
        a.bring_up();
        b.bring_up();
        until("both back", &|| returned.lock().len() == 2).await;
        until("that to be told", &|| told.lock().last() == Some(&"state_changed")).await;
        assert!(returned.lock().contains(&("a".to_owned(), true)), "{returned:?}");
        let downs = told.lock().iter().filter(|kind| **kind == "origin_down").count();
        assert_eq!(downs, 2, "{told:?}");
    }

    #[test]
    fn origin_that_answers_and_whose_last_scan_failed_is_not_well() {
        let well = Condition { health: Health::Healthy, ..Condition::default() };
        assert_eq!(state_of(&well, None), (OriginState::Ok, None));
        let (state, reason) = state_of(&well, Some("no such folder".into()));
        assert_eq!(state, OriginState::Degraded);
        assert!(reason.is_some_and(|reason| reason.contains("no such folder")));
    }
}
