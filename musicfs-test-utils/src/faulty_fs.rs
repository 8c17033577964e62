//! A mounted filesystem whose reads fail or hang as told: a dead NAS, a failing disk, a network that was lost.
//!
//! One lock guards what is told and what waits; it is held for a few lines.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use parking_lot::Mutex;

/// The kernel asks each time.
const TTL: Duration = Duration::ZERO;
/// When all files were written, in seconds since 1970.
const WRITTEN: u64 = 1_600_000_000;

#[derive(Default)]
struct Told {
    /// How the next reads fail, one after the other.
    failures: VecDeque<Errno>,
    /// The file that does not answer.
    hung: Option<String>,
    /// Reads that wait for ever. Dropping one answers it with EIO.
    waiting: Vec<ReplyData>,
}

/// A filesystem of some files in one directory, unmounted when dropped.
pub struct FaultyFs {
    told: Arc<Mutex<Told>>,
    session: Option<BackgroundSession>,
}

impl FaultyFs {
    /// Mounts files, each with its name and content, at `at`.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(at: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> io::Result<Self> {
        let told = Arc::<Mutex<Told>>::default();
        let owner = fs::metadata(at)?;
        let files = (2..).zip(files).collect();
        let fs = Served { files, owner: (owner.uid(), owner.gid()), told: Arc::clone(&told) };
        let mut config = Config::default();
        config.n_threads = Some(2);
        let session = fuser::spawn_mount(fs, at, &config)?;
        Ok(Self { told, session: Some(session) })
    }

    /// Makes the next reads fail with these numbers of errors, one after the other.
    pub fn fail(&self, with: impl IntoIterator<Item = i32>) {
        self.told.lock().failures.extend(with.into_iter().map(Errno::from_i32));
    }

    /// Returns how many failures are still to come.
    pub fn left(&self) -> usize {
        self.told.lock().failures.len()
    }

    /// From now on no read of a file is answered.
    pub fn hang(&self, name: &str) {
        self.told.lock().hung = Some(name.to_owned());
    }

    /// Returns how many reads wait.
    pub fn waiting(&self) -> usize {
        self.told.lock().waiting.len()
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        let mut told = self.told.lock();
        told.hung = None;
        told.waiting.clear();
        drop(told);
        drop(self.session.take());
    }
}

impl std::fmt::Debug for FaultyFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyFs").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

struct Served {
    /// Name and content, by inode number from 2.
    files: BTreeMap<u64, (String, Vec<u8>)>,
    owner: (u32, u32),
    told: Arc<Mutex<Told>>,
}

impl Served {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match self.files.get(&ino.0) {
            Some((_, content)) => (FileType::RegularFile, 0o444, content.len() as u64),
            None if ino == INodeNo::ROOT => (FileType::Directory, 0o555, 0),
            None => return None,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN);
        Some(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.files.iter().find(|(_, (known, _))| OsStr::new(known) == name);
        match found.and_then(|(ino, _)| self.attr(INodeNo(*ino))) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // A read that fails is to come here once. One that hangs is to be waited for as the kernel waits for pages: the
        // reader can be killed then, but not while pages of an earlier open are dropped.
        let fails = !self.told.lock().failures.is_empty();
        let flags = if fails { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((name, content)) = self.files.get(&ino.0) else { return reply.error(Errno::ENOENT) };
        let mut told = self.told.lock();
        if told.hung.as_ref() == Some(name) {
            return told.waiting.push(reply);
        }
        let failure = told.failures.pop_front();
        drop(told);
        if let Some(errno) = failure {
            return reply.error(errno);
        }
        let start = (offset as usize).min(content.len());
        let end = (start + size as usize).min(content.len());
        reply.data(&content[start..end]);
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (ino, (name, _)) in self.files.range(offset + 2..) {
            if reply.add(INodeNo(*ino), ino - 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
