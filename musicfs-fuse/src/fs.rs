//! The filesystem's logic, without a kernel.
//!
//! [`MusicFs`] answers what the kernel asks in terms of the catalogue and the reader of bytes. It can be called
//! from a test as from the kernel's adapter.
//!
//! # Invariants
//! * Nothing is loaded: each question is one lookup in the catalogue, a directory is listed page by page. The
//!   position of an entry is its cookie, so that a listing goes on in the right place whatever was added or
//!   removed meanwhile.
//! * Whatever would write is refused ([`FsError::ReadOnly`]).
//! * What is about to be told to the kernel is noted first ([`KernelView`]), so that a later change of it is
//!   announced.
//!
//! # Locking and blocking
//! Metadata methods block for as long as the catalogue does (a local database). `open`, `read` and the attribute
//! `hash` are async. No lock is held across either.

mod complaints;
mod failures;
mod open;
mod open_files;
mod search;
mod xattr;

use std::time::Duration;

use musicfs_core::{
    Clock, Cookie, Ino, MetaDb, MetaError, MonoTime, Name, Node, NodeKind, ROOT_INODE, Totals,
};
use parking_lot::Mutex;

use crate::attr::BLOCK;
use crate::error::chain;
use crate::kernel_view::KernelView;
use crate::numbers::Told;
use crate::stats::{Counters, count};
use crate::{Attr, Backends, FsError, FsStats};

pub use open::Opened;
pub(crate) use open::{OpenError, Passthrough, Prepared};
pub(crate) use open_files::OpenFiles;
pub use xattr::Xattr;
pub(crate) use xattr::XattrAnswer;

/// How long sums over the catalogue are good for `statfs`.
const TOTALS_FOR: Duration = Duration::from_secs(1);
/// Entries asked of the catalogue at once for a plain listing: half of what fits a buffer of 32 KiB, as the C
/// library has it, so that few are fetched in vain.
const PAGE: usize = 256;
/// As [`PAGE`], for a listing with attributes, whose entries take some 200 bytes.
const PAGE_PLUS: usize = 64;
/// Positions below this are those of `.` and `..`; cookies come after them.
const FIRST_COOKIE: u64 = 2;

/// Who owns what the mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsOptions {
    /// Owner of every file and directory.
    pub uid: u32,
    /// Group of every file and directory.
    pub gid: u32,
}

impl Default for FsOptions {
    /// The user and group that the process runs as.
    fn default() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it names.
    pub attr: Attr,
    /// Where a listing goes on after this entry.
    pub next: u64,
}

/// What a listing is to tell of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Name, inode number and kind.
    Names,
    /// All attributes, which the kernel then caches.
    Attributes,
}

/// Figures for `statfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Blocks that the library's files take; none is free.
    pub blocks: u64,
    /// Files and directories.
    pub files: u64,
    /// Longest name in bytes.
    pub name_max: u32,
}

/// The filesystem: a catalogue and a reader of bytes, as a tree of files.
pub struct MusicFs<B: Backends> {
    pub(crate) backends: B,
    options: FsOptions,
    pub(crate) kernel: KernelView,
    pub(crate) files: OpenFiles,
    looks: open::Looks,
    totals: Mutex<Option<(MonoTime, Totals)>>,
    searches: search::Searches,
    pub(crate) counters: Counters,
}

impl<B: Backends> MusicFs<B> {
    /// Composes a filesystem. Nothing is read yet.
    pub fn new(backends: B, options: FsOptions) -> Self {
        Self {
            backends,
            options,
            kernel: KernelView::new(),
            files: OpenFiles::new(),
            looks: open::Looks::default(),
            totals: Mutex::new(None),
            searches: search::Searches::default(),
            counters: Counters::default(),
        }
    }

    /// Returns the parts that the filesystem was composed of.
    pub fn backends(&self) -> &B {
        &self.backends
    }

