//! Many calls at once over one connection.
//!
//! Each call has a tag; whatever order answers come in, they are matched by it. Three tasks serve a connection:
//! one writes, one reads, one watches for silence. They end with the connection or with the [`Mux`].
//!
//! # Invariants
//! * Calls are sent in the order in which [`Mux::send`] is entered after its permit, so that a caller who awaits
//!   one `send` before the next has them on the wire in that order.
//! * A permit is held from before a call is sent until it is answered, even when nobody waits any more: calls in
//!   flight are bounded, and so is the queue to the writer.
//! * Once dead, every call fails at once with the failure that killed the connection.
//!
//! # Locking
//! One lock for the table of calls, held for a few lines; what an answer sets off runs outside of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{Clock, OriginErrorKind};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Failure;

/// What came from the other end.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Which call it answers.
    pub(crate) tag: u64,
    /// The answer; `None` for a word that the answer will be longer in coming.
    pub(crate) body: Option<Bytes>,
    /// How many more calls may be sent now.
    pub(crate) permits: usize,
}

/// Counts what arrives, by which silence is told.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    /// Notes that something arrived.
    pub(crate) fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn seen(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The receiving half of a connection.
pub(crate) trait Frames: Send + 'static {
    /// Receives the next answer; `None` when the other end closed in good order.
    fn next(&mut self, progress: &Progress)
    -> impl Future<Output = Result<Option<Incoming>, Failure>> + Send;
}

/// The sending half of a connection.
pub(crate) trait Sink: Send + 'static {
    /// Sends one call.
    fn send(&mut self, frame: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What an answer sets off.
type Deliver = Box<dyn FnOnce(Result<Bytes, Failure>) + Send>;

struct Table {
    calls: HashMap<u64, Deliver>,
    dead: Option<Failure>,
}

/// What the tasks and the callers share.
pub(crate) struct Shared {
    table: Mutex<Table>,
    outgoing: mpsc::UnboundedSender<Bytes>,
    permits: Semaphore,
    progress: Progress,
    waiting: Notify,
    next_tag: AtomicU64,
}

/// One connection's calls. Dropping it closes the connection and fails what is in flight.
pub(crate) struct Mux {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 3],
}

/// An answer in the making. Dropping it forgets the call.
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T, Failure>>);

impl<T> Future for Answer<T> {
    type Output = Result<T, Failure>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|came| came.unwrap_or_else(|_| Err(closed())))
    }
}

fn closed() -> Failure {
    Failure::lost(OriginErrorKind::Unavailable, "the connection was closed")
}

impl Shared {
    /// Waits until `permits` calls more may be sent, then sends what `build` makes for a new tag. `deliver` gets
    /// the answer, whether or not anybody waits for it.
    pub(crate) async fn send<T: Send + 'static>(
        &self,
        permits: u32,
        build: impl FnOnce(u64) -> Bytes,
        deliver: impl FnOnce(Bytes) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Answer<T>, Failure> {
        let Ok(held) = self.permits.acquire_many(permits).await else {
            return Err(self.why_dead());
        };
        // From here on nothing waits: either the call is in the table and on its way, or neither.
        let (tx, rx) = oneshot::channel();
        self.post(build, move |answer| {
            // Whoever asked may be gone; what the answer holds is then dropped here.
            let _ = tx.send(answer.and_then(deliver));
        })?;
        held.forget();
        Ok(Answer(rx))
    }

    /// Sends a call at once, without a permit: for what must be said whether or not there is room, such as giving
    /// a handle back.
    pub(crate) fn post(
        &self,
        build: impl FnOnce(u64) -> Bytes,
        deliver: impl FnOnce(Result<Bytes, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err(dead.clone());
        }
        let tag = self.next_tag.fetch_add(1, Ordering::Relaxed);
        let frame = build(tag);
        table.calls.insert(tag, Box::new(deliver));
        // Under the lock, so that frames leave in the order of their tags.
        let sent = self.outgoing.send(frame);
        drop(table);
        self.waiting.notify_one();
        if sent.is_err() {
            self.die(closed());
        }
        Ok(())
    }

    /// Ends the connection: all calls in flight, and all to come, fail with `why`.
    pub(crate) fn die(&self, why: Failure) {
        let calls = {
            let mut table = self.table.lock();
            table.dead.get_or_insert_with(|| why.clone());
            std::mem::take(&mut table.calls)
        };
        self.permits.close();
        for (_, deliver) in calls {
            deliver(Err(why.clone()));
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.table.lock().dead.is_some()
    }

    /// Returns how many calls are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.table.lock().calls.len()
    }

    fn why_dead(&self) -> Failure {
        self.table.lock().dead.clone().unwrap_or_else(closed)
    }

    fn arrived(&self, incoming: Incoming) {
        if incoming.permits > 0 {
            self.permits.add_permits(incoming.permits);
        }
        let Some(body) = incoming.body else { return };
        let deliver = self.table.lock().calls.remove(&incoming.tag);
        match deliver {
            Some(deliver) => deliver(Ok(body)),
            None => tracing::debug!(tag = incoming.tag, "an answer came that nobody asked for"),
        }
    }
}

impl Mux {
    /// Serves a connection, with room for `permits` calls at first and the first of them tagged `first_tag`. It
    /// is given up when nothing arrives for `silence` while an answer is awaited.
    pub(crate) fn new(
        mut frames: impl Frames,
        mut sink: impl Sink,
        (permits, first_tag): (usize, u64),
        clock: Arc<dyn Clock>,
        silence: Duration,
    ) -> Self {
        let (outgoing, mut queue) = mpsc::unbounded_channel::<Bytes>();
        let shared = Arc::new(Shared {
            table: Mutex::new(Table { calls: HashMap::new(), dead: None }),
            outgoing,
            permits: Semaphore::new(permits),
            progress: Progress::default(),
            waiting: Notify::new(),
            next_tag: AtomicU64::new(first_tag),
        });
        let reader = Arc::clone(&shared);
        let read = async move {
            let why = loop {
                match frames.next(&reader.progress).await {
                    Ok(Some(incoming)) => reader.arrived(incoming),
                    Ok(None) => break closed(),
                    Err(failure) => break failure,
                }
            };
            reader.die(why);
        };
        let writer = Arc::clone(&shared);
        let write = async move {
            while let Some(frame) = queue.recv().await {
                if let Err(failure) = sink.send(frame).await {
                    writer.die(failure);
                    return;
                }
            }
        };
        let watcher = Arc::clone(&shared);
        let watch = async move {
            while !watcher.is_dead() {
                if watcher.in_flight() == 0 {
                    watcher.waiting.notified().await;
                    continue;
                }
                let seen = watcher.progress.seen();
                clock.sleep_until(clock.now().plus(silence)).await;
                // Nothing arrived, so that whatever was in flight before still is.
                if watcher.progress.seen() == seen {
                    let why = format!("nothing was heard from the server for {} s", silence.as_secs());
                    watcher.die(Failure::lost(OriginErrorKind::TimedOut, why));
                }
            }
        };
        Self { shared, tasks: [tokio::spawn(read), tokio::spawn(write), tokio::spawn(watch)] }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl std::ops::Deref for Mux {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.die(closed());
    }
}
