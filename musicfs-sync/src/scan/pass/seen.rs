//! What a pass reads of files, handed on to be kept: a batch at a time, while the next is being read.

use std::sync::Arc;

use futures::future::BoxFuture;
use musicfs_core::{FileMeta, Origin, SeenFile, SeenKeeper};

use crate::tags::Parts;

/// Bytes that are gathered before they are handed on: with as many being kept, what a pass holds at most.
const MOST: usize = 16 << 20;

/// Gathers what was read until its files are recorded.
pub(super) struct Seen {
    keeper: Option<Arc<dyn SeenKeeper>>,
    waiting: Vec<SeenFile>,
    bytes: usize,
    keeping: Option<BoxFuture<'static, ()>>,
}

impl Seen {
    pub(super) fn new(keeper: Option<Arc<dyn SeenKeeper>>) -> Self {
        Self { keeper, waiting: Vec::new(), bytes: 0, keeping: None }
    }

    /// Returns how much of a new file's head is to be read at once; `None` when nothing is kept.
    pub(super) fn head(&self, origin: &dyn Origin) -> Option<u64> {
        self.keeper.as_ref().filter(|_| origin.caps().remote)?.head(origin.id())
    }

    /// Takes what was read of a file.
    pub(super) fn take(&mut self, file: &FileMeta, parts: Parts) {
        if self.keeper.is_some() && !parts.is_empty() {
            self.bytes += parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            self.waiting.push(SeenFile { file: file.clone(), parts });
        }
    }

    /// Tells whether it is time to record the files.
    pub(super) fn is_due(&self) -> bool {
        self.bytes >= MOST
    }

    /// Has what was read kept, now that its files are recorded. Waits until what was handed on before is.
    pub(super) async fn keep(&mut self) {
        let Some(keeper) = self.keeper.clone().filter(|_| !self.waiting.is_empty()) else { return };
        self.kept().await;
        self.bytes = 0;
        self.keeping = Some(keeper.keep(std::mem::take(&mut self.waiting)));
    }

    /// Waits until all that was handed on is kept, or turned out not to be.
    pub(super) async fn kept(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.await;
        }
        self.keeping = None;
    }
}
