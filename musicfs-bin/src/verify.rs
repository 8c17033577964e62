//! `musicfs scan --verify`: a pass, and then a comparison of what is known with what is there.

use musicfs_core::{EventKind, OriginId};
use musicfs_sync::{PassOptions, ScanError, Verification};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::control::api::{ScanResult, Verifying};
use crate::daemon::result_of;
use crate::wiring::Engine;

/// Whether a scan compares content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// It believes sizes and times.
    #[default]
    No,
    /// It reads everything.
    Yes,
}

impl From<bool> for Verify {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// How far a comparison is that is under way.
#[derive(Debug, Default)]
pub(crate) struct VerifyProgress(Mutex<Option<Verifying>>);

impl VerifyProgress {
    /// Returns it.
    pub(crate) fn now(&self) -> Option<Verifying> {
        self.0.lock().clone()
    }

    fn set(&self, origin: &OriginId, done: &Verification) {
        *self.0.lock() = Some(Verifying {
            origin: origin.to_string(),
            files: done.verified + done.differing + done.unread,
            bytes: done.bytes,
            differing: done.differing,
        });
    }
}

/// Clears the progress, however the comparison ended.
struct Ended<'a>(&'a VerifyProgress);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// Runs a pass over an origin, and compares its content when that is asked for.
pub(crate) async fn scan(
    engine: &Engine,
    origin: &OriginId,
    options: &PassOptions,
    verify: Verify,
    cancel: &CancellationToken,
) -> Result<ScanResult, ScanError> {
    let report = engine.scanner.scan_with(origin, options, cancel).await?;
    let mut result = result_of(&report);
    // Another storage in its place is not what is known.
    if verify == Verify::No || (report.held_back.is_some() && !report.complete) {
        return Ok(result);
    }
    let began = musicfs_core::Clock::now(&*engine.clock);
    let _ended = Ended(&engine.verifying);
    engine.verifying.set(origin, &Verification::default());
    let progress = |done: &Verification| engine.verifying.set(origin, done);
    let done = engine.scanner.verify(origin, options.paths.as_deref(), cancel, &progress).await?;
    result.verified = Some(done.verified);
    result.differing = done.differing;
    result.unread = done.unread;
    result.compared_bytes = done.bytes;
    result.elapsed_ms += musicfs_core::Clock::now(&*engine.clock).since(began).as_millis() as u64;
    tracing::info!(%origin, verified = done.verified, differing = done.differing, unread = done.unread, bytes = done.bytes, "compared");
    engine.events.publish(EventKind::SyncVerified {
        origin: origin.clone(),
        verified: done.verified,
        differing: done.differing,
        unread: done.unread,
    });
    Ok(result)
}
