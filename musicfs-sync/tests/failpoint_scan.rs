//! A pass that is killed at any of its failpoints: the next one ends with what an undisturbed one ends with. A
//! binary of its own, because failpoints are the whole process's.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeMap;
use std::sync::Arc;

use musicfs_core::{
    Batch, ByteRange, ChunkExtent, ChunkHash, ChunkManifest, FileId, FileQuery, Ino, MetaDb, Op, Origin,
    OriginId, OriginPath, UnixNanos,
};
use musicfs_sync::{Database, Library, PassOptions, Scanner, ScannerConfig};
use musicfs_test_utils::library::{Sample, Track};
use musicfs_test_utils::{FailMode, FaultyOrigin, ManualClock, MemoryOrigin, shown_files};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const POINTS: [&str; 3] =
    ["delta-sync-after-batch", "delta-sync-before-conclusion", "delta-sync-after-moves"];

fn track(n: u32) -> Vec<u8> {
    titled(n, &format!("T{n}"))
}

/// The audio of [`track`] with another title.
fn titled(n: u32, title: &str) -> Vec<u8> {
    let track = Track::new(Sample::Mp3Cbr).artist("A").album("L").track(n, 0).title(title);
    let mut bytes = track.to_bytes().unwrap();
    bytes.extend(n.to_le_bytes());
    bytes
}

/// An origin in memory, and a folder for the stores of a library.
struct Stage {
    dir: TempDir,
    memory: MemoryOrigin,
    /// Counts what is read of it.
    origin: FaultyOrigin,
}

impl Stage {
    fn new() -> Self {
        Self::over(MemoryOrigin::new("m"))
    }

    /// Gives its files in many pages.
    fn in_pages() -> Self {
        Self::over(MemoryOrigin::new("m").with_page_size(4))
    }

    fn over(memory: MemoryOrigin) -> Self {
        let origin = FaultyOrigin::new(memory.clone(), FailMode::Healthy);
        Self { dir: tempfile::tempdir().unwrap(), memory, origin }
    }

    /// Holds [`first_files`], which a scan has found.
    async fn with_first_files() -> (Self, Arc<Database>, Arc<Scanner>) {
        let stage = Self::new();
        first_files(&stage.memory);
        let (db, scanner) = stage.open();
        assert!(scan(scanner.clone()).await);
        (stage, db, scanner)
    }

    /// Opens the stores, as after a kill.
    fn open(&self) -> (Arc<Database>, Arc<Scanner>) {
        let clock = Arc::new(ManualClock::new());
        let db = Arc::new(Database::open(&self.dir.path().join("catalogue.db")).unwrap());
        let library = Arc::new(self.library());
        let origins: Vec<Arc<dyn Origin>> = vec![Arc::new(self.origin.clone())];
        let scanner = Scanner::new(db.clone(), library, origins, clock, ScannerConfig::default());
        (db, Arc::new(scanner))
    }

    fn library(&self) -> Library {
        Library::open(&self.dir.path().join("library.db"), &ManualClock::new()).unwrap().0
    }
}

/// Scans; tells whether the pass came to its end.
async fn scan(scanner: Arc<Scanner>) -> bool {
    let pass =
        async move { scanner.scan(&OriginId::from("m"), false, &CancellationToken::new()).await.is_ok() };
    tokio::spawn(pass).await.unwrap_or(false)
}

fn first_files(origin: &MemoryOrigin) {
    (1..20).for_each(|n| drop(origin.put(format!("a/{n}.mp3"), track(n))));
    origin.put("a/cover.jpg", "x");
    origin.put("a/Scans/back.jpg", "x");
}

fn change(origin: &MemoryOrigin) {
    origin.rename("a/1.mp3", "b/one.mp3");
    origin.remove("a/2.mp3");
    origin.put("a/3.mp3", track(33));
    origin.put("b/new.mp3", track(40));
    // Names that are in use: a chain, and two that are exchanged.
    (4..9).rev().for_each(|n| {
        origin.rename(format!("a/{n}.mp3"), format!("a/{}.mp3", if n == 8 { 80 } else { n + 1 }))
    });
    for (from, to) in [("a/10.mp3", "tmp"), ("a/11.mp3", "a/10.mp3"), ("tmp", "a/11.mp3")] {
        origin.rename(from, to);
    }
}

/// Scans twice, killed at the `nth` time that it comes to a failpoint; returns the tree and how many reads it took.
async fn killed_at(point: Option<(&str, usize)>) -> (BTreeMap<String, Ino>, u64, bool) {
    let stage = Stage::in_pages();
    first_files(&stage.memory);
    let mut died = false;
    for round in 0..2 {
        if round == 1 {
            change(&stage.memory);
        }
        if let Some((point, nth)) = point {
            fail::cfg(point, &format!("{nth}*off->1*panic->off")).unwrap();
        }
        let (db, scanner) = stage.open();
        let ended = scan(scanner).await;
        if !ended {
            died = true;
            let missing = db.files(&FileQuery::Missing, None, 10).unwrap().files.len();
            assert!(missing <= 1, "{point:?}: a pass that was killed deletes nothing that is there");
        }
        drop(db);
        point.iter().for_each(|(point, _)| fail::remove(*point));
        let (_, scanner) = stage.open();
        assert!(scan(scanner).await);
    }
    let (db, _) = stage.open();
    (shown_files(&*db), stage.origin.reads(), died)
}

