//! Reading a remote origin through the cache: real chunk files, a real catalogue, an origin that fails to order.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod guesses;
mod seen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_cas::{CasConfig, CasStore, ContentFetcher, FileReader};
use musicfs_core::{
    Batch, ByteRange, ChunkStore, Clock, ContentReader, FileId, FileKind, FileMeta, FileState, MetaDb, Op,
    OriginCaps, OriginErrorKind, OriginId, OriginPath, ReadError, SystemClock, UnixNanos,
};
use musicfs_origins::{OriginReader, OriginRegistry, ReadLimits};
use musicfs_sync::Database;
use musicfs_test_utils::library::random_bytes;
use musicfs_test_utils::{FailMode, FaultyCasStore, FaultyOrigin, MemoryOrigin, eventually};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// For what must not hang.
const DEADLINE: Duration = Duration::from_secs(60);

fn noise(len: usize, seed: u64) -> Bytes {
    random_bytes(len, seed).into()
}

struct World {
    dir: TempDir,
    memory: Arc<MemoryOrigin>,
    origin: Arc<FaultyOrigin>,
    db: Arc<Database>,
    store: Arc<FaultyCasStore<Arc<CasStore>>>,
    reader: FileReader,
}

impl World {
    async fn new() -> Self {
        Self::with_max_size(u64::MAX).await
    }

    async fn with_max_size(max_size: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let memory = Arc::new(MemoryOrigin::new("nas").with_caps(OriginCaps::remote()));
        let origin = Arc::new(FaultyOrigin::new(memory.clone(), FailMode::Healthy));
        let (db, store, reader) = open(dir.path(), &origin, max_size).await;
        Self { dir, memory, origin, db, store, reader }
    }

    /// Starts again on the same disk.
    async fn restart(mut self) -> Self {
        drop(self.reader);
        drop(self.db);
        drop(self.store);
        (self.db, self.store, self.reader) = open(self.dir.path(), &self.origin, u64::MAX).await;
        self
    }

    /// Returns a world with one file of `len` bytes, of which all is cached, after a restart.
    async fn with_cached(len: usize, seed: u64) -> (Self, FileMeta, Bytes) {
        let world = Self::new().await;
        let bytes = noise(len, seed);
        let file = world.add("a.flac", &bytes);
        world.read_all(&file).await.unwrap();
        world.settled(&file).await;
        (world.restart().await, file, bytes)
    }

    fn add(&self, path: &str, bytes: &Bytes) -> FileMeta {
        let version = self.memory.put(path, bytes.clone());
        let (origin, path) = (OriginId::from("nas"), OriginPath::new(path).unwrap());
        let file = FileMeta {
            id: FileId::derive(&origin, &path, 0),
            origin,
            path,
            version,
            kind: FileKind::Audio,
            state: FileState::Present,
            format: None,
            audio: None,
            problem: None,
            shown_at: None,
        };
        let ops = vec![Op::PutFile(Box::new(file.clone()))];
        self.db.apply(&Batch { at: UnixNanos(0), ops }).unwrap();
        file
    }

    async fn read(&self, file: &FileMeta, start: usize, len: usize) -> Result<Bytes, ReadError> {
        let plan = self.reader.open(file).await?;
        self.reader.read(&plan, ByteRange::at(start as u64, len as u64)).await
    }

