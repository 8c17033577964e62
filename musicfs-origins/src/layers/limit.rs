//! How much may happen at once.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, MonoTime, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may happen at once on one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once; `None` for as many as the origin advises ([`OriginCaps::concurrency`]).
    pub concurrency: Option<usize>,
    /// Bytes per second that are read from files; `None` for as many as come. Listings are not counted.
    pub bandwidth: Option<u64>,
}

/// Holds calls back until it is their turn, first come, first served.
///
/// A permit lives exactly as long as the call, and for a listing as long as the making of one page: a reader that
/// takes its time between pages holds up nobody. [`Origin::health`] does not queue, so that a busy origin is not
/// taken for a dead one.
///
/// Bandwidth is paid for before a read begins, by the length it will have, and given back by a read that is
/// dropped while it waits. A read that hands its bytes on as they come ([`Origin::read_parts`]) pays for half a second
/// at a time, so that a long one does not keep others off the line until it is through.
pub struct Limit<O>(Arc<Gate<O>>);

struct Gate<O> {
    inner: O,
    /// `None` for what the origin advises, which it may have to find out.
    concurrency: Option<usize>,
    permits: OnceLock<Arc<Semaphore>>,
    bandwidth: Option<Bandwidth>,
}

impl<O> fmt::Debug for Limit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("concurrency", &self.0.concurrency)
            .field("bandwidth", &self.0.bandwidth.as_ref().map(|b| b.rate))
            .finish_non_exhaustive()
    }
}

impl<O: Origin> Limit<O> {
    /// Wraps `inner`, of which nothing is asked yet. A concurrency or a bandwidth of zero counts as one.
    pub fn new(inner: O, limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let bandwidth =
            limits.bandwidth.map(|rate| Bandwidth { rate: rate.max(1), clock, free_at: Mutex::default() });
        let concurrency = limits.concurrency.map(|calls| calls.clamp(1, Semaphore::MAX_PERMITS));
        Self(Arc::new(Gate { inner, concurrency, permits: OnceLock::new(), bandwidth }))
    }
}

impl<O: Origin> Gate<O> {
    fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or_else(|| self.inner.caps().concurrency.clamp(1, Semaphore::MAX_PERMITS))
    }

    async fn enter(&self, path: &OriginPath) -> Result<OwnedSemaphorePermit, OriginError> {
        let permits = self.permits.get_or_init(|| Arc::new(Semaphore::new(self.concurrency())));
        let permit = Arc::clone(permits).acquire_owned().await;
        // It is never closed; should it be, no call can be served.
        let unavailable = || OriginError::new(self.inner.id(), path, OriginErrorKind::Unavailable);
        permit.map_err(|e| unavailable().with_source(e))
    }

    /// Pays for a read, then enters.
    async fn enter_to_read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<OwnedSemaphorePermit, OriginError> {
        if let Some(line) = &self.bandwidth {
            line.pay(range.clamp_to(version.size).len()).await;
        }
        self.enter(path).await
    }
}

/// Least that a read asks for at a time where the bandwidth is capped, in bytes.
const LEAST_SHARE: u64 = 64 << 10;

/// A line of so many bytes per second: when it is free again is all there is to know.
struct Bandwidth {
    rate: u64,
    clock: Arc<dyn Clock>,
    free_at: Mutex<MonoTime>,
}

/// A place in the line, left when dropped before its time has come.
struct Place<'a> {
    line: &'a Bandwidth,
    cost: Duration,
    taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.taken {
            let mut free_at = self.line.free_at.lock();
            *free_at = MonoTime(free_at.0.saturating_sub(self.cost));
        }
    }
}

impl Bandwidth {
    /// Returns how much one read may have before it is the next one's turn: what comes in half a second, but no less
    /// than is worth asking for.
    fn share(&self) -> u64 {
        (self.rate / 2).max(LEAST_SHARE)
    }

    async fn pay(&self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let begin = {
            let mut free_at = self.free_at.lock();
            let begin = (*free_at).max(self.clock.now());
            *free_at = begin.plus(cost);
            begin
        };
        let mut place = Place { line: self, cost, taken: false };
        self.clock.sleep_until(begin).await;
        place.taken = true;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: Origin> Origin for Limit<O> {
    fn id(&self) -> &OriginId {
        self.0.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        let caps = self.0.inner.caps();
        let concurrency = caps.concurrency.min(self.0.concurrency.unwrap_or(usize::MAX));
        caps.with_concurrency(concurrency)
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let (gate, under) = (Arc::clone(&self.0), request.under.clone());
        let pages = self.0.inner.scan(request);
        stream::unfold(Some((pages, gate, under)), |state| async move {
            let (mut pages, gate, under) = state?;
            let permit = match gate.enter(&under).await {
                Ok(permit) => permit,
                Err(error) => return Some((Err(error), None)),
            };
            let page = pages.next().await?;
            drop(permit);
            let rest = page.is_ok().then_some((pages, gate, under));
            Some((page, rest))
        })
        .boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let _permit = self.0.enter(path).await?;
        self.0.inner.stat(path).await
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let _permit = self.0.enter_to_read(path, version, range).await?;
        self.0.inner.read(path, version, range).await
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        let Some(line) = &self.0.bandwidth else {
            let _permit = self.0.enter(path).await?;
            return self.0.inner.read_parts(path, version, range, parts).await;
        };
        let range = range.clamp_to(version.size);
        let mut start = range.start();
        loop {
            let step = ByteRange::new(start, start.saturating_add(line.share()).min(range.end()));
            let _permit = self.0.enter_to_read(path, version, step).await?;
            self.0.inner.read_parts(path, version, step, parts).await?;
            if step.end() == range.end() {
                return Ok(());
            }
            start = step.end();
        }
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.0.inner.health().await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        // What the kernel reads by itself could not be held to the cap.
        if self.0.bandwidth.is_some() { None } else { self.0.inner.local() }
    }
}
