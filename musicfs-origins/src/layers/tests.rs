//! The layers over an origin that plays by script, on a clock that leaps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, MonoTime, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanCursor, ScanPage, ScanRequest,
    ScanStream, UnixNanos,
};
use parking_lot::Mutex;

use super::{
    Jitter, LayerConfig, Limit, Limits, Metrics, Progress, Retry, RetryPolicy, Timeout, Timeouts, layered,
};
use crate::LocalOrigin;

/// Tokio's own clock, which leaps over sleeps while it is paused.
struct Leaping(tokio::time::Instant);

impl Leaping {
    fn start() -> Arc<dyn Clock> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for Leaping {
    fn now(&self) -> MonoTime {
        MonoTime(self.0.elapsed())
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos::from_parts(1_700_000_000, 0)
    }
    fn sleep_until(&self, deadline: MonoTime) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0 + deadline.0))
    }
}

/// What one call does.
enum Act {
    Fail(OriginErrorKind),
    Answer(usize),
    /// Brings so many bytes each second, so many times, then answers.
    Trickle(usize, usize),
    Hang,
    Pages(Vec<Result<ScanPage, OriginErrorKind>>),
}

#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    calls: AtomicUsize,
    running: Arc<AtomicUsize>,
    most: AtomicUsize,
    resumed: Mutex<Vec<Option<ScanCursor>>>,
}

#[derive(Clone)]
struct Scripted {
    id: OriginId,
    script: Arc<Script>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        let script = Script { acts: Mutex::new(acts.into_iter().collect()), ..Script::default() };
        Self { id: "scripted".into(), script: Arc::new(script) }
    }

    fn error(&self, kind: OriginErrorKind) -> OriginError {
        OriginError::new(&self.id, &OriginPath::root(), kind)
    }

    async fn play(&self) -> Result<usize, OriginError> {
        self.script.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.script.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.script.most.fetch_max(now, Ordering::SeqCst);
        let _running = Counted(Arc::clone(&self.script.running));
        let act = self.script.acts.lock().pop_front();
        match act.expect("the script is long enough") {
            Act::Fail(kind) => Err(self.error(kind)),
            Act::Answer(len) => Ok(len),
            Act::Trickle(bytes, times) => {
                let progress = Progress::current();
                for _ in 0..times {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    progress.add(bytes);
                }
                Ok(bytes * times)
            }
            Act::Hang => std::future::pending().await,
            Act::Pages(_) => panic!("pages were not asked for"),
        }
    }
}

#[async_trait]
impl Origin for Scripted {
    fn id(&self) -> &OriginId {
        &self.id
    }
    fn caps(&self) -> OriginCaps {
        OriginCaps::remote().with_concurrency(2)
    }
    fn scan(&self, request: ScanRequest) -> ScanStream {
        self.script.resumed.lock().push(request.resume);
        let act = self.script.acts.lock().pop_front();
        let Some(Act::Pages(pages)) = act else { panic!("no pages in the script") };
        let this = self.clone();
        let ending = matches!(pages.last(), Some(Ok(page)) if !page.complete);
        let pages = stream::iter(pages).map(move |page| page.map_err(|kind| this.error(kind)));
        // A listing that does not end by script hangs.
        if ending { pages.chain(stream::pending()).boxed() } else { pages.boxed() }
    }
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let size = self.play().await? as u64;
        Ok(OriginEntry { path: path.clone(), version: FileVersion { size, ..FileVersion::default() } })
    }
    async fn read(&self, _: &OriginPath, _: &FileVersion, _: ByteRange) -> Result<Bytes, OriginError> {
        Ok(vec![0; self.play().await?].into())
    }
    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.play().await.map(|_| OriginHealth { identity: None })
    }
    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

fn page(cursor: Option<&str>, complete: bool) -> ScanPage {
    ScanPage { cursor: cursor.map(|c| ScanCursor(c.into())), complete, ..ScanPage::default() }
}

fn version(size: u64) -> FileVersion {
    FileVersion { size, ..FileVersion::default() }
}

async fn read(origin: &impl Origin) -> Result<Bytes, OriginErrorKind> {
    let path = OriginPath::new("a").unwrap();
    origin.read(&path, &version(1 << 30), ByteRange::at(0, 1000)).await.map_err(|e| e.kind)
}

