//! The kernel's requests: unpack, call, reply.
//!
//! Metadata is answered on the thread that took the request. Opening, reading and hashing are polled once there,
//! which answers what needs no waiting, and else move with their reply to the runtime, so that the thread is free.
//!
//! # Invariants
//! * Every request is answered, whatever happens: a panic is caught (it would end the thread that takes requests,
//!   for good) and becomes EIO, as a reply answers EIO when it is dropped.
//! * No invalidation is sent from here; the kernel could wait for the very thread that sends it.
//! * At most [`ASYNC_REQUESTS`] requests hold bytes at once. The kernel itself bounds how many wait: one a
//!   program's thread, and [`BACKGROUND`] read ahead.
//! * Several requests are answered ENOSYS once, after which the kernel does not send them any more: `opendir`
//!   (directories need no handle, and their listing then comes from the kernel's cache), `flush`, `fsync` and
//!   `lseek`.

use std::any::Any;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use futures::FutureExt;
use musicfs_core::{Ino, MetaDb, Refreshed};
use nix::libc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::attr::{file_type, negative};
use crate::fs::{Emitted, Listing, OpenError, Passthrough, Prepared, Xattr, XattrAnswer};
use crate::invalidate::Invalidator;
use crate::numbers::Granted;
use crate::stats::count;
use crate::{Backends, FsError, MusicFs};

/// How long the kernel keeps what a search found: as long as it is taken to be so.
const SEARCH_TTL: Duration = Duration::from_secs(1);
/// Requests that may be in work on the runtime at once. Each holds at most one reply of [`REQUEST`], or what that is
/// made of; others wait in line. More than [`BACKGROUND`], so that reading ahead cannot keep programs from opening files.
const ASYNC_REQUESTS: usize = 320;
/// Longest request of the kernel in bytes, of reads as of the writes that there are none of. Two of these on their way at
/// once are answered sooner than one that is as long, and fewer of them lie across two chunks.
const REQUEST: u32 = 512 << 10;
/// Reads ahead that the kernel may have waiting. When an origin hangs, as many of its reads must pile up before
/// those of other files have to wait for a deadline; the kernel's default is 12.
const BACKGROUND: u16 = 256;
/// Waiting reads ahead from which the kernel takes the filesystem for congested.
const CONGESTED: u16 = 192;
/// Longest wait for the kernel to take notice of a change before an opener is sent to look again.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(1);
/// Inode numbers are not used for another thing while they are known, so that there is one generation.
const GENERATION: Generation = Generation(0);

/// What the requests and their tasks share.
pub(crate) struct Shared<B: Backends> {
    pub(crate) fs: MusicFs<B>,
    slots: Semaphore,
    pub(crate) invalidator: Invalidator,
    passthrough: Passthrough,
}

/// Serves the kernel's requests.
pub(crate) struct Adapter<B: Backends> {
    shared: Arc<Shared<B>>,
    runtime: Handle,
    ttl: Duration,
    stack_depth: Option<u32>,
    /// Whether the kernel does without `opendir` when that is answered ENOSYS.
    no_opendir: bool,
    ended: watch::Sender<bool>,
}

impl<B: Backends> Adapter<B> {
    /// Makes an adapter. `stack_depth` is the depth of filesystems to allow below a file that the kernel reads by
    /// itself, or `None` to have it read none. `ended` is set when the mount has ended.
    pub(crate) fn new(
        fs: MusicFs<B>,
        invalidator: Invalidator,
        runtime: Handle,
        ttl: Duration,
        stack_depth: Option<u32>,
        ended: watch::Sender<bool>,
    ) -> Self {
        let slots = Semaphore::new(ASYNC_REQUESTS);
        let wanted = if stack_depth.is_some() { Passthrough::Wanted } else { Passthrough::Off };
        let shared = Arc::new(Shared { fs, slots, invalidator, passthrough: wanted });
        Self { shared, runtime, ttl, stack_depth, no_opendir: false, ended }
    }

    pub(crate) fn shared(&self) -> Arc<Shared<B>> {
        self.shared.clone()
    }

    /// Returns the inode number of what the kernel means.
    fn ino(&self, number: INodeNo) -> Ino {
        self.shared.fs.files.numbers.file(by_number(number))
    }

