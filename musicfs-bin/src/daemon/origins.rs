//! Whether the origins answer, asked every half minute.
//!
//! An origin that hangs is asked once: as long as it has not answered, it is not asked again, so that questions
//! do not pile up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, OriginError, OriginHealth};
use musicfs_origins::OriginRegistry;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::scans::chain;
use crate::control::api::{MountPhase, OriginState};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Wait for an answer; what takes longer is of no use to a player.
const LIMIT: Duration = Duration::from_secs(5);

/// What is known of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Whether it answers.
    pub(crate) state: OriginState,
    /// Why it does not.
    pub(crate) reason: Option<String>,
}

/// What is known of all.
#[derive(Default)]
pub(crate) struct Origins {
    known: Mutex<BTreeMap<String, Reach>>,
}

type Asking = JoinHandle<Result<OriginHealth, OriginError>>;

impl Origins {
    /// Returns what is known of an origin.
    pub(crate) fn get(&self, id: &str) -> Reach {
        self.known.lock().get(id).cloned().unwrap_or_default()
    }

    /// Returns how the mount is, as far as its origins are concerned.
    pub(crate) fn phase(&self) -> MountPhase {
        let known = self.known.lock();
        let lost = known.values().filter(|reach| reach.state == OriginState::Unreachable).count();
        match lost {
            0 => MountPhase::Ready,
            n if n == known.len() => MountPhase::Offline,
            _ => MountPhase::Degraded,
        }
    }

    /// Asks until dropped; calls `back` for an origin that answers again.
    pub(crate) async fn watch(
        self: Arc<Self>,
        registry: Arc<OriginRegistry>,
        clock: Arc<dyn Clock>,
        back: impl Fn(&musicfs_core::OriginId) + Send + Sync,
    ) {
        let mut asking: BTreeMap<String, Asking> = BTreeMap::new();
        loop {
            let all = registry.all();
            self.known.lock().retain(|id, _| all.iter().any(|r| r.origin.id().as_str() == id));
            asking.retain(|id, _| all.iter().any(|r| r.origin.id().as_str() == id));
            for registered in all {
                let origin = registered.origin;
                let id = origin.id().clone();
                let question = asking.remove(id.as_str()).unwrap_or_else(|| {
                    let origin = origin.clone();
                    tokio::spawn(async move { origin.health().await })
                });
                let (reach, pending) = ask(question, &*clock).await;
                if let Some(pending) = pending {
                    asking.insert(id.to_string(), pending);
                }
                let before = self.known.lock().insert(id.to_string(), reach.clone()).unwrap_or_default();
                match (before.state, reach.state) {
                    (OriginState::Unreachable, OriginState::Ok) => {
                        info!(origin = %id, "the origin answers again");
                        back(&id);
                    }
                    (OriginState::Ok | OriginState::Unknown, OriginState::Unreachable) => {
                        let reason = reach.reason.unwrap_or_default();
                        warn!(origin = %id, reason, "the origin does not answer; its files stay listed");
                    }
                    _ => {}
                }
            }
            clock.sleep_until(clock.now().plus(INTERVAL)).await;
        }
    }
}

/// Waits for an answer up to the limit; returns the question when it is still open.
async fn ask(mut question: Asking, clock: &dyn Clock) -> (Reach, Option<Asking>) {
    let lost = |reason| Reach { state: OriginState::Unreachable, reason: Some(reason) };
    tokio::select! {
        biased;
        answer = &mut question => {
            let reach = match answer {
                Ok(Ok(_)) => Reach { state: OriginState::Ok, reason: None },
                Ok(Err(error)) => lost(chain(&error)),
                Err(error) => lost(error.to_string()),
            };
            (reach, None)
        }
        () = clock.sleep_until(clock.now().plus(LIMIT)) => {
            (lost(format!("no answer within {} s", LIMIT.as_secs())), Some(question))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::OriginErrorKind;
    use musicfs_test_utils::{FailMode, FaultyOrigin, ManualClock, MemoryOrigin, eventually};

    struct Watched {
        clock: Arc<ManualClock>,
        registry: Arc<OriginRegistry>,
        origins: Arc<Origins>,
        back: Arc<Mutex<Vec<String>>>,
    }

    impl Watched {
        fn new(all: Vec<Arc<dyn musicfs_core::Origin>>) -> Self {
            let watched = Self {
                clock: Arc::new(ManualClock::new()),
                registry: Arc::default(),
                origins: Arc::default(),
                back: Arc::default(),
            };
            for origin in all {
                watched.registry.register(origin, 1);
            }
            let back = watched.back.clone();
            let (origins, registry) = (watched.origins.clone(), watched.registry.clone());
            tokio::spawn(origins.watch(
                registry,
                watched.clock.clone(),
                move |id: &musicfs_core::OriginId| {
                    back.lock().push(id.to_string());
                },
            ));
            watched
        }

        /// Lets time go by, a second for each look, until a condition holds.
        async fn until(&self, what: &str, holds: impl Fn(&Origins) -> bool) {
            eventually(what, || {
                let held = holds(&self.origins);
                self.clock.advance(Duration::from_secs(1));
                held
            })
            .await;
        }
    }

    #[tokio::test]
    async fn mount_is_degraded_then_offline_and_back_with_its_origins() {
        let (a, b) = (Arc::new(MemoryOrigin::new("a")), Arc::new(MemoryOrigin::new("b")));
        let watched = Watched::new(vec![a.clone(), b.clone()]);
        watched
            .until("both asked", |o| {
                o.get("a").state == o.get("b").state && o.get("b").state == OriginState::Ok
            })
            .await;
        assert_eq!(watched.origins.phase(), MountPhase::Ready);
        a.take_down(OriginErrorKind::Unavailable);
        watched.until("one lost", |origins| origins.phase() == MountPhase::Degraded).await;
        assert!(watched.origins.get("a").reason.is_some());
        b.take_down(OriginErrorKind::Unavailable);
        watched.until("both lost", |origins| origins.phase() == MountPhase::Offline).await;
        assert_eq!(*watched.back.lock(), [""; 0]);
        a.bring_up();
        b.bring_up();
        watched.until("both back", |origins| origins.phase() == MountPhase::Ready).await;
        assert_eq!(*watched.back.lock(), ["a", "b"]);
        watched.registry.remove(&"a".into());
        watched.until("one forgotten", |origins| origins.get("a").state == OriginState::Unknown).await;
    }

    #[tokio::test]
    async fn origin_that_hangs_is_asked_once_and_harms_no_other() {
        let hung = Arc::new(FaultyOrigin::new(MemoryOrigin::new("hung"), FailMode::Healthy));
        hung.hang_on("");
        let well = Arc::new(FaultyOrigin::new(MemoryOrigin::new("well"), FailMode::Healthy));
        let watched = Watched::new(vec![hung.clone(), well.clone()]);
        watched.until("the other to be asked again and again", |_| well.healths() >= 4).await;
        assert_eq!(watched.origins.get("hung").reason.as_deref(), Some("no answer within 5 s"));
        assert_eq!(hung.healths(), 1);
        hung.release();
        watched.until("it to answer", |origins| origins.get("hung").state == OriginState::Ok).await;
    }
}
