//! Processes, by number and start time: a number alone is used again.

use std::path::Path;

/// Returns when a process started, in clock ticks since boot; `None` when there is no such process.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    start_ticks_in(Path::new("/proc"), pid)
}

fn start_ticks_in(proc: &Path, pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included; the state follows it as field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // A zombie has ended; only its parent has not noticed.
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Tells whether the process that started at `start_ticks` under this number still runs.
pub(crate) fn is_running(pid: u32, started: u64) -> bool {
    start_ticks(pid) == Some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_another_of_its_number_does_not() {
        let pid = std::process::id();
        let start = start_ticks(pid).unwrap();
        assert!(is_running(pid, start));
        assert!(!is_running(pid, start + 1));
        assert!(!is_running(u32::MAX, start));
    }

    #[test]
    fn name_with_parentheses_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("5")).unwrap();
        let write = |state: &str| {
            let fields: Vec<String> = (4..=22).map(|n| n.to_string()).collect();
            let stat = format!("5 (a) b (c)) {state} {} 23", fields.join(" "));
            std::fs::write(dir.path().join("5/stat"), stat).unwrap();
        };
        write("S");
        assert_eq!(start_ticks_in(dir.path(), 5), Some(22));
        write("Z");
        assert_eq!(start_ticks_in(dir.path(), 5), None);
    }
}
