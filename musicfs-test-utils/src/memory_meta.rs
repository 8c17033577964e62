//! A catalogue in memory: maps, and the model of the tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use musicfs_core::{
    AlbumKey, Applied, Batch, Change, Changes, ChunkManifest, Cookie, FileId, FileKind, FileMeta, FilePage,
    FileQuery, FileState, FileVersion, Ino, KnownFile, Mark, MarkedFile, MetaDb, MetaError, Node, Op,
    OriginId, OriginPath, Placement, Revision, SavedManifest, Shown, ShownPage, Standing, Suffixed, Totals,
    TreeChange, UnixNanos, VirtualPath, VirtualTree,
};
use parking_lot::RwLock;
use tokio::sync::watch;

/// A catalogue in memory.
///
/// It is the plainest thing that keeps the contract of [`MetaDb`], and stricter than a real one: it panics when
/// two ids are given to one path of an origin, or a manifest does not fit into the version that it is for.
#[derive(Debug)]
pub struct MemoryMetaDb {
    state: RwLock<State>,
    revision: watch::Sender<Revision>,
    kept: usize,
}

#[derive(Debug, Default)]
struct State {
    tree: VirtualTree,
    files: BTreeMap<FileId, FileMeta>,
    wanted: HashMap<FileId, VirtualPath>,
    manifests: BTreeMap<FileId, (FileVersion, ChunkManifest)>,
    first_seen: HashMap<FileId, UnixNanos>,
    /// Where files stand in the order of their arrival.
    marks: HashMap<FileId, Mark>,
    /// The highest mark ever given.
    last_mark: i64,
    /// When missing files went.
    gone: HashMap<FileId, UnixNanos>,
    notes: BTreeMap<String, String>,
    ranks: HashMap<OriginId, u32>,
    revision: Revision,
    /// The changes of the last revisions, and the revision before the first of them.
    log: Vec<(Revision, Vec<Change>)>,
    forgotten_upto: Revision,
}

impl Default for MemoryMetaDb {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryMetaDb {
    /// Makes an empty catalogue that keeps all changes.
    pub fn new() -> Self {
        Self { state: RwLock::default(), revision: watch::channel(Revision(0)).0, kept: usize::MAX }
    }

    /// Keeps the changes of so many revisions only, for tests of what happens when they are gone.
    pub fn keeping_changes_of(mut self, revisions: usize) -> Self {
        self.kept = revisions;
        self
    }

