//! The tree within a batch: the rules of [`VirtualTree`](musicfs_core::VirtualTree), on rows.
//!
//! Entries are written as they come, because the next one may collide with them; the times of directories whose
//! entries changed are written once, at the end. A new entry is inserted without asking whether its name is free:
//! the unique index answers. What a batch has found out is kept for the batch, and dropped as soon as an entry
//! goes that it rests on.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use musicfs_core::{Cookie, FileId, Ino, Name, Placement, ROOT_INODE, Suffixed, UnixNanos, VirtualPath};
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::error::{Result, damaged};
use super::log::ChangeLog;
use super::rows::{cookie_value, file_id_of, ino_of, ino_value, name_of};
use super::sql;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Position {
    pub(super) parent: Ino,
    pub(super) cookie: Cookie,
}

/// What a file's entry shows besides its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) size: u64,
    pub(super) mtime: UnixNanos,
    /// What it holds, as a number.
    pub(super) content: Option<i64>,
}

/// The tree while a batch is applied to it.
pub(super) struct TreeWriter<'c> {
    db: &'c Connection,
    insert: CachedStatement<'c>,
    at: UnixNanos,
    last_cookie: u64,
    dirs: u64,
    log: ChangeLog,
    suffixed: Vec<Suffixed>,
    /// Directories by their parent and the very name they have.
    known: HashMap<(Ino, Name), Ino>,
    /// By directory and wanted name, a number up to which all are taken by others.
    taken: HashMap<Ino, HashMap<Name, u32>>,
    /// Directories made in this batch, which have its time already. Those that went again do no harm here: should
    /// they come back, it is within the batch.
    fresh: HashSet<Ino>,
    /// Directories whose time is to be set.
    touched: HashSet<Ino>,
    /// Files that share an entry and do not lead. An entry is asked about before the first change to it, so that
    /// what the table says then is what held before the batch.
    sharing: HashMap<Position, Vec<FileId>>,
}

/// What is left of a batch's work on the tree.
pub(super) struct TreeDone {
    pub(super) last_cookie: u64,
    pub(super) dirs: u64,
    pub(super) log: ChangeLog,
    pub(super) suffixed: Vec<Suffixed>,
}

/// What an entry is.
struct EntryRow {
    name: Name,
    wanted: Option<Vec<u8>>,
    ino: Ino,
}

/// The directory that a file wants to stand in.
struct Resolved {
    ino: Ino,
    /// Whether all names on the way are those asked for.
    exact: bool,
}

impl<'c> TreeWriter<'c> {
    pub(super) fn new(db: &'c Connection, at: UnixNanos, last_cookie: u64, dirs: u64) -> Result<Self> {
        Ok(Self {
            db,
            insert: db.prepare_cached(sql::INSERT_NODE)?,
            at,
            last_cookie,
            dirs,
            log: ChangeLog::new(),
            suffixed: Vec::new(),
            known: HashMap::new(),
            taken: HashMap::new(),
            fresh: HashSet::new(),
            touched: HashSet::new(),
            sharing: HashMap::new(),
        })
    }

    pub(super) fn log(&mut self) -> &mut ChangeLog {
        &mut self.log
    }

    /// Shows a file that stands at `old` now, or nowhere, and returns where it stands then.
    pub(super) fn place(
        &mut self,
        placement: &Placement,
        old: Option<Position>,
        shows: Attributes,
    ) -> Result<Position> {
        match old {
            None => self.place_new(placement, shows),
            Some(old) => self.place_again(placement, old, shows),
        }
    }