#[tokio::test(flavor = "multi_thread")]
async fn pass_killed_anywhere_ends_as_an_undisturbed_one_and_reads_nothing_twice() {
    let scenario = fail::FailScenario::setup();
    let (expected, reads, died) = killed_at(None).await;
    assert!(!died && expected.len() > 20);
    let [tenth, moved] = ["/A/L/10 - T10.mp3", "/A/L/08 - T8.mp3"].map(|at| expected[at].file_id().unwrap());
    let id_at = |at: &str| FileId::derive(&"m".into(), &OriginPath::new(at).unwrap(), 0);
    assert_eq!((tenth, moved), (id_at("a/10.mp3"), id_at("a/8.mp3")), "names in use are followed");
    for point in POINTS {
        for nth in 0..2 {
            let (found, took, died) = killed_at(Some((point, nth))).await;
            assert_eq!(found, expected, "{point} {nth}");
            if point == "delta-sync-before-conclusion" {
                assert_eq!(took, reads, "{point} {nth}: all was recorded, so that nothing is read again");
            }
            assert!(died || nth > 0, "{point}: it was never come to");
        }
    }
    scenario.teardown();
}

/// More files than are moved in one batch.
const MANY: u32 = 900;

#[tokio::test(flavor = "multi_thread")]
async fn long_chain_of_renames_that_is_killed_between_its_batches_is_followed_by_the_next_pass() {
    let scenario = fail::FailScenario::setup();
    let at = |n: u32| format!("a/{n:04}.mp3");
    let id_at = |at: &str| FileId::derive(&"m".into(), &OriginPath::new(at).unwrap(), 0);
    for (kill, back) in [(Some(0), false), (Some(1), false), (Some(2), false), (Some(1), true), (None, false)]
    {
        let stage = Stage::new();
        (0..MANY).for_each(|n| drop(stage.memory.put(at(n), track(n))));
        let (_, scanner) = stage.open();
        assert!(scan(scanner).await);
        (0..MANY).rev().for_each(|n| stage.memory.rename(at(n), at(n + 1)));
        let (_, scanner) = stage.open();
        if let Some(kill) = kill {
            fail::cfg("delta-sync-after-moves", &format!("{kill}*off->1*panic->off")).unwrap();
        }
        assert_eq!(scan(scanner).await, kill.is_none());
        fail::remove("delta-sync-after-moves");
        if back {
            (0..MANY).for_each(|n| stage.memory.rename(at(n + 1), at(n)));
        }
        let (db, scanner) = stage.open();
        assert!(scan(scanner).await);
        for n in 0..MANY {
            let path = db.file(id_at(&at(n))).unwrap().unwrap().path.to_string();
            assert_eq!(path, at(if back { n } else { n + 1 }), "killed in batch {kill:?}");
        }
        assert_eq!(shown_files(&*db).len(), MANY as usize);
    }
    scenario.teardown();
}

