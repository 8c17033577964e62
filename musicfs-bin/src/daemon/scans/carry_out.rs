//! The loop that carries out orders.

use std::collections::HashMap;
use std::sync::Arc;

use musicfs_core::{Clock, EventKind, MonoTime, OriginId};
use musicfs_sync::{PassOptions, ScanError};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::orders::lost_result;
use super::pass::{Ended, Pass};
use super::words::{log, outcome};
use super::{Part, Scans, chain};
use crate::control::api::ScanResult;
use crate::verify::{self, Verify};

/// How a pass, or the comparison after it, ended: whether it had been cancelled, and its result.
type Outcome = (bool, ScanResult);

/// What a task is at work on.
enum Work {
    /// A pass over this origin.
    Pass(OriginId),
    /// The comparison after this pass.
    Comparison(Pass),
}

impl Scans {
    /// Runs until cancelled; the passes under way then end first.
    pub(crate) async fn run(self: Arc<Self>) {
        self.orders.lock().lost(None, self.clock.now());
        let mut tasks: JoinSet<Outcome> = JoinSet::new();
        let mut works: HashMap<Id, Work> = HashMap::new();
        while !(self.cancel.is_cancelled() && tasks.is_empty()) {
            if !self.cancel.is_cancelled() {
                self.tidy_up().await;
                for (pass, cancel) in self.begin() {
                    let origin = pass.part.origin.clone();
                    let task = tasks.spawn(self.clone().make(pass, cancel));
                    works.insert(task.id(), Work::Pass(origin));
                }
            }
            let wakes_at = self.orders.lock().wakes_at();
            tokio::select! {
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
                    match (works.remove(&id), ended) {
                        (Some(Work::Pass(origin)), Ok((_, outcome))) => {
                            if let Some((pass, result, cancel)) = self.ended(&origin, outcome) {
                                let task = tasks.spawn(self.clone().compare(pass.clone(), result, cancel));
                                works.insert(task.id(), Work::Comparison(pass));
                            }
                        }
                        (Some(Work::Comparison(pass)), Ok((_, outcome))) => self.compared(&pass, outcome),
                        // What panicked was logged where it did.
                        (Some(Work::Pass(origin)), Err(_)) => {
                            self.orders.lock().lost(Some(&origin), self.clock.now());
                        }
                        (Some(Work::Comparison(pass)), Err(_)) => {
                            self.orders.lock().compared(&pass, false, lost_result());
                        }
                        (None, _) => {}
                    }
                }
                () = self.cancel.cancelled(), if !self.cancel.is_cancelled() => {}
                () = self.wake.notified() => {}
                () = self.until(wakes_at), if !self.cancel.is_cancelled() => {}
            }
        }
    }

    async fn until(&self, time: Option<MonoTime>) {
        match time {
            Some(time) => self.clock.sleep_until(time).await,
            None => std::future::pending().await,
        }
    }

    fn begin(&self) -> Vec<(Pass, CancellationToken)> {
        self.orders.lock().begin(self.clock.now(), &self.cancel)
    }

    /// Brings the tree in line with the origins and the template, once nothing runs.
    async fn tidy_up(&self) {
        {
            let mut orders = self.orders.lock();
            if !orders.tidy || !orders.is_quiet() {
                return;
            }
            orders.tidy = false;
            orders.keep_only(&self.engine.origin_ids());
        }
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || engine.settle_origins()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = format!("{error:#}"), "files of former origins could not be hidden")
            }
            Err(error) => warn!(%error, "files of former origins could not be hidden"),
        }
        match self.engine.scanner.arrange(&self.cancel).await {
            Ok(_) | Err(ScanError::Cancelled) => {}
            Err(error) => warn!(error = chain(&error), "the tree could not be arranged"),
        }
    }

    async fn make(self: Arc<Self>, pass: Pass, cancel: CancellationToken) -> Outcome {
        let origin = &pass.part.origin;
        let options = PassOptions {
            paths: pass.part.paths.clone(),
            reread: pass.how.full,
            confirmed: pass.how.confirm,
        };
        self.engine.events.publish(EventKind::SyncStarted { origin: origin.clone() });
        verify::pass(&self.engine, origin, &options, &cancel).await
    }

    /// Takes back a pass that ended; returns what is to be compared after it, by which result, and what cancels that.
    fn ended(
        &self,
        origin: &OriginId,
        (was_cancelled, result): Outcome,
    ) -> Option<(Pass, ScanResult, CancellationToken)> {
        let ended = self.orders.lock().ended(origin, was_cancelled, self.clock.now());
        let (pass, ended) = ended.filter(|(_, ended)| *ended != Ended::Yielded)?;
        self.tell(origin, was_cancelled, &result);
        let mut orders = self.orders.lock();
        if ended == Ended::Done && result.unsettled {
            orders.add_seen(Part::whole(origin.clone()));
        }
        let compare = ended == Ended::Done && pass.how.verify == Verify::Yes && verify::may_follow(&result);
        let cancel = compare.then(|| orders.compare(&pass, &result, &self.cancel));
        if cancel.is_none() {
            orders.note(&pass, ended, result.clone());
        }
        // The origin may have been taken out of the configuration meanwhile.
        orders.keep_only(&self.engine.origin_ids());
        cancel.map(|cancel| (pass, result, cancel))
    }

    async fn compare(
        self: Arc<Self>,
        pass: Pass,
        mut result: ScanResult,
        cancel: CancellationToken,
    ) -> Outcome {
        let _turn = tokio::select! {
            turn = self.comparing.acquire() => turn.ok(),
            () = cancel.cancelled() => None,
        };
        let Part { origin, paths } = &pass.part;
        let was_cancelled =
            verify::compare(&self.engine, origin, paths.as_deref(), &cancel, &mut result).await;
        (was_cancelled, result)
    }

    fn compared(&self, pass: &Pass, (was_cancelled, result): Outcome) {
        let origin = &pass.part.origin;
        if result.error.is_some() {
            self.tell(origin, was_cancelled, &result);
        }
        let mut orders = self.orders.lock();
        orders.compared(pass, was_cancelled, result);
        orders.keep_only(&self.engine.origin_ids());
    }

    fn tell(&self, origin: &OriginId, was_cancelled: bool, result: &ScanResult) {
        if result.error.is_some() && !was_cancelled {
            self.engine.monitor.suspect(origin);
        }
        log(origin, result);
        self.engine.events.publish(outcome(origin, result));
    }
}
