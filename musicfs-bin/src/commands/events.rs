//! `musicfs events`

use std::io::Write;

use anyhow::Context as _;
use musicfs_core::{Event, EventKind};
use musicfs_fuse::Os;
use serde_json::Value;

use crate::cli::EventsArgs;
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::events::Filter;
use crate::control::follow::Follow;
use crate::{mounts, output};

/// Prints what happens until the daemon ends, the limit is reached, or nobody reads any more.
pub(crate) fn run(cx: &Context, args: &EventsArgs) -> anyhow::Result<Outcome> {
    Filter::of_listener(args.types.iter().map(String::as_str)).map_err(Usage)?;
    let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
    let named = args.mountpoint.as_deref().map(|path| cx.mountpoint(path)).transpose()?;
    let known = mounts::choose(found, named.as_deref())?;
    let listening = || cx.output.aside(format!("Listening to {}", known.mountpoint.display()));
    let mut left = args.limit.unwrap_or(u64::MAX);
    let each = |event: Value| {
        left -= 1;
        let line = if args.json { event.to_string() } else { describe(event) };
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        if written.is_err() || left == 0 { Follow::Enough } else { Follow::On }
    };
    let followed = small_runtime()?.block_on(known.client()?.follow(&args.types, listening, each));
    followed.with_context(|| format!("cannot follow the mount at {}", known.mountpoint.display()))?;
    Ok(Outcome::Done)
}

/// Says in a line what happened. What this version does not know is shown as it came.
fn describe(event: Value) -> String {
    let Ok(event) = serde_json::from_value::<Event>(event.clone()) else { return event.to_string() };
    let text = match &event.kind {
        EventKind::FileAdded { path, .. } | EventKind::FileRemoved { path, .. } => path.clone(),
        EventKind::FileModified { path, content: true, .. } => path.clone(),
        EventKind::FileModified { path, .. } => format!("{path} (not its content)"),
        EventKind::FileMoved { from, path, .. } => format!("{from} -> {path}"),
        EventKind::FileSuperseded { path, old, .. } => format!("{path} in place of {old}"),
        EventKind::OriginUp { origin }
        | EventKind::OriginAdded { origin }
        | EventKind::OriginRemoved { origin }
        | EventKind::SyncStarted { origin } => origin.to_string(),
        EventKind::OriginDown { origin, reason }
        | EventKind::SyncFailed { origin, reason }
        | EventKind::SyncHeld { origin, reason } => format!("{origin}: {reason}"),
        EventKind::OriginFailover { origin, to } => format!("{origin} -> {to}"),
        EventKind::SyncFinished { origin, listed, added, changed, missing, returned, complete } => {
            let part = if *complete { "" } else { ", not all of it" };
            format!(
                "{origin}: {listed} listed{part}, {added} added, {changed} changed, {missing} missing, \
                 {returned} back"
            )
        }
        EventKind::SyncVerified { origin, verified, differing, unread } => {
            format!("{origin}: {verified} as known, {differing} different, {unread} not read")
        }
        EventKind::CacheEvicted { chunks, bytes } => format!("{chunks} chunks, {}", output::size(*bytes)),
        EventKind::CacheCorrupt { chunk } => chunk.clone(),
        EventKind::CacheMismatch { origin, path, .. } => format!("{origin}:{path}"),
        EventKind::CacheUnavailable { reason } => reason.clone(),
        EventKind::StateChanged { from, to } => format!("{} -> {}", word(from), word(to)),
        EventKind::Lagged { missed } => format!("{missed} events were missed"),
        _ => String::new(),
    };
    let (secs, _) = event.at.parts();
    // A name may hold a line break, which must not make a line of its own.
    let text = text.replace(char::is_control, "\u{fffd}");
    format!("{}  {:<16}  {text}", output::timestamp(secs), event.kind.name()).trim_end().to_owned()
}

fn word(state: &musicfs_core::ServiceState) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_reads_as_one_line_and_an_unknown_one_as_it_came() {
        let event = serde_json::json!({"seq": 1, "at": 0, "type": "file_moved", "id": 1, "from": "a\nb", "path": "c"});
        assert_eq!(describe(event), "1970-01-01T00:00:00Z  file_moved        a\u{fffd}b -> c");
        let event = serde_json::json!({"seq": 1, "at": 0, "type": "cache_available"});
        assert_eq!(describe(event), "1970-01-01T00:00:00Z  cache_available");
        let event = serde_json::json!({"seq": 1, "at": 0, "type": "of_tomorrow"});
        assert!(describe(event).contains("of_tomorrow"));
    }
}
