//! What the user wants kept in the cache.

use musicfs_core::{FileId, OriginId, Pin, UnixNanos, VirtualPath};
use rusqlite::Connection;

use super::{Result, begin, commit, damaged};

const FILE: i64 = 0;
const FOLDER: i64 = 1;
const ORIGIN: i64 = 2;

pub(super) fn all(db: &Connection) -> Result<Vec<Pin>> {
    let mut statement = db.prepare_cached("SELECT kind, key FROM pins ORDER BY kind, key")?;
    let mut rows = statement.query([])?;
    let mut pins = Vec::new();
    while let Some(row) = rows.next()? {
        pins.push(pin_of(row.get(0)?, row.get(1)?)?);
    }
    Ok(pins)
}

pub(super) fn add(db: &Connection, pin: &Pin, at: UnixNanos) -> Result<bool> {
    let (kind, key) = row_of(pin);
    let tx = begin(db)?;
    let added = tx
        .prepare_cached("INSERT INTO pins(kind, key, since) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute((kind, key, at.0))?;
    if added == 0 { Ok(false) } else { commit(tx).map(|()| true) }
}

pub(super) fn remove(db: &Connection, pin: &Pin) -> Result<bool> {
    let (kind, key) = row_of(pin);
    let tx = begin(db)?;
    let removed = tx.prepare_cached("DELETE FROM pins WHERE kind = ?1 AND key = ?2")?.execute((kind, key))?;
    if removed == 0 { Ok(false) } else { commit(tx).map(|()| true) }
}

fn row_of(pin: &Pin) -> (i64, Vec<u8>) {
    match pin {
        Pin::File(id) => (FILE, id.raw().to_be_bytes().to_vec()),
        Pin::Folder(path) => (FOLDER, path.to_bytes()),
        Pin::Origin(origin) => (ORIGIN, origin.as_str().as_bytes().to_vec()),
    }
}

fn pin_of(kind: i64, key: Vec<u8>) -> Result<Pin> {
    match kind {
        FILE => {
            let raw = key.try_into().map(i64::from_be_bytes).ok().and_then(FileId::from_raw);
            raw.map(Pin::File).ok_or_else(|| damaged("a pin is not of a file"))
        }
        FOLDER => VirtualPath::from_bytes(&key).map(Pin::Folder).map_err(damaged),
        _ => String::from_utf8(key).map(|name| Pin::Origin(OriginId::from(name))).map_err(damaged),
    }
}
