//! Files of origins that the configuration no longer names.
//!
//! They are taken out of the tree, where nobody could read them, and remembered as missing: when the origin is
//! named again, the next scan shows them as they were, without reading them again.

use musicfs_core::{Batch, FileState, MetaDb, MetaError, Op, OriginId, UnixNanos};

/// Files in a batch: enough to make the commit's cost small, few enough not to keep readers of the tree waiting.
const BATCH: usize = 2000;

/// Takes the files of an origin out of the tree, and returns how many were in it. Blocks as the catalogue does.
pub(crate) fn retire(db: &dyn MetaDb, origin: &OriginId, at: UnixNanos) -> Result<u64, MetaError> {
    let mut shown = Vec::new();
    db.known(origin, &mut |file| {
        if !matches!(file.state, FileState::Missing | FileState::Excluded) {
            shown.push((file.id, file.state));
        }
    })?;
    for files in shown.chunks(BATCH) {
        let mut ops = Vec::with_capacity(files.len() * 2);
        for (id, state) in files {
            // What waits for its first read goes on waiting.
            if *state == FileState::Present {
                ops.push(Op::SetState(*id, FileState::Missing));
            }
            ops.push(Op::Unplace(*id));
        }
        db.apply(&Batch { at, ops })?;
    }
    Ok(shown.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{Placement, VirtualPath};
    use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

    #[test]
    fn files_of_the_origin_leave_the_tree_and_are_remembered() {
        let db = MemoryMetaDb::new();
        for (n, origin) in [(1, "gone"), (2, "gone"), (3, "stays")] {
            let path = format!("A/{n}.flac");
            let file = musicfs_core::FileMeta { origin: origin.into(), ..make_file_meta(n, &path, 10) };
            let path = VirtualPath::from_text(&path).unwrap();
            let ops = vec![
                Op::PutFile(Box::new(file.clone())),
                Op::Place(Placement { id: file.id, path, prefer: 0 }),
            ];
            db.apply(&Batch { at: UnixNanos(1), ops }).unwrap();
        }
        assert_eq!(retire(&db, &"gone".into(), UnixNanos(2)).unwrap(), 2);
        let totals = db.totals().unwrap();
        assert_eq!((totals.files, totals.missing), (1, 2));
        assert_eq!(retire(&db, &"gone".into(), UnixNanos(3)).unwrap(), 0, "nothing is left to do");
        assert_eq!(retire(&db, &"never".into(), UnixNanos(3)).unwrap(), 0);
    }
}
