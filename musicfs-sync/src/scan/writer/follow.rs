//! Former files go on as what they turned out to be.

use musicfs_core::{FileId, FileKind, FileMeta, FileState, Op, OriginId};

use super::{BATCH, Writer};
use crate::library::Identity;
use crate::scan::ScanError;
use crate::scan::moves::Move;

/// Files in one batch: each is some changes.
const AT_ONCE: usize = BATCH / 5;

/// A former file, and what it is now.
pub(in crate::scan) struct Followed {
    pub(in crate::scan) to: Move,
    /// The change that records what is still cached of it.
    pub(in crate::scan) cached: Option<Op>,
}

impl Writer {
    /// Lets former files go on as what is recorded of them under other ids. Names that they exchange are all free
    /// before the first of a batch takes its own. The change that `noted` makes of the files of a batch goes with it:
    /// until the library knows them too, that tells of them.
    pub(in crate::scan) fn follow(
        &mut self,
        origin: &OriginId,
        files: Vec<Followed>,
        noted: impl Fn(Vec<FileId>) -> Op,
    ) -> Result<(), ScanError> {
        let mut files = files.into_iter().peekable();
        while files.peek().is_some() {
            let some: Vec<Followed> = files.by_ref().take(AT_ONCE).collect();
            let ids: Vec<FileId> = some.iter().map(|file| file.to.old).collect();
            let identities: Vec<Identity> = some
                .iter()
                .map(|Followed { to, .. }| Identity {
                    origin: origin.clone(),
                    path: to.to.clone(),
                    id: to.old,
                })
                .collect();
            let new: Vec<FileId> = some.iter().map(|file| file.to.new).collect();
            self.in_turn(|writer| {
                writer.go_on(some)?;
                writer.push(noted(ids));
                writer.flush()
            })?;
            fail::fail_point!("delta-sync-after-moves", |_| Err(ScanError::Cancelled));
            self.library.move_identities(&identities)?;
            new.iter().for_each(|id| self.forget_number(*id));
            self.newly_numbered.retain(|file| !new.contains(&file.id));
            self.library.forget_numbers(&new)?;
        }
        Ok(())
    }

    fn go_on(&mut self, files: Vec<Followed>) -> Result<(), ScanError> {
        let mut now = Vec::with_capacity(files.len());
        for Followed { to, cached } in files {
            let Some(file) = self.db.file(to.new)? else { continue };
            self.ops.push(Op::Forget(to.new));
            let shown_at = self.db.file(to.old)?.and_then(|old| old.shown_at);
            // Sidecars are placed by their folder.
            if shown_at.is_some() && file.kind != FileKind::Sidecar && shown_at != self.wanted(&file) {
                self.ops.push(Op::Unplace(to.old));
            }
            now.push((to, file, cached));
        }
        for (Move { old, from, to, changed, same_audio, .. }, file, cached) in now {
            let is_other_unseen = from == to && !changed && !same_audio;
            self.ops.push(Op::Move { id: old, path: to });
            self.put(Box::new(FileMeta { id: old, state: FileState::Present, ..file }));
            // Nothing else tells whoever keeps bytes of it.
            self.ops.extend(is_other_unseen.then_some(Op::Correct(old)));
            self.ops.extend(cached);
        }
        Ok(())
    }

    /// Makes what was recorded apart files of their own, with the ids that they are recorded under. `noted` as in
    /// [`Writer::follow`].
    pub(in crate::scan) fn take_in(
        &mut self,
        new: &[Identity],
        noted: impl Fn(Vec<FileId>) -> Op,
    ) -> Result<(), ScanError> {
        for some in new.chunks(BATCH) {
            self.ops.extend(some.iter().map(|file| Op::SetState(file.id, FileState::Present)));
            self.push(noted(some.iter().map(|file| file.id).collect()));
            self.flush()?;
            self.library.move_identities(some)?;
        }
        Ok(())
    }
}
