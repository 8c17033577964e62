//! What the user does not want to see.

use std::collections::{HashMap, HashSet};

use musicfs_core::{OriginId, OriginPath};

use super::{Library, Result, begin, commit, damaged};

const EXCLUDE: &str = "INSERT INTO excluded(origin, path) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const INCLUDE: &str = "DELETE FROM excluded WHERE origin = ?1 AND path = ?2";

/// Files that the user does not want to see, and folders with all below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions(HashMap<OriginId, HashSet<OriginPath>>);

impl Exclusions {
    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether anything of an origin is excluded.
    pub fn is_any_of(&self, origin: &OriginId) -> bool {
        self.0.get(origin).is_some_and(|paths| !paths.is_empty())
    }

    /// Returns the file or folder that a path is excluded by: itself, or one above it.
    pub fn covering(&self, origin: &OriginId, path: &OriginPath) -> Option<OriginPath> {
        let paths = self.0.get(origin)?;
        let mut at = path.clone();
        while !at.is_root() {
            if paths.contains(&at) {
                return Some(at);
            }
            at = at.parent();
        }
        None
    }

    /// Returns all, in order.
    pub fn all(&self) -> Vec<(OriginId, OriginPath)> {
        let of = |(origin, paths): (&OriginId, &HashSet<OriginPath>)| {
            paths.iter().map(|path| (origin.clone(), path.clone())).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.0.iter().flat_map(of).collect();
        all.sort();
        all
    }

    /// Adds one.
    pub fn insert(&mut self, origin: OriginId, path: OriginPath) {
        self.0.entry(origin).or_default().insert(path);
    }
}

impl Library {
    /// Remembers that files and folders of an origin are not to be shown, whatever a scan finds.
    ///
    /// # Errors
    /// As [`Library::identities`]; nothing is remembered then.
    pub fn exclude(&self, origin: &OriginId, paths: &[OriginPath]) -> Result<()> {
        self.change_excluded(EXCLUDE, origin, paths).map(drop)
    }

    /// Takes exclusions back; returns how many there were.
    ///
    /// # Errors
    /// As [`Library::exclude`].
    pub fn include(&self, origin: &OriginId, paths: &[OriginPath]) -> Result<usize> {
        self.change_excluded(INCLUDE, origin, paths)
    }

    fn change_excluded(&self, statement: &str, origin: &OriginId, paths: &[OriginPath]) -> Result<usize> {
        let db = self.db.lock();
        let tx = begin(&db)?;
        let mut changed = 0;
        for path in paths {
            changed += tx.prepare_cached(statement)?.execute((origin.as_str(), path.as_bytes()))?;
        }
        if changed > 0 {
            commit(tx)?;
        }
        Ok(changed)
    }

    /// Remembers that what was excluded at some paths is at others now.
    ///
    /// # Errors
    /// As [`Library::exclude`].
    pub fn move_exclusions(&self, origin: &OriginId, from: &[OriginPath], to: &[OriginPath]) -> Result<()> {
        if from.is_empty() && to.is_empty() {
            return Ok(());
        }
        let db = self.db.lock();
        let tx = begin(&db)?;
        for (statement, paths) in [(INCLUDE, from), (EXCLUDE, to)] {
            for path in paths {
                tx.prepare_cached(statement)?.execute((origin.as_str(), path.as_bytes()))?;
            }
        }
        commit(tx)
    }

    /// Returns what is excluded.
    ///
    /// # Errors
    /// As [`Library::identities`].
    pub fn exclusions(&self) -> Result<Exclusions> {
        let db = self.db.lock();
        let mut statement = db.prepare_cached("SELECT origin, path FROM excluded")?;
        let mut rows = statement.query([])?;
        let mut all = Exclusions::default();
        while let Some(row) = rows.next()? {
            let path = OriginPath::new(row.get::<_, Vec<u8>>(1)?).map_err(damaged)?;
            all.insert(OriginId::from(row.get::<_, String>(0)?), path);
        }
        Ok(all)
    }
}
