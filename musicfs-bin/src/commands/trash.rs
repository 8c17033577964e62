//! `musicfs trash`: by the running daemon, or without one by this process, which then holds the cache directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::bail;
use musicfs_core::Clock;

use super::offline::without_daemon;
use super::scan;
use crate::cli::{TrashArgs, TrashCommand};
use crate::config::{Config, read_time};
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::api::{Trash, TrashAction, TrashOrder};
use crate::control::percent;
use crate::daemon;
use crate::output;
use crate::refusal::{Refusal, taken};

/// Lists, restores or purges.
pub(crate) fn run(cx: &Context, command: &TrashCommand) -> anyhow::Result<Outcome> {
    let (action, args) = match command {
        TrashCommand::List(args) => (TrashAction::List, args),
        TrashCommand::Restore(args) => (TrashAction::Restore, args),
        TrashCommand::Purge(args) => (TrashAction::Purge, &args.which),
    };
    let order = order(cx, action, args)?;
    if let TrashCommand::Purge(args) = command
        && !args.all
        && order == (TrashOrder { action, ..TrashOrder::default() })
    {
        let help =
            "forget which files? name them with --from, --path, --older-than or --newer-than, or say --all";
        return Err(Usage(help.into()).into());
    }
    let trash = match scan::daemon_of(cx, &args.settings.flags(), args.mount.as_deref())? {
        Some(client) => {
            let asked = small_runtime()?.block_on(client.trash(&order));
            taken(asked)?
        }
        None => {
            let config = cx.config(&args.settings.flags())?;
            cx.quiet_log(&config);
            by_this_process(cx, &config, &order)?
        }
    };
    if args.json {
        cx.output.json(&trash)?;
    } else {
        print(cx, action, &trash);
    }
    if let Some(path) = &args.path {
        let path = path.display();
        if trash.nowhere {
            bail!("nothing is at {path} of an origin, and nothing was; the path is the one in the origin");
        }
        let nothing = trash.files.is_empty() && trash.not_cached == 0 && !trash.waits;
        if nothing && action != TrashAction::List {
            bail!("nothing that is gone was at {path}; see: musicfs trash list");
        }
    }
    Ok(match (trash.waits, trash.not_cached) {
        (false, 0) => Outcome::Done,
        (false, _) if trash.files.is_empty() => Outcome::Failed,
        _ => Outcome::Partly,
    })
}

fn order(cx: &Context, action: TrashAction, args: &TrashArgs) -> anyhow::Result<TrashOrder> {
    let time = |flag: &str, value: &Option<std::ffi::OsString>| -> anyhow::Result<Option<u64>> {
        let read = |value: &OsStr| read_time(value).map_err(|why| Usage(format!("{flag}: {why}")));
        let time: Option<Duration> = value.as_deref().map(read).transpose()?;
        Ok(time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    };
    Ok(TrashOrder {
        action,
        origin: args.from.as_deref().map(|name| scan::text_of(cx, name.as_ref())),
        path: args.path.as_ref().map(|path| percent::encode(path.as_os_str().as_bytes())),
        older_than_ms: time("--older-than", &args.older_than)?,
        newer_than_ms: time("--newer-than", &args.newer_than)?,
    })
}

fn by_this_process(cx: &Context, config: &Config, order: &TrashOrder) -> anyhow::Result<Trash> {
    let filter = daemon::filter_of(config, order).map_err(Refusal::into_error)?;
    without_daemon(cx, config, async |engine| {
        daemon::act_on_trash(&engine.scanner, config, order.action, filter).await
    })
}

fn print(cx: &Context, action: TrashAction, trash: &Trash) {
    let out = &cx.output;
    if trash.waits {
        return out.line("A scan is under way; it will be done when that has ended.");
    }
    let now = cx.clock.unix().parts().0;
    for file in &trash.files {
        let age = output::duration(Duration::from_secs(u64::try_from(now - file.missing_since).unwrap_or(0)));
        let how = match (&file.shown_at, file.cached) {
            (Some(at), _) => format!("listed as {at}"),
            (None, true) => "cached".to_owned(),
            (None, false) => "not cached".to_owned(),
        };
        let size = output::size(file.size);
        out.line(format!("{}:{}  {size}  gone for {age}, {how}", file.origin, file.path));
    }
    let files = output::count(trash.files.len() as u64);
    out.note(match action {
        TrashAction::List => format!("{files} files are gone from their origins."),
        TrashAction::Restore => format!("{files} files are listed again."),
        TrashAction::Purge => format!("{files} files were forgotten."),
    });
    if trash.not_cached > 0 {
        let left = output::count(trash.not_cached as u64);
        out.warn(format!(
            "{left} files are not cached whole; they are listed again when their origin has them"
        ));
    }
}
