//! This process's memory: how the C library asks the system for it, and when what is free goes back.
//!
//! That library keeps what was freed for the next who asks, in up to eight arenas for each core, and each keeps the
//! most that its threads ever needed. Work here goes from thread to thread, so that every arena came to hold the most
//! that a scan needs: three times what was in use, and for as long as the daemon ran.
//!
//! Other C libraries are left as they are.

use std::time::Duration;

use musicfs_core::{Clock, Revision};
use musicfs_sync::ScanProgress;
use tokio::sync::watch;

/// When to give back after something was done: while it goes on, and once what follows it (the search index, say) has
/// come to its end as well.
const AFTER: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Sets how memory is asked for. To be called before there are threads.
pub(crate) fn settle() {
    system::settle();
}

/// Gives back what is free.
pub(crate) async fn give_back() {
    // It looks at all that is free, and nobody has memory of an arena meanwhile: some milliseconds.
    let _ = tokio::task::spawn_blocking(system::give_back).await;
}

/// Calls `give_back` during scans and changes of the catalogue, and after them. Ends when these are no more.
///
/// Dropping the future ends it at once.
pub(crate) async fn tend(
    clock: &dyn Clock,
    mut scans: watch::Receiver<ScanProgress>,
    mut changes: watch::Receiver<Revision>,
    give_back: impl AsyncFn(),
) {
    loop {
        let going = tokio::select! {
            going = scans.changed() => going,
            going = changes.changed() => going,
        };
        if going.is_err() {
            return;
        }
        for wait in AFTER {
            scans.mark_unchanged();
            changes.mark_unchanged();
            clock.sleep_until(clock.now().plus(wait)).await;
            give_back().await;
            if scans.has_changed().unwrap_or(true) || changes.has_changed().unwrap_or(true) {
                break;
            }
        }
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's allocator is set through its own functions")]
mod system {
    use std::num::NonZero;

    use nix::libc;

    /// The fewest arenas. Else there is one for each core, so that few wait for each other.
    const ARENAS: usize = 4;
    /// From so many bytes on, a block is asked of the system by itself, and given back when it is freed. It is more than
    /// any chunk of music, as each such block has its pages cleared. Unless it is set, freeing one table of a scan has
    /// the library take the next ones from an arena, where they leave holes.
    const ALONE: i32 = 4 << 20;
    /// So many free bytes at the end of an arena are kept: what reading music takes and frees all the time.
    const KEPT: i32 = 32 << 20;

    pub(super) fn settle() {
        let cores = std::thread::available_parallelism().map_or(ARENAS, NonZero::get);
        let arenas = i32::try_from(cores.max(ARENAS)).unwrap_or(i32::MAX);
        for (what, value) in
            [(libc::M_ARENA_MAX, arenas), (libc::M_MMAP_THRESHOLD, ALONE), (libc::M_TRIM_THRESHOLD, KEPT)]
        {
            // SAFETY: it takes two numbers, and refuses those it does not know.
            if unsafe { libc::mallopt(what, value) } == 0 {
                tracing::debug!(what, value, "the allocator does not take a setting");
            }
        }
    }

    pub(super) fn give_back() {
        // SAFETY: it may be called at any time, by any thread, and touches only what is free.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(target_env = "gnu"))]
mod system {
    pub(super) fn settle() {}

    pub(super) fn give_back() {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use musicfs_test_utils::ManualClock;

    use super::*;

    #[tokio::test]
    async fn memory_is_given_back_while_a_scan_goes_on_and_twice_after_it() {
        let clock = ManualClock::new();
        let (scan, scans) = watch::channel(ScanProgress::default());
        let (change, changes) = watch::channel(Revision::default());
        let times = Cell::new(0);
        let tending = tend(&clock, scans, changes, async || times.set(times.get() + 1));
        tokio::pin!(tending);
        let mut given_after = async |wait: u64| {
            assert!(futures::poll!(&mut tending).is_pending());
            clock.advance(Duration::from_secs(wait));
            assert!(futures::poll!(&mut tending).is_pending());
            times.get()
        };
        assert_eq!(given_after(100).await, 0, "nothing was done");
        scan.send_modify(|_| ());
        assert_eq!(given_after(10).await, 1);
        change.send_modify(|_| ());
        assert_eq!(given_after(60).await, 2);
        assert_eq!(given_after(10).await, 3, "something was done meanwhile");
        assert_eq!(given_after(60).await, 4);
        assert_eq!(given_after(100).await, 4);
        drop((scan, change));
        tending.await;
    }
}
