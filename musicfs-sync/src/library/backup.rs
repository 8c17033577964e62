//! Backups of the library: whole files beside it, numbered upwards.
//!
//! A backup is written under another name, synced, and then renamed, so that a file named `.backup-<n>` is whole
//! however the machine stopped. Before it is restored from, it is opened and looked through like the library
//! itself; restoring copies it, in the same careful way.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{LibraryError, SCHEMA};
use crate::DatabaseError;
use crate::database::store;

/// How many backups are kept. More than one, because damage may be noticed late.
const KEPT: usize = 3;

/// Takes a backup when the library changed since the last.
pub(super) fn take(db: &Connection, path: &Path) -> Result<Option<PathBuf>, LibraryError> {
    let backups = list(path)?;
    let (generation, backed_up): (i64, i64) =
        db.query_row("SELECT generation, backed_up FROM state WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let nothing_new = if backups.is_empty() { generation == 0 } else { generation == backed_up };
    if nothing_new {
        return Ok(None);
    }
    let n = backups.last().map_or(1, |(n, _)| n + 1);
    let target = store::beside(path, &format!(".backup-{n}"));
    let temp = store::beside(path, ".backup-new");
    remove(&temp)?;
    // As bytes: a path need not be UTF-8.
    db.execute("VACUUM INTO CAST(?1 AS TEXT)", [temp.as_os_str().as_bytes()])?;
    settle(&temp, &target)?;
    db.execute("UPDATE state SET backed_up = ?1 WHERE id = 1", [generation])?;
    let surplus = (backups.len() + 1).saturating_sub(KEPT);
    for (_, old) in backups.iter().take(surplus) {
        remove(old)?;
    }
    Ok(Some(target))
}

/// Returns the backups of a library with their numbers, oldest first.
pub(super) fn list(path: &Path) -> Result<Vec<(u64, PathBuf)>, DatabaseError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error| DatabaseError::io(dir, "list", error);
    let prefix = store::beside(path, ".backup-");
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut backups = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            backups.push((number, entry.path()));
        }
    }
    backups.sort_unstable();
    Ok(backups)
}

/// Puts a copy of the newest sound backup in the library's place, and returns which; `None` when there is none.
pub(super) fn restore(path: &Path) -> Result<Option<PathBuf>, DatabaseError> {
    for (_, backup) in list(path)?.into_iter().rev() {
        match is_sound(&backup) {
            Ok(()) => {
                let temp = store::beside(path, ".restoring");
                fs::copy(&backup, &temp).map_err(|error| DatabaseError::io(&temp, "write", error))?;
                settle(&temp, path)?;
                return Ok(Some(backup));
            }
            Err(reason) => {
                tracing::error!(backup = %backup.display(), %reason, "a backup of the library is not sound");
            }
        }
    }
    Ok(None)
}

/// Looks through a backup without writing to it.
fn is_sound(backup: &Path) -> Result<(), String> {
    let db =
        Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| e.to_string())?;
    let (application_id, version) = store::identify(&db).map_err(|e| e.to_string())?;
    if application_id != SCHEMA.application_id {
        return Err("it is not a library".to_owned());
    }
    if version < 1 || version > SCHEMA.migrations.len() as i64 {
        return Err(format!("its schema {version} is not known"));
    }
    store::quick_check(&db).map_err(|e| e.to_string())?.map_or(Ok(()), Err)
}

/// Makes a finished file last, under its final name.
fn settle(temp: &Path, target: &Path) -> Result<(), DatabaseError> {
    let synced = File::open(temp).and_then(|file| file.sync_all());
    synced.map_err(|error| DatabaseError::io(temp, "sync", error))?;
    fs::rename(temp, target).map_err(|error| DatabaseError::io(target, "write", error))?;
    store::sync_dir(target)
}

fn remove(path: &Path) -> Result<(), DatabaseError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatabaseError::io(path, "remove", error))
        }
        _ => Ok(()),
    }
}
