//! How each inode is open: through the daemon with the kernel's page cache, through the daemon without it, or by
//! the kernel alone (passthrough).
//!
//! The kernel fixes rules per inode, and answers a breach with EIO to the program:
//! * while a handle through the page cache is open, a passthrough handle is refused, and the other way round;
//! * all passthrough handles of an inode share one backing file;
//! * while there are any, every other handle must name that file too, even one that is read through the daemon.
//!
//! The page cache is the inode's, not the handle's. So that two versions of a file are never mixed:
//! * pages are kept over an open only when the version is the one that was last opened through the cache;
//! * while handles of another version are open through the cache, a new one goes around the cache;
//! * while the kernel reads an old version by itself, another is read through the daemon, around the cache, unless
//!   the file was rewritten in place, so that both are the same file of the origin.
//!
//! One lock guards all of it. Registering a backing file is done under it (a system call that does no I/O), as
//! two openers must not both register one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use musicfs_core::Ino;
use parking_lot::Mutex;

/// Sets of the memory of versions. With [`WAYS`] and 16 bytes an entry it takes 512 KiB, of which only what is
/// used becomes resident.
const SETS: usize = 8192;
/// Entries of a set: the last so many inodes that fall into it are remembered.
const WAYS: usize = 4;

/// Tells versions of a file apart: a hash of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionKey(pub(crate) u64);

/// Tells backing files apart: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackingKey {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// How one handle is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Cached(VersionKey),
    Direct,
    Passthrough,
    Around,
}

/// What an opener gets.
#[derive(Debug)]
pub(crate) enum Granted<T> {
    /// Through the daemon and the page cache.
    Cached {
        /// Whether the pages that are there belong to this version.
        keep: bool,
    },
    /// Through the daemon, around the page cache.
    Direct,
    /// By the kernel alone.
    Passthrough(Arc<T>),
    /// Through the daemon, around the page cache, while the kernel reads another version from this file by itself.
    Around(Arc<T>),
}

struct InodeModes<T> {
    /// Handles through the cache, by version; nearly always of one.
    cached: Vec<(VersionKey, usize)>,
    direct: usize,
    passthrough: usize,
    backing: Option<Backing<T>>,
}

struct Backing<T> {
    token: Arc<T>,
    key: BackingKey,
    version: VersionKey,
}

struct State<T> {
    inodes: HashMap<Ino, InodeModes<T>>,
    remembered: Remembered,
    refused: Option<io::ErrorKind>,
}

/// The modes of all open inodes. `T` stands for a backing file that is registered with the kernel.
pub(crate) struct OpenModes<T> {
    state: Mutex<State<T>>,
}

impl<T> OpenModes<T> {
    pub(crate) fn new() -> Self {
        let remembered = Remembered(vec![0; SETS * WAYS * 2]);
        Self { state: Mutex::new(State { inodes: HashMap::new(), remembered, refused: None }) }
    }

