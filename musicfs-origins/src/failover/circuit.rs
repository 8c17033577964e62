//! Reads of what one origin alone has: while it does not answer, they fail at once instead of by their deadlines.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkHash, ContentReader, FileMeta, OriginId, OriginPath, ReadError, ReadPlan,
};

use super::Router;

/// Asks no origin that has failed and whose last check has failed, but for a probe now and then. It stands below the
/// cache, so that what is cached is served all the same.
///
/// It takes no note of failures: whoever is above does ([`FailoverReader`](super::FailoverReader)), and knows better
/// which are the origin's.
pub struct CircuitReader {
    inner: Arc<dyn ContentReader>,
    router: Arc<Router>,
}

impl std::fmt::Debug for CircuitReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CircuitReader").field("router", &self.router).finish_non_exhaustive()
    }
}

impl CircuitReader {
    /// Stands between `inner`, which asks origins, and who reads.
    pub fn new(inner: Arc<dyn ContentReader>, router: Arc<Router>) -> Self {
        Self { inner, router }
    }
}

#[async_trait]
impl ContentReader for CircuitReader {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        self.inner.open(file).await
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let Some((origin, ..)) = plan.as_verbatim() else { return self.inner.read(plan, range).await };
        let refused = || ReadError::LeftAlone { origin: origin.clone() };
        let _admission = self.router.admit(origin).ok_or_else(refused)?;
        let read = self.inner.read(plan, range).await;
        if read.is_ok() {
            self.router.succeeded(origin);
        }
        read
    }

    async fn backing(&self, plan: &ReadPlan) -> Option<File> {
        self.inner.backing(plan).await
    }

    async fn hash(&self, file: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        self.inner.hash(file).await
    }

    fn cached(&self, file: &FileMeta) -> &'static str {
        self.inner.cached(file)
    }

    fn stand_in(&self, file: &FileMeta) -> Option<(OriginId, OriginPath)> {
        self.inner.stand_in(file)
    }
}
