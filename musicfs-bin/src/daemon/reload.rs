//! SIGHUP: the configuration is read again as a whole; when all of it is right, what can change while mounted
//! changes, and what cannot is named. When anything is wrong, nothing changes.

use std::sync::Arc;

use musicfs_origins::BuiltOrigin;
use tracing::{error, info, warn};

use super::state::Daemon;
use crate::config::{Config, Problem, check, keys};
use crate::{notify, wiring};

impl Daemon {
    /// Reads the configuration again.
    pub(super) async fn reload(self: &Arc<Self>) {
        notify::reloading();
        let daemon = self.clone();
        // Origins' paths are resolved, which may take as long as a disk takes.
        match tokio::task::spawn_blocking(move || daemon.read_again()).await {
            Ok(Ok((config, origins))) => self.apply(config, origins),
            Ok(Err(problems)) => {
                for problem in &problems {
                    error!("{problem}");
                }
                error!("the configuration is not used; all stays as it was");
            }
            Err(panic) => error!(%panic, "the configuration could not be read"),
        }
        notify::ready(&self.status_line());
    }

    /// Reads the configuration, and builds the origins that are new in it.
    fn read_again(&self) -> Result<(Config, Vec<BuiltOrigin>), Vec<Problem>> {
        let (config, mut problems) = Config::load(&self.flags, &self.env);
        problems.extend(check::own_directories(&config));
        problems.extend(check::mountpoint(&config, &self.mountpoint));
        if config.origins.is_empty() {
            problems.extend(check::all(&config));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let before = self.config();
        let mut built = Vec::new();
        for new in config.origins.iter().filter(|origin| !before.origins.contains(origin)) {
            match wiring::build_origin(new, &self.env, &self.engine.clock) {
                Ok(origin) => built.push(origin),
                Err(error) => problems.push(Problem::of(&new.source, keys::ORIGINS, format!("{error:#}"))),
            }
        }
        if problems.is_empty() { Ok((config, built)) } else { Err(problems) }
    }

    fn apply(&self, new: Config, origins: Vec<BuiltOrigin>) {
        let old = self.config();
        let changed = old.changed_keys(&new);
        if changed.is_empty() {
            info!("configuration read again: nothing has changed");
            return;
        }
        let mut applied = Config::clone(&old);
        let mut built = Some(origins);
        let mut waiting = Vec::new();
        for key in changed {
            match key.name {
                keys::LOG_LEVEL => {
                    self.log.set(&new.log_level);
                    applied.log_level = new.log_level.clone();
                }
                keys::TEMPLATE => {
                    self.engine.scanner.set_template(new.template.clone());
                    self.scans.tidy();
                    applied.template = new.template.clone();
                }
                keys::RESCAN_INTERVAL => {
                    self.scans.set_interval(new.rescan_interval);
                    applied.rescan_interval = new.rescan_interval;
                }
                keys::HEALTH_INTERVAL => {
                    self.engine.monitor.set_interval(new.health_interval);
                    applied.health_interval = new.health_interval;
                }
                keys::WATCH => applied.watch = new.watch,
                keys::MISSING_GRACE => {
                    self.engine.scanner.set_missing_grace(new.missing_grace);
                    applied.missing_grace = new.missing_grace;
                }
                keys::MISSING_MAX_AGE => {
                    self.engine.scanner.set_missing_max_age(new.missing_max_age);
                    applied.missing_max_age = new.missing_max_age;
                }
                keys::LOCAL_DEADLINE => applied.local_deadline = new.local_deadline,
                keys::REMOTE_DEADLINE => applied.remote_deadline = new.remote_deadline,
                keys::FAILBACK_DELAY => {
                    self.engine.router.set_failback_delay(new.failback_delay);
                    applied.failback_delay = new.failback_delay;
                }
                keys::PREFETCH => {
                    if let Some(cache) = &self.engine.cache {
                        cache.reader.set_prefetch(new.prefetch);
                    }
                    applied.prefetch = new.prefetch;
                }
                keys::RECHECK_AFTER => {
                    if let Some(cache) = &self.engine.cache {
                        cache.reader.set_compare_after(crate::cache::compare_after(&new));
                    }
                    applied.recheck_after = new.recheck_after;
                }
                keys::DRAIN_LIMIT => applied.drain_limit = new.drain_limit,
                keys::ORIGINS => {
                    let gone = old.origins.iter().filter(|origin| !new.origins.contains(origin));
                    let gone: Vec<_> = gone.map(|origin| origin.id().clone()).collect();
                    self.engine.set_origins(&gone, built.take().unwrap_or_default());
                    self.scans.break_off(&gone);
                    applied.origins.clone_from(&new.origins);
                    self.scans.tidy();
                    self.scans.order(Vec::new(), false);
                }
                _ => waiting.push(key.name),
            }
            if !waiting.contains(&key.name) {
                info!(key = key.name, "configuration read again: changed");
            }
        }
        self.engine.failover.set_deadline(applied.remote_deadline);
        if let Some(cache) = &self.engine.cache {
            cache.reader.set_deadline(applied.remote_deadline);
        }
        self.engine.direct.set_limits(wiring::limits(&applied));
        *self.config.lock() = Arc::new(applied);
        self.watches.reload();
        let mut notices = self.notices.lock();
        notices.retain(|notice| !notice.starts_with(WAITING));
        if !waiting.is_empty() {
            let notice = format!("{WAITING}{}", waiting.join(", "));
            warn!("{notice}");
            notices.push(notice);
        }
    }
}

/// Begins the notice of keys that wait for a restart.
const WAITING: &str = "these keys have changed and take effect at the next mount: ";
