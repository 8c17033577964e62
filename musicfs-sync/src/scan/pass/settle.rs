//! Writing what a pass concluded of files: what moved, what is gone, and new files that waited for that.

use std::collections::{BTreeSet, HashSet};

use musicfs_core::{FileId, FileKind, FileMeta, FileState, Op, OriginPath};

use super::Pass;
use crate::library::Identity;
use crate::scan::moves::{Move, Plan};
use crate::scan::writer::{Followed, Writer};
use crate::scan::{ScanError, former};

impl Pass<'_> {
    /// Records what moved and what is gone, and shows new files that waited for that.
    pub(super) async fn settle_files(&mut self, plan: Plan, gone: Vec<FileId>) -> Result<(), ScanError> {
        let Plan { moves, stays, fresh, .. } = plan;
        self.tell_apart(&moves, &stays, &fresh);
        let unsure = std::mem::take(&mut self.unsure);
        let renamed: HashSet<FileId> = moves.iter().map(|m| m.new).collect();
        let held: Vec<FileId> = std::mem::take(&mut self.held)
            .into_iter()
            .filter(|id| !renamed.contains(id) && !unsure.contains(id))
            .collect();
        let superseded: Vec<Move> = moves.iter().filter(|m| m.supersedes).cloned().collect();
        let parts: Vec<(FileId, FileId)> = moves.iter().chain(&stays).map(|m| (m.new, m.old)).collect();
        let left: Vec<OriginPath> = moves.iter().map(|m| m.from.clone()).collect();
        let followed = self.with_what_is_cached(moves.into_iter().chain(stays)).await?;
        let fresh =
            fresh.into_iter().map(|(id, path)| Identity { origin: self.origin.id().clone(), path, id });
        let fresh: Vec<Identity> = fresh.collect();
        let recorded = self.apart.recorded();
        let whole = self.options.paths.is_none() && self.report.complete;
        let of_this_pass: HashSet<FileId> = self.apart.files().into_iter().map(|(_, id)| id).collect();
        let origin = self.origin.id().clone();
        let record = self.under_way();
        let noted = move |moved| record.having_moved(moved).op(&origin);
        let origin = self.origin.id().clone();
        let (missing, folders) = self
            .write(move |writer| {
                if !left.is_empty() {
                    let op = former::leave(&**writer.db(), &origin, &left)?;
                    writer.push(op);
                }
                writer.flush()?;
                writer.follow(&origin, followed, &noted)?;
                writer.take_in(&fresh, &noted)?;
                let fresh: Vec<FileId> = fresh.iter().map(|file| file.id).collect();
                show(writer, &held)?;
                show(writer, &fresh)?;
                let folders = folders_of(writer, &gone)?;
                let missing = writer.lose(&gone)?;
                // What another pass is to decide on is read again then.
                let left = recorded.into_iter().filter(|id| whole || of_this_pass.contains(id));
                drop_waiting(writer, left.filter(|id| !fresh.contains(id)))?;
                Ok((missing, folders))
            })
            .await?;
        self.report.missing = missing;
        self.folders.resettle.extend(folders);
        self.scanner.tell_superseded(&superseded);
        self.keep_parts(parts).await
    }

    /// Counts what came of the files, and has the folders around them looked at.
    fn tell_apart(&mut self, moves: &[Move], stays: &[Move], fresh: &[(FileId, OriginPath)]) {
        let arrived: HashSet<FileId> = self.arrived.iter().copied().collect();
        let counted = |m: &&Move| arrived.contains(&m.new) && !self.kept_out.contains(&m.new);
        let known = moves.iter().filter(counted).count() as u64;
        let shown = |at: &OriginPath| !self.detector.is_excluded(at);
        let new = fresh.iter().filter(|(_, at)| shown(at)).count() as u64;
        let retagged = moves.iter().filter(|m| m.changed && !m.supersedes);
        let changed = stays.iter().chain(retagged).filter(|m| shown(&m.to)).count() as u64;
        self.report.moved = moves.len() as u64;
        self.report.added = self.report.added.saturating_sub(known) + new;
        self.report.changed += changed;
        for Move { from, to, new, old, .. } in moves {
            self.folders.resettle.extend([from.parent(), to.parent()]);
            for orphans in &mut self.folders.orphans {
                let known = orphans.sidecars.iter_mut().find(|(id, _)| id == new);
                known.into_iter().for_each(|(id, _)| *id = *old);
            }
        }
    }

    /// Finds out what is still cached of files of which another version is there.
    async fn with_what_is_cached(
        &mut self,
        moves: impl Iterator<Item = Move>,
    ) -> Result<Vec<Followed>, ScanError> {
        let moves: Vec<Move> = moves.collect();
        if !self.origin.caps().remote {
            return Ok(moves.into_iter().map(|to| Followed { to, cached: None }).collect());
        }
        let mut followed = Vec::with_capacity(moves.len());
        for to in moves {
            let new = to.new;
            let file = self.write(move |writer| Ok(writer.db().file(new)?)).await?;
            let cached = match file.map(|file| FileMeta { id: to.old, ..file }) {
                Some(file) => self.scanner.still_cached(&*self.origin, &file).await?,
                None => None,
            };
            followed.push(Followed { to, cached });
        }
        Ok(followed)
    }

    /// Has what was read of files kept, now that it is known which they are.
    async fn keep_parts(&mut self, files: Vec<(FileId, FileId)>) -> Result<(), ScanError> {
        for (new, old) in files {
            let Some(parts) = self.apart.take_parts(new) else { continue };
            let file = self.write(move |writer| Ok(writer.db().file(old)?)).await?;
            if let Some(file) = file {
                self.seen.take(&file, parts);
            }
        }
        self.seen.keep().await;
        Ok(())
    }
}

/// Shows files that are recorded and were not shown yet. Sidecars are placed with their folders.
fn show(writer: &mut Writer, files: &[FileId]) -> Result<(), ScanError> {
    for id in files {
        let Some(file) = writer.db().file(*id)? else { continue };
        if file.kind != FileKind::Sidecar
            && (file.state == FileState::Present || file.problem.is_some())
            && let Some(path) = writer.wanted(&file)
        {
            writer.place(*id, path);
        }
    }
    writer.flush()
}

/// Forgets what was recorded apart and is still.
fn drop_waiting(writer: &mut Writer, files: impl Iterator<Item = FileId>) -> Result<(), ScanError> {
    for id in files {
        let waits = |file: &FileMeta| matches!(file.state, FileState::Pending | FileState::Excluded);
        if writer.db().file(id)?.as_ref().is_some_and(waits) {
            writer.push(Op::Forget(id));
        }
    }
    writer.flush()
}

/// Returns the folders of files.
fn folders_of(writer: &Writer, files: &[FileId]) -> Result<BTreeSet<OriginPath>, ScanError> {
    let mut folders = BTreeSet::new();
    for id in files {
        folders.extend(writer.db().file(*id)?.map(|file| file.path.parent()));
    }
    Ok(folders)
}