    /// Reads a whole file as the kernel would.
    async fn read_all(&self, file: &FileMeta) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while (all.len() as u64) < file.version.size {
            let part = self.read(file, all.len(), 128 << 10).await?;
            assert!(!part.is_empty());
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    /// Waits until all of a file is cached and recorded.
    async fn settled(&self, file: &FileMeta) {
        let saved = || {
            let manifest = self.db.manifest(file.id).unwrap();
            manifest.is_some_and(|(_, manifest)| manifest.covered() == file.version.size)
        };
        eventually("all of the file is recorded as cached", saved).await;
    }

    fn chunk_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join("chunks")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let is_chunk = entry.file_name().len() == 64;
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                } else if is_chunk {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

async fn open(
    dir: &Path,
    origin: &Arc<FaultyOrigin>,
    max_size: u64,
) -> (Arc<Database>, Arc<FaultyCasStore<Arc<CasStore>>>, FileReader) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let db = Arc::new(Database::open(&dir.join("catalogue.db")).unwrap());
    let config = CasConfig::new(dir.join("chunks")).with_max_size(max_size);
    let store = Arc::new(FaultyCasStore::new(Arc::new(CasStore::open(config).await.unwrap())));
    let registry = Arc::new(OriginRegistry::new());
    registry.register(origin.clone(), 1);
    let source = OriginReader::new(registry, clock.clone(), ReadLimits::default());
    let fetcher = ContentFetcher::new(Arc::new(source));
    let everything = Box::new(|_: &OriginId| true);
    let reader = FileReader::with_fetcher(store.clone(), fetcher, db.clone(), clock, everything);
    (db, store, reader)
}

fn down(world: &World) {
    world.origin.set_mode(FailMode::ReturnError(std::io::ErrorKind::ConnectionRefused));
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_gets_what_has_come_of_a_window_before_the_rest_of_it() {
    let world = World::new().await;
    let bytes = noise(16 * MIB, 3);
    let file = world.add("a.flac", &bytes);
    let part = |n: usize| bytes.slice(n * MIB..(n + 1) * MIB);
    // What is counted is what the reader causes.
    world.reader.set_prefetch(false);
    // Enough for the first read; of the window after it, which goes in the same request, a part.
    world.memory.hold_parts_after(MIB as u64 * 3 / 2);
    let first = tokio::time::timeout(DEADLINE, world.read(&file, 0, MIB)).await;
    assert!(first.expect("an answer").unwrap() == part(0));
    let asked = world.origin.reads();
    assert_eq!(asked, 1);
    let next = world.read(&file, MIB, MIB);
    tokio::pin!(next);
    assert!(futures::poll!(&mut next).is_pending());
    world.memory.hold_parts_after(u64::MAX);
    assert!(next.await.unwrap() == part(1));
    assert!(world.origin.reads() <= asked + 1, "{} instead of {asked}", world.origin.reads());
    assert!(world.read_all(&file).await.unwrap() == bytes);
    assert_eq!(world.origin.bytes_read(), bytes.len() as u64, "nothing is fetched twice");
}

#[tokio::test]
async fn read_of_what_comes_too_slowly_ends_by_its_deadline_and_what_came_is_there_for_the_next() {
    let world = World::new().await;
    let bytes = noise(MIB, 4);
    let file = world.add("a.flac", &bytes);
    let deadline = Duration::from_millis(200);
    world.reader.set_deadline(deadline);
    world.memory.hold_parts_after(MIB as u64 / 2);
    let read = tokio::time::timeout(DEADLINE, world.read(&file, 0, MIB)).await.expect("an end");
    assert!(matches!(read, Err(ReadError::TimedOut { after, .. }) if after == deadline), "{read:?}");
    world.memory.hold_parts_after(u64::MAX);
    world.settled(&file).await;
    assert!(world.read(&file, 0, MIB).await.unwrap() == bytes);
    assert_eq!(world.origin.reads(), 1);
}

#[tokio::test]
async fn cached_file_is_read_after_a_restart_with_its_origin_down() {
    let world = World::new().await;
    let bytes = noise(9 * MIB + 12_345, 1);
    let file = world.add("a.flac", &bytes);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    let fetched = world.origin.bytes_read();
    assert_eq!(fetched, bytes.len() as u64, "nothing is fetched twice");
    let world = world.restart().await;
    down(&world);
    assert_eq!(world.reader.cached(&file), "full");
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    assert_eq!(world.read(&file, 5 * MIB, 100).await.unwrap(), bytes.slice(5 * MIB..5 * MIB + 100));
    assert_eq!(world.reader.stats().fetched, 0);
}

#[tokio::test]
async fn partly_cached_file_opens_and_only_what_is_missing_fails() {
    let world = World::new().await;
    let bytes = noise(4 * MIB, 2);
    let file = world.add("a.flac", &bytes);
    assert_eq!(world.reader.cached(&file), "none");
    world.read(&file, 0, 1000).await.unwrap();
    eventually("its head is cached", || world.reader.cached(&file) == "partial").await;
    down(&world);
    assert_eq!(world.read(&file, 10, 500).await.unwrap(), bytes.slice(10..510));
    assert!(matches!(world.read(&file, 3 * MIB, 10).await, Err(ReadError::Unavailable(_))));
    world.origin.set_mode(FailMode::Healthy);
    assert_eq!(world.read(&file, 3 * MIB, 10).await.unwrap(), bytes.slice(3 * MIB..3 * MIB + 10));
}

#[tokio::test]
async fn reader_of_heads_and_tails_pulls_no_more_than_those() {
    let world = World::new().await;
    let bytes = noise(30 * MIB, 3);
    let file = world.add("a.flac", &bytes);
    world.read(&file, 0, 16 << 10).await.unwrap();
    world.read(&file, 30 * MIB - 128, 128).await.unwrap();
    assert!(world.origin.bytes_read() <= 128 << 10, "{}", world.origin.bytes_read());
}

#[tokio::test]
async fn many_readers_of_one_stretch_fetch_it_once() {
    let world = World::new().await;
    let bytes = noise(MIB, 4);
    let file = world.add("a.flac", &bytes);
    let reads = (0..32).map(|_| world.read(&file, 100, 50_000));
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap(), bytes.slice(100..50_100));
    }
    assert_eq!((world.origin.reads(), world.origin.bytes_read()), (1, 64 << 10));
}

