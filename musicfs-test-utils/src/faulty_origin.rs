//! An origin that fails on demand.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError, OriginHealth,
    OriginId, OriginPath, PartSink, ScanRequest, ScanStream, SystemClock,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How calls to a [`FaultyOrigin`] fail.
///
/// A call is a stat, a read, a question for its health, and each page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailMode {
    /// They do not.
    Healthy,
    /// Every so many-th call is `Unavailable`, counted from when the mode was set. 1 fails all.
    FailEveryNth(usize),
    /// All are `Unavailable` but so many from when the mode was set.
    FailAfterN(usize),
    /// The answer comes so many milliseconds late, by the wrapper's clock.
    TimeoutMs(u64),
    /// Reads answer with so many bytes at the most: a breach of the contract, to test defences with.
    PartialRead {
        /// The most bytes that a read gives.
        max_bytes: usize,
    },
    /// They fail with this error, sorted as an operating system's is.
    ReturnError(io::ErrorKind),
}

/// Wraps an origin and makes its calls fail, by a mode, a script or a seed, or hang for some paths.
///
/// A script goes before a seed, and a seed before the mode. Which call fails depends only on how many calls there
/// were. Files are never given out by the operating system's paths ([`Origin::local`] is `None`), as those reads
/// could not be made to fail. Clones are the same wrapper.
#[derive(Clone)]
pub struct FaultyOrigin {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn Origin>,
    clock: Arc<dyn Clock>,
    plan: Mutex<Plan>,
    hung: watch::Sender<BTreeSet<OriginPath>>,
    counts: Counts,
}

struct Plan {
    script: VecDeque<FailMode>,
    /// The seed's state, and the modes that it picks from.
    random: Option<(u64, Vec<FailMode>)>,
    mode: FailMode,
    /// Calls since the mode was set.
    calls: usize,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    bytes: AtomicU64,
    stats: AtomicU64,
    scans: AtomicU64,
    healths: AtomicU64,
}

impl std::fmt::Debug for FaultyOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyOrigin")
            .field("inner", self.shared.inner.id())
            .field("mode", &self.shared.plan.lock().mode)
            .finish_non_exhaustive()
    }
}

impl FaultyOrigin {
    /// Wraps an origin. Delays go by the system's clock.
    pub fn new(inner: impl Origin, mode: FailMode) -> Self {
        Self::with_clock(inner, mode, SystemClock::new())
    }