/// Folders of 405 tracks, more than are moved in one batch, of which `a` and `b` are excluded, turned by one place;
/// the pass is killed at the `nth` time that it comes to a failpoint. Returns the tree after the next one, and whether
/// it was killed.
async fn turned(point: Option<(&str, usize)>) -> (BTreeMap<String, Ino>, bool) {
    let stage = Stage::new();
    let names = ["a", "b", "c", "d"];
    let files = |n: usize| (0..405).map(move |m| (m, (n * 405 + m) as u32));
    for (n, folder) in names.iter().enumerate() {
        files(n).for_each(|(m, audio)| drop(stage.memory.put(format!("{folder}/{m}.mp3"), track(audio))));
    }
    let (_, scanner) = stage.open();
    assert!(scan(scanner.clone()).await);
    let excluded = ["a", "b"].map(|at| OriginPath::new(at).unwrap());
    scanner.exclude(&"m".into(), excluded.into()).await.unwrap();
    drop(scanner);
    for (n, folder) in names.iter().enumerate() {
        files(n)
            .for_each(|(m, _)| stage.memory.rename(format!("{folder}/{m}.mp3"), format!("going/{n}/{m}")));
    }
    for n in 0..names.len() {
        let to = ["b", "c", "new", "a"][n];
        files(n).for_each(|(m, _)| stage.memory.rename(format!("going/{n}/{m}"), format!("{to}/{m}.mp3")));
    }
    stage.memory.put("b/unseen.mp3", track(5_000));
    stage.memory.put("d/fresh.mp3", track(5_001));
    if let Some((point, nth)) = point {
        fail::cfg(point, &format!("{nth}*off->1*panic->off")).unwrap();
    }
    let (_, scanner) = stage.open();
    let died = !scan(scanner).await;
    point.iter().for_each(|(point, _)| fail::remove(*point));
    let (db, scanner) = stage.open();
    assert!(scan(scanner).await);
    let left = stage.library().exclusions().unwrap().all().into_iter().map(|(_, at)| at.to_string());
    assert_eq!(left.collect::<Vec<_>>(), ["b", "c"], "{point:?}");
    (shown_files(&*db), died)
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusions_that_go_with_their_folders_are_where_they_belong_though_the_pass_is_killed() {
    let scenario = fail::FailScenario::setup();
    let (expected, _) = turned(None).await;
    assert_eq!(expected.len(), 811);
    for point in POINTS.into_iter().chain(["delta-sync-before-exclusions", "delta-sync-after-exclusions"]) {
        for nth in 0..2 {
            let (found, died) = turned(Some((point, nth))).await;
            assert!(found == expected, "{point} {nth}: {} are shown", found.len());
            assert!(died || nth > 0, "{point}: it was never come to");
        }
    }
    scenario.teardown();
}

/// Excludes a folder and includes it again, each killed between the library and the catalogue when `killed` says so,
/// and followed by a pass; returns the trees after each.
async fn excluded_and_included(killed: bool) -> [BTreeMap<String, Ino>; 2] {
    let stage = Stage::in_pages();
    first_files(&stage.memory);
    stage.memory.put("b/1.mp3", track(50));
    let (_, scanner) = stage.open();
    assert!(scan(scanner).await);
    let mut trees = Vec::new();
    for point in ["exclude-after-library", "include-after-library"] {
        let (db, scanner) = stage.open();
        if killed {
            fail::cfg(point, "panic").unwrap();
        }
        let change = tokio::spawn(async move {
            let (id, paths) = (OriginId::from("m"), vec![OriginPath::new("a").unwrap()]);
            match point {
                "exclude-after-library" => scanner.exclude(&id, paths).await,
                _ => scanner.include(&id, paths).await,
            }
        });
        assert_eq!(change.await.is_err(), killed);
        fail::remove(point);
        drop(db);
        let (db, scanner) = stage.open();
        assert!(scan(scanner).await);
        assert!(
            db.files(&FileQuery::Missing, None, 10).unwrap().files.is_empty(),
            "{point}: nothing is gone"
        );
        trees.push(shown_files(&*db));
    }
    trees.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusion_that_is_killed_is_completed_by_the_next_pass() {
    let scenario = fail::FailScenario::setup();
    let expected = excluded_and_included(false).await;
    assert_eq!((expected[0].len(), expected[1].len()), (1, 22));
    assert_eq!(excluded_and_included(true).await, expected);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread")]
async fn inclusion_of_a_missing_file_that_is_killed_is_completed_by_the_next_pass() {
    let scenario = fail::FailScenario::setup();
    let (stage, db, scanner) = Stage::with_first_files().await;
    let at = OriginPath::new("a/1.mp3").unwrap();
    let id = FileId::derive(&"m".into(), &at, 0);
    let version = db.file(id).unwrap().unwrap().version;
    let mut manifest = ChunkManifest::default();
    manifest.insert(ChunkExtent { range: ByteRange::new(0, version.size), hash: ChunkHash::of(b"any") });
    db.apply(&Batch { at: UnixNanos(1), ops: vec![Op::PutManifest { id, version, manifest }] }).unwrap();
    stage.memory.remove("a/1.mp3");
    assert!(scan(scanner.clone()).await);
    let before = shown_files(&*db);
    assert!(before.values().any(|ino| ino.file_id() == Some(id)), "it is cached");
    scanner.exclude(&"m".into(), vec![at.clone()]).await.unwrap();
    assert_ne!(shown_files(&*db), before);
    fail::cfg("include-after-library", "panic").unwrap();
    let including = scanner.clone();
    assert!(tokio::spawn(async move { including.include(&"m".into(), vec![at]).await }).await.is_err());
    fail::remove("include-after-library");
    drop((db, scanner));
    let (db, scanner) = stage.open();
    assert!(scan(scanner.clone()).await);
    assert_eq!(shown_files(&*db), before);
    let revision = db.revision().unwrap();
    assert!(scan(scanner).await);
    assert_eq!(db.revision().unwrap(), revision, "once");
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_file_of_a_part_whose_pass_was_cut_before_it_was_shown_is_shown_by_the_next_over_that_part() {
    let scenario = fail::FailScenario::setup();
    let (stage, db, scanner) = Stage::with_first_files().await;
    let before = shown_files(&*db);
    // It may be the one of that audio, until that was asked about.
    stage.memory.put("b/other.mp3", titled(1, "U1"));
    let part = PassOptions { paths: Some(vec![OriginPath::new("b").unwrap()]), ..PassOptions::default() };
    let pass = async || scanner.scan_with(&"m".into(), &part, &CancellationToken::new()).await;
    fail::cfg("delta-sync-before-conclusion", "1*return->off").unwrap();
    pass().await.unwrap_err();
    assert_eq!(shown_files(&*db), before);
    pass().await.unwrap();
    assert_eq!(shown_files(&*db).len(), before.len() + 1);
    scenario.teardown();
}
