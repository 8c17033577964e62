//! Doubles and guards of these tests.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    AlbumKey, Applied, Batch, ByteRange, Changes, ChunkHash, ChunkManifest, ContentReader, Cookie, FileId,
    FileKind, FileMeta, FilePage, FileQuery, FileState, FileVersion, Format, Ino, KnownFile, Mark,
    MarkedFile, MetaDb, MetaError, Node, Op, OriginError, OriginErrorKind, OriginId, OriginPath, Placement,
    ReadError, ReadPlan, Refreshed, Refresher, Revision, SavedManifest, ShownPage, SystemClock, Totals,
    UnixNanos, VirtualPath,
};
use musicfs_fuse::{FsOptions, MountOptions, MusicFs, Parts, Session};
use musicfs_test_utils::MemoryMetaDb;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The catalogue in memory, with a trap and a counter.
pub(crate) struct TreeDb {
    db: MemoryMetaDb,
    /// Looking up this name panics.
    pub(crate) trap: Mutex<Option<Vec<u8>>>,
    lists: AtomicUsize,
}

impl TreeDb {
    fn new(db: MemoryMetaDb) -> Self {
        Self { db, trap: Mutex::new(None), lists: AtomicUsize::new(0) }
    }

    /// How often a page of a directory was asked for.
    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }
}

#[deny(clippy::missing_trait_methods)]
impl MetaDb for TreeDb {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Node>, MetaError> {
        if self.trap.lock().as_deref() == Some(name) {
            panic!("looked up the name that panics");
        }
        self.db.lookup(parent, name)
    }
    fn list(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<Node>, MetaError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.db.list(dir, after, limit)
    }
    fn node(&self, ino: Ino) -> Result<Option<Node>, MetaError> {
        self.db.node(ino)
    }
    fn file(&self, id: FileId) -> Result<Option<FileMeta>, MetaError> {
        self.db.file(id)
    }
    fn copies(&self, id: FileId) -> Result<Vec<FileMeta>, MetaError> {
        self.db.copies(id)
    }
    fn files(&self, query: &FileQuery, after: Option<FileId>, limit: usize) -> Result<FilePage, MetaError> {
        self.db.files(query, after, limit)
    }
    fn shown(&self, after: Option<Mark>, limit: usize) -> Result<ShownPage, MetaError> {
        self.db.shown(after, limit)
    }
    fn marked(&self, ids: &[FileId]) -> Result<Vec<MarkedFile>, MetaError> {
        self.db.marked(ids)
    }
    fn known(&self, origin: &OriginId, visit: &mut dyn FnMut(KnownFile)) -> Result<(), MetaError> {
        self.db.known(origin, visit)
    }
    fn missing_since(&self, id: FileId) -> Result<Option<UnixNanos>, MetaError> {
        self.db.missing_since(id)
    }
    fn multi_disc_albums(&self) -> Result<Vec<AlbumKey>, MetaError> {
        self.db.multi_disc_albums()
    }
    fn manifest(&self, id: FileId) -> Result<Option<(FileVersion, ChunkManifest)>, MetaError> {
        self.db.manifest(id)
    }
    fn manifests(&self, after: Option<FileId>, limit: usize) -> Result<Vec<SavedManifest>, MetaError> {
        self.db.manifests(after, limit)
    }
    fn note(&self, key: &str) -> Result<Option<String>, MetaError> {
        self.db.note(key)
    }
    fn totals(&self) -> Result<Totals, MetaError> {
        self.db.totals()
    }
    fn revision(&self) -> Result<Revision, MetaError> {
        self.db.revision()
    }
    fn changes_since(&self, after: Revision, limit: usize) -> Result<Changes, MetaError> {
        self.db.changes_since(after, limit)
    }
    fn subscribe(&self) -> watch::Receiver<Revision> {
        self.db.subscribe()
    }
    fn apply(&self, batch: &Batch) -> Result<Applied, MetaError> {
        self.db.apply(batch)
    }
}

/// Where a file's bytes are.
#[derive(Clone)]
pub(crate) enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In a file that the kernel may read.
    File(PathBuf),
    /// Nowhere: reading never ends but by its deadline.
    Hung(Duration),
}

