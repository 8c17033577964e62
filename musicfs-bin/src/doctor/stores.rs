//! The stores. One that a daemon uses is asked for through the daemon, and never opened beside it.

use musicfs_core::{Clock, MetaDb, SystemClock};
use musicfs_sync::{Database, DatabaseError, Library};

use super::Finding;
use crate::config::Config;
use crate::context::{Context, small_runtime};
use crate::control::client::Client;
use crate::daemon::{self, chain};
use crate::lock::{self, CacheLock, Holder, LockError};
use crate::{output, wiring};

const CATALOGUE: &str = "catalogue";
const LIBRARY: &str = "library";

/// Checks the catalogue and the library, and rebuilds or restores what is damaged when `repair` says so.
pub(super) fn findings(cx: &Context, config: &Config, repair: bool) -> Vec<Finding> {
    if let Some(holder) = lock::holder(&config.cache_dir) {
        return vec![in_use(config, &holder)];
    }
    if !config.cache_dir.exists() {
        let none = "none yet; the first mount makes it";
        return vec![Finding::ok(CATALOGUE, none), library(config, repair, &cx.clock)];
    }
    let this = Holder::this(None, cx.clock.unix().parts().0);
    match CacheLock::acquire(&config.cache_dir, &this) {
        Ok(_lock) => {
            let catalogue = catalogue(config, repair, &cx.clock);
            vec![catalogue, library(config, repair, &cx.clock)]
        }
        Err(error @ LockError::Held { .. }) => {
            vec![Finding::warn(CATALOGUE, error.to_string(), "check again when it has ended")]
        }
        Err(error) => vec![Finding::fail(CATALOGUE, chain(&error), "choose another cache_dir")],
    }
}

/// Asks the daemon that uses the stores.
fn in_use(config: &Config, holder: &Holder) -> Finding {
    let Some(mountpoint) = &holder.mountpoint else {
        return Finding::ok(CATALOGUE, format!("in use by {holder}"));
    };
    let dir = daemon::mount_dir(&config.runtime_dir, mountpoint);
    let client = Client::new(daemon::socket_in(&dir));
    match small_runtime().map(|runtime| runtime.block_on(client.health())) {
        Ok(Ok(health)) if health.ok => Finding::ok(CATALOGUE, format!("in use by {holder}, and well")),
        Ok(Ok(health)) => Finding::fail(
            CATALOGUE,
            format!("in use by {holder}, and not well: {}", health.problems.join("; ")),
            format!("unmount and mount again: musicfs umount {}", mountpoint.display()),
        ),
        Ok(Err(error)) if error.is_gone() => {
            let message = format!("in use by {holder}, which does not listen in this runtime directory");
            Finding::warn(CATALOGUE, message, "ask with the --runtime-dir that it was mounted with")
        }
        Ok(Err(error)) => Finding::fail(CATALOGUE, chain(&error), format!("kill -9 {}", holder.pid)),
        Err(error) => Finding::warn(CATALOGUE, error.to_string(), "check again"),
    }
}

pub(super) fn catalogue(config: &Config, repair: bool, clock: &SystemClock) -> Finding {
    let path = wiring::catalogue_path(config);
    if !path.exists() {
        return Finding::ok(CATALOGUE, "none yet; the first mount makes it");
    }
    match Database::open_with_integrity_check(&path) {
        Ok(db) => match db.totals() {
            Ok(totals) => Finding::ok(CATALOGUE, format!("sound; {} tracks", output::count(totals.tracks))),
            Err(error) => Finding::fail(CATALOGUE, chain(&error), "musicfs doctor --repair rebuilds it"),
        },
        Err(error @ DatabaseError::Corrupt { .. }) if repair => match rebuild(config, clock) {
            Ok(message) => Finding::ok(CATALOGUE, message),
            Err(failed) => {
                Finding::fail(CATALOGUE, format!("{}; {}", chain(&error), chain(&failed)), "move it away")
            }
        },
        Err(error @ DatabaseError::Corrupt { .. }) => Finding::fail(
            CATALOGUE,
            chain(&error),
            "the next mount puts it away and scans anew, and so does musicfs doctor --repair; nothing of yours is in it",
        ),
        Err(error) => {
            Finding::fail(CATALOGUE, chain(&error), "look at the disk, or choose another cache_dir")
        }
    }
}

fn rebuild(config: &Config, clock: &SystemClock) -> Result<String, DatabaseError> {
    let path = wiring::catalogue_path(config);
    let (_, moved) = Database::open_or_rebuild(&path, clock)?;
    Ok(match moved {
        Some(moved) => {
            format!("was damaged; put away as {}; the next scan fills a new one", moved.display())
        }
        None => "was damaged when it was looked at, and is sound now".to_owned(),
    })
}

pub(super) fn library(config: &Config, repair: bool, clock: &SystemClock) -> Finding {
    let path = wiring::library_path(config);
    match Library::check(&path) {
        Ok(true) => Finding::ok(LIBRARY, "sound"),
        Ok(false) => Finding::ok(LIBRARY, "none yet; the first mount makes it"),
        Err(DatabaseError::Corrupt { .. }) if repair => match Library::open(&path, clock) {
            Ok((_, Some(restored))) => Finding::warn(
                LIBRARY,
                match restored.from {
                    Some(from) => format!("was DAMAGED, and has been restored from {}", from.display()),
                    None => "was DAMAGED, and begins anew: there was no sound backup".to_owned(),
                },
                restored.quarantined.map_or_else(
                    || "nothing was left of the damaged one".to_owned(),
                    |moved| format!("the damaged one was kept as {}", moved.display()),
                ),
            ),
            Ok((_, None)) => Finding::ok(LIBRARY, "sound now"),
            Err(error) => {
                Finding::fail(LIBRARY, chain(&error), "look at the disk, or choose another state_dir")
            }
        },
        Err(error @ DatabaseError::Corrupt { .. }) => Finding::fail(
            LIBRARY,
            chain(&error),
            "the next mount restores it from its last backup, and so does musicfs doctor --repair",
        ),
        Err(error) => Finding::fail(LIBRARY, chain(&error), "look at the disk, or choose another state_dir"),
    }
}