    /// Decides how a handle on `version` of an inode is opened, and counts it as open.
    ///
    /// `offer` is a file that the kernel could read by itself; `register` makes it known to the kernel. When the
    /// kernel refuses for good (no privilege, filesystems stacked too deep), it is not asked again.
    pub(crate) fn open(
        &self,
        ino: Ino,
        version: VersionKey,
        offer: Option<BackingKey>,
        register: impl FnOnce() -> io::Result<T>,
    ) -> Granted<T> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let modes = state.inodes.entry(ino).or_insert_with(|| InodeModes {
            cached: Vec::new(),
            direct: 0,
            passthrough: 0,
            backing: None,
        });
        if let Some(backing) = &modes.backing {
            modes.passthrough += 1;
            let token = backing.token.clone();
            let same = backing.version == version || offer == Some(backing.key);
            return if same { Granted::Passthrough(token) } else { Granted::Around(token) };
        }
        if modes.cached.is_empty()
            && let Some(key) = offer
            && state.refused.is_none()
        {
            match register() {
                Ok(token) => {
                    let token = Arc::new(token);
                    modes.passthrough += 1;
                    modes.backing = Some(Backing { token: token.clone(), key, version });
                    return Granted::Passthrough(token);
                }
                Err(error) => {
                    let full = matches!(error.raw_os_error(), Some(nix::libc::ENFILE | nix::libc::ENOMEM));
                    if !full {
                        state.refused = Some(error.kind());
                        tracing::info!(%error, "the kernel does not take files over; the daemon reads them");
                    }
                }
            }
        }
        if modes.cached.iter().any(|(other, _)| *other != version) {
            modes.direct += 1;
            state.remembered.forget(ino);
            return Granted::Direct;
        }
        match modes.cached.first_mut() {
            Some((_, count)) => *count += 1,
            None => modes.cached.push((version, 1)),
        }
        Granted::Cached { keep: state.remembered.replace(ino, version) }
    }

    /// Tells whether handles are open through the page cache.
    pub(crate) fn is_cached(&self, ino: Ino) -> bool {
        self.state.lock().inodes.get(&ino).is_some_and(|modes| !modes.cached.is_empty())
    }

    /// Counts a handle that goes around the cache whatever else is open as open.
    pub(crate) fn open_direct(&self, ino: Ino) {
        let mut state = self.state.lock();
        let modes = state.inodes.entry(ino).or_insert_with(|| InodeModes {
            cached: Vec::new(),
            direct: 0,
            passthrough: 0,
            backing: None,
        });
        modes.direct += 1;
    }

    /// Counts a handle as closed. The backing file is returned, when this was the last to use it, for the caller
    /// to drop.
    pub(crate) fn close(&self, ino: Ino, mode: Mode) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let modes = state.inodes.get_mut(&ino)?;
        let mut done = None;
        match mode {
            Mode::Cached(version) => {
                if let Some(at) = modes.cached.iter().position(|(other, _)| *other == version) {
                    modes.cached[at].1 -= 1;
                    if modes.cached[at].1 == 0 {
                        modes.cached.swap_remove(at);
                    }
                }
            }
            Mode::Direct => modes.direct = modes.direct.saturating_sub(1),
            Mode::Passthrough | Mode::Around => {
                modes.passthrough = modes.passthrough.saturating_sub(1);
                if modes.passthrough == 0 {
                    done = modes.backing.take().map(|backing| backing.token);
                }
            }
        }
        if modes.cached.is_empty() && modes.direct == 0 && modes.passthrough == 0 {
            state.inodes.remove(&ino);
        }
        done
    }

    /// Forgets which version's pages the kernel may have of an inode: the next open drops them.
    pub(crate) fn forget(&self, ino: Ino) {
        self.state.lock().remembered.forget(ino);
    }

    /// Forgets them of all inodes.
    pub(crate) fn forget_all(&self) {
        self.state.lock().remembered.0.fill(0);
    }

    /// Tells whether the kernel refused to take a file over.
    pub(crate) fn refused(&self) -> bool {
        self.state.lock().refused.is_some()
    }
}

/// Which version was last opened through the page cache, of as many inodes as there is room for. Two words an
/// entry: inode number (0 is none) and version.
struct Remembered(Vec<u64>);

impl Remembered {
    fn set(&mut self, ino: Ino) -> &mut [u64] {
        // Inode numbers are hashes already.
        let at = (ino.raw() as usize % SETS) * WAYS * 2;
        &mut self.0[at..at + WAYS * 2]
    }

    /// Remembers `version`, and tells whether it was remembered already.
    fn replace(&mut self, ino: Ino, version: VersionKey) -> bool {
        let set = self.set(ino);
        let found = set.chunks_exact(2).position(|entry| entry[0] == ino.raw());
        let same = found.is_some_and(|at| set[at * 2 + 1] == version.0);
        // The most recent comes first; what falls off the end is forgotten.
        let end = found.unwrap_or(WAYS - 1) * 2;
        set.copy_within(..end, 2);
        set[0] = ino.raw();
        set[1] = version.0;
        same
    }