    /// As [`FaultyOrigin::new`], with a clock for delays.
    pub fn with_clock(inner: impl Origin, mode: FailMode, clock: impl Clock) -> Self {
        let plan = Plan { script: VecDeque::new(), random: None, mode, calls: 0 };
        let shared = Shared {
            inner: Arc::new(inner),
            clock: Arc::new(clock),
            plan: Mutex::new(plan),
            hung: watch::channel(BTreeSet::new()).0,
            counts: Counts::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the mode of all calls from now on, and forgets script and seed.
    pub fn set_mode(&self, mode: FailMode) {
        *self.shared.plan.lock() = Plan { script: VecDeque::new(), random: None, mode, calls: 0 };
    }

    /// Gives the next calls a mode each; then the seed or the mode goes on. Counting modes count from their call.
    pub fn script(&self, modes: Vec<FailMode>) {
        self.shared.plan.lock().script = modes.into();
    }

    /// Picks one of `modes` for each call, the same ones for the same seed.
    ///
    /// # Panics
    /// When there are none.
    pub fn randomize(&self, seed: u64, modes: Vec<FailMode>) {
        assert!(!modes.is_empty(), "nothing to pick from");
        self.shared.plan.lock().random = Some((seed, modes));
    }

    /// Makes all calls for a path hang until it is released.
    ///
    /// # Panics
    /// When an origin cannot have the path.
    pub fn hang_on(&self, path: impl AsRef<[u8]>) {
        let path = OriginPath::new(path).expect("a path that an origin can have");
        self.shared.hung.send_modify(|hung| {
            hung.insert(path);
        });
    }

    /// Lets calls for all paths go on.
    pub fn release(&self) {
        self.shared.hung.send_modify(BTreeSet::clear);
    }

    /// Returns how many reads were asked for.
    pub fn reads(&self) -> u64 {
        self.shared.counts.reads.load(Ordering::SeqCst)
    }

    /// Returns how many bytes were delivered.
    pub fn bytes_read(&self) -> u64 {
        self.shared.counts.bytes.load(Ordering::SeqCst)
    }

    /// Returns how many stats were asked for.
    pub fn stats(&self) -> u64 {
        self.shared.counts.stats.load(Ordering::SeqCst)
    }

    /// Returns how many listings were begun.
    pub fn scans(&self) -> u64 {
        self.shared.counts.scans.load(Ordering::SeqCst)
    }

    /// Returns how often it was asked for its health.
    pub fn healths(&self) -> u64 {
        self.shared.counts.healths.load(Ordering::SeqCst)
    }
}

impl Plan {
    /// Decides on the next call.
    fn next(&mut self) -> FailMode {
        self.calls += 1;
        if let Some(mode) = self.script.pop_front() {
            return match mode {
                FailMode::FailEveryNth(1) | FailMode::FailAfterN(0) => unavailable(),
                FailMode::FailEveryNth(_) | FailMode::FailAfterN(_) => FailMode::Healthy,
                mode => mode,
            };
        }
        let mode = match &mut self.random {
            Some((state, modes)) => modes[(split_mix(state) % modes.len() as u64) as usize].clone(),
            None => self.mode.clone(),
        };
        match mode {
            FailMode::FailEveryNth(n) if n > 0 && self.calls.is_multiple_of(n) => unavailable(),
            FailMode::FailAfterN(n) if self.calls > n => unavailable(),
            FailMode::FailEveryNth(_) | FailMode::FailAfterN(_) => FailMode::Healthy,
            mode => mode,
        }
    }
}

/// What counting modes come down to: an error of the kind `Unavailable`.
fn unavailable() -> FailMode {
    FailMode::ReturnError(io::ErrorKind::ConnectionReset)
}

/// SplitMix64: every state gives another number, and all of them come.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Shared {
    /// Lets a call through, late or not at all; returns the most bytes that a read may give.
    async fn pass(&self, path: &OriginPath) -> Result<usize, OriginError> {
        let mode = self.plan.lock().next();
        let mut hung = self.hung.subscribe();
        // The sender is ours: it outlives the wait.
        let _ = hung.wait_for(|hung| !hung.contains(path)).await;
        match mode {
            FailMode::Healthy | FailMode::FailEveryNth(_) | FailMode::FailAfterN(_) => Ok(usize::MAX),
            FailMode::PartialRead { max_bytes } => Ok(max_bytes),
            FailMode::TimeoutMs(ms) => {
                let deadline = self.clock.now().plus(Duration::from_millis(ms));
                self.clock.sleep_until(deadline).await;
                Ok(usize::MAX)
            }
            FailMode::ReturnError(kind) => {
                Err(OriginError::from_io(self.inner.id(), path, io::Error::new(kind, "injected fault")))
            }
        }
    }
}

#[async_trait]
impl Origin for FaultyOrigin {
    fn id(&self) -> &OriginId {
        self.shared.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        self.shared.inner.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let shared = Arc::clone(&self.shared);
        let under = request.under.clone();
        let pages = stream::once(async move {
            shared.counts.scans.fetch_add(1, Ordering::SeqCst);
            let inner = shared.inner.scan(request);
            stream::unfold(Some((shared, inner)), move |state| {
                let under = under.clone();
                async move {
                    let (shared, mut inner) = state?;
                    if let Err(error) = shared.pass(&under).await {
                        return Some((Err(error), None));
                    }
                    let page = inner.next().await?;
                    Some((page, Some((shared, inner))))
                }
            })
        });
        pages.flatten().boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        self.shared.counts.stats.fetch_add(1, Ordering::SeqCst);
        self.shared.pass(path).await?;
        self.shared.inner.stat(path).await
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        self.shared.counts.reads.fetch_add(1, Ordering::SeqCst);
        let most = self.shared.pass(path).await?;
        let mut bytes = self.shared.inner.read(path, version, range).await?;
        bytes.truncate(most);
        self.shared.counts.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(bytes)
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        self.shared.counts.reads.fetch_add(1, Ordering::SeqCst);
        let left = AtomicUsize::new(self.shared.pass(path).await?);
        let (shared, parts) = (Arc::clone(&self.shared), parts.clone());
        let passing = PartSink::new(move |mut part: Bytes| {
            part.truncate(left.load(Ordering::SeqCst));
            left.fetch_sub(part.len(), Ordering::SeqCst);
            shared.counts.bytes.fetch_add(part.len() as u64, Ordering::SeqCst);
            parts.push(part);
        });
        self.shared.inner.read_parts(path, version, range, &passing).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.shared.counts.healths.fetch_add(1, Ordering::SeqCst);
        self.shared.pass(&OriginPath::root()).await?;
        self.shared.inner.health().await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, MemoryOrigin, eventually};
    use musicfs_core::OriginErrorKind;

