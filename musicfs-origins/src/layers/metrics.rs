//! Counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, MonoTime, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream, UnixNanos,
};
use parking_lot::Mutex;
use serde::Serialize;

/// Classes of latency: the first holds what took less than this, each other what took up to twice the one before.
const FIRST_BUCKET: Duration = Duration::from_micros(125);
/// How many classes there are; the last holds all that took longer than about a minute.
const BUCKETS: usize = 20;
/// Weight of the newest call in the moving average: about the last ten calls count.
const NEWEST: f64 = 0.2;

/// Names of error kinds, by [`slot`].
const KINDS: [&str; 11] = [
    "not_found",
    "denied",
    "changed",
    "invalid",
    "unsupported",
    "corrupt",
    "unavailable",
    "throttled",
    "timed_out",
    "dns",
    "no_root",
];

fn slot(kind: OriginErrorKind) -> usize {
    match kind {
        OriginErrorKind::NotFound => 0,
        OriginErrorKind::Denied => 1,
        OriginErrorKind::Changed => 2,
        OriginErrorKind::Invalid => 3,
        OriginErrorKind::Unsupported => 4,
        OriginErrorKind::Corrupt => 5,
        OriginErrorKind::Unavailable => 6,
        OriginErrorKind::Throttled { .. } => 7,
        OriginErrorKind::TimedOut => 8,
        OriginErrorKind::Dns => 9,
        OriginErrorKind::NoRoot => 10,
    }
}

/// What an origin has done since the start of the process. Cheap to write from many tasks.
#[derive(Debug)]
pub struct OriginMetrics {
    reads: AtomicU64,
    stats: AtomicU64,
    pages: AtomicU64,
    checks: AtomicU64,
    bytes: AtomicU64,
    running: AtomicU64,
    errors: [AtomicU64; KINDS.len()],
    latency: [AtomicU64; BUCKETS],
    recent: Mutex<Recent>,
}

#[derive(Debug, Default, Clone)]
struct Recent {
    /// Moving average of how long an answered call took, in seconds.
    average: Option<f64>,
    answered: Option<UnixNanos>,
    failed: Option<(UnixNanos, String)>,
}

/// The counters of an [`OriginMetrics`] at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricsSnapshot {
    /// Ranges asked for.
    pub reads: u64,
    /// Files looked at one by one.
    pub stats: u64,
    /// Pages of listings asked for.
    pub pages: u64,
    /// Checks of health.
    pub checks: u64,
    /// Bytes of files delivered.
    pub bytes: u64,
    /// Calls that are running now.
    pub running: u64,
    /// Failed calls by kind of error; kinds that have not occurred are left out.
    pub errors: Vec<(&'static str, u64)>,
    /// Answered reads, looks and checks by how long they took: (upper bound in microseconds, calls), the last
    /// bound standing for all above. Pages are not among them.
    pub latency: Vec<(u64, u64)>,
    /// Moving average of the same, in microseconds; `None` before the first answer.
    pub average_us: Option<u64>,
    /// When the last answer came. A file that is not there is an answer.
    pub answered: Option<UnixNanos>,
    /// When a call failed last for want of an answer, and why.
    pub failed: Option<(UnixNanos, String)>,
}

impl MetricsSnapshot {
    /// Returns the time within which the share `q` (`0.0..=1.0`) of the answers came, as an upper bound in
    /// microseconds; `None` before the first.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total: u64 = self.latency.iter().map(|(_, calls)| calls).sum();
        let wanted = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut sum = 0;
        self.latency
            .iter()
            .find(|(_, calls)| {
                sum += calls;
                sum >= wanted
            })
            .map(|(bound, _)| *bound)
    }

    /// Returns the number of failed calls.
    pub fn failures(&self) -> u64 {
        self.errors.iter().map(|(_, calls)| calls).sum()
    }
}

impl Default for OriginMetrics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            reads: zero(),
            stats: zero(),
            pages: zero(),
            checks: zero(),
            bytes: zero(),
            running: zero(),
            errors: std::array::from_fn(|_| zero()),
            latency: std::array::from_fn(|_| zero()),
            recent: Mutex::default(),
        }
    }
}

