//! A pass over a part of an origin sees one end of a rename where the other is outside that part: an album that is
//! renumbered name by name comes in several. So what came into a folder is compared with the files of that folder that
//! the pass did not look at, and with what is excluded, and of those that are alike it is asked whether they are where
//! they were. What came and is none of these may have come from any other folder: the file that it is like must be
//! gone from its path then, not only changed. Until that is known it is not shown, so that nobody is told of a file
//! that comes and goes.

use std::collections::{BTreeSet, HashSet};

use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    FileId, FileMeta, FileQuery, FileState, FileVersion, MetaDb, Origin, OriginErrorKind, OriginId,
    OriginPath,
};
use tokio_util::sync::CancellationToken;

use super::{PAGE, Pass};
use crate::scan::delta::Listed;
use crate::scan::moves::{self, Alike, Found, Trace};
use crate::scan::parse::Done;
use crate::scan::{MANY_PATHS, ScanError, exclude};

/// Files of an origin that are asked about at once: readers come first.
const ASKED_AT_ONCE: usize = 8;
/// Files of one size that a new one is compared with before it is shown. Where there are more, one that moved may be
/// told as one that comes and one that goes.
const ALIKE: usize = 64;

impl Pass<'_> {
    /// Returns those of these paths of which the catalogue knows nothing and never did, neither there nor below.
    pub(super) async fn unknown(&mut self, paths: Vec<OriginPath>) -> Result<Vec<OriginPath>, ScanError> {
        if paths.is_empty() {
            return Ok(paths);
        }
        let origin = self.origin.id().clone();
        self.write(move |writer| exclude::not_known(&**writer.db(), writer.library(), &origin, paths)).await
    }

    /// Returns those of the new files of a part that are like a file of the origin, which may have moved.
    pub(super) async fn alike_anywhere(&mut self, done: &[Done]) -> Result<HashSet<FileId>, ScanError> {
        let new = |done: &Done| match done {
            Done::File(new, Listed::New, _) => Some(Trace::of(new)),
            _ => None,
        };
        let came: Vec<Trace> = done.iter().filter_map(new).collect();
        if self.options.paths.is_none() || came.is_empty() {
            return Ok(HashSet::new());
        }
        let origin = self.origin.id().clone();
        self.write(move |writer| {
            let mut known = of_sizes(&**writer.db(), &origin, sizes(&came), ALIKE)?;
            let own: HashSet<FileId> = came.iter().map(|new| new.id).collect();
            known.retain(|file| !own.contains(&file.id));
            let known = Alike::to(&known.iter().map(Trace::of).collect::<Vec<_>>());
            Ok(came.iter().filter(|new| known.has(new)).map(|new| new.id).collect())
        })
        .await
    }

    /// Returns files beside what came that are alike and are not where they were.
    pub(super) async fn gone_nearby(
        &mut self,
        found: &Found,
        cancel: &CancellationToken,
    ) -> Result<Vec<Trace>, ScanError> {
        let (came, _) = moves::unexplained(found);
        if came.is_empty() {
            return Ok(Vec::new());
        }
        let folders: BTreeSet<OriginPath> = came.iter().map(|trace| trace.path.parent()).collect();
        let mut beside = Vec::new();
        for folder in folders {
            let query = FileQuery::Folder(self.origin.id().clone(), folder);
            let page = self.write(move |writer| writer.files(&query, PAGE)).await?;
            let there = page.files.into_iter().filter(|file| file.state == FileState::Present);
            beside.extend(there.filter(|file| !self.detector.is_known(file.id)));
        }
        // What is excluded may have gone from anywhere, in an earlier pass.
        beside.extend(self.excluded_elsewhere().await?);
        let alike = Alike::to(&came);
        let beside = beside.iter().map(Trace::of).filter(|file| alike.has(file)).take(MANY_PATHS);
        not_there(&*self.origin, beside.collect(), cancel).await
    }

    /// Returns files of other folders that are like what came and of which the origin says that they are gone.
    pub(super) async fn gone_elsewhere(
        &mut self,
        found: &Found,
        cancel: &CancellationToken,
    ) -> Result<Vec<Trace>, ScanError> {
        let (came, _) = moves::unexplained(found);
        if came.is_empty() {
            return Ok(Vec::new());
        }
        let (origin, most) = (self.origin.id().clone(), came.len() + MANY_PATHS);
        let scope = self.options.paths.clone().unwrap_or_default();
        let mut alike =
            self.write(move |writer| alike_outside(&**writer.db(), &origin, &scope, &came)).await?;
        let found: HashSet<FileId> = found.gone.iter().map(|file| file.id).collect();
        alike.retain(|file| !found.contains(&file.id));
        alike.truncate(most);
        let asked = ask(&*self.origin, alike, cancel).await?;
        // In the place of one that is excluded there may be another, which has its row beside it.
        let has_gone = |file: &Trace, is: Option<FileVersion>| {
            is.is_none_or(|is| file.is_hidden() && !is.is_same(&file.version))
        };
        Ok(asked.into_iter().filter_map(|(file, is)| has_gone(&file, is).then_some(file)).collect())
    }
}