#[tokio::test]
async fn reader_that_goes_away_harms_no_other_and_what_it_asked_for_stays() {
    let world = World::new().await;
    let bytes = noise(MIB, 5);
    let file = world.add("a.flac", &bytes);
    world.origin.set_mode(FailMode::TimeoutMs(50));
    let plan = world.reader.open(&file).await.unwrap();
    {
        let gone = world.reader.read(&plan, ByteRange::at(0, 1000));
        tokio::pin!(gone);
        assert!(futures::poll!(&mut gone).is_pending());
    }
    let other = world.reader.read(&plan, ByteRange::at(500, 1000)).await.unwrap();
    assert_eq!(other, bytes.slice(500..1500));
    eventually("what was asked for is cached", || world.reader.cached(&file) != "none").await;
}

#[tokio::test]
async fn every_chunk_damaged_cut_or_deleted_in_turn_is_mended_inside_the_read() {
    let world = World::new().await;
    let bytes = noise(3 * MIB, 6);
    let file = world.add("a.flac", &bytes);
    world.read_all(&file).await.unwrap();
    world.settled(&file).await;
    let mut world = world;
    for round in 0..3 {
        world = world.restart().await;
        let chunks = world.chunk_files();
        assert!(chunks.len() >= 3);
        for chunk in &chunks {
            let content = std::fs::read(chunk).unwrap();
            match round {
                0 => std::fs::write(chunk, vec![0x5a; content.len()]).unwrap(),
                1 => std::fs::write(chunk, &content[..content.len() / 2]).unwrap(),
                _ => std::fs::remove_file(chunk).unwrap(),
            }
        }
        assert_eq!(world.read_all(&file).await.unwrap(), bytes, "round {round}");
        assert!(world.reader.stats().repaired >= 3, "{:?}", world.reader.stats());
        world.settled(&file).await;
    }
}

#[tokio::test]
async fn store_without_room_turns_into_reading_the_origin() {
    let world = World::with_max_size(200 << 10).await;
    let bytes = noise(6 * MIB, 7);
    let file = world.add("a.flac", &bytes);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    // Nobody who reads waits for what is stored.
    eventually("the store to have no room", || world.reader.stats().passing_through).await;
    assert!(world.store.current_size() <= 200 << 10);
    let stats = world.reader.stats();
    assert!(stats.not_stored > 0, "{stats:?}");
    assert_eq!(world.read(&file, 4 * MIB, 1000).await.unwrap(), bytes.slice(4 * MIB..4 * MIB + 1000));
}

