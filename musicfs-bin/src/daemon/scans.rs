//! When origins are scanned: at the start, at intervals, when something was seen to change, and when somebody asks.
//!
//! Origins are scanned side by side, each by one pass at a time; an order that comes during a pass over the same
//! origin has another one made, so that it sees what changed before it came. Orders for a part of an origin come first:
//! a pass over all of it gives way, and goes on after. Content is compared after the pass, beside whatever passes come
//! then. What is to be done is decided in `orders.rs`, purely, and carried out in `carry_out.rs`.
//!
//! One lock guards the orders; it is held for a few lines and never across an await. The loop is a critical task: started
//! again after a panic, it fails what was under way and goes on.

mod carry_out;
mod orders;
mod pass;
mod words;

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, OriginId, OriginPath, SystemClock};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::control::api::{ScanJob, ScanStatus};
use crate::verify::Verify;
use crate::wiring::Engine;
pub(crate) use orders::by_origin;
use orders::{Orders, SIDE_BY_SIDE};
use pass::How;
pub(crate) use words::{chain, result_of, status_of};

/// An origin, or some paths of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The origin.
    pub(crate) origin: OriginId,
    /// The paths; all when `None`.
    pub(crate) paths: Option<Vec<OriginPath>>,
}

impl Part {
    /// Returns all of an origin.
    pub(crate) fn whole(origin: OriginId) -> Self {
        Self { origin, paths: None }
    }
}

/// Runs scans.
pub(crate) struct Scans {
    engine: Arc<Engine>,
    clock: Arc<SystemClock>,
    cancel: CancellationToken,
    orders: Mutex<Orders>,
    wake: Notify,
    /// Comparisons that may run at a time.
    comparing: Semaphore,
}

impl Scans {
    /// Makes the loop's state, with a first scan of everything ordered.
    pub(crate) fn new(engine: Arc<Engine>, cancel: CancellationToken, interval: Duration) -> Self {
        let clock = engine.clock.clone();
        let orders = Mutex::new(Orders::new(interval));
        let comparing = Semaphore::new(SIDE_BY_SIDE);
        let scans = Self { engine, clock, cancel, orders, wake: Notify::new(), comparing };
        scans.order(Vec::new(), false);
        scans
    }

    /// Orders a scan of these origins, or of all when none is named, and returns its number.
    pub(crate) fn order(&self, origins: Vec<OriginId>, full: bool) -> u64 {
        let parts = (!origins.is_empty()).then(|| origins.into_iter().map(Part::whole).collect());
        self.order_parts(parts, full, Verify::No, false)
    }

    /// Orders a scan of these parts, or of everything, and returns its number. With `confirm` it accepts whatever is
    /// gone.
    pub(crate) fn order_parts(
        &self,
        parts: Option<Vec<Part>>,
        full: bool,
        verify: Verify,
        confirm: bool,
    ) -> u64 {
        let all = || self.engine.origin_ids().into_iter().map(Part::whole).collect();
        let parts = parts.unwrap_or_else(all);
        let number = self.orders.lock().add(parts, How { full, verify, confirm });
        self.wake.notify_one();
        number
    }

    /// Has a part looked at in which something changed, unless it is about to be.
    pub(crate) fn changed(&self, part: Part) {
        self.orders.lock().add_seen(part);
        self.wake.notify_one();
    }

    /// Cancels an order, and tells whether there is one of that number. What was found stays.
    pub(crate) fn cancel(&self, number: u64) -> bool {
        let found = self.orders.lock().cancel(number, self.clock.now());
        self.wake.notify_one();
        found
    }

    /// Breaks off comparisons with origins that are no more, or have become others.
    pub(crate) fn break_off(&self, gone: &[OriginId]) {
        self.orders.lock().break_off(|pass| gone.contains(&pass.part.origin));
    }

    /// Notes whether changes of an origin are seen as they happen.
    pub(crate) fn set_watched(&self, origin: &OriginId, watched: bool) {
        self.orders.lock().set_watched(origin, watched, self.clock.now());
        self.wake.notify_one();
    }

    /// Brings the tree in line with the origins and the template there are now, before anything else is done.
    pub(crate) fn tidy(&self) {
        self.orders.lock().tidy = true;
        self.wake.notify_one();
    }

    /// Changes the time between rescans; zero for none.
    pub(crate) fn set_interval(&self, interval: Duration) {
        self.orders.lock().set_interval(interval, self.clock.now());
        self.wake.notify_one();
    }

    /// Returns how far an order is.
    pub(crate) fn job(&self, number: u64) -> Option<ScanJob> {
        let now = self.status();
        let orders = self.orders.lock();
        let (done, results) = orders.state_of(number)?;
        Some(ScanJob { job: number, done, results, now })
    }

    /// Returns what is done now, and what was done last.
    pub(crate) fn status(&self) -> ScanStatus {
        let progress = self.engine.scanner.progress().borrow().clone();
        let orders = self.orders.lock();
        let due = orders.next_due().filter(|_| !orders.is_busy());
        let next = due.map(|due| due.since(self.clock.now()).as_secs());
        let verifying = self.engine.verifying.now();
        ScanStatus { verifying, ..status_of(&progress, orders.results.clone(), next) }
    }

    /// Returns why the last pass over an origin failed, if it did.
    pub(crate) fn last_error(&self, origin: &OriginId) -> Option<String> {
        self.orders.lock().results.get(origin.as_str())?.error.clone()
    }
}
