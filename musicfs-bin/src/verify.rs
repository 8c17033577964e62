//! `musicfs scan --verify`: a pass, and then a comparison of what is known with what is there.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::{Clock, EventKind, OriginId, OriginPath};
use musicfs_sync::{PassOptions, ScanError, Verification};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::control::api::{ScanResult, Verifying};
use crate::daemon::{chain, result_of};
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

/// How far the comparisons are that are under way, by numbers of their own.
#[derive(Debug, Default)]
pub(crate) struct VerifyProgress(Mutex<BTreeMap<u64, (OriginId, Verification)>>);

impl VerifyProgress {
    /// Returns how far all are together; `None` when there are none.
    pub(crate) fn now(&self) -> Option<Verifying> {
        let all = self.0.lock();
        let origins: BTreeSet<&str> = all.values().map(|(origin, _)| origin.as_str()).collect();
        let origin = origins.into_iter().collect::<Vec<_>>().join(", ");
        let add = |sum: Verifying, (_, done): &(OriginId, Verification)| Verifying {
            files: sum.files + done.verified + done.differing + done.unread,
            bytes: sum.bytes + done.bytes,
            differing: sum.differing + done.differing,
            ..sum
        };
        let none = Verifying { origin, ..Verifying::default() };
        (!all.is_empty()).then(|| all.values().fold(none, add))
    }

    fn begin(&self, origin: &OriginId) -> Comparison<'_> {
        let mut all = self.0.lock();
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(number, (origin.clone(), Verification::default()));
        Comparison { all: self, number }
    }
}

/// A comparison that is shown until it ends, however it does.
struct Comparison<'a> {
    all: &'a VerifyProgress,
    number: u64,
}

impl Comparison<'_> {
    fn set(&self, done: &Verification) {
        if let Some((_, mine)) = self.all.0.lock().get_mut(&self.number) {
            mine.clone_from(done);
        }
    }

    fn done(&self) -> Verification {
        self.all.0.lock().get(&self.number).map(|(_, done)| done.clone()).unwrap_or_default()
    }
}

impl Drop for Comparison<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.number);
    }
}

/// Makes a pass over an origin. Why it failed is in the result; tells, too, whether that is because it was cancelled.
pub(crate) async fn pass(
    engine: &Engine,
    origin: &OriginId,
    options: &PassOptions,
    cancel: &CancellationToken,
) -> (bool, ScanResult) {
    let began = engine.clock.now();
    match engine.scanner.scan_with(origin, options, cancel).await {
        Ok(report) => (false, result_of(&report)),
        Err(error) => {
            let result = ScanResult {
                error: Some(chain(&error)),
                elapsed_ms: engine.clock.now().since(began).as_millis() as u64,
                ..ScanResult::default()
            };
            (matches!(error, ScanError::Cancelled), result)
        }
    }
}

/// Tells whether content can be compared after a pass: another storage in its place is not what is known.
pub(crate) fn may_follow(result: &ScanResult) -> bool {
    result.error.is_none() && (result.held_back.is_none() || result.complete)
}

/// Compares the content of an origin, or of some of its paths, and adds what that came to, as far as it came, to the
/// result of the pass before. Tells whether it was cancelled.
pub(crate) async fn compare(
    engine: &Engine,
    origin: &OriginId,
    paths: Option<&[OriginPath]>,
    cancel: &CancellationToken,
    result: &mut ScanResult,
) -> bool {
    let began = engine.clock.now();
    let comparison = engine.verifying.begin(origin);
    let progress = |done: &Verification| comparison.set(done);
    let ended = engine.scanner.verify(origin, paths, cancel, &progress).await;
    let Verification { verified, differing, unread, bytes } = comparison.done();
    result.verified = Some(verified);
    (result.differing, result.unread, result.compared_bytes) = (differing, unread, bytes);
    result.elapsed_ms += engine.clock.now().since(began).as_millis() as u64;
    match ended {
        Ok(_) => {
            info!(%origin, verified, differing, unread, bytes, "compared");
            let origin = origin.clone();
            engine.events.publish(EventKind::SyncVerified { origin, verified, differing, unread });
            false
        }
        Err(error) => {
            result.error = Some(chain(&error));
            matches!(error, ScanError::Cancelled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_side_by_side_are_shown_together_until_each_has_ended() {
        let progress = VerifyProgress::default();
        assert_eq!(progress.now(), None);
        let (nas, disk) = (progress.begin(&"nas".into()), progress.begin(&"disk".into()));
        let again = progress.begin(&"nas".into());
        nas.set(&Verification { verified: 3, differing: 1, bytes: 10, ..Verification::default() });
        disk.set(&Verification { verified: 2, unread: 1, bytes: 5, ..Verification::default() });
        let all = progress.now().unwrap();
        assert_eq!((all.origin.as_str(), all.files, all.bytes, all.differing), ("disk, nas", 7, 15, 1));
        drop((disk, again));
        let left = progress.now().unwrap();
        assert_eq!((left.origin.as_str(), left.files), ("nas", 4));
        assert_eq!(nas.done().verified, 3);
        drop(nas);
        assert_eq!(progress.now(), None);
    }
}
