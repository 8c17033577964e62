//! A listener to what a daemon tells.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::home::Home;

/// `musicfs events`, running. It is bounded by the limit that every program has.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listener {
    /// Starts to listen, and returns once it does.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.prepare(home.binary());
        command.arg("events").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            BufReader::new(stderr).read_line(&mut said).unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(said.starts_with("Listening to "), "{said}");
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("it says nothing"));
        let lines = BufReader::new(stdout);
        Self { child, lines }
    }

    /// Waits for its end, and tells whether it ended well.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap_or_else(|error| panic!("{error}")).success()
    }

    /// Reads a line; `None` when it has ended.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap_or_else(|error| panic!("{error}"));
        (read > 0).then_some(line)
    }

    /// Has it stop taking anything, or go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        // What runs is a program that limits the other, which is its child.
        let of = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        let children = children.unwrap_or_else(|error| panic!("{error}"));
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal}: {error}"));
        }
    }

    /// Reads the next event.
    ///
    /// # Panics
    /// When the stream has ended, or what comes is no event.
    pub fn event(&mut self) -> Value {
        let line = self.line().unwrap_or_else(|| panic!("the stream has ended"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Reads on until an event of a type comes.
    ///
    /// # Panics
    /// When the stream ends before, or what comes is no event.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            let event: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            if event["type"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
