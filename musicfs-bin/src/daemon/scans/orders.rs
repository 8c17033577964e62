//! What is to be scanned, and in which order. Pure: told the time, it decides.

mod rescans;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId, OriginPath};
use musicfs_sync::{MANY_PATHS, few_paths};
use tokio_util::sync::CancellationToken;

use super::Part;
use super::pass::{End, Ended, How, Pass, Running};
use crate::control::api::ScanResult;
use rescans::Rescans;

/// Orders that are remembered after they ended: enough for whoever gave one to fetch its result.
const REMEMBERED: usize = 32;
/// What an order is told whose pass was lost.
const LOST: &str = "the scanner failed; see the daemon's log";
/// What an order is told that was cancelled before it began.
pub(super) const CANCELLED: &str = "the scan was cancelled";
/// What an order is told whose origin is no more.
const GONE: &str = "the origin was taken out of the configuration";
/// Passes over all of an origin at a time, as each holds in memory what it knows of the origin, and comparisons.
pub(super) const SIDE_BY_SIDE: usize = 8;

#[derive(Debug, Default)]
struct Order {
    /// Nobody waits for it: it was given because something was seen to change.
    by_itself: bool,
    /// Nobody waits for it any more.
    cancelled: bool,
    /// Passes that have not ended, or whose content is being compared.
    left: usize,
    results: BTreeMap<String, ScanResult>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    last: u64,
    all: BTreeMap<u64, Order>,
    waiting: VecDeque<Pass>,
    running: BTreeMap<OriginId, Running>,
    /// Passes that ended, and what cancels the comparison of their content, which stands in nobody's way.
    comparing: Vec<(Pass, CancellationToken)>,
    /// Whether origins or the template may have changed since the tree was last brought in line with them.
    pub(super) tidy: bool,
    rescans: Rescans,
    /// How the last pass over each origin ended, but for those over a part that went well.
    pub(super) results: BTreeMap<String, ScanResult>,
}

