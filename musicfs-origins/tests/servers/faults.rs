//! What the layers make of a network that fails, over a real server.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Origin, OriginErrorKind};
use musicfs_origins::{Jitter, LayerConfig, Layered, Limits, RetryPolicy, Timeouts, layered};
use musicfs_test_utils::eventually;
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Rclone;

use crate::dav::origin;
use crate::{Files, Served, clock, content, list, path, read};

/// A server of files behind a proxy.
struct Behind {
    files: Files,
    proxy: FaultProxy,
    _keep: (Rclone, Served),
}

impl Behind {
    async fn start() -> Self {
        let mut files: Files =
            (0..500).map(|n| (path(format!("{:02}/{n}.flac", n % 20)), content(n))).collect();
        files.push((path("long.flac"), content(1_000_000)));
        let served = Served::new(&files);
        let server = Rclone::webdav(served.root(), None);
        let proxy = FaultProxy::start(server.addr()).await.unwrap();
        Self { files, proxy, _keep: (server, served) }
    }

    fn layered(&self, config: &LayerConfig) -> Layered {
        layered(Arc::new(origin(self.proxy.addr())), config, &clock(), Jitter::steady())
    }
}

/// Short enough for a test to wait for.
fn impatient() -> LayerConfig {
    let short = Duration::from_millis(400);
    LayerConfig {
        timeouts: Timeouts { first_byte: short, stall_window: short, stall_rate: 1000 },
        limits: Limits::default(),
        retry: RetryPolicy::never(),
    }
}

#[tokio::test]
async fn failures_are_told_apart_and_pass_with_their_cause() {
    let behind = Behind::start().await;
    let stack = behind.layered(&impatient());
    let entry = stack.origin.stat(&path("long.flac")).await.unwrap();
    let whole = behind.files.last().unwrap().1.clone();

    behind.proxy.down();
    assert_eq!(read(&stack.origin, &entry, 0, 100).await.unwrap_err().kind, OriginErrorKind::Unavailable);
    behind.proxy.heal();
    assert_eq!(read(&stack.origin, &entry, 0, 100).await.unwrap(), whole.slice(..100));

    behind.proxy.cut();
    behind.proxy.set([Toxic::ResetAfter(300_000)]);
    assert_eq!(
        read(&stack.origin, &entry, 0, 1_000_000).await.unwrap_err().kind,
        OriginErrorKind::Unavailable
    );
    behind.proxy.set([Toxic::LimitData(300_000)]);
    assert_eq!(
        read(&stack.origin, &entry, 0, 1_000_000).await.unwrap_err().kind,
        OriginErrorKind::Unavailable
    );
    behind.proxy.cut();
    behind.proxy.set([Toxic::StallAfter(300_000)]);
    assert_eq!(read(&stack.origin, &entry, 0, 1_000_000).await.unwrap_err().kind, OriginErrorKind::TimedOut);
    behind.proxy.cut();
    behind.proxy.set([Toxic::StallAfter(0)]);
    assert_eq!(stack.origin.health().await.unwrap_err().kind, OriginErrorKind::TimedOut);
    assert_eq!(list(&stack.origin).await.unwrap_err().kind, OriginErrorKind::TimedOut);

    behind.proxy.cut();
    behind.proxy.heal();
    assert_eq!(read(&stack.origin, &entry, 0, 1_000_000).await.unwrap(), whole);
    assert_eq!(list(&stack.origin).await.unwrap().len(), behind.files.len());
    let counted = stack.metrics.snapshot();
    assert_eq!(counted.errors, [("unavailable", 3), ("timed_out", 3)]);
}

#[tokio::test]
async fn slow_line_that_keeps_bringing_bytes_is_not_given_up() {
    let behind = Behind::start().await;
    let stack = behind.layered(&impatient());
    let entry = stack.origin.stat(&path("long.flac")).await.unwrap();
    behind.proxy.set([Toxic::Bandwidth(500_000)]);
    let start = clock();
    let whole = read(&stack.origin, &entry, 0, 1_000_000).await.unwrap();
    assert_eq!(whole, behind.files.last().unwrap().1);
    // Longer than silence is allowed to last, several times.
    assert!(start.now().0 > Duration::from_millis(1900));
}

#[tokio::test]
async fn reader_notices_nothing_of_an_origin_that_comes_back() {
    let behind = Behind::start().await;
    let stack = behind.layered(&LayerConfig::default());
    let entry = stack.origin.stat(&path("long.flac")).await.unwrap();
    behind.proxy.down();
    let before = behind.proxy.traffic().accepted;
    let (read, ()) = tokio::join!(read(&stack.origin, &entry, 1000, 1000), async {
        eventually("a try that fails", || behind.proxy.traffic().accepted > before).await;
        behind.proxy.heal();
    });
    assert_eq!(read.unwrap(), behind.files.last().unwrap().1.slice(1000..2000));
    assert_eq!(stack.metrics.snapshot().failures(), 0);
}

#[tokio::test]
async fn listing_over_a_line_that_breaks_again_and_again_is_complete() {
    let behind = Behind::start().await;
    let mut config = LayerConfig::default();
    config.retry.pauses = vec![Duration::from_millis(20); 50];
    let stack = behind.layered(&config);
    // Each connection brings a folder or two, then breaks.
    behind.proxy.set([Toxic::ResetAfter(25_000)]);
    let mut listed: Vec<_> = list(&stack.origin).await.unwrap().into_iter().map(|entry| entry.path).collect();
    let mut expected: Vec<_> = behind.files.iter().map(|(path, _)| path.clone()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    let broken = stack.metrics.snapshot();
    assert!(behind.proxy.traffic().accepted > 12, "{:?} {broken:?}", behind.proxy.traffic());
}
