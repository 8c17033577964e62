//! What is to be scanned, and in which order. Pure: told the time, it decides.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId, OriginPath};
use tokio_util::sync::CancellationToken;

use super::Part;
use crate::control::api::ScanResult;
use crate::verify::Verify;

/// Orders that are remembered after they ended: enough for whoever gave one to fetch its result.
const REMEMBERED: usize = 32;
/// What an order is told whose pass was lost.
const LOST: &str = "the scanner failed; see the daemon's log";
/// What an order is told that was cancelled before it began.
pub(super) const CANCELLED: &str = "the scan was cancelled";
/// What is watched is rescanned so many times less often: changes are seen without it, unless they were made through a
/// link or below a directory that is mounted from a network.
const WATCHED_EVERY: u32 = 12;
/// Passes over all of an origin at a time: each holds in memory what it knows of the origin.
const SIDE_BY_SIDE: usize = 8;
/// A pass over all of an origin does not give way before it has run for so long; twice as long each time it has, so
/// that it comes to its end however much is asked for meanwhile.
const LEAST_RUN: Duration = Duration::from_secs(2);

/// How an order is to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct How {
    /// What seems unchanged is read again.
    pub(super) full: bool,
    /// Whether content is compared.
    pub(super) verify: Verify,
    /// Whatever is gone is accepted.
    pub(super) confirm: bool,
}

#[derive(Debug, Default)]
struct Order {
    /// Nobody waits for it: it was given because something was seen to change.
    by_itself: bool,
    /// Passes that have not ended.
    left: usize,
    results: BTreeMap<String, ScanResult>,
}

/// A pass that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) order: u64,
    pub(super) part: Part,
    pub(super) how: How,
    /// How often it gave way.
    yielded: u32,
}

/// Why a pass is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Another comes first; it goes on after that.
    Yields,
    /// Nobody wants it any more.
    Cancelled,
}

#[derive(Debug)]
struct Running {
    pass: Pass,
    began: MonoTime,
    cancel: CancellationToken,
    end: Option<End>,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Done,
    /// It was cancelled by whoever had ordered it.
    Cancelled,
    /// It gives way and is made again.
    Yielded,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    last: u64,
    all: BTreeMap<u64, Order>,
    waiting: VecDeque<Pass>,
    running: BTreeMap<OriginId, Running>,
    /// Whether origins or the template may have changed since the tree was last brought in line with them.
    pub(super) tidy: bool,
    interval: Duration,
    /// When each origin is to be rescanned.
    due: BTreeMap<OriginId, MonoTime>,
    /// Origins whose changes are seen as they happen.
    watched: BTreeSet<OriginId>,
    /// How the last pass over each origin ended, but for those over a part that went well.
    pub(super) results: BTreeMap<String, ScanResult>,
}

