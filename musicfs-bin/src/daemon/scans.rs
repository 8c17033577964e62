//! When origins are scanned: at the start, at intervals, and when somebody asks.
//!
//! One loop runs one order after the other, so that an order which comes during a pass still sees what changed
//! before it came. One lock guards the orders; it is held for a few lines and never across an await. The loop is
//! a critical task: started again after a panic, it fails the order that was under way and goes on with the next.

mod turns;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, EventKind, MonoTime, OriginId, OriginPath, SystemClock};
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

/// Rescans of what is watched are left out but for each so-manieth: changes are seen without them, unless they were made
/// through a link or below a directory that is mounted from a network.
const WATCHED_EVERY: u32 = 12;

/// An origin, or some paths of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The origin.
    pub(crate) origin: OriginId,
    /// The paths; all when `None`.
    pub(crate) paths: Option<Vec<OriginPath>>,
}

/// What an order covers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// All origins there are when it begins.
    All,
    /// These.
    These(Vec<Part>),
}

#[derive(Debug)]
struct Order {
    scope: Scope,
    full: bool,
    confirm: bool,
    /// Nobody waits for it: it was given because something was seen to change.
    by_itself: bool,
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
    /// Origins whose changes are seen as they happen.
    watched: BTreeSet<OriginId>,
    /// Rescans since one of everything.
    rescans: u32,
    /// How the last pass over each origin ended, but for those over a part that went well.
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
        let whole = |origin| Part { origin, paths: None };
        let parts = (!origins.is_empty()).then(|| origins.into_iter().map(whole).collect());
        self.order_parts(parts, full, false)
    }

    /// Orders a scan of these parts, or of everything, and returns its number. With `confirm` it accepts whatever is
    /// gone.
    pub(crate) fn order_parts(&self, parts: Option<Vec<Part>>, full: bool, confirm: bool) -> u64 {
        let scope = parts.map_or(Scope::All, Scope::These);
        self.add(Order { scope, full, confirm, by_itself: false, done: false, results: BTreeMap::new() })
    }

    /// Has a part looked at in which something changed, unless it is about to be.
    pub(crate) fn changed(&self, mut part: Part) {
        let mut orders = self.orders.lock();
        // What a pass held back or failed at may be settled by now, which only a pass over all can tell.
        if orders
            .results
            .get(part.origin.as_str())
            .is_some_and(|last| last.held_back.is_some() || last.error.is_some())
        {
            part.paths = None;
        }
        let Orders { all, waiting, .. } = &mut *orders;
        for number in waiting.iter() {
            if all.get_mut(number).is_some_and(|order| order.covers(&part)) {
                return;
            }
        }
        drop(orders);
        let scope = Scope::These(vec![part]);
        let (results, confirm) = (BTreeMap::new(), false);
        self.add(Order { scope, full: false, confirm, by_itself: true, done: false, results });
    }

    /// Notes whether changes of an origin are seen as they happen.
    pub(crate) fn set_watched(&self, origin: &OriginId, watched: bool) {
        let mut orders = self.orders.lock();
        if watched {
            orders.watched.insert(origin.clone());
        } else {
            orders.watched.remove(origin);
        }
    }

    fn add(&self, order: Order) -> u64 {
        let mut orders = self.orders.lock();
        orders.last += 1;
        let number = orders.last;
        orders.all.insert(number, order);
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
                self.rescan();
            }
        }
    }

    /// Orders a scan of what may have changed without being seen to.
    fn rescan(&self) {
        let origins = self.engine.origin_ids();
        let mut orders = self.orders.lock();
        orders.due = self.next_due(orders.interval);
        orders.rescans = (orders.rescans + 1) % WATCHED_EVERY;
        let all = orders.rescans == 0;
        let unseen: Vec<OriginId> =
            origins.into_iter().filter(|origin| all || !orders.watched.contains(origin)).collect();
        drop(orders);
        if !unseen.is_empty() {
            self.order(unseen, false);
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
        let parts = match scope {
            Scope::All => {
                let whole = |origin| Part { origin, paths: None };
                self.engine.origin_ids().into_iter().map(whole).collect()
            }
            Scope::These(parts) => parts,
        };
        let (origins, mut paths) = by_origin(parts);
        let mut turns = Turns::new(origins, &self.engine.monitor);
        loop {
            let next = tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                next = turns.next() => next,
            };
            let Some(origin) = next else { break };
            let paths = paths.remove(&origin).flatten();
            let began = self.clock.now();
            let part = paths.is_some();
            let options = PassOptions { paths, reread: full, confirmed: confirm };
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
            // What a part was like says nothing of the whole, unless something is wrong.
            if !part || result.held_back.is_some() || result.error.is_some() {
                orders.results.insert(origin.to_string(), result.clone());
            }
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

impl Order {
    /// Tells whether it covers a part, which it may take up for the purpose.
    fn covers(&mut self, part: &Part) -> bool {
        let parts = match &mut self.scope {
            Scope::All => return true,
            Scope::These(parts) => parts,
        };
        let Some(mine) = parts.iter_mut().find(|mine| mine.origin == part.origin) else { return false };
        match (&mut mine.paths, &part.paths) {
            (None, _) => true,
            (paths, None) if self.by_itself => {
                *paths = None;
                true
            }
            (Some(mine), Some(more)) if self.by_itself => {
                mine.extend(more.iter().cloned());
                true
            }
            _ => false,
        }
    }
}

/// Takes the parts of each origin together: the origins in their order, and the paths of each, all when `None`.
fn by_origin(parts: Vec<Part>) -> (Vec<OriginId>, BTreeMap<OriginId, Option<Vec<OriginPath>>>) {
    let mut origins = Vec::new();
    let mut paths: BTreeMap<OriginId, Option<Vec<OriginPath>>> = BTreeMap::new();
    for part in parts {
        match paths.entry(part.origin.clone()) {
            Entry::Vacant(place) => {
                place.insert(part.paths);
                origins.push(part.origin);
            }
            Entry::Occupied(mut place) => match (place.get_mut(), part.paths) {
                (Some(some), Some(more)) => some.extend(more),
                (all, _) => *all = None,
            },
        }
    }
    (origins, paths)
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
