//! What a status says of the parts of a daemon.

use musicfs_core::{Clock, FileMeta, FileQuery, MetaDb, MetaError};

use super::origins;
use super::state::Daemon;
use crate::control::api::{CacheStatus, OriginStatus, ProblemFile, Task};

/// Problems that a status names when not all are asked for.
const FEW_PROBLEMS: usize = 10;
/// Problems fetched at once.
const PAGE: usize = 1000;

impl Daemon {
    pub(super) fn origin_statuses(&self) -> Vec<OriginStatus> {
        let config = self.config();
        let (health, now) = (self.engine.monitor.snapshot(), self.engine.clock.now());
        let status = |origin: &crate::config::NamedOrigin| {
            let condition = health.condition(origin.id()).cloned().unwrap_or_default();
            let (state, reason) = origins::state_of(&condition, self.scans.last_error(origin.id()));
            let done = self.engine.metrics(origin.id()).map(|metrics| metrics.snapshot());
            OriginStatus {
                id: origin.id().to_string(),
                path: origin.place(),
                priority: origin.spec.priority,
                state,
                reason,
                bytes: done.as_ref().map_or(0, |done| done.bytes),
                reads: done.as_ref().map_or(0, |done| done.reads),
                errors: done.as_ref().map_or(0, |done| done.errors.iter().map(|(_, n)| n).sum()),
                latency_us: done.and_then(|done| done.average_us),
                failures: condition.failures,
                checked_s: condition.checked.map(|at| now.since(at).as_secs()),
                watch: self.watches.state(origin.id()),
            }
        };
        config.origins.iter().map(status).collect()
    }

    pub(super) fn cache_status(&self) -> Option<CacheStatus> {
        let cache = self.engine.cache.as_ref()?;
        let (kept, done) = (cache.keeper.stats(), cache.reader.stats());
        Some(CacheStatus {
            size: kept.bytes,
            max_size: kept.max_bytes,
            room: kept.room,
            level: kept.level.as_str().to_owned(),
            pinned: kept.pinned_bytes,
            evicted: kept.evicted_bytes,
            prefetch: self.config().prefetch,
            prefetched: done.prefetched,
            from_cache: done.from_cache,
            from_origins: done.from_origins,
            fetched: done.fetched,
            proven: done.proven,
            mismatched: done.mismatched,
            repaired: done.repaired,
            not_stored: done.not_stored,
            passing_through: done.passing_through,
        })
    }

    pub(super) fn tasks(&self) -> Vec<Task> {
        let task = |task: musicfs_core::TaskReport| Task {
            name: task.name,
            status: task.status.to_string(),
            well: task.status.is_well(),
            critical: task.critical,
            restarts: task.restarts,
        };
        self.supervisor.report().into_iter().map(task).collect()
    }
}

pub(super) fn problems(db: &dyn MetaDb, all: bool) -> Result<Vec<ProblemFile>, MetaError> {
    let limit = if all { usize::MAX } else { FEW_PROBLEMS };
    let mut found: Vec<ProblemFile> = Vec::new();
    let mut after = None;
    while found.len() < limit {
        let page = db.files(&FileQuery::Problems, after, PAGE.min(limit - found.len()))?;
        found.extend(page.files.iter().map(problem));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(found)
}

fn problem(file: &FileMeta) -> ProblemFile {
    ProblemFile {
        origin: file.origin.to_string(),
        path: file.path.to_string(),
        shown_at: file.shown_at.as_ref().map(ToString::to_string),
        reason: file.problem.clone().unwrap_or_default(),
    }
}
