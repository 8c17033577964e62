//! What can be wrong with an index, and how it is told: damage, which has it built again, from a disk that refuses.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musicfs_core::MetaError;
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};

use super::parse::TooLarge;

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The index is damaged: it is to be built again.
    #[error("the search index at {} is damaged: {reason}", dir.display())]
    Damaged {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somebody else writes to the index.
    #[error("another process writes to the search index at {}", dir.display())]
    Busy {
        /// Where it is.
        dir: PathBuf,
    },
    /// The disk refuses.
    #[error("the disk of the search index at {} refuses", dir.display())]
    Storage {
        /// Where it is.
        dir: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The catalogue failed.
    #[error("the catalogue could not be read")]
    Catalogue(#[from] MetaError),
    /// It was told to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Runs what calls tantivy: a panic there, by which it meets some damage, is damage.
pub(super) fn guarded<T>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, SearchError>,
) -> Result<T, SearchError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(SearchError::Damaged { dir: dir.to_owned(), reason: message(&*panic) }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// Sorts a failure of reading or writing: what does not come from the system says that the files are not what they
/// should be.
pub(super) fn of_disk(dir: &Path, error: io::Error) -> SearchError {
    let missing_or_other = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::AlreadyExists
    );
    if missing_or_other || error.raw_os_error().is_none() {
        SearchError::Damaged { dir: dir.to_owned(), reason: error.to_string() }
    } else {
        SearchError::Storage { dir: dir.to_owned(), source: error.into() }
    }
}

/// Sorts a failure: what the disk refuses is told from what is damaged.
pub(super) fn of_tantivy(dir: &Path, error: TantivyError) -> SearchError {
    let io = |error: &Arc<io::Error>| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    };
    match &error {
        TantivyError::IoError(error) => of_disk(dir, io(error)),
        TantivyError::LockFailure(LockError::IoError(error), _) => of_disk(dir, io(error)),
        TantivyError::LockFailure(LockError::LockBusy, _) => SearchError::Busy { dir: dir.to_owned() },
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => of_disk(dir, io(io_error)),
        TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. }) => of_disk(dir, io(io_error)),
        TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error, .. }) => {
            of_disk(dir, io(io_error))
        }
        _ => SearchError::Damaged { dir: dir.to_owned(), reason: error.to_string() },
    }
}
