//! The monitor over origins that fail, hang and come back.

use super::*;
use musicfs_test_utils::{FailMode, FaultyOrigin, ManualClock, MemoryOrigin, eventually};

struct Fixture {
    clock: Arc<ManualClock>,
    monitor: Arc<HealthMonitor>,
}

impl Fixture {
    fn new(origins: Vec<Arc<dyn Origin>>) -> Self {
        let clock = Arc::new(ManualClock::new());
        let monitor = Arc::new(HealthMonitor::with_clock(Duration::from_secs(30), clock.clone()));
        origins.into_iter().for_each(|origin| monitor.add_origin(origin));
        Self { clock, monitor }
    }

    fn run(self) -> Self {
        let monitor = self.monitor.clone();
        tokio::spawn(async move { monitor.run().await });
        self
    }

    /// Lets time go by, a second for each look, until a condition holds.
    async fn until(&self, what: &str, holds: impl Fn(&HealthSnapshot) -> bool) {
        eventually(what, || {
            let held = holds(&self.monitor.snapshot());
            self.clock.advance(Duration::from_secs(1));
            held
        })
        .await;
    }
}

#[tokio::test]
async fn check_tells_who_is_well_and_who_is_not() {
    let (well, down) = (Arc::new(MemoryOrigin::new("well")), Arc::new(MemoryOrigin::new("down")));
    down.take_down(OriginErrorKind::Unavailable);
    let fixture = Fixture::new(vec![well, down]);
    assert_eq!(fixture.monitor.snapshot().health(&"well".into()), Health::Unknown);
    fixture.monitor.check_all().await;
    let snapshot = fixture.monitor.snapshot();
    assert!(snapshot.is_healthy(&"well".into()) && !snapshot.is_healthy(&"down".into()));
    assert!(!snapshot.is_unhealthy(&"well".into()) && !snapshot.is_unhealthy(&"never heard of".into()));
    assert!(snapshot.complaints().contains("down (unavailable"), "{}", snapshot.complaints());
    fixture.monitor.remove_origin(&"down".into());
    assert_eq!(fixture.monitor.snapshot().iter().count(), 1);
}

#[tokio::test]
async fn origin_that_hangs_is_asked_once_and_delays_no_other() {
    let hung = Arc::new(FaultyOrigin::new(MemoryOrigin::new("hung"), FailMode::Healthy));
    hung.hang_on("");
    let well = Arc::new(FaultyOrigin::new(MemoryOrigin::new("well"), FailMode::Healthy));
    let fixture = Fixture::new(vec![hung.clone(), well.clone()]).run();
    fixture.until("the other to be asked again and again", |_| well.healths() >= 4).await;
    fixture.until("it to count as gone", |now| now.is_unhealthy(&"hung".into())).await;
    let reason = fixture.monitor.snapshot().condition(&"hung".into()).and_then(|c| c.reason.clone());
    assert_eq!((hung.healths(), reason.as_deref()), (1, Some("no answer within 5 s")));
    hung.release();
    fixture.until("it to answer", |now| !now.is_unhealthy(&"hung".into())).await;
}

#[tokio::test]
async fn outlook_follows_origins_that_go_and_come_back() {
    let (a, b) = (Arc::new(MemoryOrigin::new("a")), Arc::new(MemoryOrigin::new("b")));
    let fixture = Fixture::new(vec![a.clone(), b.clone()]).run();
    fixture.until("both to be asked", |now| ["a", "b"].iter().all(|id| now.is_healthy(&(*id).into()))).await;
    a.take_down(OriginErrorKind::Unavailable);
    fixture.until("one to be lost", |now| now.is_unhealthy(&"a".into())).await;
    assert_eq!(fixture.monitor.snapshot().outlook(), Outlook::Degraded);
    b.take_down(OriginErrorKind::TimedOut);
    fixture.until("both to be lost", |now| now.outlook() == Outlook::Offline).await;
    a.bring_up();
    b.bring_up();
    fixture.until("both to be back", |now| now.outlook() == Outlook::Ready).await;
}

#[tokio::test]
async fn two_who_ask_at_once_count_one_failure() {
    let down = Arc::new(MemoryOrigin::new("down"));
    down.take_down(OriginErrorKind::Unavailable);
    let fixture = Fixture::new(vec![down]);
    let id: OriginId = "down".into();
    fixture.clock.advance(Duration::from_secs(1));
    futures::join!(fixture.monitor.check_now(&id), fixture.monitor.check_now(&id));
    assert_eq!(fixture.monitor.snapshot().condition(&id).map(|c| c.failures), Some(1));
}
