//! Reading straight from origins: plans, versions, deadlines, and files that hang.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkHash, ContentReader, FileId, FileMeta, FileVersion, FsBacking, LocalAccess, Origin,
    OriginCaps, OriginEntry, OriginError, OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink,
    ReadError, ReadPlan, ReadSource, ScanRequest, ScanStream, Segment,
};
use musicfs_origins::{LocalOrigin, OriginReader, OriginRegistry, ReadLimits};
use musicfs_test_utils::{
    FailMode, FaultyOrigin, ManualClock, MemoryOrigin, captured_logs, eventually, eventually_async,
    make_file_meta,
};

const LOCAL: Duration = Duration::from_secs(5);
const REMOTE: Duration = Duration::from_secs(30);

/// A reader of some origins, and its clock.
struct Reading {
    reader: Arc<OriginReader>,
    clock: ManualClock,
}

impl Reading {
    fn of(origins: impl IntoIterator<Item = Arc<dyn Origin>>) -> Self {
        let registry = Arc::new(OriginRegistry::new());
        for origin in origins {
            registry.register(origin, 1);
        }
        let clock = ManualClock::new();
        let limits = ReadLimits { local: LOCAL, remote: REMOTE };
        Self { reader: Arc::new(OriginReader::new(registry, Arc::new(clock.clone()), limits)), clock }
    }

    /// Begins a read of the first byte of a file, in a task of its own.
    fn begin(&self, file: &FileMeta) -> tokio::task::JoinHandle<Result<Bytes, ReadError>> {
        let (reader, plan) = (Arc::clone(&self.reader), ReadPlan::verbatim(file));
        tokio::spawn(async move { reader.read(&plan, ByteRange::at(0, 1)).await })
    }

    async fn sleeping(&self, calls: usize) {
        eventually("the calls to wait", || self.clock.sleepers() == calls).await;
    }
}

fn path(text: &str) -> OriginPath {
    OriginPath::new(text).unwrap()
}

fn meta(origin: &str, name: &str, version: &FileVersion) -> FileMeta {
    let (origin, path) = (OriginId::from(origin), path(name));
    let id = FileId::derive(&origin, &path, 0);
    FileMeta { id, origin, path, version: version.clone(), ..make_file_meta(1, name, version.size) }
}

/// A folder with the files `a` and `b`, and an origin of it.
struct Folder {
    dir: tempfile::TempDir,
    origin: LocalOrigin,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"first file").unwrap();
        fs::write(dir.path().join("b"), b"second file").unwrap();
        let origin = LocalOrigin::new("disk", dir.path());
        Self { dir, origin }
    }

    async fn meta(&self, name: &str) -> FileMeta {
        meta("disk", name, &self.origin.stat(&path(name)).await.unwrap().version)
    }
}

fn timed_out(result: Result<Bytes, ReadError>, after: Duration) {
    assert!(matches!(result, Err(ReadError::TimedOut { after: limit, .. }) if limit == after));
}

#[tokio::test]
async fn long_read_has_until_its_next_part_and_gives_what_came() {
    let origin = MemoryOrigin::new("nas").with_caps(OriginCaps::remote());
    let version = origin.put("a", vec![7; 1 << 20]);
    let reading = Reading::of([Arc::new(origin.clone()) as Arc<dyn Origin>]);
    let came = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&came);
    let parts = PartSink::new(move |part: Bytes| {
        counted.fetch_add(part.len() as u64, Ordering::SeqCst);
    });
    origin.hold_parts_after(0);
    let (reader, plan) = (Arc::clone(&reading.reader), ReadPlan::verbatim(&meta("nas", "a", &version)));
    let read = tokio::spawn(async move { reader.read_parts(&plan, ByteRange::at(0, 1 << 20), &parts).await });
    // In all, it takes far longer than a call may.
    for step in 1..=5 {
        reading.sleeping(1).await;
        reading.clock.advance(REMOTE * 2 / 3);
        origin.hold_parts_after(step * (128 << 10));
        eventually("more to come", || came.load(Ordering::SeqCst) == step * (128 << 10)).await;
    }
    eventually_async("the read to be given up", async || {
        reading.clock.advance(REMOTE);
        tokio::task::yield_now().await;
        read.is_finished()
    })
    .await;
    let error = read.await.unwrap().unwrap_err();
    assert!(matches!(error, ReadError::TimedOut { .. }), "{error}");
    assert_eq!(came.load(Ordering::SeqCst), 5 * (128 << 10));
}

