//! Applies what a pass found, batch by batch. Everything here blocks.

mod first;
mod follow;
mod keep_out;
mod naming;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{
    AlbumKey, Applied, Batch, Clock, FileId, FileKind, FileMeta, FilePage, FileQuery, FileState, MetaDb,
    MetaError, Op, OriginId, OriginPath, Placement, Suffixed, Template, VirtualPath,
};

use super::trash::{self, TrashFilter};
use super::turns::{Member, News};
use super::{Parts, ScanError};
use crate::arrange::{self, FolderTrack};
use crate::library::{Identity, Library};
use first::First;
pub(super) use follow::Followed;

/// Files in one batch: enough to make the cost of a transaction vanish, few enough to be seen soon.
pub(super) const BATCH: usize = 2_000;
/// How often an id is derived again before giving up: two collisions in a row do not happen.
pub(super) const MAX_SALT: u32 = 16;

/// The music and the sidecars of a folder.
type FolderFiles = (Vec<FolderTrack>, Vec<(FileId, OriginPath)>);

/// Gathers changes and applies them, keeping what placing files needs to know.
pub(super) struct Writer {
    db: Arc<dyn MetaDb>,
    library: Arc<Library>,
    clock: Arc<dyn Clock>,
    template: Arc<Template>,
    /// Numbers given to files before, so that a rebuilt tree gives the same ones.
    numbers: HashMap<FileId, (VirtualPath, u32)>,
    /// Albums that are known to have several discs.
    multi_disc: HashSet<AlbumKey>,
    /// Albums that turned out to have several discs, or one, since the last flush.
    newly_multi: Vec<AlbumKey>,
    /// Files that were given a number by this writer for the first time.
    newly_numbered: Vec<Suffixed>,
    /// There while an origin is being listed whole for the first time, and others are less preferred.
    first: Option<First>,
    ops: Vec<Op>,
    turns: Member,
    has_turn: bool,
    /// What others who write must know, as of the end of the turn.
    news: Vec<News>,
}

impl Writer {
    /// Loads what placing files needs to know.
    pub(super) fn load(parts: Parts) -> Result<Self, ScanError> {
        let Parts { db, library, clock, template, turns, lane } = parts;
        // Before anything is loaded: what is learnt twice does no harm.
        let turns = turns.join(lane);
        Ok(Self {
            numbers: library.name_numbers()?,
            multi_disc: db.multi_disc_albums()?.into_iter().collect(),
            db,
            library,
            clock,
            template,
            newly_multi: Vec::new(),
            newly_numbered: Vec::new(),
            first: None,
            ops: Vec::new(),
            turns,
            has_turn: false,
            news: Vec::new(),
        })
    }

