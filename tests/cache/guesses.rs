//! What is cached of a file by guess, as after a change of its tags.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_cas::{ContentFetcher, FileReader};
use musicfs_core::{
    Batch, ByteRange, Change, ChunkExtent, ChunkManifest, ChunkStore, Clock, Compared, ContentReader,
    ContentVerifier, FileMeta, FileQuery, MetaDb, Op, OriginErrorKind, OriginId, Pin, ReadError, Revision,
    SystemClock, UnixNanos,
};
use musicfs_origins::{CircuitReader, HealthMonitor, OriginReader, OriginRegistry, ReadLimits, Router};
use musicfs_test_utils::{FailMode, eventually};

use super::{MIB, World, down, noise, seen};

const SIZE: usize = 8 * MIB;

/// Has a file cached, then replaces it by `new`; what was cached is a guess of what the new one holds.
async fn guessing(world: &World, old: &Bytes, new: &Bytes) -> FileMeta {
    let file = world.add("a.flac", old);
    assert_eq!(world.read_all(&file).await.unwrap(), *old);
    world.settled(&file).await;
    let (_, cached) = world.db.manifest(file.id).unwrap().unwrap();
    let mut manifest = ChunkManifest::default();
    for extent in cached.extents() {
        assert!(manifest.guess(*extent));
    }
    let file = world.add("a.flac", new);
    let put = Op::PutManifest { id: file.id, version: file.version.clone(), manifest };
    world.db.apply(&Batch { at: UnixNanos(0), ops: vec![put] }).unwrap();
    file
}

/// The same but for some bytes in the middle.
fn altered(bytes: &Bytes) -> Bytes {
    let mut altered = bytes.to_vec();
    altered[SIZE / 2..SIZE / 2 + 9].fill(7);
    altered.into()
}

fn guessed(world: &World) -> usize {
    world.db.files(&FileQuery::Guessed, None, 10).unwrap().files.len()
}

#[tokio::test]
async fn guess_that_is_right_is_proven_by_reading_and_stored_once() {
    let world = World::new().await;
    let bytes = noise(SIZE, 1);
    let file = guessing(&world, &bytes, &bytes).await;
    let (chunks, before) = (world.chunk_files().len(), world.origin.bytes_read());
    assert_eq!((world.reader.cached(&file), guessed(&world)), ("partial", 1));
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    assert_eq!(world.origin.bytes_read() - before, SIZE as u64, "all was compared, once");
    assert_eq!(world.chunk_files().len(), chunks);
    let stats = world.reader.stats();
    assert_eq!((stats.proven, stats.mismatched), (SIZE as u64, 0));
    assert_eq!((world.reader.cached(&file), guessed(&world)), ("full", 0));
}

#[tokio::test]
async fn guess_that_is_wrong_is_not_served_while_its_origin_answers() {
    let world = World::new().await;
    let old = noise(SIZE, 2);
    let new = altered(&old);
    let file = guessing(&world, &old, &new).await;
    let before = world.db.revision().unwrap();
    assert_eq!(world.read_all(&file).await.unwrap(), new);
    world.settled(&file).await;
    assert_eq!((world.reader.stats().mismatched, guessed(&world)), (1, 0));
    let changes = world.db.changes_since(before, 100).unwrap().changes;
    assert!(changes.contains(&Change::FileChanged { id: file.id, content: true }), "{changes:?}");
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), new);
}

#[tokio::test]
async fn guess_is_served_while_its_origin_does_not_answer_and_compared_once_it_does() {
    let world = World::new().await;
    let old = noise(SIZE, 3);
    let new = altered(&old);
    let file = guessing(&world, &old, &new).await;
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), old);
    // Nor is it believed after a restart.
    let world = world.restart().await;
    down(&world);
    assert_eq!(world.read(&file, SIZE / 2, 100).await.unwrap(), old.slice(SIZE / 2..SIZE / 2 + 100));
    world.origin.set_mode(FailMode::Healthy);
    assert_eq!(world.read_all(&file).await.unwrap(), new);
}