impl OriginMetrics {
    /// Returns the counters as they are now.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let recent = self.recent.lock().clone();
        MetricsSnapshot {
            reads: get(&self.reads),
            stats: get(&self.stats),
            pages: get(&self.pages),
            checks: get(&self.checks),
            bytes: get(&self.bytes),
            running: get(&self.running),
            errors: KINDS
                .iter()
                .zip(&self.errors)
                .map(|(kind, n)| (*kind, get(n)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            latency: (0..).map(bound_us).zip(&self.latency).map(|(bound, n)| (bound, get(n))).collect(),
            average_us: recent.average.map(|secs| (secs * 1e6) as u64),
            answered: recent.answered,
            failed: recent.failed,
        }
    }

    fn took(&self, time: Duration) {
        let bucket =
            (0..BUCKETS - 1).find(|n| time.as_micros() < u128::from(bound_us(*n))).unwrap_or(BUCKETS - 1);
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        let secs = time.as_secs_f64();
        let mut recent = self.recent.lock();
        recent.average = Some(recent.average.map_or(secs, |old| old + NEWEST * (secs - old)));
    }

    fn ended<T>(&self, result: &Result<T, OriginError>, at: UnixNanos) {
        if let Err(error) = result {
            self.errors[slot(error.kind)].fetch_add(1, Ordering::Relaxed);
            if error.kind.is_transient() {
                self.recent.lock().failed = Some((at, error.to_string()));
                return;
            }
        }
        self.recent.lock().answered = Some(at);
    }
}

fn bound_us(bucket: usize) -> u64 {
    let first = FIRST_BUCKET.as_micros() as u64;
    first << bucket.min(BUCKETS - 1)
}

/// Counts what passes: calls, bytes, errors by kind, how long answers take.
///
/// A read of a local origin that the kernel serves by itself is not seen.
pub struct Metrics<O> {
    inner: Arc<O>,
    counters: Arc<OriginMetrics>,
    clock: Arc<dyn Clock>,
}

impl<O> fmt::Debug for Metrics<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// A call under way; also one that is dropped is no longer running.
struct Running<'a> {
    counters: &'a OriginMetrics,
    clock: &'a dyn Clock,
    start: MonoTime,
}

impl<'a> Running<'a> {
    fn begin(counters: &'a OriginMetrics, clock: &'a dyn Clock, calls: &AtomicU64) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_add(1, Ordering::Relaxed);
        Self { counters, clock, start: clock.now() }
    }

    fn end<T>(self, result: Result<T, OriginError>) -> Result<T, OriginError> {
        let answered = result.as_ref().map_or_else(|e| !e.kind.is_transient(), |_| true);
        if answered {
            self.counters.took(self.clock.now().since(self.start));
        }
        self.counters.ended(&result, self.clock.unix());
        result
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<O: Origin> Metrics<O> {
    /// Wraps `inner`, with counters at zero.
    pub fn new(inner: O, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(inner), counters: Arc::default(), clock }
    }

    /// Returns the counters, which stay readable after the origin is gone.
    pub fn counters(&self) -> Arc<OriginMetrics> {
        Arc::clone(&self.counters)
    }

    fn begin(&self, calls: &AtomicU64) -> Running<'_> {
        Running::begin(&self.counters, &*self.clock, calls)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: Origin> Origin for Metrics<O> {
    fn id(&self) -> &OriginId {
        self.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        self.inner.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let (counters, clock) = (self.counters(), Arc::clone(&self.clock));
        let pages = self.inner.scan(request);
        stream::unfold((pages, counters, clock), |(mut pages, counters, clock)| async move {
            let running = Running::begin(&counters, &*clock, &counters.pages);
            let page = pages.next().await;
            drop(running);
            let page = page?;
            counters.ended(&page, clock.unix());
            Some((page, (pages, counters, clock)))
        })
        .boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let running = self.begin(&self.counters.stats);
        running.end(self.inner.stat(path).await)
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let running = self.begin(&self.counters.reads);
        let result = running.end(self.inner.read(path, version, range).await);
        if let Ok(bytes) = &result {
            self.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        result
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        let running = self.begin(&self.counters.reads);
        let counters = self.counters();
        let parts = parts.inspect(move |part| {
            counters.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        });
        running.end(self.inner.read_parts(path, version, range, &parts).await)
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let running = self.begin(&self.counters.checks);
        running.end(self.inner.health().await)
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        self.inner.local()
    }
}