#[tokio::test]
async fn plan_of_a_local_file_reads_any_range_of_it() {
    let folder = Folder::new();
    let Reading { reader, .. } = Reading::of([Arc::new(folder.origin.clone()) as Arc<dyn Origin>]);
    let plan = reader.open(&folder.meta("a").await).await.unwrap();
    assert_eq!(&reader.read(&plan, ByteRange::at(0, 100)).await.unwrap()[..], b"first file");
    assert_eq!(&reader.read(&plan, ByteRange::at(6, 2)).await.unwrap()[..], b"fi");
    assert!(reader.read(&plan, ByteRange::at(10, 5)).await.unwrap().is_empty());
}

#[tokio::test]
async fn open_tells_a_changed_and_a_missing_local_file_apart() {
    let folder = Folder::new();
    let wrapped = FaultyOrigin::new(LocalOrigin::new("wrapped", folder.dir.path()), FailMode::Healthy);
    let Reading { reader, .. } =
        Reading::of([Arc::new(folder.origin.clone()) as Arc<dyn Origin>, Arc::new(wrapped)]);
    let a = folder.meta("a").await;
    fs::write(folder.dir.path().join("a"), b"longer than it was").unwrap();
    for origin in ["disk", "wrapped"] {
        let a = meta(origin, "a", &a.version);
        assert!(matches!(reader.open(&a).await, Err(ReadError::Changed(_))));
        let read = reader.read(&ReadPlan::verbatim(&a), ByteRange::at(0, 1)).await;
        assert!(matches!(read, Err(ReadError::Changed(_))));
        let gone = meta(origin, "gone", &a.version);
        assert!(matches!(reader.open(&gone).await, Err(ReadError::Gone(_))));
    }
    let elsewhere = meta("elsewhere", "a", &a.version);
    assert!(matches!(reader.open(&elsewhere).await, Err(ReadError::UnknownOrigin(_))));
    assert_eq!(reader.cached(&elsewhere), "none");
    assert_eq!(reader.cached(&a), "local");
}

