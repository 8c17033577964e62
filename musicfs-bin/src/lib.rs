//! The library half of the `musicfs` binary: everything but `main`.
//!
//! * `cli` says what can be typed; `config` reads flags, variables and the file; `commands` does the work.
//! * `daemon` is the life of a mount; `control` is how commands talk to it, over a Unix socket, so that they work
//!   while the mount hangs.
//! * `wiring` is the one file where the crates of MusicFS meet.
//! * `targets` finds what a path on the command line means: an origin, a part of one, or what the mount shows of it.
//! * `env` is the one file that reads the environment.
//!
//! The public surface is [`run`].

mod background;
mod cache;
mod cli;
mod commands;
mod config;
mod context;
mod control;
mod daemon;
mod doctor;
mod env;
mod exclude;
mod explain;
mod limits;
mod lock;
mod log;
mod look;
mod memory;
mod mount_helper;
mod mounts;
mod notify;
mod output;
mod paths;
mod process;
mod progress;
mod refusal;
mod retire;
mod search;
mod targets;
mod verify;
mod wiring;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use indicatif::MultiProgress;
use musicfs_core::SystemClock;

use cli::Cli;
use context::{Context, Outcome, Usage};
use env::Env;
use output::{ColorChoice, Output};

/// Exit code of a command that failed.
const FAILED: u8 = 1;
/// Exit code of a command line that cannot be right.
const USAGE: u8 = 2;
/// Exit code of a command that did a part of its work.
const PARTLY: u8 = 3;

/// Runs the program with the arguments given, its own name first, and returns its exit code.
///
/// Called by the name `mount.musicfs`, it follows the calling convention of `mount(8)`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let clock = Arc::new(SystemClock::new());
    let env = Env::system();
    let mut args: Vec<OsString> = args.into_iter().collect();
    if mount_helper::is_called(args.first()) {
        match mount_helper::parse(args.drain(1..)) {
            Ok(mount_helper::Request::Run(run)) => args = run,
            Ok(mount_helper::Request::Pretend) => return ExitCode::SUCCESS,
            Err(message) => {
                Output::new(ColorChoice::Auto, false, &env).error(&Usage(message).into());
                return ExitCode::from(USAGE);
            }
        }
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == clap::error::ErrorKind::InvalidUtf8 => {
            Output::new(ColorChoice::Auto, false, &env).error(&not_utf8(&args).into());
            return ExitCode::from(USAGE);
        }
        Err(error) => {
            // Help and version come this way as well. A reader that went away is no error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let output = Output::new(cli.global.color, cli.global.quiet, &env);
    let cx = Context { args, global: cli.global, env, output, bars: MultiProgress::new(), clock };
    match commands::run(&cx, &cli.command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partly) => ExitCode::from(PARTLY),
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Err(error) => {
            cx.output.error(&error);
            ExitCode::from(if error.is::<Usage>() { USAGE } else { FAILED })
        }
    }
}

/// Makes the error of an argument that has to be text and is not. The parser does not tell which it is.
fn not_utf8(args: &[OsString]) -> Usage {
    let wrong: Vec<String> =
        args.iter().filter(|arg| arg.to_str().is_none()).map(|arg| format!("{arg:?}")).collect();
    Usage(format!(
        "{} is not UTF-8; only paths, and what is searched for, may be anything",
        wrong.join(" or ")
    ))
}
