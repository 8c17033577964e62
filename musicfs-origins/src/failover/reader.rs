//! Files of the catalogue, read from whichever copy can be had.
//!
//! # Invariants
//! * At open, the best copy is chosen: one that is cached as a whole, or that of the best origin. A file that changed
//!   on its origin is no reason to read another: the catalogue is out of date then.
//! * Within a read, another copy takes over only when it is known to hold the same bytes: its version is the same
//!   strong one, or all that the handle was served so far has been found in it ([`Course`]). What is read is stored
//!   as that copy's, never as another's.
//! * A read ends by its deadline, whatever is still to be tried. While there is another copy, one is waited for 5 s.
//! * A file that has no copies costs one look at the catalogue when it is opened.
//!
//! Locks are held for a few lines, never across an await.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, ChunkHash, Clock, ContentReader, Course, EventBus, EventKind, FileId, FileMeta, FileState,
    FileVersion, MetaDb, MetaError, MonoTime, OriginId, OriginPath, ReadError, ReadPlan,
};
use parking_lot::{Mutex, RwLock};
use tracing::{debug, info, warn};

use super::{PATIENCE, Router};

/// Files remembered as read from a copy. What is beyond is not marked, and looked at again by the next scan.
const MOST_MARKED: usize = 10_000;

/// A file that is read from a copy.
#[derive(Clone, Debug)]
struct Mark {
    origin: OriginId,
    by: (OriginId, OriginPath),
}

/// Reads files, or copies of them when their own origins fail, through a reader that knows no copies and takes note of
/// failures ([`CircuitReader`](super::CircuitReader)).
pub struct FailoverReader {
    inner: Arc<dyn ContentReader>,
    db: Arc<dyn MetaDb>,
    router: Arc<Router>,
    clock: Arc<dyn Clock>,
    events: EventBus,
    deadline: RwLock<Duration>,
    marks: Mutex<HashMap<FileId, Mark>>,
    /// Who was last said to answer for whom.
    told: Mutex<HashMap<OriginId, OriginId>>,
}

impl std::fmt::Debug for FailoverReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailoverReader").field("router", &self.router).finish_non_exhaustive()
    }
}

impl FailoverReader {
    /// Makes a reader of the files in `db` over `inner`. A read takes no longer than `deadline`.
    pub fn new(
        inner: Arc<dyn ContentReader>,
        db: Arc<dyn MetaDb>,
        router: impl Into<Arc<Router>>,
        clock: Arc<dyn Clock>,
        events: EventBus,
        deadline: Duration,
    ) -> Self {
        let (marks, told) = (Mutex::default(), Mutex::default());
        let (router, deadline) = (router.into(), RwLock::new(deadline));
        Self { inner, db, router, clock, events, deadline, marks, told }
    }

    /// Changes the deadline of reads that begin from now on.
    pub fn set_deadline(&self, deadline: Duration) {
        *self.deadline.write() = deadline;
    }

    /// Takes note that an origin answers again, and returns the files that copies were read for meanwhile: they are
    /// worth a look. They are read from their own origin again when they are next opened and the router prefers it.
    pub fn returned(&self, origin: &OriginId) -> Vec<FileId> {
        let mut marks = self.marks.lock();
        let files: Vec<FileId> =
            marks.iter().filter(|(_, m)| m.origin == *origin).map(|(id, _)| *id).collect();
        files.iter().for_each(|id| {
            marks.remove(id);
        });
        files
    }

    /// Returns the copies of a file that are there, itself the first, then as they stand; nothing but itself when it
    /// has none.
    async fn copies(&self, file: &FileMeta) -> Result<Vec<FileMeta>, ReadError> {
        let (db, id) = (Arc::clone(&self.db), file.id);
        let found = tokio::task::spawn_blocking(move || db.copies(id)).await;
        let found = found.map_err(|lost| ReadError::Catalogue(MetaError::Storage(Box::new(lost))))??;
        let others = found.into_iter().filter(|copy| copy.id != id && copy.state == FileState::Present);
        Ok(std::iter::once(file.clone()).chain(others).collect())
    }

