//! How origins are doing.
//!
//! Each origin is asked on its own, all at the same time, and each question is waited for for a bounded time, so
//! that one that hangs delays nobody. A question that is not answered in time stays open: the origin is not asked
//! again before it answers, so that questions to one that hangs do not pile up. What an answer means is decided
//! purely ([`Condition::after`]).
//!
//! One lock guards the table of origins; it is held for a few lines and never while an origin is asked.

mod condition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use musicfs_core::{Clock, MonoTime, Origin, OriginErrorKind, OriginId, SystemClock};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use condition::Answer;
pub use condition::{Condition, Health, HealthSnapshot, Outlook};

/// How long an answer is waited for, whatever the type of the origin: what takes longer is of no use to a player.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Time between two checks of an origin of which it is not decided whether it is gone, or whose name did not
/// resolve: both may be over soon.
const RECHECK: Duration = Duration::from_secs(5);
/// Time between two checks of an origin that somebody could not read from: often enough for who waits for it to be
/// back, however many complain.
const SUSPECTED: Duration = Duration::from_secs(1);
/// With no origin answering, checks are this many times rarer.
const OFFLINE_PACE: u32 = 2;
/// With no origin answering, that is said this often.
const SUMMARY: Duration = Duration::from_secs(60);

/// Asks origins how they are, and remembers.
pub struct HealthMonitor {
    interval: Mutex<Duration>,
    clock: Arc<dyn Clock>,
    origins: Mutex<BTreeMap<OriginId, Watched>>,
    state: watch::Sender<HealthSnapshot>,
    /// Wakes [`HealthMonitor::run`].
    wake: Notify,
}

type Asked = watch::Receiver<Option<Answer>>;

struct Watched {
    origin: Arc<dyn Origin>,
    /// The question that is open.
    asked: Option<Asked>,
    /// Conclusions drawn so far: of several who wait for one answer, one concludes.
    round: u64,
    /// Whether somebody could not read from it since it was checked.
    suspected: bool,
}