impl Orders {
    /// Makes one without orders, where the tree is to be brought in line first.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, tidy: true, ..Self::default() }
    }

    /// Adds an order that somebody gave, and returns its number.
    pub(super) fn add(&mut self, parts: Vec<Part>, how: How) -> u64 {
        let parts = by_origin(parts);
        self.add_order(parts, how, false)
    }

    /// Adds an order for a part that was seen to change, unless one that waits covers it, or can.
    pub(super) fn add_seen(&mut self, mut part: Part) {
        // What a pass held back or failed at may be settled by now, which only a pass over all can tell.
        let last = self.results.get(part.origin.as_str());
        if last.is_some_and(|last| last.held_back.is_some() || last.error.is_some()) {
            part.paths = None;
        }
        let Self { waiting, all, .. } = self;
        for pass in waiting.iter_mut().filter(|pass| pass.part.origin == part.origin) {
            let by_itself = all.get(&pass.order).is_some_and(|order| order.by_itself);
            match (&mut pass.part.paths, &part.paths) {
                (None, _) => return,
                (Some(mine), Some(more)) if by_itself => {
                    mine.extend(more.iter().cloned());
                    return;
                }
                _ => {}
            }
        }
        self.add_order(vec![part], How::default(), true);
    }

    fn add_order(&mut self, parts: Vec<Part>, how: How, by_itself: bool) -> u64 {
        self.last += 1;
        let order = self.last;
        self.all.insert(order, Order { by_itself, left: parts.len(), results: BTreeMap::new() });
        self.waiting.extend(parts.into_iter().map(|part| Pass { order, part, how, yielded: 0 }));
        while self.all.len() > REMEMBERED {
            let Some(old) = self.all.iter().find(|(_, order)| order.left == 0).map(|(number, _)| *number)
            else {
                break;
            };
            self.all.remove(&old);
        }
        order
    }

    /// Cancels an order; tells whether there is one of that number.
    pub(super) fn cancel(&mut self, number: u64) -> bool {
        if !self.all.contains_key(&number) {
            return false;
        }
        let (cancelled, waiting): (VecDeque<Pass>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|pass| pass.order == number);
        self.waiting = waiting;
        for pass in cancelled {
            let result = ScanResult { error: Some(CANCELLED.into()), ..ScanResult::default() };
            self.note_result(&pass, result);
        }
        for running in self.running.values_mut().filter(|running| running.pass.order == number) {
            running.end = Some(End::Cancelled);
            running.cancel.cancel();
        }
        true
    }

    /// Returns the passes that begin now; they are taken to run from then on, until [`Orders::ended`] or
    /// [`Orders::lost`] says otherwise. Those that are to give way to others are cancelled.
    pub(super) fn begin(
        &mut self,
        now: MonoTime,
        cancel: &CancellationToken,
    ) -> Vec<(Pass, CancellationToken)> {
        self.add_due(now);
        if self.tidy {
            // It is done while nothing runs, and not after an hour.
            self.running.values_mut().for_each(Running::give_way);
            return Vec::new();
        }
        let mut begun = Vec::new();
        let mut whole = self.running.values().filter(|running| running.pass.part.paths.is_none()).count();
        for in_part in [true, false] {
            let mut at = 0;
            while let Some(pass) = self.waiting.get(at) {
                let fits = pass.part.paths.is_some() == in_part
                    && !self.running.contains_key(&pass.part.origin)
                    && (in_part || whole < SIDE_BY_SIDE);
                if !fits {
                    at += 1;
                    continue;
                }
                let Some(pass) = self.waiting.remove(at) else { break };
                whole += usize::from(!in_part);
                let token = cancel.child_token();
                let running = Running { pass: pass.clone(), began: now, cancel: token.clone(), end: None };
                self.running.insert(pass.part.origin.clone(), running);
                begun.push((pass, token));
            }
        }
        for pass in self.waiting.iter().filter(|pass| pass.part.paths.is_some()) {
            if let Some(running) = self.running.get_mut(&pass.part.origin)
                && running.yields_at().is_some_and(|at| at <= now)
            {
                running.give_way();
            }
        }
        begun
    }

    /// Orders rescans that are due, of origins that are not being scanned, nor about to be.
    fn add_due(&mut self, now: MonoTime) {
        let due: Vec<OriginId> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for origin in due {
            self.due.remove(&origin);
            let waits = self.waiting.iter().any(|pass| pass.part == Part::whole(origin.clone()));
            if !waits && !self.running.contains_key(&origin) {
                self.add_order(vec![Part::whole(origin)], How::default(), true);
            }
        }
    }

    /// Takes back a pass that ended, and says how it is to be taken.
    pub(super) fn ended(
        &mut self,
        origin: &OriginId,
        was_cancelled: bool,
        now: MonoTime,
    ) -> Option<(Pass, Ended)> {
        let Running { mut pass, end, .. } = self.running.remove(origin)?;
        if pass.part.paths.is_none() {
            self.rest(origin, now);
        }
        match end {
            Some(End::Yields) if was_cancelled => {
                pass.yielded += 1;
                self.waiting.push_front(pass.clone());
                Some((pass, Ended::Yielded))
            }
            Some(End::Cancelled) if was_cancelled => Some((pass, Ended::Cancelled)),
            _ => Some((pass, Ended::Done)),
        }
    }

    /// Records how a pass ended: for its order, and, unless it was cancelled, for its origin.
    pub(super) fn note(&mut self, pass: &Pass, ended: Ended, result: ScanResult) {
        // What a part was like says nothing of the whole, unless something is wrong.
        let telling = pass.part.paths.is_none() || result.held_back.is_some() || result.error.is_some();
        if ended == Ended::Done && telling {
            self.results.insert(pass.part.origin.to_string(), result.clone());
        }
        self.note_result(pass, result);
    }

    fn note_result(&mut self, pass: &Pass, result: ScanResult) {
        if let Some(order) = self.all.get_mut(&pass.order) {
            order.left = order.left.saturating_sub(1);
            order.results.insert(pass.part.origin.to_string(), result);
        }
    }

    /// Fails what was under way, of one origin or of all: nobody is at work on it any more.
    pub(super) fn lost(&mut self, origin: Option<&OriginId>, now: MonoTime) {
        let gone = |id: &OriginId| origin.is_none_or(|origin| origin == id);
        let lost: Vec<OriginId> = self.running.keys().filter(|id| gone(id)).cloned().collect();
        for origin in lost {
            let Some((pass, _)) = self.ended(&origin, false, now) else { continue };
            self.note_result(&pass, ScanResult { error: Some(LOST.into()), ..ScanResult::default() });
        }
    }

    /// Tells whether anything is being done or waits.
    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// Tells whether nothing runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// Returns whether an order is done, and its results so far.
    pub(super) fn state_of(&self, number: u64) -> Option<(bool, BTreeMap<String, ScanResult>)> {
        self.all.get(&number).map(|order| (order.left == 0, order.results.clone()))
    }

    /// Returns when the next rescan is due.
    pub(super) fn next_due(&self) -> Option<MonoTime> {
        self.due.values().min().copied()
    }

    /// Returns when there is something to be decided, if nothing happens before.
    pub(super) fn wakes_at(&self) -> Option<MonoTime> {
        let waits = |origin: &OriginId| {
            self.waiting.iter().any(|pass| pass.part.origin == *origin && pass.part.paths.is_some())
        };
        let yielding = self.running.iter().filter(|(origin, _)| waits(origin));
        let yielding = yielding.filter_map(|(_, running)| running.yields_at());
        yielding.chain(self.next_due()).min()
    }

    /// Notes whether changes of an origin are seen as they happen.
    pub(super) fn set_watched(&mut self, origin: &OriginId, watched: bool, now: MonoTime) {
        let changed = if watched { self.watched.insert(origin.clone()) } else { self.watched.remove(origin) };
        if changed && self.due.contains_key(origin) {
            self.rest(origin, now);
        }
    }

    /// Changes the time between rescans; zero for none.
    pub(super) fn set_interval(&mut self, interval: Duration, now: MonoTime) {
        self.interval = interval;
        let known: BTreeSet<OriginId> = self
            .results
            .keys()
            .map(|id| OriginId::from(id.as_str()))
            .chain(self.due.keys().cloned())
            .collect();
        known.iter().for_each(|origin| self.rest(origin, now));
    }

    /// Forgets rescans of origins that are no more.
    pub(super) fn keep_only(&mut self, origins: &[OriginId]) {
        self.due.retain(|origin, _| origins.contains(origin));
    }

    /// Has an origin rescanned after a while.
    fn rest(&mut self, origin: &OriginId, now: MonoTime) {
        let times = if self.watched.contains(origin) { WATCHED_EVERY } else { 1 };
        if self.interval.is_zero() {
            self.due.remove(origin);
        } else {
            self.due.insert(origin.clone(), now.plus(self.interval.saturating_mul(times)));
        }
    }
}

impl Running {
    /// Returns from when on it gives way to others; `None` for one that does not.
    fn yields_at(&self) -> Option<MonoTime> {
        let whole = self.pass.part.paths.is_none() && self.end.is_none();
        let least = LEAST_RUN.saturating_mul(1_u32.checked_shl(self.pass.yielded).unwrap_or(u32::MAX));
        whole.then(|| self.began.plus(least))
    }

    fn give_way(&mut self) {
        if self.end.is_none() {
            self.end = Some(End::Yields);
            self.cancel.cancel();
        }
    }
}

/// Takes the parts of each origin together, in their order.
fn by_origin(parts: Vec<Part>) -> Vec<Part> {
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
    let part = |origin| Part { paths: paths.remove(&origin).flatten(), origin };
    origins.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests;
