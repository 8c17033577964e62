//! Stopping: each step has a limit, and a second signal cuts it all short.
//!
//! Order: scans are cancelled and the tasks ended, so that nothing writes any more; the mount leaves the tree and
//! those who read are waited for; then the stores are put in order and the scratch files removed. The control
//! socket goes last, so that whoever asked can follow.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use musicfs_core::{Clock, MonoTime, TaskStatus, TaskSupervisor};
use musicfs_fuse::{MountError, Session};
use tracing::{error, info, warn};

use super::state::Daemon;
use super::tasks::{CONTROL_TASK, SCAN_TASK, SEARCH_TASK};
use super::{EndSignals, chain};
use crate::context::Outcome;
use crate::{control, notify};

/// Wait for a task to end: it does so at its next await.
const TASK_LIMIT: Duration = Duration::from_secs(3);
/// Wait for the last answers to go out over the control socket.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// What stopping takes beside the drain, at the most.
pub(super) const BESIDE_DRAIN: Duration = Duration::from_secs(12);
/// Wait for the mount to be taken out of the tree after a second signal.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Exit code of a daemon that was told twice.
const TOLD_TWICE: i32 = 1;

impl Daemon {
    /// Stops, and returns how that went. Ends the process at a second signal.
    pub(super) async fn stop_in_order(self: Arc<Self>, signals: &mut EndSignals) -> Outcome {
        notify::stopping("unmounting");
        self.stop.cancel();
        self.cancel.cancel();
        self.orders.close();
        let outcome = tokio::select! {
            outcome = self.clone().steps() => outcome,
            name = signals.wait() => {
                error!(signal = name, "told a second time; ending at once");
                // The session was in the steps, and has unmounted as they were dropped, or does so here.
                self.unmount_without_waiting();
                std::process::exit(TOLD_TWICE);
            }
        };
        info!("ended");
        outcome
    }

    async fn steps(self: Arc<Self>) -> Outcome {
        let clock = self.engine.clock.clone();
        self.supervisor.stop(SCAN_TASK, clock.now().plus(TASK_LIMIT)).await;
        if self.supervisor.task_status(SEARCH_TASK) == TaskStatus::Running {
            // It commits what it has.
            self.engine.search.wait_ended(clock.now().plus(TASK_LIMIT)).await;
        }
        end_tasks_but(CONTROL_TASK, &self.supervisor, &*clock).await;
        if !self.orders.ended(&*clock, TASK_LIMIT).await {
            warn!("an order to leave files out, or about files that are gone, has not come to its end");
        }
        let drain = self.config().drain_limit;
        let mut outcome = Outcome::Done;
        if let Some(session) = self.take_session() {
            match unmount(session, drain, &*clock).await {
                Ok(()) => {}
                Err(error @ MountError::StillOpen { .. }) => warn!("{}", chain(&error)),
                Err(error) => {
                    error!("{}", chain(&error));
                    outcome = Outcome::Partly;
                }
            }
        }
        self.close_cache().await;
        let engine = self.engine.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let checkpoint = engine.db.checkpoint();
            (checkpoint, engine.library.backup())
        });
        match closed.await {
            Ok((checkpoint, backup)) => {
                if let Err(error) = checkpoint {
                    error!(error = chain(&error), "the catalogue could not be closed in order");
                }
                if let Err(error) = backup {
                    error!(error = chain(&error), "the library could not be backed up");
                }
            }
            Err(error) => error!(%error, "the stores could not be closed in order"),
        }
        self.close_control(&*clock).await;
        self.remove_scratch();
        outcome
    }

    /// Lets the answers under way go out: the one to whoever asked to stop may be among them.
    async fn close_control(&self, clock: &dyn Clock) {
        self.engine.events.close();
        self.closing.cancel();
        let deadline = clock.now().plus(ANSWER_LIMIT);
        while self.supervisor.task_status(CONTROL_TASK) == TaskStatus::Running && clock.now() < deadline {
            clock.sleep_until(clock.now().plus(Duration::from_millis(1))).await;
        }
        self.supervisor.stop(CONTROL_TASK, clock.now().plus(TASK_LIMIT)).await;
    }

    fn remove_scratch(&self) {
        if let Err(error) = musicfs_fuse::clear_handles(&self.dir) {
            warn!(error = chain(&error), "the scratch file could not be removed");
        }
        control::remove_mount_dir(&self.dir);
    }

    /// Takes the mount out of the tree, and does not wait for anything that hangs.
    fn unmount_without_waiting(&self) {
        let session = self.take_session();
        // Dropping a session unmounts.
        let done = crate::paths::in_time(LAST_WORD, move || drop(session));
        if done.is_none() {
            error!("the mount could not be taken out of the tree in time");
        }
    }
}

/// Ends all tasks but one, and those that one of them may have begun meanwhile.
async fn end_tasks_but(last: &str, supervisor: &TaskSupervisor, clock: &dyn Clock) {
    loop {
        let goes_on =
            |status: &TaskStatus| matches!(status, TaskStatus::Running | TaskStatus::Restarting { .. });
        let report = supervisor.report().into_iter();
        let tasks: Vec<String> =
            report.filter(|task| task.name != last && goes_on(&task.status)).map(|task| task.name).collect();
        if tasks.is_empty() {
            return;
        }
        let deadline = clock.now().plus(TASK_LIMIT);
        join_all(tasks.iter().map(|task| supervisor.stop(task, deadline))).await;
    }
}

/// Unmounts, when all who looked at the session have let go of it; they hold it for a few lines.
async fn unmount(session: Arc<Session>, drain: Duration, clock: &dyn Clock) -> Result<(), MountError> {
    let deadline: MonoTime = clock.now().plus(drain);
    let mut session = session;
    loop {
        match Arc::try_unwrap(session) {
            Ok(session) => return session.unmount(deadline.since(clock.now())).await,
            Err(shared) => {
                session = shared;
                clock.sleep_until(clock.now().plus(Duration::from_millis(1))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::SystemClock;

    use super::*;

    #[tokio::test]
    async fn all_tasks_end_but_the_last_whatever_they_are() {
        let clock = Arc::new(SystemClock::new());
        let supervisor = TaskSupervisor::with_clock(clock.clone());
        supervisor.spawn_critical(CONTROL_TASK, std::future::pending);
        supervisor.spawn_critical("recheck", std::future::pending);
        supervisor.spawn_supervised("refresh-nas", std::future::pending());
        end_tasks_but(CONTROL_TASK, &supervisor, &*clock).await;
        assert_eq!(supervisor.task_status(CONTROL_TASK), TaskStatus::Running);
        for task in ["recheck", "refresh-nas"] {
            assert_eq!(supervisor.task_status(task), TaskStatus::Stopped, "{task}");
        }
    }
}
