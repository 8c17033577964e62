//! Scanning folders of real files into a real catalogue, through the public API.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod any_tags;
mod churn;
mod exclude;
mod hanging_cache;
mod hidden;
mod names;
mod parts;
mod reconcile;
mod renamed;
mod shelf;
mod verify;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musicfs_core::{
    Clock, FileId, FileKind, FileQuery, FileState, Ino, MetaDb, Origin, OriginErrorKind, OriginId,
    OriginPath, ROOT_INODE, Refreshed, Refresher, SystemClock, Template,
};
use musicfs_origins::LocalOrigin;
use musicfs_sync::{Database, Library, ScanReport, Scanner, ScannerConfig};
use musicfs_test_utils::library::{Sample, Track, library_of_every_format, write_track};
use musicfs_test_utils::{MemoryOrigin, shown_files};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct World {
    dir: TempDir,
    db: Arc<Database>,
    scanner: Scanner,
}

fn scanner(dir: &Path, db: &Arc<Database>, origins: &[&str], template: &str) -> Scanner {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (library, _) = Library::open(&dir.join("library.db"), &*clock).unwrap();
    let origin = |id: &&str| Arc::new(LocalOrigin::new(*id, dir.join(id))) as Arc<dyn Origin>;
    let origins = origins.iter().map(origin).collect();
    let config =
        ScannerConfig { template: Template::parse(template).unwrap(), workers: 2, ..Default::default() };
    Scanner::new(db.clone(), Arc::new(library), origins, clock, config)
}

impl World {
    fn new() -> Self {
        Self::with_origins(&["music"])
    }

    fn with_origins(origins: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        for origin in origins {
            std::fs::create_dir(dir.path().join(origin)).unwrap();
        }
        let db = Arc::new(Database::open(&dir.path().join("catalogue.db")).unwrap());
        let scanner = scanner(dir.path(), &db, origins, Template::default().as_str());
        Self { dir, db, scanner }
    }

    /// Throws the catalogue away and starts with the library that is left.
    fn rebuild(&mut self, template: &str) {
        let path = self.dir.path().join("rebuilt.db");
        std::fs::remove_file(&path).ok();
        self.db = Arc::new(Database::open(&path).unwrap());
        self.scanner = scanner(self.dir.path(), &self.db, &["music"], template);
    }

    fn music(&self) -> PathBuf {
        self.dir.path().join("music")
    }

    fn add(&self, path: &str, track: Track) -> PathBuf {
        write_track(&self.music(), path, &track).unwrap()
    }

    async fn scan(&self) -> ScanReport {
        self.scan_origin("music").await
    }

    async fn scan_origin(&self, origin: &str) -> ScanReport {
        self.scanner.scan(&OriginId::from(origin), false, &CancellationToken::new()).await.unwrap()
    }

    /// Every file of the tree by its path, with its inode.
    fn tree(&self) -> BTreeMap<String, Ino> {
        shown_files(&*self.db)
    }

    fn paths(&self) -> Vec<String> {
        self.tree().into_keys().collect()
    }

    fn id(&self, path: impl AsRef<[u8]>) -> FileId {
        FileId::derive(&OriginId::from("music"), &OriginPath::new(path).unwrap(), 0)
    }
}

fn song(artist: &str, album: &str, number: u32, title: &str) -> Track {
    Track::new(Sample::Flac).artist(artist).album(album).track(number, 0).title(title)
}

#[tokio::test]
async fn every_format_is_found_parsed_and_shown_once() {
    let world = World::new();
    let written = library_of_every_format(&world.music()).unwrap();
    let report = world.scan().await;
    assert!(report.complete, "{report:?}");
    assert_eq!(report.problems, 0, "{:?}", world.db.files(&FileQuery::Problems, None, 10).unwrap());
    assert_eq!(report.added as usize, written.len());
    assert_eq!(world.paths().len(), written.len());
    let again = world.scan().await;
    assert_eq!((again.unchanged, again.added, again.changed), (report.listed, 0, 0));
}