    /// Returns when a file was first seen.
    pub fn first_seen(&self, id: FileId) -> Option<UnixNanos> {
        self.state.read().first_seen.get(&id).copied()
    }
}

impl State {
    /// Finds what would make a batch fail, before anything is changed.
    fn check(&self, batch: &Batch) -> Result<(), MetaError> {
        let mut places: HashMap<FileId, Option<(&OriginId, &OriginPath)>> = HashMap::new();
        let stored = |id: &FileId| self.files.get(id).map(|file| (&file.origin, &file.path));
        for op in &batch.ops {
            let (Op::Place(Placement { id, .. })
            | Op::Unplace(id)
            | Op::Move { id, .. }
            | Op::SetState(id, _)
            | Op::Forget(id)
            | Op::Correct(id)
            | Op::PutManifest { id, .. }) = op
            else {
                if let Op::PutFile(file) = op {
                    let mine = Some((&file.origin, &file.path));
                    let now = *places.entry(file.id).or_insert_with(|| stored(&file.id));
                    if now.is_some() && now != mine {
                        let (origin, path) = (file.origin.clone(), file.path.clone());
                        return Err(MetaError::IdTaken { id: file.id, origin, path });
                    }
                    places.insert(file.id, mine);
                }
                continue;
            };
            if places.entry(*id).or_insert_with(|| stored(id)).is_none() {
                return Err(MetaError::UnknownFile(*id));
            }
            if let (Op::Move { path, .. }, Some(Some((_, at)))) = (op, places.get_mut(id)) {
                *at = path;
            }
            if matches!(op, Op::Forget(_)) {
                places.insert(*id, None);
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        file: &FileMeta,
        at: UnixNanos,
        changes: &mut Vec<Change>,
        suffixed: &mut Vec<Suffixed>,
    ) {
        let new = FileMeta { shown_at: None, ..file.clone() };
        let old = self.files.insert(file.id, new.clone());
        if new.state == FileState::Missing && old.as_ref().is_some_and(|old| old.state != new.state) {
            self.gone.insert(file.id, at);
        }
        self.first_seen.entry(file.id).or_insert(at);
        self.marks.entry(file.id).or_insert_with(|| {
            self.last_mark += 1;
            Mark(self.last_mark)
        });
        if old.as_ref() != Some(&new) {
            let content = old.is_none_or(|old| !old.version.is_same(&new.version));
            changes.push(Change::FileChanged { id: file.id, content });
        }
        // An entry shows the size and time of its file.
        if let Some(path) = self.wanted.get(&file.id).cloned() {
            let n = self.show(&Placement { id: file.id, path: path.clone(), prefer: 0 }, at, changes);
            if n >= 2 {
                suffixed.push(Suffixed { id: file.id, path, n });
            }
        }
    }

    fn show(&mut self, placement: &Placement, at: UnixNanos, changes: &mut Vec<Change>) -> u32 {
        let file = &self.files[&placement.id];
        let (made, n) = self.tree.place(placement, Shown::of(file, self.rank(&file.origin)), at);
        self.wanted.insert(placement.id, placement.path.clone());
        changes.extend(made.into_iter().map(of_tree));
        n
    }

    fn rank(&self, origin: &OriginId) -> u32 {
        self.ranks.get(origin).copied().unwrap_or(u32::MAX)
    }

    /// Has files stand among their copies as their state and their origin say.
    fn restand(&mut self, ids: &[FileId], at: UnixNanos, changes: &mut Vec<Change>) {
        let standing = |file: &FileMeta| Standing::new(file.state, self.rank(&file.origin));
        let standings: Vec<_> = ids.iter().map(|id| (*id, standing(&self.files[id]))).collect();
        changes.extend(self.tree.restand(standings, at).into_iter().map(of_tree));
    }

    fn hide(&mut self, id: FileId, at: UnixNanos, changes: &mut Vec<Change>) {
        self.wanted.remove(&id);
        changes.extend(self.tree.unplace(id, at).into_iter().map(of_tree));
    }

    fn op(&mut self, op: &Op, at: UnixNanos, changes: &mut Vec<Change>, suffixed: &mut Vec<Suffixed>) {
        match op {
            Op::PutFile(file) => self.put(file, at, changes, suffixed),
            Op::Place(placement) => {
                let n = self.show(placement, at, changes);
                if n >= 2 {
                    suffixed.push(Suffixed { id: placement.id, path: placement.path.clone(), n });
                }
            }
            Op::Unplace(id) => self.hide(*id, at, changes),
            Op::Move { id, path } => {
                if let Some(file) = self.files.get_mut(id) {
                    file.path = path.clone();
                    changes.push(Change::FileChanged { id: *id, content: false });
                }
            }
            Op::SetState(id, state) => {
                if let Some(file) = self.files.get_mut(id).filter(|file| file.state != *state) {
                    file.state = *state;
                    if *state == FileState::Missing {
                        self.gone.insert(*id, at);
                    }
                    changes.push(Change::FileChanged { id: *id, content: false });
                    self.restand(&[*id], at, changes);
                }
            }
            Op::RankOrigins(origins) => {
                self.ranks =
                    origins.iter().cloned().enumerate().rev().map(|(rank, id)| (id, rank as u32)).collect();
                let all: Vec<FileId> = self.files.keys().copied().collect();
                self.restand(&all, at, changes);
            }
            Op::Forget(id) => {
                self.hide(*id, at, changes);
                self.files.remove(id);
                self.manifests.remove(id);
                self.first_seen.remove(id);
                self.marks.remove(id);
                self.gone.remove(id);
                changes.push(Change::FileForgotten { id: *id });
            }
            Op::PutManifest { id, version, manifest } => {
                let end = manifest.all().map(|extent| extent.range.end()).max().unwrap_or(0);
                assert!(end <= version.size, "a manifest up to {end} of a version of {version}");
                self.manifests.insert(*id, (version.clone(), manifest.clone()));
            }
            Op::Correct(id) => changes.push(Change::FileChanged { id: *id, content: true }),
            Op::SetNote { key, value: Some(value) } => {
                self.notes.insert(key.to_string(), value.clone());
            }
            Op::SetNote { key, value: None } => {
                self.notes.remove(&**key);
            }
        }
    }

    fn shown(&self, file: &FileMeta) -> FileMeta {
        FileMeta { shown_at: self.tree.shown_at(file.id), ..file.clone() }
    }

    fn marked(&self, id: FileId, mark: Mark) -> MarkedFile {
        let has_entry = self.tree.get(id.ino()).is_some();
        MarkedFile { id, mark, shown: self.files.get(&id).filter(|_| has_entry).map(|file| self.shown(file)) }
    }
}

fn of_tree(change: TreeChange) -> Change {
    let TreeChange { parent, name, ino, added } = change;
    if added { Change::EntryAdded { parent, name, ino } } else { Change::EntryRemoved { parent, name, ino } }
}

fn is_problem(file: &FileMeta) -> bool {
    file.kind == FileKind::Unparsed && file.state != FileState::Excluded
}

fn matches(state: &State, query: &FileQuery, file: &FileMeta) -> bool {
    match query {
        FileQuery::All => true,
        FileQuery::Origin(origin) => file.origin == *origin,
        FileQuery::Under(origin, folder) => file.origin == *origin && file.path.parent().is_within(folder),
        FileQuery::Folder(origin, folder) => file.origin == *origin && file.path.parent() == *folder,
        FileQuery::OfSize(origin, size) => file.origin == *origin && file.version.size == *size,
        FileQuery::DiscsOf(album) => {
            file.album_key() == Some(*album) && file.audio.as_ref().is_some_and(|audio| audio.disc.is_some())
        }
        FileQuery::Problems => is_problem(file),
        FileQuery::Missing => file.state == FileState::Missing,
        FileQuery::Guessed => {
            let guessing = |(_, manifest): &(_, ChunkManifest)| !manifest.guesses().is_empty();
            file.state == FileState::Present && state.manifests.get(&file.id).is_some_and(guessing)
        }
    }
}

impl MetaDb for MemoryMetaDb {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Node>, MetaError> {
        Ok(self.state.read().tree.lookup(parent, name).cloned())
    }

    fn node(&self, ino: Ino) -> Result<Option<Node>, MetaError> {
        Ok(self.state.read().tree.get(ino).cloned())
    }

    fn list(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<Node>, MetaError> {
        Ok(self.state.read().tree.list(dir, after).take(limit).cloned().collect())
    }

    fn file(&self, id: FileId) -> Result<Option<FileMeta>, MetaError> {
        let state = self.state.read();
        Ok(state.files.get(&id).map(|file| state.shown(file)))
    }

    fn copies(&self, id: FileId) -> Result<Vec<FileMeta>, MetaError> {
        let state = self.state.read();
        let copies = state.tree.copies(id);
        Ok(copies.iter().filter_map(|id| state.files.get(id)).map(|file| state.shown(file)).collect())
    }

    fn files(&self, query: &FileQuery, after: Option<FileId>, limit: usize) -> Result<FilePage, MetaError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state.read();
        let from = after.map_or(Unbounded, Excluded);
        let mut rest =
            state.files.range((from, Unbounded)).map(|(_, file)| file).filter(|f| matches(&state, query, f));
        let files: Vec<_> = rest.by_ref().take(limit).map(|file| state.shown(file)).collect();
        let next = rest.next().and(files.last().map(|file| file.id));
        Ok(FilePage { files, next })
    }

    fn shown(&self, after: Option<Mark>, limit: usize) -> Result<ShownPage, MetaError> {
        let state = self.state.read();
        let marks = state.marks.iter().map(|(id, mark)| (*mark, *id));
        let is_meant = |(mark, id): &(Mark, FileId)| {
            after.is_none_or(|after| *mark > after) && state.tree.get(id.ino()).is_some()
        };
        let mut shown: Vec<_> = marks.filter(is_meant).collect();
        shown.sort_unstable();
        let more = shown.len() > limit;
        shown.truncate(limit);
        let last = shown.last().map(|(mark, _)| *mark);
        let files = shown.iter().filter_map(|(_, id)| state.files.get(id)).map(|file| state.shown(file));
        Ok(ShownPage { files: files.collect(), last, next: last.filter(|_| more) })
    }

    fn marked(&self, ids: &[FileId]) -> Result<Vec<MarkedFile>, MetaError> {
        let state = self.state.read();
        let ids: BTreeSet<_> = ids.iter().collect();
        let known = ids.into_iter().filter_map(|id| state.marks.get_key_value(id));
        let mut files: Vec<_> = known.map(|(id, mark)| state.marked(*id, *mark)).collect();
        files.sort_unstable_by_key(|file| file.mark);
        Ok(files)
    }

    fn known(&self, origin: &OriginId, visit: &mut dyn FnMut(KnownFile)) -> Result<(), MetaError> {
        let state = self.state.read();
        for file in state.files.values().filter(|file| file.origin == *origin) {
            let (id, version) = (file.id, file.version.clone());
            visit(KnownFile { id, version, kind: file.kind, state: file.state });
        }
        Ok(())
    }

    fn missing_since(&self, id: FileId) -> Result<Option<UnixNanos>, MetaError> {
        let state = self.state.read();
        let missing = state.files.get(&id).is_some_and(|file| file.state == FileState::Missing);
        Ok(missing.then(|| state.gone.get(&id).copied().unwrap_or_default()))
    }

    fn multi_disc_albums(&self) -> Result<Vec<AlbumKey>, MetaError> {
        let state = self.state.read();
        let later = |file: &&FileMeta| file.audio.as_ref().is_some_and(|a| a.disc.is_some_and(|n| n > 1));
        let albums: BTreeSet<_> =
            state.files.values().filter(later).filter_map(FileMeta::album_key).collect();
        Ok(albums.into_iter().collect())
    }

    fn manifest(&self, id: FileId) -> Result<Option<(FileVersion, ChunkManifest)>, MetaError> {
        Ok(self.state.read().manifests.get(&id).cloned())
    }

    fn manifests(&self, after: Option<FileId>, limit: usize) -> Result<Vec<SavedManifest>, MetaError> {
        let state = self.state.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = state.manifests.range((from, Bound::Unbounded)).take(limit);
        let saved = page.map(|(id, (version, manifest))| SavedManifest {
            id: *id,
            version: version.clone(),
            manifest: manifest.clone(),
        });
        Ok(saved.collect())
    }

    fn note(&self, key: &str) -> Result<Option<String>, MetaError> {
        Ok(self.state.read().notes.get(key).cloned())
    }

    fn totals(&self) -> Result<Totals, MetaError> {
        let state = self.state.read();
        let mut totals = Totals { dirs: state.tree.dirs() as u64, ..Totals::default() };
        for file in state.files.values() {
            if state.tree.copies(file.id).first() == Some(&file.id) {
                totals.files += 1;
                totals.bytes += file.version.size;
                totals.tracks += u64::from(file.kind == FileKind::Audio);
            }
            totals.problems += u64::from(is_problem(file));
            totals.missing += u64::from(file.state == FileState::Missing);
        }
        Ok(totals)
    }

    fn revision(&self) -> Result<Revision, MetaError> {
        Ok(self.state.read().revision)
    }

    fn changes_since(&self, after: Revision, limit: usize) -> Result<Changes, MetaError> {
        let state = self.state.read();
        // Who asks for more than there is has followed another catalogue.
        let truncated = after < state.forgotten_upto || after > state.revision;
        let mut found = Changes { changes: Vec::new(), upto: state.revision, truncated };
        if truncated {
            return Ok(found);
        }
        for (revision, changes) in state.log.iter().filter(|(revision, _)| *revision > after) {
            if !found.changes.is_empty() && found.changes.len() >= limit {
                found.upto = Revision(revision.0 - 1);
                break;
            }
            found.changes.extend_from_slice(changes);
        }
        Ok(found)
    }

    fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, MetaError> {
        let mut state = self.state.write();
        state.check(batch)?;
        let (mut changes, mut suffixed) = (Vec::new(), Vec::new());
        for op in &batch.ops {
            state.op(op, batch.at, &mut changes, &mut suffixed);
        }
        state.revision.0 += 1;
        let revision = state.revision;
        state.log.push((revision, changes));
        if state.log.len() > self.kept {
            let (gone, _) = state.log.remove(0);
            state.forgotten_upto = gone;
        }
        self.revision.send_replace(revision);
        Ok(Applied { revision, suffixed })
    }
}