/// The origin: what its files are now, whatever the catalogue believes.
#[derive(Default)]
pub(crate) struct Store {
    files: Mutex<HashMap<FileId, (FileVersion, Content)>>,
    /// Versions that were replaced, when they are kept, as by a cache.
    old: Mutex<Option<Vec<(FileId, FileVersion, Content)>>>,
    pub(crate) reads: AtomicUsize,
    /// Opening this file panics.
    pub(crate) trap: Mutex<Option<FileId>>,
    /// Called while a file is opened, after it was found.
    pub(crate) opening: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Store {
    fn current(&self, plan_file: FileId, version: &FileVersion) -> Result<Content, ReadError> {
        let files = self.files.lock();
        let error = |kind| ReadError::from(OriginError::new(&"o".into(), &OriginPath::root(), kind));
        let (now, content) = files.get(&plan_file).ok_or_else(|| error(OriginErrorKind::NotFound))?;
        if now.is_same(version) {
            return Ok(content.clone());
        }
        let old = self.old.lock();
        let kept = old.iter().flatten().find(|(id, kept, _)| *id == plan_file && kept.is_same(version));
        kept.map(|(_, _, content)| content.clone()).ok_or_else(|| error(OriginErrorKind::Changed))
    }
}

#[async_trait]
impl ContentReader for Store {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        if *self.trap.lock() == Some(file.id) {
            panic!("opened the file that panics");
        }
        self.current(file.id, &file.version)?;
        if let Some(opening) = &*self.opening.lock() {
            opening();
        }
        Ok(ReadPlan::verbatim(file))
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match self.current(plan.file(), plan.version())? {
            Content::Bytes(bytes) => {
                Ok(Bytes::copy_from_slice(&bytes[range.start() as usize..range.end() as usize]))
            }
            Content::File(path) => tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; range.len() as usize];
                std::os::unix::fs::FileExt::read_exact_at(
                    &File::open(path).unwrap(),
                    &mut bytes,
                    range.start(),
                )
                .unwrap();
                Ok(bytes.into())
            })
            .await
            .unwrap(),
            Content::Hung(after) => {
                tokio::time::sleep(after).await;
                Err(ReadError::TimedOut { origin: "o".into(), after })
            }
        }
    }

    async fn backing(&self, plan: &ReadPlan) -> Option<File> {
        match self.current(plan.file(), plan.version()) {
            Ok(Content::File(path)) => File::open(path).ok(),
            _ => None,
        }
    }

    async fn hash(&self, file: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        match self.current(file.id, &file.version)? {
            Content::Bytes(bytes) => Ok(Some(ChunkHash::of(&bytes))),
            Content::File(path) => Ok(Some(ChunkHash::of(&std::fs::read(path).unwrap()))),
            Content::Hung(_) => Ok(None),
        }
    }

    fn cached(&self, _: &FileMeta) -> &'static str {
        "local"
    }

    fn stand_in(&self, _: &FileMeta) -> Option<(OriginId, OriginPath)> {
        None
    }
}

/// Brings the catalogue up to date with the store.
pub(crate) struct FromStore {
    db: Arc<TreeDb>,
    store: Arc<Store>,
}

#[async_trait]
impl Refresher for FromStore {
    async fn refresh(&self, id: FileId) -> Refreshed {
        let Some(mut file) = self.db.file(id).unwrap() else { return Refreshed::Gone };
        let now = self.store.files.lock().get(&id).map(|(version, _)| version.clone());
        let ops = match now {
            Some(version) if version.is_same(&file.version) => return Refreshed::Unchanged,
            Some(version) => {
                file.version = version;
                let path = file.shown_at.clone().unwrap();
                vec![Op::PutFile(Box::new(file)), Op::Place(Placement { id, path, prefer: 0 })]
            }
            None => vec![Op::Forget(id)],
        };
        let gone = matches!(ops[0], Op::Forget(_));
        self.db.apply(&Batch { at: UnixNanos(9_000_000_000), ops }).unwrap();
        if gone { Refreshed::Gone } else { Refreshed::Updated }
    }
}

pub(crate) type Backing = Parts<Arc<TreeDb>, Arc<Store>, FromStore, SystemClock>;

