//! Opening, reading and closing files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use fuser::BackingId;
use futures::future::{Either, select};
use musicfs_core::{
    ByteRange, Clock, ContentReader, Course, FileId, FileMeta, Ino, MetaDb, NodeKind, ReadError, ReadPlan,
    Refreshed, Refresher,
};

use super::MusicFs;
use super::open_files::{OpenFile, ReadInFlight};
use crate::error::chain;
use crate::passthrough::{BackingKey, Granted, Mode, VersionKey};
use crate::stats::count;
use crate::{Attr, Backends, FsError};

/// Longest wait for the catalogue to be brought up to date when an opener finds it out of date.
const REFRESH_WITHIN: Duration = Duration::from_secs(5);

/// A file that is ready to be opened: what it reads is fixed.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: FileMeta,
    plan: ReadPlan,
    backing: Option<(fs::File, BackingKey)>,
}

/// Whether the kernel is to read files by itself where it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passthrough {
    Wanted,
    Off,
}

/// Why a file could not be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The catalogue's version of the file can no longer be had: it must be looked at again.
    Outdated(FileId),
    /// Any other reason.
    Failed(FsError),
}

impl From<FsError> for OpenError {
    fn from(error: FsError) -> Self {
        Self::Failed(error)
    }
}

/// An open file.
#[derive(Debug)]
pub struct Opened {
    /// Names the handle in reads and when it is closed.
    pub handle: u64,
    pub(crate) granted: Granted<BackingId>,
}

