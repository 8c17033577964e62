//! The tasks of a daemon: each is looked after, and shown in the status.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::Clock;
use tracing::error;

use super::socket_in;
use super::state::Daemon;
use crate::progress::Progress;
use crate::{control, notify};

/// Names of the tasks.
pub(super) const SCAN_TASK: &str = "scan";
pub(super) const ORIGINS_TASK: &str = "origins";
pub(super) const CONTROL_TASK: &str = "control";
pub(super) const WATCHDOG_TASK: &str = "watchdog";
/// Tells what happens to files.
pub(super) const EVENTS_TASK: &str = "events";
/// Keeps the search index up to date.
pub(super) const SEARCH_TASK: &str = "search";
pub(super) const PROGRESS_TASK: &str = "progress";

impl Daemon {
    pub(super) fn spawn_control(self: &Arc<Self>, listener: tokio::net::UnixListener) {
        // The listener can be taken once; started again after a panic, the socket is bound again.
        let listener = parking_lot::Mutex::new(Some(listener));
        let daemon = self.clone();
        let socket = socket_in(&self.dir);
        self.supervisor.spawn_critical(CONTROL_TASK, move || {
            let daemon = daemon.clone();
            let listener = listener.lock().take().map_or_else(|| control::bind(&socket), Ok);
            async move {
                match listener {
                    Ok(listener) => {
                        let closing = daemon.closing.clone();
                        control::serve(listener, daemon, closing).await;
                    }
                    Err(error) => error!(%error, "the control socket could not be made again"),
                }
            }
        });
    }

    pub(super) fn spawn_origins(self: &Arc<Self>) {
        let daemon = self.clone();
        self.supervisor.spawn_critical(ORIGINS_TASK, move || {
            let daemon = daemon.clone();
            async move {
                let (registry, clock) = (daemon.engine.registry.clone(), daemon.engine.clock.clone());
                let scans = daemon.scans.clone();
                // An origin that is back may have changed while it was away.
                let back = move |id: &musicfs_core::OriginId| {
                    scans.order(vec![id.clone()], false);
                };
                daemon.origins.clone().watch(registry, clock, back).await;
            }
        });
    }

    pub(super) fn spawn_scans(self: &Arc<Self>) {
        let scans = self.scans.clone();
        self.supervisor.spawn_critical(SCAN_TASK, move || scans.clone().run());
    }

    pub(super) fn spawn_progress(self: &Arc<Self>, mut progress: Progress) {
        /// Time between two looks while a scan runs: smooth to the eye, nothing to the processor.
        const STEP: Duration = Duration::from_millis(250);
        let daemon = self.clone();
        self.supervisor.spawn_supervised(PROGRESS_TASK, async move {
            let mut changes = daemon.engine.scanner.progress();
            let clock = daemon.engine.clock.clone();
            while changes.changed().await.is_ok() {
                let scan = daemon.scans.status();
                progress.show(&scan);
                notify::status(&daemon.status_line());
                clock.sleep_until(clock.now().plus(STEP)).await;
            }
        });
    }

    pub(super) fn spawn_events(self: &Arc<Self>) {
        let (db, events) = (self.engine.db.clone(), self.engine.events.clone());
        self.supervisor.spawn_critical(EVENTS_TASK, move || {
            musicfs_sync::publish_file_events(db.clone(), events.clone())
        });
    }

    pub(super) fn spawn_search(self: &Arc<Self>) {
        let search = self.engine.search.clone().run(self.cancel.clone());
        self.supervisor.spawn_supervised(SEARCH_TASK, search);
    }

    pub(super) fn spawn_watchdog(self: &Arc<Self>) {
        let Some(interval) = notify::watchdog_interval() else { return };
        let daemon = self.clone();
        self.supervisor.spawn_critical(WATCHDOG_TASK, move || {
            let daemon = daemon.clone();
            async move {
                let clock = daemon.engine.clock.clone();
                loop {
                    let health = control::Controlled::health(&*daemon).await;
                    if health.ok {
                        notify::alive();
                    } else {
                        // Silence: the service manager starts the daemon anew when it lasts.
                        error!(problems = ?health.problems, "the mount does not work as it should");
                    }
                    clock.sleep_until(clock.now().plus(interval)).await;
                }
            }
        });
    }
}
