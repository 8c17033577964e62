//! `musicfs mounts`

use musicfs_fuse::{MountState, Os};
use serde::Serialize;

use crate::cli::MountsArgs;
use crate::context::{Context, Outcome};
use crate::daemon::state_word;
use crate::mounts;
use crate::output::Style;

#[derive(Serialize)]
struct Listed {
    mountpoint: String,
    /// `alive`, `dead` or `not mounted`.
    state: &'static str,
    pid: Option<u32>,
    connection: Option<u32>,
    cache_dir: Option<String>,
    control_socket: Option<String>,
}

#[derive(Serialize)]
struct List {
    mounts: Vec<Listed>,
    problems: Vec<String>,
}

/// Lists the mounts.
pub(crate) fn run(cx: &Context, args: &MountsArgs) -> anyhow::Result<Outcome> {
    let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
    let listed = |known: &mounts::Known| {
        let (pid, connection) = match known.state {
            MountState::Alive { pid, connection } => (pid, connection),
            MountState::Dead { connection } => (None, connection),
            MountState::NotMounted | MountState::Foreign => (None, None),
        };
        let handles = known.handles.as_ref();
        let path = |path: &std::path::PathBuf| path.display().to_string();
        Listed {
            mountpoint: path(&known.mountpoint),
            state: state_word(&known.state),
            pid,
            connection,
            cache_dir: handles.and_then(|handles| handles.cache_dir.as_ref().map(path)),
            control_socket: handles.and_then(|handles| handles.control_socket.as_ref().map(path)),
        }
    };
    let list = List { mounts: found.mounts.iter().map(listed).collect(), problems: found.problems };
    if args.json {
        cx.output.json(&list)?;
        return Ok(Outcome::Done);
    }
    if list.mounts.is_empty() {
        cx.output.note("Nothing is mounted.");
    }
    let dead = list.mounts.iter().any(|mount| mount.state == "dead");
    for mount in list.mounts {
        let style = if mount.state == "alive" { Style::Good } else { Style::Bad };
        let by = mount.pid.map(|pid| format!("  process {pid}")).unwrap_or_default();
        let cache = mount.cache_dir.map(|dir| format!("  cache {dir}")).unwrap_or_default();
        cx.output.line(format!("{}  {}{by}{cache}", mount.mountpoint, cx.output.paint(style, mount.state)));
    }
    if dead {
        cx.output.note("A dead mount is cleared by `musicfs umount`, or when it is mounted again.");
    }
    for problem in list.problems {
        cx.output.warn(problem);
    }
    Ok(Outcome::Done)
}