#[tokio::test]
async fn files_alike_in_all_tags_stay_apart_and_keep_their_names_for_good() {
    let mut world = World::new();
    let twin = |sample| Track::new(sample).artist("A").album("L").track(1, 0).title("T");
    world.add("b.mp3", twin(Sample::Mp3Cbr));
    world.scan().await;
    world.add("a.mp3", twin(Sample::Mp3Vbr));
    world.scan().await;
    let before = world.tree();
    assert_eq!(world.paths(), ["/A/L/01 - T (2).mp3", "/A/L/01 - T.mp3"]);
    assert_eq!(before["/A/L/01 - T.mp3"], world.id("b.mp3").ino());
    // A rebuilt catalogue lists a.mp3 first, and yet gives the same names.
    world.rebuild(Template::default().as_str());
    world.scan().await;
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn second_disc_found_later_gives_the_first_its_number() {
    let world = World::new();
    world.add("one/1.flac", song("A", "L", 1, "T").disc(1, 0));
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/01 - T.flac"]);
    let ino = world.tree()["/A/L/01 - T.flac"];
    let second = world.add("two/1.flac", song("A", "L", 1, "T").disc(2, 0));
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/1-01 - T.flac", "/A/L/2-01 - T.flac"]);
    assert_eq!(world.tree()["/A/L/1-01 - T.flac"], ino);
    std::fs::remove_file(second).unwrap();
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/1-01 - T.flac"], "a missing disc is remembered");
}

#[tokio::test]
async fn compilation_goes_under_various_artists() {
    let world = World::new();
    world.add(
        "x/1.mp3",
        Track::new(Sample::Mp3Cbr).artist("A").album("Hits").track(1, 2).title("T").compilation(),
    );
    world.add("x/2.flac", song("B", "Hits", 2, "U").compilation());
    world.scan().await;
    assert_eq!(world.paths(), ["/Various Artists/Hits/01 - T.mp3", "/Various Artists/Hits/02 - U.flac"]);
}

#[tokio::test]
async fn sidecars_stand_beside_their_tracks_and_follow_them() {
    let world = World::new();
    let track = world.add("Album/CD1/01.flac", song("A", "L", 1, "T").disc(1, 2));
    world.add("Album/CD2/01.flac", song("A", "L", 1, "U").disc(2, 2));
    for sidecar in ["Album/cover.jpg", "Album/CD1/01.lrc", "Album/Scans/back.jpg", "elsewhere/photo.jpg"] {
        let path = world.music().join(sidecar);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, sidecar).unwrap();
    }
    world.scan().await;
    let expected = ["/A/L/1-01 - T.flac", "/A/L/1-01 - T.lrc", "/A/L/2-01 - U.flac", "/A/L/cover.jpg"];
    assert_eq!(world.paths(), expected);
    // Retagging moves the album, and what lies beside it goes along.
    for (path, number, title) in [("Album/CD1/01.flac", 1, "T"), ("Album/CD2/01.flac", 2, "U")] {
        world.add(path, song("A", "Better Name", 1, title).disc(number, 2));
    }
    let report = world.scan().await;
    assert_eq!((report.changed, report.added), (2, 0));
    let moved = expected.map(|path| path.replace("/L/", "/Better Name/"));
    assert_eq!(world.paths(), moved);
    assert!(track.exists());
}

#[tokio::test]
async fn sidecars_of_a_track_that_goes_stand_beside_what_is_left_of_its_folder() {
    let world = World::new();
    let gone = world.add("mixed/a.flac", song("A", "L", 1, "T"));
    world.add("mixed/b.flac", song("B", "M", 1, "U"));
    (0..9).for_each(|n| drop(world.add(&format!("more/{n}.flac"), song("C", "N", n + 1, "V"))));
    for sidecar in ["mixed/cover.jpg", "mixed/a.lrc"] {
        std::fs::write(world.music().join(sidecar), sidecar).unwrap();
    }
    world.scan().await;
    assert_eq!(world.paths()[..3], ["/A/L/01 - T.flac", "/A/L/01 - T.lrc", "/A/L/cover.jpg"]);
    std::fs::remove_file(gone).unwrap();
    assert_eq!(world.scan().await.missing, 1);
    assert_eq!(world.paths()[..3], ["/B/M/01 - U.flac", "/B/M/a.lrc", "/B/M/cover.jpg"]);
}

#[tokio::test]
async fn scans_folder_inside_an_album_is_shown_in_it() {
    let world = World::new();
    world.add("Album/01.flac", song("A", "L", 1, "T"));
    std::fs::create_dir(world.music().join("Album/Scans")).unwrap();
    std::fs::write(world.music().join("Album/Scans/back.jpg"), "x").unwrap();
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/01 - T.flac", "/A/L/Scans/back.jpg"]);
    // A cover that comes later finds its album among tracks that are not read again.
    std::fs::write(world.music().join("Album/cover.jpg"), "x").unwrap();
    let report = world.scan().await;
    assert_eq!((report.added, report.changed), (1, 0));
    assert!(world.tree().contains_key("/A/L/cover.jpg"));
}

