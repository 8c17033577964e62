//! Reads of what one origin alone has: while it does not answer, they fail at once instead of by their deadlines.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkHash, ContentReader, FileMeta, OriginId, OriginPath, PartSink, ReadError, ReadPlan,
};

use super::{Router, is_of_origin};

/// Asks no origin that has failed and whose last check has failed, but for a probe now and then. It stands below the
/// cache, so that what is cached is served all the same.
///
/// It is where failures are noted: who reads ahead, compares or has something cached to serve instead tells nobody.
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

    /// Has `work` ask the origin of a plan, unless that is left alone.
    async fn ask<T>(
        &self,
        plan: &ReadPlan,
        work: impl Future<Output = Result<T, ReadError>> + Send,
    ) -> Result<T, ReadError> {
        let Some((origin, ..)) = plan.as_verbatim() else { return work.await };
        let refused = || ReadError::LeftAlone { origin: origin.clone() };
        // Held until the outcome is noted: the next probe is to wait for its time.
        let _admission = self.router.admit(origin).ok_or_else(refused)?;
        let done = work.await;
        self.note(origin, &done);
        if done.is_ok() {
            self.router.succeeded(origin);
        }
        done
    }

    fn note<T>(&self, origin: &OriginId, done: &Result<T, ReadError>) {
        if done.as_ref().is_err_and(is_of_origin) {
            self.router.failed(origin);
        }
    }
}

#[async_trait]
impl ContentReader for CircuitReader {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        // One behind a network is not asked, so that success says nothing.
        let opened = self.inner.open(file).await;
        self.note(&file.origin, &opened);
        opened
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        self.ask(plan, self.inner.read(plan, range)).await
    }

    async fn read_parts(&self, plan: &ReadPlan, range: ByteRange, parts: &PartSink) -> Result<(), ReadError> {
        self.ask(plan, self.inner.read_parts(plan, range, parts)).await
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
