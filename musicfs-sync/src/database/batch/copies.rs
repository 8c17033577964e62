//! Which files share an entry, and which of them leads: rule 6 of the tree, on rows.

use std::collections::HashMap;

use musicfs_core::{Cookie, FileId, OriginId, Placement, Standing};
use rusqlite::Connection;

use super::super::error::{Result, damaged};
use super::super::place::Position;
use super::super::rows::ino_of;
use super::super::sql;
use super::{FileRow, Writing, attributes};

/// Loads the ranks of origins.
pub(super) fn ranks(db: &Connection) -> Result<HashMap<i64, u32>> {
    let mut statement = db.prepare_cached(sql::RANKS)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<u32>>(1)?)))?;
    let mut ranks = HashMap::new();
    for row in rows {
        let (origin, rank) = row?;
        ranks.extend(rank.map(|rank| (origin, rank)));
    }
    Ok(ranks)
}

impl Writing<'_> {
    pub(super) fn place(&mut self, placement: &Placement) -> Result<()> {
        let row = self.get(placement.id)?;
        if let Some(at) = row.place
            && self.tree.is_wanted(at, &placement.path)?
        {
            // Its attributes are those of its row already.
            return Ok(());
        }
        self.place_elsewhere(placement, &row)
    }

    pub(super) fn unplace(&mut self, id: FileId) -> Result<()> {
        self.get(id)?;
        self.leave(id)
    }

    /// Shows a file that does not stand where it belongs.
    fn place_elsewhere(&mut self, placement: &Placement, row: &FileRow) -> Result<()> {
        let id = placement.id;
        let group = match row.content {
            Some(content) => self.tree.group(&placement.path, content)?,
            None => None,
        };
        if let Some(at) = group {
            self.leave(id)?;
            return self.join(placement, at);
        }
        if row.place.is_some() && !self.is_alone(row)? {
            self.leave(id)?;
        }
        let row = self.get(id)?;
        let place = self.tree.place(placement, row.place, attributes(&row))?;
        self.set(id, Some(FileRow { place: Some(place), sharing: false, ..row }));
        Ok(())
    }

    /// Finds the place of a file whose content became another.
    pub(super) fn regroup(&mut self, id: FileId, at: Position) -> Result<()> {
        let row = self.get(id)?;
        let path = self.tree.wanted_at(at)?;
        let agrees = match row.content {
            Some(content) => self.tree.group(&path, content)?.is_some(),
            None => false,
        };
        if !agrees && self.is_alone(&row)? {
            self.tree.set_content(at, row.content)?;
            return self.tree.set_attributes(at, attributes(&row));
        }
        self.place_elsewhere(&Placement { id, path, prefer: 0 }, &row)
    }

    /// Takes a file from where it stands; its entry stays while it has a copy.
    pub(super) fn leave(&mut self, id: FileId) -> Result<()> {
        let row = self.get(id)?;
        let Some(at) = row.place else { return Ok(()) };
        self.set(id, Some(FileRow { place: None, sharing: false, ..row.clone() }));
        if row.sharing {
            self.tree.sharing(at)?.retain(|other| *other != id);
            return Ok(());
        }
        match self.best(at, None)? {
            Some(next) => self.hand_over(at, None, next),
            None => self.tree.unplace(id, at),
        }
    }

    /// Adds a file that stands nowhere to its copies.
    fn join(&mut self, placement: &Placement, at: Position) -> Result<()> {
        let id = placement.id;
        let row = self.get(id)?;
        self.set(id, Some(FileRow { place: Some(at), sharing: true, ..row }));
        self.tree.sharing(at)?.push(id);
        self.settle(at)?;
        self.tree.joined(placement, at)
    }

    /// Has the copy lead that is to.
    pub(super) fn settle(&mut self, at: Position) -> Result<()> {
        if self.tree.sharing(at)?.is_empty() {
            return Ok(());
        }
        let leader = self.tree.leader(at)?;
        match self.best(at, Some(leader))? {
            Some(best) if best != leader => self.hand_over(at, Some(leader), best),
            _ => Ok(()),
        }
    }

    /// Has `to` lead in place of `from`, who stays, or of one who left.
    fn hand_over(&mut self, at: Position, from: Option<FileId>, to: FileId) -> Result<()> {
        let row = self.get(to)?;
        self.tree.hand_over(at, to, attributes(&row))?;
        self.set(to, Some(FileRow { sharing: false, ..row }));
        let sharing = self.tree.sharing(at)?;
        sharing.retain(|other| *other != to);
        sharing.extend(from);
        if let Some(from) = from {
            let row = self.get(from)?;
            self.set(from, Some(FileRow { sharing: true, ..row }));
        }
        Ok(())
    }

    /// Returns the copy of the best standing among those that share an entry, and `leader`.
    fn best(&mut self, at: Position, leader: Option<FileId>) -> Result<Option<FileId>> {
        let ids: Vec<FileId> = self.tree.sharing(at)?.iter().copied().chain(leader).collect();
        let mut best = None;
        for id in ids {
            let row = self.get(id)?;
            if row.place != Some(at) {
                return Err(damaged(format!("file {id} shares an entry that it does not name")));
            }
            let rank = self.ranks.get(&row.origin).copied().unwrap_or(u32::MAX);
            let standing = (Standing::new(row.state, rank), id);
            if best.is_none_or(|best| standing < best) {
                best = Some(standing);
            }
        }
        Ok(best.map(|(_, id)| id))
    }

    fn is_alone(&mut self, row: &FileRow) -> Result<bool> {
        match row.place {
            Some(at) => Ok(!row.sharing && self.tree.sharing(at)?.is_empty()),
            None => Ok(true),
        }
    }

    pub(super) fn rank_origins(&mut self, origins: &[OriginId]) -> Result<()> {
        let mut ranks = HashMap::new();
        for (rank, origin) in (0u32..).zip(origins) {
            ranks.entry(self.origin_key(origin)?).or_insert(rank);
        }
        if ranks == self.ranks {
            return Ok(());
        }
        self.db.prepare_cached(sql::FORGET_RANKS)?.execute([])?;
        let mut set = self.db.prepare_cached(sql::SET_RANK)?;
        for (origin, rank) in &ranks {
            set.execute((origin, rank))?;
        }
        drop(set);
        self.ranks = ranks;
        // So that the table tells of all who share, those of this batch included.
        self.write_files()?;
        let shared: Vec<Position> = {
            let mut statement = self.db.prepare_cached(sql::SHARED)?;
            let rows = statement.query_map([], |row| {
                let cookie = Cookie(row.get::<_, i64>(1)?.cast_unsigned());
                Ok(Position { parent: ino_of(row.get(0)?), cookie })
            })?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        shared.into_iter().try_for_each(|at| self.settle(at))
    }
}
