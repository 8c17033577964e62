//! Whether a mount is alive: one function decides it, and everything uses that.
//!
//! It reads the table of mounts, the processes and their open devices, and never touches the mount itself: a mount
//! whose daemon hangs would hang whoever asks. When it cannot tell, a mount counts as alive, since clearing a
//! living one takes the music from under a player.

use std::io;
use std::path::{Path, PathBuf};

use crate::os::Server;
use crate::session::{DetachError, detach};
use crate::{MountHandles, Os};

/// How a mount point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountState {
    /// Nothing is mounted there.
    NotMounted,
    /// A mount of ours that is served.
    Alive {
        /// The process that serves it, where that can be told.
        pid: Option<u32>,
        /// Its connection.
        connection: Option<u32>,
    },
    /// A mount of ours whose daemon is gone: every access fails.
    Dead {
        /// Its connection.
        connection: Option<u32>,
    },
    /// Something else is mounted there.
    Foreign,
}

/// Why the state of a mount could not be found out or changed.
#[derive(Debug, thiserror::Error)]
pub enum LivenessError {
    /// The table of mounts cannot be read.
    #[error("the table of mounts cannot be read")]
    Table(#[source] io::Error),
    /// The mount is alive, and is left alone.
    #[error("{at} is a mount that is alive; unmount it with: musicfs umount {at}", at = mountpoint.display())]
    Alive {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// Something else is mounted there, and is left alone.
    #[error("something that is not MusicFS is mounted at {}; choose another directory", mountpoint.display())]
    Foreign {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The dead mount could not be unmounted.
    #[error("the dead mount at {at} could not be cleared; try: fusermount3 -uz {at}", at = mountpoint.display())]
    Detach {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: DetachError,
    },
}

/// Whether there was something to clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Nothing was mounted.
    Nothing,
    /// This many dead mounts were unmounted.
    Unmounted(usize),
}

/// Decides how a mount point is.
///
/// `handles` are those that were recorded for it, when there are some: with them it can be told where the kernel
/// does not say who serves a connection.
///
/// # Errors
/// [`LivenessError::Table`].
pub fn mount_state(
    os: &Os,
    mountpoint: &Path,
    fs_name: &str,
    handles: Option<&MountHandles>,
) -> Result<MountState, LivenessError> {
    let table = os.mount_table().map_err(LivenessError::Table)?;
    let Some(entry) = table.top(mountpoint) else { return Ok(MountState::NotMounted) };
    if !entry.is_ours(fs_name) {
        return Ok(MountState::Foreign);
    }
    let connection = entry.connection();
    let served = connection.map_or(Server::Unknown, |number| os.server_of(number, entry.user_id()));
    if let Server::Process(pid) = served {
        return Ok(MountState::Alive { pid: Some(pid), connection });
    }
    // What was recorded counts only when it is of this very mount.
    let recorded = handles.filter(|h| h.connection.is_none() || h.connection == connection);
    let recorded = recorded.filter(|h| h.mountpoint == mountpoint);
    let running = recorded.map(|h| os.process_start(h.pid) == Some(h.pid_start));
    Ok(match (served, running) {
        (Server::Nobody, _) | (_, Some(false)) => MountState::Dead { connection },
        (_, Some(true)) => MountState::Alive { pid: recorded.map(|h| h.pid), connection },
        (_, None) => MountState::Alive { pid: None, connection },
    })
}

/// Unmounts what a daemon that died has left at exactly this path: nothing that is alive, nothing that is not ours.
///
/// # Errors
/// [`LivenessError`]; then nothing was changed but dead mounts above.
pub fn clear_dead_mount(
    os: &Os,
    mountpoint: &Path,
    fs_name: &str,
    handles: Option<&MountHandles>,
) -> Result<Cleared, LivenessError> {
    let mut cleared = 0;
    loop {
        match mount_state(os, mountpoint, fs_name, handles)? {
            MountState::NotMounted if cleared == 0 => return Ok(Cleared::Nothing),
            // What was covered is as it was before us.
            MountState::NotMounted | MountState::Foreign if cleared > 0 => {
                return Ok(Cleared::Unmounted(cleared));
            }
            MountState::Alive { .. } => return Err(LivenessError::Alive { mountpoint: mountpoint.into() }),
            MountState::Foreign | MountState::NotMounted => {
                return Err(LivenessError::Foreign { mountpoint: mountpoint.into() });
            }
            MountState::Dead { .. } => {
                detach(mountpoint)
                    .map_err(|source| LivenessError::Detach { mountpoint: mountpoint.into(), source })?;
                cleared += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::tests::FakeOs;

    const OURS: &str = "fuse.musicfs musicfs";

    fn handles(pid: u32, pid_start: u64, connection: u32) -> MountHandles {
        MountHandles {
            pid,
            pid_start,
            connection: Some(connection),
            control_socket: None,
            mountpoint: "/mnt/music".into(),
            cache_dir: None,
        }
    }

    fn state(fake: &FakeOs, handles: Option<&MountHandles>) -> MountState {
        mount_state(&fake.os, Path::new("/mnt/music"), "musicfs", handles).unwrap()
    }

    #[test]
    fn mount_is_alive_as_long_as_somebody_serves_it() {
        let fake = FakeOs::new();
        assert_eq!(state(&fake, None), MountState::NotMounted);
        fake.mount("/mnt/music2", OURS, 41);
        assert_eq!(state(&fake, None), MountState::NotMounted);
        fake.mount("/mnt/music", OURS, 40);
        assert_eq!(state(&fake, None), MountState::Dead { connection: Some(40) });
        fake.process(10, 5, Some(40));
        assert_eq!(state(&fake, None), MountState::Alive { pid: Some(10), connection: Some(40) });
    }

    #[test]
    fn what_is_not_ours_is_foreign() {
        for what in ["tmpfs musicfs", "fuse.sshfs nas:/x", "fuseblk musicfs", "fuse musicfs2"] {
            let fake = FakeOs::new();
            fake.mount("/mnt/music", what, 40);
            assert_eq!(state(&fake, None), MountState::Foreign, "{what}");
            let cleared = clear_dead_mount(&fake.os, Path::new("/mnt/music"), "musicfs", None);
            assert!(matches!(cleared, Err(LivenessError::Foreign { .. })));
        }
    }

    #[test]
    fn recorded_process_decides_where_the_kernel_does_not_say() {
        let fake = FakeOs::new();
        fake.mount("/mnt/music", OURS, 40);
        fake.process(10, 5, Some(40));
        fake.without_connection(10);
        let alive = MountState::Alive { pid: Some(10), connection: Some(40) };
        assert_eq!(state(&fake, Some(&handles(10, 5, 40))), alive);
        // The number was given to another process.
        let dead = MountState::Dead { connection: Some(40) };
        assert_eq!(state(&fake, Some(&handles(10, 4, 40))), dead);
        assert_eq!(state(&fake, Some(&handles(9, 5, 40))), dead);
        // Nothing is known of this very mount: it is left alone.
        let unsure = MountState::Alive { pid: None, connection: Some(40) };
        assert_eq!(state(&fake, Some(&handles(10, 4, 39))), unsure);
        assert_eq!(state(&fake, None), unsure);
    }

    #[test]
    fn mount_whose_recorded_process_lives_on_without_it_is_dead() {
        let fake = FakeOs::new();
        fake.mount("/mnt/music", OURS, 40);
        fake.process(10, 5, None);
        assert_eq!(state(&fake, Some(&handles(10, 5, 40))), MountState::Dead { connection: Some(40) });
    }
}
