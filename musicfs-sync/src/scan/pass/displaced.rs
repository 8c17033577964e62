//! Excluded folders that have gone while something else took their names.
//!
//! What is below an excluded folder is not read, so that it is not known whether it is still the folder that the user
//! does not want to see. Where something is there, and nothing of what is known of the folder, it is listed once more
//! and read, and recorded without being shown: the end of the pass tells which files it is, and whether the exclusion
//! goes elsewhere (`carry.rs`). If it does not, what was recorded is known of the folder from now on, so that it is
//! read once.
//!
//! A pass over a part that finds files which seem to be of an excluded folder elsewhere lists that folder as well.

use std::collections::HashSet;

use musicfs_core::{FileId, FileKind, FileMeta, FileQuery, FileState, OriginPath};
use tokio_util::sync::CancellationToken;

use super::begin::load_part;
use super::listing::Listing;
use super::{PAGE, Pass};
use crate::scan::moves::{self, Trace};
use crate::scan::{MANY_PATHS, ScanError};

impl Pass<'_> {
    /// Lists excluded folders again where that is needed to tell what became of them.
    pub(super) async fn look_below_exclusions(
        &mut self,
        cancel: &CancellationToken,
    ) -> Result<(), ScanError> {
        while self.report.complete && self.detector.excludes_any() {
            let (came, moved) = self.came().await?;
            let elsewhere = self.folders_elsewhere(&came).await?;
            if !elsewhere.is_empty() {
                self.widen(elsewhere.clone()).await?;
                self.list(Listing::of(&self.origin, elsewhere.clone()), cancel).await?;
            }
            let displaced = self.displaced(came, moved).await?;
            self.detector.lift(&displaced);
            if !displaced.is_empty() {
                self.list(Listing::of(&self.origin, displaced.clone()), cancel).await?;
            }
            // What was read may have come from other folders that this part is without.
            if self.options.paths.is_none() || (displaced.is_empty() && elsewhere.is_empty()) {
                break;
            }
        }
        Ok(())
    }

    /// Returns what came to a part of which it is not known what it is, and the known files that the rest of it is.
    async fn came(&mut self) -> Result<(Vec<Trace>, HashSet<FileId>), ScanError> {
        if self.options.paths.is_none() {
            return Ok(Default::default());
        }
        let unseen = self.detector.unseen();
        Ok(moves::unexplained(&self.find(unseen).await?))
    }

    /// Returns excluded folders outside of the part from which something that came has gone.
    async fn folders_elsewhere(&mut self, came: &[Trace]) -> Result<Vec<OriginPath>, ScanError> {
        let mut folders = Vec::new();
        if came.is_empty() {
            return Ok(folders);
        }
        let mut asked = 0;
        for file in self.excluded_elsewhere().await? {
            let Some(by) = self.detector.excluded_by(&file.path) else { continue };
            if by == file.path || folders.contains(&by) || !moves::is_alike(&Trace::of(&file), came) {
                continue;
            }
            asked += 1;
            if !self.is_there(&file).await {
                folders.push(by);
            }
            if asked == MANY_PATHS {
                break;
            }
        }
        Ok(folders)
    }

    /// Has folders belong to the part that the pass is over.
    async fn widen(&mut self, folders: Vec<OriginPath>) -> Result<(), ScanError> {
        let (mut detector, origin) = (self.detector.clone(), self.origin.id().clone());
        let more = folders.clone();
        self.detector = self
            .write(move |writer| {
                load_part(&**writer.db(), &mut detector, &origin, &more)?;
                Ok(detector)
            })
            .await?;
        self.options.paths.get_or_insert_default().extend(folders);
        Ok(())
    }

    /// Returns the excluded folders in which something else is, as far as it was listed, and nothing that is known of
    /// them; of a part, those only of which something seems to have come elsewhere.
    async fn displaced(
        &mut self,
        came: Vec<Trace>,
        moved: HashSet<FileId>,
    ) -> Result<Vec<OriginPath>, ScanError> {
        let mut folders = self.detector.maybe_displaced();
        if let Some(paths) = &self.options.paths {
            folders.retain(|(folder, _)| paths.iter().any(|at| folder.is_within(at)));
        }
        folders.retain(|(folder, _)| !self.is_unlisted(folder));
        if folders.is_empty() || !self.detector.misses_excluded() {
            return Ok(Vec::new());
        }
        let (origin, partial, came) = (self.origin.id().clone(), self.options.paths.is_some(), came.to_vec());
        self.write(move |writer| {
            let mut displaced = Vec::new();
            for (folder, below) in folders {
                let query = FileQuery::Under(origin.clone(), folder.clone());
                let mut known = writer.files(&query, PAGE)?.files;
                known.retain(|file| file.state == FileState::Excluded);
                // Covers are alike in many folders.
                let has_gone = match below.sidecar {
                    true => known.iter().any(|file| file.kind != FileKind::Sidecar),
                    false => !known.is_empty(),
                };
                let is_elsewhere =
                    |file: &FileMeta| moved.contains(&file.id) || moves::is_alike(&Trace::of(file), &came);
                if has_gone && (!partial || known.iter().any(is_elsewhere)) {
                    displaced.push(folder);
                }
            }
            Ok(displaced)
        })
        .await
    }

    /// Tells whether anything in a folder could not be listed.
    pub(super) fn is_unlisted(&self, folder: &OriginPath) -> bool {
        self.unlisted.iter().any(|at| at.is_within(folder) || folder.is_within(at))
    }
}