impl<B: Backends> MusicFs<B> {
    /// Opens a file for reading through the daemon.
    ///
    /// Dropping the future opens nothing.
    ///
    /// # Errors
    /// [`FsError::Stale`] when the file is not what the catalogue says; the catalogue is being brought up to date
    /// by then, and after a new lookup the file can be opened. Others as the reader has them.
    pub async fn open(&self, ino: Ino) -> Result<Opened, FsError> {
        match self.prepare_open(ino, Passthrough::Off).await {
            Ok(prepared) => Ok(self.finish_open(prepared, |_| Err(io::ErrorKind::Unsupported.into()))),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Outdated(id)) => {
                self.refresh(id).await?;
                Err(FsError::Stale)
            }
        }
    }

    /// Finds what a handle on an inode reads.
    pub(crate) async fn prepare_open(
        &self,
        ino: Ino,
        passthrough: Passthrough,
    ) -> Result<Prepared, OpenError> {
        count(&self.counters.opens);
        let id = ino.file_id().ok_or(FsError::IsADirectory)?;
        let file = self.backends.meta().file(id).map_err(|e| self.failed("open", &e))?;
        let file = file.ok_or(FsError::Stale)?;
        let reader = self.backends.reader();
        let plan = match reader.open(&file).await {
            Ok(plan) => plan,
            Err(ReadError::Changed(_) | ReadError::Gone(_)) => return Err(OpenError::Outdated(id)),
            Err(error) => return Err(self.read_failed(&file.origin, &file.path, &error).into()),
        };
        let mut backing = None;
        if passthrough == Passthrough::Wanted
            && !self.files.modes.refused()
            && let Some(opened) = reader.backing(&plan).await
            && let Ok(found) = opened.metadata()
            && found.len() == plan.size()
        {
            backing = Some((opened, BackingKey { dev: found.dev(), ino: found.ino() }));
        }
        Ok(Prepared { file, plan, backing })
    }

    /// Opens what was prepared. `register` makes a file known to the kernel, which then reads it by itself.
    pub(crate) fn finish_open(
        &self,
        prepared: Prepared,
        register: impl FnOnce(&fs::File) -> io::Result<BackingId>,
    ) -> Opened {
        let Prepared { file, plan, backing } = prepared;
        let ino = file.id.ino();
        let version = version_key(&plan);
        // The kernel knows the length of the file; a copy of another length must not be taken for it.
        if plan.file() != file.id && plan.size() != file.version.size {
            self.files.modes.open_direct(ino);
            let open = OpenFile::new(file, plan, Mode::Direct);
            return Opened { handle: self.files.insert(open), granted: Granted::Direct };
        }
        let offer = backing.as_ref().map(|(_, key)| *key);
        let granted = self.files.modes.open(ino, version, offer, || match &backing {
            Some((opened, _)) => register(opened),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        let mode = match &granted {
            Granted::Cached { .. } => Mode::Cached(version),
            Granted::Direct => Mode::Direct,
            Granted::Passthrough(_) => Mode::Passthrough,
            Granted::Around(_) => Mode::Around,
        };
        if mode == Mode::Passthrough {
            count(&self.counters.passthrough_opens);
        }
        let open = OpenFile::new(file, plan, mode);
        Opened { handle: self.files.insert(open), granted }
    }

    /// Reads from a handle: exactly what lies in the file of the `len` bytes at `offset`.
    ///
    /// Dropping the future is safe.
    ///
    /// # Errors
    /// [`FsError::Stale`] when the version that was opened can no longer be had.
    pub async fn read(&self, handle: u64, offset: u64, len: u32) -> Result<Bytes, FsError> {
        let file = self.files.get(handle).ok_or(FsError::BadHandle)?;
        count(&self.counters.reads);
        let asked = ByteRange::at(offset, u64::from(len));
        let range = asked.clamp_to(file.plan.size());
        if file.outlived.load(Ordering::SeqCst) {
            return Err(FsError::Stale);
        }
        if range.len() < asked.len() && self.is_replaced(&file) {
            // A short answer would make the kernel cut the new version at the old one's end.
            return Err(FsError::Stale);
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let clock = self.backends.clock();
        let began = clock.now();
        if let Some(error) = self.files.failures.recent(file.ino, range, began) {
            return Err(error);
        }
        let bytes = match self.backends.reader().read(&file.plan, range).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = self.read_failed(&file.origin, &file.path, &error);
                self.files.failures.note(file.ino, range, began, clock.now(), error);
                return Err(error);
            }
        };
        if bytes.len() as u64 != range.len() {
            count(&self.counters.errors);
            let (origin, path, got) = (&file.origin, &file.path, bytes.len());
            tracing::error!(%origin, %path, %range, got, "the reader answered another length than it was asked");
            return Err(FsError::Io);
        }
        self.counters.read_bytes.fetch_add(range.len(), Ordering::Relaxed);
        Ok(bytes)
    }

    /// Closes a handle. What it held is dropped.
    pub fn release(&self, handle: u64) {
        if let Some(file) = self.files.remove(handle) {
            drop(self.files.modes.close(file.ino, file.mode));
            // The kernel's pages are those of two copies then, alike as they are.
            if file.plan.course().is_some_and(Course::has_switched) {
                self.files.modes.forget(file.ino);
            }
        }
    }

    /// Counts a read of an inode as in flight for as long as the guard lives.
    pub(crate) fn begin_read(&self, ino: Ino) -> ReadInFlight {
        self.files.begin_read(ino)
    }

    /// Has the catalogue brought up to date on one file, within a limit.
    ///
    /// # Errors
    /// [`FsError::TimedOut`] at the limit.
    pub(crate) async fn refresh(&self, id: FileId) -> Result<Refreshed, FsError> {
        let clock = self.backends.clock();
        let limit = clock.sleep_until(clock.now().plus(REFRESH_WITHIN));
        match select(self.backends.refresher().refresh(id), limit).await {
            Either::Left((refreshed, _)) => Ok(refreshed),
            Either::Right(_) => {
                tracing::warn!(file = %id, "looking at a changed file took longer than {REFRESH_WITHIN:?}");
                Err(FsError::TimedOut)
            }
        }
    }

    /// Attributes of a file that is open and no longer in the tree.
    pub(super) fn open_file_attr(&self, ino: Ino) -> Option<Attr> {
        let file = self.files.of_inode(ino)?;
        let (size, mtime) = (file.plan.size(), file.mtime);
        Some(Attr { ino, kind: NodeKind::File, size, mtime, uid: self.options.uid, gid: self.options.gid })
    }

    /// As [`MusicFs::getattr`], asked for a handle.
    ///
    /// # Errors
    /// [`FsError::Stale`] also for a handle through the cache on a version of another length: the kernel would read
    /// it up to the length of the new one.
    pub(crate) fn getattr_of(&self, ino: Ino, handle: Option<u64>) -> Result<Attr, FsError> {
        let attr = self.getattr(ino)?;
        if let Some(file) = handle.and_then(|handle| self.files.get(handle))
            && matches!(file.mode, Mode::Cached(_))
            && file.plan.size() != attr.size
        {
            return Err(FsError::Stale);
        }
        Ok(attr)
    }

    /// Tells whether handles are open through the kernel's cache that read another size than the kernel is told.
    pub(crate) fn is_open_otherwise(&self, attr: &Attr) -> bool {
        attr.kind == NodeKind::File && self.files.outlive(attr.ino, attr.size)
    }

    /// Tells whether the tree shows another size than the handle reads. A file that left the tree is not replaced,
    /// and neither is one in whose place a copy is read.
    fn is_replaced(&self, file: &Arc<OpenFile>) -> bool {
        if file.ino.file_id() != Some(file.plan.file()) {
            return false;
        }
        let node = self.backends.meta().node(file.ino);
        matches!(node, Ok(Some(node)) if node.size != file.plan.size())
    }

    /// Logs a failed read, unless its origin has just failed others, and sorts it.
    pub(super) fn read_failed(
        &self,
        origin: &musicfs_core::OriginId,
        path: &musicfs_core::OriginPath,
        error: &ReadError,
    ) -> FsError {
        count(&self.counters.errors);
        let is_of_origin = matches!(
            error,
            ReadError::Unavailable(_) | ReadError::TimedOut { .. } | ReadError::LeftAlone { .. }
        );
        let said = if is_of_origin {
            self.files.complaints.note(origin, self.backends.clock().now())
        } else {
            Some(0)
        };
        match said {
            Some(0) => tracing::warn!(%origin, %path, error = chain(error), "reading failed"),
            Some(others) => {
                tracing::warn!(%origin, %path, error = chain(error), others, "reading failed, as did others before");
            }
            None => tracing::debug!(%origin, %path, error = chain(error), "reading failed"),
        }
        FsError::from(error)
    }
}

fn version_key(plan: &ReadPlan) -> VersionKey {
    let mut hasher = DefaultHasher::new();
    plan.file().hash(&mut hasher);
    plan.version().hash(&mut hasher);
    VersionKey(hasher.finish())
}