#[tokio::test]
async fn store_that_cannot_be_read_turns_into_reading_the_origin() {
    let (world, file, bytes) = World::with_cached(2 * MIB, 8).await;
    world.store.inject_eio_on_read(true);
    world.store.inject_enospc(true);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    assert!(world.reader.stats().passing_through);
}

#[tokio::test]
async fn store_that_hangs_turns_into_reading_the_origin() {
    let (world, file, bytes) = World::with_cached(8 * MIB, 8).await;
    world.store.inject_hang_on_read(true);
    world.store.inject_enospc(true);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    assert!(world.reader.stats().passing_through);
    // What hung is as good as before.
    world.store.inject_hang_on_read(false);
    let world = world.restart().await;
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
}

#[tokio::test]
async fn chunks_that_could_not_be_read_for_a_while_are_served_afterwards_though_the_origin_is_down() {
    let (world, file, bytes) = World::with_cached(6 * MIB, 13).await;
    down(&world);
    world.store.inject_eio_on_read(true);
    assert!(world.read(&file, 0, 1000).await.is_err());
    assert!(world.read_all(&file).await.is_err());
    world.store.inject_eio_on_read(false);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    let world = world.restart().await;
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    // With the origin there, they are as good as before.
    world.origin.set_mode(FailMode::Healthy);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    assert_eq!(world.reader.cached(&file), "full");
}

#[tokio::test]
async fn file_replaced_on_its_origin_is_old_or_an_error_and_never_mixed() {
    let world = World::new().await;
    let (old, new) = (noise(4 * MIB, 9), noise(4 * MIB, 10));
    let file = world.add("a.flac", &old);
    let plan = world.reader.open(&file).await.unwrap();
    let head = world.reader.read(&plan, ByteRange::at(0, 1000)).await.unwrap();
    assert_eq!(head, old.slice(..1000));
    let replaced = world.add("a.flac", &new);
    assert_eq!(world.reader.read(&plan, ByteRange::at(0, 1000)).await.unwrap(), head);
    let rest = world.reader.read(&plan, ByteRange::at(2 << 20, 1000)).await;
    assert!(matches!(rest, Err(ReadError::Changed(_))), "{rest:?}");
    assert_eq!(world.read_all(&replaced).await.unwrap(), new);
    world.settled(&replaced).await;
    let world = world.restart().await;
    down(&world);
    assert_eq!(world.read_all(&replaced).await.unwrap(), new);
}

#[tokio::test]
async fn short_answer_never_reaches_the_cache() {
    let world = World::new().await;
    let bytes = noise(MIB, 11);
    let file = world.add("a.flac", &bytes);
    world.origin.set_mode(FailMode::PartialRead { max_bytes: 1000 });
    assert!(world.read(&file, 0, 100_000).await.is_err());
    world.origin.set_mode(FailMode::Healthy);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
}

#[tokio::test]
async fn origin_that_fails_now_and_then_is_read_all_the_same() {
    let world = World::new().await;
    let bytes = noise(8 * MIB, 12);
    let file = world.add("a.flac", &bytes);
    world.origin.set_mode(FailMode::FailEveryNth(3));
    let mut all = Vec::new();
    while all.len() < bytes.len() {
        // What fails may be asked for again, and what came stays.
        if let Ok(part) = world.read(&file, all.len(), 128 << 10).await {
            all.extend_from_slice(&part);
        }
    }
    assert_eq!(all, bytes);
    world.memory.take_down(OriginErrorKind::Unavailable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn reads_in_any_order_give_the_files_bytes(
        size in 1usize..6_000_000,
        reads in prop::collection::vec((any::<prop::sample::Index>(), 1usize..700_000), 1..30),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let bytes = noise(size, seed);
            let file = world.add("a.flac", &bytes);
            for (at, len) in reads {
                let start = at.index(size);
                let end = (start + len).min(size);
                assert_eq!(world.read(&file, start, len).await.unwrap(), bytes.slice(start..end));
            }
            assert!(world.origin.bytes_read() <= size as u64, "nothing is fetched twice");
        });
    }
}
