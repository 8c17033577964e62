//! What stays in a cache and what goes, on real chunk files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_cas::{CacheKeeper, CacheLevel, CasConfig, CasStore};
use musicfs_core::ChunkStore;
use musicfs_test_utils::ManualClock;

const MINUTE: Duration = Duration::from_secs(60);

async fn keeper(dir: &Path, max_size: u64, age: Option<Duration>, clock: &Arc<ManualClock>) -> CacheKeeper {
    let config = CasConfig::new(dir).with_max_size(max_size);
    let store = CasStore::open_with_clock(config, clock.clone()).await.unwrap();
    CacheKeeper::new(store, clock.clone(), age)
}

fn bytes_on_disk(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            sum += bytes_on_disk(&entry.path());
        } else if name.len() == 64 {
            sum += entry.metadata().unwrap().len();
        }
    }
    sum
}

#[tokio::test]
async fn eviction_takes_what_was_used_longest_ago_and_frees_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let keeper = keeper(dir.path(), u64::MAX, None, &clock).await;
    let mut hashes = Vec::new();
    for n in 0..10u8 {
        hashes.push(keeper.store().put(&[n; 1000]).await.unwrap());
        clock.advance(MINUTE);
    }
    // The first is read again: the second is the oldest now.
    keeper.store().get(&hashes[0]).await.unwrap().unwrap();
    let done = keeper.evict(2500).await;
    assert_eq!((done.chunks, done.bytes, done.undeletable), (3, 3000, 0));
    for (n, hash) in hashes.iter().enumerate() {
        let there = keeper.store().contains(hash).await.unwrap();
        assert_eq!(there, !(1..=3).contains(&n), "{n}");
    }
    assert_eq!(bytes_on_disk(dir.path()), 7000);
    assert_eq!(keeper.store().current_size(), 7000);
}

#[tokio::test]
async fn last_use_and_sizes_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let first = keeper(dir.path(), u64::MAX, None, &clock).await;
    let old = first.store().put(&[1; 500]).await.unwrap();
    clock.advance(MINUTE);
    let young = first.store().put(&[2; 700]).await.unwrap();
    clock.advance(MINUTE);
    first.store().get(&old).await.unwrap().unwrap();
    first.store().save_index().await;
    drop(first);
    let again = keeper(dir.path(), u64::MAX, None, &clock).await;
    assert_eq!(again.store().current_size(), 1200);
    again.evict(1).await;
    assert!(again.store().contains(&old).await.unwrap());
    assert!(!again.store().contains(&young).await.unwrap());
}

#[tokio::test]
async fn round_brings_a_full_cache_below_its_first_mark_and_drops_what_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let keeper = keeper(dir.path(), 10_000, Some(60 * MINUTE), &clock).await;
    for n in 0..10u8 {
        keeper.store().put(&[n; 950]).await.unwrap();
        clock.advance(MINUTE);
    }
    assert_eq!(keeper.level(), CacheLevel::Tight);
    keeper.round().await;
    assert_eq!(keeper.level(), CacheLevel::Normal);
    assert!(keeper.store().current_size() <= 8800);
    clock.advance(120 * MINUTE);
    keeper.round().await;
    assert_eq!((keeper.store().current_size(), bytes_on_disk(dir.path())), (0, 0));
}

#[tokio::test]
async fn damaged_index_costs_no_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let first = keeper(dir.path(), u64::MAX, None, &clock).await;
    let hash = first.store().put(&[7; 4000]).await.unwrap();
    first.store().save_index().await;
    drop(first);
    std::fs::write(dir.path().join("index-1").join("db"), vec![0x5a; 100_000]).unwrap();
    let again = keeper(dir.path(), u64::MAX, None, &clock).await;
    assert_eq!(again.store().current_size(), 4000);
    assert_eq!(again.store().get(&hash).await.unwrap().unwrap().len(), 4000);
}

#[tokio::test]
async fn verification_finds_the_damaged_and_the_missing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let keeper = keeper(dir.path(), u64::MAX, None, &clock).await;
    let mut hashes = Vec::new();
    for n in 0..5u8 {
        hashes.push(keeper.store().put(&[n; 100]).await.unwrap());
    }
    std::fs::write(keeper.store().chunk_path(&hashes[1]), [9; 100]).unwrap();
    std::fs::remove_file(keeper.store().chunk_path(&hashes[3])).unwrap();
    let found = keeper.verify(&|_| {}).await;
    assert_eq!((found.chunks, found.bytes, found.damaged, found.missing), (5, 300, 1, 1));
    assert!(found.lost.contains(&hashes[1]) && found.lost.contains(&hashes[3]));
    assert_eq!(keeper.store().current_size(), 300);
    assert_eq!(keeper.clear().await.bytes, 300);
}

#[tokio::test]
async fn store_that_is_opened_at_once_has_its_chunks_before_they_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let hash = CasStore::open(CasConfig::new(dir.path())).await.unwrap().put(b"music").await.unwrap();
    let store = CasStore::open_at_once(CasConfig::new(dir.path()), clock).await.unwrap();
    assert_eq!(store.get(&hash).await.unwrap().as_deref(), Some(&b"music"[..]));
    assert!(store.counted().await);
    assert_eq!(store.current_size(), 5);
}
