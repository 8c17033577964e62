//! The catalogue on SQLite.
//!
//! **Purpose.** [`Database`] keeps what was observed of the origins' files and the tree they are shown in, as
//! [`MetaDb`] says. It holds nothing that cannot be had again from the origins, so that a damaged file is put into
//! quarantine and a new one begun ([`Database::open_or_rebuild`]).
//!
//! **Invariants.** The tree obeys the rules of [`VirtualTree`](musicfs_core::VirtualTree), against which it is
//! tested; beyond them, the entry of a shown file always has the size and time of the file's version, whichever
//! operation changed it. Sums are kept as batches go and never counted. Cookies, counted in the file, are never
//! given twice. All statements are in `database/sql.rs`.
//!
//! **Locking.** One connection writes, behind a mutex that is held for a batch; up to eight read, each lent for
//! one call. Readers never wait for the writer (write-ahead log), but for who asks by size first (`sizes.rs`).
//! Everything blocks for the disk: async code calls from a blocking thread.
//!
//! **Not here.** Which file is shown where is for the caller to say ([`Op::Place`]); what the user wants is in
//! [`Library`](crate::Library).

mod batch;
mod error;
mod log;
mod open;
mod place;
mod pool;
mod read;
mod rows;
mod sizes;
mod sql;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use musicfs_core::{
    AlbumKey, Applied, Batch, Changes, ChunkManifest, Clock, Cookie, FileId, FileMeta, FilePage, FileQuery,
    FileVersion, Ino, KnownFile, Mark, MarkedFile, MetaDb, MetaError, Node, Op, OriginId, Revision,
    SavedManifest, ShownPage, Totals, UnixNanos,
};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

pub use error::DatabaseError;
use error::Result;
pub(crate) use error::is_damage;

use open::Check;
use pool::Readers;
use rows::State;
use sizes::BySize;

/// Batches from this size on fill the writer's cache; the next smaller one empties it again.
const BIG_BATCH: usize = 256;

/// The catalogue: [`MetaDb`] on SQLite.
///
/// A visitor given to [`MetaDb::known`] must not call the database: it holds one of a bounded number of
/// connections.
pub struct Database {
    // Before the writer, so that the writer is the last to close and leaves no log behind.
    readers: Readers,
    writer: Mutex<Writer>,
    by_size: BySize,
    revisions: watch::Sender<Revision>,
    /// Set when a call met damage: then the file is not marked as closed in order, and checked when it is opened.
    damaged: AtomicBool,
    keep_changes: u64,
}

struct Writer {
    connection: Connection,
    grown: bool,
}

impl Database {
    /// Opens the catalogue at `path`, or creates it. Only its header is looked at for damage.
    ///
    /// # Errors
    /// See [`DatabaseError`]. What is there is left as it is.
    pub fn open(path: &Path) -> std::result::Result<Self, DatabaseError> {
        Self::over(path, open::open(path, Check::Header)?)
    }

    /// Opens the catalogue as [`Database::open`] does, and has SQLite look through all of it.
    ///
    /// # Errors
    /// [`DatabaseError::Corrupt`] when it is damaged or empty, else as [`Database::open`].
    pub fn open_with_integrity_check(path: &Path) -> std::result::Result<Self, DatabaseError> {
        Self::over(path, open::open(path, Check::Whole)?)
    }

    /// Opens the catalogue; when it is damaged, moves it to `<path>.quarantine-<time>` and begins a new one. The
    /// second value is where the damaged one is.
    ///
    /// A catalogue that was closed in order ([`Database::checkpoint`]) opens in a few milliseconds, whatever its
    /// size. Another one is checked, for a second at the most; so are small ones.
    ///
    /// # Errors
    /// See [`DatabaseError`]; the file of another program or of a later version is not damage.
    pub fn open_or_rebuild(
        path: &Path,
        clock: &dyn Clock,
    ) -> std::result::Result<(Self, Option<PathBuf>), DatabaseError> {
        open::open_or_rebuild(path, clock)
    }

    fn over(path: &Path, connection: Connection) -> std::result::Result<Self, DatabaseError> {
        let revision = State::load(&connection)
            .map_err(|failure| DatabaseError::corrupt(path, MetaError::from(failure)))?
            .revision;
        Ok(Self {
            readers: Readers::new(path),
            writer: Mutex::new(Writer { connection, grown: false }),
            by_size: BySize::default(),
            revisions: watch::Sender::new(Revision(revision)),
            damaged: AtomicBool::new(false),
            keep_changes: batch::KEPT_CHANGES,
        })
    }

    /// Records a file, as a batch of one [`Op::PutFile`], and returns its id. It is shown nowhere by that. The time
    /// it was first seen is taken to be that of its version.
    ///
    /// # Errors
    /// [`MetaError::IdTaken`] when the id is another file's, else as any call.
    pub fn upsert_file(&self, file: &FileMeta) -> std::result::Result<FileId, MetaError> {
        let at = file.version.mtime.unwrap_or_default();
        self.apply(&Batch { at, ops: vec![Op::PutFile(Box::new(file.clone()))] })?;
        Ok(file.id)
    }

