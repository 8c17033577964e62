//! The end of a pass: what moved, what is gone, and where sidecars belong now that all is known.

use std::collections::HashSet;

use musicfs_core::{FileId, FileKind, FileMeta, FileQuery, FileState, MetaDb, OriginId, OriginPath};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{PAGE, Pass};
use crate::scan::moves::{self, Move, Trace};
use crate::scan::proof::{self, Evidence, Verdict};
use crate::scan::record::Record;
use crate::scan::writer::Writer;
use crate::scan::{ScanError, rearrange};

impl Pass<'_> {
    /// Concludes what a listing allows to, and brings the record of the origin up to date.
    pub(super) async fn conclude(&mut self, cancel: &CancellationToken) -> Result<(), ScanError> {
        let same_storage = self.same_storage().await?;
        let sound = self.report.complete && same_storage != Some(false);
        let unseen = if sound { self.listed_nowhere().await? } else { self.detector.unseen() };
        let moves = self.find_moves(if sound { unseen.clone() } else { Vec::new() }).await?;
        let gone = self.gone(unseen, &moves, same_storage).await?;
        let partial = self.options.paths.is_some();
        if !(moves.is_empty() && gone.is_empty() && self.held.is_empty()) {
            self.mark();
        }
        self.settle_files(moves, gone).await?;
        let lost = self.report.missing > 0;
        let recover = self.report.resumed && !partial && self.report.complete;
        let folders = std::mem::take(&mut self.folders);
        let all = lost || self.record.unsettled;
        let (origin, grace) = (self.origin.id().clone(), self.scanner.grace());
        let max_age = *self.scanner.max_age.read();
        let cancel = cancel.clone();
        let whole = self
            .write(move |writer| {
                let whole = if partial {
                    folders.settle_part(writer, &origin)?
                } else {
                    folders.settle(writer, &origin, all)?;
                    true
                };
                writer.flush()?;
                writer.settle_discs()?;
                if lost {
                    writer.settle_names()?;
                }
                if !partial {
                    writer.hide_missing(&origin, grace)?;
                    writer.forget_missing(&origin, max_age)?;
                }
                if recover {
                    // What the pass before was about to do after its last batch is not known: all is placed anew.
                    rearrange::place_again(writer, &origin, &cancel)?;
                }
                Ok(whole)
            })
            .await?;
        // What is held back a pass over everything would hold back, too.
        self.report.unsettled = !whole && self.report.held_back.is_none();
        self.finish(whole).await
    }

    /// Writes what the next pass is to know, when it differs from what it would.
    async fn finish(&mut self, whole: bool) -> Result<(), ScanError> {
        let partial = self.options.paths.is_some();
        let whole_listing = self.report.complete && !partial;
        let proven = whole_listing && (self.report.listed > 0 || self.options.confirmed);
        let unsettled = if partial { self.record.unsettled || !whole } else { !self.report.complete };
        let record = Record {
            identity: if proven && self.storage.is_some() {
                self.storage.clone()
            } else {
                self.record.identity.clone()
            },
            // A part that went well says nothing of the whole that did not.
            unfinished: self.record.unfinished.clone().filter(|_| partial || !self.report.complete),
            unsettled: unsettled && (self.record.unsettled || partial),
            first: self.record.first && !(whole_listing && self.report.listed > 0),
        };
        if whole_listing {
            self.scanner.last.lock().insert(self.origin.id().clone(), self.began);
        }
        if self.marked.is_some() || record != self.record {
            let op = record.op(self.origin.id());
            self.write(move |writer| {
                writer.push(op);
                writer.flush()
            })
            .await?;
        }
        Ok(())
    }

    /// Asks the origin once more what it is: `None` when it cannot tell.
    async fn same_storage(&mut self) -> Result<Option<bool>, ScanError> {
        let now = self.origin.health().await.map_err(ScanError::Origin)?.identity;
        Ok(match (&self.storage, &now) {
            (Some(before), Some(now)) => Some(before == now),
            (None, None) => None,
            _ => Some(false),
        })
    }

    /// Returns the files that are known and were not listed, but for those below a folder that could not be.
    async fn listed_nowhere(&mut self) -> Result<Vec<FileId>, ScanError> {
        let unseen = self.detector.unseen();
        if self.unlisted.is_empty() || unseen.is_empty() {
            return Ok(unseen);
        }
        let unlisted = self.unlisted.clone();
        self.write(move |writer| {
            let mut gone = Vec::new();
            for id in unseen {
                let Some(file) = writer.db().file(id)? else { continue };
                if !unlisted.iter().any(|folder| file.path.is_within(folder)) {
                    gone.push(id);
                }
            }
            Ok(gone)
        })
        .await
    }

    /// Finds the new files that are former ones: gone in this pass, or missing since an earlier one.
    async fn find_moves(&mut self, unseen: Vec<FileId>) -> Result<Vec<Move>, ScanError> {
        let mut arrived = std::mem::take(&mut self.arrived);
        let absent: HashSet<FileId> = self.detector.unseen().into_iter().collect();
        let mut first = HashSet::new();
        arrived.retain(|id| !absent.contains(id) && first.insert(*id));
        if arrived.is_empty() {
            return Ok(Vec::new());
        }
        let partial = self.options.paths.is_some();
        let missing = if partial { Vec::new() } else { self.detector.still_missing() };
        let origin = self.origin.id().clone();
        self.write(move |writer| {
            let db = writer.db().clone();
            let mut gone = traces(&*db, unseen.into_iter().chain(missing))?;
            if partial {
                gone.extend(all_missing(&*db, &origin)?);
            }
            let gone_ids: HashSet<FileId> = gone.iter().map(|trace| trace.id).collect();
            let arrived = arrived.into_iter().filter(|id| !gone_ids.contains(id));
            if gone.is_empty() {
                return Ok(Vec::new());
            }
            Ok(moves::follow(gone, traces(&*db, arrived)?))
        })
        .await
    }

    /// Returns the files that are proven to be gone, and says so where they are not.
    async fn gone(
        &mut self,
        unseen: Vec<FileId>,
        moves: &[Move],
        same_storage: Option<bool>,
    ) -> Result<Vec<FileId>, ScanError> {
        let moved: HashSet<FileId> = moves.iter().map(|m| m.old).collect();
        let gone: Vec<FileId> = unseen.into_iter().filter(|id| !moved.contains(id)).collect();
        let partial = self.options.paths.is_some();
        let mut expected = self.expected;
        if partial && !gone.is_empty() {
            // A part is to be compared with the whole.
            expected = self.write(|writer| Ok(writer.db().totals()?.files)).await?.max(expected);
        }
        let verdict = proof::judge(&Evidence {
            complete: self.report.complete,
            same_storage,
            partial,
            listed: self.detector.listed(),
            expected,
            gone: gone.len() as u64,
            confirmed: self.options.confirmed,
        });
        let why = match verdict {
            Verdict::Proven => return Ok(gone),
            Verdict::Kept(why) => why,
            Verdict::Braked(why) => {
                self.report.needs_confirmation = true;
                why
            }
        };
        let (origin, files) = (self.origin.id(), gone.len());
        warn!(%origin, files, "files are not listed, but kept: {why}");
        self.report.held_back = Some(format!("{files} files are not listed, but kept: {why}"));
        Ok(Vec::new())
    }

    /// Records what moved and what is gone, and shows new files that waited for that.
    async fn settle_files(&mut self, moves: Vec<Move>, gone: Vec<FileId>) -> Result<(), ScanError> {
        let renamed: HashSet<FileId> = moves.iter().map(|m| m.new).collect();
        self.report.moved = moves.len() as u64;
        self.report.added = self.report.added.saturating_sub(self.report.moved);
        for Move { from, to, new, old, .. } in &moves {
            self.folders.resettle.extend([from.parent(), to.parent()]);
            for orphans in &mut self.folders.orphans {
                let known = orphans.sidecars.iter_mut().find(|(id, _)| id == new);
                known.into_iter().for_each(|(id, _)| *id = *old);
            }
        }
        let held: Vec<FileId> =
            std::mem::take(&mut self.held).into_iter().filter(|id| !renamed.contains(id)).collect();
        let origin = self.origin.id().clone();
        let partial = self.options.paths.is_some();
        let superseded: Vec<Move> = moves.iter().filter(|m| m.supersedes).cloned().collect();
        let (missing, folders) = self
            .write(move |writer| {
                writer.flush()?;
                writer.follow(&origin, &moves)?;
                show(writer, &held)?;
                let folders = if partial { folders_of(writer, &gone)? } else { Vec::new() };
                let missing = writer.lose(&gone)?;
                Ok((missing, folders))
            })
            .await?;
        self.report.missing = missing;
        self.folders.resettle.extend(folders);
        self.scanner.tell_superseded(&superseded);
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

fn folders_of(writer: &Writer, files: &[FileId]) -> Result<Vec<OriginPath>, ScanError> {
    let mut folders = Vec::new();
    for id in files {
        folders.extend(writer.db().file(*id)?.map(|file| file.path.parent()));
    }
    folders.dedup();
    Ok(folders)
}

fn traces(db: &dyn MetaDb, files: impl IntoIterator<Item = FileId>) -> Result<Vec<Trace>, ScanError> {
    let mut traces = Vec::new();
    for id in files {
        traces.extend(db.file(id)?.as_ref().map(Trace::of));
    }
    Ok(traces)
}

fn all_missing(db: &dyn MetaDb, origin: &OriginId) -> Result<Vec<Trace>, ScanError> {
    let mut traces = Vec::new();
    let mut after = None;
    loop {
        let page = db.files(&FileQuery::Missing, after, PAGE)?;
        let ours = |file: &&FileMeta| file.origin == *origin;
        traces.extend(page.files.iter().filter(ours).map(Trace::of));
        after = page.next;
        if after.is_none() {
            return Ok(traces);
        }
    }
}
