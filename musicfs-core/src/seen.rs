//! What was read of files in passing: a scan for tags reads heads and tails that others want next.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{FileMeta, OriginId};

/// A file of which something was read for a purpose other than to serve it.
#[derive(Clone, Debug)]
pub struct SeenFile {
    /// The file as it is recorded; what was read is of its version.
    pub file: FileMeta,
    /// What was read, each part with its offset. No two overlap.
    pub parts: Vec<(u64, Bytes)>,
}

/// Keeps what was read in passing of heads and tails of files, so that it need not be fetched again.
///
/// # Contract
/// * Nothing is promised to be kept: there may be no room, and nothing makes room for it. Failures are the keeper's
///   to log.
/// * What is kept is found by whoever reads the file from then on, also after a restart.
pub trait SeenKeeper: Send + Sync + 'static {
    /// Returns how much of the head of a file of `origin` is worth reading at once, as it will be kept, or `None`
    /// when nothing of the origin's files is kept at present. Does not block.
    fn head(&self, origin: &OriginId) -> Option<u64>;

    /// Begins to keep what was read. The future is ready when that is done, and dropping it does not end it. The
    /// files must be in the catalogue.
    ///
    /// # Panics
    /// May panic outside of a tokio runtime.
    fn keep(&self, seen: Vec<SeenFile>) -> BoxFuture<'static, ()>;
}
