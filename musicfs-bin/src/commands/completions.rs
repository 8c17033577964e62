//! `musicfs completions SHELL`

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::context::Outcome;

/// Prints completions for a shell.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    // Made in memory: the generator panics when its reader goes away.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "musicfs", &mut text);
    crate::output::raw(&text);
    Ok(Outcome::Done)
}
