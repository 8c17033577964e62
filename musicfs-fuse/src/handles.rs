//! What is true of a mount at this moment, and of nothing else: the daemon's process, the kernel's connection.
//!
//! None of it goes into a database. It is held in memory ([`HandleCache`]) and in a scratch file of the mount's
//! runtime directory, `handles.json`, which only says what a daemon that died still owes a teardown on. What the
//! operating system says goes before what the file says ([`rediscover`]).
//!
//! The file is replaced whole by renaming; it is not synced, as it means nothing after a reboot.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::{LivenessError, MountState, Os, mount_state};

/// Name of the scratch file.
const FILE: &str = "handles.json";

/// The momentary handles of one mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountHandles {
    /// The daemon's process.
    pub pid: u32,
    /// When that process started, by which it is told from a later one of the same number. See
    /// [`Os::process_start`].
    pub pid_start: u64,
    /// Number of the FUSE connection.
    pub connection: Option<u32>,
    /// The daemon's control socket.
    #[serde(with = "optional_path")]
    pub control_socket: Option<PathBuf>,
    /// Where it is mounted.
    #[serde(with = "path")]
    pub mountpoint: PathBuf,
    /// The cache directory that the daemon has locked.
    #[serde(default, with = "optional_path")]
    pub cache_dir: Option<PathBuf>,
}

impl MountHandles {
    /// Makes the handles of a mount that this process serves.
    pub fn of_this_process(os: &Os, mountpoint: &Path) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            pid_start: os.process_start(pid).unwrap_or(0),
            connection: None,
            control_socket: None,
            mountpoint: mountpoint.to_path_buf(),
            cache_dir: None,
        }
    }
}

/// Why the scratch file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HandlesError {
    /// It could not be read, written or removed.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not what was written. Nothing depends on it; it may be removed.
    #[error("{} is damaged; it only helps to clean up after a daemon that died and may be removed", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Returns the path of the scratch file in a mount's runtime directory.
pub fn handles_path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Writes the scratch file, readable by its owner only.
///
/// # Errors
/// [`HandlesError::Io`].
pub fn write_handles(dir: &Path, handles: &MountHandles) -> Result<(), HandlesError> {
    let path = handles_path(dir);
    let failed = |source: io::Error| HandlesError::Io { path: path.clone(), source };
    let text = serde_json::to_vec_pretty(handles)
        .map_err(|source| HandlesError::Corrupt { path: path.clone(), source })?;
    let temporary = dir.join(format!(".{FILE}.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)
}

/// Reads the scratch file; `None` when there is none.
///
/// # Errors
/// [`HandlesError::Corrupt`] when it is not what was written: to be reported, and no reason to stop.
pub fn read_handles(dir: &Path) -> Result<Option<MountHandles>, HandlesError> {
    let path = handles_path(dir);
    match fs::read(&path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(handles) => Ok(Some(handles)),
            Err(source) => Err(HandlesError::Corrupt { path, source }),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HandlesError::Io { path, source }),
    }
}

/// Removes the scratch file; it may be gone already.
///
/// # Errors
/// [`HandlesError::Io`].
pub fn clear_handles(dir: &Path) -> Result<(), HandlesError> {
    let path = handles_path(dir);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(HandlesError::Io { path, source }),
    }
}

/// The handles of mounts in memory, by runtime directory, with their scratch files. Safe for any number of readers
/// and writers at once; the lock is not held while files are written.
#[derive(Debug, Default)]
pub struct HandleCache {
    mounts: RwLock<HashMap<PathBuf, MountHandles>>,
}

impl HandleCache {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the handles of a mount.
    pub fn get(&self, dir: &Path) -> Option<MountHandles> {
        self.mounts.read().get(dir).cloned()
    }

    /// Remembers the handles of a mount, in memory only.
    pub fn set(&self, dir: &Path, handles: MountHandles) {
        self.mounts.write().insert(dir.to_path_buf(), handles);
    }

    /// Remembers them and writes the scratch file.
    ///
    /// # Errors
    /// [`HandlesError::Io`] when it cannot be written; they are remembered all the same.
    pub fn record(&self, dir: &Path, handles: MountHandles) -> Result<(), HandlesError> {
        self.set(dir, handles.clone());
        write_handles(dir, &handles)
    }

    /// Forgets the handles of a mount and removes the scratch file.
    ///
    /// # Errors
    /// [`HandlesError::Io`] when it cannot be removed; they are forgotten all the same.
    pub fn clear(&self, dir: &Path) -> Result<(), HandlesError> {
        self.mounts.write().remove(dir);
        clear_handles(dir)
    }
}

/// What was found out of a mount.
#[derive(Debug)]
pub struct Rediscovered {
    /// Its handles: what the operating system says, and the scratch file for the rest. Those of a daemon that died
    /// are here too, for the teardown. `None` when neither knows of it.
    pub handles: Option<MountHandles>,
    /// How the mount is.
    pub state: MountState,
    /// What was wrong with the scratch file, to be reported.
    pub problem: Option<HandlesError>,
}

/// Finds out what is true of a mount after a restart.
///
/// # Errors
/// [`LivenessError`] when the table of mounts cannot be read.
pub fn rediscover(
    os: &Os,
    dir: &Path,
    mountpoint: &Path,
    fs_name: &str,
) -> Result<Rediscovered, LivenessError> {
    let (recorded, problem) = match read_handles(dir) {
        Ok(recorded) => (recorded, None),
        Err(problem) => (None, Some(problem)),
    };
    let state = mount_state(os, mountpoint, fs_name, recorded.as_ref())?;
    let mut handles = recorded;
    if let MountState::Alive { pid: Some(pid), connection } = state {
        let found = handles.get_or_insert_with(|| MountHandles {
            pid,
            pid_start: 0,
            connection,
            control_socket: None,
            mountpoint: mountpoint.to_path_buf(),
            cache_dir: None,
        });
        found.pid = pid;
        found.pid_start = os.process_start(pid).unwrap_or(0);
        found.connection = connection.or(found.connection);
    }
    Ok(Rediscovered { handles, state, problem })
}

/// A path as text where it is, else as an array of its bytes.
mod path {
    use super::*;
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Stored {
        Text(String),
        Bytes(Vec<u8>),
    }

    impl From<&Path> for Stored {
        fn from(path: &Path) -> Self {
            match path.to_str() {
                Some(text) => Self::Text(text.to_owned()),
                None => Self::Bytes(path.as_os_str().as_bytes().to_vec()),
            }
        }
    }

    impl From<Stored> for PathBuf {
        fn from(stored: Stored) -> Self {
            match stored {
                Stored::Text(text) => text.into(),
                Stored::Bytes(bytes) => OsString::from_vec(bytes).into(),
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::from(path).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Stored::deserialize(deserializer).map(PathBuf::from)
    }
}

/// As [`path`], for one that may be missing.
mod optional_path {
    use super::path::Stored;
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Stored::from).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Stored>::deserialize(deserializer)?.map(PathBuf::from))
    }
}
