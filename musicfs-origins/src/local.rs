//! Folders of this machine.
//!
//! # Invariants
//! * Nothing outside the root is read, whatever links and renames there are; see `open.rs`.
//! * A root that is missing is an origin that is not there (`NoRoot`), never an empty one, and a file below
//!   it is not gone. So is one that was mounted from a network and no longer is.
//! * Nothing is kept open between calls. Every call opens the root anew: a disk mounted later is seen, and one
//!   in use can be unmounted.
//! * No method blocks its thread. All work runs in the runtime's blocking pool under one of `caps().concurrency`
//!   permits, which the blocking closure itself holds: a read that hangs keeps its permit when its future is
//!   dropped, so that no more threads than that are ever stuck on one origin.
//!
//! There is no cache, no retry and no deadline here; [`OriginReader`](crate::OriginReader) has the deadlines.

mod backing;
pub(crate) mod cursor;
mod open;
mod walk;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    ByteRange, Clock, FileVersion, FsBacking, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, ScanRequest, ScanStream, SystemClock,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

pub(crate) use backing::backing_of_file;
use open::OpenError;

/// Pages that a walk may be ahead of its reader.
const PAGES_AHEAD: usize = 4;

/// A folder of this machine, on a disk or mounted from elsewhere.
///
/// Whether it is on a network is taken from the table of mounts when it is first asked for and then kept:
/// [`OriginCaps::remote`] follows from it, and so do deadlines.
///
/// Symbolic links are followed where they lead to something inside the root; others, special files and links in
/// a circle are not listed. A scan can be resumed from any page.
///
/// ```
/// use musicfs_core::Origin;
/// use musicfs_origins::LocalOrigin;
///
/// let origin = LocalOrigin::new("disk", "/home/me/Music");
/// assert_eq!(origin.id().as_str(), "disk");
/// ```
#[derive(Clone)]
pub struct LocalOrigin {
    place: Arc<Place>,
}

/// What the blocking half needs.
struct Place {
    id: OriginId,
    root: PathBuf,
    clock: Arc<dyn Clock>,
    backing: OnceLock<FsBacking>,
    permits: OnceLock<Arc<Semaphore>>,
    /// Checks of health wait for each other, and never for reads.
    health: Arc<Semaphore>,
}

impl std::fmt::Debug for LocalOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalOrigin").field("id", &self.place.id).field("root", &self.place.root).finish()
    }
}

impl Place {
    fn error(&self, path: &OriginPath, error: OpenError) -> OriginError {
        let kind = error.kind();
        // An empty folder where a share was mounted holds none of its files; they are not gone.
        if kind == OriginErrorKind::NotFound
            && let Err(unmounted) = self.check_mounted()
        {
            return OriginError::new(&self.id, path, unmounted.kind()).with_source(unmounted);
        }
        OriginError::new(&self.id, path, kind).with_source(error)
    }

    /// Fails when the root was on a network and no longer is: what is there now is not the origin.
    fn check_mounted(&self) -> Result<(), OpenError> {
        match self.backing() {
            FsBacking::Remote if backing::backing_of(&self.root) == FsBacking::Local => {
                Err(OpenError::Unmounted(self.root.clone()))
            }
            _ => Ok(()),
        }
    }

    fn changed(&self, path: &OriginPath) -> OriginError {
        OriginError::new(&self.id, path, OriginErrorKind::Changed)
    }

    fn backing(&self) -> FsBacking {
        *self.backing.get_or_init(|| backing::backing_of(&self.root))
    }

    fn caps(&self) -> OriginCaps {
        match self.backing() {
            FsBacking::Local => OriginCaps::local(),
            FsBacking::Remote => OriginCaps::remote(),
        }
    }

    fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(self.permits.get_or_init(|| Arc::new(Semaphore::new(self.caps().concurrency))))
    }

    fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let fail = |error| self.error(path, error);
        let root = open::open_root(&self.root).map_err(fail)?;
        let stat = open::look(root.as_fd(), &self.root, path).map_err(fail)?;
        if open::is_file(&stat) {
            Ok(OriginEntry { path: path.clone(), version: open::version_of(&stat) })
        } else {
            Err(fail(OpenError::NotAFile))
        }
    }

    fn read(&self, path: &OriginPath, version: &FileVersion, range: ByteRange) -> Result<Bytes, OriginError> {
        let io = |error| self.error(path, OpenError::Io(error));
        let (file, stat) = open::open_file(&self.root, path).map_err(|e| self.error(path, e))?;
        if !open::version_of(&stat).is_same(version) {
            return Err(self.changed(path));
        }
        let range = range.clamp_to(version.size);
        let len = usize::try_from(range.len())
            .map_err(|_| OriginError::new(&self.id, path, OriginErrorKind::Invalid))?;
        let mut bytes = vec![0; len];
        match file.read_exact_at(&mut bytes, range.start()) {
            Ok(()) => {}
            // Cut short since we looked.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.changed(path));
            }
            Err(error) => return Err(io(error)),
        }
        let after = rustix::fs::fstat(&file).map_err(|errno| io(errno.into()))?;
        if !open::version_of(&after).is_same(version) {
            return Err(self.changed(path));
        }
        Ok(bytes.into())
    }

    fn health(&self) -> Result<OriginHealth, OriginError> {
        let fail = |error| self.error(&OriginPath::root(), error);
        self.check_mounted().map_err(fail)?;
        let root = open::open_root(&self.root).map_err(fail)?;
        let stat = rustix::fs::fstat(&root).map_err(|e| fail(e.into()))?;
        let on = rustix::fs::fstatvfs(&root).map_err(|e| fail(e.into()))?;
        // Not the device number, which is given anew at each start of the machine.
        Ok(OriginHealth { identity: Some(format!("fs {:016x} inode {}", on.f_fsid, stat.st_ino)) })
    }
}

