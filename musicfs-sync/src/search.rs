//! Searching the catalogue.
//!
//! **Purpose.** [`SearchIndex`] finds tracks by what their tags say, in milliseconds among a million. It is derived
//! from the catalogue and holds nothing else: it may be deleted, cut short or filled with garbage at any time, and
//! is then built again. [`Search`] keeps it up to date beside a running mount and answers meanwhile.
//!
//! **Invariants.**
//! * Every commit of the index says which revision of which catalogue it has reached; all that the index holds is of
//!   that catalogue. An index of another catalogue, or one that is ahead of its catalogue, is built anew.
//! * A hit is a file's id and nothing more: what is told of it is the catalogue's word.
//! * Files are read, not mapped: a file that is cut short is an error and not the end of the process.
//! * Memory is bounded: 15 MiB while writing, no writer while nothing is written, no open index while nobody has
//!   searched for a minute.
//!
//! **Locking.** The writer stands behind one lock, held while files are added and committed; searching does not take
//! it. What is open for searching stands behind another, held while it is opened. Everything here blocks for the disk: async code calls from a blocking thread.
//!
//! **Not here.** The tree's view of a search is in `musicfs-fuse`; when the index is opened is decided by the daemon.

mod begun;
mod directory;
mod error;
mod fold;
mod follow;
mod parse;
mod query;
mod rather;
mod schema;
mod service;
mod steady;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use musicfs_core::{FileId, FileMeta, Mark, Revision};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tantivy::collector::TopDocs;
use tantivy::indexer::IndexWriterOptions;
use tantivy::query::TermSetQuery;
use tantivy::schema::TantivyDocument;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, SegmentReader};

use directory::PlainDirectory;
use error::{guarded, of_disk, of_tantivy};
use schema::Fields;

pub use error::SearchError;
pub use follow::{CatchUp, Caught};
pub use parse::{TooLarge, check_query};
pub use service::{Search, SearchPhase, SearchStatus};

/// Memory in which files are gathered before they are written: the least that tantivy takes.
const BUDGET: usize = 15_000_000;
/// Most hits of one search.
const MOST_HITS: usize = 10_000;
/// Version of what is in the index: raised when the fields, or how text is cut, or what a commit says, change.
const FORMAT: u32 = 5;

/// How far an index has come, as its commit says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    format: u32,
    /// The catalogue that it was made of.
    catalogue: String,
    /// Changes up to this revision are in it.
    revision: Revision,
    /// The catalogue's revision when the last file was read from it: the index knows of nothing newer.
    seen: Revision,
    /// No file after this one was ever put in: those need not be taken out before. `None` while nothing is in it.
    newest: Option<Mark>,
    /// While it is being built: where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    building_after: Option<Mark>,
    /// Whether it is still being built, and lacks files.
    #[serde(default)]
    building: bool,
}

/// Whether an index was opened as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was sound, or there was none.
    Sound,
    /// It was damaged and removed; an empty one was begun.
    Anew {
        /// What was wrong.
        reason: String,
    },
}

/// An index of the catalogue's tracks, in a directory of its own.
pub struct SearchIndex {
    dir: PathBuf,
    place: PlainDirectory,
    fields: Fields,
    index: Index,
    /// Open while there are searches, see [`SearchIndex::release`].
    reader: Mutex<Option<IndexReader>>,
    writer: Mutex<Option<IndexWriter>>,
    /// Grows with each commit that changed what a search finds.
    generation: AtomicU64,
}

impl SearchIndex {
    /// Opens the index in `dir`, or begins one. All of it is checked against its checksums.
    ///
    /// # Errors
    /// [`SearchError::Damaged`] when anything is wrong with it; it is left as it is.
    pub fn open(dir: &Path) -> Result<Self, SearchError> {
        guarded(dir, || Self::open_unguarded(dir))
    }

