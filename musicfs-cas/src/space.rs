//! How much of the disk may be used.
//!
//! The system is asked now and then, not for every chunk: in between, what is written is counted. Its answer is
//! fetched without the lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::{Clock, MonoTime};
use parking_lot::Mutex;

/// For how long an answer of the system counts: as long may others fill the disk unseen.
const VALID: Duration = Duration::from_secs(5);

/// The room on a disk, of which a part is left to others.
#[derive(Debug)]
pub(crate) struct Space {
    dir: PathBuf,
    /// The part of the disk that is left free, in percent; 0 for none.
    floor: u8,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: MonoTime,
    /// What is free beyond the floor; below 0 by what the floor lacks.
    spare: i64,
}

impl Space {
    pub(crate) fn new(dir: PathBuf, floor: u8) -> Self {
        Self { dir, floor, seen: Mutex::default() }
    }

    /// Takes `len` bytes; tells whether there is that much above the floor. Blocks.
    pub(crate) fn take(&self, len: u64, clock: &dyn Clock) -> bool {
        if self.floor == 0 {
            return true;
        }
        let wanted = i64::try_from(len).unwrap_or(i64::MAX);
        if self.take_seen(wanted, clock.now()) {
            return true;
        }
        self.look(clock);
        self.take_seen(wanted, clock.now())
    }

    /// Returns what is free beyond the floor, below 0 what it lacks; `None` when there is no floor, or the system
    /// does not say. Blocks.
    pub(crate) fn spare(&self, clock: &dyn Clock) -> Option<i64> {
        if self.floor == 0 {
            return None;
        }
        let fresh = self.seen.lock().is_some_and(|seen| clock.now().since(seen.at) < VALID);
        if !fresh {
            self.look(clock);
        }
        self.seen.lock().map(|seen| seen.spare)
    }

    /// As [`Space::spare`], but as it was when it was looked at last. Does not block.
    pub(crate) fn last_spare(&self) -> Option<i64> {
        self.seen.lock().map(|seen| seen.spare)
    }

    /// Takes note that `len` bytes were freed.
    pub(crate) fn give(&self, len: u64) {
        if let Some(seen) = &mut *self.seen.lock() {
            seen.spare = seen.spare.saturating_add_unsigned(len);
        }
    }

    fn take_seen(&self, len: i64, now: MonoTime) -> bool {
        let mut seen = self.seen.lock();
        match &mut *seen {
            Some(seen) if now.since(seen.at) < VALID && seen.spare >= len => {
                seen.spare -= len;
                true
            }
            _ => false,
        }
    }

    fn look(&self, clock: &dyn Clock) {
        let at = clock.now();
        let seen = match ask(&self.dir) {
            Ok((free, total)) => {
                let floor = u128::from(total) * u128::from(self.floor) / 100;
                let spare = i128::from(free) - i128::try_from(floor).unwrap_or(i128::MAX);
                Some(Seen { at, spare: i64::try_from(spare).unwrap_or(i64::MIN) })
            }
            // A disk that does not answer this will not take a chunk either, and says why.
            Err(_) => Some(Seen { at, spare: i64::MAX }),
        };
        *self.seen.lock() = seen;
    }
}

/// Returns what is free for this user, and what would be on an empty disk, in bytes: what `df` reckons with, which
/// leaves out what the filesystem keeps for itself.
fn ask(dir: &Path) -> io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(dir)?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let usable = used.saturating_add(disk.f_bavail);
    Ok((disk.f_bavail.saturating_mul(disk.f_frsize), usable.saturating_mul(disk.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::SystemClock;

    #[test]
    fn floor_that_is_the_whole_disk_leaves_nothing_and_none_leaves_all() {
        let dir = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        let all = Space::new(dir.path().into(), 0);
        assert!(all.take(1 << 40, &clock) && all.spare(&clock).is_none());
        let none = Space::new(dir.path().into(), 100);
        assert!(!none.take(1, &clock));
        assert!(none.spare(&clock).is_some_and(|spare| spare <= 0));
    }

    #[test]
    fn what_is_taken_is_counted_between_answers_of_the_system() {
        let clock = SystemClock::new();
        let space = Space::new("/".into(), 1);
        *space.seen.lock() = Some(Seen { at: clock.now(), spare: 100 });
        assert!(space.take_seen(60, clock.now()));
        assert!(!space.take_seen(60, clock.now()));
        space.give(20);
        assert!(space.take_seen(60, clock.now()));
    }
}
