//! `musicfs man`

use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory};

use crate::cli::{Cli, ManArgs};
use crate::context::{Context, Outcome};

/// Prints the page of the program, or writes the pages of all commands.
pub(crate) fn run(cx: &Context, args: &ManArgs) -> anyhow::Result<Outcome> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => crate::output::raw(&render(&command)?),
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let mut pages = Vec::new();
            write(&command, dir, &mut pages)?;
            cx.output.note(format!("{} pages written to {}", pages.len(), dir.display()));
        }
    }
    Ok(Outcome::Done)
}

fn render(command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

fn write(command: &Command, dir: &Path, pages: &mut Vec<String>) -> anyhow::Result<()> {
    // Building has given each its full name: musicfs-config-check.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let page = format!("{name}.1");
    let path = dir.join(&page);
    std::fs::write(&path, render(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    pages.push(page);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        write(sub, dir, pages)?;
    }
    Ok(())
}
