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
use crate::Progress;

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

/// The receiving half of a connection.
pub(crate) trait Frames: Send + 'static {
    /// Receives the next answer; `None` when the other end closed in good order. What arrives on the way is told
    /// to `line`.
    fn next(&mut self, line: &Shared) -> impl Future<Output = Result<Option<Incoming>, Failure>> + Send;
}

/// The sending half of a connection.
pub(crate) trait Sink: Send + 'static {
    /// Sends one call.
    fn send(&mut self, frame: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What an answer sets off.
type Deliver = Box<dyn FnOnce(Result<Bytes, Failure>) + Send>;

/// A call in flight.
struct Call {
    deliver: Deliver,
    /// Counts its bytes for the deadline around it.
    progress: Progress,
    /// Whether it took a permit, which its answer brings back.
    counted: bool,
}

struct Table {
    calls: HashMap<u64, Call>,
    dead: Option<Failure>,
}

/// What the tasks and the callers share.
pub(crate) struct Shared {
    table: Mutex<Table>,
    outgoing: mpsc::UnboundedSender<Bytes>,
    permits: Semaphore,
    /// Counts arrivals, by which silence is told.
    heard: AtomicU64,
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

/// Makes what hands an answer to whoever waits for it, and the waiting for it.
fn delivery<T: Send + 'static>(
    deliver: impl FnOnce(Bytes) -> Result<T, Failure> + Send + 'static,
) -> (Call, Answer<T>) {
    let (tx, rx) = oneshot::channel();
    let deliver = move |answer: Result<Bytes, Failure>| {
        // Whoever asked may be gone; what the answer holds is then dropped here.
        let _ = tx.send(answer.and_then(deliver));
    };
    (Call { deliver: Box::new(deliver), progress: Progress::current(), counted: true }, Answer(rx))
}

impl Shared {
    /// Waits until there are `permits`, then sends what `build` makes for a new tag. `deliver` gets the answer,
    /// whether or not anybody waits for it.
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
        let (call, answer) = delivery(deliver);
        self.post(u64::from(permits), build, [(0, call)])?;
        held.forget();
        Ok(answer)
    }

    /// As [`Shared::send`] for several calls that travel in one frame; `permits` has what each of them needs.
    #[cfg(any(feature = "smb", feature = "sftp"))]
    pub(crate) async fn send_group<T: Send + 'static>(
        &self,
        permits: &[u32],
        build: impl FnOnce(u64) -> Bytes,
        deliver: impl Fn(Bytes) -> Result<T, Failure> + Copy + Send + 'static,
    ) -> Result<Vec<Answer<T>>, Failure> {
        let Ok(held) = self.permits.acquire_many(permits.iter().sum()).await else {
            return Err(self.why_dead());
        };
        let (mut calls, mut answers, mut at) = (Vec::new(), Vec::new(), 0);
        for permits in permits {
            let (call, answer) = delivery(deliver);
            calls.push((at, call));
            answers.push(answer);
            at += u64::from(*permits);
        }
        self.post(at, build, calls)?;
        held.forget();
        Ok(answers)
    }

    /// Sends a call at once, without a permit: for what must be said whether or not there is room, such as giving
    /// a handle back.
    #[cfg(feature = "sftp")]
    pub(crate) fn say(&self, build: impl FnOnce(u64) -> Bytes) -> Result<(), Failure> {
        let unheard = Call { deliver: Box::new(|_| {}), progress: Progress::default(), counted: false };
        self.post(1, build, [(0, unheard)])
    }

    /// Sends a frame that takes up `span` tags, with calls at some of them.
    fn post(
        &self,
        span: u64,
        build: impl FnOnce(u64) -> Bytes,
        calls: impl IntoIterator<Item = (u64, Call)>,
    ) -> Result<(), Failure> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err(dead.clone());
        }
        let tag = self.next_tag.fetch_add(span, Ordering::Relaxed);
        let frame = build(tag);
        table.calls.extend(calls.into_iter().map(|(at, call)| (tag + at, call)));
        // Under the lock, so that frames leave in the order of their tags.
        let sent = self.outgoing.send(frame);
        drop(table);
        self.waiting.notify_one();
        if sent.is_err() {
            self.die(closed());
        }
        Ok(())
    }

    /// Returns how many permits nobody holds.
    #[cfg(feature = "smb")]
    pub(crate) fn spare(&self) -> usize {
        self.permits.available_permits()
    }

    /// Notes that bytes arrived, and for which call, where that can be told already.
    pub(crate) fn heard(&self, tag: Option<u64>, bytes: usize) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let Some(tag) = tag else { return };
        if let Some(call) = self.table.lock().calls.get(&tag) {
            call.progress.add(bytes);
        }
    }

    /// Ends the connection: all calls in flight, and all to come, fail with `why`.
    pub(crate) fn die(&self, why: Failure) {
        let calls = {
            let mut table = self.table.lock();
            table.dead.get_or_insert_with(|| why.clone());
            std::mem::take(&mut table.calls)
        };
        self.permits.close();
        for (_, call) in calls {
            (call.deliver)(Err(why.clone()));
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
        let call = match &incoming.body {
            Some(_) => self.table.lock().calls.remove(&incoming.tag),
            None => None,
        };
        if incoming.permits > 0 && call.as_ref().is_none_or(|call| call.counted) {
            self.permits.add_permits(incoming.permits);
        }
        match (call, incoming.body) {
            (Some(call), Some(body)) => (call.deliver)(Ok(body)),
            (None, Some(_)) => tracing::debug!(tag = incoming.tag, "an answer came that nobody asked for"),
            (_, None) => {}
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
            heard: AtomicU64::new(0),
            waiting: Notify::new(),
            next_tag: AtomicU64::new(first_tag),
        });
        let reader = Arc::clone(&shared);
        let read = async move {
            let why = loop {
                match frames.next(&reader).await {
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
                let heard = watcher.heard.load(Ordering::Relaxed);
                clock.sleep_until(clock.now().plus(silence)).await;
                // Nothing arrived, so that whatever was in flight before still is.
                if watcher.heard.load(Ordering::Relaxed) == heard {
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

#[cfg(test)]
mod tests {
    use musicfs_test_utils::{ManualClock, eventually};

    use super::*;

    /// Both ends of a connection in memory: what was sent, and what is to come.
    struct Line {
        sent: mpsc::UnboundedReceiver<Bytes>,
        come: mpsc::UnboundedSender<Incoming>,
    }

    struct Come(mpsc::UnboundedReceiver<Incoming>);

    impl Frames for Come {
        async fn next(&mut self, line: &Shared) -> Result<Option<Incoming>, Failure> {
            let incoming = self.0.recv().await;
            let tag = incoming.as_ref().map(|incoming| incoming.tag);
            line.heard(tag, 100);
            Ok(incoming)
        }
    }

    impl Sink for mpsc::UnboundedSender<Bytes> {
        async fn send(&mut self, frame: Bytes) -> Result<(), Failure> {
            mpsc::UnboundedSender::send(self, frame).map_err(|_| closed())
        }
    }

    fn line(permits: usize) -> (Mux, Line, Arc<ManualClock>) {
        let (out, sent) = mpsc::unbounded_channel();
        let (come, incoming) = mpsc::unbounded_channel();
        let clock = Arc::new(ManualClock::new());
        let mux = Mux::new(Come(incoming), out, (permits, 7), clock.clone(), Duration::from_secs(10));
        (mux, Line { sent, come }, clock)
    }

    fn tagged(tag: u64) -> Bytes {
        Bytes::from(tag.to_string())
    }

    impl Line {
        fn answer(&self, tag: u64) {
            let body = Some(Bytes::from(format!("answer {tag}")));
            self.come.send(Incoming { tag, body, permits: 1 }).unwrap();
        }
    }

    #[tokio::test]
    async fn answers_in_any_order_reach_who_asked() {
        let (mux, mut line, _) = line(3);
        let first = mux.send(1, tagged, Ok).await.unwrap();
        let second = mux.send(1, tagged, Ok).await.unwrap();
        assert_eq!(line.sent.recv().await.unwrap(), "7");
        assert_eq!(line.sent.recv().await.unwrap(), "8");
        // One that nobody asked for harms nobody.
        line.answer(99);
        line.answer(8);
        line.answer(7);
        assert_eq!(second.await.unwrap(), "answer 8");
        assert_eq!(first.await.unwrap(), "answer 7");
    }

    #[tokio::test]
    async fn call_that_was_dropped_holds_its_permit_until_it_is_answered() {
        let (mux, mut line, _) = line(1);
        drop(mux.send(1, tagged, Ok).await.unwrap());
        let mut second = std::pin::pin!(mux.send(1, tagged, Ok));
        assert!(futures::poll!(&mut second).is_pending(), "more calls are in flight than there may be");
        assert_eq!(line.sent.recv().await.unwrap(), "7");
        line.answer(7);
        let second = second.await.unwrap();
        line.answer(8);
        assert_eq!(second.await.unwrap(), "answer 8");
    }

    #[tokio::test]
    async fn what_an_answer_holds_is_let_go_when_nobody_waits_for_it() {
        struct Held(Arc<()>);
        let (mux, line, _) = line(1);
        let held = Arc::new(());
        let handle = Arc::clone(&held);
        let answer = mux.send(1, tagged, move |_| Ok(Held(handle))).await.unwrap();
        line.answer(7);
        eventually("an answer", || mux.in_flight() == 0).await;
        assert_eq!(Arc::strong_count(&held), 2);
        drop(answer);
        assert_eq!(Arc::strong_count(&held), 1);
        let _ = Held(held).0;
    }

    #[tokio::test]
    async fn what_arrives_counts_for_the_call_that_it_answers() {
        let (mux, line, _) = line(2);
        let (first, second) = (Progress::default(), Progress::default());
        let asked = first.scope(mux.send(1, tagged, Ok)).await.unwrap();
        let _other = second.scope(mux.send(1, tagged, Ok)).await.unwrap();
        line.answer(7);
        asked.await.unwrap();
        assert_eq!((first.total(), second.total()), (100, 0));
    }

    #[tokio::test]
    async fn connection_silent_while_an_answer_is_awaited_is_given_up() {
        let (mux, line, clock) = line(4);
        // Silence alone is no reason.
        clock.advance(Duration::from_secs(100));
        let answer = mux.send(1, tagged, Ok).await.unwrap();
        eventually("a watcher that sleeps", || clock.sleepers() == 1).await;
        // Something else arrives: it is not silent.
        line.come.send(Incoming { tag: 7, body: None, permits: 0 }).unwrap();
        eventually("progress", || mux.heard.load(Ordering::Relaxed) == 1).await;
        clock.advance(Duration::from_secs(10));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!mux.is_dead(), "it was given up in spite of what arrived");
        eventually("an end", || {
            clock.advance(Duration::from_secs(1));
            mux.is_dead()
        })
        .await;
        let failure = answer.await.unwrap_err();
        assert!(failure.is_lost());
        assert_eq!(failure.kind(), OriginErrorKind::TimedOut);
        let later = mux.send(1, tagged, Ok).await.map(drop).unwrap_err();
        assert_eq!(later.kind(), OriginErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn connection_that_ends_fails_all_calls_at_once() {
        let (mux, line, _) = line(1);
        let first = mux.send(1, tagged, Ok).await.unwrap();
        let mut waiting = std::pin::pin!(mux.send(1, tagged, Ok));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(line.come);
        assert_eq!(first.await.unwrap_err().kind(), OriginErrorKind::Unavailable);
        assert!(waiting.await.is_err_and(|failure| failure.is_lost()));
        assert!(mux.is_dead());
    }
}