    /// Puts the copies that are best to read first. What is cached as a whole needs no origin.
    fn rank(&self, copies: &mut [FileMeta]) {
        copies.sort_by_cached_key(|copy| {
            let mut rank = self.router.rank(&copy.origin);
            if rank.health > 0 && self.inner.cached(copy) == "full" {
                rank.health = 0;
            }
            rank
        });
    }

    /// Waits for `work` until `until`, then says that `origin` did not answer, and takes note of it. All other failures
    /// are noted where they arise ([`CircuitReader`](super::CircuitReader)).
    async fn within<T>(
        &self,
        until: MonoTime,
        origin: &OriginId,
        work: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let begun = self.clock.now();
        tokio::select! {
            biased;
            done = work => done,
            () = self.clock.sleep_until(until) => {
                self.router.failed(origin);
                Err(ReadError::TimedOut { origin: origin.clone(), after: until.since(begun) })
            }
        }
    }

    fn patience(&self, deadline: MonoTime, more: bool) -> MonoTime {
        if more { self.clock.now().plus(PATIENCE).min(deadline) } else { deadline }
    }

    /// Takes note of which copy is read for a file.
    fn mark(&self, of: FileId, origin: &OriginId, copy: &FileMeta) {
        if of == copy.id {
            self.marks.lock().remove(&of);
            // What is cached as a whole is read in its own place while its origin is lost, too.
            if self.router.rank(origin).health == 0 {
                self.told.lock().remove(origin);
            }
            return;
        }
        let by = (copy.origin.clone(), copy.path.clone());
        let mut marks = self.marks.lock();
        if marks.len() < MOST_MARKED || marks.contains_key(&of) {
            marks.insert(of, Mark { origin: origin.clone(), by });
        }
        drop(marks);
        let before = self.told.lock().insert(origin.clone(), copy.origin.clone());
        if before.as_ref() != Some(&copy.origin) && *origin != copy.origin {
            info!(%origin, to = %copy.origin, "files of the origin are read from copies");
            let (origin, to) = (origin.clone(), copy.origin.clone());
            self.events.publish(EventKind::OriginFailover { origin, to });
        }
    }

    /// Has another copy take a handle over. Returns whether one did; that it can be read now is for the next read
    /// to find out.
    async fn go_over(&self, course: &Course, from: &ReadPlan, tried: &[FileId], deadline: MonoTime) -> bool {
        // One looks for all who read the handle.
        let until = self.clock.sleep_until(deadline);
        let _turn = tokio::select! {
            turn = course.turn() => turn,
            () = until => return false,
        };
        if course.reading() != from.file() {
            return true;
        }
        let mut copies: Vec<FileMeta> = course.copies().to_vec();
        copies.retain(|copy| copy.id != from.file() && !tried.contains(&copy.id));
        self.rank(&mut copies);
        for copy in &copies {
            if self.clock.now() >= deadline {
                return false;
            }
            if same_by_version(from.version(), &copy.version) {
                course.is_same(copy.id);
            }
            let plan = match self.within(deadline, &copy.origin, self.inner.open(copy)).await {
                Ok(plan) => plan,
                Err(error) => {
                    debug!(origin = %copy.origin, path = %copy.path, %error, "the copy cannot be opened");
                    continue;
                }
            };
            if self.agrees(course, &plan, copy, deadline).await && course.switch(plan) {
                info!(origin = %copy.origin, path = %copy.path, "a reader goes on with a copy");
                let (of, origin) = course.of();
                self.mark(of, origin, copy);
                return true;
            }
        }
        false
    }

    /// Compares a copy with all that a handle was served. What was compared before a deadline stays so.
    async fn agrees(&self, course: &Course, plan: &ReadPlan, copy: &FileMeta, deadline: MonoTime) -> bool {
        loop {
            let Some(open) = course.to_compare(copy.id) else { return false };
            if open.is_empty() {
                return true;
            }
            for (range, hash) in open {
                let read = self.within(deadline, &copy.origin, self.inner.read(plan, range));
                let Ok(bytes) = read.await else { return false };
                if !course.compare(copy.id, range, hash, &bytes) {
                    warn!(origin = %copy.origin, path = %copy.path, %range,
                        "the copy holds other bytes; a reader of the file cannot go on with it");
                    return false;
                }
            }
        }
    }

