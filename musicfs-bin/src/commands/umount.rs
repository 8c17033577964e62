//! `musicfs umount`: asks the daemon to end, and waits until it has. Clears a mount whose daemon is dead. Touches
//! nothing that is not ours.

use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};
use musicfs_core::Clock;
use musicfs_fuse::{MountState, Os, Rediscovered, clear_dead_mount, clear_handles, mount_state, rediscover};

use crate::cli::UmountArgs;
use crate::context::{Context, Outcome, small_runtime};
use crate::control;
use crate::control::client::{Client, ClientError};
use crate::daemon::{self, FS_NAME, shell_quoted};
use crate::process;

/// Time between two looks at whether the daemon has gone.
const STEP: Duration = Duration::from_millis(20);
/// How long a daemon that closed the connection may take to be gone before it counts as one that cannot be asked.
const GOING: Duration = Duration::from_secs(3);

/// Unmounts.
pub(crate) fn run(cx: &Context, args: &UmountArgs) -> anyhow::Result<Outcome> {
    let os = Os::default();
    let mountpoint = cx.mountpoint(&args.mountpoint)?;
    let dir = daemon::mount_dir(&cx.runtime_dir(&args.place.flags())?, &mountpoint);
    let Rediscovered { handles, state, problem } = rediscover(&os, &dir, &mountpoint, FS_NAME)?;
    if let Some(problem) = problem {
        cx.output.warn(daemon::chain(&problem));
    }
    let shown = mountpoint.display();
    match state {
        MountState::NotMounted => {
            // It may have been unmounted by other means while its daemon was dying.
            let running = handles.as_ref().is_some_and(|h| process::is_running(h.pid, h.pid_start));
            if handles.is_some() && !running {
                clear_handles(&dir)?;
                control::remove_mount_dir(&dir);
            }
            bail!("nothing is mounted at {shown}; list the mounts with: musicfs mounts")
        }
        MountState::Foreign => {
            bail!(
                "what is mounted at {shown} is not MusicFS; unmount it with: umount {}",
                quoted(&mountpoint)
            )
        }
        MountState::Dead { .. } => {
            clear_dead_mount(&os, &mountpoint, FS_NAME, handles.as_ref())?;
            clear_handles(&dir)?;
            control::remove_mount_dir(&dir);
            cx.output.note(format!("Cleared the mount at {shown}, whose daemon was gone."));
            Ok(Outcome::Done)
        }
        MountState::Alive { pid, .. } => {
            let socket = handles.as_ref().and_then(|handles| handles.control_socket.clone());
            let client = Client::new(socket.unwrap_or_else(|| daemon::socket_in(&dir)));
            let pid = pid.or_else(|| handles.as_ref().map(|handles| handles.pid));
            small_runtime()?.block_on(stop(cx, args, &os, &mountpoint, &client, pid))?;
            cx.output.note(format!("Unmounted {shown}"));
            Ok(Outcome::Done)
        }
    }
}

fn quoted(path: &Path) -> String {
    shell_quoted(&path.display().to_string())
}

async fn stop(
    cx: &Context,
    args: &UmountArgs,
    os: &Os,
    mountpoint: &Path,
    client: &Client,
    pid: Option<u32>,
) -> anyhow::Result<()> {
    let who = pid.map_or_else(|| "its daemon".to_owned(), |pid| format!("its daemon, process {pid},"));
    let shown = mountpoint.display();
    let by_hand = format!("fusermount3 -u {}", quoted(mountpoint));
    let stopping = match client.stop().await {
        Ok(stopping) => stopping,
        Err(error @ ClientError::TimedOut { .. }) => {
            let kill = pid.map(|pid| format!("kill -9 {pid}, then ")).unwrap_or_default();
            return Err(anyhow!(error).context(format!(
                "{who} of {shown} hangs; end it with: {kill}musicfs umount {}",
                quoted(mountpoint)
            )));
        }
        // It may have ended before its answer was read, by this order or another.
        Err(_) if gone(cx, os, mountpoint, pid).await => return Ok(()),
        Err(error) => {
            return Err(anyhow!(error).context(format!(
                "{who} cannot be asked to unmount {shown}; it may have another --runtime-dir; by hand: {by_hand}"
            )));
        }
    };
    let started = process::start_ticks(stopping.pid);
    let clock = &cx.clock;
    let deadline = clock.now().plus(Duration::from_secs(args.timeout));
    loop {
        let running = started.is_some_and(|started| process::is_running(stopping.pid, started));
        let state = mount_state(os, mountpoint, FS_NAME, None)?;
        if !running && matches!(state, MountState::NotMounted | MountState::Foreign) {
            return Ok(());
        }
        if clock.now() >= deadline {
            bail!(
                "{shown} has not been unmounted within {} s: {}; it goes on trying for up to {} s",
                args.timeout,
                if state == MountState::NotMounted {
                    "its daemon is still ending"
                } else {
                    "programs still have files of it open"
                },
                stopping.limit_s
            );
        }
        clock.sleep_until(clock.now().plus(STEP)).await;
    }
}

/// Whether a mount whose daemon cannot be asked goes by itself within a moment.
async fn gone(cx: &Context, os: &Os, mountpoint: &Path, pid: Option<u32>) -> bool {
    let started = pid.and_then(process::start_ticks);
    let deadline = cx.clock.now().plus(GOING);
    loop {
        let running = pid.zip(started).is_some_and(|(pid, started)| process::is_running(pid, started));
        let state = mount_state(os, mountpoint, FS_NAME, None);
        if !running && matches!(state, Ok(MountState::NotMounted)) {
            return true;
        }
        if cx.clock.now() >= deadline {
            return false;
        }
        cx.clock.sleep_until(cx.clock.now().plus(STEP)).await;
    }
}
