//! Bringing an index up to its catalogue: by the changes, or by all files when the changes do not reach.
//!
//! The order of a round is what makes it safe to be killed anywhere: changes are read first, then the files they
//! name, then all is committed together with the revision that the changes reach. A file may then be newer in the
//! index than that revision; the changes that made it so come again in the next round and do no harm. What the index
//! may never be is newer than its catalogue, which a power cut can throw back: the commit says which revision was
//! there when the last file was read ([`Reached::seen`]), and a catalogue below that has the index built anew.
//!
//! A file that changed is taken out before it is put in again. One that is after all that were ever put in
//! ([`Reached::newest`]) is not there to be taken out: a scan that finds new files costs nothing but them.

use std::collections::HashSet;

use musicfs_core::{Batch, Change, Changes, Clock, FileId, MarkedFile, MetaDb, MetaError, Op, Revision};
use tokio_util::sync::CancellationToken;

use super::{FORMAT, Reached, SearchError, SearchIndex};

/// The note that tells one catalogue from another.
const CATALOGUE_NOTE: &str = "search_catalogue";
/// Files read at once when all are.
const PAGE: usize = 1024;
/// Changes read at once.
const CHANGES: usize = 8192;
/// Files after which the first commit of a build is made: soon, so that something is found.
const FIRST_COMMIT: u64 = 10_000;
/// Files between two commits: what a killed build has to do again.
const COMMIT_EACH: u64 = 100_000;

/// What bringing an index up to its catalogue took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Whether it was built anew, and not brought on by changes.
    pub built: bool,
    /// Files that were put in or taken out.
    pub files: u64,
}

/// Brings an index up to its catalogue.
pub struct CatchUp<'a> {
    /// The catalogue.
    pub db: &'a dyn MetaDb,
    /// The time, of which a new catalogue takes its name.
    pub clock: &'a dyn Clock,
    /// Ends it, at the next page; what was done is committed.
    pub cancel: &'a CancellationToken,
    /// The catalogue's revision when it was opened, before anything was written to it: an index that has seen more
    /// is of a state that was lost. `None` once that was looked at.
    pub opened_at: Option<Revision>,
    /// Is told how many files are done, now and then.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl SearchIndex {
    /// Tells whether the index has all files of its catalogue but for later changes: catching up need not build it.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub fn is_followed(&self, how: &CatchUp<'_>) -> Result<bool, SearchError> {
        let name = how.db.note(CATALOGUE_NOTE)?;
        Ok(self.reached()?.is_some_and(|reached| !reached.building && Some(reached.catalogue) == name))
    }

    /// Brings the index up to its catalogue as it is now; begins it anew when it is of another one, or its changes
    /// are no longer known. Commits as it goes, and frees what writing takes at the end.
    ///
    /// # Errors
    /// See [`SearchError`]; [`SearchError::Cancelled`] once what was done is committed.
    pub fn catch_up(&self, how: &CatchUp<'_>) -> Result<Caught, SearchError> {
        let caught = self.bring_up(how)?;
        self.rest()?;
        Ok(caught)
    }

    /// As [`SearchIndex::catch_up`], and goes on merging and keeping what writing takes, until [`SearchIndex::rest`].
    pub(super) fn bring_up(&self, how: &CatchUp<'_>) -> Result<Caught, SearchError> {
        let mut round = Round { index: self, how, caught: Caught::default(), pending: 0 };
        let done = round.run();
        if done.is_err() {
            // Merging is left undone, which harms nothing, so that the end need not wait for it.
            *self.writer.lock() = None;
        }
        done.map(|()| round.caught)
    }
}

struct Round<'a> {
    index: &'a SearchIndex,
    how: &'a CatchUp<'a>,
    caught: Caught,
    /// Files since the last commit.
    pending: u64,
}