#[tokio::test]
async fn guess_of_an_origin_that_is_known_to_be_away_is_served_without_asking() {
    let world = World::new().await;
    let bytes = noise(SIZE, 4);
    let file = guessing(&world, &bytes, &bytes).await;
    let mut world = world.restart().await;
    world.reader = world.reader.with_away(Box::new(|_| true));
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    assert_eq!(world.reader.stats().fetched, 0);
}

/// Makes a reader that leaves the origin alone while it does not answer, with what is found out of that.
fn leaving_alone(world: &World) -> (FileReader, Arc<HealthMonitor>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let registry = Arc::new(OriginRegistry::new());
    registry.register(world.origin.clone(), 1);
    let monitor = Arc::new(HealthMonitor::new(Duration::from_secs(3600)));
    monitor.add_origin(world.origin.clone());
    let router = Arc::new(Router::new(registry.clone(), Some(monitor.clone()), clock.clone()));
    let direct = Arc::new(OriginReader::new(registry, clock.clone(), ReadLimits::default()));
    let fetcher = ContentFetcher::new(Arc::new(CircuitReader::new(direct, router)));
    let everything = Box::new(|_: &OriginId| true);
    let reader = FileReader::with_fetcher(world.store.clone(), fetcher, world.db.clone(), clock, everything);
    (reader, monitor)
}

#[tokio::test]
async fn guess_of_an_origin_that_is_left_alone_is_served() {
    let world = World::new().await;
    let bytes = noise(SIZE, 8);
    let guessed = guessing(&world, &bytes, &bytes).await;
    let uncached = world.add("b.flac", &bytes);
    let mut world = world.restart().await;
    let (reader, monitor) = leaving_alone(&world);
    let health = monitor.clone();
    world.reader = reader.with_away(Box::new(move |id| health.snapshot().is_unhealthy(id)));
    // Its name cannot be found out: then nothing is concluded of the server itself.
    world.memory.take_down(OriginErrorKind::Dns);
    assert!(matches!(world.read(&uncached, 0, 10).await, Err(ReadError::Unavailable(_))));
    monitor.check_all().await;
    assert!(matches!(world.read(&uncached, 0, 10).await, Err(ReadError::LeftAlone { .. })));
    assert_eq!(world.read_all(&guessed).await.unwrap(), bytes);
}

#[tokio::test]
async fn guesses_in_a_cache_that_pins_have_filled_are_proven_without_room_and_counted_once() {
    let world = World::new().await;
    let bytes = noise(SIZE, 9);
    let file = world.add("a.flac", &bytes);
    // With one chunk more it were full.
    let (reader, keeper) = seen::keeping(&world, SIZE as u64 * 100 / 98).await;
    keeper.set_pins([Pin::File(file.id)].into_iter().collect());
    keeper.mark(&*world.db).unwrap();
    let mut world = world;
    world.reader = reader;
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    let before = keeper.stats();
    let same = Compared { bytes: SIZE as u64, differs: false };
    assert_eq!(world.reader.compare(&file).await.unwrap(), same);
    assert_eq!((world.reader.cached(&file), guessed(&world)), ("full", 0));
    assert_eq!(keeper.stats(), before);

    // Nor does the task need room.
    world.origin.set_mode(FailMode::FailAfterN(0));
    assert!(world.reader.compare(&file).await.is_err());
    assert_eq!(guessed(&world), 1);
    world.origin.set_mode(FailMode::Healthy);
    let reader = world.reader.clone();
    let task = tokio::spawn(async move { reader.compare_guesses().await });
    world.reader.set_compare_after(Some(Duration::from_millis(1)));
    eventually("the guesses to be compared", || guessed(&world) == 0).await;
    task.abort();
    assert_eq!(world.reader.cached(&file), "full");
    assert_eq!(keeper.stats(), before);
}

