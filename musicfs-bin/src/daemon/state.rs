//! The state of a running mount, and what it answers over the control socket.
//!
//! Locks here are held for a few lines, and never across an await or I/O. What asks the catalogue runs in the
//! blocking pool; nothing asks the mount.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use musicfs_core::{Clock, MetaDb, MetaError, MonoTime, OriginId, ROOT_INODE, TaskSupervisor};
use musicfs_fuse::{MountHandles, MountState, Os, Session, mount_state};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::FS_NAME;
use super::given::{Given, STOPPING};
use super::origins;
use super::scans::{Part, Scans, chain};
use super::status::problems;
use super::watches::Watches;
use crate::cache::jobs::CacheJobs;
use crate::config::{Config, Flags};
use crate::control::api::cache::{CacheAnswer, CacheRequest};
use crate::control::api::{
    CheckOrder, ExcludeOrder, Exclusions, Explanation, Health, MountPhase, OriginStatus, ScanJob, ScanOrder,
    Status, Stopping, Totals, Trash, TrashOrder,
};
use crate::control::{Controlled, percent};
use crate::env::Env;
use crate::exclude;
use crate::log::LogControl;
use crate::refusal::Refusal;
use crate::search::Answer;
use crate::verify::Verify;
use crate::wiring::Engine;

/// Wait for the catalogue to answer one lookup; it takes microseconds when all is well.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);

/// What a daemon is made of.
pub(super) struct Setup {
    pub(super) flags: Flags,
    pub(super) env: Env,
    pub(super) config: Config,
    pub(super) mountpoint: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) os: Os,
    pub(super) handles: MountHandles,
    pub(super) engine: Arc<Engine>,
    pub(super) session: Session,
    pub(super) supervisor: TaskSupervisor,
    pub(super) log: LogControl,
    pub(super) notices: Vec<String>,
    /// When it started: by the clock, and in seconds since 1970.
    pub(super) started: (MonoTime, i64),
}

/// A running mount.
pub(super) struct Daemon {
    pub(super) flags: Flags,
    pub(super) env: Env,
    pub(super) config: Mutex<Arc<Config>>,
    pub(super) mountpoint: PathBuf,
    /// Its runtime directory.
    pub(super) dir: PathBuf,
    pub(super) os: Os,
    pub(super) handles: MountHandles,
    pub(super) engine: Arc<Engine>,
    /// The mount; taken out when it is unmounted.
    session: Mutex<Option<Arc<Session>>>,
    pub(super) supervisor: TaskSupervisor,
    pub(super) log: LogControl,
    pub(super) scans: Arc<Scans>,
    pub(super) watches: Arc<Watches>,
    pub(super) notices: Mutex<Vec<String>>,
    /// Cancelled by a request to stop.
    pub(super) stop: CancellationToken,
    /// Cancelled when no more is to be answered over the control socket.
    pub(super) closing: CancellationToken,
    /// Orders to the cache.
    pub(super) cache_jobs: Arc<CacheJobs>,
    /// Orders about what is to be seen.
    pub(super) orders: Given,
    /// Cancels scans, and work on the cache.
    pub(super) cancel: CancellationToken,
    /// A check of the catalogue has not come back.
    checking: Arc<AtomicBool>,
    started: (MonoTime, i64),
}

impl Daemon {
    pub(super) fn new(setup: Setup) -> Arc<Self> {
        let engine = setup.engine;
        let cancel = CancellationToken::new();
        let interval = setup.config.rescan_interval;
        let scans = Scans::new(engine.clone(), cancel.clone(), interval);
        Arc::new(Self {
            flags: setup.flags,
            env: setup.env,
            config: Mutex::new(Arc::new(setup.config)),
            mountpoint: setup.mountpoint,
            dir: setup.dir,
            os: setup.os,
            handles: setup.handles,
            engine,
            session: Mutex::new(Some(Arc::new(setup.session))),
            supervisor: setup.supervisor,
            log: setup.log,
            scans: Arc::new(scans),
            cache_jobs: Arc::default(),
            orders: Given::default(),
            watches: Arc::default(),
            notices: Mutex::new(setup.notices),
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            cancel,
            checking: Arc::default(),
            started: setup.started,
        })
    }

    /// Returns the configuration in effect.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    /// Returns the mount, while it is mounted.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }

    /// Takes the mount out, to unmount it.
    pub(super) fn take_session(&self) -> Option<Arc<Session>> {
        self.session.lock().take()
    }

    fn phase(&self) -> MountPhase {
        if self.stop.is_cancelled() || self.cancel.is_cancelled() {
            MountPhase::Stopping
        } else {
            origins::phase(&self.engine.monitor.snapshot())
        }
    }

