//! `musicfs status`

use std::time::Duration;

use anyhow::Context as _;
use musicfs_fuse::Os;
use musicfs_sync::{SearchPhase, SearchStatus, WatchState};

use crate::cli::StatusArgs;
use crate::context::{Context, Outcome, small_runtime};
use crate::control::api::{MountPhase, OriginState, Status};
use crate::mounts::{self, Known};
use crate::output::{self, Style};
use crate::progress;

/// Shows one mount, or each in short when there are several and none is named.
pub(crate) fn run(cx: &Context, args: &StatusArgs) -> anyhow::Result<Outcome> {
    let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
    let meant = |known: &&Known| known.is_alive() && known.is_meant();
    let alive = found.mounts.iter().filter(meant).count();
    if args.mountpoint.is_none() && alive > 1 {
        return several(cx, args, found.mounts.iter().filter(meant));
    }
    let named = args.mountpoint.as_deref().map(|path| cx.mountpoint(path)).transpose()?;
    let known = mounts::choose(found, named.as_deref())?;
    if !known.is_alive() {
        anyhow::bail!(
            "the mount at {} is {}; clear it with: musicfs umount {}",
            known.mountpoint.display(),
            crate::daemon::state_word(&known.state),
            crate::daemon::shell_quoted(&known.mountpoint.display().to_string())
        );
    }
    let status = ask(&known, args.problems)?;
    if args.json {
        cx.output.json(&status)?;
    } else {
        print(cx, &status, args.problems);
    }
    Ok(if status.health.ok { Outcome::Done } else { Outcome::Partly })
}

fn ask(known: &Known, all_problems: bool) -> anyhow::Result<Status> {
    let client = known.client()?;
    let asked = small_runtime()?.block_on(client.status(all_problems));
    asked.with_context(|| format!("cannot ask the daemon of {}", known.mountpoint.display()))
}

fn several<'a>(
    cx: &Context,
    args: &StatusArgs,
    mounts: impl Iterator<Item = &'a Known>,
) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    let mut outcome = Outcome::Done;
    for known in mounts {
        match ask(known, args.problems) {
            Ok(status) => statuses.push(status),
            Err(error) => {
                cx.output.error(&error);
                outcome = Outcome::Partly;
            }
        }
    }
    if args.json {
        cx.output.json(&statuses)?;
    } else {
        for (n, status) in statuses.iter().enumerate() {
            if n > 0 {
                cx.output.line("");
            }
            print(cx, status, args.problems);
        }
    }
    Ok(outcome)
}

fn print(cx: &Context, status: &Status, all_problems: bool) {
    let out = &cx.output;
    let style = match status.state {
        MountPhase::Ready => Style::Good,
        MountPhase::Degraded | MountPhase::Stopping => Style::Warn,
        MountPhase::Offline => Style::Bad,
    };
    let state = out.paint(style, status.state.as_str());
    out.line(format!("{}  {state}", out.paint(Style::Bold, &status.mountpoint)));
    let uptime = output::duration(Duration::from_secs(status.uptime_s));
    out.line(format!("  musicfs {}, process {}, up for {uptime}", status.version, status.pid));
    let totals = &status.totals;
    out.line(format!(
        "  {} tracks, {} files in {} directories, {}",
        output::count(totals.tracks),
        output::count(totals.files),
        output::count(totals.dirs),
        output::size(totals.bytes)
    ));
    for problem in &status.health.problems {
        out.line(format!("  {} {problem}", out.paint(Style::Bad, "not well:")));
    }
    for notice in &status.notices {
        out.line(format!("  {} {notice}", out.paint(Style::Warn, "note:")));
    }
    for task in status.tasks.iter().filter(|task| !task.well) {
        out.line(format!("  {} {}: {}", out.paint(Style::Bad, "task"), task.name, task.status));
    }
    out.line(out.paint(Style::Bold, "Origins"));
    for origin in &status.origins {
        let state = match origin.state {
            OriginState::Ok => out.paint(Style::Good, "ok"),
            OriginState::Unknown => out.paint(Style::Dim, "not asked yet"),
            OriginState::Degraded => {
                let why = origin.reason.as_deref().unwrap_or("no reason given");
                format!("{}: {why}", out.paint(Style::Warn, "degraded"))
            }
            OriginState::Unreachable => {
                let why = origin.reason.as_deref().unwrap_or("no reason given");
                format!("{}: {why}", out.paint(Style::Bad, "unreachable"))
            }
        };
        let how = match &origin.watch {
            Some(WatchState::Partly { folders }) => format!(
                "; the system lets only {} directories be watched (fs.inotify.max_user_watches); polled",
                output::count(*folders)
            ),
            Some(WatchState::Lost { reason }) => format!("; not watched ({reason}); polled"),
            Some(WatchState::Watching { .. }) => "; watched".to_owned(),
            Some(WatchState::Starting) | None => String::new(),
        };
        out.line(format!("  {}  {}  {state}{how}", origin.id, origin.path));
    }
    if let Some(cache) = &status.cache {
        out.line(out.paint(Style::Bold, "Cache"));
        let read = cache.from_cache + cache.from_origins;
        let share = (read > 0)
            .then(|| format!("; {} % of what was read came from it", cache.from_cache * 100 / read));
        let of = cache.room.map_or_else(String::new, |room| format!(" of {}", output::size(room)));
        let level = match cache.level.as_str() {
            "" | "normal" => String::new(),
            level => format!(", {}", out.paint(Style::Warn, level)),
        };
        let size = output::size(cache.size);
        out.line(format!("  {size}{of}{level}{}", share.unwrap_or_default()));
        if cache.mismatched > 0 {
            let files = output::count(cache.mismatched);
            let said = format!("{files} files were cached as they are not; they are fetched anew");
            out.line(format!("  {}", out.paint(Style::Warn, &said)));
        }
        if cache.passing_through {
            let why = "it cannot be used; reads go to the origins, and it is tried again every minute";
            out.line(format!("  {} {why}", out.paint(Style::Bad, "not well:")));
        }
    }
    out.line(out.paint(Style::Bold, "Scan"));
    out.line(format!("  {}", progress::describe(&status.scan)));
    for (origin, result) in &status.scan.last {
        out.line(format!("  last: {}", progress::summary(origin, result)));
    }
    if let Some(next) = status.scan.next_in_s {
        out.line(format!("  next in {}", output::duration(Duration::from_secs(next))));
    }
    out.line(out.paint(Style::Bold, "Search"));
    out.line(format!("  {}", search(&status.search)));
    if status.events_missed > 0 {
        out.line(out.paint(Style::Bold, "Events"));
        let missed = output::count(status.events_missed);
        out.line(format!("  {missed} missed by listeners that were too slow"));
    }
    if totals.problems > 0 {
        out.line(out.paint(Style::Bold, format!("Could not be parsed: {}", output::count(totals.problems))));
        for problem in &status.problems {
            out.line(format!("  {}:{}: {}", problem.origin, problem.path, problem.reason));
        }
        let more = totals.problems.saturating_sub(status.problems.len() as u64);
        if more > 0 && !all_problems {
            out.line(format!("  … and {} more: musicfs status --problems", output::count(more)));
        }
    }
}

fn search(search: &SearchStatus) -> String {
    match (search.phase, &search.reason) {
        (SearchPhase::Opening, _) => "being opened".to_owned(),
        (SearchPhase::Building, _) => format!("being built: {} files done", output::count(search.done)),
        (SearchPhase::Ready, _) => "up to date".to_owned(),
        (SearchPhase::Failed, reason) => {
            format!("not up to date: {}", reason.as_deref().unwrap_or("no reason given"))
        }
    }
}
