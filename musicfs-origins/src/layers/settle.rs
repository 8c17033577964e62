//! Waiting until a file's time proves something.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, MonoTime, Origin, OriginCaps, OriginEntry, OriginError,
    OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream, UnixNanos,
};
use parking_lot::Mutex;

/// Step of the times of servers that tell whole seconds; some of their disks count by two. A file that is written
/// again within a step may keep its time.
const COARSE: Duration = Duration::from_secs(2);
/// Step of all other times: kernels take them from a clock that ticks a hundred times a second or more.
const FINE: Duration = Duration::from_millis(20);
/// A server's clock is taken to lag behind this machine's by no more than this. What was written earlier is never
/// waited for; by a clock that lags further, a file written twice within a step may be taken for unchanged.
const LAG: Duration = Duration::from_secs(60);
/// A time so far ahead of this machine's was set by hand and not by a clock, and proves nothing of one.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Lets no version be read before a change would show.
///
/// Where sizes and times are all there is to tell versions apart, a file that is written twice within one step of
/// the server's time looks the same after the second time. Bytes read between the two would then be mixed with
/// bytes read after. So a read waits until the step in which its version was written has passed on the server's
/// clock: from then on, whoever writes the file gives it another time.
///
/// The server need not be asked what its clock shows: it shows no less than the latest time it gave a file, plus
/// the time that has gone by since that was seen. Strong versions are read at once, as are all but the last
/// minute's files.
///
/// One lock, held for a few lines.
pub struct Settle<O>(Arc<Shared<O>>);

struct Shared<O> {
    inner: O,
    clock: Arc<dyn Clock>,
    /// The latest that the server's clock is known to have shown, and when it was seen.
    floor: Mutex<Option<(UnixNanos, MonoTime)>>,
}

impl<O> fmt::Debug for Settle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settle").field("floor", &*self.0.floor.lock()).finish_non_exhaustive()
    }
}

impl<O: Origin> Settle<O> {
    /// Wraps `inner`.
    pub fn new(inner: O, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { inner, clock, floor: Mutex::default() }))
    }
}

impl<O: Origin> Shared<O> {
    /// Takes note that the server gave a file this time.
    fn note(&self, mtime: UnixNanos) {
        if mtime > later(self.clock.unix(), AHEAD) {
            return;
        }
        let now = self.clock.now();
        let mut floor = self.floor.lock();
        if floor.is_none_or(|(shown, seen)| mtime > later(shown, now.since(seen))) {
            *floor = Some((mtime, now));
        }
    }

