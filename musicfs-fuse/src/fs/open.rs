//! Opening, reading and closing files.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use fuser::BackingId;
use futures::future::{Either, select};
use musicfs_core::{
    ByteRange, Clock, ContentReader, Course, FileId, FileMeta, Ino, MetaDb, MetaError, ReadError, ReadPlan,
    Refreshed, Refresher, Revision,
};
use parking_lot::Mutex;

use super::MusicFs;
use super::open_files::{OpenFile, ReadInFlight};
use crate::backed::Backed;
use crate::error::chain;
use crate::numbers::{Granted, Told, VersionKey, Wanted};
use crate::stats::count;
use crate::{Backends, FsError};

/// Longest wait for the catalogue to be brought up to date when an opener finds it out of date.
const REFRESH_WITHIN: Duration = Duration::from_secs(5);

/// A file that is ready to be opened: what it reads is fixed.
#[derive(Debug)]
pub(crate) struct Prepared {
    number: Ino,
    file: FileMeta,
    plan: ReadPlan,
    backing: Option<fs::File>,
    /// Of the catalogue, or an earlier one.
    revision: Revision,
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

/// Files that are being looked at, as a reader found them changed.
pub(crate) type Looks = Arc<Mutex<HashSet<FileId>>>;

/// A look at a file, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Look {
    file: FileId,
    all: Looks,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.all.lock().remove(&self.file);
    }
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
    pub(crate) granted: Granted<Backed>,
}

impl<B: Backends> MusicFs<B> {
    /// Opens a file for reading through the daemon, by the number under which the kernel knows it.
    ///
    /// Dropping the future opens nothing.
    ///
    /// # Errors
    /// [`FsError::Stale`] when the file is not what the catalogue says, or what the kernel was told under that number;
    /// after a new lookup the file can be opened. Others as the reader has them.
    pub async fn open(&self, number: Ino) -> Result<Opened, FsError> {
        match self.prepare_open(number, Passthrough::Off).await {
            Ok(prepared) => self.finish_open(prepared, |_| Err(io::ErrorKind::Unsupported.into())),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Outdated(id)) => {
                self.refresh(id).await?;
                Err(FsError::Stale)
            }
        }
    }

    /// Finds what a handle reads.
    pub(crate) async fn prepare_open(
        &self,
        number: Ino,
        passthrough: Passthrough,
    ) -> Result<Prepared, OpenError> {
        count(&self.counters.opens);
        let id = self.files.numbers.file(number).file_id().ok_or(FsError::IsADirectory)?;
        let revision = self.backends.meta().revision().map_err(|e| self.failed("open", &e))?;
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
            && !self.files.numbers.refused()
            && let Some(opened) = reader.backing(&plan).await
            && let Ok(found) = opened.metadata()
            && found.len() == plan.size()
        {
            backing = Some(opened);
        }
        Ok(Prepared { number, file, plan, backing, revision })
    }

    /// Opens what was prepared. `register` makes a file known to the kernel, which then reads it by itself.
    ///
    /// # Errors
    /// [`FsError::Stale`] when it is out of date, or the file is known by another number.
    pub(crate) fn finish_open(
        &self,
        prepared: Prepared,
        register: impl FnOnce(&fs::File) -> io::Result<BackingId>,
    ) -> Result<Opened, FsError> {
        let Prepared { number, file, plan, backing, revision } = prepared;
        let (version, told) = (version_key(&file, &plan), Told::from(&file.version));
        let wanted = match backing {
            // The kernel is told the length of the file; a copy of another length must not be taken for it.
            _ if plan.size() != told.size => Wanted::Direct,
            Some(file) => Wanted::Passthrough(move || Backed::new(register(&file)?, file)),
            None => Wanted::Cached,
        };
        let granted = self.files.numbers.open(number, version, told, wanted).ok_or(FsError::Stale)?;
        let handle = self.files.insert(OpenFile::new(number, file, plan));
        // From here on the kernel is told of no other version under this number. What was known when the handle was
        // prepared, it may have been told before.
        match self.is_since(handle, revision) {
            Ok(true) => {}
            Ok(false) => return Err(self.never_opened(handle, FsError::Stale)),
            Err(error) => return Err(self.never_opened(handle, self.failed("open", &error))),
        }
        if matches!(granted, Granted::Passthrough(_)) {
            count(&self.counters.passthrough_opens);
        }
        Ok(Opened { handle, granted })
    }

    fn never_opened(&self, handle: u64, error: FsError) -> FsError {
        self.release(handle);
        error
    }

    /// Tells whether the catalogue has had the version of a handle since a revision of it.
    fn is_since(&self, handle: u64, revision: Revision) -> Result<bool, MetaError> {
        Ok(self.backends.meta().revision()? == revision || self.is_known(handle)?)
    }

    /// Tells whether the version of a handle is the one that the catalogue has.
    pub(crate) fn is_known(&self, handle: u64) -> Result<bool, MetaError> {
        let Some(open) = self.files.get(handle) else { return Ok(false) };
        Ok(self.backends.meta().file(open.id)?.is_some_and(|file| file.version == open.version))
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
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let clock = self.backends.clock();
        let began = clock.now();
        if let Some(error) = self.files.failures.recent(file.number, range, began) {
            return Err(error);
        }
        let bytes = match self.backends.reader().read(&file.plan, range).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = self.read_failed(&file.origin, &file.path, &error);
                self.files.failures.note(file.number, range, began, clock.now(), error);
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
            drop(self.files.numbers.close(file.number));
            // The kernel's pages are those of two copies then, alike as they are.
            if file.plan.course().is_some_and(Course::has_switched) {
                self.files.numbers.forget(file.number);
            }
        }
    }

    /// Counts a read under a number as in flight for as long as the guard lives.
    pub(crate) fn begin_read(&self, number: Ino) -> ReadInFlight {
        self.files.begin_read(number)
    }

    /// Takes note that a file is about to be looked at; `None` when it is already.
    pub(crate) fn begin_look(&self, file: FileId) -> Option<Look> {
        let begun = self.looks.lock().insert(file);
        begun.then(|| Look { file, all: self.looks.clone() })
    }

    /// Returns the file of a number when it is being looked at: what the catalogue says of it is known to be outdated.
    pub(crate) fn looked_at(&self, number: Ino) -> Option<FileId> {
        let file = self.files.numbers.file(number).file_id()?;
        self.looks.lock().contains(&file).then_some(file)
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

fn version_key(file: &FileMeta, plan: &ReadPlan) -> VersionKey {
    let mut hasher = DefaultHasher::new();
    (&file.version, plan.file(), plan.version()).hash(&mut hasher);
    VersionKey(hasher.finish())
}
