//! A pass over a part of an origin sees one end of a rename where the other is outside that part: an album that is
//! renumbered name by name comes in several. So what came into a folder is compared with the files of that folder that
//! the pass did not look at, and with what is excluded, and of those that are alike it is asked whether they are where
//! they were. What came and is none of these may have come from any other folder: the file that it is like must be
//! gone from its path then, not only changed.

use std::collections::{BTreeSet, HashMap};

use musicfs_core::{
    FileId, FileMeta, FileQuery, FileState, MetaDb, OriginErrorKind, OriginId, OriginPath, UnixNanos,
};
use tokio_util::sync::CancellationToken;

use super::{PAGE, Pass};
use crate::scan::moves::{self, Found, Trace};
use crate::scan::{MANY_PATHS, ScanError};

impl Pass<'_> {
    /// Returns those of these paths of which the catalogue knows nothing, neither there nor below.
    pub(super) async fn unknown(&mut self, paths: Vec<OriginPath>) -> Result<Vec<OriginPath>, ScanError> {
        let mut unknown = Vec::new();
        for path in paths {
            let at = self.detector.id_of(&path);
            if self.detector.is_known(at) {
                continue;
            }
            let below = FileQuery::Under(self.origin.id().clone(), path.clone());
            if self.write(move |writer| writer.files(&below, 1)).await?.files.is_empty() {
                unknown.push(path);
            }
        }
        Ok(unknown)
    }

    /// Returns files beside what came that are alike and are not where they were.
    pub(super) async fn gone_nearby(&mut self, found: &Found) -> Result<Vec<Trace>, ScanError> {
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
        let mut gone = Vec::new();
        for file in beside.iter().filter(|file| moves::is_alike(&Trace::of(file), &came)).take(MANY_PATHS) {
            if !self.is_there(file).await {
                gone.push(Trace::of(file));
            }
        }
        Ok(gone)
    }

    /// Returns files of other folders that are like what came and of which the origin says that they are gone.
    pub(super) async fn gone_elsewhere(
        &mut self,
        found: &Found,
        cancel: &CancellationToken,
    ) -> Result<Vec<Trace>, ScanError> {
        let (came, _) = moves::unexplained(found);
        let mut gone = Vec::new();
        if came.is_empty() {
            return Ok(gone);
        }
        let (origin, most) = (self.origin.id().clone(), came.len() + MANY_PATHS);
        let scope = self.options.paths.clone().unwrap_or_default();
        let alike = self.write(move |writer| alike_outside(&**writer.db(), &origin, &scope, &came)).await?;
        for file in alike.into_iter().take(most) {
            if cancel.is_cancelled() {
                return Err(ScanError::Cancelled);
            }
            match self.origin.stat(&file.path).await {
                Ok(_) => {}
                Err(error) if error.kind == OriginErrorKind::NotFound => gone.push(file),
                // What cannot be told now is not asked again for each of the others.
                Err(_) => break,
            }
        }
        Ok(gone)
    }

    /// Asks the origin whether a file is where it was.
    pub(super) async fn is_there(&mut self, file: &FileMeta) -> bool {
        match self.origin.stat(&file.path).await {
            Ok(entry) => entry.version.is_same(&file.version),
            Err(error) => error.kind != OriginErrorKind::NotFound,
        }
    }
}

/// Returns the files outside of a part that are like what came, those of the same time first.
fn alike_outside(
    db: &dyn MetaDb,
    origin: &OriginId,
    part: &[OriginPath],
    came: &[Trace],
) -> Result<Vec<Trace>, ScanError> {
    let mut times: HashMap<u64, Vec<Option<UnixNanos>>> = HashMap::new();
    for trace in came {
        times.entry(trace.version.size).or_default().push(trace.version.mtime);
    }
    let mut of_that_size: Vec<(bool, FileId)> = Vec::new();
    db.known(origin, &mut |file| {
        if file.state == FileState::Present
            && let Some(times) = times.get(&file.version.size)
        {
            of_that_size.push((!times.contains(&file.version.mtime), file.id));
        }
    })?;
    of_that_size.sort_unstable();
    let mut alike = Vec::new();
    for (_, id) in of_that_size.into_iter().take(came.len() + PAGE) {
        let Some(file) = db.file(id)? else { continue };
        let trace = Trace::of(&file);
        if !part.iter().any(|at| file.path.is_within(at)) && moves::is_alike(&trace, came) {
            alike.push(trace);
        }
    }
    Ok(alike)
}
