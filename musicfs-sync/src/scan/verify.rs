//! Comparing what is known of files with what they hold, though nothing says that they changed.
//!
//! Each file is read again for its tags and what identifies its audio; what is cached of it is compared with its origin by
//! whoever caches it ([`ContentVerifier`]). What differs is recorded as a change, and caches are told. Content that is neither
//! cached nor looked at for what identifies the audio is not read: nothing is known of it that could be compared.
//!
//! A file that holds what is known of another may have exchanged names with it. Of these a pass decides in the end, which
//! reads them whatever their sizes and times say.
//!
//! Runs beside passes, as a refresh does: each file is right by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use musicfs_core::{
    ContentVerifier, FileId, FileKind, FileMeta, FileQuery, FileState, MetaDb, Op, Origin, OriginEntry,
    OriginError, OriginErrorKind, OriginId, OriginPath, Refresher,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::moves::Trace;
use super::parse::{self, Done};
use super::turns::Lane;
use super::writer::Writer;
use super::{PassOptions, ScanError, Scanner, blocking};
use crate::tags::{self, ParseFailure};

/// Files of a query that are loaded at once.
const PAGE: usize = 256;
/// Files behind a network that are compared at once.
const REMOTE_WIDTH: usize = 2;
/// Files of one size among which the one is looked for that held what another holds.
const ALIKE: usize = 1_000;

/// How far comparing is, and in the end what it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Files that hold what is known of them.
    pub verified: u64,
    /// Files that hold something else although their size and time are those known.
    pub differing: u64,
    /// Files that are as they were and could not be read.
    pub unread: u64,
    /// Bytes of cached content that were compared.
    pub bytes: u64,
}

/// What comparing one file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Same,
    Differs,
    /// It holds what is known of another file, which is at this path.
    Exchanged(OriginPath),
    Unread,
    /// It is another version now, or gone: no news of what it holds.
    Changed,
}

