//! Bounded waits: the one place that polls, and the one place where a test may read the system's clock.

use std::time::Duration;

use musicfs_core::{Clock, SystemClock};

/// How long anything may take that a test waits for. Far longer than it ever should, so that a slow machine does
/// not fail a test; a test that passes never waits for it.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until `holds`, looking again and again; gives up with a panic that names what was waited for.
///
/// # Panics
/// When it does not hold within [`LIMIT`].
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.now().0 < LIMIT, "waited {LIMIT:?} in vain for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for what takes a call to find out.
///
/// # Panics
/// When it does not hold within [`LIMIT`].
pub async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds().await {
        assert!(clock.now().0 < LIMIT, "waited {LIMIT:?} in vain for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for a test without a runtime.
///
/// # Panics
/// When it does not hold within [`LIMIT`].
pub fn eventually_blocking(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(LIMIT, what, holds);
}

/// As [`eventually_blocking`], for what has to take long.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.now().0 < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}
