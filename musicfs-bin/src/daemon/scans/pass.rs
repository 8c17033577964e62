//! A pass: what it is to do, and how far it has come.

use std::time::Duration;

use musicfs_core::MonoTime;
use tokio_util::sync::CancellationToken;

use super::Part;
use crate::verify::Verify;

/// A pass over all of an origin does not give way before it has run for so long; twice as long each time it has, so
/// that it comes to its end however much is asked for meanwhile.
const LEAST_RUN: Duration = Duration::from_secs(2);

/// How an order is to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct How {
    /// What seems unchanged is read again.
    pub(super) full: bool,
    /// Whether content is compared.
    pub(super) verify: Verify,
    /// Whatever is gone is accepted.
    pub(super) confirm: bool,
}

/// A pass that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) order: u64,
    pub(super) part: Part,
    pub(super) how: How,
    /// How often it gave way.
    pub(super) yielded: u32,
}

/// Why a pass is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Another comes first; it goes on after that.
    Yields,
    /// Nobody wants it any more.
    Cancelled,
}

/// A pass that is being made.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pass: Pass,
    pub(super) began: MonoTime,
    pub(super) cancel: CancellationToken,
    pub(super) end: Option<End>,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Done,
    /// It was cancelled by whoever had ordered it.
    Cancelled,
    /// It gives way and is made again.
    Yielded,
}

impl Running {
    /// Returns from when on it gives way to others; `None` for one that does not.
    pub(super) fn yields_at(&self) -> Option<MonoTime> {
        let whole = self.pass.part.paths.is_none() && self.end.is_none();
        let least = LEAST_RUN.saturating_mul(1_u32.checked_shl(self.pass.yielded).unwrap_or(u32::MAX));
        whole.then(|| self.began.plus(least))
    }

    /// Ends it, to be made again.
    pub(super) fn give_way(&mut self) {
        if self.end.is_none() {
            self.end = Some(End::Yields);
            self.cancel.cancel();
        }
    }
}