    async fn read_on(&self, course: &Course, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let deadline = self.clock.now().plus(*self.deadline.read());
        let mut tried = Vec::new();
        loop {
            let current = course.plan().unwrap_or_else(|| plan.clone());
            let more = tried.len() + 1 < course.copies().len();
            let origin = current.as_verbatim().map_or_else(|| course.of().1.clone(), |(id, ..)| id.clone());
            let until = self.patience(deadline, more);
            match self.within(until, &origin, self.inner.read(&current, range)).await {
                Ok(bytes) if course.serve(current.file(), range, &bytes) => return Ok(bytes),
                // Another read of the handle has gone over to another copy meanwhile.
                Ok(_) => {}
                Err(error @ ReadError::Catalogue(_)) => return Err(error),
                Err(error) => {
                    tried.push(current.file());
                    if !more || !self.go_over(course, &current, &tried, deadline).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Tells whether two versions, of whatever origins, prove the same bytes: etags that are hashes of the content.
fn same_by_version(a: &FileVersion, b: &FileVersion) -> bool {
    let hash = |version: &FileVersion| {
        let etag = version.etag.as_deref()?.trim_matches('"').to_ascii_lowercase();
        (etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
    };
    a.size == b.size && hash(a).is_some_and(|etag| Some(etag) == hash(b))
}

#[async_trait]
impl ContentReader for FailoverReader {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        let mut copies = self.copies(file).await?;
        if copies.len() < 2 {
            return self.inner.open(file).await;
        }
        self.rank(&mut copies);
        let deadline = self.clock.now().plus(*self.deadline.read());
        let mut failed = None;
        for (n, copy) in copies.iter().enumerate() {
            let until = self.patience(deadline, n + 1 < copies.len());
            let plan = match self.within(until, &copy.origin, self.inner.open(copy)).await {
                Ok(plan) => plan,
                Err(error @ (ReadError::Changed(_) | ReadError::Catalogue(_))) if copy.id == file.id => {
                    return Err(error);
                }
                Err(error) => {
                    debug!(origin = %copy.origin, path = %copy.path, %error, "the copy cannot be opened");
                    // What the file's own origin says counts.
                    if failed.is_none() || copy.id == file.id {
                        failed = Some(error);
                    }
                    continue;
                }
            };
            self.mark(file.id, &file.origin, copy);
            let alike = copies.iter().filter(|other| other.version.size == copy.version.size).cloned();
            let alike: Vec<FileMeta> = alike.collect();
            return Ok(match alike.len() {
                0 | 1 => plan,
                _ => plan.with_course(Arc::new(Course::new(file, copy.id, alike))),
            });
        }
        Err(failed.unwrap_or_else(|| ReadError::UnknownOrigin(file.origin.clone())))
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        match plan.course() {
            Some(course) => self.read_on(course, plan, range).await,
            None => self.inner.read(plan, range).await,
        }
    }

    async fn backing(&self, plan: &ReadPlan) -> Option<File> {
        self.inner.backing(plan).await
    }

    async fn hash(&self, file: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        self.inner.hash(file).await
    }

    /// Of a file with copies, what is cached of the one that has the most counts.
    fn cached(&self, file: &FileMeta) -> &'static str {
        let own = self.inner.cached(file);
        let here = |word: &str, origin: &OriginId| word == "local" && !self.router.is_lost(origin);
        if own == "full" || here(own, &file.origin) {
            return own;
        }
        let copies = self.db.copies(file.id).unwrap_or_default();
        let words = copies.iter().map(|copy| (self.inner.cached(copy), &copy.origin));
        let worth = |word: &str| ["partial", "full", "local"].iter().position(|known| *known == word);
        let there = words.filter(|(word, origin)| *word != "local" || here(word, origin));
        there.map(|(word, _)| word).max_by_key(|word| worth(word)).unwrap_or(own)
    }

    fn stand_in(&self, file: &FileMeta) -> Option<(OriginId, OriginPath)> {
        self.marks.lock().get(&file.id).map(|mark| mark.by.clone())
    }
}
