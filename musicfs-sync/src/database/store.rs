//! SQLite files as files: looking at one before SQLite does, recognising it as ours, putting it into quarantine.
//!
//! Shared by `catalogue.db` and `library.db`. Nothing here locks; the callers hold the only handle.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::UnixNanos;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::error::DatabaseError;

/// How long SQLite waits for a lock. Only one process uses the files, so that a wait this long means trouble.
const BUSY: Duration = Duration::from_secs(5);
/// Room for every statement there is, so that none is compiled twice.
const STATEMENTS: usize = 96;
/// What stands at the beginning of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite keeps beside a database: the write-ahead log, its index, the rollback journal.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What makes a SQLite file one of ours.
pub(crate) struct Schema {
    /// Written into the file's header, so that another program's file is refused.
    pub(crate) application_id: i32,
    /// The steps from an empty file to the newest schema. `user_version` counts those taken: only ever append.
    pub(crate) migrations: &'static [&'static str],
}

/// What a file looks like from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There is none.
    Absent,
    /// It has no bytes.
    Empty,
    /// It is not a SQLite file, for this reason.
    Damaged(&'static str),
    /// It may well be a SQLite file, of so many bytes with its log.
    Plausible {
        /// Size of the file with its write-ahead log.
        bytes: u64,
    },
}

/// Looks at a file's beginning and length, in a few microseconds. SQLite would make up a damaged header from a log,
/// and an empty file into a new database, without a word.
pub(crate) fn look(path: &Path) -> Result<Look, DatabaseError> {
    let failed = |error| DatabaseError::io(path, "read", error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Absent),
        Err(error) => return Err(failed(error)),
    };
    let len = file.metadata().map_err(failed)?.len();
    if len == 0 {
        return Ok(Look::Empty);
    }
    let mut beginning = [0; MAGIC.len()];
    if len < beginning.len() as u64 {
        return Ok(Look::Damaged("it is shorter than the beginning of a database"));
    }
    file.read_exact(&mut beginning).map_err(failed)?;
    if beginning != *MAGIC {
        return Ok(Look::Damaged("it does not begin as a database does"));
    }
    // That a file is shorter than its header says SQLite notices when it opens it.
    let log = beside(path, "-wal").metadata().map_or(0, |meta| meta.len());
    Ok(Look::Plausible { bytes: len + log })
}

/// Opens a file for writing, creates it when it is not there, and brings it to the newest schema. `tune` sets how
/// the file is journalled, once it is known to be ours.
pub(crate) fn open(path: &Path, schema: &Schema, tune: &str) -> Result<Connection, DatabaseError> {
    let sqlite = |error| DatabaseError::sqlite(path, error);
    let mut db = Connection::open(path).map_err(sqlite)?;
    settle(&db).map_err(sqlite)?;
    let known = schema.migrations.len() as i64;
    let (application_id, version) = identify(&db).map_err(sqlite)?;
    if version > known && application_id == schema.application_id {
        return Err(DatabaseError::Newer { path: path.to_owned(), found: version, known });
    }
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    if application_id != schema.application_id && (application_id != 0 || tables > 0) {
        return Err(DatabaseError::Foreign { path: path.to_owned() });
    }
    if application_id == 0 {
        db.pragma_update(None, "application_id", schema.application_id).map_err(sqlite)?;
    }
    db.execute_batch(tune).map_err(sqlite)?;
    if version < known {
        migrate(&mut db, schema).map_err(sqlite)?;
    }
    Ok(db)
}

/// Sets what every connection has, whatever the file.
pub(crate) fn settle(db: &Connection) -> rusqlite::Result<()> {
    // Without this, a statement with a range is compiled again whenever another value is bound to it, in case
    // statistics of the values would have it run another way. That takes ten times as long as running it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.busy_timeout(BUSY)
}

/// Returns a file's application id and schema version.
pub(crate) fn identify(db: &Connection) -> rusqlite::Result<(i32, i64)> {
    let application_id = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application_id, version))
}

fn migrate(db: &mut Connection, schema: &Schema) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again: another process may have been faster.
    let done: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in schema.migrations.iter().skip(usize::try_from(done).unwrap_or(0)) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", schema.migrations.len() as i64)?;
    tx.commit()?;
    // Statistics that are gone from the file are gone from the connection, too.
    db.execute_batch("PRAGMA writable_schema = RESET")
}

/// Returns what SQLite finds wrong, or `None`. `PRAGMA quick_check` reads the whole file.
pub(crate) fn quick_check(db: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

/// Moves a file and what SQLite keeps beside it out of the way, to a name with `stamp` in it, and returns that
/// name. The companions keep their relation, so that SQLite can still open what was moved.
pub(crate) fn quarantine(path: &Path, stamp: UnixNanos) -> Result<PathBuf, DatabaseError> {
    let (secs, _) = stamp.parts();
    let mut target = beside(path, &format!(".quarantine-{secs}"));
    let mut n = 2;
    while target.symlink_metadata().is_ok() {
        target = beside(path, &format!(".quarantine-{secs}-{n}"));
        n += 1;
    }
    for suffix in std::iter::once("").chain(COMPANIONS) {
        let from = beside(path, suffix);
        match fs::rename(&from, beside(&target, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DatabaseError::io(&from, "move away", error)),
        }
    }
    sync_dir(path)?;
    Ok(target)
}

/// Tells whether SQLite's companions of a file are there, with something in them.
pub(crate) fn has_companions(path: &Path) -> bool {
    COMPANIONS.iter().any(|suffix| beside(path, suffix).metadata().is_ok_and(|meta| meta.len() > 0))
}

/// Makes what was renamed in a file's directory last.
pub(crate) fn sync_dir(path: &Path) -> Result<(), DatabaseError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| DatabaseError::io(dir, "sync", error))
}

/// Returns `path` with `suffix` after its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
