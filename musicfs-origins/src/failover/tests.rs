//! The executor and the reader over origins that fail, hang and differ.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{
    AudioIdentity, AudioMeta, Batch, ByteRange, ContentReader, EventBus, FileId, FileKind, FileMeta,
    FileState, Format, MetaDb, Op, Origin, OriginCaps, OriginErrorKind, OriginId, OriginPath, Placement,
    ReadError, UnixNanos, VirtualPath,
};
use musicfs_test_utils::{FailMode, FaultyOrigin, ManualClock, MemoryMetaDb, MemoryOrigin, eventually};

use super::*;
use crate::{Jitter, OriginReader, ReadLimits};

fn path() -> OriginPath {
    OriginPath::new("a.flac").unwrap()
}

fn holding(id: &str, bytes: &[u8]) -> MemoryOrigin {
    let origin = MemoryOrigin::new(id);
    origin.put("a.flac", bytes.to_vec());
    origin
}

/// An executor over origins, the first preferred.
fn executor(origins: Vec<Arc<dyn Origin>>) -> (Arc<ManualClock>, Arc<FailoverExecutor>) {
    let clock = Arc::new(ManualClock::new());
    let registry = Arc::new(OriginRegistry::new());
    for (n, origin) in (1..).zip(origins) {
        registry.register(origin, n);
    }
    let (config, jitter) = (RetryConfig::default(), Jitter::steady());
    let executor = FailoverExecutor::with_parts(registry, config, None, clock.clone(), jitter);
    (clock, Arc::new(executor))
}

/// Lets time go by until a read is over, and returns how long it took by the clock.
async fn read(
    (clock, executor): &(Arc<ManualClock>, Arc<FailoverExecutor>),
) -> (Result<Bytes, ReadError>, Duration) {
    let executor = executor.clone();
    let begun = clock.now();
    let reading = tokio::spawn(async move { executor.read_with_failover(&path(), 1, 100).await });
    eventually("the read to end", || {
        let done = reading.is_finished();
        if !done {
            clock.advance(Duration::from_millis(50));
        }
        done
    })
    .await;
    (reading.await.unwrap(), clock.now().since(begun))
}

#[tokio::test]
async fn mirror_answers_when_the_preferred_origin_fails_and_the_answer_ends_with_the_file() {
    let down = holding("first", b"music");
    down.take_down(OriginErrorKind::Unavailable);
    let both = executor(vec![Arc::new(down), Arc::new(holding("second", b"music"))]);
    assert_eq!(read(&both).await.0.unwrap(), &b"usic"[..]);
}

#[tokio::test]
async fn file_that_is_not_there_is_asked_for_once_and_one_that_fails_again_after_pauses() {
    let empty = Arc::new(FaultyOrigin::new(MemoryOrigin::new("empty"), FailMode::Healthy));
    let failing = MemoryOrigin::new("failing");
    failing.take_down(OriginErrorKind::Unavailable);
    let failing = Arc::new(FaultyOrigin::new(failing, FailMode::Healthy));
    let both = executor(vec![empty.clone(), failing.clone()]);
    assert!(matches!(read(&both).await.0, Err(ReadError::Unavailable(_))));
    assert_eq!((empty.stats(), failing.stats()), (1, 4));
    let alone = executor(vec![empty.clone()]);
    assert!(matches!(read(&alone).await.0, Err(ReadError::Gone(_))));
    assert_eq!(empty.stats(), 2);
}

#[tokio::test]
async fn origins_that_hang_cost_their_patience_and_never_more_than_the_deadline() {
    let hung = |id: &str| {
        let origin = Arc::new(FaultyOrigin::new(holding(id, b"music"), FailMode::Healthy));
        origin.hang_on("a.flac");
        origin
    };
    let with_a_mirror = executor(vec![hung("hung"), Arc::new(holding("second", b"music"))]);
    assert_eq!(read(&with_a_mirror).await.0.unwrap(), &b"usic"[..]);
    let all = executor(vec![hung("a"), hung("b"), hung("c")]);
    let (done, took) = read(&all).await;
    assert!(matches!(done, Err(ReadError::Unavailable(_))), "{done:?}");
    // The clock is moved on in steps while the read runs.
    let bound = RetryConfig::default().deadline + Duration::from_secs(5);
    assert!(took <= bound, "{took:?}");
}