#[tokio::test]
async fn comparison_by_order_fetches_what_is_cached_and_nothing_beside() {
    let mut world = World::new().await;
    let bytes = noise(SIZE, 10);
    let file = world.add("a.flac", &bytes);
    let (reader, keeper) = seen::keeping(&world, u64::MAX).await;
    world.reader = reader;
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    let (_, manifest) = world.db.manifest(file.id).unwrap().unwrap();
    let evicted: Vec<&ChunkExtent> = manifest.extents().iter().step_by(2).collect();
    assert!(evicted.len() > 2);
    keeper.evict_chunks(evicted.iter().map(|extent| extent.hash).collect()).await;
    let bytes = SIZE as u64 - evicted.iter().map(|extent| extent.range.len()).sum::<u64>();
    let before = world.origin.bytes_read();
    assert_eq!(world.reader.compare(&file).await.unwrap(), Compared { bytes, differs: false });
    assert_eq!(world.origin.bytes_read() - before, bytes);
}

#[tokio::test]
async fn guesses_are_compared_in_the_background_when_their_time_has_come() {
    let world = World::new().await;
    let old = noise(SIZE, 5);
    let new = altered(&old);
    let wrong = guessing(&world, &old, &new).await;
    let reader = world.reader.clone();
    let task = tokio::spawn(async move { reader.compare_guesses().await });
    world.reader.set_compare_after(Some(Duration::from_millis(1)));
    eventually("the guesses to be compared", || guessed(&world) == 0).await;
    eventually("the wrong one to be found", || world.reader.stats().mismatched == 1).await;
    task.abort();
    // What was compared is there without its origin, and what it holds is the new version's.
    let (_, manifest) = world.db.manifest(wrong.id).unwrap().unwrap();
    let middle = ByteRange::at(SIZE as u64 / 2, 9);
    assert!(manifest.gaps(middle).is_empty(), "{manifest:?}");
    down(&world);
    assert_eq!(world.read(&wrong, SIZE / 2, 9).await.unwrap(), new.slice(SIZE / 2..SIZE / 2 + 9));
    assert_eq!(world.read(&wrong, 0, 1000).await.unwrap(), new.slice(..1000));
}

#[tokio::test]
async fn guess_whose_chunk_is_gone_is_fetched() {
    let world = World::new().await;
    let bytes = noise(SIZE, 6);
    let file = guessing(&world, &bytes, &bytes).await;
    let (_, manifest) = world.db.manifest(file.id).unwrap().unwrap();
    let gone: &ChunkExtent = &manifest.guesses()[0];
    world.store.remove(&gone.hash).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    assert!(world.db.revision().unwrap() > Revision(0));
}

#[tokio::test]
async fn comparison_by_order_replaces_what_differs_and_leaves_the_rest_in_doubt_when_cut_short() {
    let world = World::new().await;
    let bytes = noise(SIZE, 7);
    let file = world.add("a.flac", &bytes);
    assert_eq!(world.reader.compare(&file).await.unwrap(), Compared::default(), "nothing is cached");
    assert_eq!(world.read_all(&file).await.unwrap(), bytes);
    world.settled(&file).await;
    world.origin.set_mode(FailMode::FailAfterN(6));
    assert!(world.reader.compare(&file).await.is_err());
    assert_eq!(guessed(&world), 1, "what was not compared is not believed");
    world.origin.set_mode(FailMode::Healthy);
    let same = Compared { bytes: SIZE as u64, differs: false };
    assert_eq!(world.reader.compare(&file).await.unwrap(), same);
    assert_eq!((world.reader.cached(&file), guessed(&world)), ("full", 0));

    // Other bytes of the same version, as when a time was set back.
    let mtime = file.version.mtime.unwrap();
    let version = world.memory.put_with_mtime("a.flac", altered(&bytes), mtime);
    assert_eq!(version, file.version);
    assert!(world.reader.compare(&file).await.unwrap().differs);
    assert_eq!(world.reader.cached(&file), "full", "all that was cached was fetched again");
    down(&world);
    assert_eq!(world.read_all(&file).await.unwrap(), altered(&bytes));
}