    /// Returns what was done so far.
    pub fn stats(&self) -> FsStats {
        FsStats {
            open_handles: self.files.handles() as u64,
            reads_in_flight: self.files.reads_in_flight(),
            passthrough_refused: self.files.numbers.refused(),
            ..self.counters.snapshot()
        }
    }

    /// Returns the entry `name` of a directory. `.` and `..` are looked up by inode, as a network export does; the
    /// former of a file too.
    ///
    /// # Errors
    /// [`FsError::NotFound`] when there is none; [`FsError::NameTooLong`] when there can be none.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr, FsError> {
        count(&self.counters.lookups);
        if parent != ROOT_INODE
            && let Some(found) = self.search_lookup(parent, name)
        {
            return found;
        }
        if name.len() > Name::MAX_BYTES {
            return Err(FsError::NameTooLong);
        }
        match name {
            b"." => self.attr_by(parent),
            b".." => {
                let node = self.node(self.files.numbers.file(parent))?;
                self.attr_of(node.parent)
            }
            _ => {
                self.kernel.note_inode(parent);
                self.kernel.note_entry(parent, name);
                let found = self.kernel.settled(
                    || self.backends.meta().lookup(parent, name),
                    |found| found.iter().for_each(|node| self.kernel.note_inode(node.ino)),
                );
                match found.map_err(|e| self.failed("lookup", &e))? {
                    Some(node) => Ok(self.attr(&node)),
                    None if parent == ROOT_INODE => {
                        self.search_lookup(parent, name).unwrap_or(Err(FsError::NotFound))
                    }
                    None => Err(FsError::NotFound),
                }
            }
        }
    }

    /// Returns the attributes of what the kernel knows by a number. While a file is open, those of the version that is
    /// open under the number, also when the file has been replaced or has left the tree; while the kernel reads it by
    /// itself, those of what it reads.
    ///
    /// # Errors
    /// [`FsError::Stale`] when it is not in the tree, or known by another number.
    pub fn getattr(&self, number: Ino) -> Result<Attr, FsError> {
        count(&self.counters.getattrs);
        self.search_getattr(number).unwrap_or_else(|| self.attr_by(number))
    }

    fn attr_by(&self, number: Ino) -> Result<Attr, FsError> {
        let numbers = &self.files.numbers;
        let ino = numbers.file(number);
        match numbers.told(number) {
            Some(told) => {
                let now = numbers.backing(number).and_then(|backed| backed.rewritten());
                let Told { size, mtime } = now.unwrap_or(told);
                let (uid, gid) = (self.options.uid, self.options.gid);
                Ok(Attr { ino, number, kind: NodeKind::File, size, mtime, uid, gid })
            }
            None if numbers.number(ino) != number => Err(FsError::Stale),
            None => self.attr_of(ino),
        }
    }

    /// Lists a directory from a position, 0 for the beginning, giving each entry to `emit` until that says that it
    /// has no room for the entry or there are no more.
    ///
    /// # Errors
    /// [`FsError::Stale`] when the directory is not in the tree.
    pub fn readdir(
        &self,
        dir: Ino,
        from: u64,
        listing: Listing,
        emit: &mut dyn FnMut(DirEntry<'_>) -> Emitted,
    ) -> Result<(), FsError> {
        count(&self.counters.readdirs);
        if let Some(listed) = self.search_readdir(dir, from, emit) {
            return listed;
        }
        self.kernel.note_inode(dir);
        if from < FIRST_COOKIE {
            let node = self.node(dir)?;
            if node.kind != NodeKind::Dir {
                return Err(FsError::NotADirectory);
            }
            if from == 0 && emit(DirEntry { name: b".", attr: self.attr(&node), next: 1 }) == Emitted::Full {
                return Ok(());
            }
            // Of `..` a listing tells the number only, which spares a look at the parent.
            let attr = Attr { ino: node.parent, number: node.parent, ..self.attr(&node) };
            if emit(DirEntry { name: b"..", attr, next: FIRST_COOKIE }) == Emitted::Full {
                return Ok(());
            }
        }
        let page = match listing {
            Listing::Names => PAGE,
            Listing::Attributes => PAGE_PLUS,
        };
        let mut after = Cookie(from.saturating_sub(FIRST_COOKIE));
        loop {
            let nodes = self.kernel.settled(
                || self.backends.meta().list(dir, after, page),
                |nodes| {
                    let told = nodes.iter().filter(|_| listing == Listing::Attributes);
                    for (node, name) in told.filter_map(|node| Some((node, node.name.as_ref()?))) {
                        self.kernel.note_inode(node.ino);
                        self.kernel.note_entry(dir, name.as_bytes());
                    }
                },
            );
            let nodes = nodes.map_err(|e| self.failed("readdir", &e))?;
            for node in &nodes {
                let Some(name) = &node.name else { continue };
                let next = node.cookie.0 + FIRST_COOKIE;
                if emit(DirEntry { name: name.as_bytes(), attr: self.attr(node), next }) == Emitted::Full {
                    return Ok(());
                }
                after = node.cookie;
            }
            if nodes.len() < page {
                return Ok(());
            }
        }
    }

    /// Returns figures for `statfs`, at most a second old.
    ///
    /// # Errors
    /// [`FsError::Io`] when the catalogue fails.
    pub fn statfs(&self) -> Result<StatFs, FsError> {
        let now = self.backends.clock().now();
        let cached = *self.totals.lock();
        let totals = match cached {
            Some((at, totals)) if now.since(at) < TOTALS_FOR => totals,
            _ => {
                let totals = self.backends.meta().totals().map_err(|e| self.failed("statfs", &e))?;
                *self.totals.lock() = Some((now, totals));
                totals
            }
        };
        Ok(StatFs {
            block_size: BLOCK,
            blocks: totals.bytes.div_ceil(u64::from(BLOCK)),
            files: totals.files + totals.dirs + 1,
            name_max: Name::MAX_BYTES as u32,
        })
    }

    /// Tells whether an inode may be used in a way: a combination of `R_OK`, `W_OK` and `X_OK`.
    ///
    /// # Errors
    /// [`FsError::ReadOnly`] for writing, [`FsError::Denied`] for executing a file.
    pub fn access(&self, ino: Ino, mask: i32) -> Result<(), FsError> {
        if mask & nix::libc::W_OK != 0 {
            return Err(FsError::ReadOnly);
        }
        if self.is_search(ino) {
            return Ok(());
        }
        match self.node(ino)?.kind {
            NodeKind::File if mask & nix::libc::X_OK != 0 => Err(FsError::Denied),
            NodeKind::File | NodeKind::Dir => Ok(()),
        }
    }

    fn attr_of(&self, ino: Ino) -> Result<Attr, FsError> {
        self.kernel.note_inode(ino);
        Ok(self.attr(&self.node(ino)?))
    }

    fn node(&self, ino: Ino) -> Result<Node, FsError> {
        let node = self.backends.meta().node(ino).map_err(|e| self.failed("getattr", &e))?;
        node.ok_or(FsError::Stale)
    }

    fn attr(&self, node: &Node) -> Attr {
        let number = match node.kind {
            NodeKind::Dir => node.ino,
            NodeKind::File => self.files.numbers.number_for(node.ino, Told::from(node)),
        };
        Attr::of(node, number, self.options.uid, self.options.gid)
    }

    /// Logs a failure of the catalogue, and sorts it.
    pub(crate) fn failed(&self, operation: &'static str, error: &MetaError) -> FsError {
        count(&self.counters.errors);
        tracing::error!(operation, error = chain(error), "the catalogue failed");
        FsError::from(error)
    }
}

/// What became of an entry that was given to a listing's reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// It was taken.
    Taken,
    /// There was no room for it; it comes first in the next page.
    Full,
}
