//! The index's files, read by `pread` and written without waiting for the disk.
//!
//! tantivy's own directory maps files into memory: the pages count as the daemon's, and a file that somebody cuts
//! short kills the process with a signal. Here a read of what is no longer there is an error like any other.
//!
//! It also waits for the disk some eight times in each commit, beside a scan that has better use for it. Here nothing
//! is synced: after a kill of the process all is there; after a power cut an index whose last files were not written
//! yet does not match its checksums, and is built again. Locking and removing are tantivy's own.
//!
//! tantivy tells of a write that failed in one of its threads only that the thread has ended. So that a full disk is
//! not taken for damage, the failure is kept here, see [`PlainDirectory::refused`]; its lock is held to put it there.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, OwnedBytes, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

/// A directory of index files.
#[derive(Clone)]
pub(super) struct PlainDirectory {
    inner: MmapDirectory,
    root: PathBuf,
    refused: Refused,
}

/// The last write that failed.
type Refused = Arc<Mutex<Option<io::Error>>>;

/// Keeps a failure.
fn kept<T>(refused: &Refused, done: io::Result<T>) -> io::Result<T> {
    done.inspect_err(|error| *refused.lock() = Some(again(error)))
}

/// Makes the same error a second time.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl PlainDirectory {
    pub(super) fn open(root: &Path) -> Result<Self, OpenDirectoryError> {
        Ok(Self { inner: MmapDirectory::open(root)?, root: root.to_owned(), refused: Refused::default() })
    }

    /// Takes the last write that failed.
    pub(super) fn refused(&self) -> Option<io::Error> {
        self.refused.lock().take()
    }

    fn write_whole(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        // There is one writer, which holds the lock: what another left behind may be overwritten.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = self.root.join(new);
        fs::write(&new, data)?;
        fs::rename(new, self.root.join(path))
    }
}

impl fmt::Debug for PlainDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainDirectory({})", self.root.display())
    }
}

impl Directory for PlainDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let failed = |error: io::Error| OpenReadError::wrap_io_error(error, path.to_owned());
        let file = File::open(self.root.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
            _ => failed(error),
        })?;
        let len = file.metadata().map_err(failed)?.len();
        let len = usize::try_from(len).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
        Ok(Arc::new(PlainFile { file, len, near: Mutex::new((0, OwnedBytes::empty())) }))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let created = kept(&self.refused, File::create_new(self.root.join(path)));
        let file = created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
            _ => OpenWriteError::wrap_io_error(error, path.to_owned()),
        })?;
        Ok(BufWriter::new(Box::new(Unsynced { file, refused: self.refused.clone() })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        fs::read(self.root.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
            _ => OpenReadError::wrap_io_error(error, path.to_owned()),
        })
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        kept(&self.refused, self.write_whole(path, data))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    /// Nobody else writes: readers are told by hand, and no thread looks.
    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// A file that is being written.
struct Unsynced {
    file: File,
    refused: Refused,
}

impl Write for Unsynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        kept(&self.refused, self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for Unsynced {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        Ok(())
    }
}

/// A read of at most this many bytes is answered from what lies near the last one.
const SMALL: usize = 4 * 1024;
/// Bytes read for a small read: tantivy reads the lists of words that follow each other one by one, often of two bytes
/// each. What an open index keeps of this is some MiB.
const NEAR: usize = 16 * 1024;

/// A file that is read. It does not change, so that what was read of it holds.
#[derive(Debug)]
struct PlainFile {
    file: File,
    len: usize,
    /// What was read for the last small read, and where it begins. Its lock is not held while the file is read.
    near: Mutex<(usize, OwnedBytes)>,
}

impl PlainFile {
    fn read(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let mut bytes = vec![0; range.len()];
        self.file.read_exact_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

impl HasLen for PlainFile {
    fn len(&self) -> usize {
        self.len
    }
}

impl FileHandle for PlainFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if range.len() > SMALL {
            return self.read(range);
        }
        let (start, near) = self.near.lock().clone();
        if range.start >= start && range.end <= start + near.len() {
            return Ok(near.slice(range.start - start..range.end - start));
        }
        let near = self.read(range.start..self.len.min(range.start + NEAR))?;
        *self.near.lock() = (range.start, near.clone());
        Ok(near.slice(0..range.len()))
    }
}
