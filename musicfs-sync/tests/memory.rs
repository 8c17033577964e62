//! What large libraries take of memory: all that is in use at once is counted, by an allocator of this program's own.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use musicfs_core::{
    Batch, FileKind, FileState, KnownFile, MetaDb, Op, OriginEntry, OriginId, SystemClock, UnixNanos,
};
use musicfs_sync::{CatchUp, Caught, Delta, DeltaDetector, Reread, SearchIndex};
use musicfs_test_utils::{MemoryMetaDb, tracks};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// One measures at a time.
static TURN: Mutex<()> = Mutex::new(());

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn add(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

fn remove(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise")]
// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: what the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks are not copied.
        remove(layout.size());
        add(size);
        // SAFETY: what the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Returns the most that `work` has in use at once, in bytes.
fn measure(work: impl FnOnce()) -> usize {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    work();
    MOST.load(Ordering::Relaxed).saturating_sub(before)
}

#[test]
fn rescan_of_unchanged_files_takes_no_more_than_a_row_for_each() {
    let _turn = TURN.lock();
    // The rows of so many fill the room that a vector has for them.
    const FILES: u64 = 1 << 15;
    let origin = OriginId::from("music");
    let files: Vec<OriginEntry> = (0..FILES)
        .map(|n| {
            let (file, _) = tracks::track(n);
            OriginEntry { path: file.path, version: file.version }
        })
        .collect();
    let most = measure(|| {
        let mut detector = DeltaDetector::new(origin, HashMap::new(), Reread::None);
        for file in &files {
            let id = detector.id_of(&file.path);
            let (kind, state) = (FileKind::Audio, FileState::Present);
            detector.add_known(&KnownFile { id, version: file.version.clone(), kind, state });
        }
        for file in &files {
            assert!(matches!(detector.detect_changes(file), Delta::Unchanged(..)), "{}", file.path);
        }
    });
    // 40 bytes a row, and a set of bits that is there however few the files are.
    let table = (2 << 20) + (1 << 18);
    assert!(most < FILES as usize * 44 + table, "{most} bytes for {FILES} files");
}

/// Returns the most that an index takes to follow a catalogue to which so many files came, none of which are shown.
fn following(files: u64) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (db, index) = (MemoryMetaDb::new(), SearchIndex::open(dir.path()).unwrap());
    let cancel = CancellationToken::new();
    let how =
        CatchUp { db: &db, clock: &SystemClock::new(), cancel: &cancel, opened_at: None, progress: &|_| {} };
    index.catch_up(&how).unwrap();
    let ops = (0..files).map(|n| Op::PutFile(Box::new(tracks::track(n).0))).collect();
    db.apply(&Batch { at: UnixNanos(0), ops }).unwrap();
    measure(|| assert_eq!(index.catch_up(&how).unwrap(), Caught { built: false, files }))
}

#[test]
fn index_that_follows_many_changes_takes_little_for_each() {
    let _turn = TURN.lock();
    const MORE: usize = 20_000;
    let (few, many) = (following(1_000), following(1_000 + MORE as u64));
    // An id, and a part of what is gone through at once. A change of its own in the index would be over 1,000 bytes.
    assert!(many < few + 250 * MORE, "{few} bytes for 1,000 changes, {many} with {MORE} more");
}
