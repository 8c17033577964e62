//! Directories, mounts and origins.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use musicfs_fuse::{MountState, Os, clear_dead_mount, clear_handles};
use musicfs_sync::WatchState;
use nix::unistd::{AccessFlags, access};

use super::Finding;
use crate::config::{Config, NamedOrigin, keys};
use crate::context::{Context, small_runtime};
use crate::control;
use crate::control::api::{OriginState, OriginStatus, Status};
use crate::daemon::{FS_NAME, chain};
use crate::look::{self, Look};
use crate::mounts::Known;
use crate::{mounts, output, process, wiring};

/// Free space below which a catalogue can soon not grow.
const LOW_SPACE: u64 = 1 << 30;
/// Free space below which it cannot be written safely.
const NO_SPACE: u64 = 100 << 20;

/// Checks that MusicFS's own directories can be written, by the user alone, and that there is room.
pub(super) fn directories(config: &Config) -> Vec<Finding> {
    let dirs = [
        (keys::CACHE_DIR, &config.cache_dir),
        (keys::STATE_DIR, &config.state_dir),
        (keys::RUNTIME_DIR, &config.runtime_dir),
    ];
    dirs.into_iter().map(|(key, dir)| directory(key, dir)).collect()
}

pub(super) fn directory(key: &str, dir: &Path) -> Finding {
    let shown = dir.display();
    let Some(existing) = dir.ancestors().find(|ancestor| ancestor.exists()) else {
        return Finding::fail(key, format!("{shown} cannot be made"), format!("choose another {key}"));
    };
    if !existing.is_dir() {
        let message = format!("{} is not a directory", existing.display());
        return Finding::fail(key, message, format!("choose another {key}"));
    }
    if access(existing, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Finding::fail(
            key,
            format!("{} cannot be written by this user", existing.display()),
            format!("choose another {key}, or give this user the right to write there"),
        );
    }
    let free = nix::sys::statvfs::statvfs(existing).map(|fs| fs.blocks_available() * fs.fragment_size());
    let free = match free {
        Ok(free) => free,
        Err(error) => return Finding::warn(key, format!("{shown}: {error}"), "look at the disk"),
    };
    // Scratch files are a few hundred bytes, often in memory.
    let scratch = key == keys::RUNTIME_DIR;
    let room = output::size(free);
    if free < NO_SPACE && !scratch {
        return Finding::fail(key, format!("{shown} has only {room} free"), "free some space on that disk");
    }
    if free < LOW_SPACE && !scratch {
        return Finding::warn(key, format!("{shown} has only {room} free"), "free some space on that disk");
    }
    if existing != dir {
        return Finding::ok(key, format!("{shown} will be made when needed; {room} free"));
    }
    let open_to_others = std::fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o022 != 0);
    if open_to_others {
        return Finding::warn(
            key,
            format!("{shown} can be written by other users, who could put a catalogue of theirs there"),
            format!("chmod go-w {shown}"),
        );
    }
    Finding::ok(key, format!("{shown}, {room} free"))
}