    /// Says in a line how the mount is.
    pub(super) fn status_line(&self) -> String {
        let scan = crate::progress::describe(&self.scans.status());
        format!("{} at {}; {scan}", self.phase().as_str(), self.mountpoint.display())
    }

    /// Finds what a request to scan names.
    async fn scan_targets(&self, names: Vec<OsString>) -> Result<Vec<Part>, Refusal> {
        let (config, db) = (self.config(), self.engine.db.clone());
        let mountpoint = self.mountpoint.clone();
        let find = move || {
            let mut parts = Vec::new();
            for name in names {
                parts.extend(crate::targets::find(&config, Some(&mountpoint), &*db, &name)?);
            }
            Ok(parts)
        };
        tokio::task::spawn_blocking(find).await.map_err(|error| Refusal::failed(&error))?
    }

    /// Returns the directories to be watched: those of this machine, unless the user wants none watched.
    pub(super) fn watched_roots(&self) -> Vec<(OriginId, PathBuf)> {
        let config = self.config();
        let watchable = |id: &OriginId| self.engine.registry.get(id).is_some_and(|o| o.caps().watchable);
        let named = config.origins.iter().filter(|origin| config.watch && watchable(origin.id()));
        named.filter_map(|origin| Some((origin.id().clone(), origin.path()?.to_owned()))).collect()
    }
}

/// Runs blocking work, and passes a failure of the work itself on as text.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MetaError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

