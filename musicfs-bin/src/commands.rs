//! The commands: each takes its arguments, does its work, and says how it ended.

mod cache;
mod completions;
mod config;
mod events;
mod exclude;
mod explain;
mod man;
mod mounts;
mod offline;
mod origin;
mod scan;
mod search;
mod status;
mod trash;
mod umount;

use crate::cli::Command;
use crate::context::{Context, Outcome};

/// Runs a command.
pub(crate) fn run(cx: &Context, command: &Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Mount(args) => crate::daemon::run(cx, args),
        Command::Umount(args) => umount::run(cx, args),
        Command::Mounts(args) => mounts::run(cx, args),
        Command::Status(args) => status::run(cx, args),
        Command::Scan(args) => scan::run(cx, args),
        Command::Trash(command) => trash::run(cx, command),
        Command::Exclude(args) => exclude::run(cx, args),
        Command::Search(args) => search::run(cx, args),
        Command::Events(args) => events::run(cx, args),
        Command::Origin(command) => origin::run(cx, command),
        Command::Explain(args) => explain::run(cx, args),
        Command::Cache(command) => cache::run(cx, command),
        Command::Config(command) => config::run(cx, command),
        Command::Doctor(args) => crate::doctor::run(cx, args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(cx, args),
    }
}