impl Orders {
    /// Makes one without orders, where the tree is to be brought in line first.
    pub(super) fn new(interval: Duration) -> Self {
        Self { rescans: Rescans::new(interval), tidy: true, ..Self::default() }
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
                // One that goes on where it gave way may be past what changed.
                (None, more) if pass.yielded == 0 || more.is_none() => return,
                (Some(mine), Some(more)) if by_itself => {
                    pass.part.paths = together(std::mem::take(mine), more.clone());
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
        self.all.insert(order, Order { by_itself, left: parts.len(), ..Order::default() });
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
    pub(super) fn cancel(&mut self, number: u64, now: MonoTime) -> bool {
        let Some(order) = self.all.get_mut(&number) else { return false };
        order.cancelled = true;
        for pass in self.give_up(CANCELLED, |pass| pass.order == number) {
            // It may be the first over its origin.
            self.rescans.rest(&pass.part.origin, now);
        }
        for running in self.running.values_mut().filter(|running| running.pass.order == number) {
            running.end = Some(End::Cancelled);
            running.cancel.cancel();
        }
        self.break_off(|pass| pass.order == number);
        true
    }

    /// Ends passes that wait, and returns them.
    fn give_up(&mut self, why: &str, which: impl Fn(&Pass) -> bool) -> VecDeque<Pass> {
        let (ended, waiting): (VecDeque<Pass>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(which);
        self.waiting = waiting;
        for pass in &ended {
            self.note_result(pass, ScanResult { error: Some(why.into()), ..ScanResult::default() });
        }
        ended
    }

    /// Cancels comparisons of content.
    pub(super) fn break_off(&self, which: impl Fn(&Pass) -> bool) {
        self.comparing.iter().filter(|(pass, _)| which(pass)).for_each(|(_, cancel)| cancel.cancel());
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

    /// Orders rescans that are due, of origins that are not being scanned as a whole, nor about to be.
    fn add_due(&mut self, now: MonoTime) {
        for origin in self.rescans.take(now) {
            let whole = Part::whole(origin);
            let waits = self.waiting.iter().any(|pass| pass.part == whole);
            let runs = self.running.get(&whole.origin).is_some_and(|running| running.pass.part == whole);
            if !waits && !runs {
                self.add_order(vec![whole], How::default(), true);
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
            self.rescans.rest(origin, now);
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
        if ended == Ended::Done {
            self.note_origin(pass, &result);
        }
        self.note_result(pass, result);
    }

    fn note_origin(&mut self, pass: &Pass, result: &ScanResult) {
        // What a part was like says nothing of the whole, unless something is wrong.
        if pass.part.paths.is_none() || result.held_back.is_some() || result.error.is_some() {
            self.results.insert(pass.part.origin.to_string(), result.clone());
        }
    }

    /// Takes it that content is compared from now on, until [`Orders::compared`] or [`Orders::lost`] says otherwise,
    /// after a pass that ended so; returns what cancels that. Its order is not done before.
    pub(super) fn compare(
        &mut self,
        pass: &Pass,
        result: &ScanResult,
        cancel: &CancellationToken,
    ) -> CancellationToken {
        self.note_origin(pass, result);
        let cancel = cancel.child_token();
        // The pass may have come to its end all the same.
        if self.all.get(&pass.order).is_none_or(|order| order.cancelled) {
            cancel.cancel();
        }
        self.comparing.push((pass.clone(), cancel.clone()));
        cancel
    }

    /// Records how a comparison ended.
    pub(super) fn compared(&mut self, pass: &Pass, was_cancelled: bool, result: ScanResult) {
        self.comparing.retain(|(other, _)| (other.order, &other.part) != (pass.order, &pass.part));
        self.note(pass, if was_cancelled { Ended::Cancelled } else { Ended::Done }, result);
    }

    fn note_result(&mut self, pass: &Pass, result: ScanResult) {
        if let Some(order) = self.all.get_mut(&pass.order) {
            order.left = order.left.saturating_sub(1);
            order.results.insert(pass.part.origin.to_string(), result);
        }
    }

    /// Fails the pass over an origin that was under way, or whatever was: nobody is at work on it any more.
    pub(super) fn lost(&mut self, origin: Option<&OriginId>, now: MonoTime) {
        let gone = |id: &OriginId| origin.is_none_or(|origin| origin == id);
        let lost: Vec<OriginId> = self.running.keys().filter(|id| gone(id)).cloned().collect();
        for origin in lost {
            let Some((pass, _)) = self.ended(&origin, false, now) else { continue };
            self.note_result(&pass, lost_result());
        }
        if origin.is_none() {
            for (pass, _) in std::mem::take(&mut self.comparing) {
                self.note_result(&pass, lost_result());
            }
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
        self.rescans.next()
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
        self.rescans.set_watched(origin, watched, now);
    }

    /// Changes the time between rescans; zero for none.
    pub(super) fn set_interval(&mut self, interval: Duration, now: MonoTime) {
        self.rescans.set_interval(interval, now);
    }

    /// Forgets origins that are no more, and whatever is to be done about them.
    pub(super) fn keep_only(&mut self, origins: &[OriginId]) {
        self.rescans.keep_only(origins);
        self.results.retain(|name, _| origins.iter().any(|origin| origin.as_str() == name));
        self.give_up(GONE, |pass| !origins.contains(&pass.part.origin));
    }
}

/// What a comparison or a pass is told that was lost.
pub(super) fn lost_result() -> ScanResult {
    ScanResult { error: Some(LOST.into()), ..ScanResult::default() }
}

/// Takes paths together, as few; `None` for all of the origin.
fn together(mut some: Vec<OriginPath>, more: Vec<OriginPath>) -> Option<Vec<OriginPath>> {
    some.extend(more);
    let few = few_paths(some, MANY_PATHS);
    (!few.iter().any(OriginPath::is_root)).then_some(few)
}

/// Takes the parts of each origin together, in their order.
pub(crate) fn by_origin(parts: Vec<Part>) -> Vec<Part> {
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