    fn forget(&mut self, ino: Ino) {
        for entry in self.set(ino).chunks_exact_mut(2) {
            if entry[0] == ino.raw() {
                entry.fill(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INO: Ino = Ino::from_raw(77);
    const V1: VersionKey = VersionKey(1);
    const V2: VersionKey = VersionKey(2);
    const FILE: Option<BackingKey> = Some(BackingKey { dev: 1, ino: 10 });
    const OTHER: Option<BackingKey> = Some(BackingKey { dev: 1, ino: 11 });

    fn modes() -> OpenModes<u32> {
        OpenModes::new()
    }

    fn keep(granted: Granted<u32>) -> bool {
        match granted {
            Granted::Cached { keep } => keep,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_are_kept_for_the_version_last_opened_only() {
        let modes = modes();
        let open = |v| {
            let kept = keep(modes.open(INO, v, None, || Ok(0)));
            modes.close(INO, Mode::Cached(v));
            kept
        };
        assert!(!open(V1));
        assert!(open(V1));
        assert!(!open(V2));
        assert!(!open(V1));
        modes.forget(INO);
        assert!(!open(V1));
        assert!(open(V1));
        modes.forget_all();
        assert!(!open(V1));
    }

    #[test]
    fn new_version_goes_around_the_cache_while_an_old_one_is_open() {
        let modes = modes();
        assert!(!keep(modes.open(INO, V1, None, || Ok(0))));
        assert!(matches!(modes.open(INO, V2, None, || Ok(0)), Granted::Direct));
        modes.close(INO, Mode::Direct);
        modes.close(INO, Mode::Cached(V1));
        // The old handle may have filled pages after the new one was opened.
        assert!(!keep(modes.open(INO, V2, None, || Ok(0))));
        assert!(keep(modes.open(INO, V2, None, || Ok(0))));
    }

    #[test]
    fn passthrough_handles_share_one_backing_until_the_last_is_closed() {
        let modes = modes();
        let Granted::Passthrough(first) = modes.open(INO, V1, FILE, || Ok(5)) else { panic!() };
        let Granted::Passthrough(second) = modes.open(INO, V1, FILE, || Ok(6)) else { panic!() };
        assert_eq!((*first, *second), (5, 5));
        assert!(modes.close(INO, Mode::Passthrough).is_none());
        assert_eq!(modes.close(INO, Mode::Passthrough).as_deref(), Some(&5));
        let Granted::Passthrough(third) = modes.open(INO, V2, OTHER, || Ok(7)) else { panic!() };
        assert_eq!(*third, 7);
    }

    #[test]
    fn cached_handle_open_makes_later_ones_cached() {
        let modes = modes();
        assert!(!keep(modes.open(INO, V1, None, || Ok(0))));
        assert!(keep(modes.open(INO, V1, FILE, || panic!("not to be registered"))));
        modes.close(INO, Mode::Cached(V1));
        modes.close(INO, Mode::Cached(V1));
        assert!(matches!(modes.open(INO, V1, FILE, || Ok(1)), Granted::Passthrough(_)));
    }

    #[test]
    fn replaced_file_goes_around_what_the_kernel_reads_until_all_are_closed() {
        let modes = modes();
        assert!(matches!(modes.open(INO, V1, FILE, || Ok(1)), Granted::Passthrough(_)));
        let Granted::Around(token) = modes.open(INO, V2, OTHER, || Ok(2)) else { panic!() };
        assert_eq!(*token, 1, "the kernel wants the file that it has");
        assert!(matches!(modes.open(INO, V2, None, || Ok(2)), Granted::Around(_)));
        // Rewritten in place it is the same file.
        assert!(matches!(modes.open(INO, V2, FILE, || Ok(2)), Granted::Passthrough(_)));
        modes.close(INO, Mode::Passthrough);
        modes.close(INO, Mode::Passthrough);
        assert!(matches!(modes.open(INO, V2, OTHER, || Ok(2)), Granted::Around(_)));
        for _ in 0..3 {
            modes.close(INO, Mode::Around);
        }
        assert!(matches!(modes.open(INO, V2, OTHER, || Ok(2)), Granted::Passthrough(_)));
    }

    #[test]
    fn refusal_by_the_kernel_is_remembered_and_the_daemon_reads() {
        let modes = modes();
        let refuse = || Err(io::Error::from_raw_os_error(nix::libc::EPERM));
        assert!(!keep(modes.open(INO, V1, FILE, refuse)));
        assert!(modes.refused());
        let another = Ino::from_raw(78);
        assert!(!keep(modes.open(another, V1, FILE, || panic!("not to be asked again"))));
    }

    #[test]
    fn memory_of_versions_is_bounded_and_forgets_the_oldest() {
        let modes = modes();
        let open = |n: u64| {
            let ino = Ino::from_raw(3 + n * SETS as u64);
            let kept = keep(modes.open(ino, V1, None, || Ok(0)));
            modes.close(ino, Mode::Cached(V1));
            kept
        };
        for n in 0..=WAYS as u64 {
            assert!(!open(n));
        }
        assert!(open(WAYS as u64));
        assert!(!open(0), "the oldest of the set fell off");
    }
}