/// Checks the mounts, and clears what dead daemons left when `repair` says so.
pub(super) fn mounts(cx: &Context, os: &Os, config: &Config, repair: bool) -> Vec<Finding> {
    const CHECK: &str = "mounts";
    const REPAIR: &str = "musicfs doctor --repair clears it";
    let found = match mounts::find(os, &config.runtime_dir, cx.env.uid) {
        Ok(found) => found,
        Err(error) => {
            return vec![Finding::fail(CHECK, format!("{error:#}"), "look at the runtime directory")];
        }
    };
    let mut findings = Vec::new();
    for known in found.mounts {
        let shown = known.mountpoint.display();
        let gone = known.handles.as_ref().is_none_or(|h| !process::is_running(h.pid, h.pid_start));
        let scratch = |message: String| {
            let cleared = known.dir.as_deref().map(|dir| {
                clear_handles(dir)?;
                control::remove_mount_dir(dir);
                Ok::<_, musicfs_fuse::HandlesError>(())
            });
            match cleared {
                Some(Err(error)) => Finding::fail(CHECK, chain(&error), "remove it by hand"),
                Some(Ok(())) | None => Finding::ok(CHECK, message),
            }
        };
        findings.push(match known.state {
            MountState::Alive { .. } => alive(&known),
            MountState::Dead { .. } if !known.is_meant() => Finding::warn(
                CHECK,
                format!("{shown} is dead; it was made with another runtime directory"),
                format!("musicfs umount {shown}"),
            ),
            MountState::Dead { .. } if repair => {
                match clear_dead_mount(os, &known.mountpoint, FS_NAME, known.handles.as_ref()) {
                    Ok(_) => scratch(format!("the dead mount at {shown} has been cleared")),
                    Err(error) => Finding::fail(CHECK, chain(&error), format!("fusermount3 -uz {shown}")),
                }
            }
            MountState::Dead { .. } => {
                Finding::fail(CHECK, format!("{shown} is dead: its daemon has gone"), REPAIR)
            }
            MountState::NotMounted | MountState::Foreign if gone && repair => {
                scratch(format!("what an ended daemon of {shown} had left has been removed"))
            }
            MountState::NotMounted | MountState::Foreign if gone => Finding::warn(
                CHECK,
                format!("a daemon of {shown} that has ended left its scratch files"),
                REPAIR,
            ),
            MountState::NotMounted | MountState::Foreign => Finding::warn(
                CHECK,
                format!("the daemon of {shown} runs, and the mount is gone; it is ending, or hangs"),
                "wait; if it stays, kill it",
            ),
        });
    }
    for problem in found.problems {
        findings.push(Finding::warn(CHECK, problem, "remove the file"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "nothing is mounted"));
    }
    findings
}

/// Asks the daemon of a mount that is alive how it is.
fn alive(known: &Known) -> Finding {
    let shown = known.mountpoint.display();
    let asked = known.client().and_then(|client| Ok(small_runtime()?.block_on(client.status(false))?));
    let status = match asked {
        Ok(status) => status,
        Err(error) => {
            return Finding::warn("mounts", format!("{shown} is alive, and {error:#}"), "ask as its user");
        }
    };
    let wrong = |origin: &OriginStatus| {
        let reason = origin.reason.as_deref().unwrap_or("no reason given");
        (origin.state != OriginState::Ok && origin.reason.is_some())
            .then(|| format!("{}: {reason}", origin.id))
    };
    let wrong: Vec<String> = status.origins.iter().filter_map(wrong).collect();
    let message = format!("{shown} is alive and {}", status.state.as_str());
    if wrong.is_empty() {
        return watching(&status, message);
    }
    let advice = "look at those servers and disks; what is cached stays readable";
    Finding::warn("mounts", format!("{message}\n{}", wrong.join("\n")), advice)
}

/// Says whether a living mount sees all that changes.
fn watching(status: &Status, message: String) -> Finding {
    let few = status.origins.iter().filter(|origin| matches!(origin.watch, Some(WatchState::Partly { .. })));
    let few: Vec<&str> = few.map(|origin| origin.id.as_str()).collect();
    if few.is_empty() {
        return Finding::ok("mounts", message);
    }
    Finding::warn(
        "mounts",
        format!("{message}; not all directories of {} can be watched, they are polled", few.join(", ")),
        "as root: sysctl fs.inotify.max_user_watches=1048576",
    )
}

/// Checks that the origins answer, each within a limit.
pub(super) fn origins(cx: &Context, config: &Config) -> Vec<Finding> {
    let finding = |named: &NamedOrigin| {
        let name = format!("origin {}", named.id());
        let look = wiring::build_origin(named, &cx.env, &cx.clock)
            .and_then(|built| Ok(small_runtime()?.block_on(look::at(named, &built))));
        let place = named.place();
        match look {
            Ok(Look::There) => Finding::ok(name, place),
            Ok(Look::Wrong(message)) => Finding::fail(
                name,
                format!("{place}: {message}"),
                "look at the configuration, the disk or the server",
            ),
            Ok(Look::Silent(message)) => Finding::fail(
                name,
                format!("{place}: {message}"),
                "look at the server or the network; what is cached stays readable",
            ),
            Err(error) => {
                Finding::fail(name, format!("{error:#}"), "correct the origin in the configuration")
            }
        }
    };
    config.origins.iter().map(finding).collect()
}