    /// Brings everything into the one file and marks it as closed in order; frees what memory it can. For the end,
    /// and for long pauses: the database stays usable, and the next batch takes the mark away.
    ///
    /// # Errors
    /// As any call. The catalogue is sound either way.
    pub fn checkpoint(&self) -> std::result::Result<(), MetaError> {
        let mut writer = self.writer.lock();
        let clean = !self.damaged.load(Ordering::Relaxed);
        let done = checkpoint(&writer.connection, clean);
        writer.grown = false;
        self.outcome(done)
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> std::result::Result<T, MetaError> {
        self.outcome(self.readers.with(query))
    }

    /// Gives a result its public form, and remembers damage.
    fn outcome<T>(&self, result: Result<T>) -> std::result::Result<T, MetaError> {
        result.map_err(|failure| {
            let error = MetaError::from(failure);
            if matches!(error, MetaError::Corrupt(_)) {
                self.damaged.store(true, Ordering::Relaxed);
            }
            error
        })
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("revision", &*self.revisions.borrow()).finish_non_exhaustive()
    }
}

fn checkpoint(db: &Connection, clean: bool) -> Result<()> {
    db.execute(sql::SET_CLEAN, [clean])?;
    // Its row says how far it came; a reader that is under way now keeps the log, which harms nothing.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.execute_batch("PRAGMA shrink_memory")?;
    Ok(())
}

impl Writer {
    fn apply(&mut self, batch: &Batch, keep: u64, by_size: &BySize) -> Result<Applied> {
        let tx = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let files = batch.ops.iter().filter(|op| matches!(op, Op::PutFile(_))).count();
        let drops_sizes = by_size.record(files, &tx)?;
        let applied = batch::apply(&tx, batch, keep)?;
        tx.commit()?;
        if drops_sizes {
            by_size.dropped();
        }
        let big = batch.ops.len() >= BIG_BATCH;
        if self.grown
            && !big
            && let Err(error) = self.connection.release_memory()
        {
            tracing::debug!(%error, "the writer's cache could not be emptied");
        }
        self.grown = big;
        Ok(applied)
    }
}

impl MetaDb for Database {
    fn lookup(&self, parent: Ino, name: &[u8]) -> std::result::Result<Option<Node>, MetaError> {
        self.read(|db| read::lookup(db, parent, name))
    }

    fn node(&self, ino: Ino) -> std::result::Result<Option<Node>, MetaError> {
        self.read(|db| read::node(db, ino))
    }

    fn list(&self, dir: Ino, after: Cookie, limit: usize) -> std::result::Result<Vec<Node>, MetaError> {
        self.read(|db| read::list(db, dir, after, limit))
    }

    fn file(&self, id: FileId) -> std::result::Result<Option<FileMeta>, MetaError> {
        self.read(|db| read::file(db, id))
    }

    fn copies(&self, id: FileId) -> std::result::Result<Vec<FileMeta>, MetaError> {
        self.read(|db| read::copies(db, id))
    }

    fn files(
        &self,
        query: &FileQuery,
        after: Option<FileId>,
        limit: usize,
    ) -> std::result::Result<FilePage, MetaError> {
        if let FileQuery::OfSize(..) = query {
            self.outcome(self.by_size.ask(&self.writer))?;
        }
        self.read(|db| read::files(db, query, after, limit))
    }

    fn shown(&self, after: Option<Mark>, limit: usize) -> std::result::Result<ShownPage, MetaError> {
        self.read(|db| read::shown(db, after, limit))
    }

    fn marked(&self, ids: &[FileId]) -> std::result::Result<Vec<MarkedFile>, MetaError> {
        self.read(|db| read::marked(db, ids))
    }

    fn known(
        &self,
        origin: &OriginId,
        visit: &mut dyn FnMut(KnownFile),
    ) -> std::result::Result<(), MetaError> {
        self.read(|db| read::known(db, origin, visit))
    }

    fn missing_since(&self, id: FileId) -> std::result::Result<Option<UnixNanos>, MetaError> {
        self.read(|db| read::missing_since(db, id))
    }

    fn multi_disc_albums(&self) -> std::result::Result<Vec<AlbumKey>, MetaError> {
        self.read(read::multi_disc_albums)
    }

    fn manifest(&self, id: FileId) -> std::result::Result<Option<(FileVersion, ChunkManifest)>, MetaError> {
        self.read(|db| read::manifest(db, id))
    }

    fn manifests(
        &self,
        after: Option<FileId>,
        limit: usize,
    ) -> std::result::Result<Vec<SavedManifest>, MetaError> {
        self.read(|db| read::manifests(db, after, limit))
    }

    fn note(&self, key: &str) -> std::result::Result<Option<String>, MetaError> {
        self.read(|db| read::note(db, key))
    }

    fn totals(&self) -> std::result::Result<Totals, MetaError> {
        self.read(|db| Ok(State::load(db)?.totals))
    }

    fn revision(&self) -> std::result::Result<Revision, MetaError> {
        self.read(|db| Ok(Revision(State::load(db)?.revision)))
    }

    fn changes_since(&self, after: Revision, limit: usize) -> std::result::Result<Changes, MetaError> {
        self.read(|db| read::changes_since(db, after, limit))
    }

    fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    fn apply(&self, batch: &Batch) -> std::result::Result<Applied, MetaError> {
        let mut writer = self.writer.lock();
        let applied = self.outcome(writer.apply(batch, self.keep_changes, &self.by_size))?;
        // Told while the writer is held, so that revisions are told in their order.
        self.revisions.send_replace(applied.revision);
        Ok(applied)
    }
}
