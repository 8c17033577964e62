//! Applying a batch.
//!
//! Rows of `files` are read when an operation first names them, changed in memory, and written at the end, each
//! once, however many operations a batch has on one file. Everything else is written as it
//! comes. The transaction around it makes it all or nothing.

mod copies;

use std::collections::HashMap;

use musicfs_core::{
    Applied, Batch, ChunkManifest, ContentKey, FileId, FileKind, FileMeta, FileState, FileVersion, MetaError,
    Op, OriginId, OriginPath, Revision, Totals,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement};

use super::error::{Result, damaged};
use super::place::{Attributes, Position, TreeWriter};
use super::rows::{
    State, audio_text, cookie_value, format_text, ino_of, ino_value, kind_of, kind_value, manifest_blob,
    shown_mtime, state_of, state_value, version_of,
};
use super::sql;

/// How many changes are kept for those who follow: one whole scan of 100,000 files, some 15 MB.
pub(super) const KEPT_CHANGES: u64 = 1 << 18;

/// A row of `files`.
#[derive(Clone, Debug, PartialEq)]
struct FileRow {
    seq: i64,
    origin: i64,
    version: FileVersion,
    kind: FileKind,
    state: FileState,
    folder: i64,
    place: Option<Position>,
    /// Set only together with `disc`.
    album: Option<i64>,
    disc: Option<u32>,
    /// What it holds ([`ContentKey`](musicfs_core::ContentKey)).
    content: Option<i64>,
    /// It shares the entry at its place with a copy that leads.
    sharing: bool,
}

/// A file that the batch names.
struct Slot {
    stored: Option<FileRow>,
    now: Option<FileRow>,
}

/// The parts of `details` that a pass writes.
#[derive(PartialEq)]
struct Detail {
    format: Option<String>,
    problem: Option<String>,
    audio: Option<String>,
}

struct Writing<'c> {
    db: &'c Connection,
    find: CachedStatement<'c>,
    insert_detail: CachedStatement<'c>,
    at: i64,
    tree: TreeWriter<'c>,
    files: HashMap<FileId, Slot>,
    origins: HashMap<OriginId, i64>,
    folders: HashMap<(i64, OriginPath), i64>,
    /// Ranks of origins by their key; those that have none are not in it.
    ranks: HashMap<i64, u32>,
    emptied: Vec<i64>,
    last_seq: i64,
    totals: Totals,
}

/// Applies a batch inside a transaction; keeps about `keep` changes.
pub(super) fn apply(db: &Connection, batch: &Batch, keep: u64) -> Result<Applied> {
    let mut state = State::load(db)?;
    let mut writing = Writing {
        db,
        find: db.prepare_cached(sql::FILE_ROW)?,
        insert_detail: db.prepare_cached(sql::INSERT_DETAIL)?,
        at: batch.at.0,
        tree: TreeWriter::new(db, batch.at, state.cookie, state.totals.dirs)?,
        files: HashMap::with_capacity(batch.ops.len()),
        origins: HashMap::new(),
        folders: HashMap::new(),
        ranks: copies::ranks(db)?,
        emptied: Vec::new(),
        last_seq: state.seq,
        totals: state.totals,
    };
    for op in &batch.ops {
        writing.op(op)?;
    }
    writing.write_files()?;
    writing.prune_folders()?;
    let tree = writing.tree.finish()?;
    state.revision += 1;
    state.cookie = tree.last_cookie;
    state.seq = writing.last_seq;
    state.totals = Totals { dirs: tree.dirs, ..writing.totals };
    state.clean = false;
    if tree.log.count() > 0 {
        let row = (state.revision.cast_signed(), tree.log.count().cast_signed(), tree.log.blob());
        db.prepare_cached(sql::INSERT_CHANGES)?.execute(row)?;
        state.changes += tree.log.count();
        prune_changes(db, &mut state, keep)?;
    }
    state.store(db)?;
    Ok(Applied { revision: Revision(state.revision), suffixed: tree.suffixed })
}

/// Drops the oldest revisions while what is left is enough. The newest always stays.
fn prune_changes(db: &Connection, state: &mut State, keep: u64) -> Result<()> {
    let mut oldest = db.prepare_cached(sql::OLDEST_CHANGES)?;
    let mut delete = db.prepare_cached(sql::DELETE_CHANGES)?;
    while state.changes > keep {
        let (revision, count): (i64, i64) = oldest.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if revision.cast_unsigned() >= state.revision || state.changes - count.cast_unsigned() < keep {
            break;
        }
        delete.execute([revision])?;
        state.changes -= count.cast_unsigned();
        state.pruned = revision.cast_unsigned();
    }
    Ok(())
}

