//! Reads that failed slowly, remembered for a moment.
//!
//! When a read ahead fails, the kernel asks again for each page that somebody waits for, once for each who waits. A
//! file that hangs would so cost its readers several deadlines one after the other. Who asks again within a moment
//! for what has just failed slowly gets the same answer at once.
//!
//! One lock, held for a few lines.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{ByteRange, Ino, MonoTime};
use parking_lot::Mutex;

use crate::FsError;

/// A failure that took less is not worth remembering.
const SLOW: Duration = Duration::from_millis(500);
/// How long a failure is the answer to the same question: long enough for all who wait to be told, short enough
/// that trying again means something.
const MOMENT: Duration = Duration::from_secs(1);
/// Failures remembered at once. What is beyond costs its readers a second deadline.
const MOST: usize = 1024;

struct Failure {
    range: ByteRange,
    until: MonoTime,
    error: FsError,
}

#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Ino, Failure>>);

impl Failures {
    /// Returns how a read that overlaps `range` has just failed.
    pub(crate) fn recent(&self, ino: Ino, range: ByteRange, now: MonoTime) -> Option<FsError> {
        let failures = self.0.lock();
        let failure = failures.get(&ino)?;
        (now < failure.until && failure.range.intersect(&range).is_some()).then_some(failure.error)
    }

    /// Remembers a failure, if it was slow.
    pub(crate) fn note(&self, ino: Ino, range: ByteRange, began: MonoTime, now: MonoTime, error: FsError) {
        if now.since(began) < SLOW {
            return;
        }
        let mut failures = self.0.lock();
        failures.retain(|_, failure| now < failure.until);
        if failures.len() < MOST {
            // Reads ahead of one file fail side by side.
            let range = match failures.get(&ino) {
                Some(old) => {
                    ByteRange::new(old.range.start().min(range.start()), old.range.end().max(range.end()))
                }
                None => range,
            };
            failures.insert(ino, Failure { range, until: now.plus(MOMENT), error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INO: Ino = Ino::from_raw(5);
    const START: MonoTime = MonoTime(Duration::from_secs(100));

    #[test]
    fn slow_failure_is_the_answer_for_a_moment_and_for_its_range_only() {
        let failures = Failures::default();
        let failed = START.plus(Duration::from_secs(5));
        failures.note(INO, ByteRange::at(0, 100), START, failed, FsError::TimedOut);
        failures.note(INO, ByteRange::at(100, 100), START, failed, FsError::TimedOut);
        assert_eq!(failures.recent(INO, ByteRange::at(50, 10), failed), Some(FsError::TimedOut));
        assert_eq!(failures.recent(INO, ByteRange::at(150, 10), failed), Some(FsError::TimedOut));
        assert_eq!(failures.recent(INO, ByteRange::at(200, 10), failed), None);
        assert_eq!(failures.recent(Ino::from_raw(6), ByteRange::at(50, 10), failed), None);
        assert_eq!(failures.recent(INO, ByteRange::at(50, 10), failed.plus(MOMENT)), None);
    }

    #[test]
    fn quick_failure_is_not_remembered() {
        let failures = Failures::default();
        failures.note(INO, ByteRange::at(0, 100), START, START, FsError::Io);
        assert_eq!(failures.recent(INO, ByteRange::at(0, 100), START), None);
    }

    #[test]
    fn failures_remembered_are_bounded_and_make_room_when_their_moment_is_over() {
        let failures = Failures::default();
        let failed = START.plus(SLOW);
        for n in 0..2 * MOST as u64 {
            failures.note(Ino::from_raw(n), ByteRange::at(0, 1), START, failed, FsError::Io);
        }
        assert_eq!(failures.0.lock().len(), MOST);
        failures.note(INO, ByteRange::at(0, 1), START, failed.plus(MOMENT), FsError::Io);
        assert_eq!(failures.0.lock().len(), 1);
    }
}
