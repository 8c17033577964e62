//! `/.search`: a directory for each query, with the tracks that it finds.
//!
//! # Invariants
//! * It is in no listing: the root does not name it, and it lists nothing itself, so that no walk of the tree meets
//!   a track twice or goes on for ever.
//! * A track found has the inode number that it has in the tree; its name here begins with its rank.
//! * What a directory of a query lists is found once and kept while it is looked at, so that a listing and a lookup
//!   agree. It is found anew when answers may have changed, at most once a second.
//! * The name of a query's directory is not bound to the length of other names: it may be as long as a query that the
//!   searcher takes, as far as the kernel lets it pass (1,024 bytes, or 4,095 for newer ones).
//! * At most [`RESULTS`] tracks are shown of a query, and [`QUERIES`] queries are kept; the one looked at longest ago
//!   goes.
//!
//! The catalogue has the first word: were there an entry of that name at the root of the tree, it would be shown.
//!
//! One lock guards the queries; it is held for a few lines, never while searching.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{
    Clock, FileId, FileMeta, Found, Ino, MetaDb, MonoTime, Name, NodeKind, ROOT_INODE, SearchFailure,
    Searcher,
};
use parking_lot::Mutex;

use super::{DirEntry, Emitted, FIRST_COOKIE, MusicFs};
use crate::{Attr, Backends, FsError};

/// The directory's name.
pub(super) const NAME: &[u8] = b".search";
/// Its inode number: below those of the tree's directories.
pub(crate) const SEARCH_INODE: Ino = Ino::from_raw(2);
/// Tracks shown of one query: more than anybody looks through.
const RESULTS: usize = 500;
/// Queries kept: some MiB at the most.
const QUERIES: usize = 64;
/// Time for which what was found is taken to be so.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What a query found.
struct Shown {
    query: String,
    /// The directory's time: when its entries changed last.
    changed: musicfs_core::UnixNanos,
    checked: MonoTime,
    generation: u64,
    complete: bool,
    entries: Vec<(Name, FileId)>,
    by_name: HashMap<Name, FileId>,
}

/// The queries that were made.
#[derive(Default)]
pub(crate) struct Searches {
    searcher: Option<Arc<dyn Searcher>>,
    shown: Mutex<HashMap<Ino, (u64, Arc<Shown>)>>,
}

impl Searches {
    pub(super) fn over(searcher: Arc<dyn Searcher>) -> Self {
        Self { searcher: Some(searcher), shown: Mutex::default() }
    }

    /// Returns what is kept of a query, and remembers that it was looked at.
    fn get(&self, dir: Ino) -> Option<Arc<Shown>> {
        let mut shown = self.shown.lock();
        let next = shown.values().map(|(used, _)| *used).max().unwrap_or(0) + 1;
        let (used, found) = shown.get_mut(&dir)?;
        *used = next;
        Some(found.clone())
    }

    fn keep(&self, dir: Ino, found: Arc<Shown>) {
        let mut shown = self.shown.lock();
        let next = shown.values().map(|(used, _)| *used).max().unwrap_or(0) + 1;
        shown.insert(dir, (next, found));
        if shown.len() > QUERIES
            && let Some(oldest) = shown.iter().min_by_key(|(_, (used, _))| *used).map(|(ino, _)| *ino)
        {
            shown.remove(&oldest);
        }
    }
}

impl<B: Backends> MusicFs<B> {
    /// Shows what a searcher finds, under `/.search/QUERY/`.
    #[must_use]
    pub fn with_search(mut self, searcher: Arc<dyn Searcher>) -> Self {
        self.searches = Searches::over(searcher);
        self
    }

    /// Tells whether an inode is `/.search` or a query's directory, whose entries the kernel is not to keep for long:
    /// no change of them is announced.
    pub(crate) fn is_search(&self, ino: Ino) -> bool {
        self.searches.searcher.is_some()
            && (ino == SEARCH_INODE || self.searches.shown.lock().contains_key(&ino))
    }

    /// Looks up in `/.search` or a query's directory; `None` when `parent` is neither.
    pub(super) fn search_lookup(&self, parent: Ino, name: &[u8]) -> Option<Result<Attr, FsError>> {
        let searcher = self.searches.searcher.as_ref()?;
        if parent == ROOT_INODE {
            return (name == NAME).then(|| Ok(self.search_dir_attr()));
        }
        if parent == SEARCH_INODE {
            return Some(match name {
                b"." => Ok(self.search_dir_attr()),
                b".." => self.attr_of(ROOT_INODE),
                _ => self.search_for(searcher, name).map(|(dir, found)| self.query_attr(dir, &found)),
            });
        }
        let found = self.searches.get(parent)?;
        Some(match name {
            b"." => Ok(self.query_attr(parent, &found)),
            b".." => Ok(self.search_dir_attr()),
            _ if name.len() > Name::MAX_BYTES => Err(FsError::NameTooLong),
            _ => match Name::new(name).ok().and_then(|name| found.by_name.get(&name).copied()) {
                Some(file) => self.attr_of(file.ino()),
                None => Err(FsError::NotFound),
            },
        })
    }

    /// Returns the attributes of `/.search` or a query's directory; `None` for others.
    pub(super) fn search_getattr(&self, ino: Ino) -> Option<Result<Attr, FsError>> {
        let searcher = self.searches.searcher.as_ref()?;
        if ino == SEARCH_INODE {
            return Some(Ok(self.search_dir_attr()));
        }
        let found = self.searches.get(ino)?;
        Some(self.refreshed(searcher, ino, found).map(|found| self.query_attr(ino, &found)))
    }

