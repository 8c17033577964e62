//! The numbers that files took because their names were taken.

use std::collections::HashMap;

use musicfs_core::{FileId, Suffixed, VirtualPath};

use super::{Library, Result, begin, commit, damaged, id_of};

impl Library {
    /// Returns the numbers that files took, each with the path that it would have liked.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn name_numbers(&self) -> Result<HashMap<FileId, (VirtualPath, u32)>> {
        let db = self.db.lock();
        let mut statement = db.prepare_cached("SELECT id, path, n FROM numbers")?;
        let mut rows = statement.query([])?;
        let mut numbers = HashMap::new();
        while let Some(row) = rows.next()? {
            let path = VirtualPath::from_bytes(&row.get::<_, Vec<u8>>(1)?).map_err(damaged)?;
            numbers.insert(id_of(row, 0)?, (path, row.get(2)?));
        }
        Ok(numbers)
    }

    /// Remembers the numbers that files took, in place of those that they had before.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is remembered then.
    pub fn record_numbers(&self, numbers: &[Suffixed]) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let mut changed = 0;
        {
            let mut put = tx.prepare_cached(
                "INSERT INTO numbers(id, path, n) VALUES (?1, ?2, ?3)
                 ON CONFLICT(id) DO UPDATE SET path = excluded.path, n = excluded.n
                 WHERE path <> excluded.path OR n <> excluded.n",
            )?;
            for Suffixed { id, path, n } in numbers {
                changed += put.execute((id.raw(), path.to_bytes(), n))?;
            }
        }
        if changed == 0 { Ok(()) } else { commit(tx) }
    }

    /// Forgets the numbers of files that are no more.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is forgotten then.
    pub fn forget_numbers(&self, files: &[FileId]) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let mut changed = 0;
        for id in files {
            changed += tx.prepare_cached("DELETE FROM numbers WHERE id = ?1")?.execute([id.raw()])?;
        }
        if changed == 0 { Ok(()) } else { commit(tx) }
    }

    /// Forgets the ids and numbers of files that are forgotten for good.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is forgotten then.
    pub fn forget_files(&self, files: &[FileId]) -> Result<()> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let mut changed = 0;
        for id in files {
            for table in ["numbers", "identities"] {
                let mut delete = tx.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?;
                changed += delete.execute([id.raw()])?;
            }
        }
        if changed == 0 { Ok(()) } else { commit(tx) }
    }
}
