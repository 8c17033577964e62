//! Figures of a benchmark, each printed as a line: its name, a tab, its value with the unit.

use std::fmt::Display;
use std::time::Duration;

pub(crate) fn figure(name: &str, value: impl Display) {
    println!("{name}\t{value}");
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// A figure of `/proc/self/status`, in kB; 0 where there is none.
pub(crate) fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
