//! What a store does when a write fails or the process dies at a named point. In a binary of its own: failpoints
//! are the whole process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fail::FailScenario;
use musicfs_cas::{CacheKeeper, CasConfig, CasStore, ContentFetcher, FileReader};
use musicfs_core::{
    Batch, ByteRange, ChunkError, ChunkHash, ContentReader, FileMeta, MetaDb, Op, OriginId, OriginPath,
    ReadError, ReadPlan, SeenFile, SeenKeeper, SystemClock, UnixNanos,
};
use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

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

/// A source of files that are all ones.
struct Ones;

#[async_trait]
impl ContentReader for Ones {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        Ok(ReadPlan::verbatim(file))
    }

    async fn read(&self, _: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        Ok(vec![1; range.len() as usize].into())
    }

    async fn backing(&self, _: &ReadPlan) -> Option<std::fs::File> {
        None
    }

    async fn hash(&self, _: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        Ok(None)
    }

    fn cached(&self, _: &FileMeta) -> &'static str {
        "none"
    }

    fn stand_in(&self, _: &FileMeta) -> Option<(OriginId, OriginPath)> {
        None
    }
}

async fn reader(dir: &Path, db: &Arc<MemoryMetaDb>) -> (FileReader, CacheKeeper) {
    let clock = Arc::new(SystemClock::new());
    let store = CasStore::open(CasConfig::new(dir)).await.unwrap();
    let keeper = CacheKeeper::new(store.clone(), clock.clone(), None);
    let fetcher = ContentFetcher::new(Arc::new(Ones));
    let reader =
        FileReader::with_fetcher(Arc::new(store), fetcher, db.clone(), clock, Box::new(|_: &OriginId| true));
    (reader.with_keeper(keeper.clone()), keeper)
}

#[tokio::test]
async fn what_was_seen_is_kept_together_or_not_at_all_when_that_fails_or_dies() {
    const HEAD: u64 = 128 << 10;
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(MemoryMetaDb::new());
    let files: Vec<FileMeta> = (1..=3).map(|n| make_file_meta(n, &format!("{n}.flac"), 3 << 20)).collect();
    let ops = files.iter().map(|file| Op::PutFile(Box::new(file.clone()))).collect();
    db.apply(&Batch { at: UnixNanos(0), ops }).unwrap();
    // Each of its own, so that no two share a chunk.
    let seen = || {
        let part = |n: usize| Bytes::from(vec![n as u8 + 2; HEAD as usize]);
        let seen = |(n, file): (usize, &FileMeta)| SeenFile { file: file.clone(), parts: vec![(0, part(n))] };
        files.iter().enumerate().map(seen).collect::<Vec<_>>()
    };
    let (first, keeper) = reader(dir.path(), &db).await;
    for action in ["return", "panic"] {
        fail::cfg("cas-put-together-before-sync", action).unwrap();
        first.keep(seen()).await;
        fail::remove("cas-put-together-before-sync");
        assert_eq!((keeper.stats().bytes, keeper.store().current_size()), (0, 0));
        assert!(files.iter().all(|file| first.cached(file) == "none"));
        assert!(!first.stats().passing_through);
        let left = files_of(&dir.path().join("tmp"));
        assert_eq!(left, if action == "return" { 0 } else { files.len() });
    }
    // Nothing of it is served either: it is asked for as ever.
    let plan = first.open(&files[0]).await.unwrap();
    assert_eq!(first.read(&plan, ByteRange::at(HEAD - 9, 9)).await.unwrap(), vec![1; 9]);
    // What a kill left is swept by the next start.
    drop((first, keeper));
    let (reader, keeper) = reader(dir.path(), &db).await;
    assert_eq!(files_of(&dir.path().join("tmp")), 0);
    reader.keep(seen()).await;
    assert!(files.iter().all(|file| reader.cached(file) == "partial"));
    let plan = reader.open(&files[2]).await.unwrap();
    assert_eq!(reader.read(&plan, ByteRange::at(0, 9)).await.unwrap(), vec![4; 9]);
    assert_eq!(keeper.stats().chunks as usize, files_of(dir.path()));
    scenario.teardown();
}
