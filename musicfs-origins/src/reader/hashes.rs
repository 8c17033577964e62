//! Remembers the hashes of a bounded number of files, the oldest going first.

use std::collections::{HashMap, VecDeque};

use musicfs_core::{ChunkHash, FileId, FileVersion};
use parking_lot::Mutex;

/// Files remembered: a few hundred kilobytes at the most.
const MAX_FILES: usize = 4096;

/// Hashes by file; one version of each.
#[derive(Default)]
pub(super) struct Hashes {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_file: HashMap<FileId, (FileVersion, ChunkHash)>,
    order: VecDeque<FileId>,
}

impl Hashes {
    /// Returns the hash of a version of a file.
    pub(super) fn get(&self, id: FileId, version: &FileVersion) -> Option<ChunkHash> {
        let inner = self.inner.lock();
        inner.by_file.get(&id).filter(|(of, _)| of == version).map(|(_, hash)| *hash)
    }

    /// Remembers the hash of a version of a file, in place of that of another version.
    pub(super) fn put(&self, id: FileId, version: FileVersion, hash: ChunkHash) {
        let mut inner = self.inner.lock();
        if inner.by_file.insert(id, (version, hash)).is_none() {
            inner.order.push_back(id);
        }
        if inner.order.len() > MAX_FILES
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.by_file.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{OriginId, OriginPath};

    fn id(n: usize) -> FileId {
        FileId::derive(&OriginId::from("o"), &OriginPath::new(n.to_string()).unwrap(), 0)
    }

    #[test]
    fn hash_is_that_of_its_version_only() {
        let hashes = Hashes::default();
        let (one, two) = (FileVersion { size: 1, ..Default::default() }, FileVersion::default());
        hashes.put(id(1), one.clone(), ChunkHash::of(b"1"));
        assert_eq!(hashes.get(id(1), &one), Some(ChunkHash::of(b"1")));
        assert_eq!(hashes.get(id(1), &two), None);
        hashes.put(id(1), two.clone(), ChunkHash::of(b"2"));
        assert_eq!(hashes.get(id(1), &one), None);
        assert_eq!(hashes.get(id(1), &two), Some(ChunkHash::of(b"2")));
    }

    #[test]
    fn oldest_hash_goes_when_there_are_too_many() {
        let hashes = Hashes::default();
        for n in 0..=MAX_FILES {
            hashes.put(id(n), FileVersion::default(), ChunkHash::of(b""));
        }
        assert_eq!(hashes.get(id(0), &FileVersion::default()), None);
        assert!(hashes.get(id(1), &FileVersion::default()).is_some());
        assert_eq!(hashes.inner.lock().by_file.len(), MAX_FILES);
    }
}
