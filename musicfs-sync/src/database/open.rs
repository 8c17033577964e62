//! Opening the catalogue: telling a sound file from a damaged one without reading it all, and starting afresh
//! when it is damaged.
//!
//! A file that its last user closed in order is taken for sound when its header is, unless it is so small that
//! checking costs nothing. Otherwise SQLite looks through it, for a bounded time: what a longer look would have
//! found is found when it is met, and then the file is not marked as closed in order.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use musicfs_core::{Clock, MetaError};
use rusqlite::{Connection, ErrorCode};

use super::error::{DatabaseError, Failure};
use super::rows::State;
use super::store::{self, Look};
use super::{Database, sql};

/// Files up to this size are checked whenever they are opened: it takes a few milliseconds.
const ALWAYS_CHECKED: u64 = 1 << 20;
/// How long the check of a file that was not closed in order may take: some 300,000 tracks. A mount waits for it.
const CHECK_BUDGET: Duration = Duration::from_secs(1);

/// How much an opening looks for damage.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// At the header only.
    Header,
    /// As much as the file's history calls for.
    Suspicion,
    /// At everything.
    Whole,
}

/// Opens or creates the catalogue for writing.
pub(super) fn open(path: &Path, check: Check) -> Result<Connection, DatabaseError> {
    if !matches!(check, Check::Header) {
        fail::fail_point!("db-open-corrupt", |_| Err(DatabaseError::corrupt(path, "as the failpoint says")));
    }
    let bytes = match store::look(path)? {
        Look::Damaged(reason) => return Err(DatabaseError::corrupt(path, reason)),
        Look::Empty if !matches!(check, Check::Header) => {
            return Err(DatabaseError::corrupt(path, "it is empty"));
        }
        Look::Absent | Look::Empty => 0,
        Look::Plausible { bytes } => bytes,
    };
    let db = store::open(path, &sql::SCHEMA, sql::TUNE)?;
    let state = State::load(&db).map_err(|failure| match failure {
        Failure::Sql(error) => DatabaseError::sqlite(path, error),
        Failure::Meta(MetaError::Corrupt(reason)) => DatabaseError::corrupt(path, reason),
        Failure::Meta(error) => DatabaseError::Storage { path: path.to_owned(), source: error.into() },
    })?;
    let found = match check {
        Check::Header => None,
        Check::Suspicion if state.clean && bytes > ALWAYS_CHECKED => None,
        Check::Suspicion => check_within(&db, CHECK_BUDGET).map_err(|e| DatabaseError::sqlite(path, e))?,
        Check::Whole => store::quick_check(&db).map_err(|e| DatabaseError::sqlite(path, e))?,
    };
    // The check has filled the cache with pages that nobody asked for.
    db.release_memory().map_err(|error| DatabaseError::sqlite(path, error))?;
    match found {
        None => Ok(db),
        Some(reason) => Err(DatabaseError::corrupt(path, reason)),
    }
}

/// Checks for as long as `budget` allows; nothing found by then counts as nothing wrong.
fn check_within(db: &Connection, budget: Duration) -> rusqlite::Result<Option<String>> {
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        let interrupt = db.get_interrupt_handle();
        scope.spawn(move || {
            if wait.recv_timeout(budget) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let checked = store::quick_check(db);
        drop(done);
        match checked {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                tracing::warn!(
                    seconds = budget.as_secs_f32(),
                    "the catalogue is too large to be checked whole"
                );
                Ok(None)
            }
            checked => checked,
        }
    })
}

/// See [`Database::open_or_rebuild`].
pub(super) fn open_or_rebuild(
    path: &Path,
    clock: &dyn Clock,
) -> Result<(Database, Option<PathBuf>), DatabaseError> {
    match open(path, Check::Suspicion) {
        Ok(db) => Ok((Database::over(path, db)?, None)),
        Err(DatabaseError::Corrupt { reason, .. }) => {
            let moved = store::quarantine(path, clock.unix())?;
            tracing::error!(
                catalogue = %path.display(),
                quarantine = %moved.display(),
                %reason,
                "the catalogue is damaged: it was put into quarantine, and a new one begins"
            );
            Ok((Database::over(path, open(path, Check::Header)?)?, Some(moved)))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_that_takes_too_long_is_cut_and_finds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Connection::open(dir.path().join("x.db")).unwrap();
        db.execute_batch(
            "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
             INSERT INTO t SELECT i FROM n;",
        )
        .unwrap();
        assert_eq!(check_within(&db, Duration::ZERO).unwrap(), None);
        assert_eq!(check_within(&db, Duration::from_secs(60)).unwrap(), None);
    }
}