/// Asks an origin whether a file is where it was, as far as that can be told.
pub(super) async fn is_there(origin: &dyn Origin, file: &FileMeta) -> bool {
    match origin.stat(&file.path).await {
        Ok(entry) => entry.version.is_same(&file.version),
        Err(error) => error.kind != OriginErrorKind::NotFound,
    }
}

/// Returns those of these files of which the origin says that they are not where they were.
pub(super) async fn not_there(
    origin: &dyn Origin,
    files: Vec<Trace>,
    cancel: &CancellationToken,
) -> Result<Vec<Trace>, ScanError> {
    let asked = ask(origin, files, cancel).await?.into_iter();
    let is_other = |file: &Trace, is: Option<FileVersion>| !is.is_some_and(|is| is.is_same(&file.version));
    Ok(asked.filter_map(|(file, is)| is_other(&file, is).then_some(file)).collect())
}

/// Asks an origin what is at the paths of files, and leaves off at the first that it cannot tell.
async fn ask(
    origin: &dyn Origin,
    files: Vec<Trace>,
    cancel: &CancellationToken,
) -> Result<Vec<(Trace, Option<FileVersion>)>, ScanError> {
    let width = origin.caps().concurrency.clamp(1, ASKED_AT_ONCE);
    let ask = |file: Trace| async move {
        let is = match origin.stat(&file.path).await {
            Ok(entry) => Some(entry.version),
            Err(error) if error.kind == OriginErrorKind::NotFound => None,
            Err(_) => return None,
        };
        Some((file, is))
    };
    let told = stream::iter(files).map(ask).buffered(width);
    let told = told.take_while(|told| std::future::ready(told.is_some())).filter_map(std::future::ready);
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ScanError::Cancelled),
        told = told.collect() => Ok(told),
    }
}

/// Returns the files outside of a part that are like what came.
fn alike_outside(
    db: &dyn MetaDb,
    origin: &OriginId,
    part: &[OriginPath],
    came: &[Trace],
) -> Result<Vec<Trace>, ScanError> {
    let (like, mut alike) = (Alike::to(came), Vec::new());
    let is_outside = |file: &FileMeta| !part.iter().any(|at| file.path.is_within(at));
    for file in of_sizes(db, origin, sizes(came), came.len() + PAGE)? {
        let trace = Trace::of(&file);
        let may_be_there = matches!(file.state, FileState::Present | FileState::Excluded);
        if may_be_there && is_outside(&file) && like.has(&trace) {
            alike.push(trace);
        }
    }
    Ok(alike)
}

fn sizes(files: &[Trace]) -> impl Iterator<Item = u64> {
    files.iter().map(|file| file.version.size)
}

/// Returns the files that have any of these sizes, at most so many of one size.
pub(super) fn of_sizes(
    db: &dyn MetaDb,
    origin: &OriginId,
    sizes: impl IntoIterator<Item = u64>,
    most: usize,
) -> Result<Vec<FileMeta>, ScanError> {
    let (sizes, mut files): (BTreeSet<u64>, _) = (sizes.into_iter().collect(), Vec::new());
    for size in sizes {
        files.extend(db.files(&FileQuery::OfSize(origin.clone(), size), None, most)?.files);
    }
    Ok(files)
}
