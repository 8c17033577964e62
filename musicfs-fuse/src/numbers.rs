//! The numbers by which the kernel knows inodes, and how each is open: through the daemon and the kernel's page
//! cache, through the daemon around it, or by the kernel alone (passthrough).
//!
//! Pages, size and the file that is read by passthrough are a number's in the kernel, not a handle's, and it answers
//! EIO to programs that open one number in several ways. While it is open, a number therefore stands for one version
//! of a file that is read in one way. A file that is replaced while it is open is known by another number from then
//! on; the handles, mappings and sizes of the old version stay what they were. `stat` tells the inode number of the
//! file either way.
//!
//! # Invariants
//! * The first number of a file is its inode number. Others, with the top bit set, are made when all that it has stand
//!   for something else; a file keeps them, and they are used again once they are closed.
//! * A handle is opened under the number by which its file is known, or not at all: then the opener is to look the file
//!   up again, and finds the number.
//! * What the kernel is told of a number is of the version that is open under it; of one that it reads by itself, what
//!   lies there now.
//! * Pages are kept over an open only when the version is the one that was last opened through the cache.
//!
//! One lock guards all of it. Registering a backing file is done under it (a system call that does no I/O), as
//! two openers must not both register one.

mod remembered;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use musicfs_core::{FileVersion, Ino, Node, UnixNanos};
use parking_lot::Mutex;

use remembered::Remembered;

/// What numbers have that are not inode numbers.
const FURTHER: u64 = 1 << 63;

/// Tells versions of a file, and copies in whose stead they are read, apart: a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionKey(pub(crate) u64);

/// What the kernel is told of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) size: u64,
    pub(crate) mtime: UnixNanos,
}

impl From<&Node> for Told {
    fn from(node: &Node) -> Self {
        Self { size: node.size, mtime: node.mtime }
    }
}

impl From<&FileVersion> for Told {
    fn from(version: &FileVersion) -> Self {
        Self { size: version.size, mtime: version.mtime.unwrap_or(UnixNanos(0)) }
    }
}

/// How a version is to be read where the opener has the choice.
pub(crate) enum Wanted<F> {
    /// Through the daemon and the page cache.
    Cached,
    /// Through the daemon, around the page cache.
    Direct,
    /// By the kernel alone, to which this makes a file known; through the page cache where it does not take it.
    Passthrough(F),
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
}

/// A number that is open.
struct Open<T> {
    version: VersionKey,
    told: Told,
    way: Way<T>,
    handles: usize,
}

enum Way<T> {
    Cached,
    Direct,
    Passthrough(Arc<T>),
}

struct State<T> {
    open: HashMap<Ino, Open<T>>,
    /// The numbers of files that have several, the one by which it is known first.
    several: HashMap<Ino, Vec<Ino>>,
    /// The files of numbers that are not inode numbers, and how many there are.
    files: HashMap<Ino, Ino>,
    remembered: Remembered,
    refused: Option<io::ErrorKind>,
}

impl<T> State<T> {
    fn file(&self, number: Ino) -> Ino {
        self.files.get(&number).copied().unwrap_or(number)
    }

    fn number(&self, file: Ino) -> Ino {
        self.several.get(&file).and_then(|numbers| numbers.first()).copied().unwrap_or(file)
    }

    /// Returns the number by which a file is known, after it was changed when what is open under it does not fit.
    fn fitting(&mut self, file: Ino, fits: impl Fn(&Open<T>) -> bool) -> Ino {
        let number = self.number(file);
        if self.open.get(&number).is_none_or(&fits) {
            return number;
        }
        let numbers = self.several.entry(file).or_insert_with(|| vec![file]);
        let found = numbers.iter().position(|number| self.open.get(number).is_some_and(&fits));
        let found = found.or_else(|| numbers.iter().position(|number| !self.open.contains_key(number)));
        let number = match found {
            Some(at) => numbers.remove(at),
            None => Ino::from_raw(FURTHER | self.files.len() as u64),
        };
        numbers.insert(0, number);
        if number != file {
            self.files.insert(number, file);
        }
        number
    }
}

/// The numbers of files. `T` stands for a backing file that is registered with the kernel.
pub(crate) struct Numbers<T> {
    state: Mutex<State<T>>,
}

