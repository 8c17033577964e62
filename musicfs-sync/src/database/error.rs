//! Failures of opening a store, and how SQLite's are sorted.

use std::io;
use std::path::{Path, PathBuf};

use musicfs_core::MetaError;
use rusqlite::ErrorCode;

/// Why the catalogue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file is damaged. It was left as it is.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a later version of MusicFS. It was left as it is.
    #[error(
        "{} has schema {found}, and this version of MusicFS knows schemas up to {known}; \
         upgrade MusicFS or move the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that is known.
        known: i64,
    },
    /// The file is another program's. It was left as it is.
    #[error("{} is a database, but not one of MusicFS's; choose another place or move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The operating system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite failed for a reason that is not damage: a full disk, a lock, missing rights.
    #[error("cannot open {}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DatabaseError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            Self::corrupt(path, error)
        } else {
            Self::Storage { path: path.to_owned(), source: error.into() }
        }
    }
}

/// A failure inside a call: SQLite's, or one that has its final form.
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Meta(MetaError),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// What is stored makes no sense.
pub(crate) fn damaged(what: impl ToString) -> Failure {
    Failure::Meta(MetaError::Corrupt(what.to_string()))
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Self {
        Self::Meta(error)
    }
}

impl From<Failure> for MetaError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Meta(error) => error,
            Failure::Sql(error) if is_damage(&error) => Self::Corrupt(error.to_string()),
            Failure::Sql(error) => Self::Storage(error.into()),
        }
    }
}

/// Tells whether an error shows that what is stored is damaged: SQLite says so, or a row is not of the shape that
/// it was written in.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::Utf8Error(..) => true,
        other => {
            matches!(
                other.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch)
            ) || is_missing_table(other)
        }
    }
}

/// A statement that does not compile names a table or column that a damaged schema has lost.
fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || matches!(error, rusqlite::Error::SqliteFailure(code, Some(message))
            if code.extended_code == rusqlite::ffi::SQLITE_ERROR && message.starts_with("no such "))
}
