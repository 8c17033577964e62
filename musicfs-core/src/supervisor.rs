//! Tasks that are looked after.
//!
//! A task that panics is logged and its state can be asked for; a critical one is started again, after a back-off
//! that grows while it keeps failing. Nothing is fired and forgotten.
//!
//! One lock guards the table of tasks; it is held for a few lines and never across an await.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::{Clock, MonoTime, SystemClock};

/// Wait before a critical task is started again for the first time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait between two starts: long enough not to fill a log, short enough to heal unattended.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A task that ran this long before it failed starts again with the first back-off.
const HEALTHY_AFTER: Duration = Duration::from_secs(300);

/// How a task is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// It runs.
    Running,
    /// It ended by itself.
    Finished,
    /// It panicked, and is not started again.
    Failed {
        /// What the panic said.
        reason: String,
    },
    /// It panicked, and is started again after a back-off.
    Restarting {
        /// What the panic said.
        reason: String,
        /// How often it has failed in a row.
        failures: u32,
    },
    /// It was stopped.
    Stopped,
    /// There is no task of that name.
    Unknown,
}

impl TaskStatus {
    /// Tells whether the task is as it should be.
    pub const fn is_well(&self) -> bool {
        matches!(self, Self::Running | Self::Finished | Self::Stopped)
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Finished => f.write_str("finished"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Restarting { reason, failures } => {
                write!(f, "restarting after failure {failures}: {reason}")
            }
            Self::Stopped => f.write_str("stopped"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// One task in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub status: TaskStatus,
    /// Whether it is started again when it fails.
    pub critical: bool,
    /// How often it was started again.
    pub restarts: u32,
}

struct Task {
    status: TaskStatus,
    critical: bool,
    restarts: u32,
    handle: Option<JoinHandle<()>>,
}

type Tasks = Arc<Mutex<BTreeMap<String, Task>>>;

/// Starts tasks on the current tokio runtime and looks after them.
///
/// Dropping the supervisor leaves the tasks running; [`TaskSupervisor::stop`] ends them.
pub struct TaskSupervisor {
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Default for TaskSupervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TaskSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.report()).finish()
    }
}

impl TaskSupervisor {
    /// Makes a supervisor that goes by the system's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// Makes a supervisor that goes by `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { tasks: Tasks::default(), clock }
    }

    /// Starts a task that is not started again. A task of the same name is stopped first.
    pub fn spawn_supervised<F>(&self, name: &str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, owned) = (self.tasks.clone(), name.to_owned());
        self.start(name, false, async move {
            let status = match run(task.boxed()).await {
                Ok(()) => TaskStatus::Finished,
                Err(reason) => {
                    error!(task = owned, reason, "task failed");
                    TaskStatus::Failed { reason }
                }
            };
            set_status(&tasks, &owned, status);
        });
    }

    /// Starts a task that is started again whenever it panics, after a back-off. A task of the same name is
    /// stopped first.
    pub fn spawn_critical<M, F>(&self, name: &str, make: M)
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, owned, clock) = (self.tasks.clone(), name.to_owned(), self.clock.clone());
        self.start(name, true, async move {
            let mut failures = 0;
            loop {
                let started = clock.now();
                // The factory may panic as well as the task.
                let reason = match run(async { make().await }.boxed()).await {
                    Ok(()) => return set_status(&tasks, &owned, TaskStatus::Finished),
                    Err(reason) => reason,
                };
                failures = if clock.now().since(started) >= HEALTHY_AFTER { 1 } else { failures + 1 };
                let wait = backoff(failures);
                error!(
                    task = owned,
                    reason,
                    failures,
                    wait_s = wait.as_secs(),
                    "critical task failed; starting it again"
                );
                set_status(&tasks, &owned, TaskStatus::Restarting { reason, failures });
                clock.sleep_until(clock.now().plus(wait)).await;
                if let Some(task) = tasks.lock().get_mut(&owned) {
                    task.status = TaskStatus::Running;
                    task.restarts += 1;
                }
                info!(task = owned, "task started again");
            }
        });
    }

    /// Returns how a task is doing.
    pub fn task_status(&self, name: &str) -> TaskStatus {
        self.tasks.lock().get(name).map_or(TaskStatus::Unknown, |task| task.status.clone())
    }

    /// Returns how all tasks are doing, by name.
    pub fn report(&self) -> Vec<TaskReport> {
        let tasks = self.tasks.lock();
        let report = |(name, task): (&String, &Task)| TaskReport {
            name: name.clone(),
            status: task.status.clone(),
            critical: task.critical,
            restarts: task.restarts,
        };
        tasks.iter().map(report).collect()
    }

    /// Ends a task at its next await and waits until it is gone, at most until `deadline`. Does nothing for a
    /// task that has ended. Dropping the future leaves the task ending.
    pub async fn stop(&self, name: &str, deadline: MonoTime) {
        let handle = self.tasks.lock().get_mut(name).and_then(|task| {
            if matches!(task.status, TaskStatus::Running | TaskStatus::Restarting { .. }) {
                task.status = TaskStatus::Stopped;
            }
            task.handle.take()
        });
        let Some(handle) = handle else { return };
        handle.abort();
        tokio::select! {
            _ = handle => {}
            () = self.clock.sleep_until(deadline) => warn!(task = name, "task did not end in time"),
        }
    }

    fn start(&self, name: &str, critical: bool, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        if let Some(old) = tasks.get(name).and_then(|old| old.handle.as_ref()) {
            old.abort();
        }
        let handle = Some(tokio::spawn(task));
        tasks.insert(name.to_owned(), Task { status: TaskStatus::Running, critical, restarts: 0, handle });
    }
}