impl<T> Numbers<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            open: HashMap::new(),
            several: HashMap::new(),
            files: HashMap::new(),
            remembered: Remembered::new(),
            refused: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// Returns the inode number of what the kernel means by a number.
    pub(crate) fn file(&self, number: Ino) -> Ino {
        if number.raw() & FURTHER == 0 { number } else { self.state.lock().file(number) }
    }

    /// Returns the number by which a file is known.
    pub(crate) fn number(&self, file: Ino) -> Ino {
        self.state.lock().number(file)
    }

    /// Returns the number by which a file is known from now on, when the kernel is to be told this of it.
    pub(crate) fn number_for(&self, file: Ino, told: Told) -> Ino {
        self.state.lock().fitting(file, |open| open.told == told)
    }

    /// Tells whether a file has been known by several numbers.
    pub(crate) fn has_several(&self, file: Ino) -> bool {
        self.state.lock().several.contains_key(&file)
    }

    /// Returns what the kernel was told of the version that is open under a number.
    pub(crate) fn told(&self, number: Ino) -> Option<Told> {
        self.state.lock().open.get(&number).map(|open| open.told)
    }

    /// Returns the file that the kernel reads by itself under a number.
    pub(crate) fn backing(&self, number: Ino) -> Option<Arc<T>> {
        match &self.state.lock().open.get(&number)?.way {
            Way::Passthrough(token) => Some(token.clone()),
            Way::Cached | Way::Direct => None,
        }
    }

    /// Returns the other numbers of a file under which the kernel reads it by itself.
    pub(crate) fn backed_beside(&self, number: Ino) -> Vec<Ino> {
        let state = self.state.lock();
        let backed = |other: &Ino| {
            *other != number
                && state.open.get(other).is_some_and(|open| matches!(open.way, Way::Passthrough(_)))
        };
        let numbers = state.several.get(&state.file(number));
        numbers.map_or_else(Vec::new, |numbers| numbers.iter().copied().filter(backed).collect())
    }

    /// Opens a version of a file under a number, and counts it as open; `None` when it is not the number by which the
    /// file is known with that version.
    ///
    /// When the kernel refuses for good to take files over (no privilege, filesystems stacked too deep), it is not asked
    /// again.
    pub(crate) fn open<F: FnOnce() -> io::Result<T>>(
        &self,
        number: Ino,
        version: VersionKey,
        told: Told,
        wanted: Wanted<F>,
    ) -> Option<Granted<T>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let file = state.file(number);
        if state.fitting(file, |open| open.version == version) != number {
            return None;
        }
        if !state.open.contains_key(&number) {
            let way = match wanted {
                Wanted::Direct => Way::Direct,
                Wanted::Passthrough(register) if state.refused.is_none() => match register() {
                    Ok(token) => Way::Passthrough(Arc::new(token)),
                    Err(error) => {
                        let full =
                            matches!(error.raw_os_error(), Some(nix::libc::ENFILE | nix::libc::ENOMEM));
                        if !full {
                            state.refused = Some(error.kind());
                            tracing::info!(%error, "the kernel does not take files over; the daemon reads them");
                        }
                        Way::Cached
                    }
                },
                Wanted::Passthrough(_) | Wanted::Cached => Way::Cached,
            };
            state.open.insert(number, Open { version, told, way, handles: 0 });
        }
        let open = state.open.get_mut(&number)?;
        open.handles += 1;
        Some(match &open.way {
            Way::Cached => Granted::Cached { keep: state.remembered.replace(number, version) },
            Way::Direct => {
                // It may leave pages all the same: mapped into memory, or sent to a socket.
                state.remembered.forget(number);
                Granted::Direct
            }
            Way::Passthrough(token) => Granted::Passthrough(token.clone()),
        })
    }

    /// Counts a handle as closed. The backing file is returned, when this was the last to use it, for the caller
    /// to drop.
    pub(crate) fn close(&self, number: Ino) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let open = state.open.get_mut(&number)?;
        open.handles -= 1;
        if open.handles > 0 {
            return None;
        }
        match state.open.remove(&number)?.way {
            Way::Passthrough(token) => Some(token),
            Way::Cached | Way::Direct => None,
        }
    }

    /// Forgets which version's pages the kernel may have under a number: the next open drops them.
    pub(crate) fn forget(&self, number: Ino) {
        self.state.lock().remembered.forget(number);
    }

    /// Forgets them of all numbers.
    pub(crate) fn forget_all(&self) {
        self.state.lock().remembered.forget_all();
    }

    /// Tells whether the kernel refused to take a file over.
    pub(crate) fn refused(&self) -> bool {
        self.state.lock().refused.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INO: Ino = Ino::from_raw(77);
    const V1: u64 = 1;
    const V2: u64 = 2;

    type Register = fn() -> io::Result<u32>;

    fn told(version: u64) -> Told {
        Told { size: version * 1000, mtime: UnixNanos(5) }
    }

    fn open_as(
        numbers: &Numbers<u32>,
        number: Ino,
        version: u64,
        wanted: Wanted<Register>,
    ) -> Option<Granted<u32>> {
        numbers.open(number, VersionKey(version), told(version), wanted)
    }

    fn open(numbers: &Numbers<u32>, number: Ino, version: u64) -> Option<bool> {
        match open_as(numbers, number, version, Wanted::Cached)? {
            Granted::Cached { keep } => Some(keep),
            other => panic!("{other:?}"),
        }
    }

    fn backed(granted: Option<Granted<u32>>) -> u32 {
        match granted {
            Some(Granted::Passthrough(token)) => *token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_are_kept_for_the_version_last_opened_only() {
        let numbers = Numbers::new();
        let open = |version| {
            let kept = open(&numbers, INO, version);
            numbers.close(INO);
            kept.unwrap()
        };
        assert!(!open(V1) && open(V1));
        assert!(!open(V2) && !open(V1));
        numbers.forget(INO);
        assert!(!open(V1) && open(V1));
        numbers.forget_all();
        assert!(!open(V1));
    }

    #[test]
    fn version_that_comes_while_another_is_open_has_a_number_of_its_own() {
        let numbers = Numbers::new();
        assert_eq!(numbers.number_for(INO, told(V1)), INO);
        assert!(open(&numbers, INO, V1).is_some());
        assert_eq!((numbers.number_for(INO, told(V1)), numbers.has_several(INO)), (INO, false));
        let second = numbers.number_for(INO, told(V2));
        assert_ne!(second, INO);
        assert_eq!((numbers.file(second), numbers.number(INO)), (INO, second));
        assert_eq!(open(&numbers, INO, V2), None, "it is known by another number");
        assert_eq!(open(&numbers, second, V2), Some(false));
        assert_eq!((numbers.told(INO), numbers.told(second)), (Some(told(V1)), Some(told(V2))));
        assert_eq!(numbers.number_for(INO, told(V1)), INO, "it is what it was again");
        assert_eq!(numbers.number_for(INO, told(V2)), second);
        // A third, while both are open.
        let third = numbers.number_for(INO, told(3));
        assert!(third != INO && third != second && numbers.file(third) == INO);
        assert_eq!(open(&numbers, third, 3), Some(false));
        // One that is no longer open is used again.
        numbers.close(INO);
        assert_eq!(numbers.number_for(INO, told(5)), INO);
        assert_eq!(numbers.told(INO), None);
        assert_eq!(open(&numbers, INO, 5), Some(false), "the pages are another version's");
    }

    #[test]
    fn version_of_the_same_size_and_time_has_a_number_of_its_own_from_the_first_open() {
        let numbers = Numbers::new();
        assert!(open(&numbers, INO, V1).is_some());
        let same = |number, version| {
            numbers.open(number, VersionKey(version), told(V1), Wanted::<Register>::Cached).is_some()
        };
        assert!(!same(INO, V2));
        let second = numbers.number_for(INO, told(V1));
        assert_ne!(second, INO);
        assert!(same(second, V2));
        assert!(!same(second, V1), "it has the first number again");
        assert!(same(INO, V1));
    }

    #[test]
    fn handles_read_by_the_kernel_share_one_backing_until_the_last_is_closed() {
        let numbers = Numbers::new();
        assert_eq!(backed(open_as(&numbers, INO, V1, Wanted::Passthrough(|| Ok(5)))), 5);
        assert_eq!(backed(open_as(&numbers, INO, V1, Wanted::Passthrough(|| Ok(6)))), 5);
        assert_eq!(backed(open_as(&numbers, INO, V1, Wanted::Cached)), 5);
        // A copy of another length is read around the cache, under another number.
        assert!(open_as(&numbers, INO, V2, Wanted::Direct).is_none());
        let other = numbers.number(INO);
        assert!(matches!(open_as(&numbers, other, V2, Wanted::Direct), Some(Granted::Direct)));
        assert_eq!((numbers.backing(INO).as_deref(), numbers.backing(other)), (Some(&5), None));
        assert_eq!((numbers.backed_beside(other), numbers.backed_beside(INO)), (vec![INO], vec![]));
        assert!(numbers.close(INO).is_none() && numbers.close(INO).is_none());
        assert_eq!(numbers.close(INO).as_deref(), Some(&5));
        assert!(numbers.close(other).is_none());
        assert_eq!(backed(open_as(&numbers, other, V2, Wanted::Passthrough(|| Ok(7)))), 7);
    }

    #[test]
    fn refusal_by_the_kernel_is_remembered_and_the_daemon_reads() {
        let numbers = Numbers::new();
        let refuse: Register = || Err(io::Error::from_raw_os_error(nix::libc::EPERM));
        let granted = open_as(&numbers, INO, V1, Wanted::Passthrough(refuse));
        assert!(matches!(granted, Some(Granted::Cached { keep: false })));
        assert!(numbers.refused());
        let panics: Register = || panic!("not to be asked again");
        let another = open_as(&numbers, Ino::from_raw(78), V1, Wanted::Passthrough(panics));
        assert!(matches!(another, Some(Granted::Cached { keep: false })));
    }
}
