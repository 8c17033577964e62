//! Excluded folders that have gone while something else took their names.
//!
//! What is below an excluded folder is not read, so that it is not known whether it is still the folder that the user
//! does not want to see. Where something is there, and nothing of what is known of the folder, it is listed once more
//! and read, and recorded without being shown: the end of the pass tells which files it is, and whether the exclusion
//! goes elsewhere (`carry.rs`). If it does not, what was recorded is known of the folder from now on, so that it is
//! read once.
//!
//! Where music that is known of an excluded folder is still there, the folder is itself, and what came to it is of it:
//! a file that was known elsewhere, or has another name below, is read as well, so that it goes on as one that is known
//! of the folder and goes where that goes. Where none is there, what has the size and time of such music is read: it
//! may have other names, all of it.
//!
//! A pass over a part that finds files which seem to be of an excluded folder elsewhere lists that folder as well.

use std::collections::HashSet;

use musicfs_core::{FileId, FileKind, FileMeta, FileQuery, FileState, OriginEntry, OriginPath};
use tokio_util::sync::CancellationToken;

use super::begin::load_part;
use super::listing::Listing;
use super::nearby::{is_there, not_there, of_sizes};
use super::{PAGE, Pass};
use crate::scan::known::{SizeAndTime, size_and_time};
use crate::scan::moves::{self, Alike, Trace};
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
            let newcomers = self.newcomers(cancel).await?;
            let read = !newcomers.is_empty();
            if read {
                self.detector.ask_for(&newcomers);
                self.list(Listing::again(newcomers), cancel).await?;
            }
            // What was read may have come from other folders that this part is without.
            if self.options.paths.is_none() || (displaced.is_empty() && elsewhere.is_empty() && !read) {
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
        let (like, mut asked) = (Alike::to(came), 0);
        for file in self.excluded_elsewhere().await? {
            let Some(by) = self.detector.excluded_by(&file.path) else { continue };
            if by == file.path || folders.contains(&by) || !like.has(&Trace::of(&file)) {
                continue;
            }
            asked += 1;
            if !is_there(&*self.origin, &file).await {
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
        let (origin, partial, came) =
            (self.origin.id().clone(), self.options.paths.is_some(), Alike::to(&came));
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
                let is_elsewhere = |file: &FileMeta| moved.contains(&file.id) || came.has(&Trace::of(file));
                if has_gone && (!partial || known.iter().any(is_elsewhere)) {
                    displaced.push(folder);
                }
            }
            Ok(displaced)
        })
        .await
    }

    /// Returns what is to be read of that which came to excluded folders.
    async fn newcomers(&mut self, cancel: &CancellationToken) -> Result<Vec<OriginEntry>, ScanError> {
        let came = self.detector.take_came();
        if came.is_empty() {
            return Ok(Vec::new());
        }
        let of = came.values().flatten().map(|new| size_and_time(&new.version)).collect();
        let gone = self.gone_versions(of, cancel).await?;
        let recorded: HashSet<FileId> = self.arrived.iter().copied().chain(self.apart.recorded()).collect();
        let mut newcomers = Vec::new();
        for (folder, mut came) in came {
            came.retain(|new| gone.contains(&size_and_time(&new.version)));
            if came.is_empty() {
                continue;
            }
            let query = FileQuery::Under(self.origin.id().clone(), folder.clone());
            let mut known = self.write(move |writer| writer.files(&query, PAGE)).await?.files;
            known.retain(|file| {
                let is_of_it = file.state == FileState::Excluded && !recorded.contains(&file.id);
                is_of_it && file.kind != FileKind::Sidecar
            });
            if !self.is_itself(&folder, &known).await {
                came.retain(|new| known.iter().any(|file| file.version.is_same(&new.version)));
            }
            newcomers.extend(came);
        }
        Ok(newcomers)
    }

    /// Returns the sizes and times, of these at least, of known files that are not where they were.
    async fn gone_versions(
        &mut self,
        of: HashSet<SizeAndTime>,
        cancel: &CancellationToken,
    ) -> Result<HashSet<SizeAndTime>, ScanError> {
        let mut gone = self.detector.gone_versions();
        gone.extend(self.apart.files().iter().map(|(old, _)| size_and_time(&old.version)));
        if self.options.paths.is_none() {
            return Ok(gone);
        }
        let (origin, most) = (self.origin.id().clone(), of.len() + MANY_PATHS);
        let outside = self
            .write(move |writer| {
                let sizes = of.iter().map(|(size, _)| *size);
                let mut files = of_sizes(&**writer.db(), &origin, sizes, of.len() + PAGE)?;
                files.retain(|file| of.contains(&size_and_time(&file.version)));
                Ok(files)
            })
            .await?;
        let outside = outside.into_iter().filter(|file| !self.detector.is_known(file.id)).take(most);
        let (missing, others): (Vec<_>, Vec<_>) = outside.partition(|file| file.state == FileState::Missing);
        gone.extend(missing.iter().map(|file| size_and_time(&file.version)));
        let elsewhere = not_there(&*self.origin, others.iter().map(Trace::of).collect(), cancel).await?;
        gone.extend(elsewhere.iter().map(|file| size_and_time(&file.version)));
        Ok(gone)
    }

    /// Tells whether any of this music, which is known of an excluded folder, is where it was, or none is known.
    async fn is_itself(&mut self, folder: &OriginPath, known: &[FileMeta]) -> bool {
        if known.is_empty() || self.detector.below(folder).is_some_and(|below| below.music) {
            return true;
        }
        let (listed, others): (Vec<_>, Vec<_>) =
            known.iter().partition(|file| self.detector.is_known(file.id));
        if listed.iter().any(|file| self.detector.is_in_place(file.id)) {
            return true;
        }
        for file in others.into_iter().take(MANY_PATHS) {
            if is_there(&*self.origin, file).await {
                return true;
            }
        }
        false
    }

    /// Tells whether anything in a folder could not be listed.
    pub(super) fn is_unlisted(&self, folder: &OriginPath) -> bool {
        self.unlisted.iter().any(|at| at.is_within(folder) || folder.is_within(at))
    }
}