/// A track's files on several origins.
struct Library {
    clock: Arc<ManualClock>,
    reader: FailoverReader,
    origins: Vec<Arc<MemoryOrigin>>,
    files: Vec<FileMeta>,
}

impl Library {
    /// One origin for each content, the first preferred.
    fn new(contents: &[&[u8]]) -> Self {
        let clock = Arc::new(ManualClock::new());
        let (registry, db) = (Arc::new(OriginRegistry::new()), Arc::new(MemoryMetaDb::new()));
        let (mut origins, mut files) = (Vec::new(), Vec::new());
        for (n, content) in (0..).zip(contents) {
            let origin = MemoryOrigin::new(format!("o{n}").as_str()).with_caps(OriginCaps::remote());
            let version = origin.put("a.flac", content.to_vec());
            let origin = Arc::new(origin);
            registry.register(origin.clone(), n);
            origins.push(origin.clone());
            let identity = Some(AudioIdentity::FlacMd5 { md5: [7; 16], samples: 9 });
            files.push(FileMeta {
                id: FileId::derive(origin.id(), &path(), 0),
                origin: origin.id().clone(),
                path: path(),
                version,
                kind: FileKind::Audio,
                state: FileState::Present,
                format: Some(Format::Flac),
                audio: Some(Box::new(AudioMeta { identity, ..AudioMeta::default() })),
                problem: None,
                shown_at: None,
            });
        }
        let ids: Vec<OriginId> = origins.iter().map(|origin| origin.id().clone()).collect();
        let mut ops = vec![Op::RankOrigins(ids)];
        for file in &files {
            let wanted = VirtualPath::from_text("A/a.flac").unwrap();
            ops.push(Op::PutFile(Box::new(file.clone())));
            ops.push(Op::Place(Placement { id: file.id, path: wanted, prefer: 0 }));
        }
        db.apply(&Batch { at: UnixNanos(1), ops }).unwrap();
        let direct = OriginReader::new(registry.clone(), clock.clone(), ReadLimits::default());
        let router = Arc::new(Router::new(registry, None, clock.clone()));
        let guarded = Arc::new(CircuitReader::new(Arc::new(direct), router.clone()));
        let events = EventBus::new(clock.clone());
        let deadline = Duration::from_secs(30);
        let reader = FailoverReader::new(guarded, db, router, clock.clone(), events, deadline);
        Self { clock, reader, origins, files }
    }

