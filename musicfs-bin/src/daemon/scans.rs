//! When origins are scanned: at the start, at intervals, and when somebody asks.
//!
//! One loop runs one order after the other, so that an order which comes during a pass still sees what changed
//! before it came. One lock guards the orders; it is held for a few lines and never across an await. The loop is
//! a critical task: started again after a panic, it fails the order that was under way and goes on with the next.

mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, EventKind, MonoTime, OriginId, SystemClock};
use musicfs_sync::{PassOptions, ScanError, ScanProgress, ScanReport};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::control::api::{ScanJob, ScanResult, ScanStatus};
use crate::progress;
use crate::wiring::Engine;
use turns::Turns;

/// Orders that are remembered after they ended: enough for whoever gave one to fetch its result.
const REMEMBERED: usize = 32;
/// What a failed order is told when the loop itself failed.
const LOOP_FAILED: &str = "the scanner failed; see the daemon's log";

/// What an order covers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// All origins there are when it begins.
    All,
    /// These.
    These(Vec<OriginId>),
}

#[derive(Debug)]
struct Order {
    scope: Scope,
    full: bool,
    confirm: bool,
    done: bool,
    results: BTreeMap<String, ScanResult>,
}

#[derive(Debug, Default)]
struct Orders {
    last: u64,
    all: BTreeMap<u64, Order>,
    waiting: VecDeque<u64>,
    running: Option<u64>,
    /// Whether origins or the template may have changed since the tree was last brought in line with them.
    tidy: bool,
    interval: Duration,
    /// When the next rescan is due.
    due: Option<MonoTime>,
    /// How the last pass over each origin ended.
    results: BTreeMap<String, ScanResult>,
}

/// Runs scans.
pub(crate) struct Scans {
    engine: Arc<Engine>,
    clock: Arc<SystemClock>,
    cancel: CancellationToken,
    orders: Mutex<Orders>,
    wake: Notify,
}

impl Scans {
    /// Makes the loop's state, with a first scan of everything ordered.
    pub(crate) fn new(engine: Arc<Engine>, cancel: CancellationToken, interval: Duration) -> Self {
        let orders = Orders { interval, tidy: true, ..Orders::default() };
        let clock = engine.clock.clone();
        let scans = Self { engine, clock, cancel, orders: Mutex::new(orders), wake: Notify::new() };
        scans.order(Vec::new(), false);
        scans
    }

    /// Orders a scan of these origins, or of all when none is named, and returns its number.
    pub(crate) fn order(&self, origins: Vec<OriginId>, full: bool) -> u64 {
        self.add(origins, full, false)
    }

    /// Orders a scan of these origins that accepts whatever is gone, and returns its number. Without an origin it
    /// accepts nothing.
    pub(crate) fn order_confirmed(&self, origins: Vec<OriginId>, full: bool) -> u64 {
        let named = !origins.is_empty();
        self.add(origins, full, named)
    }

    fn add(&self, origins: Vec<OriginId>, full: bool, confirm: bool) -> u64 {
        let scope = if origins.is_empty() { Scope::All } else { Scope::These(origins) };
        let mut orders = self.orders.lock();
        orders.last += 1;
        let number = orders.last;
        orders.all.insert(number, Order { scope, full, confirm, done: false, results: BTreeMap::new() });
        orders.waiting.push_back(number);
        while orders.all.len() > REMEMBERED {
            let Some(old) = orders.all.iter().find(|(_, order)| order.done).map(|(number, _)| *number) else {
                break;
            };
            orders.all.remove(&old);
        }
        drop(orders);
        self.wake.notify_one();
        number
    }

    /// Brings the tree in line with the origins and the template there are now, before anything else is done.
    pub(crate) fn tidy(&self) {
        self.orders.lock().tidy = true;
        self.wake.notify_one();
    }

    /// Changes the time between rescans; zero for none.
    pub(crate) fn set_interval(&self, interval: Duration) {
        let mut orders = self.orders.lock();
        orders.interval = interval;
        orders.due = self.next_due(interval);
        drop(orders);
        self.wake.notify_one();
    }

    fn next_due(&self, interval: Duration) -> Option<MonoTime> {
        (!interval.is_zero()).then(|| self.clock.now().plus(interval))
    }

    /// Returns how far an order is.
    pub(crate) fn job(&self, number: u64) -> Option<ScanJob> {
        let now = self.status();
        let orders = self.orders.lock();
        let order = orders.all.get(&number)?;
        Some(ScanJob { job: number, done: order.done, results: order.results.clone(), now })
    }

    /// Returns what is done now, and what was done last.
    pub(crate) fn status(&self) -> ScanStatus {
        let progress = self.engine.scanner.progress().borrow().clone();
        let orders = self.orders.lock();
        let busy = orders.running.is_some() || !orders.waiting.is_empty();
        let next = orders.due.filter(|_| !busy).map(|due| due.since(self.clock.now()).as_secs());
        status_of(&progress, orders.results.clone(), next)
    }

    /// Returns why the last pass over an origin failed, if it did.
    pub(crate) fn last_error(&self, origin: &OriginId) -> Option<String> {
        self.orders.lock().results.get(origin.as_str())?.error.clone()
    }

