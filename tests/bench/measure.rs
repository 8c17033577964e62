//! Time, memory, medians.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use musicfs_core::{Clock, MonoTime, SystemClock};

/// Runs `work` and returns how long it took, in seconds.
pub(crate) fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let clock = SystemClock::new();
    let before = clock.now();
    let result = work();
    (clock.now().since(before).as_secs_f64(), result)
}

/// Returns the time in seconds, from some moment on.
pub(crate) fn now() -> f64 {
    static CLOCK: LazyLock<(SystemClock, MonoTime)> = LazyLock::new(|| {
        let clock = SystemClock::new();
        let start = clock.now();
        (clock, start)
    });
    CLOCK.0.now().since(CLOCK.1).as_secs_f64()
}

/// Returns the middle of the figures that `rounds` calls give.
pub(crate) fn median(rounds: usize, mut figure: impl FnMut() -> f64) -> f64 {
    middle((0..rounds).map(|_| figure()).collect())
}

/// Returns the middle figure.
pub(crate) fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Walks `dir` as a library scanner does, with the size of everything, and returns how long that took in seconds.
pub(crate) fn walk(dir: &Path) -> f64 {
    let (time, status) = seconds(|| {
        let mut find = Command::new("find");
        find.arg(dir).args(["-printf", "%s\\n"]).stdout(Stdio::null()).status()
    });
    assert!(status.is_ok_and(|status| status.success()), "find {} failed", dir.display());
    time
}

/// Returns a process's resident memory in megabytes.
pub(crate) fn memory(pid: i32) -> f64 {
    field(pid, "VmRSS:")
}

/// Returns the most that a process's resident memory has been, in megabytes.
pub(crate) fn most_memory(pid: i32) -> f64 {
    field(pid, "VmHWM:")
}

fn field(pid: i32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Waits a moment between looks at something that takes seconds.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
