//! Programs, run to their end or to a limit.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Longest run of a program, in seconds: far longer than any needs, and shorter than a test's own limit.
const LIMIT: &str = "90";

/// Prepares a program that is killed when it does not end in time, and that asks nobody anything.
pub fn limited(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT]).arg(program).stdin(std::process::Stdio::null());
    command
}

/// Runs a prepared program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn output(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a prepared program that must succeed, and returns what it printed.
///
/// # Panics
/// When it cannot be started or fails; the message has what it said.
pub fn succeed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = output(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{shown}: {}\n{out}\n{err}", output.status);
    out
}
