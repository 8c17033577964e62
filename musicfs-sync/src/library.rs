//! What the user means: `library.db`.
//!
//! **Purpose.** [`Library`] keeps what can be had from nowhere else: so far the ids of files whose path does not
//! give it (they moved, or two paths hash alike), the numbers that files took because their names were taken, the
//! origins that there ever were, what is pinned, and what is not to be seen. A scan may add to it; nothing in it is ever
//! rebuilt or guessed, nor dropped but the identities and numbers of files that are forgotten by the user's word or age
//! setting.
//!
//! **Invariants.** Every change is on the disk when its call returns. At rest the library is one file (a rollback
//! journal, no write-ahead log), so that a copy of that file is a copy of everything. The newest three backups
//! stand beside it as `library.db.backup-<n>`; each appears whole or not at all. A damaged or vanished library is
//! restored from the newest backup that is sound, and whoever opens it is told ([`Restored`]); the damaged file is
//! kept.
//!
//! **Locking.** One connection behind a mutex, held for one call. Everything blocks for the disk.
//!
//! **Not here.** What is observed of origins and can be observed again is in [`Database`](crate::Database).

mod backup;
mod exclusions;
mod numbers;
mod pins;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use musicfs_core::{Clock, FileId, OriginId, OriginPath, Pin, UnixNanos};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

pub use exclusions::Exclusions;

use crate::DatabaseError;
use crate::database::store::{self, Look, Schema};

/// "MFSL": tells a library from other SQLite files.
const APPLICATION_ID: i32 = 0x4d46_534c;

const SCHEMA: Schema = Schema { application_id: APPLICATION_ID, migrations: &[FIRST, PINS, EXCLUDED] };

/// One file at rest, and nothing acknowledged that a power cut could take back (`EXTRA` is `FULL` and syncs the
/// directory when the journal goes).
const TUNE: &str = "
    PRAGMA journal_mode = DELETE;
    PRAGMA synchronous = EXTRA;
    PRAGMA cache_size = -512;
";

