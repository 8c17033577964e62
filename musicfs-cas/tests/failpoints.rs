//! What a store does when a write fails or the process dies at a named point. In a binary of its own: failpoints
//! are the whole process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fail::FailScenario;
use musicfs_cas::{CasConfig, CasStore};
use musicfs_core::{ChunkError, ChunkHash};

async fn open(dir: &tempfile::TempDir) -> CasStore {
    CasStore::open(CasConfig::new(dir.path())).await.unwrap()
}

/// Counts chunks, whole or not; the index beside them can be made again.
fn files_of(dir: &std::path::Path) -> usize {
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true if entry.file_name().to_string_lossy().starts_with("index") => 0,
        true => files_of(&entry.path()),
        false => usize::from(entry.file_name() != "FORMAT"),
    };
    std::fs::read_dir(dir).unwrap().map(|entry| count(entry.unwrap())).sum()
}

#[tokio::test]
async fn put_that_fails_at_either_point_stores_nothing_and_can_be_repeated() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for (point, full) in [("cas-put-before-write", true), ("cas-put-after-write-before-index", false)] {
        let bytes = point.as_bytes();
        let (hash, before) = (ChunkHash::of(bytes), store.current_size());
        fail::cfg(point, "return").unwrap();
        match store.put(bytes).await.unwrap_err() {
            ChunkError::Full { needed } => assert!(full && needed == bytes.len() as u64),
            ChunkError::Io(_) => assert!(!full),
            ChunkError::Corrupt(_) => panic!("nothing was read"),
        }
        assert_eq!(store.get(&hash).await.unwrap(), None);
        assert_eq!(store.current_size(), before);
        assert!(!store.chunk_path(&hash).exists());
        assert_eq!(open(&dir).await.current_size(), before);
        fail::remove(point);
        store.put(bytes).await.unwrap();
        assert_eq!(store.get(&hash).await.unwrap().as_deref(), Some(bytes));
        assert_eq!(store.current_size(), before + bytes.len() as u64);
    }
    scenario.teardown();
}

/// A panic unwinds as far as a dying process gets: nothing after the point is run.
#[tokio::test]
async fn put_that_dies_at_either_point_leaves_the_chunk_whole_or_not_at_all() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for (point, whole) in [("cas-put-before-write", false), ("cas-put-after-write-before-index", true)] {
        let bytes = point.as_bytes();
        let hash = ChunkHash::of(bytes);
        fail::cfg(point, "panic").unwrap();
        assert!(matches!(store.put(bytes).await, Err(ChunkError::Io(_))));
        fail::remove(point);
        let again = open(&dir).await;
        let found = again.get(&hash).await.unwrap();
        assert_eq!(found.as_deref(), whole.then_some(bytes));
        assert_eq!(again.current_size(), if whole { bytes.len() as u64 } else { 0 });
        assert_eq!(files_of(dir.path()), usize::from(whole));
    }
    // The store that saw it happen goes on as well, and its room was given back.
    let bytes = b"cas-put-after-write-before-index";
    store.put(bytes).await.unwrap();
    assert_eq!(store.current_size(), bytes.len() as u64);
    scenario.teardown();
}