#[tokio::test]
async fn broken_file_is_listed_with_its_reason_and_read_once() {
    let world = World::new();
    std::fs::create_dir(world.music().join("sub")).unwrap();
    std::fs::write(world.music().join("sub/broken.mp3"), "this is no music").unwrap();
    std::fs::write(world.music().join("README"), "neither is this").unwrap();
    let report = world.scan().await;
    assert_eq!(report.problems, 1);
    assert_eq!(world.paths(), ["/Unsorted/sub/broken.mp3"]);
    let file = world.db.file(world.id("sub/broken.mp3")).unwrap().unwrap();
    assert_eq!(file.kind, FileKind::Unparsed);
    assert!(file.problem.is_some_and(|reason| !reason.is_empty()));
    let again = world.scan().await;
    assert_eq!((again.unchanged, again.problems), (2, 0));
    world
        .add("sub/broken.mp3", Track::new(Sample::Mp3Cbr).artist("A").album("L").track(1, 1).title("Mended"));
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/01 - Mended.mp3"]);
}

#[tokio::test]
async fn content_decides_what_a_file_is() {
    let world = World::new();
    let flac = world.add("x.flac", song("A", "L", 1, "T"));
    std::fs::copy(&flac, world.music().join("named-wrongly.mp3")).unwrap();
    std::fs::copy(&flac, world.music().join("no-extension")).unwrap();
    world.scan().await;
    assert_eq!(world.paths(), ["/A/L/01 - T.flac"]);
    let copies = world.db.copies(world.id("x.flac")).unwrap();
    assert_eq!(copies.len(), 3, "all three hold the same music");
}

