//! A pass over a part of an origin sees one end of a rename where the other is outside that part: an album that is
//! renumbered name by name comes in several. So what came into a folder is compared with the files of that folder that
//! the pass did not look at, and with what is excluded, and of those that are alike it is asked whether they are where
//! they were.

use std::collections::BTreeSet;

use musicfs_core::{FileMeta, FileQuery, FileState, OriginErrorKind, OriginPath};

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

    /// Asks the origin whether a file is where it was.
    pub(super) async fn is_there(&mut self, file: &FileMeta) -> bool {
        match self.origin.stat(&file.path).await {
            Ok(entry) => entry.version.is_same(&file.version),
            Err(error) => error.kind != OriginErrorKind::NotFound,
        }
    }
}
