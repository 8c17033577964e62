//! Which chunks are pinned, and which are in how many files.
//!
//! Both follow from the manifests, which are gone through from time to time: at start, and when the pins change.
//! In between, what is stored is counted as it comes. A round of marking has a number, and a pinned chunk bears that
//! of the last round that found it so; at the end of a round the marks of rounds before are taken off. Meanwhile
//! both count, so that nothing pinned goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use musicfs_core::{FileMeta, MetaDb, MetaError, PinSet};

use super::{CacheKeeper, PAGE};

/// Manifests that are read at a time.
const MANIFESTS: usize = 256;

impl CacheKeeper {
    /// Takes over what is pinned. Which chunks that means is known after [`CacheKeeper::mark`]; until the first,
    /// nothing is evicted when anything is pinned.
    pub fn set_pins(&self, pins: PinSet) {
        *self.inner.pins.lock() = Arc::new(pins);
    }

    /// Tells whether a file is pinned.
    pub fn is_pinned(&self, file: &FileMeta) -> bool {
        let pins = self.inner.pins.lock().clone();
        pins.covers(file)
    }

    /// Goes through all manifests and notes which chunks are pinned, and in how many stretches of files each is. To be
    /// done once all chunks are counted ([`CasStore::counted`](crate::CasStore::counted)); before, it settles nothing.
    /// Blocks for as long as that takes; several at once take turns.
    ///
    /// # Errors
    /// As [`MetaDb::manifests`]; what was pinned before stays so then.
    pub fn mark(&self, db: &dyn MetaDb) -> Result<(), MetaError> {
        let _turn = self.inner.marking.lock();
        let index = &self.inner.store.files.index;
        let pins = self.inner.pins.lock().clone();
        // A chunk that is not counted yet bears no mark.
        let complete = index.lock().is_complete();
        // Chunks that no file is in are not told from others meanwhile.
        let known = self.inner.marked.load(Ordering::Acquire);
        let round = self.inner.round.load(Ordering::Acquire).checked_add(1).unwrap_or(1);
        self.inner.round.store(round, Ordering::Release);
        self.for_each(|entry| entry.refs = 0);
        let mut after = None;
        loop {
            let page = db.manifests(after, MANIFESTS)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for saved in page {
                let pinned = !pins.is_empty() && db.file(saved.id)?.is_some_and(|file| pins.covers(&file));
                let mut index = index.lock();
                for extent in saved.manifest.all() {
                    index.change(&extent.hash, |entry| {
                        entry.refs = entry.refs.saturating_add(1);
                        if pinned {
                            entry.pinned = round;
                        }
                    });
                }
            }
        }
        self.for_each(|entry| {
            if entry.pinned != round {
                entry.pinned = 0;
            }
        });
        self.inner.marked.store(complete, Ordering::Release);
        tracing::debug!(first = !known, "chunks of pinned files were marked");
        Ok(())
    }

    fn for_each(&self, mut change: impl FnMut(&mut crate::index::Entry)) {
        let index = &self.inner.store.files.index;
        let mut after = None;
        loop {
            let mut index = index.lock();
            let page = index.page(after, PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            page.iter().for_each(|(hash, _)| index.change(hash, &mut change));
        }
    }
}