#[tokio::test]
async fn file_below_a_missing_root_is_unavailable_and_not_gone() {
    let folder = Folder::new();
    let Reading { reader, .. } = Reading::of([Arc::new(folder.origin.clone()) as Arc<dyn Origin>]);
    let a = folder.meta("a").await;
    fs::remove_dir_all(folder.dir.path()).unwrap();
    assert!(matches!(reader.open(&a).await, Err(ReadError::Unavailable(_))));
    let read = reader.read(&ReadPlan::verbatim(&a), ByteRange::at(0, 1)).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn remote_origin_is_trusted_at_open_and_asked_at_the_first_read() {
    let memory = MemoryOrigin::new("nas").with_caps(OriginCaps::remote());
    let old = memory.put("a", "old");
    memory.put("a", "new");
    let origin = FaultyOrigin::new(memory, FailMode::Healthy);
    let Reading { reader, .. } = Reading::of([Arc::new(origin.clone()) as Arc<dyn Origin>]);
    let file = meta("nas", "a", &old);
    let plan = reader.open(&file).await.unwrap();
    assert_eq!((origin.stats(), origin.reads()), (0, 0));
    assert!(matches!(reader.read(&plan, ByteRange::at(0, 1)).await, Err(ReadError::Changed(_))));
    assert!(reader.backing(&plan).await.is_none());
    assert_eq!(reader.hash(&file).await.unwrap(), None);
    assert_eq!(reader.cached(&file), "none");
}

#[tokio::test]
async fn long_read_is_split_by_what_the_origin_takes_at_once() {
    let caps = OriginCaps::remote().with_max_range(4);
    let memory = MemoryOrigin::new("nas").with_caps(caps);
    let version = memory.put("a", "0123456789");
    let origin = FaultyOrigin::new(memory, FailMode::Healthy);
    let Reading { reader, .. } = Reading::of([Arc::new(origin.clone()) as Arc<dyn Origin>]);
    let plan = ReadPlan::verbatim(&meta("nas", "a", &version));
    assert_eq!(&reader.read(&plan, ByteRange::at(1, 100)).await.unwrap()[..], b"123456789");
    assert_eq!(origin.reads(), 3);
}

#[tokio::test]
async fn plan_of_several_sources_is_read_end_to_end() {
    let (one, two) = (MemoryOrigin::new("one"), MemoryOrigin::new("two"));
    let versions = [one.put("a", "abcdef"), two.put("b", "uvwxyz")];
    let source = |origin: &str, name: &str, version: &FileVersion, start| ReadSource::Origin {
        origin: origin.into(),
        path: path(name),
        version: version.clone(),
        start,
    };
    let file = meta("one", "a", &versions[0]);
    let segments = vec![
        Segment { len: 3, source: ReadSource::Inline(Bytes::from_static(b"TAG")) },
        Segment { len: 4, source: source("one", "a", &versions[0], 2) },
        Segment { len: 2, source: source("two", "b", &versions[1], 0) },
    ];
    let plan = ReadPlan::new(&file, segments);
    let Reading { reader, .. } = Reading::of([Arc::new(one) as Arc<dyn Origin>, Arc::new(two)]);
    for (range, expected) in [
        (ByteRange::at(0, 100), &b"TAGcdefuv"[..]),
        (ByteRange::at(2, 3), b"Gcd"),
        (ByteRange::at(1, 1), b"A"),
        (ByteRange::at(6, 2), b"fu"),
        (ByteRange::at(9, 9), b""),
    ] {
        assert_eq!(&reader.read(&plan, range).await.unwrap()[..], expected);
    }
    assert!(reader.backing(&plan).await.is_none());
}

#[tokio::test]
async fn short_answer_of_an_origin_is_refused() {
    let memory = MemoryOrigin::new("nas");
    let version = memory.put("a", "0123456789");
    let origin = FaultyOrigin::new(memory, FailMode::PartialRead { max_bytes: 3 });
    let Reading { reader, .. } = Reading::of([Arc::new(origin) as Arc<dyn Origin>]);
    let plan = ReadPlan::verbatim(&meta("nas", "a", &version));
    match reader.read(&plan, ByteRange::at(0, 5)).await {
        Err(ReadError::Unavailable(error)) => assert_eq!(error.kind, OriginErrorKind::Corrupt),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn errors_of_an_origin_keep_their_meaning() {
    let memory = MemoryOrigin::new("nas");
    let version = memory.put("a", "x");
    let origin = FaultyOrigin::new(memory, FailMode::Healthy);
    let Reading { reader, .. } = Reading::of([Arc::new(origin.clone()) as Arc<dyn Origin>]);
    let plan = ReadPlan::verbatim(&meta("nas", "a", &version));
    let read = async |kind| {
        origin.set_mode(FailMode::ReturnError(kind));
        reader.read(&plan, ByteRange::at(0, 1)).await.unwrap_err()
    };
    assert!(matches!(read(ErrorKind::NotFound).await, ReadError::Gone(_)));
    assert!(matches!(read(ErrorKind::PermissionDenied).await, ReadError::Denied(_)));
    assert!(matches!(read(ErrorKind::ConnectionReset).await, ReadError::Unavailable(_)));
}

#[tokio::test]
async fn backing_is_the_very_file_while_its_version_lasts() {
    let folder = Folder::new();
    let wrapped = FaultyOrigin::new(LocalOrigin::new("wrapped", folder.dir.path()), FailMode::Healthy);
    let Reading { reader, .. } =
        Reading::of([Arc::new(folder.origin.clone()) as Arc<dyn Origin>, Arc::new(wrapped)]);
    let a = folder.meta("a").await;
    let mut text = String::new();
    let mut file = reader.backing(&ReadPlan::verbatim(&a)).await.unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first file");
    assert!(reader.backing(&ReadPlan::verbatim(&meta("wrapped", "a", &a.version))).await.is_none());
    fs::write(folder.dir.path().join("a"), b"x").unwrap();
    assert!(reader.backing(&ReadPlan::verbatim(&a)).await.is_none());
}

#[tokio::test]
async fn hash_is_that_of_the_whole_file_and_is_remembered() {
    let folder = Folder::new();
    let Reading { reader, .. } = Reading::of([Arc::new(folder.origin.clone()) as Arc<dyn Origin>]);
    let long: Vec<u8> = (0..3_000_000u32).map(|n| (n >> 3) as u8).collect();
    fs::write(folder.dir.path().join("long"), &long).unwrap();
    fs::write(folder.dir.path().join("empty"), b"").unwrap();
    for (name, bytes) in [("long", &long[..]), ("a", b"first file"), ("empty", b"")] {
        assert_eq!(reader.hash(&folder.meta(name).await).await.unwrap(), Some(ChunkHash::of(bytes)));
    }
    let (a, b) = (folder.meta("a").await, folder.meta("b").await);
    fs::remove_file(folder.dir.path().join("a")).unwrap();
    assert_eq!(reader.hash(&a).await.unwrap(), Some(ChunkHash::of(b"first file")));
    fs::write(folder.dir.path().join("b"), b"x").unwrap();
    assert!(matches!(reader.hash(&b).await, Err(ReadError::Changed(_))));
}

#[tokio::test]
async fn every_call_ends_at_its_deadline_and_says_so_once_a_minute() {
    let logs = captured_logs();
    let (near, far) = (MemoryOrigin::new("near"), MemoryOrigin::new("far").with_caps(OriginCaps::remote()));
    let version = near.put("a/song", "x");
    far.put("a/song", "x");
    let (near, far) = (FaultyOrigin::new(near, FailMode::Healthy), FaultyOrigin::new(far, FailMode::Healthy));
    let reading = Reading::of([Arc::new(near.clone()) as Arc<dyn Origin>, Arc::new(far.clone())]);
    near.hang_on("a/song");
    far.hang_on("a/song");
    for round in 1..=2 {
        let calls = [meta("near", "a/song", &version), meta("far", "a/song", &version)];
        let [local, remote] = calls.each_ref().map(|file| reading.begin(file));
        let opened = {
            let (reader, file) = (Arc::clone(&reading.reader), calls[0].clone());
            tokio::spawn(async move { reader.open(&file).await })
        };
        reading.sleeping(3).await;
        reading.clock.advance(LOCAL);
        timed_out(local.await.unwrap(), LOCAL);
        assert!(matches!(opened.await.unwrap(), Err(ReadError::TimedOut { .. })));
        assert!(!remote.is_finished());
        reading.clock.advance(REMOTE - LOCAL);
        timed_out(remote.await.unwrap(), REMOTE);
        assert_eq!(logs.count(&["WARN", "no answer in time", "origin=near", "path=a/song"]), round);
        assert_eq!(logs.count(&["WARN", "no answer in time", "origin=far", "path=a/song"]), round);
        reading.clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn deadline_counts_from_the_call_for_all_its_parts() {
    let memory = MemoryOrigin::new("nas").with_caps(OriginCaps::remote().with_max_range(1));
    let version = memory.put("a", "0123456789");
    let clock = ManualClock::new();
    let origin = FaultyOrigin::with_clock(memory, FailMode::TimeoutMs(10_000), clock.clone());
    let registry = Arc::new(OriginRegistry::new());
    registry.register(Arc::new(origin.clone()), 1);
    let limits = ReadLimits { local: LOCAL, remote: REMOTE };
    let reader = OriginReader::new(registry, Arc::new(clock.clone()), limits);
    let plan = ReadPlan::verbatim(&meta("nas", "a", &version));
    let read = tokio::spawn(async move { reader.read(&plan, ByteRange::at(0, 10)).await });
    for part in 1..=3 {
        eventually("the next part", || origin.reads() == part && clock.sleepers() == 2).await;
        clock.advance(Duration::from_secs(10));
    }
    timed_out(read.await.unwrap(), REMOTE);
}

#[tokio::test]
async fn remote_call_that_is_given_up_leaves_nothing_behind() {
    let memory = MemoryOrigin::new("nas").with_caps(OriginCaps::remote());
    let version = memory.put("a", "x");
    let origin = FaultyOrigin::new(memory, FailMode::Healthy);
    let reading = Reading::of([Arc::new(origin.clone()) as Arc<dyn Origin>]);
    let file = meta("nas", "a", &version);
    origin.hang_on("a");
    for _ in 0..3 {
        let calls: Vec<_> = (0..6).map(|_| reading.begin(&file)).collect();
        reading.sleeping(6).await;
        reading.clock.advance(REMOTE);
        for call in calls {
            timed_out(call.await.unwrap(), REMOTE);
        }
    }
    origin.release();
    assert_eq!(&reading.begin(&file).await.unwrap().unwrap()[..], b"x");
}

/// A local origin whose system calls for one path hang, as those of a dying disk do.
struct Dying {
    inner: LocalOrigin,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    hung: Mutex<Option<OriginPath>>,
    changed: Condvar,
    waiting: Mutex<usize>,
}

impl Gate {
    fn hang(&self, path: Option<OriginPath>) {
        *self.hung.lock().unwrap() = path;
        self.changed.notify_all();
    }

    fn pass(&self, path: &OriginPath) {
        *self.waiting.lock().unwrap() += 1;
        let hung = self.hung.lock().unwrap();
        drop(self.changed.wait_while(hung, |hung| hung.as_ref() == Some(path)).unwrap());
        *self.waiting.lock().unwrap() -= 1;
    }

    fn waiting(&self) -> usize {
        *self.waiting.lock().unwrap()
    }
}

#[async_trait]
impl Origin for Dying {
    fn id(&self) -> &OriginId {
        self.inner.id()
    }
    fn caps(&self) -> OriginCaps {
        self.inner.caps()
    }
    fn scan(&self, request: ScanRequest) -> ScanStream {
        self.inner.scan(request)
    }
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        self.inner.stat(path).await
    }
    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let (gate, hung) = (Arc::clone(&self.gate), path.clone());
        tokio::task::spawn_blocking(move || gate.pass(&hung)).await.unwrap();
        self.inner.read(path, version, range).await
    }
    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.inner.health().await
    }
    fn local(&self) -> Option<&dyn LocalAccess> {
        Some(self)
    }
}

impl LocalAccess for Dying {
    fn open(&self, path: &OriginPath) -> Result<fs::File, OriginError> {
        self.gate.pass(path);
        self.inner.local().unwrap().open(path)
    }
    fn backing(&self) -> FsBacking {
        FsBacking::Local
    }
    fn version(&self, file: &fs::File) -> Result<FileVersion, OriginError> {
        self.inner.local().unwrap().version(file)
    }
}

/// Lets go of what hangs when a test ends, also when it fails: the runtime waits for its threads.
struct LetGo(Arc<Gate>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.hang(None);
    }
}

struct Dead {
    folder: Folder,
    reading: Reading,
    gate: LetGo,
}

impl Dead {
    /// An origin whose file `a` hangs.
    fn new() -> Self {
        let (folder, gate) = (Folder::new(), Arc::new(Gate::default()));
        let origin = Dying { inner: folder.origin.clone(), gate: Arc::clone(&gate) };
        gate.hang(Some(path("a")));
        Self { reading: Reading::of([Arc::new(origin) as Arc<dyn Origin>]), folder, gate: LetGo(gate) }
    }

    fn stuck(&self) -> usize {
        self.gate.0.waiting()
    }
}

#[tokio::test]
async fn file_that_hangs_takes_four_threads_and_other_files_are_read_meanwhile() {
    let dead = Dead::new();
    let (a, b) = (dead.folder.meta("a").await, dead.folder.meta("b").await);
    let calls: Vec<_> = (0..100).map(|_| dead.reading.begin(&a)).collect();
    dead.reading.sleeping(100).await;
    eventually("the first calls to hang", || dead.stuck() == 4).await;
    for _ in 0..50 {
        assert_eq!(&dead.reading.begin(&b).await.unwrap().unwrap()[..], b"s");
    }
    assert_eq!(dead.stuck(), 4);
    dead.reading.clock.advance(LOCAL);
    for call in calls {
        timed_out(call.await.unwrap(), LOCAL);
    }
    assert_eq!(dead.stuck(), 4);
}

#[tokio::test]
async fn file_whose_calls_are_all_stuck_fails_at_once_until_one_comes_back() {
    let dead = Dead::new();
    let a = dead.folder.meta("a").await;
    let plan = ReadPlan::verbatim(&a);
    let calls: Vec<_> = (0..4).map(|_| dead.reading.begin(&a)).collect();
    eventually("the calls to hang", || dead.stuck() == 4).await;
    dead.reading.clock.advance(LOCAL);
    for call in calls {
        timed_out(call.await.unwrap(), LOCAL);
    }
    // Time stands still from here on: no deadline can have passed.
    timed_out(dead.reading.begin(&a).await.unwrap(), LOCAL);
    let reader = &dead.reading.reader;
    assert!(matches!(reader.open(&a).await, Err(ReadError::TimedOut { .. })));
    assert!(matches!(reader.hash(&a).await, Err(ReadError::TimedOut { .. })));
    assert!(reader.backing(&plan).await.is_none());
    assert_eq!(dead.stuck(), 4);
    dead.gate.0.hang(None);
    eventually_async("the file to be read again", async || {
        match reader.read(&plan, ByteRange::at(0, 5)).await {
            Ok(bytes) => bytes == b"first"[..],
            Err(error) => !matches!(error, ReadError::TimedOut { .. }),
        }
    })
    .await;
    assert_eq!(&reader.read(&plan, ByteRange::at(0, 5)).await.unwrap()[..], b"first");
}

#[tokio::test]
async fn call_that_is_dropped_keeps_its_turn_until_it_comes_back() {
    let dead = Dead::new();
    let a = dead.folder.meta("a").await;
    for stuck in 1..=4 {
        let call = dead.reading.begin(&a);
        eventually("the call to hang", || dead.stuck() == stuck).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    // No turn is left, but none passed its deadline: the next call waits for its own.
    let next = dead.reading.begin(&a);
    dead.reading.sleeping(1).await;
    assert_eq!(dead.stuck(), 4);
    dead.gate.0.hang(None);
    assert_eq!(&next.await.unwrap().unwrap()[..], b"f");
}

#[tokio::test]
async fn open_backing_and_hash_end_at_their_deadlines_too() {
    let dead = Dead::new();
    let a = dead.folder.meta("a").await;
    let (reader, clock) = (&dead.reading.reader, &dead.reading.clock);
    let (open, backing, hash) = {
        let begin = || (Arc::clone(reader), a.clone());
        let ((one, a), (two, b), (three, c)) = (begin(), begin(), begin());
        (
            tokio::spawn(async move { one.open(&a).await }),
            tokio::spawn(async move { two.backing(&ReadPlan::verbatim(&b)).await }),
            tokio::spawn(async move { three.hash(&c).await }),
        )
    };
    eventually("the calls to hang", || dead.stuck() == 3).await;
    clock.advance(LOCAL);
    assert!(matches!(open.await.unwrap(), Err(ReadError::TimedOut { .. })));
    assert!(backing.await.unwrap().is_none());
    assert!(matches!(hash.await.unwrap(), Err(ReadError::TimedOut { .. })));
    // The hash goes on by itself, and is there when it is asked for again.
    dead.gate.0.hang(None);
    eventually("the calls to come back", || dead.stuck() == 0).await;
    assert_eq!(reader.hash(&a).await.unwrap(), Some(ChunkHash::of(b"first file")));
}