/// Runs a task to its end; a panic becomes its message. The task ends with the future.
async fn run(task: BoxFuture<'_, ()>) -> Result<(), String> {
    std::panic::AssertUnwindSafe(task).catch_unwind().await.map_err(|panic| message(&*panic))
}

fn set_status(tasks: &Tasks, name: &str, status: TaskStatus) {
    if let Some(task) = tasks.lock().get_mut(name) {
        task.status = status;
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// Makes every panic of this process an error in the log, with thread, place and backtrace. Until a log exists,
/// panics print as they do without this. Calling it again does nothing.
pub fn install_panic_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if !tracing::dispatcher::has_been_set() {
                return previous(panic);
            }
            let thread = std::thread::current();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            error!(
                thread = thread.name().unwrap_or("unnamed"),
                place,
                backtrace = %Backtrace::force_capture(),
                "panic: {}",
                message(panic.payload()),
            );
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn backoff_doubles_up_to_a_minute() {
        let waits: Vec<u64> = (1..9).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(u32::MAX).as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn supervised_task_that_panics_is_reported_as_failed() {
        let supervisor = TaskSupervisor::new();
        supervisor.spawn_supervised("bad", async { panic!("deliberate") });
        supervisor.spawn_supervised("good", async {});
        until(|| supervisor.task_status("bad") != TaskStatus::Running).await;
        assert_eq!(supervisor.task_status("bad"), TaskStatus::Failed { reason: "deliberate".into() });
        until(|| supervisor.task_status("good") == TaskStatus::Finished).await;
        assert_eq!(supervisor.task_status("none"), TaskStatus::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn critical_task_that_panics_is_started_again() {
        let supervisor = TaskSupervisor::new();
        let runs = Arc::new(AtomicU32::new(0));
        let count = runs.clone();
        supervisor.spawn_critical("worker", move || {
            let count = count.clone();
            async move {
                assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "first run fails");
                std::future::pending::<()>().await;
            }
        });
        until(|| runs.load(Ordering::SeqCst) == 2).await;
        assert_eq!(supervisor.task_status("worker"), TaskStatus::Running);
        assert_eq!(supervisor.report()[0].restarts, 1);
        supervisor.stop("worker", MonoTime(Duration::MAX)).await;
        assert_eq!(supervisor.task_status("worker"), TaskStatus::Stopped);
    }
}
