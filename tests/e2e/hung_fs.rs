//! A filesystem of which one file can stop answering, to stand for a dead NAS or a failing disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};

/// Short, so that the kernel asks again.
const TTL: Duration = Duration::from_millis(1);

/// What the mount and the test share.
#[derive(Default)]
struct Shared {
    hangs: AtomicBool,
    /// Requests that wait for ever. Dropping one answers it with EIO.
    waiting: Mutex<Vec<ReplyData>>,
}

struct HungFs {
    /// Name and content, by inode number from 2.
    files: BTreeMap<u64, (String, Vec<u8>)>,
    /// The inode that may hang.
    hung: u64,
    shared: Arc<Shared>,
}

/// The mounted filesystem.
pub(crate) struct Hung {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

impl Hung {
    /// Mounts `files` at `at`; the one named `hung` stops answering when told to.
    pub(crate) fn mount(at: &Path, files: Vec<(String, Vec<u8>)>, hung: &str) -> Self {
        let files: BTreeMap<_, _> = (2..).zip(files).collect();
        let (hung, _) = files.iter().find(|(_, (name, _))| name == hung).unwrap();
        let shared = Arc::<Shared>::default();
        let fs = HungFs { hung: *hung, shared: Arc::clone(&shared), files: files.clone() };
        let mut config = Config::default();
        config.n_threads = Some(2);
        let session = fuser::spawn_mount(fs, at, &config).unwrap();
        Self { shared, session: Some(session) }
    }

    /// From now on no read of the file is answered.
    pub(crate) fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
    }

    /// Returns how many reads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.shared.hangs.store(false, Ordering::SeqCst);
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(session) = self.session.take() {
            drop(session);
        }
    }
}

impl HungFs {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match self.files.get(&ino.0) {
            Some((_, content)) => (FileType::RegularFile, 0o444, content.len() as u64),
            None if ino == INodeNo::ROOT => (FileType::Directory, 0o555, 0),
            None => return None,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
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
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for HungFs {
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
        // Dropping the pages of an earlier open would wait for those that hang, beyond the reach of any signal.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
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
        if ino.0 == self.hung && self.shared.hangs.load(Ordering::SeqCst) {
            self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
            return;
        }
        let Some((_, content)) = self.files.get(&ino.0) else { return reply.error(Errno::ENOENT) };
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
