//! The folders that the kernel watches for us. Everything here blocks.
//!
//! The kernel knows a folder by its inode and we by the folder above and a name, so that all below a folder that is
//! renamed follow it without being touched.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use musicfs_core::OriginPath;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tracing::debug;

use super::WatchState;
use super::links::Links;
use crate::tags;

/// What is asked for. Not that files are opened, which our own scans do all the time.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);
/// Bytes read from the kernel's queue at once: some hundred events.
const BUFFER: usize = 32 << 10;
/// Deepest chain of folders that is believed: the system's longest path holds no more.
const DEEPEST: usize = 4096;

/// The kernel's number of a watched folder.
type Watch = i32;

#[derive(Debug)]
struct Folder {
    above: Watch,
    name: Box<[u8]>,
    /// When its entries last changed, as of the last look: nanoseconds, 0 for unknown.
    changed: i64,
}

/// What was read from the queue.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Where something changed.
    pub(super) paths: Vec<OriginPath>,
    /// The queue could not hold all.
    pub(super) overflow: bool,
    /// The root is no longer there.
    pub(super) gone: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Folders {
    queue: Arc<OwnedFd>,
    root: PathBuf,
    /// The root's watch, device and inode.
    top: (Watch, u64, u64),
    /// When the root's entries last changed.
    top_changed: i64,
    folders: HashMap<Watch, Folder>,
    links: Links,
    /// Some folder could not be watched.
    full: bool,
}