    /// Lists `/.search` or a query's directory; `None` for others.
    pub(super) fn search_readdir(
        &self,
        dir: Ino,
        from: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> Emitted,
    ) -> Option<Result<(), FsError>> {
        self.searches.searcher.as_ref()?;
        if dir == SEARCH_INODE {
            let (own, root) = (self.search_dir_attr(), self.attr_of(ROOT_INODE));
            return Some(root.map(|root| {
                dots(own, root, from, emit);
            }));
        }
        let found = self.searches.get(dir)?;
        Some(self.list_found(dir, &found, from, emit))
    }

    fn list_found(
        &self,
        dir: Ino,
        found: &Shown,
        from: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> Emitted,
    ) -> Result<(), FsError> {
        if dots(self.query_attr(dir, found), self.search_dir_attr(), from, emit) == Emitted::Full {
            return Ok(());
        }
        let at = usize::try_from(from.saturating_sub(FIRST_COOKIE)).unwrap_or(usize::MAX);
        for (n, (name, file)) in found.entries.iter().enumerate().skip(at) {
            // What has left the tree since is not shown.
            let attr = match self.attr_of(file.ino()) {
                Ok(attr) => attr,
                Err(FsError::Stale) => continue,
                Err(error) => return Err(error),
            };
            let next = n as u64 + 1 + FIRST_COOKIE;
            if emit(DirEntry { name: name.as_bytes(), attr, next }) == Emitted::Full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the directory of a query, made when it is not there.
    fn search_for(&self, searcher: &Arc<dyn Searcher>, name: &[u8]) -> Result<(Ino, Arc<Shown>), FsError> {
        let dir = Ino::for_dir(SEARCH_INODE, name, 0);
        if let Some(found) = self.searches.get(dir) {
            return Ok((dir, self.refreshed(searcher, dir, found)?));
        }
        let query = String::from_utf8_lossy(name).into_owned();
        let found = Arc::new(self.find(searcher, query, None)?);
        self.searches.keep(dir, found.clone());
        Ok((dir, found))
    }

    /// Returns what a query finds now, searching again when the answer may be another.
    fn refreshed(
        &self,
        searcher: &Arc<dyn Searcher>,
        dir: Ino,
        found: Arc<Shown>,
    ) -> Result<Arc<Shown>, FsError> {
        let young = self.backends.clock().now().since(found.checked) < GOOD_FOR;
        if young || (found.complete && searcher.generation() == found.generation) {
            return Ok(found);
        }
        let again = Arc::new(self.find(searcher, found.query.clone(), Some(&found))?);
        self.searches.keep(dir, again.clone());
        Ok(again)
    }

    fn find(
        &self,
        searcher: &Arc<dyn Searcher>,
        query: String,
        before: Option<&Shown>,
    ) -> Result<Shown, FsError> {
        // Asked first: an answer may be newer than its number, and never older.
        let generation = searcher.generation();
        let Found { files, complete } =
            searcher.search(&query, RESULTS).map_err(|failure| match failure {
                // A name that can be none is the caller's affair.
                SearchFailure::Refused(_) => FsError::NameTooLong,
                SearchFailure::Unavailable(_) => {
                    tracing::warn!(query, error = %failure, "a search failed");
                    FsError::Io
                }
            })?;
        let mut entries = Vec::with_capacity(files.len());
        let digits = files.len().to_string().len().max(2);
        for id in files {
            let file = self.backends.meta().file(id).map_err(|error| self.failed("search", &error))?;
            if let Some(file) = file.filter(|file| file.shown_at.is_some()) {
                let rank = entries.len() + 1;
                entries.push((name_of(&file, rank, digits), id));
            }
        }
        let clock = self.backends.clock();
        let changed = match before {
            Some(before) if before.entries == entries => before.changed,
            _ => clock.unix(),
        };
        let by_name = entries.iter().cloned().collect();
        Ok(Shown { query, changed, checked: clock.now(), generation, complete, entries, by_name })
    }

    fn search_dir_attr(&self) -> Attr {
        self.made_dir(SEARCH_INODE, musicfs_core::UnixNanos(0))
    }

    fn query_attr(&self, dir: Ino, found: &Shown) -> Attr {
        self.made_dir(dir, found.changed)
    }

    fn made_dir(&self, ino: Ino, mtime: musicfs_core::UnixNanos) -> Attr {
        let (uid, gid) = (self.options.uid, self.options.gid);
        Attr { ino, number: ino, kind: NodeKind::Dir, size: 0, mtime, uid, gid }
    }
}

/// Gives `.` and `..`, as far as they come after a position.
fn dots(own: Attr, above: Attr, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> Emitted) -> Emitted {
    if from == 0 && emit(DirEntry { name: b".", attr: own, next: 1 }) == Emitted::Full {
        return Emitted::Full;
    }
    if from < FIRST_COOKIE {
        return emit(DirEntry { name: b"..", attr: above, next: FIRST_COOKIE });
    }
    Emitted::Taken
}

/// Names a track by its rank, artist and title, with the extension that it has in the tree. Ranks make names differ.
fn name_of(file: &FileMeta, rank: usize, digits: usize) -> Name {
    let leaf = file.shown_at.as_ref().map(|path| path.leaf().to_string()).unwrap_or_default();
    let (stem, extension) = match leaf.rsplit_once('.') {
        Some((stem, extension)) => (stem, Some(extension)),
        None => (leaf.as_str(), None),
    };
    let audio = file.audio.as_deref();
    let artist = audio.and_then(|audio| audio.artists.first()).map(String::as_str);
    let title = audio.and_then(|audio| audio.title.as_deref()).unwrap_or(stem);
    let text = match artist {
        Some(artist) => format!("{rank:0digits$} {artist} - {title}"),
        None => format!("{rank:0digits$} {title}"),
    };
    Name::from_stem(&text, extension)
}
