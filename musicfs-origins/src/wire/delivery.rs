//! A long read: asked for in steps, all of them in flight at once, and handed on in order as the front ones arrive.
//!
//! # Invariants
//! * A step is handed on when all of it has come and is known to be of the version asked for; what is handed on is
//!   never taken back.
//! * A read that is begun again, on another connection or another handle, goes on behind what was handed on.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use musicfs_core::{ByteRange, FileVersion, OriginErrorKind, PartSink};

use super::Failure;

/// The first step of a read, in bytes: short, as it is what somebody waits for.
pub(crate) const FIRST_STEP: u32 = 256 << 10;
/// The longest step, in bytes: more in one piece is no faster.
pub(crate) const LONGEST_STEP: u32 = 1 << 20;

/// Divides a range into steps, each twice as long as the one before until they are of `longest` bytes. An empty range
/// is one step, too: its version is to be looked at.
pub(crate) fn steps(range: ByteRange, first: u32, longest: u32) -> impl Iterator<Item = ByteRange> {
    let longest = u64::from(longest);
    let mut next = Some((range.start(), u64::from(first).min(longest)));
    std::iter::from_fn(move || {
        let (start, len) = next?;
        let end = start.saturating_add(len).min(range.end());
        next = (end < range.end()).then_some((end, (len * 2).min(longest)));
        Some(ByteRange::new(start, end))
    })
}

/// A read under way.
pub(crate) struct Delivery<'a> {
    range: ByteRange,
    /// How much of it was handed on.
    given: AtomicU64,
    parts: &'a PartSink,
}

impl<'a> Delivery<'a> {
    fn new(range: ByteRange, parts: &'a PartSink) -> Self {
        Self { range, given: AtomicU64::new(0), parts }
    }

    /// Begins to read a range as far as the file goes, of at most `most` bytes.
    pub(crate) fn bounded(
        range: ByteRange,
        version: &FileVersion,
        most: u64,
        parts: &'a PartSink,
    ) -> Result<Self, Failure> {
        let range = range.clamp_to(version.size);
        if range.len() > most {
            let why = format!("a range of {} bytes is longer than one read may be", range.len());
            return Err(Failure::new(OriginErrorKind::Invalid, why));
        }
        Ok(Self::new(range, parts))
    }

    /// Returns what is still to come.
    pub(crate) fn rest(&self) -> ByteRange {
        ByteRange::new(self.range.start() + self.given.load(Ordering::Relaxed), self.range.end())
    }

    /// Runs all steps at once and hands on what they bring, in their order, until one fails.
    pub(crate) async fn take<E>(
        &self,
        steps: impl Iterator<Item = impl Future<Output = Result<Vec<Bytes>, E>>>,
    ) -> Result<(), E> {
        let mut coming: FuturesOrdered<_> = steps.collect();
        while let Some(pieces) = coming.next().await {
            pieces?.into_iter().for_each(|piece| self.push(piece));
        }
        Ok(())
    }

    /// Hands a piece on.
    pub(crate) fn push(&self, piece: Bytes) {
        self.given.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.parts.push(piece);
    }

    /// Marks a failure as one midway, where something was handed on before.
    pub(crate) fn judge(&self, failure: Failure) -> Failure {
        if self.given.load(Ordering::Relaxed) > 0 { failure.midway() } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_and_cover_the_range() {
        let steps = |start, end| -> Vec<_> {
            steps(ByteRange::new(start, end), 4, 10).map(|step| (step.start(), step.end())).collect()
        };
        assert_eq!(steps(5, 35), [(5, 9), (9, 17), (17, 27), (27, 35)]);
        assert_eq!(steps(5, 9), [(5, 9)]);
        assert_eq!(steps(5, 5), [(5, 5)]);
        assert_eq!(steps(u64::MAX - 1, u64::MAX), [(u64::MAX - 1, u64::MAX)]);
    }

    #[tokio::test]
    async fn steps_are_handed_on_in_order_until_one_fails() {
        let (parts, gathered) = PartSink::gathering();
        let delivery = Delivery::new(ByteRange::new(10, 20), &parts);
        let (late, wait) = tokio::sync::oneshot::channel::<()>();
        let steps = [(Some(wait), Ok("ab")), (None, Ok("cd")), (None, Err("broken")), (None, Ok("ef"))];
        let mut late = Some(late);
        let steps = steps.map(|(wait, answer)| {
            // The last step that is begun lets the first come.
            let late = answer.is_err().then(|| late.take()).flatten();
            async move {
                drop(late);
                if let Some(wait) = wait {
                    let _ = wait.await;
                }
                answer.map(|text: &str| vec![Bytes::from(text)])
            }
        });
        assert_eq!(delivery.take(steps.into_iter()).await, Err("broken"));
        assert_eq!(gathered.finish(), "abcd");
        assert_eq!(delivery.rest(), ByteRange::new(14, 20));
        let lost = Failure::lost(musicfs_core::OriginErrorKind::Unavailable, "gone");
        assert!(!delivery.judge(lost).is_lost());
    }
}
