//! Music in a tar archive, which stays packed: an origin of one's own.

mod archive;

use std::path::PathBuf;
use std::sync::Arc;

use archive::{Archive, Failure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use musicfs_core::{
    ByteRange, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError, OriginErrorKind,
    OriginHealth, OriginId, OriginPath, ScanPage, ScanRequest, ScanStream,
};
use parking_lot::Mutex;

/// A tar archive as an origin. Clones are the same origin. It is opened when something is asked for, and may be
/// replaced meanwhile.
#[derive(Clone, Debug)]
pub struct TarOrigin {
    id: OriginId,
    path: Arc<PathBuf>,
    last: Arc<Mutex<Option<Archive>>>,
}

impl TarOrigin {
    /// Makes an origin.
    pub fn new(id: impl Into<OriginId>, path: impl Into<PathBuf>) -> Self {
        Self { id: id.into(), path: Arc::new(path.into()), last: Arc::default() }
    }

    /// Runs `work` where blocking is allowed. Its error names the origin and the path.
    async fn run<T: Send + 'static>(
        &self,
        path: &OriginPath,
        work: impl FnOnce(&Archive, &OriginPath) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, OriginError> {
        let (this, at) = (self.clone(), path.clone());
        let job = tokio::task::spawn_blocking(move || {
            let last = this.last.lock().clone();
            let archive = Archive::open(&this.path, last)?;
            let done = work(&archive, &at)?;
            // What was read from an archive that was written to meanwhile is worth nothing.
            archive.check_unchanged()?;
            *this.last.lock() = Some(archive);
            Ok(done)
        });
        let done = job.await.unwrap_or_else(|e| Err(Failure(OriginErrorKind::Unavailable, Some(e.into()))));
        done.map_err(|Failure(kind, source)| OriginError { source, ..OriginError::new(&self.id, path, kind) })
    }
}

#[async_trait]
impl Origin for TarOrigin {
    fn id(&self) -> &OriginId {
        &self.id
    }

    fn caps(&self) -> OriginCaps {
        OriginCaps::local().without_watching()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let this = self.clone();
        let listing = async move { this.run(&request.under, |archive, under| archive.below(under)).await };
        let page = |entries| ScanPage { entries, complete: true, ..ScanPage::default() };
        listing.map(move |listed| listed.map(page)).into_stream().boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let version = self.run(path, |archive, path| Ok(archive.find(path)?.version.clone())).await?;
        Ok(OriginEntry { path: path.clone(), version })
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let version = version.clone();
        self.run(path, move |archive, path| archive.read(path, &version, range)).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.run(&OriginPath::root(), |_, _| Ok(OriginHealth { identity: None })).await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}