#[async_trait]
impl Controlled for Daemon {
    async fn status(&self, all_problems: bool) -> Result<Status, String> {
        let db = self.engine.db.clone();
        let (totals, problems) = blocking(move || Ok((db.totals()?, problems(&*db, all_problems)?))).await?;
        let health = self.health().await;
        let config = self.config();
        let fuse = self.session().map(|session| session.stats());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started.1,
            uptime_s: self.engine.clock.now().since(self.started.0).as_secs(),
            mountpoint: self.mountpoint.display().to_string(),
            state: self.phase(),
            config_file: config.file.as_ref().map(|path| path.display().to_string()),
            cache_dir: config.cache_dir.display().to_string(),
            state_dir: config.state_dir.display().to_string(),
            template: config.template.as_str().to_owned(),
            health,
            origins: self.origin_statuses(),
            totals: Totals {
                files: totals.files,
                bytes: totals.bytes,
                tracks: totals.tracks,
                problems: totals.problems,
                missing: totals.missing,
                dirs: totals.dirs,
            },
            problems,
            scan: self.scans.status(),
            search: self.engine.search.status(),
            events_missed: self.engine.events.missed(),
            tasks: self.tasks(),
            fuse: serde_json::to_value(fuse).unwrap_or_default(),
            cache: self.cache_status(),
            notices: self.notices.lock().clone(),
        })
    }

    async fn health(&self) -> Health {
        let mut problems = Vec::new();
        for task in self.tasks().iter().filter(|task| task.critical && !task.well) {
            problems.push(format!("task {}: {}", task.name, task.status));
        }
        // A check that hangs is not joined by another.
        if self.checking.swap(true, Ordering::SeqCst) {
            problems.push("an earlier check of the catalogue has not come back".into());
        } else {
            let checking = self.checking.clone();
            let (db, os) = (self.engine.db.clone(), self.os.clone());
            let (mountpoint, handles) = (self.mountpoint.clone(), self.handles.clone());
            let check = tokio::task::spawn_blocking(move || {
                let root = db.node(ROOT_INODE);
                let state = mount_state(&os, &mountpoint, FS_NAME, Some(&handles));
                checking.store(false, Ordering::SeqCst);
                (root, state)
            });
            let clock = &self.engine.clock;
            tokio::select! {
                done = check => match done {
                    Ok((root, state)) => {
                        match root {
                            Ok(Some(_)) => {}
                            Ok(None) => problems.push("the catalogue has lost its root".into()),
                            Err(error) => problems.push(chain(&error)),
                        }
                        match state {
                            Ok(MountState::Alive { .. }) => {}
                            Ok(state) => problems.push(format!("the mount is {}", state_word(&state))),
                            Err(error) => problems.push(chain(&error)),
                        }
                    }
                    Err(error) => {
                        self.checking.store(false, Ordering::SeqCst);
                        problems.push(format!("the check failed: {error}"));
                    }
                },
                () = clock.sleep_until(clock.now().plus(LOOKUP_LIMIT)) => problems.push(format!(
                    "the catalogue did not answer a lookup within {} s",
                    LOOKUP_LIMIT.as_secs()
                )),
            }
        }
        Health { ok: problems.is_empty(), problems }
    }

    async fn scan(&self, order: ScanOrder) -> Result<ScanJob, Refusal> {
        if self.phase() == MountPhase::Stopping {
            return Err(Refusal::Failed(STOPPING.to_owned()));
        }
        let encoded = order.encoded.iter().map(|name| OsString::from_vec(percent::decode(name)));
        let names: Vec<OsString> = order.origins.into_iter().map(OsString::from).chain(encoded).collect();
        let named = !names.is_empty();
        let parts = self.scan_targets(names).await?;
        // All origins are not accepted in one go.
        let number = self.scans.order_parts(
            named.then_some(parts),
            order.full,
            order.verify.into(),
            order.confirm && named,
        );
        self.scans.job(number).ok_or_else(|| Refusal::Failed("the order was lost".to_owned()))
    }

    async fn check_origins(&self, order: CheckOrder) -> Result<Vec<OriginStatus>, Refusal> {
        let named: Result<Vec<OriginId>, Refusal> =
            order.origins.iter().map(|name| crate::targets::origin(&self.config(), name)).collect();
        let named = named?;
        let monitor = &self.engine.monitor;
        if named.is_empty() {
            monitor.check_all().await;
        } else {
            futures::future::join_all(named.iter().map(|id| monitor.check_now(id))).await;
        }
        let all = self.origin_statuses().into_iter();
        let wanted =
            |status: &OriginStatus| named.is_empty() || named.iter().any(|id| id.as_str() == status.id);
        Ok(all.filter(wanted).collect())
    }

    async fn job(&self, job: u64) -> Option<ScanJob> {
        self.scans.job(job)
    }

    async fn cancel_scan(&self, job: u64) -> Option<ScanJob> {
        self.scans.cancel(job).then(|| self.scans.job(job)).flatten()
    }

    async fn trash(&self, order: TrashOrder) -> Result<Trash, Refusal> {
        let engine = &self.engine;
        super::trash::carry_out(&engine.scanner, &self.config(), order, &self.orders, &*engine.clock).await
    }

    async fn exclude(&self, order: ExcludeOrder) -> Result<Exclusions, Refusal> {
        let (config, scanner, db) = (self.config(), self.engine.scanner.clone(), self.engine.db.clone());
        let (mountpoint, scans) = (self.mountpoint.clone(), self.scans.clone());
        let work = async move {
            let changed = exclude::carry_out(&scanner, db, config, Some(&mountpoint), order).await?;
            let exclude::Changed { mut answer, shown_again } = changed;
            if !shown_again.is_empty() {
                // They may have changed meanwhile, or be new altogether.
                answer.job = Some(scans.order_parts(Some(shown_again), false, Verify::No, false));
            }
            Ok(answer)
        };
        let done = self.orders.carry_out(&*self.engine.clock, work).await?;
        Ok(done.unwrap_or_else(|| Exclusions { waits: true, ..Exclusions::default() }))
    }

    async fn explain(&self, path: &[u8]) -> Result<Option<Explanation>, String> {
        let (db, reader) = (self.engine.db.clone(), self.engine.reader.clone());
        let (template, path) = (self.config().template.clone(), path.to_vec());
        blocking(move || crate::explain::explain(&*db, &*reader, &template, &path)).await
    }

    async fn search(&self, query: String, limit: usize) -> Result<Answer, Refusal> {
        let (db, search) = (self.engine.db.clone(), self.engine.search.clone());
        let asked = tokio::task::spawn_blocking(move || crate::search::ask(&*search, &*db, &query, limit));
        let mut answer = asked.await.map_err(|error| Refusal::failed(&error))??;
        answer.mountpoint = Some(self.mountpoint.display().to_string());
        Ok(answer)
    }

    fn events(&self) -> musicfs_core::EventStream {
        self.engine.events.subscribe()
    }

    async fn cache(&self, request: CacheRequest) -> Result<CacheAnswer, Refusal> {
        self.answer_about_cache(request).await
    }

    fn stop(&self) -> Stopping {
        self.stop.cancel();
        let limit = self.config().drain_limit + super::stop::BESIDE_DRAIN;
        Stopping { pid: std::process::id(), limit_s: limit.as_secs() }
    }
}

/// Says how a mount point is.
pub(crate) fn state_word(state: &MountState) -> &'static str {
    match state {
        MountState::NotMounted => "not mounted",
        MountState::Alive { .. } => "alive",
        MountState::Dead { .. } => "dead",
        MountState::Foreign => "another filesystem's",
    }
}