impl Writing<'_> {
    fn op(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::PutFile(file) => self.put(file),
            Op::Place(placement) => self.place(placement),
            Op::Move { id, path } => self.move_to_path(*id, path),
            Op::Unplace(id) => self.unplace(*id),
            Op::SetState(id, state) => self.set_state(*id, *state),
            Op::Forget(id) => self.forget(*id),
            Op::PutManifest { id, version, manifest } => self.put_manifest(*id, version, manifest),
            Op::Correct(id) => {
                self.get(*id)?;
                self.tree.log().file_changed(*id, true);
                Ok(())
            }
            Op::RankOrigins(origins) => self.rank_origins(origins),
            Op::SetNote { key, value } => self.set_note(key, value.as_deref()),
        }
    }

    fn put(&mut self, file: &FileMeta) -> Result<()> {
        let origin = self.origin_key(&file.origin)?;
        let folder = self.folder_key(origin, file.path.parent())?;
        let disc = file.audio.as_ref().and_then(|audio| audio.disc);
        let album = disc.and_then(|_| file.album_key()).map(|key| key.raw());
        let new = FileRow {
            seq: 0,
            origin,
            version: file.version.clone(),
            kind: file.kind,
            state: file.state,
            folder,
            place: None,
            album,
            disc: disc.filter(|_| album.is_some()),
            content: file.content_key().map(ContentKey::raw),
            sharing: false,
        };
        let detail = Detail {
            format: file.format.map(format_text).transpose()?,
            problem: file.problem.clone(),
            audio: file.audio.as_deref().map(audio_text).transpose()?,
        };
        match self.find(file.id)? {
            None => self.put_new(file, new, &detail),
            Some(old) => self.put_again(file, new, &detail, old),
        }
    }

    fn put_new(&mut self, file: &FileMeta, new: FileRow, detail: &Detail) -> Result<()> {
        self.last_seq += 1;
        self.insert_detail.execute((
            self.last_seq,
            file.path.file_name(),
            self.at,
            &detail.format,
            &detail.problem,
            &detail.audio,
        ))?;
        self.set(file.id, Some(FileRow { seq: self.last_seq, ..new }));
        self.tree.log().file_changed(file.id, true);
        Ok(())
    }

    fn put_again(&mut self, file: &FileMeta, new: FileRow, detail: &Detail, old: FileRow) -> Result<()> {
        let (name, stored) = self.db.prepare_cached(sql::DETAIL)?.query_row([old.seq], |row| {
            let detail = Detail { format: row.get(1)?, problem: row.get(2)?, audio: row.get(3)? };
            Ok((row.get::<_, Vec<u8>>(0)?, detail))
        })?;
        if old.folder != new.folder || name != file.path.file_name() {
            let (origin, path) = (file.origin.clone(), file.path.clone());
            return Err(MetaError::IdTaken { id: file.id, origin, path }.into());
        }
        let new = FileRow { seq: old.seq, place: old.place, sharing: old.sharing, ..new };
        if new.state != old.state {
            self.remember_going(&new)?;
        }
        if new == old && stored == *detail {
            return Ok(());
        }
        if stored != *detail {
            let row = (old.seq, &detail.format, &detail.problem, &detail.audio);
            self.db.prepare_cached(sql::UPDATE_DETAIL)?.execute(row)?;
        }
        self.tree.log().file_changed(file.id, !old.version.is_same(&new.version));
        self.set(file.id, Some(new.clone()));
        match new.place {
            Some(at) if old.content != new.content => self.regroup(file.id, at),
            Some(at) => {
                if !new.sharing && shows(&old.version) != shows(&new.version) {
                    self.tree.set_attributes(at, attributes(&new))?;
                }
                self.settle(at)
            }
            None => Ok(()),
        }
    }

    fn set_state(&mut self, id: FileId, state: FileState) -> Result<()> {
        let row = self.get(id)?;
        if row.state != state {
            let row = FileRow { state, ..row };
            self.remember_going(&row)?;
            let place = row.place;
            self.set(id, Some(row));
            self.tree.log().file_changed(id, false);
            if let Some(at) = place {
                self.settle(at)?;
            }
        }
        Ok(())
    }

    fn remember_going(&mut self, row: &FileRow) -> Result<()> {
        let gone = (row.state == FileState::Missing).then_some(self.at);
        self.db.prepare_cached(sql::SET_GONE)?.execute((row.seq, gone))?;
        Ok(())
    }

    fn move_to_path(&mut self, id: FileId, path: &OriginPath) -> Result<()> {
        let row = self.get(id)?;
        let folder = self.folder_key(row.origin, path.parent())?;
        self.db.prepare_cached(sql::SET_NAME)?.execute((row.seq, path.file_name()))?;
        if folder != row.folder {
            self.emptied.push(row.folder);
            self.set(id, Some(FileRow { folder, ..row }));
        }
        self.tree.log().file_changed(id, false);
        Ok(())
    }

    fn forget(&mut self, id: FileId) -> Result<()> {
        let row = self.get(id)?;
        self.leave(id)?;
        self.db.prepare_cached(sql::DELETE_DETAIL)?.execute([row.seq])?;
        self.db.prepare_cached(sql::DELETE_MANIFEST)?.execute([id.raw()])?;
        self.emptied.push(row.folder);
        self.set(id, None);
        self.tree.log().file_forgotten(id);
        Ok(())
    }

    fn put_manifest(&mut self, id: FileId, version: &FileVersion, manifest: &ChunkManifest) -> Result<()> {
        self.get(id)?;
        self.db.prepare_cached(sql::PUT_MANIFEST)?.execute((
            id.raw(),
            version.size.cast_signed(),
            version.mtime.map(|time| time.0),
            version.etag.as_deref(),
            manifest_blob(manifest),
            manifest.guessed().cast_signed(),
        ))?;
        Ok(())
    }

    fn set_note(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => self.db.prepare_cached(sql::PUT_NOTE)?.execute((key, value))?,
            None => self.db.prepare_cached(sql::DELETE_NOTE)?.execute([key])?,
        };
        Ok(())
    }

    fn get(&mut self, id: FileId) -> Result<FileRow> {
        Ok(self.find(id)?.ok_or(MetaError::UnknownFile(id))?)
    }

    fn find(&mut self, id: FileId) -> Result<Option<FileRow>> {
        if let Some(slot) = self.files.get(&id) {
            return Ok(slot.now.clone());
        }
        let stored = load(&mut self.find, id)?;
        self.files.insert(id, Slot { stored: stored.clone(), now: stored.clone() });
        Ok(stored)
    }

    /// Changes a file that [`Writing::find`] has been asked for, and the sums with it.
    fn set(&mut self, id: FileId, row: Option<FileRow>) {
        let slot = self.files.entry(id).or_insert(Slot { stored: None, now: None });
        count(&mut self.totals, slot.now.as_ref(), u64::wrapping_sub);
        count(&mut self.totals, row.as_ref(), u64::wrapping_add);
        slot.now = row;
    }

    fn origin_key(&mut self, origin: &OriginId) -> Result<i64> {
        if let Some(key) = self.origins.get(origin) {
            return Ok(*key);
        }
        let name = [origin.as_str()];
        let found = self.db.prepare_cached(sql::FIND_ORIGIN)?.query_row(name, |row| row.get(0)).optional()?;
        let key = match found {
            Some(key) => key,
            None => self.db.prepare_cached(sql::INSERT_ORIGIN)?.query_row(name, |row| row.get(0))?,
        };
        self.origins.insert(origin.clone(), key);
        Ok(key)
    }

    fn folder_key(&mut self, origin: i64, path: OriginPath) -> Result<i64> {
        let key = (origin, path);
        if let Some(folder) = self.folders.get(&key) {
            return Ok(*folder);
        }
        let row = (origin, key.1.as_bytes());
        let found = self.db.prepare_cached(sql::FIND_FOLDER)?.query_row(row, |row| row.get(0)).optional()?;
        let folder = match found {
            Some(folder) => folder,
            None => self.db.prepare_cached(sql::INSERT_FOLDER)?.query_row(row, |row| row.get(0))?,
        };
        self.folders.insert(key, folder);
        Ok(folder)
    }

    fn write_files(&mut self) -> Result<()> {
        let mut files: Vec<(FileId, Slot)> =
            self.files.drain().filter(|(_, slot)| slot.stored != slot.now).collect();
        // In the order of the rows: new ones go to the end of the table one after the other.
        files.sort_unstable_by_key(|(_, slot)| slot.now.as_ref().or(slot.stored.as_ref()).map(|row| row.seq));
        let mut insert_file = self.db.prepare_cached(sql::INSERT_FILE)?;
        for (id, slot) in &files {
            match (&slot.stored, &slot.now) {
                (None, Some(row)) => insert(&mut insert_file, *id, row)?,
                (Some(row), None) => delete(self.db, row)?,
                (Some(old), Some(row))
                    if FileRow { place: row.place, sharing: row.sharing, ..old.clone() } == *row =>
                {
                    move_to(self.db, row)?;
                }
                (Some(old), Some(row)) => {
                    delete(self.db, old)?;
                    insert(&mut insert_file, *id, row)?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Takes away the folders that have lost their last file; none may be put after that.
    fn prune_folders(&self) -> Result<()> {
        let mut prune = self.db.prepare_cached(sql::PRUNE_FOLDER)?;
        for folder in &self.emptied {
            prune.execute([folder])?;
        }
        Ok(())
    }
}

/// What an entry shows of its file.
fn attributes(row: &FileRow) -> Attributes {
    let version = &row.version;
    Attributes { size: version.size, mtime: shown_mtime(version), content: row.content }
}

fn shows(version: &FileVersion) -> (u64, i64) {
    (version.size, shown_mtime(version).0)
}

/// Adds what a file contributes to the sums, or takes it away. (Unsigned sums wrap in between, never at the end.)
fn count(totals: &mut Totals, row: Option<&FileRow>, with: fn(u64, u64) -> u64) {
    let Some(row) = row else { return };
    if row.place.is_some() && !row.sharing {
        totals.files = with(totals.files, 1);
        totals.bytes = with(totals.bytes, row.version.size);
        totals.tracks = with(totals.tracks, u64::from(row.kind == FileKind::Audio));
    }
    let is_problem = row.kind == FileKind::Unparsed && row.state != FileState::Excluded;
    totals.problems = with(totals.problems, u64::from(is_problem));
    totals.missing = with(totals.missing, u64::from(row.state == FileState::Missing));
}

fn load(statement: &mut Statement<'_>, id: FileId) -> Result<Option<FileRow>> {
    let mut rows = statement.query([id.raw()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let place = match (row.get::<_, Option<i64>>(8)?, row.get::<_, Option<i64>>(9)?) {
        (Some(parent), Some(cookie)) => {
            Some(Position { parent: ino_of(parent), cookie: musicfs_core::Cookie(cookie.cast_unsigned()) })
        }
        (None, None) => None,
        _ => return Err(damaged(format!("file {id} has half a place"))),
    };
    Ok(Some(FileRow {
        seq: row.get(0)?,
        origin: row.get(1)?,
        version: version_of(row, 2)?,
        kind: kind_of(row.get(5)?)?,
        state: state_of(row.get(6)?)?,
        folder: row.get(7)?,
        place,
        album: row.get(10)?,
        disc: row.get(11)?,
        content: row.get(12)?,
        sharing: row.get::<_, Option<bool>>(13)?.unwrap_or_default(),
    }))
}

fn insert(statement: &mut Statement<'_>, id: FileId, row: &FileRow) -> Result<()> {
    statement.execute(rusqlite::params![
        row.seq,
        id.raw(),
        row.origin,
        row.version.size.cast_signed(),
        row.version.mtime.map(|time| time.0),
        row.version.etag.as_deref(),
        kind_value(row.kind),
        state_value(row.state),
        row.folder,
        row.place.map(|place| ino_value(place.parent)),
        row.place.map(|place| cookie_value(place.cookie)),
        row.album,
        row.disc,
        row.content,
        row.sharing.then_some(true),
    ])?;
    Ok(())
}

fn move_to(db: &Connection, row: &FileRow) -> Result<()> {
    let parent = row.place.map(|place| ino_value(place.parent));
    let cookie = row.place.map(|place| cookie_value(place.cookie));
    db.prepare_cached(sql::MOVE_FILE)?.execute((row.seq, parent, cookie, row.sharing.then_some(true)))?;
    Ok(())
}

fn delete(db: &Connection, row: &FileRow) -> Result<()> {
    db.prepare_cached(sql::DELETE_FILE)?.execute([row.seq])?;
    Ok(())
}
