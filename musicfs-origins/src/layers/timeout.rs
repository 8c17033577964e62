//! Deadlines.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream,
};

use super::Progress;

/// When a call counts as dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Time until the first byte of an answer, or, for an origin that does not tell of its bytes, for all of it.
    /// For a listing: for each page.
    pub first_byte: Duration,
    /// Length of the windows in which a transfer that has begun is looked at.
    pub stall_window: Duration,
    /// Bytes per second that a transfer must bring in each window to count as alive.
    pub stall_rate: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { first_byte: Duration::from_secs(30), stall_window: Duration::from_secs(10), stall_rate: 1000 }
    }
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
enum GaveUp {
    #[error("nothing came within {0:?}")]
    Silent(Duration),
    #[error("only {bytes} bytes came within {window:?}")]
    Stalled { bytes: u64, window: Duration },
}

/// Gives up calls that bring nothing, with [`TimedOut`](OriginErrorKind::TimedOut).
///
/// A transfer that has begun may take as long as it likes while bytes keep coming ([`Progress`]): a large range
/// on a slow line is not cut off at a fixed time, to start again from zero. Once none come, it takes between one
/// and two windows to notice.
pub struct Timeout<O> {
    watch: Watch,
    inner: Arc<O>,
}

#[derive(Clone)]
struct Watch {
    origin: OriginId,
    limits: Timeouts,
    clock: Arc<dyn Clock>,
}

impl<O> fmt::Debug for Timeout<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("origin", &self.watch.origin)
            .field("limits", &self.watch.limits)
            .finish_non_exhaustive()
    }
}

impl<O: Origin> Timeout<O> {
    /// Wraps `inner`.
    pub fn new(inner: O, limits: Timeouts, clock: Arc<dyn Clock>) -> Self {
        Self { watch: Watch { origin: inner.id().clone(), limits, clock }, inner: Arc::new(inner) }
    }
}

impl Watch {
    /// Runs `call` for as long as it is alive. `None` from it would be the end of a stream, which is in time.
    async fn over<T>(&self, path: &OriginPath, call: impl Future<Output = T>) -> Result<T, OriginError> {
        self.over_part(&Progress::default(), path, call).await
    }

    /// As [`Watch::over`] for one of several calls that count on the same counter.
    async fn over_part<T>(
        &self,
        progress: &Progress,
        path: &OriginPath,
        call: impl Future<Output = T>,
    ) -> Result<T, OriginError> {
        let before = progress.total();
        let mut call = std::pin::pin!(progress.scope(call));
        let start = self.clock.now();
        let first_byte = start.plus(self.limits.first_byte);
        let mut tick = start.plus(self.limits.stall_window);
        let mut seen = 0;
        loop {
            let next = if progress.total() == before { tick.min(first_byte) } else { tick };
            let look = tokio::select! {
                biased;
                result = &mut call => return Ok(result),
                () = self.clock.sleep_until(next) => self.clock.now(),
            };
            let total = progress.total() - before;
            if total == 0 && look >= first_byte {
                return Err(self.gave_up(path, GaveUp::Silent(self.limits.first_byte)));
            }
            if look >= tick {
                let bytes = total - seen;
                // The window in which the first byte came is not judged: it may have been a short rest of it.
                if seen > 0 && bytes < self.floor() {
                    return Err(
                        self.gave_up(path, GaveUp::Stalled { bytes, window: self.limits.stall_window })
                    );
                }
                seen = total;
                tick = look.plus(self.limits.stall_window);
            }
        }
    }

    fn floor(&self) -> u64 {
        let millis = u64::try_from(self.limits.stall_window.as_millis()).unwrap_or(u64::MAX);
        self.limits.stall_rate.saturating_mul(millis) / 1000
    }

    fn gave_up(&self, path: &OriginPath, why: GaveUp) -> OriginError {
        OriginError::new(&self.origin, path, OriginErrorKind::TimedOut).with_source(why)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: Origin> Origin for Timeout<O> {
    fn id(&self) -> &OriginId {
        self.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        self.inner.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let (watch, under) = (self.watch.clone(), request.under.clone());
        let pages = self.inner.scan(request);
        // One for all pages: what is begun during one of them may bring its bytes during the next.
        let progress = Progress::default();
        stream::unfold(Some((pages, watch, under, progress)), |state| async move {
            let (mut pages, watch, under, progress) = state?;
            match watch.over_part(&progress, &under, pages.next()).await {
                Ok(Some(Ok(page))) => Some((Ok(page), Some((pages, watch, under, progress)))),
                Ok(Some(Err(error))) | Err(error) => Some((Err(error), None)),
                Ok(None) => None,
            }
        })
        .boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        self.watch.over(path, self.inner.stat(path)).await?
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        self.watch.over(path, self.inner.read(path, version, range)).await?
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        self.watch.over(path, self.inner.read_parts(path, version, range, parts)).await?
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.watch.over(&OriginPath::root(), self.inner.health()).await?
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        self.inner.local()
    }
}
