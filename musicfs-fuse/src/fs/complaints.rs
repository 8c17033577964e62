//! Which failed reads are worth a line in the log: a few of each origin a minute, as an origin that is away fails
//! every read. How many were passed over is said with the next one.
//!
//! One lock, held for a few lines.

use std::collections::HashMap;
use std::time::Duration;

use musicfs_core::{MonoTime, OriginId};
use parking_lot::Mutex;

/// How long a count lasts.
const SPAN: Duration = Duration::from_secs(60);
/// Lines for one origin in that time: enough to see which files are concerned.
const LINES: u64 = 5;

#[derive(Clone, Copy)]
struct Count {
    since: MonoTime,
    failures: u64,
}

#[derive(Default)]
pub(crate) struct Complaints(Mutex<HashMap<OriginId, Count>>);

impl Complaints {
    /// Takes note of a failure. Returns how many were passed over before it when it is to be said, else `None`.
    pub(crate) fn note(&self, origin: &OriginId, now: MonoTime) -> Option<u64> {
        let mut counts = self.0.lock();
        let count = counts.entry(origin.clone()).or_insert(Count { since: now, failures: 0 });
        let mut passed_over = 0;
        if now.since(count.since) >= SPAN {
            passed_over = count.failures.saturating_sub(LINES);
            *count = Count { since: now, failures: 0 };
        }
        count.failures += 1;
        (count.failures <= LINES).then_some(passed_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_a_few_a_minute_are_counted_and_not_said() {
        let (complaints, origin) = (Complaints::default(), OriginId::from("nas"));
        let start = MonoTime(Duration::from_secs(100));
        let said: Vec<_> = (0..12).map(|_| complaints.note(&origin, start)).collect();
        assert_eq!(said.iter().filter(|said| said.is_some()).count(), 5);
        assert_eq!(complaints.note(&OriginId::from("other"), start), Some(0));
        assert_eq!(complaints.note(&origin, start.plus(SPAN)), Some(7));
        assert_eq!(complaints.note(&origin, start.plus(SPAN)), Some(0));
    }
}
