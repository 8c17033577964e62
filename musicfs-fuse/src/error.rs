//! Errors as the kernel's side knows them, and the one place where each becomes an errno.

use musicfs_core::{MetaError, ReadError};
use nix::errno::Errno;

/// Why the filesystem refuses, by what the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FsError {
    /// There is no such entry.
    #[error("no such file or directory")]
    NotFound,
    /// The inode is no longer in the tree, or a handle's version can no longer be had. The kernel looks the path
    /// up again and tries once more.
    #[error("the file is no longer what it was")]
    Stale,
    /// A file where a directory is wanted.
    #[error("not a directory")]
    NotADirectory,
    /// A directory where a file is wanted.
    #[error("is a directory")]
    IsADirectory,
    /// Anything that would write.
    #[error("the filesystem is read-only")]
    ReadOnly,
    /// There is no such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// The caller's buffer is too small for the attribute.
    #[error("the buffer is too small")]
    BufferTooSmall,
    /// Not allowed.
    #[error("permission denied")]
    Denied,
    /// No answer before the deadline.
    #[error("timed out")]
    TimedOut,
    /// The handle is not an open one.
    #[error("not an open file")]
    BadHandle,
    /// A name is longer than names can be.
    #[error("the name is too long")]
    NameTooLong,
    /// Anything else that went wrong.
    #[error("input/output error")]
    Io,
}

impl FsError {
    /// Returns the error's number, as programs see it.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NotFound => Errno::ENOENT,
            Self::Stale => Errno::ESTALE,
            Self::NotADirectory => Errno::ENOTDIR,
            Self::IsADirectory => Errno::EISDIR,
            Self::ReadOnly => Errno::EROFS,
            Self::NoAttribute => Errno::ENODATA,
            Self::BufferTooSmall => Errno::ERANGE,
            Self::Denied => Errno::EACCES,
            Self::TimedOut => Errno::ETIMEDOUT,
            Self::BadHandle => Errno::EBADF,
            Self::NameTooLong => Errno::ENAMETOOLONG,
            Self::Io => Errno::EIO,
        }
    }
}

impl From<&MetaError> for FsError {
    fn from(error: &MetaError) -> Self {
        match error {
            MetaError::IdTaken { .. }
            | MetaError::UnknownFile(_)
            | MetaError::Corrupt(_)
            | MetaError::Storage(_) => Self::Io,
        }
    }
}

impl From<&ReadError> for FsError {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::Changed(_) | ReadError::Gone(_) => Self::Stale,
            ReadError::Denied(_) => Self::Denied,
            ReadError::TimedOut { .. } => Self::TimedOut,
            ReadError::Unavailable(_) | ReadError::LeftAlone { .. } | ReadError::UnknownOrigin(_) => Self::Io,
            ReadError::Catalogue(error) => Self::from(error),
        }
    }
}

/// An error with all its causes in one line, for a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{OriginError, OriginErrorKind, OriginId, OriginPath};
    use std::time::Duration;

    #[test]
    fn read_error_of_each_kind_has_the_errno_that_programs_expect() {
        let origin = |kind| OriginError::new(&OriginId::from("o"), &OriginPath::root(), kind);
        let errno = |error: ReadError| FsError::from(&error).errno();
        assert_eq!(errno(origin(OriginErrorKind::Changed).into()), Errno::ESTALE);
        assert_eq!(errno(origin(OriginErrorKind::NotFound).into()), Errno::ESTALE);
        assert_eq!(errno(origin(OriginErrorKind::Denied).into()), Errno::EACCES);
        assert_eq!(errno(origin(OriginErrorKind::Unavailable).into()), Errno::EIO);
        assert_eq!(errno(MetaError::Corrupt("x".into()).into()), Errno::EIO);
        let after = Duration::from_secs(5);
        assert_eq!(errno(ReadError::TimedOut { origin: "o".into(), after }), Errno::ETIMEDOUT);
    }

    #[test]
    fn chain_names_every_cause_once() {
        let inner = std::io::Error::other("cable pulled");
        let error = OriginError::from_io(&OriginId::from("nas"), &OriginPath::new("a").unwrap(), inner);
        assert_eq!(
            chain(&ReadError::from(error)),
            "the origin cannot deliver the file: nas:a: unavailable: cable pulled"
        );
    }
}