    /// Returns when a version may be read; `None` for at once.
    fn due(&self, version: &FileVersion) -> Option<MonoTime> {
        let mtime = version.mtime?;
        let wall = self.clock.unix();
        let step = if mtime.parts().1 == 0 { COARSE } else { FINE };
        let over = later(mtime, step);
        if over <= UnixNanos(wall.0.saturating_sub(nanos(LAG))) || mtime > later(wall, AHEAD) {
            return None;
        }
        let caps = self.inner.caps();
        if !caps.remote || (caps.strong_versions && version.etag.is_some()) {
            return None;
        }
        self.note(mtime);
        let now = self.clock.now();
        let (shown, seen) = (*self.floor.lock())?;
        let left = over.0.saturating_sub(later(shown, now.since(seen)).0);
        (left > 0).then(|| now.plus(Duration::from_nanos(left.unsigned_abs())))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn later(time: UnixNanos, by: Duration) -> UnixNanos {
    UnixNanos(time.0.saturating_add(nanos(by)))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<O: Origin> Origin for Settle<O> {
    fn id(&self) -> &OriginId {
        self.0.inner.id()
    }

    fn caps(&self) -> OriginCaps {
        self.0.inner.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let shared = Arc::clone(&self.0);
        let noted = self.0.inner.scan(request).inspect(move |page| {
            let entries = page.iter().flat_map(|page| &page.entries);
            if let Some(latest) = entries.filter_map(|entry| entry.version.mtime).max() {
                shared.note(latest);
            }
        });
        noted.boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let entry = self.0.inner.stat(path).await?;
        if let Some(mtime) = entry.version.mtime {
            self.0.note(mtime);
        }
        Ok(entry)
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        if let Some(due) = self.0.due(version) {
            self.0.clock.sleep_until(due).await;
        }
        self.0.inner.read(path, version, range).await
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        if let Some(due) = self.0.due(version) {
            self.0.clock.sleep_until(due).await;
        }
        self.0.inner.read_parts(path, version, range, parts).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.0.inner.health().await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        self.0.inner.local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_test_utils::{ManualClock, MemoryOrigin, eventually};

    const PATH: &str = "song";

    struct Setup {
        clock: ManualClock,
        server: MemoryOrigin,
        settle: Arc<Settle<MemoryOrigin>>,
    }

    impl Setup {
        fn of(caps: OriginCaps) -> Self {
            let clock = ManualClock::new();
            let server = MemoryOrigin::new("server").with_caps(caps);
            let settle = Arc::new(Settle::new(server.clone(), Arc::new(clock.clone())));
            Self { clock, server, settle }
        }

        /// The wall clock's time, so many seconds later, cut to the second.
        fn time(&self, seconds: i64) -> UnixNanos {
            UnixNanos::from_parts(self.clock.unix().parts().0 + seconds, 0)
        }

        fn read(&self, version: &FileVersion, range: ByteRange) -> tokio::task::JoinHandle<Bytes> {
            let (settle, version) = (self.settle.clone(), version.clone());
            tokio::spawn(async move {
                settle.read(&OriginPath::new(PATH).unwrap(), &version, range).await.unwrap()
            })
        }

        async fn waits(&self) {
            eventually("the read to wait", || self.clock.sleepers() == 1).await;
        }
    }

    fn first() -> ByteRange {
        ByteRange::new(0, 3)
    }

    fn second() -> ByteRange {
        ByteRange::new(3, 6)
    }

    #[tokio::test]
    async fn file_written_twice_within_a_second_is_read_as_it_is_in_the_end() {
        let setup = Setup::of(OriginCaps::remote());
        let now = setup.time(0);
        let version = setup.server.put_with_mtime(PATH, "oldold", now);
        let begin = setup.read(&version, first());
        setup.waits().await;
        assert_eq!(setup.server.put_with_mtime(PATH, "newnew", now), version, "nothing tells them apart");
        setup.clock.advance(COARSE);
        assert_eq!(begin.await.unwrap(), "new");
        assert_eq!(setup.read(&version, second()).await.unwrap(), "new");
    }

    #[tokio::test]
    async fn version_whose_second_has_passed_since_it_was_seen_is_read_at_once() {
        let setup = Setup::of(OriginCaps::remote());
        // The server's clock is an hour ahead: this machine's says nothing.
        let version = setup.server.put_with_mtime(PATH, "wholly", setup.time(3600));
        let pages: Vec<_> = setup.settle.scan(ScanRequest::all()).collect().await;
        assert!(pages.iter().all(Result::is_ok));
        setup.clock.advance(COARSE);
        assert_eq!(setup.read(&version, first()).await.unwrap(), "who");
        // And what was written before that file needs no wait of its own.
        let earlier = setup.server.put_with_mtime(PATH, "before", setup.time(3598));
        assert_eq!(setup.read(&earlier, first()).await.unwrap(), "bef");
    }

    #[tokio::test]
    async fn wait_is_as_long_as_the_servers_times_are_coarse() {
        let setup = Setup::of(OriginCaps::remote());
        let exact = UnixNanos(setup.time(0).0 + 1);
        let version = setup.server.put_with_mtime(PATH, "finest", exact);
        let read = setup.read(&version, first());
        setup.waits().await;
        setup.clock.advance(FINE);
        assert_eq!(read.await.unwrap(), "fin");
    }

    #[tokio::test]
    async fn what_is_old_strong_local_or_of_no_clock_is_never_waited_for() {
        for (caps, seconds) in [
            (OriginCaps::remote(), -62),
            (OriginCaps::remote(), 2 * 86_400),
            (OriginCaps::remote().with_strong_versions(), 0),
            (OriginCaps::local(), 0),
        ] {
            let setup = Setup::of(caps);
            let version = setup.server.put_with_mtime(PATH, "atonce", setup.time(seconds));
            assert_eq!(setup.read(&version, first()).await.unwrap(), "ato", "{seconds}");
        }
    }
}
