//! The work on chunk files. Everything here blocks.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use musicfs_core::{ChunkError, ChunkHash, Clock};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::buffers::{self, Buffers};
use crate::index::disk::DiskIndex;
use crate::index::{Entry, Index, Known};
use crate::layout::{Layout, MAX_CHUNK};
use crate::space::Space;
use crate::{direct, durable};

/// Turns for changes; chunks that share one wait for each other.
const TURNS: usize = 256;
/// A chunk that was used is noted as such when it was not for this long, in milliseconds: reading costs nothing on
/// disk, and the order of eviction is right to within this.
const USE_RESOLUTION: u64 = 10_000;

/// Pieces of free memory that are kept for the chunks that are read next.
const FREE_BUFFERS: usize = 4;

/// A store's files and what is known of them.
pub(crate) struct Files {
    pub(crate) layout: Layout,
    pub(crate) max_size: u64,
    pub(crate) space: Space,
    pub(crate) index: Mutex<Index>,
    /// The copy of the index on disk. This lock is held while the copy is written; no reader or writer of chunks
    /// takes it.
    pub(crate) disk: Mutex<Option<DiskIndex>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counting: watch::Sender<Counting>,
    pub(crate) saving: AtomicBool,
    turns: Box<[Arc<tokio::sync::Mutex<()>>]>,
    temporaries: AtomicU64,
    buffers: Buffers,
    /// Chunks that the disk had no room for, though the limits had.
    pub(crate) refused_by_disk: AtomicU64,
}

/// How far counting the chunks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Not all are known yet.
    UnderWay,
    /// All are known.
    Done,
    /// The files could not be listed.
    Failed,
}

/// What reading a chunk file gave.
enum Found {
    Good(Bytes),
    Damaged,
    Missing,
}

/// Room kept for a chunk, given back when dropped.
pub(super) struct Reserved<'a> {
    files: &'a Files,
    len: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.files.index.lock().release(self.len);
    }
}

/// A chunk that is being read, and no victim meanwhile.
pub(crate) struct Held {
    files: Arc<Files>,
    hash: ChunkHash,
}

impl Held {
    /// Looks whether a chunk is there, and holds it.
    pub(crate) fn new(files: &Arc<Files>, hash: ChunkHash) -> (Self, Known) {
        let mut index = files.index.lock();
        index.hold(&hash);
        let known = index.known(&hash);
        drop(index);
        (Self { files: files.clone(), hash }, known)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.files.index.lock().let_go(&self.hash);
    }
}

impl Files {
    pub(crate) fn new(layout: Layout, max_size: u64, space: Space, clock: Arc<dyn Clock>) -> Self {
        let turns = std::iter::repeat_with(|| Arc::new(tokio::sync::Mutex::new(()))).take(TURNS).collect();
        Self {
            layout,
            max_size,
            space,
            index: Mutex::default(),
            disk: Mutex::default(),
            clock,
            counting: watch::channel(Counting::UnderWay).0,
            saving: AtomicBool::new(false),
            turns,
            temporaries: AtomicU64::new(0),
            buffers: Buffers::new(buffers::PIECE, FREE_BUFFERS),
            refused_by_disk: AtomicU64::new(0),
        }
    }

