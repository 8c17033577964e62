//! Brings bytes from where they come from, within one budget for the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use musicfs_core::{ByteRange, ContentReader, OriginError, PartSink, ReadError, ReadPlan};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is counted in pieces of this size, as permits are 32 bits wide.
const UNIT: u64 = 4 << 10;
/// Read-ahead of all files together, unless said otherwise.
pub(crate) const DEFAULT_READ_AHEAD: u64 = 64 << 20;

/// Fetches stretches of files from a source that has no cache of its own.
pub struct ContentFetcher {
    source: Arc<dyn ContentReader>,
    budget: Arc<Semaphore>,
    fetched: AtomicU64,
}

impl std::fmt::Debug for ContentFetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentFetcher").field("fetched", &self.fetched).finish_non_exhaustive()
    }
}

impl ContentFetcher {
    /// Makes a fetcher from `source`, with read-ahead of 64 MiB for all files together.
    pub fn new(source: Arc<dyn ContentReader>) -> Self {
        Self::with_read_ahead(source, DEFAULT_READ_AHEAD)
    }

    /// Makes a fetcher from `source`, with `read_ahead` bytes for all files together; 0 for none.
    pub fn with_read_ahead(source: Arc<dyn ContentReader>, read_ahead: u64) -> Self {
        let units = usize::try_from(read_ahead / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        let budget = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { source, budget, fetched: AtomicU64::new(0) }
    }

    /// Returns the source.
    pub fn source(&self) -> &Arc<dyn ContentReader> {
        &self.source
    }

    /// Returns how many bytes were fetched so far.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Takes a share of the read-ahead budget, or `None` when there is too little left.
    pub(crate) fn share(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        self.budget.clone().try_acquire_many_owned(units).ok()
    }

    /// Fetches exactly `range` of a plan, which must lie inside the file.
    pub(crate) async fn fetch(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let bytes = self.source.read(plan, range).await?;
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        must_be_whole(plan, range, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// As [`fetch`](Self::fetch), handing what comes to `parts`: no more than the range.
    pub(crate) async fn fetch_parts(
        self: &Arc<Self>,
        plan: &ReadPlan,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), ReadError> {
        let came = Arc::new(AtomicU64::new(0));
        let (counted, fetcher) = (Arc::clone(&came), Arc::clone(self));
        let parts = parts.inspect(move |part| {
            fetcher.fetched.fetch_add(part.len() as u64, Ordering::Relaxed);
            counted.fetch_add(part.len() as u64, Ordering::Relaxed);
        });
        self.source.read_parts(plan, range, &parts).await?;
        must_be_whole(plan, range, came.load(Ordering::Relaxed))
    }
}

/// Nothing that is shorter than it must be may reach the cache.
fn must_be_whole(plan: &ReadPlan, range: ByteRange, came: u64) -> Result<(), ReadError> {
    match plan.as_verbatim() {
        Some((origin, path, _)) if came != range.len() => {
            let kind = musicfs_core::OriginErrorKind::Corrupt;
            Err(OriginError::new(origin, path, kind)
                .with_source(format!("{came} bytes came for {range}"))
                .into())
        }
        _ => Ok(()),
    }
}

/// Makes the same error again, for another who waited for the same bytes. What caused it was logged with the
/// first.
pub(crate) fn same_error(error: &ReadError) -> ReadError {
    let again = |e: &OriginError| OriginError::new(&e.origin, &e.path, e.kind);
    match error {
        ReadError::Gone(e) => ReadError::Gone(again(e)),
        ReadError::Denied(e) => ReadError::Denied(again(e)),
        ReadError::Changed(e) => ReadError::Changed(again(e)),
        ReadError::Unavailable(e) => ReadError::Unavailable(again(e)),
        ReadError::TimedOut { origin, after } => {
            ReadError::TimedOut { origin: origin.clone(), after: *after }
        }
        ReadError::LeftAlone { origin } => ReadError::LeftAlone { origin: origin.clone() },
        ReadError::UnknownOrigin(origin) => ReadError::UnknownOrigin(origin.clone()),
        ReadError::Catalogue(e) => ReadError::Catalogue(musicfs_core::MetaError::Corrupt(e.to_string())),
    }
}