    fn origin(mode: FailMode) -> (FaultyOrigin, ManualClock, OriginPath, FileVersion) {
        let (memory, clock) = (MemoryOrigin::new("m"), ManualClock::new());
        let version = memory.put("a", "0123456789");
        (FaultyOrigin::with_clock(memory, mode, clock.clone()), clock, OriginPath::new("a").unwrap(), version)
    }

    /// Which of the next calls fail.
    async fn failures(origin: &FaultyOrigin, calls: usize) -> Vec<bool> {
        let mut failed = Vec::new();
        for _ in 0..calls {
            failed.push(origin.health().await.is_err());
        }
        failed
    }

    #[tokio::test]
    async fn counting_modes_fail_the_calls_they_name() {
        let (origin, ..) = origin(FailMode::FailEveryNth(3));
        assert_eq!(failures(&origin, 6).await, [false, false, true, false, false, true]);
        origin.set_mode(FailMode::FailAfterN(2));
        assert_eq!(failures(&origin, 4).await, [false, false, true, true]);
        assert_eq!(origin.health().await.unwrap_err().kind, OriginErrorKind::Unavailable);
        origin.set_mode(FailMode::Healthy);
        assert_eq!(failures(&origin, 2).await, [false, false]);
    }

    #[tokio::test]
    async fn script_is_consumed_call_by_call_and_then_the_mode_goes_on() {
        let (origin, _, path, version) = origin(FailMode::Healthy);
        origin.script(vec![
            FailMode::ReturnError(io::ErrorKind::NotFound),
            FailMode::PartialRead { max_bytes: 3 },
            FailMode::ReturnError(io::ErrorKind::PermissionDenied),
        ]);
        let range = ByteRange::at(2, 6);
        let read = || origin.read(&path, &version, range);
        assert_eq!(read().await.unwrap_err().kind, OriginErrorKind::NotFound);
        assert_eq!(&read().await.unwrap()[..], b"234");
        assert_eq!(read().await.unwrap_err().kind, OriginErrorKind::Denied);
        assert_eq!(&read().await.unwrap()[..], b"234567");
        assert_eq!((origin.reads(), origin.bytes_read()), (4, 9));
    }

    #[tokio::test]
    async fn seed_decides_which_calls_fail_and_the_same_seed_decides_the_same() {
        let modes = || vec![FailMode::Healthy, FailMode::ReturnError(io::ErrorKind::Other)];
        let mut runs = Vec::new();
        for seed in [7, 7, 8] {
            let (origin, ..) = origin(FailMode::Healthy);
            origin.randomize(seed, modes());
            runs.push(failures(&origin, 64).await);
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
        assert!(runs[0].contains(&true) && runs[0].contains(&false));
    }

    #[tokio::test]
    async fn late_answer_comes_when_the_clock_says_so() {
        let (origin, clock, path, _) = origin(FailMode::TimeoutMs(500));
        let asked = tokio::spawn(async move { origin.stat(&path).await });
        eventually("the call to wait", || clock.sleepers() == 1).await;
        clock.advance(Duration::from_millis(499));
        assert!(!asked.is_finished());
        clock.advance(Duration::from_millis(1));
        assert!(asked.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn path_hangs_until_released_and_others_do_not() {
        let (origin, _, path, version) = origin(FailMode::Healthy);
        origin.hang_on("a");
        let mut hung = origin.read(&path, &version, ByteRange::at(0, 1));
        assert!(futures::poll!(&mut hung).is_pending());
        assert!(origin.health().await.is_ok());
        origin.release();
        assert_eq!(&hung.await.unwrap()[..], b"0");
    }

    #[tokio::test]
    async fn listing_fails_at_the_page_that_the_mode_names() {
        let memory = MemoryOrigin::new("m").with_page_size(1);
        for file in ["a", "b", "c"] {
            memory.put(file, "");
        }
        let origin = FaultyOrigin::new(memory, FailMode::FailAfterN(2));
        let pages: Vec<_> = origin.scan(ScanRequest::all()).collect().await;
        assert_eq!(pages.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(origin.scans(), 1);
    }
}
