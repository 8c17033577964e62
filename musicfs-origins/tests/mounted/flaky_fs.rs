//! A filesystem of one file whose reads fail as told, in the ways of a network that was lost.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};

const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::ZERO;

type Failures = Arc<Mutex<VecDeque<Errno>>>;

struct FlakyFs {
    name: String,
    content: Vec<u8>,
    failures: Failures,
}

/// The mounted filesystem; unmounted when dropped.
pub(crate) struct Flaky {
    failures: Failures,
    _session: BackgroundSession,
}

impl Flaky {
    pub(crate) fn mount(at: &Path, name: &str, content: &[u8]) -> Self {
        let failures = Failures::default();
        let fs =
            FlakyFs { name: name.to_owned(), content: content.to_vec(), failures: Arc::clone(&failures) };
        let session = fuser::spawn_mount(fs, at, &Config::default()).unwrap();
        Self { failures, _session: session }
    }

    /// Makes the next reads fail, one after the other.
    pub(crate) fn fail(&self, with: impl IntoIterator<Item = Errno>) {
        self.failures.lock().unwrap().extend(with);
    }

    /// Returns how many failures are still to come.
    pub(crate) fn left(&self) -> usize {
        self.failures.lock().unwrap().len()
    }
}

impl FlakyFs {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let (kind, perm, size) = match ino {
            FILE => (FileType::RegularFile, 0o444, self.content.len() as u64),
            _ => (FileType::Directory, 0o555, 0),
        };
        FileAttr {
            ino,
            size,
            blocks: 1,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for FlakyFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == OsStr::new(&self.name) {
            reply.entry(&TTL, &self.attr(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Each read is to come here once, and not from the kernel's pages.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.failures.lock().unwrap().pop_front() {
            Some(errno) => reply.error(errno),
            None => reply.data(&self.content[(offset as usize).min(self.content.len())..]),
        }
    }
}
