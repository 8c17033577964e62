//! Where files have moved away from: whoever names such a path makes no mistake, though nothing is known to be there.
//!
//! It is a note in the catalogue, in the batch in which they move: the ids that follow from their paths and from those
//! of the folders above. Only the last ones are kept.

use std::collections::HashSet;

use musicfs_core::{FileId, MetaDb, MetaError, Op, OriginId, OriginPath};

/// So many paths of an origin are remembered: some hundred albums, in a note of a hundred kilobytes.
const MOST: usize = 5_000;

fn key(origin: &OriginId) -> String {
    format!("left:{origin}")
}

fn load(db: &dyn MetaDb, origin: &OriginId) -> Result<Vec<FileId>, MetaError> {
    // One that cannot be read is as good as none: nothing but a message depends on it.
    Ok(db.note(&key(origin))?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// Tells whether files moved away from a path, or from below it.
pub(super) fn was_left(db: &dyn MetaDb, origin: &OriginId, path: &OriginPath) -> Result<bool, MetaError> {
    Ok(load(db, origin)?.contains(&FileId::derive(origin, path, 0)))
}

/// Returns the change that notes that files move away from these paths.
pub(super) fn leave(db: &dyn MetaDb, origin: &OriginId, from: &[OriginPath]) -> Result<Op, MetaError> {
    let mut last = HashSet::new();
    for path in from {
        let mut at = path.clone();
        while !at.is_root() && last.insert(FileId::derive(origin, &at, 0)) {
            at = at.parent();
        }
    }
    let mut left = load(db, origin)?;
    left.retain(|id| !last.contains(id));
    left.extend(last);
    left.drain(..left.len().saturating_sub(MOST));
    Ok(Op::SetNote { key: key(origin).into(), value: serde_json::to_string(&left).ok() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{Batch, UnixNanos};
    use musicfs_test_utils::MemoryMetaDb;

    #[test]
    fn paths_and_the_folders_above_are_remembered_and_only_the_last_of_many() {
        let (db, origin) = (MemoryMetaDb::new(), OriginId::from("o"));
        let path = |text: String| OriginPath::new(text).unwrap();
        let leave = |from: Vec<OriginPath>| {
            let op = leave(&db, &origin, &from).unwrap();
            db.apply(&Batch { at: UnixNanos(1), ops: vec![op] }).unwrap();
        };
        let was_left = |at: &str| was_left(&db, &origin, &path(at.to_owned())).unwrap();
        leave(vec![path("a/b/1".into()), path("a/b/2".into())]);
        assert!(["a", "a/b", "a/b/1", "a/b/2"].into_iter().all(was_left));
        assert!(!was_left("a/b/3") && !was_left("b"));
        leave((0..MOST).map(|n| path(n.to_string())).collect());
        assert!(was_left("0") && !was_left("a/b"));
    }
}
