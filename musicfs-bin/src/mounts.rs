//! The mounts that this user can know of, found without touching any of them.
//!
//! A daemon's scratch file in the runtime directory names its mountpoint; the table of mounts names the rest:
//! mounts made with another runtime directory, or whose scratch file was lost.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use musicfs_fuse::{MountHandles, MountState, Os, Rediscovered, mount_state, read_handles, rediscover};

use crate::control::client::Client;
use crate::daemon::{self, FS_NAME, chain};

/// A mount.
#[derive(Debug)]
pub(crate) struct Known {
    /// Where.
    pub(crate) mountpoint: PathBuf,
    /// Its runtime directory; `None` when that is not in ours.
    pub(crate) dir: Option<PathBuf>,
    /// What its daemon wrote down, and what the system says of it now.
    pub(crate) handles: Option<MountHandles>,
    /// How it is.
    pub(crate) state: MountState,
}

impl Known {
    /// Returns a client of its daemon.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let written = self.handles.as_ref().and_then(|handles| handles.control_socket.clone());
        let socket = written.or_else(|| self.dir.as_deref().map(daemon::socket_in));
        socket.map(Client::new).ok_or_else(|| {
            anyhow!(
                "the mount at {} was made with another runtime directory; name that with --runtime-dir",
                self.mountpoint.display()
            )
        })
    }

    /// Tells whether a daemon serves it.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, MountState::Alive { .. })
    }

    /// Tells whether a command that names no mount may mean this one: mounts of another runtime directory are
    /// somebody's who keeps them apart.
    pub(crate) fn is_meant(&self) -> bool {
        self.dir.is_some()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The mounts, by mountpoint.
    pub(crate) mounts: Vec<Known>,
    /// What could not be read.
    pub(crate) problems: Vec<String>,
}

/// Finds the mounts of a runtime directory and of the table of mounts.
pub(crate) fn find(os: &Os, runtime_dir: &Path, uid: u32) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let dirs = match std::fs::read_dir(runtime_dir) {
        Ok(dirs) => dirs.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => bail!("cannot list the runtime directory {}: {error}", runtime_dir.display()),
    };
    for dir in dirs {
        match read_handles(&dir) {
            Ok(Some(written)) => {
                let mountpoint = written.mountpoint;
                let Rediscovered { handles, state, .. } = rediscover(os, &dir, &mountpoint, FS_NAME)?;
                found.mounts.push(Known { mountpoint, dir: Some(dir), handles, state });
            }
            Ok(None) => {}
            Err(error) => found.problems.push(chain(&error)),
        }
    }
    let table = os.mount_table()?;
    for entry in table.entries() {
        let mine = uid == 0 || entry.user_id() == Some(uid);
        let known = found.mounts.iter().any(|known| known.mountpoint == entry.mountpoint);
        if mine && !known && entry.is_ours(FS_NAME) {
            let state = mount_state(os, &entry.mountpoint, FS_NAME, None)?;
            // Something else may have been mounted over it, or it has gone since.
            if !matches!(state, MountState::Foreign | MountState::NotMounted) {
                let dir = Some(daemon::mount_dir(runtime_dir, &entry.mountpoint)).filter(|dir| dir.is_dir());
                found.mounts.push(Known { mountpoint: entry.mountpoint.clone(), dir, handles: None, state });
            }
        }
    }
    found.mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    Ok(found)
}

/// Returns the mount that a command means: the one named, or the only one that is alive.
pub(crate) fn choose(found: Found, named: Option<&Path>) -> anyhow::Result<Known> {
    if let Some(named) = named {
        return found.mounts.into_iter().find(|known| known.mountpoint == named).ok_or_else(|| {
            anyhow!("no mount of MusicFS is at {}; list them with: musicfs mounts", named.display())
        });
    }
    let meant = found.mounts.into_iter().filter(Known::is_meant);
    let (mut alive, rest): (Vec<_>, Vec<_>) = meant.partition(Known::is_alive);
    match alive.len() {
        1 => Ok(alive.remove(0)),
        0 if rest.is_empty() => {
            Err(anyhow!("nothing is mounted; mount with: musicfs mount --origin PATH|URL MOUNTPOINT"))
        }
        0 => Err(anyhow!("no mount is alive; list them with: musicfs mounts")),
        _ => {
            let list: Vec<String> =
                alive.iter().map(|known| format!("  {}", known.mountpoint.display())).collect();
            Err(anyhow!("there are several mounts; name the one that you mean:\n{}", list.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /mnt/a rw - fuse.musicfs musicfs ro,user_id=1000
31 22 0:41 / /mnt/b rw - fuse.musicfs musicfs ro,user_id=1001
32 22 0:42 / /mnt/c rw - fuse.sshfs nas:/ ro,user_id=1000
";

    fn os(dir: &Path) -> Os {
        std::fs::create_dir_all(dir.join("proc/self")).unwrap();
        std::fs::write(dir.join("proc/self/mountinfo"), TABLE).unwrap();
        Os { proc: dir.join("proc"), connections: dir.join("connections") }
    }

    fn points(found: &Found) -> Vec<&str> {
        found.mounts.iter().map(|known| known.mountpoint.to_str().unwrap()).collect()
    }

    #[test]
    fn mounts_of_the_table_are_found_and_others_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let os = os(dir.path());
        let runtime = dir.path().join("run");
        assert_eq!(points(&find(&os, &runtime, 1000).unwrap()), ["/mnt/a"]);
        assert_eq!(points(&find(&os, &runtime, 0).unwrap()), ["/mnt/a", "/mnt/b"]);
    }

    #[test]
    fn scratch_files_name_mounts_and_damaged_ones_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let os = os(dir.path());
        let runtime = dir.path().join("run");
        for name in ["x", "y"] {
            std::fs::create_dir_all(runtime.join(name)).unwrap();
        }
        let handles = MountHandles::of_this_process(&os, Path::new("/mnt/gone"));
        musicfs_fuse::write_handles(&runtime.join("x"), &handles).unwrap();
        std::fs::write(musicfs_fuse::handles_path(&runtime.join("y")), "{").unwrap();
        let found = find(&os, &runtime, 1000).unwrap();
        assert_eq!(points(&found), ["/mnt/a", "/mnt/gone"]);
        assert_eq!(found.mounts[1].state, MountState::NotMounted);
        assert_eq!(found.problems.len(), 1);
        let missing = choose(found, Some(Path::new("/mnt/none"))).unwrap_err().to_string();
        assert!(missing.contains("/mnt/none"), "{missing}");
    }
}
