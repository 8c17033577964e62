//! The files whose state is in memory.

use std::collections::HashMap;
use std::sync::Arc;

use musicfs_core::{FileId, FileMeta, FileVersion};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::cached_file::CachedFile;
use crate::edges::Edges;

/// Files whose state is kept in memory; beyond, the one opened longest ago is loaded again when it is next read.
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
    by_version: HashMap<(FileId, FileVersion), (Shared, u64)>,
    opens: u64,
}

impl Files {
    pub(super) fn get(&mut self, key: &(FileId, FileVersion)) -> Option<Shared> {
        self.opens += 1;
        let (file, used) = self.by_version.get_mut(key)?;
        *used = self.opens;
        Some(file.clone())
    }

    /// Forgets all files that nobody reads.
    pub(super) fn forget_idle(&mut self) {
        self.by_version.retain(|_, (file, _)| Arc::strong_count(file) > 1);
    }

    /// Adds a file, unless another was quicker; makes room by forgetting files that nobody reads.
    pub(super) fn insert(
        &mut self,
        key: (FileId, FileVersion),
        file: CachedFile,
        meta: Option<Box<FileMeta>>,
        edges: Edges,
    ) -> Shared {
        self.opens += 1;
        if self.by_version.len() >= MAX_FILES {
            let idle =
                |(_, (file, _)): &(&(FileId, FileVersion), &(Shared, u64))| Arc::strong_count(file) == 1;
            let oldest = self.by_version.iter().filter(idle).min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.by_version.remove(&key);
            }
        }
        let opens = self.opens;
        let (file, used) = self.by_version.entry(key).or_insert_with(|| {
            let tracked = Tracked {
                state: Mutex::new(file),
                meta,
                edges,
                saving: tokio::sync::Mutex::default(),
                in_flight: watch::channel(0).0,
            };
            (Arc::new(tracked), opens)
        });
        *used = opens;
        file.clone()
    }
}
