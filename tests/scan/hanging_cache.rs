//! A cache that never comes to an end of keeping what scans read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use musicfs_core::{OriginCaps, OriginId, SeenFile, SeenKeeper};
use musicfs_sync::{PassOptions, Scanner};
use musicfs_test_utils::{MemoryOrigin, eventually};
use tokio_util::sync::CancellationToken;

use super::shelf::{Shelf, id};

#[derive(Default)]
struct Hanging {
    batches: AtomicUsize,
    cancels: Option<CancellationToken>,
}

impl SeenKeeper for Hanging {
    fn head(&self, _: &OriginId) -> Option<u64> {
        Some(64 << 10)
    }

    fn keep(&self, _: Vec<SeenFile>) -> BoxFuture<'static, ()> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        if let Some(cancel) = &self.cancels {
            cancel.cancel();
        }
        pending().boxed()
    }
}

/// A shelf with some tracks, and its scanner with `keeper`.
fn shelf(keeper: &Arc<Hanging>) -> (Shelf, Arc<Scanner>) {
    let origin = MemoryOrigin::new("memory").with_caps(OriginCaps::remote());
    let mut shelf = Shelf::over(origin).with_tracks(0..60);
    let other = Shelf::new();
    let scanner = std::mem::replace(&mut shelf.scanner, other.scanner);
    let scanner = Arc::into_inner(scanner).unwrap().with_seen_keeper(keeper.clone());
    (shelf, Arc::new(scanner))
}

#[tokio::test]
async fn scan_goes_on_without_a_cache_that_hangs() {
    let keeper = Arc::new(Hanging::default());
    let (shelf, scanner) = shelf(&keeper);
    let pass = tokio::spawn(async move {
        scanner.scan_with(&id(), &PassOptions::default(), &CancellationToken::new()).await
    });
    let ended = || {
        shelf.clock.advance(Duration::from_secs(1));
        pass.is_finished()
    };
    eventually("the scan to end", ended).await;
    assert_eq!(pass.await.unwrap().unwrap().added, 60);
    assert_eq!(keeper.batches.load(Ordering::SeqCst), 1, "what it is handed on waits in memory");
}

#[tokio::test]
async fn cancelled_scan_does_not_wait_for_a_cache_that_hangs() {
    let cancel = CancellationToken::new();
    let keeper = Arc::new(Hanging { cancels: Some(cancel.clone()), ..Hanging::default() });
    let (_shelf, scanner) = shelf(&keeper);
    let pass = tokio::spawn(async move { scanner.scan_with(&id(), &PassOptions::default(), &cancel).await });
    eventually("the scan to end", || pass.is_finished()).await;
    let _ = pass.await.unwrap();
    assert_eq!(keeper.batches.load(Ordering::SeqCst), 1);
}