impl Scanner {
    /// Has what is cached of files compared by `verifier`, too, when files are compared.
    pub fn with_verifier(mut self, verifier: Arc<dyn ContentVerifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Compares the files of an origin, or those at and below some of its paths, with what is known of them; tells after
    /// each file how far it is. What differs is recorded.
    ///
    /// Dropping the future ends it; what was found is recorded.
    ///
    /// # Errors
    /// [`ScanError::Origin`] when the origin does not answer; see [`ScanError`] for others.
    pub async fn verify(
        &self,
        origin: &OriginId,
        paths: Option<&[OriginPath]>,
        cancel: &CancellationToken,
        progress: &(dyn Fn(&Verification) + Sync),
    ) -> Result<Verification, ScanError> {
        let origin = self.origin(origin).ok_or_else(|| ScanError::UnknownOrigin(origin.clone()))?;
        let width = if origin.caps().remote { REMOTE_WIDTH } else { self.workers };
        let storage = origin.health().await.map_err(ScanError::Origin)?.identity;
        let mut done = Verification::default();
        let mut exchanged: BTreeSet<OriginPath> = BTreeSet::new();
        for query in queries(origin.id(), paths) {
            let mut after: Option<FileId> = None;
            loop {
                let (db, asked) = (self.db.clone(), query.clone());
                let page = blocking(move || db.files(&asked, after, PAGE)).await??;
                let files = page.files.into_iter().filter(|file| is_meant(file, &query, paths));
                let mut compared = futures::stream::iter(files)
                    .map(|file| self.verify_file(&origin, storage.as_deref(), file))
                    .buffer_unordered(width);
                loop {
                    let next = tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(ScanError::Cancelled),
                        next = compared.next() => next,
                    };
                    let Some(next) = next else { break };
                    let (path, outcome, bytes) = next?;
                    done.bytes += bytes;
                    match outcome {
                        Outcome::Same => done.verified += 1,
                        Outcome::Differs => done.differing += 1,
                        Outcome::Exchanged(with) => {
                            done.differing += 1;
                            exchanged.extend([path, with]);
                        }
                        Outcome::Unread => done.unread += 1,
                        Outcome::Changed => {}
                    }
                    progress(&done);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        if !exchanged.is_empty() {
            let paths = Some(exchanged.into_iter().collect());
            let options = PassOptions { paths, reread: true, ..PassOptions::default() };
            self.scan_with(origin.id(), &options, cancel).await?;
        }
        Ok(done)
    }

    async fn verify_file(
        &self,
        origin: &Arc<dyn Origin>,
        storage: Option<&str>,
        file: FileMeta,
    ) -> Result<(OriginPath, Outcome, u64), ScanError> {
        let mut outcome = match file.kind {
            FileKind::Audio | FileKind::Unparsed => self.verify_tags(origin, &file).await?,
            FileKind::Sidecar | FileKind::Other => Outcome::Same,
        };
        let mut bytes = 0;
        let is_compared = matches!(outcome, Outcome::Same | Outcome::Differs);
        if let Some(verifier) = self.verifier.as_ref().filter(|_| is_compared) {
            match verifier.compare(&file).await {
                Ok(compared) => {
                    bytes = compared.bytes;
                    if compared.differs {
                        outcome = Outcome::Differs;
                    }
                }
                Err(error) => {
                    warn!(origin = %file.origin, path = %file.path, error = &error as &dyn std::error::Error, "what is cached cannot be compared");
                    outcome = Outcome::Unread;
                }
            }
        }
        if outcome == Outcome::Unread && is_another(&**origin, storage, &file).await? {
            outcome = Outcome::Changed;
        }
        if outcome == Outcome::Changed {
            self.refresh(file.id).await;
        }
        Ok((file.path, outcome, bytes))
    }

    /// Reads a file again for its tags, and records them when they are others.
    async fn verify_tags(&self, origin: &Arc<dyn Origin>, file: &FileMeta) -> Result<Outcome, ScanError> {
        let entry = OriginEntry { path: file.path.clone(), version: file.version.clone() };
        let Done::File(row, ..) = parse::one(origin.clone(), file.id, entry).await? else {
            return Ok(Outcome::Unread);
        };
        if !row.version.is_same(&file.version) {
            return Ok(Outcome::Changed);
        }
        if is_same(&row, file) {
            return Ok(Outcome::Same);
        }
        match is_same_read_at_length(&**origin, file).await {
            Ok(true) => return Ok(Outcome::Same),
            Ok(false) => {}
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the file cannot be compared");
                return Ok(Outcome::Unread);
            }
        }
        if let Some(other) = self.that_held(&row, file).await? {
            warn!(origin = %file.origin, path = %file.path, held_by = %other, "the file holds what another held");
            return Ok(Outcome::Exchanged(other));
        }
        warn!(origin = %file.origin, path = %file.path, "the file does not hold what is known of it; recorded anew");
        let parts = self.parts(Lane::Asked);
        blocking(move || {
            let id = row.id;
            let mut writer = Writer::load(parts)?;
            writer.put(row);
            writer.push(Op::Correct(id));
            writer.flush()
        })
        .await??;
        Ok(Outcome::Differs)
    }

    /// Returns the path of another known file that is what was read where a file was `known`, when that was not.
    pub(super) async fn that_held(
        &self,
        read: &FileMeta,
        known: &FileMeta,
    ) -> Result<Option<OriginPath>, ScanError> {
        let (db, trace) = (self.db.clone(), Trace::of(read));
        if trace.has_audio_of(&Trace::of(known)) {
            return Ok(None);
        }
        let query = FileQuery::OfSize(read.origin.clone(), read.version.size);
        blocking(move || {
            let alike = db.files(&query, None, ALIKE)?.files.into_iter();
            let mut alike = alike.filter(|file| file.state != FileState::Missing && file.id != trace.id);
            Ok(alike.find(|file| trace.is_renamed(&Trace::of(file))).map(|file| file.path))
        })
        .await?
    }
}

/// A file that is known is read in smaller pieces than one that is not, and lengths that are estimated follow from what
/// was read.
async fn is_same_read_at_length(origin: &dyn Origin, file: &FileMeta) -> Result<bool, OriginError> {
    if origin.local().is_some() {
        return Ok(false);
    }
    match tags::parse_origin(origin, &file.path, &file.version).await {
        Ok(parsed) => Ok(file.format == Some(parsed.format) && file.audio.as_deref() == Some(&parsed.audio)),
        Err(ParseFailure::Origin(error)) => Err(error),
        Err(ParseFailure::Unparsable(_)) => Ok(false),
    }
}

/// Tells whether a file that could not be read is another version now, or gone. One file that cannot be read is no
/// reason to leave off; an origin that is away is.
async fn is_another(origin: &dyn Origin, storage: Option<&str>, file: &FileMeta) -> Result<bool, ScanError> {
    let now = origin.stat(&file.path).await;
    let health = origin.health().await.map_err(ScanError::Origin)?;
    Ok(match now {
        Ok(entry) => !entry.version.is_same(&file.version),
        // A disk that is not mounted has none of its files.
        Err(error) => error.kind == OriginErrorKind::NotFound && health.identity.as_deref() == storage,
    })
}

/// Why a file could not be parsed depends on how much of it was looked at.
fn is_same(read: &FileMeta, known: &FileMeta) -> bool {
    let of = |file: &FileMeta| (file.kind, file.format, file.problem.is_some());
    of(read) == of(known) && read.audio == known.audio
}

/// Returns the queries for files at and below these paths.
fn queries(origin: &OriginId, paths: Option<&[OriginPath]>) -> Vec<FileQuery> {
    let Some(paths) = paths else { return vec![FileQuery::Origin(origin.clone())] };
    let both = |path: &OriginPath| {
        let at = (!path.is_root()).then(|| FileQuery::Folder(origin.clone(), path.parent()));
        [Some(FileQuery::Under(origin.clone(), path.clone())), at]
    };
    paths.iter().flat_map(both).flatten().collect()
}

/// Tells whether a file that a query found is there, and is not found by it only because it stands beside one that is
/// meant.
fn is_meant(file: &FileMeta, query: &FileQuery, paths: Option<&[OriginPath]>) -> bool {
    let beside = matches!(query, FileQuery::Folder(..));
    let named = || paths.is_some_and(|paths| paths.contains(&file.path));
    file.state == FileState::Present && (!beside || named())
}