    /// Does work that nobody else may write in the middle of. What is flushed there comes in one turn.
    pub(super) fn in_turn<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ScanError>,
    ) -> Result<T, ScanError> {
        if self.has_turn {
            return work(self);
        }
        let (turn, news) = self.turns.take();
        news.into_iter().for_each(|news| self.learn(news));
        self.has_turn = true;
        let done = work(self);
        self.has_turn = false;
        self.turns.end(turn, std::mem::take(&mut self.news));
        done
    }

    /// Returns the number of changes that wait.
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Returns the template that files are placed by.
    pub(super) fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Records a file, and returns where it wants to be shown; it is not shown there yet.
    pub(super) fn record(&mut self, file: Box<FileMeta>) -> Option<VirtualPath> {
        self.note_discs(&file);
        let wanted = self.wanted(&file);
        self.ops.push(Op::PutFile(file));
        wanted
    }

    /// Records a file and shows it where it wants to be; returns that place. Sidecars are placed by their folder.
    pub(super) fn put(&mut self, file: Box<FileMeta>) -> Option<VirtualPath> {
        self.note_discs(&file);
        let id = file.id;
        let wanted = self.wanted(&file);
        // A file that waits for its first read is in the tree only when the user can do something about it.
        let shown = wanted.filter(|_| file.state == FileState::Present || file.problem.is_some());
        let kind = file.kind;
        self.ops.push(Op::PutFile(file));
        match &shown {
            Some(path) => self.place(id, path.clone()),
            None if kind == FileKind::Other => self.ops.push(Op::Unplace(id)),
            None => {}
        }
        shown
    }

    /// Shows a file at a path.
    pub(super) fn place(&mut self, id: FileId, path: VirtualPath) {
        let placement = self.placement(id, path);
        self.ops.push(Op::Place(placement));
    }

    fn placement(&self, id: FileId, path: VirtualPath) -> Placement {
        let prefer = match self.numbers.get(&id) {
            Some((wanted, n)) if *wanted == path => *n,
            _ => 0,
        };
        Placement { id, path, prefer }
    }

    /// Makes any other change.
    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Shows a file again that had been gone and is at a path, unless it is excluded. Sidecars are placed by their
    /// folder.
    pub(super) fn restore(&mut self, id: FileId, path: OriginPath) -> Result<(), ScanError> {
        if let Some(file) = self.db.file(id)? {
            if file.path != path {
                self.ops.push(Op::Move { id, path });
            }
            let unread = file.state == FileState::Pending;
            self.ops.push(Op::SetState(id, if unread { FileState::Pending } else { FileState::Present }));
            if let Some(path) = self.wanted(&file) {
                self.place(id, path);
            }
        }
        Ok(())
    }

    /// Takes files for gone; returns how many. What is cached whole stays in the tree, as it can be played.
    pub(super) fn lose(&mut self, gone: &[FileId]) -> Result<u64, ScanError> {
        let mut lost = 0;
        for id in gone {
            let Some(file) = self.db.file(*id)? else { continue };
            self.ops.push(Op::SetState(*id, FileState::Missing));
            if !Self::is_cached_whole(&*self.db, &file)? {
                self.ops.push(Op::Unplace(*id));
            }
            lost += 1;
            if self.ops.len() >= BATCH {
                self.flush()?;
            }
        }
        self.flush()?;
        Ok(lost)
    }

    /// Tells whether all of a file's version is cached.
    pub(super) fn is_cached_whole(db: &dyn MetaDb, file: &FileMeta) -> Result<bool, ScanError> {
        let cached = db.manifest(file.id)?;
        Ok(cached.is_some_and(|(version, manifest)| {
            version.is_same(&file.version) && manifest.covered() >= file.version.size
        }))
    }

    /// Tells whether a missing file is to be shown all the same.
    pub(super) fn outlasts(&self, file: &FileMeta, grace: Duration) -> Result<bool, ScanError> {
        Ok(Self::is_cached_whole(&*self.db, file)? && self.is_new_loss(file.id, grace)?)
    }

    /// Tells whether a file has been missing for less than a time of grace.
    fn is_new_loss(&self, id: FileId, grace: Duration) -> Result<bool, ScanError> {
        let grace = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
        let before = self.clock.unix().0.saturating_sub(grace);
        Ok(self.db.missing_since(id)?.is_none_or(|since| since.0 > before))
    }

    /// Takes missing files out of the tree that have been missing for so long.
    pub(super) fn hide_missing(&mut self, origin: &OriginId, grace: Duration) -> Result<(), ScanError> {
        let mut after = None;
        loop {
            let page = self.db.files(&FileQuery::Missing, after, BATCH)?;
            for file in page.files.iter().filter(|f| f.origin == *origin && f.shown_at.is_some()) {
                if !self.is_new_loss(file.id, grace)? {
                    self.ops.push(Op::Unplace(file.id));
                }
            }
            after = page.next;
            if after.is_none() {
                return self.flush();
            }
        }
    }

    /// Forgets missing files that have been missing for so long; none when that is zero.
    pub(super) fn forget_missing(&mut self, origin: &OriginId, age: Duration) -> Result<(), ScanError> {
        if age.is_zero() {
            return Ok(());
        }
        let filter =
            TrashFilter { origin: Some(origin.clone()), older_than: Some(age), ..TrashFilter::default() };
        let old = trash::find(&*self.db, &filter, self.clock.unix())?;
        self.forget(&old.into_iter().map(|trashed| trashed.file.id).collect::<Vec<_>>())
    }

    /// Forgets files for good, with what the library has of them.
    pub(super) fn forget(&mut self, files: &[FileId]) -> Result<(), ScanError> {
        for some in files.chunks(BATCH) {
            self.ops.extend(some.iter().map(|id| Op::Forget(*id)));
            self.flush()?;
            some.iter().for_each(|id| self.forget_number(*id));
            self.library.forget_files(some)?;
        }
        Ok(())
    }

    /// Remembers ids that do not follow from their paths.
    pub(super) fn add_identities(&self, identities: &[Identity]) -> Result<(), ScanError> {
        Ok(identities.iter().try_for_each(|identity| self.library.add_identity(identity))?)
    }

    /// Returns the first files of a query.
    pub(super) fn files(&self, query: &FileQuery, limit: usize) -> Result<FilePage, ScanError> {
        Ok(self.db.files(query, None, limit)?)
    }

    /// Returns the library.
    pub(super) fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Returns the catalogue.
    pub(super) fn db(&self) -> &Arc<dyn MetaDb> {
        &self.db
    }

    /// Returns where a track, or a file that could not be parsed, wants to be shown.
    pub(super) fn wanted(&self, file: &FileMeta) -> Option<VirtualPath> {
        let multi_disc = file.album_key().is_some_and(|key| self.multi_disc.contains(&key));
        arrange::wanted(&self.template, file, multi_disc)
    }

    /// Applies what waits, then shows the files again whose place depends on what has just been learnt.
    pub(super) fn flush(&mut self) -> Result<(), ScanError> {
        if self.ops.is_empty() && self.newly_multi.is_empty() {
            return Ok(());
        }
        self.in_turn(|writer| {
            writer.apply()?;
            while let Some(key) = writer.newly_multi.pop() {
                writer.replace_album(key)?;
                writer.apply()?;
            }
            Ok(())
        })
    }

    /// Returns the music and the sidecars of a folder that are there, with where the music wants to be shown.
    pub(super) fn folder(&self, origin: &OriginId, folder: &OriginPath) -> Result<FolderFiles, ScanError> {
        let query = FileQuery::Folder(origin.clone(), folder.clone());
        let (mut tracks, mut sidecars, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = self.db.files(&query, after, BATCH)?;
            for file in page.files.into_iter().filter(|file| file.state == FileState::Present) {
                match file.kind {
                    FileKind::Audio => {
                        let wanted = self.wanted(&file);
                        tracks.extend(wanted.map(|wanted| FolderTrack { path: file.path, wanted }));
                    }
                    FileKind::Sidecar => sidecars.push((file.id, file.path)),
                    FileKind::Unparsed | FileKind::Other => {}
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok((tracks, sidecars));
            }
        }
    }

    fn apply(&mut self) -> Result<(), ScanError> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let mut batch = Batch { at: self.clock.unix(), ops: std::mem::take(&mut self.ops) };
        // Looked up each time, as it may be changed while a pass is under way.
        let excluded = self.library.exclusions()?;
        if !excluded.is_empty() {
            keep_out::keep_out(&mut batch.ops, &excluded, &*self.db)?;
        }
        self.take_names(&mut batch.ops)?;
        let Applied { suffixed, .. } = loop {
            match self.db.apply(&batch) {
                Ok(applied) => break applied,
                Err(MetaError::IdTaken { id, origin, path }) => {
                    let new = self.rederive(&batch.ops, id, &origin, &path)?;
                    rename(&mut batch.ops, id, new, &origin, &path);
                }
                Err(error) => return Err(error.into()),
            }
        };
        if !suffixed.is_empty() {
            self.library.record_numbers(&suffixed)?;
            let had = |s: &&Suffixed| self.numbers.get(&s.id).is_some_and(|(path, _)| *path == s.path);
            self.newly_numbered.extend(suffixed.iter().filter(|s| !had(s)).cloned());
            self.news.extend(suffixed.iter().cloned().map(News::Number));
            self.numbers.extend(suffixed.into_iter().map(|s| (s.id, (s.path, s.n))));
        }
        Ok(())
    }

    /// Gives a file whose id is taken by another the next one, and remembers it for good.
    fn rederive(
        &mut self,
        ops: &[Op],
        taken: FileId,
        origin: &OriginId,
        path: &OriginPath,
    ) -> Result<FileId, ScanError> {
        let in_batch: HashSet<FileId> = ops
            .iter()
            .filter_map(|op| if let Op::PutFile(file) = op { Some(file.id) } else { None })
            .collect();
        for salt in 1..=MAX_SALT {
            let id = FileId::derive(origin, path, salt);
            if !in_batch.contains(&id) && self.db.file(id)?.is_none() {
                self.library.add_identity(&Identity { origin: origin.clone(), path: path.clone(), id })?;
                return Ok(id);
            }
        }
        Err(MetaError::IdTaken { id: taken, origin: origin.clone(), path: path.clone() }.into())
    }
}

/// Renames a file in the changes that follow its own record. Two files of one batch may have the same id: what
/// belongs to which is told by order, as a file's changes follow its record.
fn rename(ops: &mut [Op], old: FileId, new: FileId, origin: &OriginId, path: &OriginPath) {
    let mut ours = false;
    for op in ops {
        match op {
            Op::PutFile(file) if file.id == old => {
                ours = file.origin == *origin && file.path == *path;
                if ours {
                    file.id = new;
                }
            }
            Op::Place(placement) if ours && placement.id == old => placement.id = new,
            Op::Unplace(id) | Op::SetState(id, _) | Op::Forget(id) | Op::Correct(id)
                if ours && *id == old =>
            {
                *id = new
            }
            Op::PutManifest { id, .. } if ours && *id == old => *id = new,
            _ => {}
        }
    }
}
