//! Keeps out of the tree what the user does not want to see, whoever puts it there.

use std::collections::HashMap;

use musicfs_core::{FileId, FileState, MetaDb, Op};

use crate::library::Exclusions;
use crate::scan::ScanError;

/// Makes files that are excluded be recorded as such, and takes out what would show them.
pub(super) fn keep_out(ops: &mut Vec<Op>, excluded: &Exclusions, db: &dyn MetaDb) -> Result<(), ScanError> {
    let mut hidden: HashMap<FileId, bool> = HashMap::new();
    let mut kept = Vec::with_capacity(ops.len());
    for mut op in ops.drain(..) {
        match &mut op {
            Op::PutFile(file) => {
                let is_hidden = excluded.covering(&file.origin, &file.path).is_some();
                if is_hidden {
                    file.state = FileState::Excluded;
                }
                hidden.insert(file.id, is_hidden);
            }
            Op::SetState(id, state) => drop(hidden.insert(*id, *state == FileState::Excluded)),
            Op::Place(placement) => {
                let id = placement.id;
                let is_hidden = match hidden.get(&id) {
                    Some(is_hidden) => *is_hidden,
                    None => db.file(id)?.is_some_and(|file| file.state == FileState::Excluded),
                };
                if is_hidden {
                    continue;
                }
            }
            _ => {}
        }
        let put = if let Op::PutFile(file) = &op { Some(file.id) } else { None };
        kept.push(op);
        // It may have stood in the tree before.
        kept.extend(put.filter(|id| hidden.get(id) == Some(&true)).map(Op::Unplace));
    }
    *ops = kept;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{OriginPath, Placement, VirtualPath};
    use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

    #[test]
    fn excluded_files_are_recorded_and_not_shown() {
        let file = |n| Box::new(make_file_meta(n, &format!("a/{n}.flac"), 10));
        let place = |n| {
            let path = VirtualPath::from_text(&format!("{n}.flac")).unwrap();
            Op::Place(Placement { id: file(n).id, path, prefer: 0 })
        };
        let db = MemoryMetaDb::new();
        let known = Box::new(musicfs_core::FileMeta { state: FileState::Excluded, ..*file(4) });
        db.apply(&musicfs_core::Batch { at: musicfs_core::UnixNanos(1), ops: vec![Op::PutFile(known)] })
            .unwrap();
        let mut excluded = Exclusions::default();
        excluded.insert(file(1).origin, OriginPath::new("a/1.flac").unwrap());
        let back = Op::SetState(file(4).id, FileState::Present);
        let mut ops = vec![
            Op::PutFile(file(1)),
            Op::PutFile(file(2)),
            place(1),
            place(2),
            place(4),
            back.clone(),
            place(4),
        ];
        keep_out(&mut ops, &excluded, &db).unwrap();
        let hidden = Box::new(musicfs_core::FileMeta { state: FileState::Excluded, ..*file(1) });
        let left =
            [Op::PutFile(hidden), Op::Unplace(file(1).id), Op::PutFile(file(2)), place(2), back, place(4)];
        assert_eq!(ops, left);
    }
}
