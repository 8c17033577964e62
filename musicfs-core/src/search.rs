//! Finding files by what is known of them: the seam between those who ask and the index.

use std::sync::Arc;

use crate::FileId;

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The files, the most fitting first.
    pub files: Vec<FileId>,
    /// Whether all of the catalogue was searched: the index may still be on its way.
    pub complete: bool,
}

/// Why a search could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchFailure {
    /// The query is too large, and in what.
    #[error("{0}")]
    Refused(String),
    /// There is no index to search at this moment, and why.
    #[error("searching is not possible now: {0}")]
    Unavailable(String),
}

/// Finds files by words.
///
/// # Contract
/// * Any text is a query; one that is too large is [`SearchFailure::Refused`].
/// * Calls **block** for milliseconds, and may be made from any thread at the same time.
/// * A hit may be a file that has left the catalogue since: who shows it looks it up there.
/// * **generation** grows whenever the answer to some query may have changed, and does not block.
pub trait Searcher: Send + Sync + 'static {
    /// Returns at most `limit` files that fit a query.
    ///
    /// # Errors
    /// See [`SearchFailure`].
    fn search(&self, query: &str, limit: usize) -> Result<Found, SearchFailure>;

    /// Returns a number that stays the same for as long as answers do.
    fn generation(&self) -> u64;
}

impl<T: Searcher + ?Sized> Searcher for Arc<T> {
    fn search(&self, query: &str, limit: usize) -> Result<Found, SearchFailure> {
        (**self).search(query, limit)
    }
    fn generation(&self) -> u64 {
        (**self).generation()
    }
}