impl Round<'_> {
    fn run(&mut self) -> Result<(), SearchError> {
        let db = self.how.db;
        let catalogue = catalogue(db, self.how.clock)?;
        let latest = db.revision()?;
        let lost = |reached: &Reached| {
            reached.seen > latest || self.how.opened_at.is_some_and(|opened| reached.seen > opened)
        };
        let mut reached = match self.index.reached()? {
            Some(reached) if reached.catalogue == catalogue && !lost(&reached) => reached,
            _ => self.begin(catalogue)?,
        };
        loop {
            if reached.building {
                self.build(&mut reached)?;
            }
            if self.follow(&mut reached)? && self.agrees(&reached)? {
                return Ok(());
            }
            reached = self.begin(reached.catalogue)?;
        }
    }

    /// Begins anew.
    fn begin(&mut self, catalogue: String) -> Result<Reached, SearchError> {
        self.index.clear()?;
        self.pending = 0;
        self.caught = Caught { built: true, files: 0 };
        let now = self.how.db.revision()?;
        Ok(Reached {
            format: FORMAT,
            catalogue,
            revision: now,
            seen: now,
            newest: None,
            building: true,
            building_after: None,
        })
    }

    /// Adds all files of the tree, in the order in which the catalogue keeps them, after the last that is there.
    fn build(&mut self, reached: &mut Reached) -> Result<(), SearchError> {
        self.caught.built = true;
        let mut commit_at = FIRST_COMMIT;
        loop {
            let page = self.how.db.shown(reached.building_after, PAGE)?;
            for document in page.files.iter().filter_map(|file| self.index.fields.document(file)) {
                self.index.add(document)?;
                self.pending += 1;
            }
            reached.newest = reached.newest.max(page.last);
            self.caught.files += page.files.len() as u64;
            (self.how.progress)(self.caught.files);
            reached.building_after = page.next;
            reached.building = page.next.is_some();
            if !reached.building {
                return self.commit(reached);
            }
            if self.pending >= commit_at || self.how.cancel.is_cancelled() {
                commit_at = COMMIT_EACH;
                self.commit(reached)?;
            }
        }
    }

    /// Takes in all changes. Returns `false` when they are no longer known.
    fn follow(&mut self, reached: &mut Reached) -> Result<bool, SearchError> {
        loop {
            let Changes { changes, upto, truncated } =
                self.how.db.changes_since(reached.revision, CHANGES)?;
            if truncated {
                return Ok(false);
            }
            let touched = Touched::by(&changes);
            self.take_in(&touched, reached)?;
            self.pending += touched.files.len() as u64;
            self.caught.files += touched.files.len() as u64;
            let ended = upto == reached.revision;
            reached.revision = upto;
            if self.pending >= COMMIT_EACH || (ended && self.pending > 0) || self.how.cancel.is_cancelled() {
                self.commit(reached)?;
                (self.how.progress)(self.caught.files);
            }
            if ended {
                return Ok(true);
            }
        }
    }

    /// Puts files in as they are now, in place of what is there of them. Of copies, only that which leads is found.
    fn take_in(&self, touched: &Touched, reached: &mut Reached) -> Result<(), SearchError> {
        let newest = reached.newest;
        for files in touched.files.chunks(PAGE) {
            let marked = self.how.db.marked(files)?;
            let is_new =
                |file: &&MarkedFile| Some(file.mark) > newest && !touched.forgotten.contains(&file.id);
            let new: HashSet<FileId> = marked.iter().filter(is_new).map(|file| file.id).collect();
            let old: Vec<FileId> = files.iter().copied().filter(|id| !new.contains(id)).collect();
            self.index.remove_files(&old)?;
            for MarkedFile { mark, shown, .. } in marked {
                if let Some(document) = shown.and_then(|file| self.index.fields.document(&file)) {
                    self.index.add(document)?;
                    reached.newest = reached.newest.max(Some(mark));
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, reached: &mut Reached) -> Result<(), SearchError> {
        // After the files were read: nothing in the index is newer than this.
        reached.seen = self.how.db.revision()?;
        self.index.commit_reached(reached)?;
        self.pending = 0;
        if self.how.cancel.is_cancelled() { Err(SearchError::Cancelled) } else { Ok(()) }
    }

    /// Compares the number of files with the catalogue's. One that was built just now is not built again.
    fn agrees(&self, reached: &Reached) -> Result<bool, SearchError> {
        let db = self.how.db;
        let tracks = db.totals()?.tracks;
        if db.revision()? != reached.revision {
            // It went on meanwhile; the next round sees.
            return Ok(true);
        }
        let found = self.index.count()?;
        if found == tracks {
            return Ok(true);
        }
        if self.caught.built {
            tracing::error!(found, tracks, "the search index has not as many files as the catalogue");
            return Ok(true);
        }
        tracing::warn!(found, tracks, "the search index has lost files and is built again");
        Ok(false)
    }
}

/// Files that changes name.
#[derive(Default)]
struct Touched {
    /// Each once, in the order of their first changes.
    files: Vec<FileId>,
    /// Those that were forgotten, if only to come again: what is there of one is older than it is now.
    forgotten: HashSet<FileId>,
}

impl Touched {
    fn by(changes: &[Change]) -> Self {
        let (mut touched, mut met) = (Self::default(), HashSet::new());
        for change in changes {
            let id = match change {
                Change::EntryAdded { ino, .. } | Change::EntryRemoved { ino, .. } => ino.file_id(),
                Change::FileChanged { id, .. } => Some(*id),
                Change::FileForgotten { id } => {
                    touched.forgotten.insert(*id);
                    Some(*id)
                }
            };
            touched.files.extend(id.filter(|id| met.insert(*id)));
        }
        touched
    }
}

/// Returns the name that tells this catalogue from others; gives it one when it has none.
fn catalogue(db: &dyn MetaDb, clock: &dyn Clock) -> Result<String, MetaError> {
    if let Some(name) = db.note(CATALOGUE_NOTE)? {
        return Ok(name);
    }
    let at = clock.unix();
    // Two catalogues would have to begin in the same nanosecond to have the same name.
    let name = format!("{:x}-{:x}", at.0, clock.now().0.as_nanos());
    db.apply(&Batch {
        at,
        ops: vec![Op::SetNote { key: CATALOGUE_NOTE.into(), value: Some(name.clone()) }],
    })?;
    Ok(name)
}
