//! What was read for another purpose is kept, within the limits.

use std::sync::Arc;

use bytes::Bytes;
use musicfs_cas::{CacheKeeper, CasConfig, CasStore, ContentFetcher, FileReader};
use musicfs_core::{
    ByteRange, Clock, ContentReader, FileMeta, MetaDb, OriginId, SeenFile, SeenKeeper, SystemClock,
};
use musicfs_origins::{OriginReader, OriginRegistry, ReadLimits};

use super::{MIB, World, down, noise};

const HEAD: usize = 128 << 10;

/// Makes a reader with a store of its own, of `max_size` bytes at the most.
pub(super) async fn keeping(world: &World, max_size: u64) -> (FileReader, CacheKeeper) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config = CasConfig::new(world.dir.path().join("kept")).with_max_size(max_size);
    let store = CasStore::open(config).await.unwrap();
    let registry = Arc::new(OriginRegistry::new());
    registry.register(world.origin.clone(), 1);
    let source = OriginReader::new(registry, clock.clone(), ReadLimits::default());
    let keeper = CacheKeeper::new(store.clone(), clock.clone(), None);
    let everything = Box::new(|_: &OriginId| true);
    let fetcher = ContentFetcher::new(Arc::new(source));
    let reader = FileReader::with_fetcher(Arc::new(store), fetcher, world.db.clone(), clock, everything);
    (reader.with_keeper(keeper.clone()), keeper)
}

fn seen(file: &FileMeta, bytes: &Bytes) -> SeenFile {
    let tail = bytes.len() - (64 << 10);
    let middle = MIB;
    let parts = [(0, HEAD), (middle, middle + HEAD), (tail, bytes.len())];
    let parts = parts.map(|(from, to)| (from as u64, bytes.slice(from..to)));
    SeenFile { file: file.clone(), parts: parts.into() }
}

async fn read(reader: &FileReader, file: &FileMeta, start: usize, len: usize) -> Option<Bytes> {
    let plan = reader.open(file).await.ok()?;
    reader.read(&plan, ByteRange::at(start as u64, len as u64)).await.ok()
}

#[tokio::test]
async fn head_and_tail_that_were_seen_are_served_without_the_origin_also_after_a_restart() {
    let world = World::new().await;
    let contents: Vec<Bytes> = (1..20).map(|n| noise(3 * MIB, 2 * n)).collect();
    let files: Vec<FileMeta> =
        (0..).zip(&contents).map(|(n, bytes)| world.add(&format!("{n}.flac"), bytes)).collect();
    let (reader, _) = keeping(&world, u64::MAX).await;
    assert_eq!(reader.head(&"nas".into()), Some(HEAD as u64));
    reader.keep(files.iter().zip(&contents).map(|(file, bytes)| seen(file, bytes)).collect()).await;
    drop(reader);
    let (reader, keeper) = keeping(&world, u64::MAX).await;
    down(&world);
    for (file, bytes) in files.iter().zip(&contents) {
        assert_eq!(reader.cached(file), "partial");
        assert_eq!(read(&reader, file, 0, HEAD).await.unwrap(), bytes[..HEAD]);
        let tail = bytes.len() - (64 << 10);
        assert_eq!(read(&reader, file, tail, 64 << 10).await.unwrap(), bytes[tail..]);
        assert_eq!(read(&reader, file, MIB, 1).await, None, "the middle was kept as well");
    }
    assert_eq!(reader.stats().fetched, 0);
    assert_eq!(keeper.store().current_size(), (files.len() * (HEAD + (64 << 10))) as u64);
}

#[tokio::test]
async fn what_is_cached_already_is_not_kept_twice_and_a_reader_goes_on_from_the_head() {
    let world = World::new().await;
    let bytes = noise(3 * MIB, 7);
    let file = world.add("a.flac", &bytes);
    let (reader, keeper) = keeping(&world, u64::MAX).await;
    assert_eq!(read(&reader, &file, 0, 1000).await.unwrap(), bytes[..1000]);
    reader.keep(vec![seen(&file, &bytes), seen(&file, &bytes)]).await;
    let mut all = Vec::new();
    while all.len() < bytes.len() {
        all.extend_from_slice(&read(&reader, &file, all.len(), HEAD).await.unwrap());
    }
    assert!(all == bytes);
    musicfs_test_utils::eventually("all of it to be cached", || reader.cached(&file) == "full").await;
    assert_eq!(keeper.store().current_size(), bytes.len() as u64);
    assert_eq!(reader.stats().fetched, (bytes.len() - HEAD - (64 << 10)) as u64 + (64 << 10));
}

#[tokio::test]
async fn cache_with_little_room_takes_nothing_unasked_beyond_its_share() {
    let world = World::new().await;
    let contents: Vec<Bytes> = (1..40).map(|n| noise(3 * MIB, 2 * n)).collect();
    let files: Vec<FileMeta> =
        (0..).zip(&contents).map(|(n, bytes)| world.add(&format!("{n}.flac"), bytes)).collect();
    let max = 4 * MIB as u64;
    let (reader, keeper) = keeping(&world, max).await;
    let all: Vec<SeenFile> = files.iter().zip(&contents).map(|(file, bytes)| seen(file, bytes)).collect();
    reader.keep(all.clone()).await;
    for seen in all {
        reader.keep(vec![seen]).await;
    }
    assert_eq!(reader.head(&"nas".into()), None);
    let kept = keeper.store().current_size();
    assert!(kept > 0 && kept < max / 4, "{kept} of {max}");
    assert!(world.db.manifest(files[0].id).unwrap().is_some());
}

#[tokio::test]
async fn what_is_seen_is_kept_again_once_a_broken_cache_is_mended_and_breaks_it_for_nobody() {
    let world = World::new().await;
    let bytes = noise(3 * MIB, 9);
    let file = world.add("a.flac", &bytes);
    let (reader, keeper) = keeping(&world, u64::MAX).await;
    let folder = world.dir.path().join("kept");
    let temporary = folder.join("tmp");
    std::fs::remove_dir(&temporary).unwrap();
    std::fs::write(&temporary, "in the way").unwrap();
    reader.keep(vec![seen(&file, &bytes)]).await;
    assert_eq!(reader.cached(&file), "none");
    assert!(!reader.stats().passing_through, "nobody asked for it, and all are without a cache");
    assert_eq!(keeper.stats().bytes, 0);

    // The folders are made again, as for what is read.
    std::fs::remove_file(&temporary).unwrap();
    reader.keep(vec![seen(&file, &bytes)]).await;
    assert_eq!(reader.cached(&file), "partial");
    assert_eq!(read(&reader, &file, 0, HEAD).await.unwrap(), bytes[..HEAD]);
    assert_eq!(reader.stats().fetched, 0);
}
