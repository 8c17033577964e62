//! An origin in memory, the stores of a library on disk, and a scanner between them that can be started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{
    Batch, ByteRange, ChunkExtent, ChunkHash, ChunkManifest, Clock, FileId, FileKind, FileMeta, FileQuery,
    FileState, Ino, MetaDb, Op, Origin, OriginId, OriginPath,
};
use musicfs_sync::{Database, Library, PassOptions, ScanError, ScanReport, Scanner, ScannerConfig};
use musicfs_test_utils::library::{Sample, Track};
use musicfs_test_utils::{FailMode, FaultyOrigin, ManualClock, MemoryOrigin, shown_files};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) struct Shelf {
    pub(crate) dir: TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) origin: MemoryOrigin,
    /// Counts what the scanner asks the origin for.
    pub(crate) asked: FaultyOrigin,
    pub(crate) db: Arc<Database>,
    pub(crate) library: Arc<Library>,
    pub(crate) scanner: Arc<Scanner>,
}

pub(crate) fn id() -> OriginId {
    OriginId::from("memory")
}

pub(crate) fn path(text: &str) -> OriginPath {
    OriginPath::new(text).unwrap()
}

/// A track with audio of its own: frames are stood in for by what follows the file's header.
pub(crate) fn track(n: u32) -> Vec<u8> {
    tagged(n, &format!("Title {n:04}"))
}

/// The same audio as [`track`] with another title.
pub(crate) fn tagged(n: u32, title: &str) -> Vec<u8> {
    let track = Track::new(Sample::Mp3Cbr).artist("Artist").album(format!("Album {}", n / 10)).title(title);
    let mut bytes = track.track(n % 10 + 1, 0).to_bytes().unwrap();
    bytes.extend(ChunkHash::of(&n.to_le_bytes()).as_bytes());
    bytes
}

fn scanner(
    dir: &Path,
    origin: &FaultyOrigin,
    clock: &ManualClock,
) -> (Arc<Database>, Arc<Library>, Arc<Scanner>) {
    let db = Arc::new(Database::open(&dir.join("catalogue.db")).unwrap());
    let (library, _) = Library::open(&dir.join("library.db"), clock).unwrap();
    let library = Arc::new(library);
    let origins: Vec<Arc<dyn Origin>> = vec![Arc::new(origin.clone())];
    let config = ScannerConfig { workers: 1, ..ScannerConfig::default() };
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let scanner = Scanner::new(db.clone(), library.clone(), origins, clock, config);
    (db, library, Arc::new(scanner))
}

impl Shelf {
    pub(crate) fn new() -> Self {
        Self::over(MemoryOrigin::new("memory").with_page_size(7))
    }

    pub(crate) fn over(origin: MemoryOrigin) -> Self {
        let (dir, clock) = (TempDir::new().unwrap(), ManualClock::new());
        let asked = FaultyOrigin::with_clock(origin.clone(), FailMode::Healthy, clock.clone());
        let (db, library, scanner) = scanner(dir.path(), &asked, &clock);
        Self { dir, clock, origin, asked, db, library, scanner }
    }

    /// Adds tracks `a/<n>.mp3`.
    pub(crate) fn with_tracks(self, tracks: std::ops::Range<u32>) -> Self {
        tracks.for_each(|n| drop(self.origin.put(format!("a/{n:04}.mp3"), track(n))));
        self
    }

    /// Closes everything and opens it again, as after a kill.
    pub(crate) fn restart(&mut self) {
        let nowhere = self.dir.path().join("between");
        std::fs::create_dir_all(&nowhere).unwrap();
        let other = scanner(&nowhere, &self.asked, &self.clock);
        (self.db, self.library, self.scanner) = other;
        (self.db, self.library, self.scanner) = scanner(self.dir.path(), &self.asked, &self.clock);
    }

    /// Throws the catalogue away, and keeps the library.
    pub(crate) fn rebuild(&mut self) {
        let nowhere = self.dir.path().join("between");
        std::fs::create_dir_all(&nowhere).unwrap();
        (self.db, self.library, self.scanner) = scanner(&nowhere, &self.asked, &self.clock);
        for name in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
            std::fs::remove_file(self.dir.path().join(name)).ok();
        }
        (self.db, self.library, self.scanner) = scanner(self.dir.path(), &self.asked, &self.clock);
    }

    pub(crate) async fn pass(&self, options: &PassOptions) -> Result<ScanReport, ScanError> {
        self.scanner.scan_with(&id(), options, &CancellationToken::new()).await
    }

    pub(crate) async fn scan(&self) -> ScanReport {
        self.pass(&PassOptions::default()).await.unwrap()
    }

    pub(crate) async fn confirm(&self) -> ScanReport {
        self.pass(&PassOptions { confirmed: true, ..PassOptions::default() }).await.unwrap()
    }

    pub(crate) async fn scan_paths(&self, paths: &[&str]) -> ScanReport {
        let paths = Some(paths.iter().map(|p| path(p)).collect());
        self.pass(&PassOptions { paths, ..PassOptions::default() }).await.unwrap()
    }

    /// The id that follows from a path.
    pub(crate) fn id_at(&self, at: &str) -> FileId {
        FileId::derive(&id(), &path(at), 0)
    }

    pub(crate) fn file(&self, id: FileId) -> FileMeta {
        self.db.file(id).unwrap().unwrap()
    }

    /// Every file of the tree by its path, with its inode.
    pub(crate) fn tree(&self) -> BTreeMap<String, Ino> {
        shown_files(&*self.db)
    }

    /// The files that are thought to be there, by their paths on the origin.
    pub(crate) fn paths(&self) -> BTreeMap<String, FileId> {
        let all = self.db.files(&FileQuery::All, None, usize::MAX).unwrap().files;
        let there = all.into_iter().filter(|file| file.state == FileState::Present);
        there.map(|file| (file.path.to_string(), file.id)).collect()
    }

    /// Records that all of a file is cached.
    pub(crate) fn cache(&self, id: FileId) {
        let version = self.file(id).version;
        let mut manifest = ChunkManifest::default();
        let range = ByteRange::new(0, version.size);
        manifest.insert(ChunkExtent { range, hash: ChunkHash::of(b"any") });
        let ops = vec![Op::PutManifest { id, version, manifest }];
        self.db.apply(&Batch { at: self.clock.unix(), ops }).unwrap();
    }

    /// Lets time go by.
    pub(crate) fn wait(&self, time: Duration) {
        self.clock.advance(time);
    }

    pub(crate) fn music(&self) -> usize {
        let audio = |ino: &&Ino| self.file(ino.file_id().unwrap()).kind == FileKind::Audio;
        self.tree().values().filter(audio).count()
    }
}
