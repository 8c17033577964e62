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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::tests::FakeOs;

    fn handles(pid: u32) -> MountHandles {
        MountHandles {
            pid,
            pid_start: 123_456,
            connection: Some(57),
            control_socket: Some("/run/user/1000/musicfs/control.sock".into()),
            mountpoint: "/home/a/Music (all)".into(),
            cache_dir: Some("/home/a/.cache/musicfs".into()),
        }
    }

    #[test]
    fn handles_file_gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        write_handles(dir.path(), &handles(4242)).unwrap();
        assert_eq!(read_handles(dir.path()).unwrap(), Some(handles(4242)));
        write_handles(dir.path(), &handles(4243)).unwrap();
        assert_eq!(read_handles(dir.path()).unwrap(), Some(handles(4243)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the file is left");
        let not_utf8 = MountHandles {
            mountpoint: OsString::from_vec(b"/mnt/\xff".to_vec()).into(),
            control_socket: None,
            cache_dir: Some(OsString::from_vec(b"\xfe".to_vec()).into()),
            ..handles(1)
        };
        write_handles(dir.path(), &not_utf8).unwrap();
        assert_eq!(read_handles(dir.path()).unwrap(), Some(not_utf8));
    }

    #[test]
    fn handles_file_that_is_missing_means_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_handles(dir.path()).unwrap(), None);
        assert_eq!(read_handles(&dir.path().join("missing")).unwrap(), None);
    }

    #[test]
    fn handles_file_that_is_corrupt_is_an_error_that_is_reported_and_not_fatal() {
        let fake = FakeOs::new();
        fake.mount("/mnt/music", "fuse.musicfs musicfs", 40);
        for text in ["{not json", "", "{}", "[1, 2]"] {
            fs::write(handles_path(fake.path()), text).unwrap();
            let error = read_handles(fake.path()).unwrap_err();
            assert!(matches!(error, HandlesError::Corrupt { .. }), "{text}");
            assert!(error.to_string().contains("handles.json"));
            let found = rediscover(&fake.os, fake.path(), Path::new("/mnt/music"), "musicfs").unwrap();
            assert!(matches!(found.problem, Some(HandlesError::Corrupt { .. })));
            assert_eq!(found.handles, None);
            assert_eq!(found.state, MountState::Dead { connection: Some(40) });
        }
    }

    #[test]
    fn handle_cache_is_safe_for_readers_and_a_writer_at_once() {
        let cache = HandleCache::new();
        let dir = tempfile::tempdir().unwrap();
        cache.set(dir.path(), handles(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < 999 {
                        let pid = cache.get(dir.path()).unwrap().pid;
                        assert!(pid >= last, "never older than what was seen before");
                        last = pid;
                    }
                });
            }
            scope.spawn(|| (1..1000).for_each(|pid| cache.set(dir.path(), handles(pid))));
        });
        assert_eq!(cache.get(dir.path()), Some(handles(999)));
        cache.clear(dir.path()).unwrap();
        assert_eq!(cache.get(dir.path()), None);
    }

    #[test]
    fn rediscovery_of_a_dead_daemon_returns_its_handles_for_the_teardown() {
        let fake = FakeOs::new();
        let stale = MountHandles { mountpoint: "/mnt/music".into(), ..handles(999_999) };
        write_handles(fake.path(), &stale).unwrap();
        let found = rediscover(&fake.os, fake.path(), Path::new("/mnt/music"), "musicfs").unwrap();
        assert_eq!((found.handles.as_ref(), found.state), (Some(&stale), MountState::NotMounted));
        fake.mount("/mnt/music", "fuse.musicfs musicfs", 57);
        let found = rediscover(&fake.os, fake.path(), Path::new("/mnt/music"), "musicfs").unwrap();
        assert_eq!(found.handles, Some(stale));
        assert_eq!(found.state, MountState::Dead { connection: Some(57) });
        assert!(found.problem.is_none());
    }

    #[test]
    fn rediscovery_prefers_the_living_process_over_the_file() {
        let fake = FakeOs::new();
        fake.mount("/mnt/music", "fuse.musicfs musicfs", 58);
        fake.process(222, 99, Some(58));
        let moved = MountHandles { mountpoint: "/mnt/music".into(), ..handles(111) };
        write_handles(fake.path(), &moved).unwrap();
        let found = rediscover(&fake.os, fake.path(), Path::new("/mnt/music"), "musicfs").unwrap();
        let expected = MountHandles { pid: 222, pid_start: 99, connection: Some(58), ..moved };
        assert_eq!(found.handles, Some(expected));
        assert_eq!(found.state, MountState::Alive { pid: Some(222), connection: Some(58) });
        // Without a file, what the system says is all there is.
        clear_handles(fake.path()).unwrap();
        let found = rediscover(&fake.os, fake.path(), Path::new("/mnt/music"), "musicfs").unwrap();
        assert_eq!(found.handles.map(|h| (h.pid, h.control_socket)), Some((222, None)));
    }

    #[test]
    fn clearing_handles_removes_the_file_and_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HandleCache::new();
        cache.record(dir.path(), handles(42)).unwrap();
        assert_eq!(read_handles(dir.path()).unwrap(), cache.get(dir.path()));
        cache.clear(dir.path()).unwrap();
        assert!(!handles_path(dir.path()).exists());
        assert_eq!(cache.get(dir.path()), None);
        cache.clear(dir.path()).unwrap();
    }

    #[test]
    fn handles_of_this_process_name_it_for_ever() {
        let os = Os::default();
        let handles = MountHandles::of_this_process(&os, Path::new("/mnt/music"));
        assert_eq!(handles.pid, std::process::id());
        assert_eq!(os.process_start(handles.pid), Some(handles.pid_start));
    }
}
