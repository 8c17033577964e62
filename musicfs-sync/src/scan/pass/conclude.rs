//! The end of a pass: what moved, what is gone, and where sidecars belong now that all is known.

use std::collections::HashSet;

use musicfs_core::{FileId, FileMeta, FileQuery, MetaDb, OriginId};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{PAGE, Pass};
use crate::scan::moves::{self, Alike, Found, Ousting, Plan, Replaced, Trace};
use crate::scan::proof::{self, Evidence, Verdict};
use crate::scan::record::{Record, Unfinished};
use crate::scan::{ScanError, exclude, rearrange};

impl Pass<'_> {
    /// Concludes what a listing allows to, and brings the record of the origin up to date.
    pub(super) async fn conclude(&mut self, cancel: &CancellationToken) -> Result<(), ScanError> {
        let same_storage = self.same_storage().await?;
        let sound = self.report.complete && same_storage != Some(false);
        let unseen = self.detector.unseen();
        let unseen = if sound { self.listed_nowhere(unseen).await? } else { unseen };
        // Where it is not known what is gone, nothing is known to have come from there, nor from anywhere else.
        let mut found = if sound { self.find(unseen.clone()).await? } else { Found::default() };
        if !sound {
            self.unsure = self.maybe_excluded().await?;
        }
        if self.options.paths.is_some() {
            let nearby = self.gone_nearby(&found, cancel).await?;
            found.gone.extend(nearby);
            let elsewhere = self.gone_elsewhere(&found, cancel).await?;
            found.gone.extend(elsewhere);
        }
        let (plan, gone) = self.decide(found, unseen, same_storage).await?;
        let partial = self.options.paths.is_some();
        let apart = self.apart.len() > 0;
        if apart || !(plan.moves.is_empty() && gone.is_empty() && self.held.is_empty()) {
            self.mark();
        }
        let renamed = !plan.moves.is_empty();
        let vacated = self.carry_exclusions(&plan, &gone).await?;
        fail::fail_point!("delta-sync-after-exclusions", |_| Err(ScanError::Cancelled));
        self.settle_files(plan, gone).await?;
        self.show_what_is_left(vacated).await?;
        let lost = self.report.missing > 0;
        let recover = self.report.resumed && !partial && self.report.complete;
        let folders = std::mem::take(&mut self.folders);
        let all = lost || self.record.unsettled;
        let (origin, grace) = (self.origin.id().clone(), self.scanner.grace());
        let max_age = *self.scanner.max_age.read();
        let all_came = !partial && self.report.added > 0;
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
                if lost || renamed {
                    writer.settle_names()?;
                }
                if !partial {
                    writer.hide_missing(&origin, grace)?;
                    exclude::complete_inclusion(writer, &origin, grace)?;
                    writer.forget_missing(&origin, max_age)?;
                }
                if recover {
                    // What the pass before was about to do after its last batch is not known: all is placed anew.
                    rearrange::place_again(writer, &origin, &cancel)?;
                }
                if all_came {
                    // Asked for nothing but that the index by size is there, which is not kept while many files are
                    // added: what comes to a part later need not wait for it.
                    writer.files(&FileQuery::OfSize(origin, 0), 1)?;
                }
                Ok(whole)
            })
            .await?;
        // What is held back a pass over everything would hold back, too.
        self.report.unsettled = !whole && self.report.held_back.is_none();
        self.finish(whole, sound).await
    }

    /// Writes what the next pass is to know, when it differs from what it would.
    async fn finish(&mut self, whole: bool, sound: bool) -> Result<(), ScanError> {
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
            unfinished: self.left_over(sound),
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

    /// Returns what the next pass is to go on with.
    fn left_over(&self, sound: bool) -> Option<Unfinished> {
        let before = self.record.unfinished.clone();
        if sound {
            // A part that went well says nothing of the whole that did not.
            return before.filter(|_| self.options.paths.is_some());
        }
        // What is new may have come from where it was not looked.
        if self.arrived.is_empty() {
            before
        } else {
            Some(before.unwrap_or_default().with_arrived(&self.arrived))
        }
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

    /// Returns those of these files, which were not listed, that are gone, but for those below a folder that could not be.
    async fn listed_nowhere(&mut self, unseen: Vec<FileId>) -> Result<Vec<FileId>, ScanError> {
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

    /// Gathers what may be the same: files gone in this pass, or missing since an earlier one, new ones, and those that
    /// are not what they were.
    pub(super) async fn find(&mut self, unseen: Vec<FileId>) -> Result<Found, ScanError> {
        let absent: HashSet<FileId> = self.detector.unseen().into_iter().collect();
        let mut first = HashSet::new();
        let arrived = self.arrived.iter().copied();
        let arrived: Vec<FileId> = arrived.filter(|id| !absent.contains(id) && first.insert(*id)).collect();
        let apart = self.apart.files();
        if arrived.is_empty() && apart.is_empty() {
            return Ok(Found::default());
        }
        let partial = self.options.paths.is_some();
        let missing = if partial { Vec::new() } else { self.detector.still_missing() };
        let excluded = self.detector.unseen_excluded();
        let mut excluded = self.listed_nowhere(excluded).await?;
        // What is in their places was not read.
        excluded.extend(self.detector.displaced_excluded());
        let recorded = self.apart.recorded();
        let excluded = excluded.into_iter().filter(move |id| !recorded.contains(id));
        let origin = self.origin.id().clone();
        self.write(move |writer| {
            let db = writer.db().clone();
            let mut gone = traces(&*db, unseen.into_iter().chain(missing).chain(excluded))?;
            if partial {
                gone.extend(all_missing(&*db, &origin)?);
            }
            let was: HashSet<FileId> = apart.iter().map(|(old, _)| old.id).collect();
            gone.retain(|trace| !was.contains(&trace.id));
            let former: HashSet<FileId> = gone.iter().map(|trace| trace.id).chain(was).collect();
            let arrived = arrived.into_iter().filter(|id| !former.contains(id));
            let mut replaced = Vec::with_capacity(apart.len());
            for (old, new) in apart {
                let new = db.file(new)?.as_ref().map(Trace::of);
                replaced.extend(new.map(|new| Replaced { old, new }));
            }
            if gone.is_empty() && replaced.is_empty() && !partial {
                return Ok(Found::default());
            }
            Ok(Found { gone, arrived: traces(&*db, arrived)?, replaced })
        })
        .await
    }

    /// Returns new files that wait to be shown and are like excluded ones, of which it is not known where they are.
    async fn maybe_excluded(&mut self) -> Result<HashSet<FileId>, ScanError> {
        let (mut excluded, held) = (self.detector.unseen_excluded(), self.held.clone());
        excluded.extend(self.detector.displaced_excluded());
        if excluded.is_empty() || held.is_empty() {
            return Ok(HashSet::new());
        }
        self.write(move |writer| {
            let hidden = Alike::to(&traces(&**writer.db(), excluded)?);
            let held = traces(&**writer.db(), held)?;
            Ok(held.iter().filter(|new| hidden.has(new)).map(|new| new.id).collect())
        })
        .await
    }

    /// Decides which file is which, and which are gone; says so where that is not proven.
    async fn decide(
        &mut self,
        mut found: Found,
        unseen: Vec<FileId>,
        same_storage: Option<bool>,
    ) -> Result<(Plan, Vec<FileId>), ScanError> {
        let plan = moves::plan(found.clone(), Ousting::Allowed);
        let moved: HashSet<FileId> = plan.moves.iter().map(|m| m.old).collect();
        // What seems to have been put out of sight may have been copied there before, and be gone.
        let was_there: HashSet<FileId> = unseen.iter().copied().collect();
        let put_away = plan.moves.iter().filter(|m| was_there.contains(&m.old));
        let put_away = put_away.filter(|m| self.detector.was_asked_for(m.new)).count();
        let mut gone: Vec<FileId> = unseen.into_iter().filter(|id| !moved.contains(id)).collect();
        gone.extend(plan.ousted.iter().filter(|ousted| !ousted.hidden).map(|ousted| ousted.id));
        let proven = self.is_proven(gone.len() + put_away, same_storage).await?;
        Ok(match proven {
            true => (plan, gone),
            false if plan.ousted.is_empty() && put_away == 0 => (plan, Vec::new()),
            false => {
                found.arrived.retain(|new| !self.detector.was_asked_for(new.id));
                (moves::plan(found, Ousting::Never), Vec::new())
            }
        })
    }

    /// Tells whether so many files are proven to be gone, and says why where they are not.
    async fn is_proven(&mut self, gone: usize, same_storage: Option<bool>) -> Result<bool, ScanError> {
        let partial = self.options.paths.is_some();
        let mut expected = self.expected;
        if partial && gone > 0 {
            // A part is to be compared with the whole.
            expected = self.write(|writer| Ok(writer.db().totals()?.files)).await?.max(expected);
        }
        let verdict = proof::judge(&Evidence {
            complete: self.report.complete,
            same_storage,
            partial,
            listed: self.detector.listed(),
            expected,
            gone: gone as u64,
            confirmed: self.options.confirmed,
        });
        let why = match verdict {
            Verdict::Proven => return Ok(true),
            Verdict::Kept(why) => why,
            Verdict::Braked(why) => {
                self.report.needs_confirmation = true;
                why
            }
        };
        let origin = self.origin.id();
        warn!(%origin, files = gone, "files are not listed, but kept: {why}");
        self.report.held_back = Some(format!("{gone} files are not listed, but kept: {why}"));
        Ok(false)
    }
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