impl std::fmt::Debug for HealthMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthMonitor").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl HealthMonitor {
    /// Makes a monitor that asks every `interval`, by the system's clock, once it is [run](HealthMonitor::run).
    pub fn new(interval: Duration) -> Self {
        Self::with_clock(interval, Arc::new(SystemClock::new()))
    }

    /// Makes a monitor that goes by `clock`.
    pub fn with_clock(interval: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            interval: Mutex::new(interval),
            clock,
            origins: Mutex::default(),
            state: watch::Sender::default(),
            wake: Notify::new(),
        }
    }

    /// Adds an origin, in place of one with the same id. Its health is unknown until it is asked.
    pub fn add_origin(&self, origin: Arc<dyn Origin>) {
        let id = origin.id().clone();
        self.origins.lock().insert(id.clone(), Watched { origin, asked: None, round: 0, suspected: false });
        self.state.send_modify(|state| state.set(id, Condition::default()));
    }

    /// Removes an origin.
    pub fn remove_origin(&self, id: &OriginId) {
        self.origins.lock().remove(id);
        self.state.send_modify(|state| state.forget(id));
    }

    /// Changes the time between two checks.
    pub fn set_interval(&self, interval: Duration) {
        *self.interval.lock() = interval;
        self.wake.notify_one();
    }

    /// Has an origin checked soon by [`HealthMonitor::run`], because a call to it has failed. Never waits.
    pub fn suspect(&self, id: &OriginId) {
        let fresh =
            self.origins.lock().get_mut(id).is_some_and(|w| !std::mem::replace(&mut w.suspected, true));
        if fresh {
            self.wake.notify_one();
        }
    }

    /// Returns what is known now.
    pub fn snapshot(&self) -> HealthSnapshot {
        self.state.borrow().clone()
    }

    /// Returns a receiver of what is known, after each check.
    pub fn subscribe(&self) -> watch::Receiver<HealthSnapshot> {
        self.state.subscribe()
    }

    /// Asks one origin, for at most 5 s. Does nothing for an unknown id. Dropping the future concludes nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as questions are tasks of their own.
    pub async fn check_now(&self, id: &OriginId) {
        let begun = self.clock.now();
        let Some((mut asked, round)) = self.ask(id) else { return };
        let answer = tokio::select! {
            biased;
            answered = asked.wait_for(Option::is_some) => answered.ok().and_then(|answer| answer.clone()),
            () = self.clock.sleep_until(begun.plus(CHECK_LIMIT)) => None,
        };
        self.conclude(id, answer, round);
    }

    /// Asks all origins at the same time; ends when the slowest has answered, at most after 5 s. Dropping the
    /// future concludes nothing of those that have not answered.
    ///
    /// # Panics
    /// As [`HealthMonitor::check_now`].
    pub async fn check_all(&self) {
        let ids: Vec<OriginId> = self.origins.lock().keys().cloned().collect();
        self.check_these(ids).await;
    }

    async fn check_these(&self, ids: Vec<OriginId>) {
        let mut checks: FuturesUnordered<_> = ids.iter().map(|id| self.check_now(id)).collect();
        while checks.next().await.is_some() {}
    }

    /// Asks each origin again and again, at the interval; sooner while it is not clear how it is, later while none
    /// answers. Says in the log when the whole changes, and once a minute that nothing can be had. Never ends;
    /// dropping the future is safe.
    ///
    /// # Panics
    /// As [`HealthMonitor::check_now`].
    pub async fn run(&self) {
        let mut outlook = Outlook::Ready;
        let mut said = self.clock.now();
        loop {
            let (due, next) = self.due();
            if !due.is_empty() {
                self.check_these(due).await;
            }
            let snapshot = self.snapshot();
            let (now, before) = (self.clock.now(), outlook);
            outlook = snapshot.outlook();
            match outlook {
                Outlook::Ready | Outlook::Degraded if outlook != before => info!("{outlook}"),
                Outlook::Offline if outlook != before || now.since(said) >= SUMMARY => {
                    said = now;
                    warn!("{outlook}: {}", snapshot.complaints());
                }
                Outlook::Ready | Outlook::Degraded | Outlook::Offline => {}
            }
            let summary = (outlook == Outlook::Offline).then(|| said.plus(SUMMARY));
            let mut changed = self.state.subscribe();
            tokio::select! {
                () = self.clock.sleep_until(summary.map_or(next, |summary| summary.min(next))) => {}
                // Another has asked, or an origin was added.
                _ = changed.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Returns the origins that are to be asked now, and when the next one is after that at the latest.
    fn due(&self) -> (Vec<OriginId>, MonoTime) {
        let now = self.clock.now();
        let interval = *self.interval.lock();
        let suspected: Vec<OriginId> = {
            let origins = self.origins.lock();
            origins.iter().filter(|(_, w)| w.suspected).map(|(id, _)| id.clone()).collect()
        };
        let snapshot = self.state.borrow();
        let pace = if snapshot.outlook() == Outlook::Offline { OFFLINE_PACE } else { 1 };
        let when = |id: &OriginId, condition: &Condition| match condition.checked {
            None => now,
            Some(at) if suspected.contains(id) => at.plus(interval.min(SUSPECTED)),
            Some(at) if condition.is_undecided() => at.plus(interval.min(RECHECK)),
            Some(at) => at.plus(interval * pace),
        };
        let due = snapshot.iter().filter(|(id, c)| when(id, c) <= now).map(|(id, _)| id.clone()).collect();
        let later = snapshot.iter().map(|(id, c)| when(id, c)).filter(|when| *when > now).min();
        (due, later.unwrap_or_else(|| now.plus(interval.min(RECHECK))))
    }

    /// Takes part in the question that is open, or asks; returns the round that it belongs to as well.
    fn ask(&self, id: &OriginId) -> Option<(Asked, u64)> {
        let mut origins = self.origins.lock();
        let watched = origins.get_mut(id)?;
        // A question whose task was lost is asked again.
        let open =
            watched.asked.clone().filter(|asked| asked.borrow().is_some() || asked.has_changed().is_ok());
        let asked = open.unwrap_or_else(|| {
            let (answer, asked) = watch::channel(None);
            let (origin, clock) = (Arc::clone(&watched.origin), Arc::clone(&self.clock));
            tokio::spawn(async move { answer.send(Some(question(&*origin, &*clock).await)) });
            watched.asked = Some(asked.clone());
            asked
        });
        Some((asked, watched.round))
    }

    /// Concludes from an answer, or from there being none, unless another has, or the origin was removed.
    fn conclude(&self, id: &OriginId, answer: Option<Answer>, round: u64) {
        let mut origins = self.origins.lock();
        let Some(watched) = origins.get_mut(id).filter(|watched| watched.round == round) else { return };
        watched.round += 1;
        watched.suspected = false;
        if answer.is_some() {
            watched.asked = None;
        }
        let remote = watched.origin.caps().remote;
        let late = || {
            let reason = format!("no answer within {} s", CHECK_LIMIT.as_secs());
            Answer::Failed { kind: OriginErrorKind::TimedOut, reason }
        };
        let (answer, now) = (answer.unwrap_or_else(late), self.clock.now());
        self.state.send_modify(|state| {
            let before = state.condition(id).cloned().unwrap_or_default();
            let after = before.after(answer, remote, now);
            tell(id, &before, &after);
            state.set(id.clone(), after);
        });
    }
}

async fn question(origin: &dyn Origin, clock: &dyn Clock) -> Answer {
    if hangs_for_a_test() {
        std::future::pending::<()>().await;
    }
    let begun = clock.now();
    match origin.health().await {
        Ok(health) => Answer::Well { took: clock.now().since(begun), identity: health.identity },
        Err(error) => {
            let reason = match &error.source {
                Some(cause) => format!("{}: {cause}", error.kind),
                None => error.kind.to_string(),
            };
            Answer::Failed { kind: error.kind, reason }
        }
    }
}

/// The failpoint of an origin that never answers.
fn hangs_for_a_test() -> bool {
    fail::fail_point!("health-check-hang", |_| true);
    false
}

/// Says a change of an origin's health, once.
fn tell(id: &OriginId, before: &Condition, after: &Condition) {
    let reason = after.reason.as_deref().unwrap_or_default();
    match (before.health, after.health) {
        (before, after) if before == after => {}
        (Health::Unknown, Health::Healthy) => debug!(origin = %id, "the origin answers"),
        (_, Health::Healthy) => info!(origin = %id, "the origin answers again"),
        (_, Health::Degraded) if after.reason.is_none() => {
            warn!(origin = %id, latency = ?after.latency, "the origin answers slowly");
        }
        (_, Health::Unhealthy) if after.error == Some(OriginErrorKind::NoRoot) => {
            warn!(origin = %id, reason, "the origin has nothing where its music was; its files stay listed");
        }
        (_, Health::Degraded) => warn!(origin = %id, reason, "the origin did not answer"),
        (_, Health::Unhealthy | Health::Unknown) => {
            warn!(origin = %id, reason, "the origin does not answer; its files stay listed");
        }
    }
}

#[cfg(test)]
mod tests;
