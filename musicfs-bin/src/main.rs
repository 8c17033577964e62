//! The `musicfs` binary: a stub over its library half.

use std::process::ExitCode;

fn main() -> ExitCode {
    musicfs_bin::run(std::env::args_os())
}
