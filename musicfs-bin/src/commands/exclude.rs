//! `musicfs exclude`: by the running daemon, or without one by this process.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::Context as _;
use musicfs_core::Clock;

use super::offline::without_daemon;
use super::scan;
use crate::cli::ExcludeArgs;
use crate::context::{Context, Outcome, small_runtime};
use crate::control::api::{ExcludeAction, ExcludeOrder, Exclusions};
use crate::control::client::Client;
use crate::control::percent;
use crate::refusal::taken;
use crate::{exclude, output};

/// Leaves files out of the tree, shows them again, or lists them.
pub(crate) fn run(cx: &Context, args: &ExcludeArgs) -> anyhow::Result<Outcome> {
    let action = match (args.list, args.remove) {
        (true, _) => ExcludeAction::List,
        (false, true) => ExcludeAction::Remove,
        (false, false) => ExcludeAction::Add,
    };
    let encoded = |path: &OsString| percent::encode(scan::name_of(cx, path).as_bytes());
    let order = ExcludeOrder { action, paths: args.paths.iter().map(encoded).collect() };
    let flags = args.settings.flags();
    let answer = match scan::daemon_of(cx, &flags, args.mount.as_deref())? {
        Some(client) => small_runtime()?.block_on(by_daemon(cx, &client, &order))?,
        None => {
            let config = Arc::new(cx.config(&flags)?);
            cx.quiet_log(&config);
            // What comes back is looked at by the next scan.
            without_daemon(cx, &config, async |engine| {
                let mountpoint = config.mountpoint.as_deref();
                let (scanner, db) = (&engine.scanner, engine.db.clone());
                let done = exclude::carry_out(scanner, db, config.clone(), mountpoint, order).await;
                done.map(|changed| changed.answer)
            })?
        }
    };
    if args.json {
        cx.output.json(&answer)?;
    } else {
        print(cx, action, &answer);
    }
    Ok(if answer.waits { Outcome::Partly } else { Outcome::Done })
}

async fn by_daemon(cx: &Context, client: &Client, order: &ExcludeOrder) -> anyhow::Result<Exclusions> {
    let answer = taken(client.exclude(order).await)?;
    if let Some(number) = answer.job {
        while !client.job(number).await.context("the daemon ended before the scan was done")?.done {
            cx.clock.sleep_until(cx.clock.now().plus(scan::STEP)).await;
        }
    }
    Ok(answer)
}

fn print(cx: &Context, action: ExcludeAction, answer: &Exclusions) {
    let out = &cx.output;
    if answer.waits {
        return out.line("That takes a while; the daemon goes on with it.");
    }
    let changed = output::count(answer.changed);
    match action {
        ExcludeAction::Add => out.note(format!("{changed} files left the tree.")),
        ExcludeAction::Remove => out.note(format!("{changed} files are in the tree again.")),
        ExcludeAction::List => {
            for one in &answer.excluded {
                let would_be = one.would_be.as_ref();
                let at = would_be.map_or_else(String::new, |at| format!(", such as {at}"));
                out.line(format!("{}:{}  {} files{at}", one.origin, one.path, output::count(one.files)));
            }
            out.note(format!(
                "{} files and directories are excluded.",
                output::count(answer.excluded.len() as u64)
            ));
        }
    }
}