/// A library to be mounted.
pub(crate) struct Library {
    pub(crate) db: Arc<TreeDb>,
    pub(crate) store: Arc<Store>,
    clock: Mutex<i64>,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self::with(MemoryMetaDb::new())
    }

    pub(crate) fn with(db: MemoryMetaDb) -> Self {
        Self { db: Arc::new(TreeDb::new(db)), store: Arc::default(), clock: Mutex::new(0) }
    }

    fn tick(&self) -> UnixNanos {
        let mut clock = self.clock.lock();
        *clock += 1_000_000_007;
        UnixNanos(*clock)
    }

    pub(crate) fn id(path: &str) -> FileId {
        FileId::derive(&"o".into(), &OriginPath::new(path).unwrap(), 0)
    }

    /// A file's row and place, as a scan would make them.
    pub(crate) fn ops(path: &str, size: u64, mtime: UnixNanos) -> [Op; 2] {
        let origin = OriginId::from("o");
        let origin_path = OriginPath::new(path).unwrap();
        let id = FileId::derive(&origin, &origin_path, 0);
        let shown = VirtualPath::from_text(path).unwrap();
        let file = FileMeta {
            id,
            origin,
            path: origin_path,
            version: FileVersion { size, mtime: Some(mtime), etag: None },
            kind: FileKind::Audio,
            state: FileState::Present,
            format: Some(Format::Flac),
            audio: None,
            problem: None,
            shown_at: None,
        };
        [Op::PutFile(Box::new(file)), Op::Place(Placement { id, path: shown, prefer: 0 })]
    }

    pub(crate) fn apply(&self, ops: Vec<Op>) {
        self.db.apply(&Batch { at: self.tick(), ops }).unwrap();
    }

    /// Adds a file, or changes it, in the store and in the catalogue.
    pub(crate) fn put(&self, path: &str, content: Content) {
        let (size, mtime) = self.replace(path, content);
        self.apply(Self::ops(path, size, mtime).into());
    }

    /// Changes a file behind the catalogue's back.
    pub(crate) fn replace(&self, path: &str, content: Content) -> (u64, UnixNanos) {
        let size = match &content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(path) => std::fs::metadata(path).unwrap().len(),
            Content::Hung(_) => 10 << 20,
        };
        let mtime = self.tick();
        let version = FileVersion { size, mtime: Some(mtime), etag: None };
        let before = self.store.files.lock().insert(Self::id(path), (version, content));
        if let (Some(old), Some((version, content))) = (&mut *self.store.old.lock(), before) {
            old.push((Self::id(path), version, content));
        }
        (size, mtime)
    }

    /// Has versions that are replaced from now on stay readable for who has them open.
    pub(crate) fn keep_old_versions(&self) {
        *self.store.old.lock() = Some(Vec::new());
    }

    /// Has the version that is there come from elsewhere.
    pub(crate) fn same_version(&self, path: &str, content: Content) {
        self.store.files.lock().get_mut(&Self::id(path)).unwrap().1 = content;
    }

    /// Removes a file behind the catalogue's back.
    pub(crate) fn lose(&self, path: &str) {
        self.store.files.lock().remove(&Self::id(path));
    }

    pub(crate) fn put_bytes(&self, path: &str, bytes: &[u8]) {
        self.put(path, Content::Bytes(bytes.into()));
    }

    /// Removes a file from the store and from the catalogue, when it is there.
    pub(crate) fn remove(&self, path: &str) {
        self.store.files.lock().remove(&Self::id(path));
        if self.db.file(Self::id(path)).unwrap().is_some() {
            self.apply(vec![Op::Forget(Self::id(path))]);
        }
    }

    pub(crate) fn fs(&self) -> MusicFs<Backing> {
        let parts = Parts {
            meta: self.db.clone(),
            reader: self.store.clone(),
            refresher: FromStore { db: self.db.clone(), store: self.store.clone() },
            clock: SystemClock::new(),
        };
        MusicFs::new(parts, FsOptions::default())
    }

    pub(crate) fn mount(&self) -> Mounted {
        self.mount_with(MountOptions::default())
    }

    pub(crate) fn mount_with(&self, options: MountOptions) -> Mounted {
        Mounted::new(self.fs(), options)
    }
}

/// A mount in a directory of its own, unmounted when it is dropped, even by a panic.
pub(crate) struct Mounted {
    session: Option<Session>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Mounted {
    pub(crate) fn new(fs: MusicFs<Backing>, options: MountOptions) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::Builder::new().prefix("musicfs fuse ").tempdir().unwrap();
        let session = Session::mount(fs, dir.path(), options, runtime.handle().clone()).unwrap();
        Self { session: Some(session), runtime, dir }
    }

    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    pub(crate) fn drop_session(&mut self) {
        drop(self.session.take());
    }

    pub(crate) fn unmount(&mut self, limit: Duration) -> Result<(), musicfs_fuse::MountError> {
        let session = self.session.take().unwrap();
        self.runtime.block_on(session.unmount(limit))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Leaves the tree at once, before the directory is removed.
        drop(self.session.take());
    }
}

/// Bytes that differ at every place and from seed to seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Visits everything below a directory, with `stat`: how many directories and files there are, and the files' size.
pub(crate) fn walk(dir: &Path) -> (usize, usize, u64) {
    let mut sums = (0, 0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        if found.is_dir() {
            let below = walk(&entry.path());
            sums = (sums.0 + 1 + below.0, sums.1 + below.1, sums.2 + below.2);
        } else {
            sums = (sums.0, sums.1 + 1, sums.2 + found.len());
        }
    }
    sums
}