fn kinds(pages: &[Result<ScanPage, OriginError>]) -> Vec<Result<bool, OriginErrorKind>> {
    pages.iter().map(|p| p.as_ref().map(|p| p.complete).map_err(|e| e.kind)).collect()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn timeout(origin: &Scripted, clock: &Arc<dyn Clock>) -> Timeout<Scripted> {
    Timeout::new(origin.clone(), Timeouts::default(), Arc::clone(clock))
}

fn retry(origin: &Scripted, clock: &Arc<dyn Clock>) -> Retry<Scripted> {
    Retry::new(origin.clone(), RetryPolicy::default(), Arc::clone(clock), Jitter::steady())
}

#[tokio::test(start_paused = true)]
async fn timeout_of_a_silent_call_comes_after_the_first_byte_limit() {
    let clock = Leaping::start();
    let origin = Scripted::of([Act::Hang]);
    assert_eq!(read(&timeout(&origin, &clock)).await, Err(OriginErrorKind::TimedOut));
    assert_eq!(clock.now().0.as_secs(), 30);
    assert_eq!(origin.script.running.load(Ordering::SeqCst), 0, "the call is dropped");
}

#[tokio::test(start_paused = true)]
async fn timeout_spares_a_slow_transfer_that_keeps_coming() {
    let clock = Leaping::start();
    let origin = Scripted::of([Act::Trickle(1100, 300)]);
    assert_eq!(read(&timeout(&origin, &clock)).await.map(|b| b.len()), Ok(330_000));
    assert_eq!(clock.now().0.as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn timeout_ends_a_transfer_below_the_rate() {
    let clock = Leaping::start();
    let origin = Scripted::of([Act::Trickle(900, 300)]);
    assert_eq!(read(&timeout(&origin, &clock)).await, Err(OriginErrorKind::TimedOut));
    assert_eq!(clock.now().0.as_secs(), 20, "the second whole window is too thin");
}

#[tokio::test(start_paused = true)]
async fn timeout_of_a_listing_is_per_page_and_ends_it() {
    let clock = Leaping::start();
    let origin = Scripted::of([Act::Pages(vec![Ok(page(None, false))])]);
    let pages: Vec<_> = timeout(&origin, &clock).scan(ScanRequest::all()).collect().await;
    assert_eq!(kinds(&pages), [Ok(false), Err(OriginErrorKind::TimedOut)]);
}

#[tokio::test(start_paused = true)]
async fn retry_repeats_what_may_pass_and_gives_the_last_error() {
    let clock = Leaping::start();
    let origin = Scripted::of([
        Act::Fail(OriginErrorKind::Unavailable),
        Act::Fail(OriginErrorKind::Dns),
        Act::Answer(5),
        Act::Fail(OriginErrorKind::Unavailable),
        Act::Fail(OriginErrorKind::Unavailable),
        Act::Fail(OriginErrorKind::Unavailable),
        Act::Fail(OriginErrorKind::TimedOut),
    ]);
    let retry = retry(&origin, &clock);
    assert_eq!(read(&retry).await.map(|b| b.len()), Ok(5));
    assert_eq!(clock.now().0, Duration::from_millis(600));
    assert_eq!(read(&retry).await, Err(OriginErrorKind::TimedOut));
    assert_eq!(clock.now().0, Duration::from_millis(600 + 2600));
}

#[tokio::test(start_paused = true)]
async fn retry_leaves_final_errors_and_health_alone() {
    let clock = Leaping::start();
    let origin = Scripted::of([
        Act::Fail(OriginErrorKind::NotFound),
        Act::Fail(OriginErrorKind::Denied),
        Act::Fail(OriginErrorKind::Changed),
        Act::Fail(OriginErrorKind::Unavailable),
    ]);
    let retry = retry(&origin, &clock);
    assert_eq!(read(&retry).await, Err(OriginErrorKind::NotFound));
    assert_eq!(read(&retry).await, Err(OriginErrorKind::Denied));
    assert_eq!(read(&retry).await, Err(OriginErrorKind::Changed));
    assert_eq!(retry.health().await.unwrap_err().kind, OriginErrorKind::Unavailable);
    assert_eq!(origin.script.calls.load(Ordering::SeqCst), 4);
}

#[test]
fn retry_pause_honours_what_the_origin_asks_and_the_total() {
    let policy = RetryPolicy::default();
    let asked = OriginErrorKind::Throttled { after: Some(seconds(7)) };
    assert_eq!(policy.pause(asked, 1, Duration::ZERO, 0.0), Some(seconds(7)));
    assert!(policy.pause(asked, 1, Duration::ZERO, 1.0).is_some_and(|wait| wait >= seconds(7)));
    assert_eq!(policy.pause(asked, 1, seconds(24), 0.0), None, "beyond the total");
    let fails = OriginErrorKind::Unavailable;
    assert_eq!(policy.pause(fails, 3, Duration::ZERO, 0.0), Some(seconds(1)));
    assert_eq!(policy.pause(fails, 3, Duration::ZERO, 1.0), Some(seconds(3)));
    assert_eq!(policy.pause(fails, 4, Duration::ZERO, 0.5), None, "no more tries");
    assert_eq!(RetryPolicy::never().pause(fails, 1, Duration::ZERO, 0.5), None);
}

#[tokio::test(start_paused = true)]
async fn retry_of_a_listing_goes_on_behind_the_last_page() {
    let clock = Leaping::start();
    let fails = OriginErrorKind::Unavailable;
    let origin = Scripted::of([
        Act::Pages(vec![Err(fails)]),
        Act::Pages(vec![Ok(page(Some("one"), false)), Err(fails)]),
        Act::Pages(vec![Err(fails)]),
        Act::Pages(vec![Ok(page(Some("two"), false)), Ok(page(None, true))]),
    ]);
    let pages: Vec<_> = retry(&origin, &clock).scan(ScanRequest::all()).collect().await;
    assert_eq!(kinds(&pages), [Ok(false), Ok(false), Ok(true)]);
    let one = Some(ScanCursor("one".into()));
    assert_eq!(*origin.script.resumed.lock(), [None, None, one.clone(), one]);
}

#[tokio::test(start_paused = true)]
async fn retry_of_a_listing_without_cursor_fails_once_a_page_is_out() {
    let clock = Leaping::start();
    let fails = OriginErrorKind::Unavailable;
    let origin = Scripted::of([Act::Pages(vec![Ok(page(None, false)), Err(fails)])]);
    let pages: Vec<_> = retry(&origin, &clock).scan(ScanRequest::all()).collect().await;
    assert_eq!(kinds(&pages), [Ok(false), Err(fails)]);
}

#[tokio::test(start_paused = true)]
async fn limit_runs_no_more_than_its_number_and_frees_what_is_dropped() {
    let clock = Leaping::start();
    let origin =
        Scripted::of((0..9).map(|_| Act::Trickle(1, 1)).chain([Act::Hang, Act::Hang, Act::Answer(1)]));
    let limits = Limits { concurrency: Some(2), bandwidth: None };
    let limit = Limit::new(origin.clone(), &limits, Arc::clone(&clock));
    let all = futures::future::join_all((0..9).map(|_| read(&limit))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(origin.script.most.load(Ordering::SeqCst), 2);
    assert_eq!(clock.now().0.as_secs(), 5);

    let hanging = futures::future::join(read(&limit), read(&limit));
    assert!(tokio::time::timeout(seconds(1), hanging).await.is_err());
    assert_eq!(read(&limit).await.map(|b| b.len()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn limit_of_bandwidth_spaces_reads_and_refunds_the_dropped() {
    let clock = Leaping::start();
    let origin = Scripted::of((0..4).map(|_| Act::Answer(1000)));
    let limits = Limits { concurrency: None, bandwidth: Some(100) };
    let limit = Limit::new(origin, &limits, Arc::clone(&clock));
    read(&limit).await.unwrap();
    assert_eq!(clock.now().0.as_secs(), 0, "the first goes at once");
    assert!(tokio::time::timeout(seconds(1), read(&limit)).await.is_err(), "the second waits its turn");
    read(&limit).await.unwrap();
    assert_eq!(clock.now().0.as_secs(), 10, "what was dropped has cost nothing");
    let path = OriginPath::new("a").unwrap();
    limit.read(&path, &version(10), ByteRange::at(0, 1000)).await.unwrap();
    assert_eq!(clock.now().0.as_secs(), 20);
    read(&limit).await.unwrap();
    assert_eq!(clock.now().0.as_millis(), 20_100, "no more is paid for than the file has");
}

#[tokio::test(start_paused = true)]
async fn limit_of_bandwidth_lets_others_in_between_the_parts_of_a_long_read() {
    const SHARE: u64 = 64 << 10;
    let clock = Leaping::start();
    let origin = Scripted::of((0..4).map(|_| Act::Answer(SHARE as usize)));
    let limits = Limits { concurrency: Some(1), bandwidth: Some(SHARE) };
    let limit = Limit::new(origin, &limits, Arc::clone(&clock));
    let path = OriginPath::new("a").unwrap();
    let read = async |len| {
        let (parts, gathered) = PartSink::gathering();
        limit.read_parts(&path, &version(1 << 30), ByteRange::at(0, len), &parts).await.unwrap();
        assert_eq!(gathered.finish().len() as u64, len);
        clock.now().0.as_secs()
    };
    // In turns: the long one, the long one, the short one, the long one.
    assert_eq!(futures::future::join(read(3 * SHARE), read(SHARE)).await, (3, 2));
}

#[tokio::test(start_paused = true)]
async fn metrics_count_calls_kinds_bytes_and_time() {
    let clock = Leaping::start();
    let origin = Scripted::of([
        Act::Trickle(10, 1),
        Act::Fail(OriginErrorKind::NotFound),
        Act::Fail(OriginErrorKind::Throttled { after: None }),
        Act::Answer(3),
        Act::Hang,
        Act::Pages(vec![Ok(page(None, true))]),
    ]);
    let metrics = Metrics::new(origin, Arc::clone(&clock));
    let counters = metrics.counters();
    read(&metrics).await.unwrap();
    assert!(read(&metrics).await.is_err());
    assert!(read(&metrics).await.is_err());
    metrics.stat(&OriginPath::root()).await.unwrap();
    {
        let mut hanging = Box::pin(metrics.health());
        assert!(futures::poll!(&mut hanging).is_pending());
        assert_eq!(counters.snapshot().running, 1);
    }
    metrics.scan(ScanRequest::all()).collect::<Vec<_>>().await;

    let now = counters.snapshot();
    assert_eq!((now.reads, now.stats, now.checks, now.bytes, now.running), (3, 1, 1, 10, 0));
    assert_eq!(now.errors, [("not_found", 1), ("throttled", 1)]);
    assert_eq!(now.failures(), 2);
    assert_eq!(now.latency.iter().map(|(_, n)| n).sum::<u64>(), 3, "unanswered calls have no latency");
    assert_eq!(now.quantile_us(0.5), Some(125));
    assert!(now.quantile_us(1.0).is_some_and(|us| (1_000_000..2_200_000).contains(&us)));
    assert!(now.failed.is_some_and(|(_, why)| why.contains("slow down")));
    assert!(now.answered.is_some());
}

#[tokio::test(start_paused = true)]
async fn layers_in_order_cut_each_try_and_count_once() {
    let clock = Leaping::start();
    let origin = Scripted::of([Act::Hang, Act::Answer(7)]);
    let config = LayerConfig {
        timeouts: Timeouts { first_byte: seconds(5), ..Timeouts::default() },
        limits: Limits { concurrency: Some(1), bandwidth: None },
        retry: RetryPolicy::default(),
    };
    let stack = layered(Arc::new(origin.clone()), &config, &clock, Jitter::steady());
    assert_eq!(read(&stack.origin).await.map(|b| b.len()), Ok(7));
    assert_eq!(origin.script.calls.load(Ordering::SeqCst), 2);
    let counted = stack.metrics.snapshot();
    assert_eq!((counted.reads, counted.failures()), (1, 0));
    assert_eq!(stack.origin.caps().concurrency, 1);
}

#[tokio::test]
async fn layers_keep_a_local_origin_local_unless_its_bandwidth_is_capped() {
    let clock: Arc<dyn Clock> = Leaping::start();
    let disk: Arc<dyn Origin> = Arc::new(LocalOrigin::new("disk", "/"));
    let free = layered(Arc::clone(&disk), &LayerConfig::default(), &clock, Jitter::steady());
    assert!(free.origin.local().is_some());
    let limits = Limits { concurrency: None, bandwidth: Some(1) };
    let capped = layered(disk, &LayerConfig { limits, ..LayerConfig::default() }, &clock, Jitter::steady());
    assert!(capped.origin.local().is_none());
}