    fn place_new(&mut self, placement: &Placement, shows: Attributes) -> Result<Position> {
        let dir = self.dir_of(&placement.path)?;
        let leaf = placement.path.leaf();
        let ino = placement.id.ino();
        if placement.prefer >= 2 {
            let name = leaf.with_suffix(placement.prefer);
            if let Some(cookie) = self.attach(dir.ino, &name, ino, shows, Some(&placement.path))? {
                return Ok(self.placed(placement, dir.ino, cookie, placement.prefer));
            }
        }
        let first = self.first_candidate(dir.ino, leaf);
        for n in first.. {
            let wanted = (n > 1 || !dir.exact).then_some(&placement.path);
            if let Some(cookie) = self.attach(dir.ino, &leaf.with_suffix(n), ino, shows, wanted)? {
                if n > 1 {
                    self.remember_taken(dir.ino, leaf, n);
                }
                return Ok(self.placed(placement, dir.ino, cookie, n));
            }
        }
        Err(damaged("no number is left for a name"))
    }

    fn place_again(&mut self, placement: &Placement, old: Position, shows: Attributes) -> Result<Position> {
        let old_name = self.entry_at(old)?.name;
        let dir = self.dir_of(&placement.path)?;
        let n = self.number_for(placement, dir.ino, old.parent)?;
        let leaf = placement.path.leaf();
        let name = leaf.with_suffix(n);
        let wanted = (n > 1 || !dir.exact).then_some(&placement.path);
        if old.parent == dir.ino && old_name == name {
            self.set_attributes(old, shows)?;
            let wanted = wanted.map(VirtualPath::to_bytes);
            let row = (ino_value(old.parent), cookie_value(old.cookie), wanted, shows.content);
            self.db.prepare_cached(sql::SET_WANTED)?.execute(row)?;
            return Ok(self.placed(placement, old.parent, old.cookie, n));
        }
        let ino = placement.id.ino();
        self.detach(old, &old_name, ino)?;
        let Some(cookie) = self.attach(dir.ino, &name, ino, shows, wanted)? else {
            return Err(damaged("a name that was free is taken"));
        };
        self.prune(old.parent)?;
        Ok(self.placed(placement, dir.ino, cookie, n))
    }

    /// Takes a file that has no copy out of the tree.
    pub(super) fn unplace(&mut self, id: FileId, old: Position) -> Result<()> {
        let name = self.entry_at(old)?.name;
        self.detach(old, &name, id.ino())?;
        self.prune(old.parent)
    }

    /// Tells whether the entry at `at` is shown for a file that wants `path`.
    pub(super) fn is_wanted(&mut self, at: Position, path: &VirtualPath) -> Result<bool> {
        let entry = self.entry_at(at)?;
        match &entry.wanted {
            Some(wanted) => Ok(*wanted == path.to_bytes()),
            None => Ok(entry.name == *path.leaf() && self.stands_in(at.parent, path)?),
        }
    }

    /// Returns the path that the files of an entry want.
    pub(super) fn wanted_at(&self, at: Position) -> Result<VirtualPath> {
        let entry = self.entry_at(at)?;
        let wanted = match entry.wanted {
            Some(wanted) => VirtualPath::from_bytes(&wanted).ok(),
            None => {
                let mut names = vec![entry.name];
                let mut dir = at.parent;
                while dir != ROOT_INODE {
                    let Some((at, name)) = self.dir_at(dir)? else {
                        return Err(damaged("a directory has lost its entry in the tree"));
                    };
                    names.push(name_of(&name)?);
                    dir = at.parent;
                }
                names.reverse();
                VirtualPath::new(names)
            }
        };
        wanted.ok_or_else(|| damaged("an entry wants an empty path"))
    }

