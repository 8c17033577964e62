//! Bytes on their way, told from inside a call to the deadline around it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static CURRENT: Progress;
}

/// Counts the bytes that have arrived for a call that is still running.
///
/// An origin that takes bytes from a network calls [`Progress::add`] as they come, on
/// [`Progress::current`]. [`Timeout`](super::Timeout) can then tell a slow transfer from a dead one. An origin
/// that never tells is judged by the time of the whole call.
///
/// ```
/// use musicfs_origins::Progress;
///
/// # async fn read_from_socket() -> Option<Vec<u8>> { None }
/// # async fn example() {
/// let progress = Progress::current();
/// while let Some(piece) = read_from_socket().await {
///     progress.add(piece.len());
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({})", self.total())
    }
}

impl Progress {
    /// Returns the counter of the call that this task is in. Outside of any, one that nobody looks at.
    ///
    /// A task that is spawned inside a call does not inherit it: take the counter before and move it in.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Counts `bytes` more.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns how many bytes have been counted.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs `call` with this as its counter.
    pub(crate) fn scope<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), call)
    }
}