    /// Opens the index as [`SearchIndex::open`] does; when it is damaged, removes it and begins an empty one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open_with_recovery(dir: &Path) -> Result<(Self, Opened), SearchError> {
        match Self::open(dir) {
            Ok(index) => Ok((index, Opened::Sound)),
            Err(SearchError::Damaged { reason, .. }) => {
                tracing::warn!(dir = %dir.display(), reason, "the search index is damaged and is built again");
                remove(dir)?;
                Ok((Self::open(dir)?, Opened::Anew { reason }))
            }
            Err(error) => Err(error),
        }
    }

    fn open_unguarded(dir: &Path) -> Result<Self, SearchError> {
        let damaged = |reason: String| SearchError::Damaged { dir: dir.to_owned(), reason };
        let failed = |error| of_tantivy(dir, error);
        fs::create_dir_all(dir).map_err(|error| of_disk(dir, error))?;
        let fields = Fields::new();
        let files = fs::read_dir(dir).map_err(|error| of_disk(dir, error))?;
        let has_files =
            files.flatten().any(|entry| !entry.file_name().to_string_lossy().starts_with(".tantivy"));
        let place = PlainDirectory::open(dir).map_err(|error| failed(error.into()))?;
        let index = if has_files {
            // With files and without the one, tantivy would begin an empty index; without the other, it would leave
            // files lying that are of no more use.
            if let Some(missing) =
                ["meta.json", ".managed.json"].iter().find(|name| !dir.join(name).is_file())
            {
                return Err(damaged(format!("{missing} is missing")));
            }
            Index::open(place.clone()).map_err(failed)?
        } else {
            Index::create(place.clone(), fields.schema.clone(), tantivy::IndexSettings::default())
                .map_err(failed)?
        };
        if index.schema() != fields.schema {
            return Err(damaged("it was made by another version".into()));
        }
        Fields::register(&index);
        let bad: HashSet<PathBuf> = index.validate_checksum().map_err(failed)?;
        if let Some(path) = bad.iter().next() {
            return Err(damaged(format!("{} does not match its checksum", path.display())));
        }
        let opened = Self {
            dir: dir.to_owned(),
            place,
            fields,
            index,
            reader: Mutex::new(None),
            writer: Mutex::new(None),
            generation: AtomicU64::new(0),
        };
        opened.look_at_all_parts()?;
        Ok(opened)
    }

    /// Opens every part that a search may need: what checksums do not show is found here.
    fn look_at_all_parts(&self) -> Result<(), SearchError> {
        let failed = |error| of_tantivy(&self.dir, error);
        // One after the other: of a million tracks, all of them open are some 30 MB.
        for segment in self.index.searchable_segments().map_err(failed)? {
            let segment = SegmentReader::open(&segment).map_err(failed)?;
            for (field, entry) in self.fields.schema.fields() {
                let inverted = segment.inverted_index(field).map_err(failed)?;
                let _ = inverted.terms().num_terms();
                if entry.has_fieldnorms() && entry.field_type().is_str() {
                    segment.get_fieldnorms_reader(field).map_err(failed)?;
                }
            }
            segment.fast_fields().u64(schema::ID).map_err(failed)?;
        }
        Ok(())
    }

    /// Puts a file into the index, in place of what is there of it; one that is not to be found is taken out. It is
    /// seen by searches after the next [`SearchIndex::commit`].
    ///
    /// # Errors
    /// [`SearchError::Storage`] when the disk refuses.
    pub fn index_file(&self, file: &FileMeta) -> Result<(), SearchError> {
        let document = self.fields.document(file);
        self.with_writer(|writer| {
            writer.delete_term(self.fields.id_term(file.id));
            document.map_or(Ok(()), |document| writer.add_document(document).map(drop))
        })
    }

    /// Takes a file out of the index, with the next [`SearchIndex::commit`].
    ///
    /// # Errors
    /// [`SearchError::Storage`] when the disk refuses.
    pub fn remove_file(&self, id: FileId) -> Result<(), SearchError> {
        self.with_writer(|writer| {
            writer.delete_term(self.fields.id_term(id));
            Ok(())
        })
    }

    /// Makes all that was put in or taken out since the last commit visible, and safe from a kill. How far the index has come
    /// stays as it was said last.
    ///
    /// # Errors
    /// [`SearchError::Storage`] when the disk refuses; then nothing of it is in the index.
    pub fn commit(&self) -> Result<(), SearchError> {
        let payload = self.index.load_metas().map_err(|error| of_tantivy(&self.dir, error))?.payload;
        self.commit_as(payload.as_deref())
    }

    /// Commits, and says how far the index has come.
    fn commit_reached(&self, reached: &Reached) -> Result<(), SearchError> {
        let payload = serde_json::to_string(reached).map_err(|error| self.storage(error))?;
        self.commit_as(Some(&payload))
    }

    fn commit_as(&self, payload: Option<&str>) -> Result<(), SearchError> {
        self.with_writer(|writer| {
            let mut prepared = writer.prepare_commit()?;
            if let Some(payload) = payload {
                prepared.set_payload(payload);
            }
            prepared.commit().map(drop)
        })?;
        self.reload()?;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Returns how far the index has come; `None` for one that was never followed.
    fn reached(&self) -> Result<Option<Reached>, SearchError> {
        let metas = self.index.load_metas().map_err(|error| of_tantivy(&self.dir, error))?;
        let reached =
            metas.payload.as_deref().and_then(|payload| serde_json::from_str::<Reached>(payload).ok());
        Ok(reached.filter(|reached| reached.format == FORMAT))
    }

    /// Takes files out of the index, with the next commit. However many they are, this is one change: tantivy keeps
    /// more than a kilobyte of each until the commit. It looks for each of them in every part of the index then, which
    /// takes longer than to put it in.
    fn remove_files(&self, files: &[FileId]) -> Result<(), SearchError> {
        if files.is_empty() {
            return Ok(());
        }
        let ids = TermSetQuery::new(files.iter().map(|id| self.fields.id_term(*id)));
        self.with_writer(|writer| writer.delete_query(Box::new(ids)).map(drop))
    }

    /// Takes everything out, with the next commit.
    fn clear(&self) -> Result<(), SearchError> {
        // A writer goes on adding what it has not committed, and deleting what it was told to before.
        *self.writer.lock() = None;
        self.with_writer(|writer| writer.delete_all_documents().map(drop))
    }

    /// Adds a file that is known not to be in the index.
    fn add(&self, document: TantivyDocument) -> Result<(), SearchError> {
        self.with_writer(|writer| writer.add_document(document).map(drop))
    }

    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut IndexWriter) -> tantivy::Result<T>,
    ) -> Result<T, SearchError> {
        let mut writer = self.writer.lock();
        let done = guarded(&self.dir, || {
            let open = match writer.as_mut() {
                Some(open) => open,
                None => writer.insert(self.open_writer()?),
            };
            work(open).map_err(|error| of_tantivy(&self.dir, error))
        });
        if done.is_ok() {
            return done;
        }
        // One that failed is of no more use.
        *writer = None;
        // A disk that refused is why, whatever came of it.
        self.place.refused().map_or(done, |error| Err(of_disk(&self.dir, error)))
    }

    fn open_writer(&self) -> Result<IndexWriter, SearchError> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(BUDGET)
            .build();
        let writer: IndexWriter =
            self.index.writer_with_options(options).map_err(|error| of_tantivy(&self.dir, error))?;
        // What a writer that was killed, or had no more room, left behind.
        if let Err(error) = writer.garbage_collect_files().wait() {
            tracing::debug!(%error, "files of no use are left in the search index");
        }
        let _ = self.place.refused();
        Ok(writer)
    }

    /// Ends writing, until there is more to write, with the memory and the threads that it takes, once what is being
    /// merged is merged.
    fn rest(&self) -> Result<(), SearchError> {
        let writer = self.writer.lock().take();
        let Some(writer) = writer else { return Ok(()) };
        guarded(&self.dir, || writer.wait_merging_threads().map_err(|error| of_tantivy(&self.dir, error)))?;
        self.reload()
    }

    /// Returns how many files are in the index, as of the last commit.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub fn count(&self) -> Result<u64, SearchError> {
        guarded(&self.dir, || {
            let parts =
                self.index.searchable_segment_metas().map_err(|error| of_tantivy(&self.dir, error))?;
            Ok(parts.iter().map(|part| u64::from(part.num_docs())).sum())
        })
    }

    /// Frees what searching takes of memory, until the next search.
    pub fn release(&self) {
        *self.reader.lock() = None;
    }

    /// Returns the index as of the last commit, opened for searching.
    fn searcher(&self) -> Result<Searcher, SearchError> {
        let mut reader = self.reader.lock();
        if let Some(open) = &*reader {
            return Ok(open.searcher());
        }
        let opened: tantivy::Result<IndexReader> =
            self.index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
        let opened = opened.map_err(|error| of_tantivy(&self.dir, error))?;
        Ok(reader.insert(opened).searcher())
    }

    /// Lets searches see the last commit.
    fn reload(&self) -> Result<(), SearchError> {
        let reader = self.reader.lock();
        let Some(open) = &*reader else { return Ok(()) };
        guarded(&self.dir, || open.reload().map_err(|error| of_tantivy(&self.dir, error)))
    }

    /// Returns a number that grows whenever what a search finds may have changed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds at most `limit` files, the most fitting first. Any text is a query; the grammar stands in `search/parse.rs`, and in `musicfs search --help`.
    ///
    /// # Errors
    /// [`SearchError::TooLarge`] for a query that is too long; [`SearchError::Damaged`] when the index turns out to
    /// be damaged.
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<FileId>, SearchError> {
        let Some(ast) = parse::parse(query)? else { return Ok(Vec::new()) };
        let limit = limit.min(MOST_HITS);
        if limit == 0 {
            return Ok(Vec::new());
        }
        guarded(&self.dir, || {
            let failed = |error| of_tantivy(&self.dir, error);
            let searcher = self.searcher()?;
            let query = query::build(&self.fields, &ast);
            let collector = TopDocs::with_limit(limit).order_by_score();
            let hits = searcher.search(&*query, &collector).map_err(failed)?;
            let columns: Result<Vec<_>, _> = searcher
                .segment_readers()
                .iter()
                .map(|segment| segment.fast_fields().u64(schema::ID))
                .collect();
            let columns = columns.map_err(failed)?;
            let id = |address: tantivy::DocAddress| {
                let column = columns.get(address.segment_ord as usize)?;
                FileId::from_raw(column.first(address.doc_id)?.cast_signed())
            };
            Ok(hits.into_iter().filter_map(|(_, address)| id(address)).collect())
        })
    }

    fn storage(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SearchError {
        SearchError::Storage { dir: self.dir.clone(), source: error.into() }
    }
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchIndex").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Removes an index with all its files.
pub(crate) fn remove(dir: &Path) -> Result<(), SearchError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Something else than a directory may stand there.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            fs::remove_file(dir).map_err(|error| of_disk(dir, error))
        }
        // A file system of its own may be mounted there, and is empty now.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        removed => removed.map_err(|error| of_disk(dir, error)),
    }
}
