//! Orders to the cache of a running mount: each is a task, and is remembered for whoever asks how far it is.
//!
//! One lock guards the orders; it is held for a few lines and never across an await.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::targets::Target;
use super::work::Worker;
use crate::control::api::cache::{CacheAction, CacheJob};

/// Orders that are remembered after they ended.
const REMEMBERED: usize = 32;
/// What an order is told when the mount ends under it.
const STOPPED: &str = "the mount is being unmounted";
/// What an order is told when its task failed.
const BROKEN: &str = "the work failed; see the daemon's log";

/// The orders.
#[derive(Debug, Default)]
pub(crate) struct CacheJobs {
    all: Mutex<BTreeMap<u64, CacheJob>>,
}

impl CacheJobs {
    /// Begins to carry out an order, and returns it.
    pub(crate) fn order(
        self: &Arc<Self>,
        worker: Worker,
        action: CacheAction,
        targets: Vec<Target>,
        bytes: Option<u64>,
        cancel: CancellationToken,
    ) -> CacheJob {
        let job = self.begin(action);
        let number = job.job;
        let jobs = self.clone();
        tokio::spawn(async move {
            let mut ending = Ending { jobs: &jobs, number, error: Some(BROKEN.to_owned()) };
            let told = |change: &mut dyn FnMut(&mut CacheJob)| jobs.change(number, change);
            let work = worker.carry_out(action, targets, bytes, &told);
            ending.error = tokio::select! {
                done = work => done.err().map(|error| format!("{error:#}")),
                () = cancel.cancelled() => Some(STOPPED.to_owned()),
            };
        });
        job
    }

    /// Returns how far an order is.
    pub(crate) fn get(&self, number: u64) -> Option<CacheJob> {
        self.all.lock().get(&number).cloned()
    }

    fn begin(&self, action: CacheAction) -> CacheJob {
        let mut all = self.all.lock();
        let number = all.last_key_value().map_or(1, |(last, _)| last + 1);
        let job = CacheJob { job: number, action, ..CacheJob::default() };
        all.insert(number, job.clone());
        while all.len() > REMEMBERED {
            let Some(old) = all.iter().find(|(_, job)| job.done).map(|(number, _)| *number) else { break };
            all.remove(&old);
        }
        job
    }

    fn change(&self, number: u64, change: &mut dyn FnMut(&mut CacheJob)) {
        if let Some(job) = self.all.lock().get_mut(&number) {
            change(job);
        }
    }
}

/// Says that an order has ended, however it did.
struct Ending<'a> {
    jobs: &'a CacheJobs,
    number: u64,
    error: Option<String>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let error = self.error.take();
        self.jobs.change(self.number, &mut |job| {
            job.error.clone_from(&error);
            job.done = true;
        });
    }
}
