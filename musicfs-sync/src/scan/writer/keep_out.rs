//! Keeps out of the tree what the user does not want to see, whoever puts it there.

use std::collections::HashMap;

use musicfs_core::{FileId, FileState, MetaDb, Op, OriginId, OriginPath};

use crate::library::Exclusions;
use crate::scan::ScanError;

/// Makes files that are excluded be recorded as such, and takes out what would show them. What is gone stays gone.
pub(super) fn keep_out(ops: &mut Vec<Op>, excluded: &Exclusions, db: &dyn MetaDb) -> Result<(), ScanError> {
    let mut files = Files { excluded, db, known: HashMap::new() };
    let mut kept = Vec::with_capacity(ops.len());
    for mut op in ops.drain(..) {
        let hidden = match &mut op {
            Op::PutFile(file) => {
                let file_is = Known { covered: files.covers(&file.origin, &file.path), state: file.state };
                files.known.insert(file.id, file_is);
                file_is.hides(&mut file.state).then_some(file.id)
            }
            Op::SetState(id, state) => files.get(*id)?.hides(state).then_some(*id),
            Op::Move { id, path } => {
                if let Some(file) = db.file(*id)? {
                    let covered = files.covers(&file.origin, path);
                    files.known.insert(*id, Known { covered, state: file.state });
                }
                None
            }
            Op::Place(placement) if files.get(placement.id)?.covered => continue,
            _ => None,
        };
        kept.push(op);
        // It may have stood in the tree before.
        kept.extend(hidden.map(Op::Unplace));
    }
    *ops = kept;
    Ok(())
}

/// What is known of the files that a batch names.
struct Files<'a> {
    excluded: &'a Exclusions,
    db: &'a dyn MetaDb,
    known: HashMap<FileId, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    /// The user does not want to see it.
    covered: bool,
    /// What it was before the batch.
    state: FileState,
}

impl Known {
    /// Changes the state that an excluded file is to have to that which it gets; tells whether it is to leave the tree.
    /// What was to be seen and is gone is so still, whatever is kept out of its place.
    fn hides(self, state: &mut FileState) -> bool {
        let is_gone = *state == FileState::Missing && self.state != FileState::Excluded;
        let stays_gone = is_gone && self.state == FileState::Missing;
        let hides = self.covered && *state != FileState::Excluded && !stays_gone;
        if hides && !is_gone {
            *state = FileState::Excluded;
        }
        hides
    }
}

impl Files<'_> {
    fn covers(&self, origin: &OriginId, path: &OriginPath) -> bool {
        self.excluded.covering(origin, path).is_some()
    }

    fn get(&mut self, id: FileId) -> Result<Known, ScanError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let known = match self.db.file(id)? {
            Some(file) => Known { covered: self.covers(&file.origin, &file.path), state: file.state },
            None => Known { covered: false, state: FileState::Pending },
        };
        self.known.insert(id, known);
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{Batch, FileMeta, Placement, UnixNanos, VirtualPath};
    use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

    fn file(n: i64, state: FileState) -> Box<FileMeta> {
        Box::new(FileMeta { state, ..make_file_meta(n, &format!("a/{n}.flac"), 10) })
    }

    fn id(n: i64) -> FileId {
        file(n, FileState::Present).id
    }

    fn place(n: i64) -> Op {
        let path = VirtualPath::from_text(&format!("{n}.flac")).unwrap();
        Op::Place(Placement { id: id(n), path, prefer: 0 })
    }

    /// Changes as they are kept of these, with files of some states in the catalogue, where the odd ones are excluded.
    fn kept(known: &[(i64, FileState)], mut ops: Vec<Op>) -> Vec<Op> {
        let db = MemoryMetaDb::new();
        let known = known.iter().map(|(n, state)| Op::PutFile(file(*n, *state))).collect();
        db.apply(&Batch { at: UnixNanos(1), ops: known }).unwrap();
        let mut excluded = Exclusions::default();
        for n in (1..20).step_by(2) {
            excluded.insert(file(n, FileState::Present).origin, file(n, FileState::Present).path);
        }
        keep_out(&mut ops, &excluded, &db).unwrap();
        ops
    }

    #[test]
    fn excluded_files_are_recorded_and_not_shown() {
        use FileState::{Excluded, Present};
        let put = |n| Op::PutFile(file(n, Present));
        let left = kept(&[(4, Excluded)], vec![put(1), put(2), place(1), place(2), place(4)]);
        let hidden = Op::PutFile(file(1, Excluded));
        assert_eq!(left, [hidden, Op::Unplace(id(1)), put(2), place(2), place(4)]);
    }

    #[test]
    fn excluded_files_that_are_back_or_gone_stay_excluded() {
        use FileState::{Excluded, Missing, Pending, Present};
        let hidden = |n| [Op::SetState(id(n), Excluded), Op::Unplace(id(n))];
        for (was, becomes) in
            [(Missing, Present), (Excluded, Present), (Excluded, Missing), (Present, Pending)]
        {
            let left = kept(&[(1, was)], vec![Op::SetState(id(1), becomes), place(1)]);
            assert_eq!(left, hidden(1), "{was:?} {becomes:?}");
            let both = vec![Op::SetState(id(2), becomes), place(2)];
            assert_eq!(kept(&[(2, was)], both.clone()), both, "another: {was:?} {becomes:?}");
        }
        let lost = Op::SetState(id(1), Missing);
        assert_eq!(
            kept(&[(1, Present)], vec![lost.clone()]),
            [lost, Op::Unplace(id(1))],
            "what goes just now"
        );
        let gone = Op::SetState(id(1), Missing);
        assert_eq!(kept(&[(1, Missing)], vec![gone.clone(), place(1)]), [gone], "what was gone before");
    }

    #[test]
    fn file_that_moves_to_where_all_is_excluded_is_hidden() {
        let to = file(3, FileState::Present).path;
        let moved = Op::Move { id: id(2), path: to };
        assert_eq!(kept(&[(2, FileState::Present)], vec![moved.clone(), place(2)]), [moved]);
    }
}
