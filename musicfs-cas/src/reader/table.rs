//! The files whose state is in memory.

use std::collections::HashMap;
use std::sync::Arc;

use musicfs_core::{FileId, FileMeta, FileVersion};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::flights::Asked;
use crate::cached_file::CachedFile;
use crate::edges::Edges;

/// Files whose state is kept in memory; beyond, those that nobody asked for leave first, then the one opened longest ago.
/// They are loaded again when they are next read.
const MAX_FILES: usize = 512;

pub(super) type Shared = Arc<Tracked>;

/// A file's state, with the turn of those who save it: what is saved last must be what was known last.
#[derive(Debug)]
pub(super) struct Tracked {
    state: Mutex<CachedFile>,
    /// What the catalogue knows of it; `None` for what it does not know any more.
    pub(super) meta: Option<Box<FileMeta>>,
    pub(super) edges: Edges,
    pub(super) saving: tokio::sync::Mutex<()>,
    /// The turn of those who mend it.
    pub(super) mending: tokio::sync::Mutex<()>,
    /// Fetches under way, until what they brought is stored.
    pub(super) in_flight: watch::Sender<usize>,
}

impl Tracked {
    pub(super) fn lock(&self) -> MutexGuard<'_, CachedFile> {
        self.state.lock()
    }
}

#[derive(Default)]
pub(super) struct Files {
    /// Each with the number of its last opening: 0 of what nobody asked for.
    by_version: HashMap<(FileId, FileVersion), (Shared, u64)>,
    opens: u64,
}

impl Files {
    pub(super) fn get(&mut self, key: &(FileId, FileVersion), asked: Asked) -> Option<Shared> {
        let opened = self.opened(asked);
        let (file, used) = self.by_version.get_mut(key)?;
        *used = opened.max(*used);
        Some(file.clone())
    }

    fn opened(&mut self, asked: Asked) -> u64 {
        match asked {
            Asked::Prefetch => 0,
            Asked::Reader => {
                self.opens += 1;
                self.opens
            }
        }
    }

    /// Returns all files whose state is in memory.
    pub(super) fn all(&self) -> Vec<Shared> {
        self.by_version.values().map(|(file, _)| file.clone()).collect()
    }

    /// Forgets all files that nobody reads.
    pub(super) fn forget_idle(&mut self) {
        self.by_version.retain(|_, (file, _)| Arc::strong_count(file) > 1);
    }

    /// Adds a file, unless another was quicker; makes room by forgetting files that nobody reads. One that nobody asked
    /// for takes the place of none that somebody did, and where there is no other, is one too many for a while.
    pub(super) fn insert(
        &mut self,
        key: (FileId, FileVersion),
        file: CachedFile,
        meta: Option<Box<FileMeta>>,
        edges: Edges,
        asked: Asked,
    ) -> Shared {
        let opened = self.opened(asked);
        if self.by_version.len() >= MAX_FILES {
            self.by_version.retain(|_, (file, used)| *used > 0 || Arc::strong_count(file) > 1);
        }
        if self.by_version.len() >= MAX_FILES && asked == Asked::Reader {
            let idle =
                |(_, (file, _)): &(&(FileId, FileVersion), &(Shared, u64))| Arc::strong_count(file) == 1;
            let oldest = self.by_version.iter().filter(idle).min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.by_version.remove(&key);
            }
        }
        let (file, used) = self.by_version.entry(key).or_insert_with(|| {
            let tracked = Tracked {
                state: Mutex::new(file),
                meta,
                edges,
                saving: tokio::sync::Mutex::default(),
                mending: tokio::sync::Mutex::default(),
                in_flight: watch::channel(0).0,
            };
            (Arc::new(tracked), opened)
        });
        *used = opened.max(*used);
        file.clone()
    }
}

#[cfg(test)]
mod tests {
    use musicfs_core::ChunkManifest;

    use super::*;

    fn key(n: u64) -> (FileId, FileVersion) {
        let (origin, path) = ("nas".into(), musicfs_core::OriginPath::root());
        (FileId::derive(&origin, &path, 0), FileVersion { size: n, mtime: None, etag: None })
    }

    fn add(files: &mut Files, n: u64, asked: Asked) -> Shared {
        let file = CachedFile::new(1, ChunkManifest::default(), vec![]);
        files.insert(key(n), file, None, Edges::of(1, None), asked)
    }

    #[test]
    fn files_that_nobody_asked_for_take_the_place_of_none_that_is_played() {
        let max = MAX_FILES as u64;
        let mut files = Files::default();
        (0..max).for_each(|n| drop(add(&mut files, n, Asked::Reader)));
        let held: Vec<_> = (max..3 * max).map(|n| add(&mut files, n, Asked::Prefetch)).collect();
        assert!((0..max).all(|n| files.by_version.contains_key(&key(n))));
        assert!(
            files.get(&key(2 * max), Asked::Prefetch).is_some(),
            "who holds it and who reads it share it"
        );
        drop(held);
        drop(add(&mut files, 3 * max, Asked::Prefetch));
        assert!((0..max).all(|n| files.by_version.contains_key(&key(n))));
        assert_eq!(files.by_version.len() as u64, max + 1);
        // Who asks takes the place of such a one first, then of the one that was opened longest ago.
        assert!(files.get(&key(0), Asked::Reader).is_some());
        drop(add(&mut files, 4 * max, Asked::Reader));
        drop(add(&mut files, 5 * max, Asked::Reader));
        let there = |n| files.by_version.contains_key(&key(n));
        assert!(there(0) && there(4 * max) && there(5 * max) && !there(1) && !there(3 * max));
        assert_eq!(files.by_version.len() as u64, max);
    }
}