#[tokio::test]
async fn vanished_file_is_missing_and_comes_back_as_itself() {
    let world = World::new();
    let one = world.add("1.flac", song("A", "L", 1, "T"));
    world.add("2.flac", song("A", "L", 2, "U"));
    world.scan().await;
    let before = world.tree();
    let aside = world.dir.path().join("aside");
    std::fs::rename(&one, &aside).unwrap();
    assert_eq!(world.scan().await.missing, 1);
    assert_eq!(world.paths(), ["/A/L/02 - U.flac"]);
    let row = world.db.file(world.id("1.flac")).unwrap().unwrap();
    assert_eq!(row.state, FileState::Missing);
    assert!(row.audio.is_some());
    std::fs::rename(&aside, &one).unwrap();
    let report = world.scan().await;
    assert_eq!((report.returned, report.added, report.changed), (1, 0, 0));
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn moved_folder_does_not_stand_in_its_own_way() {
    let mut world = World::new();
    world.add("a/1.flac", song("A", "L", 1, "T"));
    world.add("a/2.flac", song("A", "L", 2, "U"));
    std::fs::write(world.music().join("a/cover.jpg"), "x").unwrap();
    world.scan().await;
    let before = world.paths();
    for (from, to) in [("a", "b"), ("b", "c")] {
        std::fs::rename(world.music().join(from), world.music().join(to)).unwrap();
        world.scan().await;
        assert_eq!(world.paths(), before, "{from} -> {to}");
    }
    world.rebuild(Template::default().as_str());
    world.scan().await;
    assert_eq!(world.paths(), before);
}

#[tokio::test]
async fn empty_listing_takes_nothing_away() {
    let world = World::new();
    world.add("a/1.flac", song("A", "L", 1, "T"));
    world.scan().await;
    let before = world.tree();
    // What an unmounted disk leaves behind: its mount point.
    std::fs::rename(world.music().join("a"), world.dir.path().join("unmounted")).unwrap();
    let report = world.scan().await;
    assert_eq!(report.missing, 0);
    assert!(report.held_back.is_some_and(|why| why.contains("empty")));
    assert_eq!(world.tree(), before);
    // Without even the mount point, the pass fails and takes nothing away either.
    std::fs::remove_dir(world.music()).unwrap();
    let failed = world.scanner.scan(&OriginId::from("music"), false, &CancellationToken::new()).await;
    assert!(failed.is_err());
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn folder_that_cannot_be_listed_keeps_its_files() {
    let dir = TempDir::new().unwrap();
    let db = Arc::new(Database::open(&dir.path().join("catalogue.db")).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (library, _) = Library::open(&dir.path().join("library.db"), &*clock).unwrap();
    let origin = Arc::new(MemoryOrigin::new("memory"));
    for path in ["closed/1.flac", "open/2.flac", "open/3.flac"] {
        origin.put(path, song("A", "L", 1, "T").to_bytes().unwrap());
    }
    let origins: Vec<Arc<dyn Origin>> = vec![origin.clone()];
    let scanner = Scanner::new(db.clone(), Arc::new(library), origins, clock, ScannerConfig::default());
    let (id, cancel) = (OriginId::from("memory"), CancellationToken::new());
    assert_eq!(scanner.scan(&id, false, &cancel).await.unwrap().added, 3);
    origin.unlist("closed", OriginErrorKind::Denied);
    origin.remove("open/2.flac");
    let report = scanner.scan(&id, false, &cancel).await.unwrap();
    assert_eq!((report.missing, report.unchanged), (1, 1));
    let state =
        |path| db.file(FileId::derive(&id, &OriginPath::new(path).unwrap(), 0)).unwrap().unwrap().state;
    assert_eq!(state("closed/1.flac"), FileState::Present);
    assert_eq!(state("open/2.flac"), FileState::Missing);
}

#[tokio::test]
async fn listing_cut_after_any_page_takes_nothing_away() {
    for pages in 0..4 {
        let dir = TempDir::new().unwrap();
        let db = Arc::new(Database::open(&dir.path().join("catalogue.db")).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (library, _) = Library::open(&dir.path().join("library.db"), &*clock).unwrap();
        let origin = Arc::new(MemoryOrigin::new("memory").with_page_size(2));
        for n in 0..8 {
            origin.put(format!("{n}.flac"), song("A", "L", n + 1, "T").to_bytes().unwrap());
        }
        let origins: Vec<Arc<dyn Origin>> = vec![origin.clone()];
        let scanner = Scanner::new(db.clone(), Arc::new(library), origins, clock, ScannerConfig::default());
        let (id, cancel) = (OriginId::from("memory"), CancellationToken::new());
        scanner.scan(&id, false, &cancel).await.unwrap();
        origin.cut_listings(pages);
        let report = scanner.scan(&id, false, &cancel).await.unwrap();
        assert!(!report.complete && report.missing == 0 && report.held_back.is_some(), "{report:?}");
        origin.fail_listings(pages, OriginErrorKind::Unavailable);
        assert!(scanner.scan(&id, false, &cancel).await.is_err());
        let missing = db.files(&FileQuery::Missing, None, 10).unwrap();
        assert!(missing.files.is_empty());
    }
}

#[tokio::test]
async fn names_that_are_not_utf8_are_found_and_shown() {
    let world = World::new();
    let track = world.add("x.flac", song("A", "L", 1, "T"));
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff.flac");
    std::fs::rename(track, world.music().join(odd)).unwrap();
    std::fs::write(world.music().join(std::ffi::OsStr::from_bytes(b"broken\xfe.mp3")), "no").unwrap();
    world.scan().await;
    assert!(world.db.file(world.id(b"odd\xff.flac")).unwrap().is_some());
    let unsorted = world.db.lookup(ROOT_INODE, b"Unsorted").unwrap().unwrap();
    assert!(world.db.lookup(unsorted.ino, b"broken\xfe.mp3").unwrap().is_some());
    assert!(world.tree().contains_key("/A/L/01 - T.flac"));
}

#[tokio::test]
async fn another_template_rearranges_without_reading_and_keeps_inodes() {
    let mut world = World::new();
    world.add("x/1.flac", song("A", "L", 1, "T"));
    world.add("x/2.flac", song("A", "M", 1, "U"));
    std::fs::write(world.music().join("x/cover.jpg"), "x").unwrap();
    let cancel = CancellationToken::new();
    world.scanner.arrange(&cancel).await.unwrap();
    world.scan().await;
    let before = world.tree();
    assert!(!world.scanner.arrange(&cancel).await.unwrap(), "nothing to arrange");
    // With the music gone, nothing could be read again.
    std::fs::remove_dir_all(world.music()).unwrap();
    world.scanner = scanner(world.dir.path(), &world.db, &["music"], "$title by $artist");
    assert!(world.scanner.arrange(&cancel).await.unwrap());
    let after = world.tree();
    assert_eq!(world.paths(), ["/T by A.flac", "/U by A.flac", "/cover.jpg"]);
    assert_eq!(after["/T by A.flac"], before["/A/L/01 - T.flac"]);
    world.scanner.set_template(Template::default());
    assert!(world.scanner.arrange(&cancel).await.unwrap());
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn one_name_on_two_origins_gives_two_files_when_their_audio_differs() {
    let world = World::with_origins(&["music", "nas"]);
    let song = |sample| Track::new(sample).artist("A").album("L").track(1, 0).title("T");
    world.add("1.mp3", song(Sample::Mp3Cbr));
    write_track(&world.dir.path().join("nas"), "1.mp3", &song(Sample::Mp3Vbr)).unwrap();
    world.scan().await;
    world.scan_origin("nas").await;
    assert_eq!(world.paths(), ["/A/L/01 - T (2).mp3", "/A/L/01 - T.mp3"]);
}

#[tokio::test]
async fn one_track_on_two_origins_is_one_file_until_its_tags_differ() {
    let world = World::with_origins(&["music", "nas"]);
    let nas = world.dir.path().join("nas");
    world.add("1.flac", song("A", "L", 1, "T"));
    write_track(&nas, "x/1.flac", &song("A", "L", 1, "T").comment("remastered notes")).unwrap();
    world.scan().await;
    world.scan_origin("nas").await;
    assert_eq!(world.paths(), ["/A/L/01 - T.flac"]);
    let copies = world.db.copies(world.id("1.flac")).unwrap();
    let mut origins: Vec<_> = copies.iter().map(|copy| copy.origin.to_string()).collect();
    origins.sort();
    assert_eq!(origins, ["music", "nas"]);
    let retagged = song("A", "L", 1, "Another").mtime(musicfs_core::UnixNanos::from_parts(1_700_000_000, 0));
    write_track(&nas, "x/1.flac", &retagged).unwrap();
    world.scan_origin("nas").await;
    assert_eq!(world.paths(), ["/A/L/01 - Another.flac", "/A/L/01 - T.flac"]);
    std::fs::remove_file(nas.join("x/1.flac")).unwrap();
    write_track(&nas, "y.flac", &song("A", "L", 1, "T")).unwrap();
    world.scan_origin("nas").await;
    assert_eq!(world.paths(), ["/A/L/01 - T.flac"]);
}

#[tokio::test]
async fn refresh_brings_one_file_up_to_date_and_concludes_nothing_from_its_absence() {
    let world = World::new();
    let path = world.add("1.flac", song("A", "L", 1, "T"));
    world.scan().await;
    let id = world.id("1.flac");
    assert_eq!(world.scanner.refresh(id).await, Refreshed::Unchanged);
    world.add("1.flac", song("A", "L", 1, "Another Title"));
    assert_eq!(world.scanner.refresh(id).await, Refreshed::Updated);
    assert_eq!(world.paths(), ["/A/L/01 - Another Title.flac"]);
    let shown = world.db.node(id.ino()).unwrap().unwrap();
    assert_eq!(shown.size, std::fs::metadata(&path).unwrap().len());
    std::fs::remove_file(path).unwrap();
    assert_eq!(world.scanner.refresh(id).await, Refreshed::Gone);
    assert_eq!(world.paths().len(), 1);
}

#[tokio::test]
async fn cancelled_scan_keeps_what_it_found_and_the_next_one_goes_on() {
    let world = World::new();
    for n in 0..50 {
        world.add(&format!("{n}.flac"), song("A", "L", n + 1, "T"));
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let ended = world.scanner.scan(&OriginId::from("music"), false, &cancel).await;
    assert!(ended.is_err());
    assert_eq!(world.scan().await.listed, 50);
    assert_eq!(world.paths().len(), 50);
}

#[tokio::test]
async fn full_scan_reads_again_and_changes_nothing() {
    let world = World::new();
    world.add("1.flac", song("A", "L", 1, "T"));
    world.scan().await;
    let (before, revision) =
        (world.tree(), world.db.changes_since(Default::default(), 1000).unwrap().changes.len());
    let report = world.scanner.scan(&OriginId::from("music"), true, &CancellationToken::new()).await.unwrap();
    assert_eq!(report.changed, 1);
    assert_eq!(world.tree(), before);
    assert_eq!(world.db.changes_since(Default::default(), 1000).unwrap().changes.len(), revision);
}
