//! The daemon's cache: its task, and what its clients ask about it.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::Clock;
use tracing::warn;

use super::state::Daemon;
use crate::cache::targets::Target;
use crate::cache::work::Worker;
use crate::control::api::cache::{CacheAction, CacheAnswer, CacheOrder, CacheRequest};
use crate::control::percent;
use crate::refusal::Refusal;

/// Name of the task.
pub(super) const CACHE_TASK: &str = "cache";
/// Name of the task that compares what is cached by guess.
const RECHECK_TASK: &str = "recheck";
/// Longest wait, when stopping, for what is being fetched to be stored.
const STORE_LIMIT: Duration = Duration::from_secs(1);
/// Why there is nothing to be asked.
const NO_CACHE: &str = "the cache cannot be used; `musicfs status` says why";

impl Daemon {
    /// Keeps the limits of the cache; notes first what is pinned.
    pub(super) fn spawn_cache(self: &Arc<Self>) {
        let Some(cache) = self.engine.cache.clone() else { return };
        let engine = self.engine.clone();
        self.supervisor.spawn_critical(CACHE_TASK, move || {
            let (cache, engine) = (cache.clone(), engine.clone());
            async move {
                // What is not counted cannot be marked.
                let _ = cache.store.counted().await;
                let marking = cache.clone();
                let marked = tokio::task::spawn_blocking(move || {
                    marking.load_pins(&engine.library)?;
                    marking.mark(&*engine.db)
                });
                match marked.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        warn!(error = format!("{error:#}"), "it is not known which chunks are pinned")
                    }
                    Err(error) => warn!(%error, "it is not known which chunks are pinned"),
                }
                cache.keeper.run().await;
            }
        });
    }

    /// Compares what is cached by guess with its origins.
    pub(super) fn spawn_recheck(self: &Arc<Self>) {
        let Some(cache) = self.engine.cache.clone() else { return };
        self.supervisor.spawn_critical(RECHECK_TASK, move || {
            let reader = cache.reader.clone();
            async move { reader.compare_guesses().await }
        });
    }

    /// Stores what has come and writes down what is known of the cache.
    pub(super) async fn close_cache(&self) {
        if let Some(cache) = &self.engine.cache {
            // What has come is not to be asked for again by the next start.
            cache.reader.set_prefetch(false);
            let clock = &self.engine.clock;
            tokio::select! {
                () = cache.reader.wait_stored() => {}
                () = clock.sleep_until(clock.now().plus(STORE_LIMIT)) => {}
            }
            cache.store.save_index().await;
        }
    }

    fn worker(&self) -> Result<Worker, Refusal> {
        let engine = &self.engine;
        let cache = engine.cache.clone().ok_or_else(|| Refusal::Failed(NO_CACHE.to_owned()))?;
        let (db, library) = (engine.db.clone(), engine.library.clone());
        Ok(Worker { cache, db, library, clock: engine.clock.clone() })
    }

    pub(super) async fn answer_about_cache(&self, request: CacheRequest) -> Result<CacheAnswer, Refusal> {
        match request {
            CacheRequest::Report => {
                let (worker, config) = (self.worker()?, self.config());
                let made = tokio::task::spawn_blocking(move || {
                    worker.cache.report(&config, &worker.library, &*worker.db)
                });
                let report = made.await.map_err(|error| Refusal::failed(&error))?;
                let report = report.map_err(|error| Refusal::Failed(format!("{error:#}")))?;
                Ok(CacheAnswer::Report(Box::new(report)))
            }
            CacheRequest::Order(order) => {
                let worker = self.worker()?;
                let targets = self.targets(&order).await?;
                let jobs = self.cache_jobs.clone();
                let job = jobs.order(worker, order.action, targets, order.bytes, self.cancel.clone());
                Ok(CacheAnswer::Job(Box::new(job)))
            }
            CacheRequest::Job(number) => {
                let job = self.cache_jobs.get(number);
                let unknown = || Refusal::Wrong(format!("there is no order {number} to the cache"));
                let job = job.ok_or_else(unknown)?;
                Ok(CacheAnswer::Job(Box::new(job)))
            }
        }
    }

    async fn targets(&self, order: &CacheOrder) -> Result<Vec<Target>, Refusal> {
        let mut targets = Vec::new();
        for name in &order.origins {
            targets.push(Target::Origin(crate::targets::origin(&self.config(), name)?));
        }
        let (db, paths) = (self.engine.db.clone(), order.paths.clone());
        let found = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            for path in &paths {
                let path = percent::decode(path);
                let target = Target::at(&*db, &path).map_err(|error| Refusal::failed(&error))?;
                let text = String::from_utf8_lossy(&path);
                found.push(target.ok_or_else(|| Refusal::Failed(format!("nothing is at {text}")))?);
            }
            Ok::<_, Refusal>(found)
        });
        targets.extend(found.await.map_err(|error| Refusal::failed(&error))??);
        let needs_targets = match order.action {
            CacheAction::Warm | CacheAction::Pin | CacheAction::Unpin => true,
            CacheAction::Evict => order.bytes.is_none(),
            CacheAction::Verify | CacheAction::Clear => false,
        };
        if needs_targets && targets.is_empty() {
            return Err(Refusal::Wrong("no path and no origin is named".to_owned()));
        }
        Ok(targets)
    }
}