    fn lose(&self, n: usize) {
        self.origins[n].take_down(OriginErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn reader_goes_on_with_a_copy_that_has_all_it_was_served_and_comes_back_at_the_next_open() {
    let library = Library::new(&[b"0123456789", b"0123456789"]);
    let (reader, file) = (&library.reader, &library.files[0]);
    let plan = reader.open(file).await.unwrap();
    assert_eq!((plan.file(), reader.stand_in(file)), (file.id, None));
    assert_eq!(reader.read(&plan, ByteRange::new(0, 4)).await.unwrap(), &b"0123"[..]);
    library.lose(0);
    assert_eq!(reader.read(&plan, ByteRange::new(4, 10)).await.unwrap(), &b"456789"[..]);
    assert_eq!(reader.stand_in(file), Some(("o1".into(), path())));
    library.origins[0].bring_up();
    assert_eq!(reader.returned(&"o0".into()), [file.id]);
    assert_eq!(reader.stand_in(file), None);
    assert_eq!(reader.open(file).await.unwrap().file(), file.id);
    // The handle may be handed back as well.
    library.lose(1);
    assert_eq!(reader.read(&plan, ByteRange::new(2, 6)).await.unwrap(), &b"2345"[..]);
}

#[tokio::test]
async fn reader_is_not_handed_to_a_copy_that_differs_in_what_it_was_served() {
    let library = Library::new(&[b"0123456789", b"0x23456789", b"0123x56789"]);
    let (reader, file) = (&library.reader, &library.files[0]);
    let plan = reader.open(file).await.unwrap();
    assert_eq!(reader.read(&plan, ByteRange::new(0, 4)).await.unwrap(), &b"0123"[..]);
    library.lose(0);
    // The second copy differs; the third holds all that was served, and is read from there on.
    assert_eq!(reader.read(&plan, ByteRange::new(4, 10)).await.unwrap(), &b"x56789"[..]);
    library.lose(2);
    assert!(matches!(reader.read(&plan, ByteRange::new(4, 10)).await, Err(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn open_takes_a_copy_of_another_length_when_the_origin_is_known_to_fail() {
    let library = Library::new(&[b"0123456789", b"other tags and 0123456789"]);
    let (reader, file) = (&library.reader, &library.files[0]);
    library.lose(0);
    let plan = reader.open(file).await.unwrap();
    for _ in 0..3 {
        assert!(reader.read(&plan, ByteRange::new(0, 4)).await.is_err());
    }
    let plan = reader.open(file).await.unwrap();
    assert_eq!((plan.file(), plan.size()), (library.files[1].id, 25));
    assert_eq!(reader.read(&plan, ByteRange::new(0, 5)).await.unwrap(), &b"other"[..]);
    assert_eq!(reader.stand_in(file), Some(("o1".into(), path())));
    library.clock.advance(Duration::from_secs(60));
    library.origins[0].bring_up();
    assert_eq!(reader.open(file).await.unwrap().file(), file.id);
}

#[test]
fn rank_goes_by_health_then_priority_then_latency() {
    let with =
        |health, ms| Condition { health, latency: Some(Duration::from_millis(ms)), ..Condition::default() };
    let (well, far) = (with(Health::Healthy, 1), with(Health::Healthy, 500));
    let (slow, lost) = (with(Health::Degraded, 1), with(Health::Unhealthy, 1));
    let of = |condition: &Condition, priority| rank(Some(condition), Standing::Trusted, Some(priority));
    assert!(of(&well, 2) < of(&slow, 1) && of(&slow, 2) < of(&lost, 1));
    assert!(of(&far, 1) < of(&well, 2) && of(&well, 1) < of(&far, 1));
    assert!(rank(Some(&well), Standing::LeftAlone, Some(1)) > of(&slow, 9));
    let trusted = |condition| rank(condition, Standing::Trusted, Some(1));
    assert_eq!(trusted(None), trusted(Some(&Condition::default())));
    let back = rank(Some(&well), Standing::Recovering, Some(1));
    assert!(of(&far, 9) < back && back < of(&slow, 1));
}

#[tokio::test]
async fn origin_that_was_lost_is_preferred_again_when_it_was_well_for_a_while_and_at_once_when_alone() {
    let clock = Arc::new(ManualClock::new());
    let (registry, monitor) =
        (Arc::new(OriginRegistry::new()), HealthMonitor::with_clock(Duration::from_secs(30), clock.clone()));
    let monitor = Arc::new(monitor);
    let origins = ["first", "second"].map(|id| Arc::new(holding(id, b"music")));
    for (n, origin) in (1..).zip(&origins) {
        registry.register(origin.clone(), n);
        monitor.add_origin(origin.clone());
    }
    let router = Router::new(registry.clone(), Some(monitor.clone()), clock.clone());
    router.set_failback_delay(Duration::from_secs(60));
    let best = || router.order()[0].to_string();
    monitor.check_all().await;
    assert_eq!(best(), "first");
    origins[0].take_down(OriginErrorKind::Unavailable);
    monitor.check_all().await;
    assert_eq!(best(), "second");
    origins[0].bring_up();
    monitor.check_all().await;
    clock.advance(Duration::from_secs(59));
    monitor.check_all().await;
    assert_eq!(best(), "second", "it was not well for long enough");
    clock.advance(Duration::from_secs(2));
    assert_eq!(best(), "first", "it was well for long enough");
    origins[0].take_down(OriginErrorKind::Unavailable);
    monitor.check_all().await;
    origins[0].bring_up();
    monitor.check_all().await;
    assert_eq!(best(), "second", "it was lost again");
    router.set_failback_delay(Duration::ZERO);
    assert_eq!(best(), "first");
    router.set_failback_delay(Duration::from_secs(60));
    assert_eq!(best(), "second");
    // A copy that is lost is worse than one that is not trusted yet.
    origins[1].take_down(OriginErrorKind::Unavailable);
    monitor.check_all().await;
    assert_eq!(best(), "first");
    origins[1].bring_up();
    monitor.check_all().await;
    assert_eq!(best(), "first", "neither is trusted: the order is that of their priorities");
}

#[tokio::test]
async fn origin_whose_calls_and_checks_fail_is_left_alone_but_for_a_probe_until_a_check_finds_it_well() {
    let clock = Arc::new(ManualClock::new());
    let (registry, monitor) =
        (Arc::new(OriginRegistry::new()), HealthMonitor::with_clock(Duration::from_secs(30), clock.clone()));
    let monitor = Arc::new(monitor);
    let memory = Arc::new(holding("sole", b"music"));
    let origin = Arc::new(FaultyOrigin::new(memory.clone(), FailMode::Healthy));
    registry.register(origin.clone(), 1);
    monitor.add_origin(origin.clone());
    let version = memory.stat(&path()).await.unwrap().version;
    let mut file = musicfs_test_utils::make_file_meta(1, "a.flac", version.size);
    (file.origin, file.version) = ("sole".into(), version);
    let plan = musicfs_core::ReadPlan::verbatim(&file);
    let router = Arc::new(Router::new(registry.clone(), Some(monitor.clone()), clock.clone()));
    let direct = Arc::new(OriginReader::new(registry, clock.clone(), ReadLimits::default()));
    let reader = CircuitReader::new(direct, router);
    let read = async || reader.read(&plan, ByteRange::new(0, 5)).await;
    assert!(read().await.is_ok());
    memory.take_down(OriginErrorKind::Unavailable);
    assert!(matches!(read().await, Err(ReadError::Unavailable(_))));
    assert!(matches!(read().await, Err(ReadError::Unavailable(_))), "no check has failed yet");
    monitor.check_all().await;
    let asked = origin.stats();
    for _ in 0..20 {
        assert!(matches!(read().await, Err(ReadError::LeftAlone { .. })));
    }
    assert_eq!(origin.stats(), asked, "it was asked all the same");
    clock.advance(Duration::from_secs(10));
    assert!(matches!(read().await, Err(ReadError::Unavailable(_))), "this one was the probe");
    assert!(matches!(read().await, Err(ReadError::LeftAlone { .. })));
    memory.bring_up();
    monitor.check_all().await;
    assert_eq!(read().await.unwrap(), &b"music"[..]);
}

#[tokio::test]
async fn origin_without_checks_that_fails_call_after_call_is_asked_by_one_probe_after_each_pause() {
    let library = Library::new(&[b"music"]);
    let plan = library.reader.open(&library.files[0]).await.unwrap();
    let read = async || library.reader.read(&plan, ByteRange::new(0, 5)).await;
    library.lose(0);
    for _ in 0..3 {
        assert!(matches!(read().await, Err(ReadError::Unavailable(_))));
    }
    assert!(matches!(read().await, Err(ReadError::LeftAlone { .. })));
    for _ in 0..2 {
        library.clock.advance(Duration::from_secs(10));
        assert!(matches!(read().await, Err(ReadError::Unavailable(_))), "this one was the probe");
        assert!(matches!(read().await, Err(ReadError::LeftAlone { .. })));
    }
    library.origins[0].bring_up();
    library.clock.advance(Duration::from_secs(10));
    assert_eq!(read().await.unwrap(), &b"music"[..]);
    assert!(read().await.is_ok());
}
