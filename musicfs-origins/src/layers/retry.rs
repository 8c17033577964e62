//! The one retry.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, MonoTime, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream,
};

use super::Jitter;

/// When a failed call is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pauses before the second, third, … try, each spread over half to one and a half of it. As many as there
    /// are retries.
    pub pauses: Vec<Duration>,
    /// Time from the first try after which no other is begun. A try that is running is not cut off: it may be
    /// bringing bytes, and [`Timeout`](super::Timeout) knows when it does not.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { pauses: [100, 500, 2000].map(Duration::from_millis).to_vec(), total: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// Never repeats anything.
    pub const fn never() -> Self {
        Self { pauses: Vec::new(), total: Duration::ZERO }
    }

    /// Returns how long to wait before the next try, or `None` when there is to be none.
    ///
    /// `tries` have been made so far, `elapsed` since the first began; `chance` is in `0.0..=1.0`.
    pub fn pause(
        &self,
        kind: OriginErrorKind,
        tries: usize,
        elapsed: Duration,
        chance: f64,
    ) -> Option<Duration> {
        let base = *self.pauses.get(tries.checked_sub(1)?)?;
        let wait = match kind.retry() {
            musicfs_core::Retry::Never => return None,
            musicfs_core::Retry::Backoff => base.mul_f64(0.5 + chance),
            // Never sooner than asked for, and a little later, so that not all come back at once.
            musicfs_core::Retry::After(asked) => asked.saturating_add(base.mul_f64(chance)),
        };
        (elapsed.saturating_add(wait) <= self.total).then_some(wait)
    }
}

/// Repeats calls that failed with an error that may pass.
///
/// A listing is taken up again behind the last page that came, where the origin gives cursors; where it does not,
/// it is begun anew only if no page has come yet. [`Origin::health`] is not repeated: whoever asks wants to know
/// how it is now.
pub struct Retry<O> {
    shared: Arc<Shared<O>>,
}

struct Shared<O> {
    inner: O,
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
}

impl<O> fmt::Debug for Retry<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

impl<O: Origin> Retry<O> {
    /// Wraps `inner`.
    pub fn new(inner: O, policy: RetryPolicy, clock: Arc<dyn Clock>, jitter: Jitter) -> Self {
        Self { shared: Arc::new(Shared { inner, policy, clock, jitter }) }
    }
}

impl<O> Shared<O> {
    /// Waits out the pause after a failed try; hands the error back when there is to be no other.
    async fn back_off(&self, error: OriginError, tries: usize, since: MonoTime) -> Result<(), OriginError> {
        let now = self.clock.now();
        match self.policy.pause(error.kind, tries, now.since(since), self.jitter.next()) {
            Some(wait) => {
                tracing::debug!(
                    origin = %error.origin, path = %error.path, kind = %error.kind, ?wait, "trying again"
                );
                self.clock.sleep_until(now.plus(wait)).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    async fn repeat<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, OriginError>
    where
        F: Future<Output = Result<T, OriginError>>,
    {
        let start = self.clock.now();
        let mut tries = 1;
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.back_off(error, tries, start).await?,
            }
            tries += 1;
        }
    }
}

/// A listing under way.
struct Listing<O> {
    shared: Arc<Shared<O>>,
    pages: ScanStream,
    /// What to ask for after a failure; `None` when it cannot be taken up again.
    again: Option<ScanRequest>,
    under: OriginPath,
    /// Since the last page.
    tries: usize,
    since: MonoTime,
}

impl<O: Origin> Listing<O> {
    async fn next(mut self) -> Option<(Result<musicfs_core::ScanPage, OriginError>, Option<Self>)> {
        loop {
            match self.pages.next().await? {
                Ok(page) => {
                    self.again = page
                        .cursor
                        .clone()
                        .map(|cursor| ScanRequest { under: self.under.clone(), resume: Some(cursor) });
                    self.tries = 1;
                    self.since = self.shared.clock.now();
                    return Some((Ok(page), Some(self)));
                }
                Err(error) => {
                    let Some(again) = self.again.clone() else { return Some((Err(error), None)) };
                    if let Err(error) = self.shared.back_off(error, self.tries, self.since).await {
                        return Some((Err(error), None));
                    }
                    self.tries += 1;
                    self.pages = self.shared.inner.scan(again);
                }
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: Origin> Origin for Retry<O> {
    fn id(&self) -> &OriginId {
        self.shared.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        self.shared.inner.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let shared = Arc::clone(&self.shared);
        let start = move || Listing {
            pages: shared.inner.scan(request.clone()),
            since: shared.clock.now(),
            tries: 1,
            under: request.under.clone(),
            again: Some(request),
            shared,
        };
        // The clock runs from the first poll.
        stream::once(async move { start() })
            .flat_map(|listing| stream::unfold(Some(listing), |listing| async move { listing?.next().await }))
            .boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        self.shared.repeat(|| self.shared.inner.stat(path)).await
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        self.shared.repeat(|| self.shared.inner.read(path, version, range)).await
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        let given = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&given);
        let parts = parts.inspect(move |part| {
            counted.fetch_add(part.len() as u64, Ordering::Relaxed);
        });
        // Each try asks for what the one before has not given.
        let rest = || ByteRange::new(range.start() + given.load(Ordering::Relaxed), range.end());
        self.shared.repeat(|| self.shared.inner.read_parts(path, version, rest(), &parts)).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.shared.inner.health().await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        self.shared.inner.local()
    }
}