impl Folders {
    /// Watches `root` and all below.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let top = inotify::add_watch(&queue, &root, MASK)?;
        let is = std::fs::metadata(&root)?;
        let mut folders = Self {
            queue: Arc::new(queue),
            links: Links::new(&root),
            root,
            top: (top, is.dev(), is.ino()),
            top_changed: changed(&is),
            folders: HashMap::new(),
            full: false,
        };
        folders.walk();
        Ok(folders)
    }

    /// Returns the kernel's queue, to be waited for.
    pub(super) fn queue(&self) -> Arc<OwnedFd> {
        self.queue.clone()
    }

    /// Says how watching goes.
    pub(super) fn state(&self) -> WatchState {
        let folders = self.folders.len() as u64 + 1;
        if self.full { WatchState::Partly { folders } } else { WatchState::Watching { folders } }
    }

    /// Tells whether the root is still what is at its path.
    pub(super) fn is_current(&mut self) -> bool {
        let (_, dev, ino) = self.top;
        std::fs::metadata(&self.root).is_ok_and(|is| (is.dev(), is.ino()) == (dev, ino))
    }

    /// Watches all folders there are.
    pub(super) fn walk(&mut self) {
        self.full = false;
        self.links = Links::new(&self.root);
        self.walk_below(self.top.0, OriginPath::root());
    }

    /// Returns the folders whose entries changed since the last look, however that was noticed.
    pub(super) fn changed(&mut self) -> Vec<OriginPath> {
        let mut found = Vec::new();
        let look = |path: &OriginPath, before: &mut i64| {
            let now = std::fs::symlink_metadata(self.root.join(path.as_path())).map_or(0, |is| changed(&is));
            std::mem::replace(before, now) != now
        };
        let mut top = self.top_changed;
        if look(&OriginPath::root(), &mut top) {
            found.push(OriginPath::root());
        }
        let watches: Vec<Watch> = self.folders.keys().copied().collect();
        let mut times = Vec::with_capacity(watches.len());
        for watch in watches {
            let (Some(path), Some(folder)) = (self.path_of(watch), self.folders.get(&watch)) else {
                continue;
            };
            let mut time = folder.changed;
            if look(&path, &mut time) {
                found.push(path);
                times.push((watch, time));
            }
        }
        self.top_changed = top;
        for (watch, time) in times {
            if let Some(folder) = self.folders.get_mut(&watch) {
                folder.changed = time;
            }
        }
        self.tell_links(&mut found);
        found
    }

    /// Adds to paths that changed what has changed by links.
    fn tell_links(&mut self, paths: &mut Vec<OriginPath>) {
        if !paths.is_empty() {
            self.links.settle(paths);
            self.links.follow(paths);
        }
    }

    /// Watches the folders below one that is watched.
    fn walk_below(&mut self, watch: Watch, path: OriginPath) {
        let mut todo = vec![(watch, path)];
        while let Some((above, path)) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(self.root.join(path.as_path())) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let Ok(kind) = entry.file_type() else { continue };
                if !kind.is_dir() && !kind.is_symlink() {
                    continue;
                }
                let name = entry.file_name();
                let Ok(path) = path.join(name.as_bytes()) else { continue };
                if kind.is_symlink() {
                    self.links.add(&path);
                    continue;
                }
                if let Some(watch) = self.add(above, name.as_bytes(), &path) {
                    todo.push((watch, path));
                }
            }
            if self.full {
                return;
            }
        }
    }

    /// Watches one folder; `None` when it is none, or cannot be watched.
    fn add(&mut self, above: Watch, name: &[u8], path: &OriginPath) -> Option<Watch> {
        let is_ignored = OriginPath::new(name).is_ok_and(|name| tags::is_ignored(&name));
        if is_ignored {
            return None;
        }
        let at = self.root.join(path.as_path());
        match inotify::add_watch(&self.queue, &at, MASK | WatchFlags::DONT_FOLLOW) {
            Ok(watch) if watch == self.top.0 => None,
            Ok(watch) => {
                // One that is known keeps its time.
                let before = self.folders.get(&watch).map(|folder| folder.changed);
                let look = || std::fs::symlink_metadata(&at).map_or(0, |is| changed(&is));
                let changed = before.unwrap_or_else(look);
                self.folders.insert(watch, Folder { above, name: name.into(), changed });
                Some(watch)
            }
            Err(Errno::NOSPC | Errno::NOMEM) => {
                self.full = true;
                None
            }
            Err(errno) => {
                debug!(folder = %path, error = %errno, "folder cannot be watched");
                None
            }
        }
    }

    fn path_of(&self, watch: Watch) -> Option<OriginPath> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = watch;
        while at != self.top.0 {
            let folder = self.folders.get(&at)?;
            names.push(&folder.name);
            at = folder.above;
            if names.len() > DEEPEST {
                return None;
            }
        }
        names.reverse();
        OriginPath::new(names.join(&b'/')).ok()
    }

    /// Reads all that the queue holds.
    pub(super) fn read(&mut self) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let queue = self.queue.clone();
        let mut events = inotify::Reader::new(&queue, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => {
                    self.tell_links(&mut seen.paths);
                    return Ok(seen);
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let name = event.file_name().map(|name| name.to_bytes().to_owned());
            self.take(event.wd(), event.events(), name.as_deref(), &mut seen);
        }
    }

    fn take(&mut self, watch: Watch, what: ReadFlags, name: Option<&[u8]>, seen: &mut Seen) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            seen.overflow = true;
            return;
        }
        let itself = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if watch == self.top.0 && what.intersects(itself) {
            seen.gone = true;
            return;
        }
        let Some(path) = self.path_of(watch) else { return };
        if what.contains(ReadFlags::IGNORED) {
            self.folders.remove(&watch);
            return;
        }
        if what.contains(ReadFlags::MOVE_SELF) {
            self.check(watch, &path);
            return;
        }
        let path = match name {
            Some(name) => path.join(name),
            None => Ok(path),
        };
        let Ok(path) = path else { return };
        let appeared = ReadFlags::CREATE | ReadFlags::MOVED_TO | ReadFlags::ATTRIB;
        if what.contains(ReadFlags::ISDIR) && what.intersects(appeared) {
            match name {
                Some(name) => {
                    if let Some(below) = self.add(watch, name, &path) {
                        self.walk_below(below, path.clone());
                    }
                }
                None => self.walk_below(watch, path.clone()),
            }
        }
        if name.is_some() && !what.contains(ReadFlags::ISDIR) && what.intersects(appeared) {
            let at = self.root.join(path.as_path());
            match std::fs::symlink_metadata(at).is_ok_and(|is| is.is_symlink()) {
                true => self.links.add(&path),
                false => self.links.remove(&path),
            }
        }
        if name.is_some() && what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.links.remove(&path);
        }
        if seen.paths.last() != Some(&path) && !tags::is_ignored(&path) {
            seen.paths.push(path);
        }
    }

    /// A folder was moved: when it is not where it is thought to be, it has left, with all below.
    fn check(&mut self, watch: Watch, path: &OriginPath) {
        let at = self.root.join(path.as_path());
        let there = inotify::add_watch(&self.queue, &at, MASK | WatchFlags::DONT_FOLLOW);
        match there {
            Ok(found) if found == watch => return,
            Ok(found) if found != self.top.0 => {
                // Another one stands where it was.
                let name = at.file_name().unwrap_or(OsStr::new("")).as_bytes().into();
                if let Some(above) = self.folders.get(&watch).map(|folder| folder.above) {
                    self.folders.insert(found, Folder { above, name, changed: 0 });
                }
            }
            _ => {}
        }
        let below: Vec<Watch> = self.folders.keys().copied().filter(|w| self.is_below(*w, watch)).collect();
        for watch in below {
            // It fails for one that the kernel has let go already.
            let _ = inotify::remove_watch(&self.queue, watch);
            self.folders.remove(&watch);
        }
    }

    fn is_below(&self, mut watch: Watch, top: Watch) -> bool {
        for _ in 0..DEEPEST {
            if watch == top {
                return true;
            }
            match self.folders.get(&watch) {
                Some(folder) => watch = folder.above,
                None => return false,
            }
        }
        false
    }
}

fn changed(is: &std::fs::Metadata) -> i64 {
    is.mtime().saturating_mul(1_000_000_000).saturating_add(is.mtime_nsec())
}
