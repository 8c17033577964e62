//! The loop that carries out orders.

use std::collections::HashMap;
use std::sync::Arc;

use musicfs_core::{Clock, EventKind, MonoTime, OriginId};
use musicfs_sync::{PassOptions, ScanError};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::orders::{Ended, Pass};
use super::words::{log, outcome};
use super::{Scans, chain};
use crate::control::api::ScanResult;
use crate::verify;

/// How a pass ended: whether it had been cancelled, and its result.
type Outcome = (bool, ScanResult);

impl Scans {
    /// Runs until cancelled; the passes under way then end first.
    pub(crate) async fn run(self: Arc<Self>) {
        self.orders.lock().lost(None, self.clock.now());
        let mut passes: JoinSet<Outcome> = JoinSet::new();
        let mut origins: HashMap<Id, OriginId> = HashMap::new();
        while !(self.cancel.is_cancelled() && passes.is_empty()) {
            if !self.cancel.is_cancelled() {
                self.tidy_up().await;
                for (pass, cancel) in self.begin() {
                    let origin = pass.part.origin.clone();
                    let task = passes.spawn(self.clone().make(pass, cancel));
                    origins.insert(task.id(), origin);
                }
            }
            let wakes_at = self.orders.lock().wakes_at();
            tokio::select! {
                Some(ended) = passes.join_next_with_id(), if !passes.is_empty() => {
                    let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
                    let Some(origin) = origins.remove(&id) else { continue };
                    match ended {
                        Ok((_, outcome)) => self.ended(&origin, outcome),
                        // What panicked was logged where it did.
                        Err(_) => self.orders.lock().lost(Some(&origin), self.clock.now()),
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
        let began = self.clock.now();
        let options = PassOptions {
            paths: pass.part.paths.clone(),
            reread: pass.how.full,
            confirmed: pass.how.confirm,
        };
        self.engine.events.publish(EventKind::SyncStarted { origin: origin.clone() });
        match verify::scan(&self.engine, origin, &options, pass.how.verify, &cancel).await {
            Ok(result) => (false, result),
            Err(error) => {
                let result = ScanResult {
                    error: Some(chain(&error)),
                    elapsed_ms: self.clock.now().since(began).as_millis() as u64,
                    ..ScanResult::default()
                };
                (matches!(error, ScanError::Cancelled), result)
            }
        }
    }

    fn ended(&self, origin: &OriginId, (was_cancelled, result): Outcome) {
        let ended = self.orders.lock().ended(origin, was_cancelled, self.clock.now());
        let Some((pass, ended)) = ended.filter(|(_, ended)| *ended != Ended::Yielded) else { return };
        if result.error.is_some() && !was_cancelled {
            self.engine.monitor.suspect(origin);
        }
        log(origin, &result);
        self.engine.events.publish(outcome(origin, &result));
        self.orders.lock().note(&pass, ended, result);
    }
}