impl LocalOrigin {
    /// Makes an origin of the folder `root`. The disk is not touched before something is asked for.
    pub fn new(id: impl Into<OriginId>, root: impl Into<PathBuf>) -> Self {
        Self::with_clock(id, root, Arc::new(SystemClock::new()))
    }

    /// As [`LocalOrigin::new`], with a clock by which a slow scan knows when to hand over what it has.
    pub fn with_clock(id: impl Into<OriginId>, root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let place = Place {
            id: id.into(),
            root: root.into(),
            clock,
            backing: OnceLock::new(),
            permits: OnceLock::new(),
            health: Arc::new(Semaphore::new(1)),
        };
        Self { place: Arc::new(place) }
    }

    /// Returns the root folder.
    pub fn root(&self) -> &std::path::Path {
        &self.place.root
    }

    /// Runs `work` in the blocking pool, under a permit that it keeps until it is really done.
    async fn blocking<T: Send + 'static>(
        &self,
        permits: Arc<Semaphore>,
        path: &OriginPath,
        work: impl FnOnce(&Place) -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, OriginError> {
        let lost = |error: Box<dyn std::error::Error + Send + Sync>| {
            OriginError::new(&self.place.id, path, OriginErrorKind::Unavailable).with_source(error)
        };
        let permit = permits.acquire_owned().await.map_err(|e| lost(e.into()))?;
        let place = Arc::clone(&self.place);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&place)
        });
        task.await.unwrap_or_else(|e| Err(lost(e.into())))
    }
}

/// A scan: not begun, or walking.
enum Scan {
    Asked(Arc<Place>, ScanRequest),
    Walking { place: Arc<Place>, under: OriginPath, rx: mpsc::Receiver<walk::Sent>, task: JoinHandle<()> },
    Over,
}

impl Scan {
    /// Returns the next page. A walk that dies without a word is an error, not the end.
    async fn next(self) -> Option<(walk::Sent, Self)> {
        let (place, under, mut rx, task) = match self {
            Self::Asked(place, request) => {
                let (tx, rx) = mpsc::channel(PAGES_AHEAD);
                let (walked, under) = (Arc::clone(&place), request.under.clone());
                let task = tokio::task::spawn_blocking(move || walk::walk(&walked, &request, &tx));
                (place, under, rx, task)
            }
            Self::Walking { place, under, rx, task } => (place, under, rx, task),
            Self::Over => return None,
        };
        match rx.recv().await {
            Some(Ok(page)) if page.complete => Some((Ok(page), Self::Over)),
            Some(Ok(page)) => Some((Ok(page), Self::Walking { place, under, rx, task })),
            Some(Err(error)) => Some((Err(error), Self::Over)),
            None => {
                let mut error = OriginError::new(&place.id, &under, OriginErrorKind::Unavailable);
                if let Err(died) = task.await {
                    error = error.with_source(died);
                }
                Some((Err(error), Self::Over))
            }
        }
    }
}

#[async_trait]
impl Origin for LocalOrigin {
    fn id(&self) -> &OriginId {
        &self.place.id
    }

    fn caps(&self) -> OriginCaps {
        self.place.caps()
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        stream::unfold(Scan::Asked(Arc::clone(&self.place), request), Scan::next).boxed()
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let wanted = path.clone();
        self.blocking(self.place.permits(), path, move |place| place.stat(&wanted)).await
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let (wanted, version) = (path.clone(), version.clone());
        self.blocking(self.place.permits(), path, move |place| place.read(&wanted, &version, range)).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.blocking(Arc::clone(&self.place.health), &OriginPath::root(), Place::health).await
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        Some(self)
    }
}

impl LocalAccess for LocalOrigin {
    fn open(&self, path: &OriginPath) -> Result<File, OriginError> {
        let opened = open::open_file(&self.place.root, path);
        opened.map(|(file, _)| file).map_err(|e| self.place.error(path, e))
    }

    fn backing(&self) -> FsBacking {
        self.place.backing()
    }

    fn version(&self, file: &File) -> Result<FileVersion, OriginError> {
        let stat = rustix::fs::fstat(file);
        let stat = stat.map_err(|e| self.place.error(&OriginPath::root(), e.into()))?;
        Ok(open::version_of(&stat))
    }
}
