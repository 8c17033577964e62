//! What a pass reads of files, handed on to be kept: a batch at a time, while the next is being read.
//!
//! A pass waits for it, so that what waits to be kept takes no more memory, but not for long: a cache whose disk hangs
//! costs what would be kept, and no scan.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use musicfs_core::{Clock, FileMeta, Origin, SeenFile, SeenKeeper};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::tags::Parts;

/// Bytes that are gathered before they are handed on: with as many being kept, what a pass holds at most.
const MOST: usize = 16 << 20;
/// How long it is waited for what was handed on: the slowest disk that works takes less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gathers what was read until its files are recorded.
pub(super) struct Seen {
    keeper: Option<Arc<dyn SeenKeeper>>,
    waiting: Vec<SeenFile>,
    bytes: usize,
    keeping: Option<BoxFuture<'static, ()>>,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    /// It was waited for in vain, and is not again.
    hangs: bool,
}

impl Seen {
    pub(super) fn new(keeper: Option<Arc<dyn SeenKeeper>>, clock: Arc<dyn Clock>) -> Self {
        let cancel = CancellationToken::new();
        Self { keeper, waiting: Vec::new(), bytes: 0, keeping: None, clock, cancel, hangs: false }
    }

    /// Has nothing waited for once the pass is cancelled.
    pub(super) fn end_with(&mut self, cancel: &CancellationToken) {
        self.cancel = cancel.clone();
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

    /// Has what was read kept, now that its files are recorded. Waits until what was handed on before is; when that
    /// takes too long, it is dropped.
    pub(super) async fn keep(&mut self) {
        let Some(keeper) = self.keeper.clone().filter(|_| !self.waiting.is_empty()) else { return };
        self.bytes = 0;
        let seen = std::mem::take(&mut self.waiting);
        self.kept().await;
        match self.keeping {
            None => self.keeping = Some(keeper.keep(seen)),
            Some(_) => {
                debug!(files = seen.len(), "what was read is not kept: what came before it still is not")
            }
        }
    }

    /// Waits until all that was handed on is kept, or turned out not to be, or has taken too long.
    pub(super) async fn kept(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        let patience = if self.hangs { Duration::ZERO } else { PATIENCE };
        let until = self.clock.now().plus(patience);
        let hangs = tokio::select! {
            biased;
            () = keeping => false,
            () = self.cancel.cancelled() => true,
            () = self.clock.sleep_until(until) => true,
        };
        self.hangs = hangs;
        if !hangs {
            self.keeping = None;
        }
    }
}
