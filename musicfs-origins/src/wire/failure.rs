//! What went wrong below an origin.

use std::error::Error;
use std::fmt;
#[cfg(feature = "direct")]
use std::io;
use std::sync::Arc;

use musicfs_core::{OriginError, OriginErrorKind, OriginId, OriginPath};

/// A failure that is not yet tied to an origin and a path. Cloning is cheap: one lost connection fails many calls.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: OriginErrorKind,
    cause: Cause,
    lost: bool,
}

/// The cause, shared between the calls that it failed.
#[derive(Clone, Debug)]
struct Cause(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Failure {
    /// Makes a failure of one call; the connection is as good as before.
    pub(crate) fn new(kind: OriginErrorKind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, cause: Cause(Arc::from(cause.into())), lost: false }
    }

    /// Makes a failure that took the connection with it.
    pub(crate) fn lost(kind: OriginErrorKind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { lost: true, ..Self::new(kind, cause) }
    }

    /// Returns the kind.
    pub(crate) fn kind(&self) -> OriginErrorKind {
        self.kind
    }

    /// Tells whether the connection is gone, so that another may do better.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Says at which origin and path it happened.
    pub(crate) fn at(self, origin: &OriginId, path: &OriginPath) -> OriginError {
        OriginError::new(origin, path, self.kind).with_source(self.cause)
    }
}

/// Failures of connections of our own.
#[cfg(feature = "direct")]
impl Failure {
    /// Sorts an error of a connection.
    pub(crate) fn of_io(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => OriginErrorKind::TimedOut,
            // Whatever else happens to a socket says nothing of a file.
            _ => OriginErrorKind::Unavailable,
        };
        Self::lost(kind, error)
    }

    /// Makes the failure of what came being against the protocol; nothing more can be read from the connection.
    pub(crate) fn garbled(what: impl Into<String>) -> Self {
        Self::lost(OriginErrorKind::Corrupt, what.into())
    }

    /// Marks that part of the answer had come: the call is not to be run again on another connection.
    pub(crate) fn midway(self) -> Self {
        Self { lost: false, ..self }
    }

    /// Marks that there is no connection.
    pub(crate) fn unconnected(self) -> Self {
        Self { lost: true, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.cause)
    }
}