const FIRST: &str = "
    -- One row: changes made, and how many had been when the last backup was taken.
    CREATE TABLE state(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL,
        backed_up INTEGER NOT NULL
    ) STRICT;
    INSERT INTO state VALUES (1, 0, 0);
    CREATE TABLE identities(
        origin TEXT NOT NULL,
        path BLOB NOT NULL,
        id INTEGER NOT NULL UNIQUE,
        PRIMARY KEY(origin, path)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE numbers(
        id INTEGER PRIMARY KEY,
        path BLOB NOT NULL,
        n INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE origins(
        name TEXT PRIMARY KEY,
        first_seen INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What is to be kept in the cache: a file by its id, a directory by its path, an origin by its name.
const PINS: &str = "
    CREATE TABLE pins(
        kind INTEGER NOT NULL CHECK (kind IN (0, 1, 2)),
        key BLOB NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY(kind, key)
    ) STRICT, WITHOUT ROWID;
";

/// What the user does not want to see.
const EXCLUDED: &str = "
    CREATE TABLE excluded(
        origin TEXT NOT NULL,
        path BLOB NOT NULL,
        PRIMARY KEY(origin, path)
    ) STRICT, WITHOUT ROWID;
";

const CHANGED: &str = "UPDATE state SET generation = generation + 1 WHERE id = 1";

/// The id of a file that does not follow from its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The origin.
    pub origin: OriginId,
    /// The file's path there.
    pub path: OriginPath,
    /// The id that it has.
    pub id: FileId,
}

/// What opening did about a library that was damaged or gone. The user must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup that the library was restored from; `None` when there was no sound one, and it starts empty.
    pub from: Option<PathBuf>,
    /// Where the damaged file is now; `None` when it was gone.
    pub quarantined: Option<PathBuf>,
}

/// A failure of the library.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It could not be opened, restored or backed up.
    #[error("the library cannot be used")]
    Open(#[from] DatabaseError),
    /// The file already has another id, or the id another file.
    #[error("{origin}:{path} cannot take the id {id}: it has another, or another file has that one")]
    Conflict {
        /// The origin.
        origin: OriginId,
        /// The file's path there.
        path: OriginPath,
        /// The id.
        id: FileId,
    },
    /// What is stored is damaged; opening it again restores it.
    #[error("the library is damaged: {0}")]
    Corrupt(String),
    /// The storage failed or is full.
    #[error("the library's storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<rusqlite::Error> for LibraryError {
    fn from(error: rusqlite::Error) -> Self {
        if crate::database::is_damage(&error) {
            Self::Corrupt(error.to_string())
        } else {
            Self::Storage(error.into())
        }
    }
}

type Result<T> = std::result::Result<T, LibraryError>;

/// The user's library.
pub struct Library {
    path: PathBuf,
    db: Mutex<Connection>,
}

impl Library {
    /// Opens the library at `path`, or creates it. When it is damaged, or gone while backups of it are there, it is
    /// restored from the newest sound backup; without one a new library begins. The second value says so.
    ///
    /// # Errors
    /// [`LibraryError::Open`] when the file is another program's or a later version's, or the storage fails.
    pub fn open(path: &Path, clock: &dyn Clock) -> Result<(Self, Option<Restored>)> {
        let (db, restored) = match open_sound(path) {
            Ok(Some(db)) => (db, None),
            Ok(None) if backup::list(path)?.is_empty() && !store::has_companions(path) => {
                (create(path)?, None)
            }
            Ok(None) => restore(path, "it is gone", clock)?,
            Err(DatabaseError::Corrupt { reason, .. }) => restore(path, &reason, clock)?,
            Err(error) => return Err(error.into()),
        };
        Ok((Self { path: path.to_owned(), db: Mutex::new(db) }, restored))
    }

    /// Looks whether the library at `path` is sound, and tells whether there is one. Restores nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Corrupt`] when it is damaged; opening it then restores it.
    pub fn check(path: &Path) -> std::result::Result<bool, DatabaseError> {
        open_sound(path).map(|db| db.is_some())
    }

    /// Returns the files whose ids do not follow from their paths.
    ///
    /// # Errors
    /// [`LibraryError::Storage`] or [`LibraryError::Corrupt`].
    pub fn identities(&self) -> Result<Vec<Identity>> {
        let db = self.db.lock();
        let mut statement =
            db.prepare_cached("SELECT origin, path, id FROM identities ORDER BY origin, path")?;
        let mut rows = statement.query([])?;
        let mut identities = Vec::new();
        while let Some(row) = rows.next()? {
            identities.push(Identity {
                origin: OriginId::from(row.get::<_, String>(0)?),
                path: OriginPath::new(row.get::<_, Vec<u8>>(1)?).map_err(damaged)?,
                id: id_of(row, 2)?,
            });
        }
        Ok(identities)
    }

    /// Remembers an identity; one that is known already changes nothing.
    ///
    /// # Errors
    /// [`LibraryError::Conflict`] when the file has another id or the id another file; else as any call.
    pub fn add_identity(&self, identity: &Identity) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let Identity { origin, path, id } = identity;
        let key = (origin.as_str(), path.as_bytes());
        let known: Option<i64> = tx
            .prepare_cached("SELECT id FROM identities WHERE origin = ?1 AND path = ?2")?
            .query_row(key, |row| row.get(0))
            .optional()?;
        if known == Some(id.raw()) {
            return Ok(());
        }
        let added = tx
            .prepare_cached(
                "INSERT INTO identities(origin, path, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute((key.0, key.1, id.raw()))?;
        if added == 0 {
            return Err(LibraryError::Conflict { origin: origin.clone(), path: path.clone(), id: *id });
        }
        commit(tx)
    }

    /// Remembers that files have moved: from now on each has its id at this path, and at no other.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is remembered then.
    pub fn move_identities(&self, moved: &[Identity]) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let db = self.db.lock();
        let tx = begin(&db)?;
        for Identity { origin, path, id } in moved {
            tx.prepare_cached("DELETE FROM identities WHERE id = ?1 OR (origin = ?2 AND path = ?3)")?
                .execute((id.raw(), origin.as_str(), path.as_bytes()))?;
        }
        for Identity { origin, path, id } in moved {
            // A file that is back where it began needs no exception.
            if FileId::derive(origin, path, 0) != *id {
                tx.prepare_cached("INSERT INTO identities(origin, path, id) VALUES (?1, ?2, ?3)")?
                    .execute((origin.as_str(), path.as_bytes(), id.raw()))?;
            }
        }
        commit(tx)
    }

    /// Returns the origins that there ever were, with the time each was first seen.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn origins(&self) -> Result<Vec<(OriginId, UnixNanos)>> {
        let db = self.db.lock();
        let mut statement = db.prepare_cached("SELECT name, first_seen FROM origins ORDER BY name")?;
        let origins = statement
            .query_map([], |row| Ok((OriginId::from(row.get::<_, String>(0)?), UnixNanos(row.get(1)?))))?;
        Ok(origins.collect::<rusqlite::Result<_>>()?)
    }

    /// Remembers an origin; one that is known already keeps its time.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn record_origin(&self, origin: &OriginId, at: UnixNanos) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let added = tx
            .prepare_cached("INSERT INTO origins(name, first_seen) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute((origin.as_str(), at.0))?;
        if added == 0 { Ok(()) } else { commit(tx) }
    }

    /// Returns what is pinned.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn pins(&self) -> Result<Vec<Pin>> {
        pins::all(&self.db.lock())
    }

    /// Remembers a pin; tells whether it is new.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn pin(&self, pin: &Pin, at: UnixNanos) -> Result<bool> {
        pins::add(&self.db.lock(), pin, at)
    }

    /// Forgets a pin; tells whether it was there.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn unpin(&self, pin: &Pin) -> Result<bool> {
        pins::remove(&self.db.lock(), pin)
    }

    /// Takes a backup when anything changed since the last one, and returns its path; drops all but the newest
    /// three.
    ///
    /// # Errors
    /// [`LibraryError::Open`] when the file cannot be written, else as any call. Older backups are kept then.
    pub fn backup(&self) -> Result<Option<PathBuf>> {
        backup::take(&self.db.lock(), &self.path)
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens a library that is there and sound; `None` when there is none.
fn open_sound(path: &Path) -> std::result::Result<Option<Connection>, DatabaseError> {
    match store::look(path)? {
        Look::Absent => return Ok(None),
        Look::Empty => return Err(DatabaseError::corrupt(path, "it is empty")),
        Look::Damaged(reason) => return Err(DatabaseError::corrupt(path, reason)),
        Look::Plausible { .. } => {}
    }
    let db = create(path)?;
    // It is small: a thousand exceptions are some 100 KB.
    match store::quick_check(&db).map_err(|error| DatabaseError::sqlite(path, error))? {
        None => Ok(Some(db)),
        Some(reason) => Err(DatabaseError::corrupt(path, reason)),
    }
}

fn create(path: &Path) -> std::result::Result<Connection, DatabaseError> {
    let db = store::open(path, &SCHEMA, TUNE)?;
    let state = db.query_row("SELECT generation, backed_up FROM state WHERE id = 1", [], |_| Ok(()));
    state.map_err(|error| DatabaseError::sqlite(path, error))?;
    Ok(db)
}

/// Puts what is left of a library away and begins again with its newest sound backup.
fn restore(
    path: &Path,
    reason: &str,
    clock: &dyn Clock,
) -> std::result::Result<(Connection, Option<Restored>), DatabaseError> {
    let there = path.symlink_metadata().is_ok() || store::has_companions(path);
    let quarantined = if there { Some(store::quarantine(path, clock.unix())?) } else { None };
    let from = backup::restore(path)?;
    let db = create(path)?;
    match &from {
        Some(from) => tracing::error!(
            library = %path.display(), backup = %from.display(), quarantine = ?quarantined, %reason,
            "the library could not be read and was restored from a backup: what was changed since then is missing"
        ),
        None => tracing::error!(
            library = %path.display(), quarantine = ?quarantined, %reason,
            "the library could not be read and there is no sound backup: a new one begins"
        ),
    }
    Ok((db, Some(Restored { from, quarantined })))
}

fn begin(db: &Connection) -> rusqlite::Result<Transaction<'_>> {
    Transaction::new_unchecked(db, TransactionBehavior::Immediate)
}

/// Ends a transaction that changed something.
fn commit(tx: Transaction<'_>) -> Result<()> {
    tx.prepare_cached(CHANGED)?.execute([])?;
    Ok(tx.commit()?)
}

fn id_of(row: &Row<'_>, column: usize) -> Result<FileId> {
    let raw = row.get(column)?;
    FileId::from_raw(raw).ok_or_else(|| damaged(format!("{raw} is not the id of a file")))
}

fn damaged(what: impl ToString) -> LibraryError {
    LibraryError::Corrupt(what.to_string())
}