    /// Answers at once. A panic drops the reply, which answers EIO.
    fn answer(&self, operation: &'static str, work: impl FnOnce(&MusicFs<B>)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&self.shared.fs))) {
            self.shared.panicked(operation, &*panic);
        }
    }

    /// Answers at once when that needs no waiting, else on the runtime.
    fn answer_later<F>(&self, operation: &'static str, work: impl FnOnce(Arc<Shared<B>>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = self.shared.clone();
        let work = work(self.shared.clone());
        let guarded = async move {
            let task = async {
                let Ok(_slot) = shared.slots.acquire().await else { return };
                work.await;
            };
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                shared.panicked(operation, &*panic);
            }
        };
        let mut guarded = Box::pin(guarded);
        let _runtime = self.runtime.enter();
        if guarded.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.runtime.spawn(guarded);
        }
    }
}

impl<B: Backends> Shared<B> {
    fn panicked(&self, operation: &'static str, panic: &(dyn Any + Send)) {
        count(&self.fs.counters.panics);
        let what = panic.downcast_ref::<&str>().copied();
        let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let what = what.unwrap_or("no message");
        tracing::error!(operation, panic = what, "a request failed with a panic; the mount goes on");
    }

    async fn open(&self, number: Ino, reply: ReplyOpen) {
        let prepared = match self.prepare(number).await {
            Ok(prepared) => self.announced().await.map(|()| prepared),
            Err(error) => Err(error),
        };
        match prepared {
            Ok(prepared) => self.finish(prepared, reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    /// Waits until the kernel knows what the catalogue does: what is opened may be so new that the kernel still has
    /// the size of what was there before.
    async fn announced(&self) -> Result<(), FsError> {
        let reached = self.fs.backends.meta().revision().map_err(|e| self.fs.failed("open", &e))?;
        if self.invalidator.is_behind(reached) {
            self.invalidator.catch_up(self.fs.backends.clock(), CATCH_UP_WITHIN).await;
        }
        Ok(())
    }

    /// Prepares a file. When the catalogue turns out to be out of date, it is brought up to date, the kernel told,
    /// and the opener sent to look the path up again, which the kernel does by itself.
    async fn prepare(&self, number: Ino) -> Result<Prepared, FsError> {
        let id = match self.fs.looked_at(number) {
            Some(id) => id,
            None => match self.fs.prepare_open(number, self.passthrough).await {
                Ok(prepared) => return Ok(prepared),
                Err(OpenError::Failed(error)) => return Err(error),
                Err(OpenError::Outdated(id)) => id,
            },
        };
        match self.fs.refresh(id).await? {
            // The file came back, or changed only in passing.
            Refreshed::Unchanged => match self.fs.prepare_open(number, self.passthrough).await {
                Ok(prepared) => Ok(prepared),
                Err(OpenError::Failed(error)) => Err(error),
                Err(OpenError::Outdated(_)) => Err(FsError::Stale),
            },
            Refreshed::Updated | Refreshed::Gone => {
                self.invalidator.catch_up(self.fs.backends.clock(), CATCH_UP_WITHIN).await;
                Err(FsError::Stale)
            }
            Refreshed::Unknown => Err(FsError::Stale),
        }
    }

    fn finish(&self, prepared: Prepared, reply: ReplyOpen) {
        let opened = match self.fs.finish_open(prepared, |file| reply.open_backing(file)) {
            Ok(opened) => opened,
            Err(error) => return reply.error(errno(error)),
        };
        let handle = FileHandle(opened.handle);
        let flags = FopenFlags::FOPEN_NOFLUSH;
        match opened.granted {
            Granted::Cached { keep: true } => reply.opened(handle, flags | FopenFlags::FOPEN_KEEP_CACHE),
            Granted::Cached { keep: false } => reply.opened(handle, flags),
            Granted::Direct => reply.opened(handle, flags | FopenFlags::FOPEN_DIRECT_IO),
            Granted::Passthrough(backing) => reply.opened_passthrough(handle, flags, backing.id()),
        }
    }

    async fn read(self: Arc<Self>, number: Ino, handle: u64, offset: u64, size: u32, reply: ReplyData) {
        match self.fs.read(handle, offset, size).await {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => {
                // The reader has its answer; the catalogue learns of the change for the next one, who waits for that, if it
                // does not know.
                let id = self.fs.files.numbers.file(number).file_id();
                let look = match (error, id, self.fs.is_known(handle)) {
                    (FsError::Stale, Some(id), Ok(true)) => self.fs.begin_look(id).map(|look| (id, look)),
                    _ => None,
                };
                reply.error(errno(error));
                if let Some((id, look)) = look {
                    tokio::spawn(async move {
                        // Whoever opens it next sees what came of it.
                        let _ = self.fs.refresh(id).await;
                        drop(look);
                    });
                }
            }
        }
    }
}

fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno() as i32)
}

fn by_number(number: INodeNo) -> Ino {
    Ino::from_raw(number.0)
}

fn answer_xattr(reply: ReplyXattr, answer: Result<Xattr, FsError>) {
    match answer {
        Ok(Xattr::Size(size)) => reply.size(size),
        Ok(Xattr::Value(value)) => reply.data(&value),
        Err(error) => reply.error(errno(error)),
    }
}

fn emitted(full: bool) -> Emitted {
    if full { Emitted::Full } else { Emitted::Taken }
}

impl<B: Backends> Filesystem for Adapter<B> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_EXPORT_SUPPORT,
            // A file or directory whose mtime is found changed loses its cached content.
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        ];
        for capability in wanted {
            // An old kernel that lacks one does without.
            let has = config.add_capabilities(capability).is_ok();
            if capability == InitFlags::FUSE_NO_OPENDIR_SUPPORT {
                self.no_opendir = has;
            }
        }
        if let Some(depth) = self.stack_depth
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        {
            let _ = config.set_max_stack_depth(depth);
        }
        let _ = config.set_max_write(REQUEST);
        let _ = config.set_max_background(BACKGROUND);
        let _ = config.set_congestion_threshold(CONGESTED);
        Ok(())
    }

    fn destroy(&mut self) {
        self.ended.send_replace(true);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = by_number(parent);
        self.answer("lookup", |fs| match fs.lookup(parent, name.as_bytes()) {
            Ok(attr) => {
                let keep = |searched| if searched { SEARCH_TTL } else { self.ttl };
                let entry_ttl = keep(fs.is_search(parent) || fs.is_search(attr.ino));
                let (attr, attr_ttl) = attr.to_entry(keep(fs.is_search(attr.ino)));
                reply.entry_with_ttls(&attr_ttl, &entry_ttl, &attr, GENERATION);
            }
            // What a search finds may change at any time, and nothing announces it.
            Err(FsError::NotFound) if fs.is_search(parent) => reply.error(Errno::ENOENT),
            // Cached as "there is none", which an error would not be.
            Err(FsError::NotFound) => reply.entry(&self.ttl, &negative(), GENERATION),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn forget(&self, _: &Request, _: INodeNo, _: u64) {}

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer("getattr", |fs| match fs.getattr(by_number(number)) {
            Ok(attr) if fs.is_search(attr.ino) => reply.attr(&SEARCH_TTL, &attr.to_kernel()),
            Ok(attr) => reply.attr(&self.ttl, &attr.to_kernel()),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn readdir(&self, _: &Request, dir: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        self.answer("readdir", |fs| {
            let listed = fs.readdir(by_number(dir), from, Listing::Names, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                let number = INodeNo(entry.attr.ino.raw());
                emitted(reply.add(number, entry.next, file_type(entry.attr.kind), name))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        from: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.answer("readdirplus", |fs| {
            let searched = fs.is_search(by_number(dir));
            let listed = fs.readdir(by_number(dir), from, Listing::Attributes, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                let (attr, ttl) = entry.attr.to_entry(if searched { SEARCH_TTL } else { self.ttl });
                emitted(reply.add(attr.ino, entry.next, name, &ttl, &attr, GENERATION))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & (libc::O_TRUNC | libc::O_CREAT) != 0 {
            return reply.error(Errno::EROFS);
        }
        self.answer_later("open", |shared| async move { shared.open(by_number(number), reply).await });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let in_flight = self.shared.fs.begin_read(by_number(number));
        self.answer_later("read", |shared| async move {
            shared.read(by_number(number), handle.0, offset, size, reply).await;
            drop(in_flight);
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.answer("release", |fs| {
            fs.release(handle.0);
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.answer("statfs", |fs| match fs.statfs() {
            Ok(s) => reply.statfs(s.blocks, 0, 0, s.files, 0, s.block_size, s.name_max, s.block_size),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn access(&self, _: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.answer("access", |fs| match fs.access(self.ino(number), mask.bits()) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let mut wanted = None;
        self.answer("getxattr", |fs| match fs.begin_getxattr(self.ino(number), name.as_bytes(), size) {
            Ok(XattrAnswer::Ready(answer)) => answer_xattr(reply, Ok(answer)),
            Ok(XattrAnswer::Hash(file)) => wanted = Some((file, reply)),
            Err(error) => reply.error(errno(error)),
        });
        if let Some((file, reply)) = wanted {
            self.answer_later("getxattr", |shared| async move {
                answer_xattr(reply, shared.fs.hash_xattr(&file, size).await);
            });
        }
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        self.answer("listxattr", |fs| answer_xattr(reply, fs.listxattr(self.ino(number), size)));
    }

    // What the kernel asks once and never again.

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn readlink(&self, _: &Request, _: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    // What would write.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}