    pub(super) fn turn_of(&self, hash: &ChunkHash) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.turns[usize::from(hash.as_bytes()[0]) % self.turns.len()])
    }

    /// Waits for a chunk's turn.
    pub(crate) async fn turn(&self, hash: &ChunkHash) -> OwnedMutexGuard<()> {
        self.turn_of(hash).lock_owned().await
    }

    /// Returns the time, in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.clock.unix().0 / 1_000_000).unwrap_or(0)
    }

    pub(crate) fn known(&self, hash: &ChunkHash) -> Known {
        self.index.lock().known(hash)
    }

    /// Takes note that a chunk was used.
    pub(crate) fn used(&self, hash: &ChunkHash) {
        let now = self.now();
        self.index.lock().change(hash, |entry| {
            if now >= entry.used.saturating_add(USE_RESOLUTION) {
                entry.used = now;
            }
        });
    }

    /// Stores a chunk. The caller has its turn.
    pub(crate) fn put(&self, hash: ChunkHash, bytes: &[u8]) -> Result<(), ChunkError> {
        let path = self.layout.chunk(&hash);
        let len = bytes.len() as u64;
        // Whoever puts a chunk that is there may be mending it: its bytes are compared, not only their number.
        let same = || {
            fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == len)
                && fs::read(&path).is_ok_and(|found| found == bytes)
        };
        let before = self.index.lock().entry(&hash);
        match before {
            Some(entry) if u64::from(entry.len) == len && same() => {
                self.used(&hash);
                return Ok(());
            }
            Some(_) => {
                // Its file was lost, cut or damaged behind our back: it is written again, over what is left of it.
                self.index.lock().remove(&hash);
            }
            None if self.known(&hash) == Known::Unsure && same() => {
                self.index.lock().insert(hash, Entry::new(len, self.now()));
                return Ok(());
            }
            None => {}
        }
        let _reserved = self.reserve(len)?;
        fail::fail_point!("cas-put-before-write", |_| Err(failed(io::ErrorKind::StorageFull.into(), len)));
        let written = self.write(&hash, &path, bytes);
        if let Err(error) = written {
            // It may have taken its name before it failed; nothing of it may be found by the next start.
            let _ = fs::remove_file(&path);
            let error = failed(error, len);
            self.refused_by_disk
                .fetch_add(u64::from(matches!(error, ChunkError::Full { .. })), Ordering::Relaxed);
            return Err(error);
        }
        let entry = Entry { used: self.now(), len: Entry::new(len, 0).len, ..before.unwrap_or_default() };
        self.index.lock().insert(hash, entry);
        Ok(())
    }

    /// Keeps room for a chunk that is about to be written, within all limits.
    pub(super) fn reserve(&self, len: u64) -> Result<Reserved<'_>, ChunkError> {
        if !self.index.lock().reserve(len, self.max_size) {
            return Err(ChunkError::Full { needed: len });
        }
        let reserved = Reserved { files: self, len };
        if !self.space.take(len, &*self.clock) {
            return Err(ChunkError::Full { needed: len });
        }
        Ok(reserved)
    }

    fn write(&self, hash: &ChunkHash, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match durable::write_unless_lost(&self.temporary(hash), path, bytes) {
            // The folders may have been removed while the store is in use.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.layout.make_folders()?;
                durable::write_unless_lost(&self.temporary(hash), path, bytes)?;
            }
            // No chunk, but in the place of one.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                self.layout.quarantine(hash)?;
                durable::write_unless_lost(&self.temporary(hash), path, bytes)?;
            }
            written => written?,
        }
        fail::fail_point!("cas-put-after-write-before-index", |_| Err(io::Error::other("injected")));
        Ok(())
    }

    /// Returns a path for a temporary file that no other has.
    pub(super) fn temporary(&self, hash: &ChunkHash) -> PathBuf {
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.layout.temporary(&format!("{hash}.{}.{n}", std::process::id()))
    }

    /// Reads the file of a chunk that is known to be this long; `None` when it is not as it should be.
    pub(crate) fn read_good(&self, hash: &ChunkHash, len: u64) -> io::Result<Option<Bytes>> {
        match self.read(hash, Some(len))? {
            Found::Good(bytes) => Ok(Some(bytes)),
            Found::Damaged | Found::Missing => Ok(None),
        }
    }

    /// Reads a chunk's file. One of another or an impossible length is damaged, and is not read at all.
    fn read(&self, hash: &ChunkHash, len: Option<u64>) -> io::Result<Found> {
        // What is no file does not have its reader wait for somebody to write.
        let mut open = fs::OpenOptions::new();
        open.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = match open.open(self.layout.chunk(hash)) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return Ok(Found::Missing),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let found = metadata.len();
        let possible = (1..=MAX_CHUNK as u64).contains(&found) && metadata.is_file();
        if !possible || len.is_some_and(|len| len != found) {
            return Ok(Found::Damaged);
        }
        let bytes = direct::read_all(&file, found as usize, &self.buffers)?;
        let good = bytes.len() as u64 == found && ChunkHash::of(&bytes) == *hash;
        Ok(if good { Found::Good(bytes) } else { Found::Damaged })
    }

    /// Looks (again) at a chunk of which it is not sure that it is as it should be. The caller has its turn:
    /// whoever changed it meanwhile is done.
    pub(crate) fn judge(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        let len = match self.known(hash) {
            Known::Absent => return Ok(None),
            Known::There(len) => Some(len),
            Known::Unsure => None,
        };
        // The name says what belongs in the file; an index that is older than the file may know another length.
        match self.read(hash, None).map_err(ChunkError::Io)? {
            Found::Good(bytes) => {
                if len != Some(bytes.len() as u64) {
                    self.index.lock().remove(hash);
                    self.index.lock().insert(*hash, Entry::new(bytes.len() as u64, self.now()));
                }
                Ok(Some(bytes))
            }
            Found::Missing => {
                if len.is_some() {
                    tracing::warn!(chunk = %hash, "the file of a chunk is gone; it is no longer counted");
                    self.index.lock().remove(hash);
                }
                Ok(None)
            }
            Found::Damaged => {
                self.set_aside(hash).map_err(ChunkError::Io)?;
                self.index.lock().remove(hash);
                Err(ChunkError::Corrupt(*hash))
            }
        }
    }

    fn set_aside(&self, hash: &ChunkHash) -> io::Result<()> {
        let Err(error) = self.layout.quarantine(hash) else { return Ok(()) };
        tracing::warn!(chunk = %hash, %error, "a damaged chunk cannot be put into quarantine");
        match fs::remove_file(self.layout.chunk(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a chunk. The caller has its turn.
    pub(crate) fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        let known = self.known(hash);
        if known == Known::Absent {
            return Ok(None);
        }
        let path = self.layout.chunk(hash);
        let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|found| found.len());
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => self.layout.quarantine(hash),
            removed => removed,
        };
        match removed {
            Err(error) if !is_missing(&error) => Err(ChunkError::Io(error)),
            removed => {
                let counted = self.index.lock().remove(hash);
                let freed = found.filter(|_| removed.is_ok());
                self.space.give(freed.unwrap_or(0));
                Ok(counted.or(freed))
            }
        }
    }

    /// Removes a chunk, unless somebody needs it, and returns the bytes freed. Waits for its turn.
    pub(crate) fn evict(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        let _turn = self.turn_of(hash).blocking_lock_owned();
        let evictable = self.index.lock().is_evictable(hash);
        if evictable { self.remove(hash) } else { Ok(None) }
    }

    /// Reads a chunk to see whether it is as it should be. Waits for its turn.
    ///
    /// # Errors
    /// As [`Files::judge`].
    pub(crate) fn check(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        let _turn = self.turn_of(hash).blocking_lock_owned();
        self.judge(hash).map(|bytes| bytes.map(|bytes| bytes.len() as u64))
    }

    /// Adds a chunk whose file was found; tells whether it is one. Waits for its turn.
    pub(crate) fn adopt(&self, hash: &ChunkHash) -> io::Result<bool> {
        let _turn = self.turn_of(hash).blocking_lock_owned();
        if matches!(self.known(hash), Known::There(_)) {
            return Ok(false);
        }
        let metadata = match fs::metadata(self.layout.chunk(hash)) {
            Err(error) if is_missing(&error) => return Ok(false),
            metadata => metadata?,
        };
        if !(1..=MAX_CHUNK as u64).contains(&metadata.len()) {
            tracing::warn!(chunk = %hash, bytes = metadata.len(), "chunk of an impossible length put into quarantine");
            return self.set_aside(hash).map(|()| false);
        }
        // It was used when it was written, at least.
        let written = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let used = written.map_or(0, |at| at.as_millis() as u64);
        self.index.lock().insert(*hash, Entry::new(metadata.len(), used));
        Ok(true)
    }

    /// Takes a chunk off when its file is gone; tells whether it is. Waits for its turn.
    pub(crate) fn drop_if_gone(&self, hash: &ChunkHash) -> io::Result<bool> {
        let _turn = self.turn_of(hash).blocking_lock_owned();
        match fs::metadata(self.layout.chunk(hash)) {
            Err(error) if is_missing(&error) => Ok(self.index.lock().remove(hash).is_some()),
            Err(error) => Err(error),
            Ok(_) => Ok(false),
        }
    }

    /// Writes what changed in the index to its copy on disk.
    pub(crate) fn save(&self) {
        let mut disk = self.disk.lock();
        let changes = self.index.lock().take_changes();
        if changes.is_empty() {
            return;
        }
        if let Some(copy) = &mut *disk
            && let Err(error) = copy.apply(&changes)
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                "the chunk index cannot be written; the chunk files are compared at the next start"
            );
            *disk = None;
        }
    }
}

pub(super) fn failed(error: io::Error, needed: u64) -> ChunkError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ChunkError::Full { needed },
        _ => ChunkError::Io(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
