//! wip
mod cli;
mod config;
mod control;
mod background;
mod env;
mod explain;
mod mount_helper;
mod output;
mod limits;
mod lock;
mod log;
mod notify;
mod paths;
mod process;
mod progress;
/// x
pub fn run(_args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