    /// Runs until cancelled.
    pub(crate) async fn run(self: Arc<Self>) {
        self.fail_what_was_under_way();
        while !self.cancel.is_cancelled() {
            let (tidy, next) = {
                let mut orders = self.orders.lock();
                let next = orders.waiting.pop_front();
                orders.running = next;
                (std::mem::take(&mut orders.tidy), next)
            };
            if tidy {
                self.settle().await;
                self.arrange().await;
            }
            match next {
                Some(number) => self.carry_out(number).await,
                None => self.wait().await,
            }
        }
    }

    fn fail_what_was_under_way(&self) {
        let mut orders = self.orders.lock();
        if let Some(order) = orders.running.take().and_then(|number| orders.all.get_mut(&number)) {
            order.done = true;
            let failed = ScanResult { error: Some(LOOP_FAILED.into()), ..ScanResult::default() };
            order.results.insert("scan".into(), failed);
        }
    }

    /// Waits for an order, or makes one when a rescan is due.
    async fn wait(&self) {
        let due = self.orders.lock().due;
        let timer = async {
            match due {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.cancel.cancelled() => {}
            () = timer => {
                self.orders.lock().due = None;
                self.order(Vec::new(), false);
            }
        }
    }

    async fn settle(&self) {
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || engine.settle_origins()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = format!("{error:#}"), "files of former origins could not be hidden")
            }
            Err(error) => warn!(%error, "files of former origins could not be hidden"),
        }
    }

    async fn arrange(&self) {
        match self.engine.scanner.arrange(&self.cancel).await {
            Ok(_) | Err(ScanError::Cancelled) => {}
            Err(error) => warn!(error = chain(&error), "the tree could not be arranged"),
        }
    }

    async fn carry_out(&self, number: u64) {
        let order = self.orders.lock().all.get(&number).map(|o| (o.scope.clone(), o.full, o.confirm));
        let Some((scope, full, confirm)) = order else { return };
        let options = PassOptions { reread: full, confirmed: confirm, ..PassOptions::default() };
        let origins = match scope {
            Scope::All => self.engine.origin_ids(),
            Scope::These(origins) => origins,
        };
        let mut turns = Turns::new(origins, &self.engine.monitor);
        loop {
            let next = tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                next = turns.next() => next,
            };
            let Some(origin) = next else { break };
            let began = self.clock.now();
            self.engine.events.publish(EventKind::SyncStarted { origin: origin.clone() });
            let result = match self.engine.scanner.scan_with(&origin, &options, &self.cancel).await {
                Ok(report) => result_of(&report),
                Err(error) => ScanResult {
                    error: Some(chain(&error)),
                    elapsed_ms: self.clock.now().since(began).as_millis() as u64,
                    ..ScanResult::default()
                },
            };
            if result.error.is_some() {
                self.engine.monitor.suspect(&origin);
            }
            log(&origin, &result);
            self.engine.events.publish(outcome(&origin, &result));
            let mut orders = self.orders.lock();
            orders.results.insert(origin.to_string(), result.clone());
            if let Some(order) = orders.all.get_mut(&number) {
                order.results.insert(origin.to_string(), result);
            }
        }
        let mut orders = self.orders.lock();
        orders.running = None;
        orders.due = self.next_due(orders.interval);
        if let Some(order) = orders.all.get_mut(&number) {
            order.done = true;
        }
    }
}

/// The scanner itself logs a pass that went well.
fn log(origin: &OriginId, result: &ScanResult) {
    if result.error.is_some() || result.held_back.is_some() {
        warn!("{}", progress::summary(origin.as_str(), result));
    }
}

/// Returns the event that tells how a pass over an origin ended.
fn outcome(origin: &OriginId, result: &ScanResult) -> EventKind {
    let origin = origin.clone();
    if let Some(reason) = result.error.clone() {
        return EventKind::SyncFailed { origin, reason };
    }
    if let Some(reason) = result.held_back.clone().filter(|_| result.needs_confirmation) {
        return EventKind::SyncHeld { origin, reason };
    }
    EventKind::SyncFinished {
        origin,
        listed: result.listed,
        added: result.added,
        changed: result.changed,
        missing: result.missing,
        returned: result.returned,
        complete: result.complete,
    }
}

/// Returns an error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// Returns a report as it goes over the socket.
pub(crate) fn result_of(report: &ScanReport) -> ScanResult {
    ScanResult {
        listed: report.listed,
        unchanged: report.unchanged,
        added: report.added,
        changed: report.changed,
        moved: report.moved,
        missing: report.missing,
        returned: report.returned,
        problems: report.problems,
        complete: report.complete,
        held_back: report.held_back.clone(),
        needs_confirmation: report.needs_confirmation,
        elapsed_ms: report.elapsed_ms,
        error: None,
    }
}

/// Returns progress as it goes over the socket.
pub(crate) fn status_of(
    progress: &ScanProgress,
    last: BTreeMap<String, ScanResult>,
    next_in_s: Option<u64>,
) -> ScanStatus {
    let phase = serde_json::to_value(progress.phase).ok();
    ScanStatus {
        phase: phase.and_then(|phase| phase.as_str().map(str::to_owned)).unwrap_or_default(),
        origin: progress.origin.as_ref().map(ToString::to_string),
        listed: progress.listed,
        parsed: progress.parsed,
        to_parse: progress.to_parse,
        last,
        next_in_s,
    }
}