    /// Finds the entry of the files that want `path` and hold `content`.
    pub(super) fn group(&mut self, path: &VirtualPath, content: i64) -> Result<Option<Position>> {
        let read = |row: &rusqlite::Row<'_>| {
            let cookie = Cookie(row.get::<_, i64>(1)?.cast_unsigned());
            Ok(Position { parent: ino_of(row.get(0)?), cookie })
        };
        let mut statement = self.db.prepare_cached(sql::GROUP_WANTING)?;
        if let Some(found) = statement.query_row((path.to_bytes(), content), read).optional()? {
            return Ok(Some(found));
        }
        let mut dir = ROOT_INODE;
        for name in path.dirs() {
            match self.dir_named(dir, name)? {
                Some(ino) => dir = ino,
                None => return Ok(None),
            }
        }
        let mut statement = self.db.prepare_cached(sql::GROUP_AT)?;
        let key = (ino_value(dir), path.leaf().as_bytes(), content);
        let found = statement.query_row(key, |row| row.get::<_, i64>(0)).optional()?;
        Ok(found.map(|cookie| Position { parent: dir, cookie: Cookie(cookie.cast_unsigned()) }))
    }

    /// Takes note that the one file of an entry holds something else now.
    pub(super) fn set_content(&mut self, at: Position, content: Option<i64>) -> Result<()> {
        let row = (ino_value(at.parent), cookie_value(at.cookie), content);
        self.db.prepare_cached(sql::SET_CONTENT)?.execute(row)?;
        Ok(())
    }

    /// Returns the files that share an entry and do not lead.
    pub(super) fn sharing(&mut self, at: Position) -> Result<&mut Vec<FileId>> {
        Ok(match self.sharing.entry(at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let mut statement = self.db.prepare_cached(sql::SHARING_AT)?;
                let mut rows = statement.query((ino_value(at.parent), cookie_value(at.cookie)))?;
                let mut ids = Vec::new();
                while let Some(row) = rows.next()? {
                    ids.push(file_id_of(row.get(0)?)?);
                }
                unknown.insert(ids)
            }
        })
    }

    /// Returns the file that leads an entry.
    pub(super) fn leader(&self, at: Position) -> Result<FileId> {
        let leads = self.entry_at(at)?.ino.file_id();
        leads.ok_or_else(|| damaged("a directory stands where a file should"))
    }

    /// Has another file lead an entry, which keeps its name and cookie.
    pub(super) fn hand_over(&mut self, at: Position, to: FileId, shows: Attributes) -> Result<()> {
        let entry = self.entry_at(at)?;
        self.db.prepare_cached(sql::HAND_OVER)?.execute((
            ino_value(at.parent),
            cookie_value(at.cookie),
            ino_value(to.ino()),
            shows.size.cast_signed(),
            shows.mtime.0,
        ))?;
        self.touch(at.parent);
        self.log.entry_removed(at.parent, &entry.name, entry.ino);
        self.log.entry_added(at.parent, &entry.name, to.ino());
        Ok(())
    }

    /// Reports the number that a file took by joining its copies.
    pub(super) fn joined(&mut self, placement: &Placement, at: Position) -> Result<()> {
        let name = self.entry_at(at)?.name;
        let n = placement.path.leaf().number_of(&name).unwrap_or(1);
        self.placed(placement, at.parent, at.cookie, n);
        Ok(())
    }

    /// Changes what an entry shows.
    pub(super) fn set_attributes(&mut self, at: Position, shows: Attributes) -> Result<()> {
        let (parent, cookie) = (ino_value(at.parent), cookie_value(at.cookie));
        let changed = self.db.prepare_cached(sql::SET_ATTRIBUTES)?.execute((
            parent,
            cookie,
            shows.size.cast_signed(),
            shows.mtime.0,
        ))?;
        if changed == 1 { Ok(()) } else { Err(damaged("a file has lost its entry in the tree")) }
    }

    /// Writes what was put off.
    pub(super) fn finish(self) -> Result<TreeDone> {
        let mut touch = self.db.prepare_cached(sql::TOUCH_DIR)?;
        let mut touched: Vec<Ino> = self.touched.into_iter().collect();
        touched.sort_unstable();
        for dir in touched {
            touch.execute((ino_value(dir), self.at.0))?;
        }
        drop(touch);
        Ok(TreeDone {
            last_cookie: self.last_cookie,
            dirs: self.dirs,
            log: self.log,
            suffixed: self.suffixed,
        })
    }

    fn placed(&mut self, placement: &Placement, parent: Ino, cookie: Cookie, n: u32) -> Position {
        if n >= 2 {
            self.suffixed.push(Suffixed { id: placement.id, path: placement.path.clone(), n });
        }
        Position { parent, cookie }
    }

    /// Returns the directory that a path's file stands in; makes what is not there.
    fn dir_of(&mut self, path: &VirtualPath) -> Result<Resolved> {
        let mut dir = Resolved { ino: ROOT_INODE, exact: true };
        for name in path.dirs() {
            // A directory of this very name is the answer, whatever the numbers.
            match self.dir_named(dir.ino, name)? {
                Some(ino) => dir.ino = ino,
                None => {
                    let (ino, n) = self.dir_for(dir.ino, name)?;
                    dir = Resolved { ino, exact: dir.exact && n == 1 };
                }
            }
        }
        Ok(dir)
    }

    /// Finds the first number under which a directory is, or can be made; makes it.
    fn dir_for(&mut self, parent: Ino, wanted: &Name) -> Result<(Ino, u32)> {
        for n in 1.. {
            let name = wanted.with_suffix(n);
            match self.holder(parent, &name)? {
                Some(ino) if ino.file_id().is_none() => return Ok((ino, n)),
                Some(_) => {}
                None => return Ok((self.make_dir(parent, &name)?, n)),
            }
        }
        Err(damaged("no number is left for a directory"))
    }

    fn make_dir(&mut self, parent: Ino, name: &Name) -> Result<Ino> {
        let mut salt = 0;
        let mut ino = Ino::for_dir(parent, name.as_bytes(), salt);
        while ino == ROOT_INODE || self.dir_at(ino)?.is_some() {
            salt += 1;
            ino = Ino::for_dir(parent, name.as_bytes(), salt);
        }
        let shows = Attributes { size: 0, mtime: self.at, content: None };
        if self.attach(parent, name, ino, shows, None)?.is_none() {
            return Err(damaged("a name that was free is taken"));
        }
        self.dirs += 1;
        self.fresh.insert(ino);
        self.known.insert((parent, name.clone()), ino);
        Ok(ino)
    }

    /// Tells whether `dir` is the directory that `path` names letter by letter.
    fn stands_in(&mut self, dir: Ino, path: &VirtualPath) -> Result<bool> {
        let mut at = ROOT_INODE;
        for name in path.dirs() {
            match self.dir_named(at, name)? {
                Some(ino) => at = ino,
                None => return Ok(false),
            }
        }
        Ok(at == dir)
    }

    fn dir_named(&mut self, parent: Ino, name: &Name) -> Result<Option<Ino>> {
        let key = (parent, name.clone());
        if let Some(ino) = self.known.get(&key) {
            return Ok(Some(*ino));
        }
        let found = self.holder(parent, name)?.filter(|ino| ino.file_id().is_none());
        if let Some(ino) = found {
            self.known.insert(key, ino);
        }
        Ok(found)
    }

    /// Returns the number that a file takes in `dir`. What it holds itself is free to it.
    fn number_for(&mut self, placement: &Placement, dir: Ino, old_parent: Ino) -> Result<u32> {
        let leaf = placement.path.leaf();
        let ino = placement.id.ino();
        if placement.prefer >= 2 {
            let holder = self.holder(dir, &leaf.with_suffix(placement.prefer))?;
            if holder.is_none_or(|holder| holder == ino) {
                return Ok(placement.prefer);
            }
        }
        let first = if old_parent == dir { 1 } else { self.first_candidate(dir, leaf) };
        for n in first.. {
            if self.holder(dir, &leaf.with_suffix(n))?.is_none_or(|holder| holder == ino) {
                if n > 1 && old_parent != dir {
                    self.remember_taken(dir, leaf, n);
                }
                return Ok(n);
            }
        }
        Err(damaged("no number is left for a name"))
    }

    fn first_candidate(&self, dir: Ino, leaf: &Name) -> u32 {
        self.taken.get(&dir).and_then(|names| names.get(leaf)).map_or(1, |n| n + 1)
    }

    fn remember_taken(&mut self, dir: Ino, leaf: &Name, n: u32) {
        self.taken.entry(dir).or_default().insert(leaf.clone(), n);
    }

    fn holder(&self, parent: Ino, name: &Name) -> Result<Option<Ino>> {
        let mut statement = self.db.prepare_cached(sql::HOLDER)?;
        let key = (ino_value(parent), name.as_bytes());
        Ok(statement.query_row(key, |row| row.get(0).map(ino_of)).optional()?)
    }

    fn entry_at(&self, at: Position) -> Result<EntryRow> {
        let mut statement = self.db.prepare_cached(sql::NODE_AT)?;
        let key = (ino_value(at.parent), cookie_value(at.cookie));
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?));
        match statement.query_row(key, read).optional()? {
            Some((name, wanted, ino)) => Ok(EntryRow { name: name_of(&name)?, wanted, ino: ino_of(ino) }),
            None => Err(damaged("a file has lost its entry in the tree")),
        }
    }

    fn dir_at(&self, dir: Ino) -> Result<Option<(Position, Vec<u8>)>> {
        let mut statement = self.db.prepare_cached(sql::DIR_AT)?;
        let read = |row: &rusqlite::Row<'_>| {
            let cookie = Cookie(row.get::<_, i64>(1)?.cast_unsigned());
            Ok((Position { parent: ino_of(row.get(0)?), cookie }, row.get(2)?))
        };
        Ok(statement.query_row([ino_value(dir)], read).optional()?)
    }

    /// Adds an entry unless its name is taken; only then does it use a cookie up.
    fn attach(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        shows: Attributes,
        wanted: Option<&VirtualPath>,
    ) -> Result<Option<Cookie>> {
        let cookie = Cookie(self.last_cookie + 1);
        let inserted = self.insert.execute((
            ino_value(parent),
            cookie_value(cookie),
            ino_value(ino),
            shows.size.cast_signed(),
            shows.mtime.0,
            name.as_bytes(),
            wanted.map(VirtualPath::to_bytes),
            shows.content,
        ))?;
        if inserted == 0 {
            return Ok(None);
        }
        self.last_cookie = cookie.0;
        self.touch(parent);
        self.log.entry_added(parent, name, ino);
        Ok(Some(cookie))
    }

    fn detach(&mut self, at: Position, name: &Name, ino: Ino) -> Result<()> {
        let key = (ino_value(at.parent), cookie_value(at.cookie));
        self.db.prepare_cached(sql::DELETE_NODE)?.execute(key)?;
        self.taken.remove(&at.parent);
        self.sharing.remove(&at);
        self.touch(at.parent);
        self.log.entry_removed(at.parent, name, ino);
        Ok(())
    }

    /// Takes away directories that have become empty, upwards.
    fn prune(&mut self, dir: Ino) -> Result<()> {
        let mut dir = dir;
        while dir != ROOT_INODE && !self.has_entries(dir)? {
            let Some((at, name)) = self.dir_at(dir)? else {
                return Err(damaged("a directory has lost its entry in the tree"));
            };
            let name = name_of(&name)?;
            self.detach(at, &name, dir)?;
            self.dirs = self.dirs.saturating_sub(1);
            self.known.remove(&(at.parent, name));
            dir = at.parent;
        }
        Ok(())
    }

    fn has_entries(&self, dir: Ino) -> Result<bool> {
        Ok(self.db.prepare_cached(sql::ANY_CHILD)?.exists([ino_value(dir)])?)
    }

    fn touch(&mut self, dir: Ino) {
        if !self.fresh.contains(&dir) {
            self.touched.insert(dir);
        }
    }
}
