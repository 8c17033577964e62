//! What the user does not want to see.

use std::collections::HashSet;

use musicfs_core::{OriginId, OriginPath};

use super::{Library, Result, begin, commit, damaged};

impl Library {
    /// Remembers that a file or a folder of an origin is not to be shown, whatever a scan finds.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is remembered then.
    pub fn exclude(&self, origin: &OriginId, path: &OriginPath) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let added = tx
            .prepare_cached("INSERT INTO excluded(origin, path) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute((origin.as_str(), path.as_bytes()))?;
        if added == 0 { Ok(()) } else { commit(tx) }
    }

    /// Takes an exclusion back; tells whether there was one.
    ///
    /// # Errors
    /// As [`Library::exclude`].
    pub fn include(&self, origin: &OriginId, path: &OriginPath) -> Result<bool> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let removed = tx
            .prepare_cached("DELETE FROM excluded WHERE origin = ?1 AND path = ?2")?
            .execute((origin.as_str(), path.as_bytes()))?;
        if removed > 0 {
            commit(tx)?;
        }
        Ok(removed > 0)
    }

    /// Returns what is excluded of an origin.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn excluded(&self, origin: &OriginId) -> Result<HashSet<OriginPath>> {
        let db = self.db.lock();
        let mut statement = db.prepare_cached("SELECT path FROM excluded WHERE origin = ?1")?;
        let mut rows = statement.query([origin.as_str()])?;
        let mut paths = HashSet::new();
        while let Some(row) = rows.next()? {
            paths.insert(OriginPath::new(row.get::<_, Vec<u8>>(0)?).map_err(damaged)?);
        }
        Ok(paths)
    }
}
