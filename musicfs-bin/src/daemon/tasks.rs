//! The tasks of a daemon: each is looked after, and shown in the status.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, EventKind, MetaDb, OriginId, Refresher};
use tracing::error;

use super::state::Daemon;
use super::{origins, socket_in};
use crate::progress::Progress;
use crate::{control, memory, notify};

/// Names of the tasks.
pub(super) const SCAN_TASK: &str = "scan";
/// Sees what changes in directories of this machine.
pub(super) const WATCH_TASK: &str = "watch";
pub(super) const ORIGINS_TASK: &str = "origins";
/// Tells how the origins are, and has them scanned when they are back.
pub(super) const ORIGIN_NEWS_TASK: &str = "origin-news";
pub(super) const CONTROL_TASK: &str = "control";
pub(super) const WATCHDOG_TASK: &str = "watchdog";
/// Tells what happens to files.
pub(super) const EVENTS_TASK: &str = "events";
/// Keeps the search index up to date.
pub(super) const SEARCH_TASK: &str = "search";
pub(super) const PROGRESS_TASK: &str = "progress";
/// Gives free memory back to the system.
pub(super) const MEMORY_TASK: &str = "memory";
/// Looks at the files of an origin that is back for which copies were read; its name goes on with the origin's.
pub(super) const REFRESH_TASK: &str = "refresh";

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
            async move { daemon.engine.monitor.run().await }
        });
        let daemon = self.clone();
        self.supervisor.spawn_critical(ORIGIN_NEWS_TASK, move || {
            let daemon = daemon.clone();
            async move {
                let tell = |news: Vec<EventKind>| {
                    news.into_iter().for_each(|kind| daemon.engine.events.publish(kind));
                    notify::status(&daemon.status_line());
                };
                // An origin that is back may have changed while it was away, or not been scanned at all.
                let back = |id: &OriginId, was_lost: bool| {
                    let engine = daemon.engine.clone();
                    let stood_in = engine.failover.returned(id);
                    // What copies were read for may have changed; the scan may be long in coming to it.
                    // Each origin has its own: one that hangs again holds up no other.
                    daemon.supervisor.spawn_supervised(&format!("{REFRESH_TASK}-{id}"), async move {
                        for file in stood_in {
                            engine.scanner.refresh(file).await;
                        }
                    });
                    daemon.watches.retry_now(id);
                    if was_lost || daemon.scans.last_error(id).is_some() {
                        daemon.scans.order(vec![id.clone()], false);
                    }
                };
                origins::follow(daemon.engine.monitor.subscribe(), tell, back).await;
            }
        });
    }

    pub(super) fn spawn_scans(self: &Arc<Self>) {
        let scans = self.scans.clone();
        self.supervisor.spawn_critical(SCAN_TASK, move || scans.clone().run());
    }

    pub(super) fn spawn_watches(self: &Arc<Self>) {
        let daemon = self.clone();
        self.supervisor.spawn_critical(WATCH_TASK, move || {
            let daemon = daemon.clone();
            let roots = {
                let daemon = daemon.clone();
                move || daemon.watched_roots()
            };
            async move {
                let (clock, scans) = (daemon.engine.clock.clone(), daemon.scans.clone());
                daemon.watches.clone().run(roots, clock, scans, daemon.cancel.clone()).await;
            }
        });
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

    pub(super) fn spawn_memory(self: &Arc<Self>) {
        let (engine, cancel) = (self.engine.clone(), self.cancel.clone());
        self.supervisor.spawn_supervised(MEMORY_TASK, async move {
            let (scans, changes) = (engine.scanner.progress(), engine.db.subscribe());
            let tending = memory::tend(&*engine.clock, scans, changes, memory::give_back);
            cancel.run_until_cancelled(tending).await;
        });
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
