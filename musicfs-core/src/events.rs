//! What happens, told to whoever listens.
//!
//! An [`EventBus`] takes events from all parts of a program and hands them to any number of [`EventStream`]s. To
//! publish is one line, `bus.publish(EventKind::…)`, from any thread: it never waits, and costs next to nothing
//! when nobody listens.
//!
//! # Invariants
//! * Memory is bounded: the bus keeps the last [`EventBus::CAPACITY`] events for those who are slow.
//! * Nothing is dropped silently. A stream that fell behind gets [`EventKind::Lagged`] with the number of events
//!   that it missed, in the place of those, and goes on with the oldest that is still kept.
//! * Sequence numbers have no gaps: each stream sees them grow by one, but where it is told that it lagged.
//!
//! # Locking
//! One lock orders the events; it is held to number one and put it in its place.
//!
//! Events are news, not a record: nothing is kept over the end of the process, and what must not be missed is
//! derived from [`MetaDb::changes_since`](crate::MetaDb::changes_since).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{Clock, FileId, OriginId, UnixNanos};

/// How serving is going, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// All origins answer.
    Ready,
    /// Some origins do not answer.
    Degraded,
    /// No origin answers.
    Offline,
    /// It is being unmounted.
    Stopping,
}

/// What happened. Paths of files are those in the tree, without a leading `/`; bytes of names that are no UTF-8 are
/// replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A file appeared in the tree.
    FileAdded {
        /// The file.
        id: FileId,
        /// Where it is.
        path: String,
    },
    /// A file went from the tree.
    FileRemoved {
        /// The file.
        id: FileId,
        /// Where it was.
        path: String,
    },
    /// What a file holds changed.
    FileModified {
        /// The file.
        id: FileId,
        /// Where it is.
        path: String,
        /// Whether its bytes changed, and not only what is known of it.
        content: bool,
    },
    /// A file is at another path in the tree.
    FileMoved {
        /// The file.
        id: FileId,
        /// Where it was.
        from: String,
        /// Where it is.
        path: String,
    },
    /// A file took the place of another as the same track in another form, with its history.
    FileSuperseded {
        /// The file that goes on.
        id: FileId,
        /// The file whose place it took.
        old: FileId,
        /// Where it is.
        path: String,
    },
    /// An origin answers (again).
    OriginUp {
        /// The origin.
        origin: OriginId,
    },
    /// An origin does not answer any more.
    OriginDown {
        /// The origin.
        origin: OriginId,
        /// Why.
        reason: String,
    },
    /// Reads of an origin's files are answered by copies on another.
    OriginFailover {
        /// The origin that failed.
        origin: OriginId,
        /// The one that answers.
        to: OriginId,
    },
    /// An origin became part of the library.
    OriginAdded {
        /// The origin.
        origin: OriginId,
    },
    /// An origin is no longer part of the library.
    OriginRemoved {
        /// The origin.
        origin: OriginId,
    },
    /// A pass over an origin begins.
    SyncStarted {
        /// The origin.
        origin: OriginId,
    },
    /// A pass over an origin is done.
    SyncFinished {
        /// The origin.
        origin: OriginId,
        /// Files listed.
        listed: u64,
        /// Files that are new.
        added: u64,
        /// Files that changed.
        changed: u64,
        /// Files found to be missing.
        missing: u64,
        /// Files that are back.
        returned: u64,
        /// Whether all was listed.
        complete: bool,
    },
    /// What is known of an origin's files was compared with what they hold.
    SyncVerified {
        /// The origin.
        origin: OriginId,
        /// Files that hold what is known of them.
        verified: u64,
        /// Files that do not, and are recorded anew.
        differing: u64,
        /// Files that could not be read.
        unread: u64,
    },
    /// A pass over an origin failed.
    SyncFailed {
        /// The origin.
        origin: OriginId,
        /// Why.
        reason: String,
    },
    /// A pass would have marked so much as missing that it waits to be confirmed.
    SyncHeld {
        /// The origin.
        origin: OriginId,
        /// Why.
        reason: String,
    },
    /// Chunks were removed from the cache to make room.
    CacheEvicted {
        /// How many.
        chunks: u64,
        /// Their size in bytes.
        bytes: u64,
    },
    /// A damaged chunk was found and put aside.
    CacheCorrupt {
        /// The chunk's hash.
        chunk: String,
    },
    /// What was cached of a file is not what its origin holds, though its version is the same; it is fetched anew.
    CacheMismatch {
        /// The file.
        id: FileId,
        /// Its origin.
        origin: OriginId,
        /// Its path there.
        path: String,
    },
    /// The cache cannot be used; reads go to the origins.
    CacheUnavailable {
        /// Why.
        reason: String,
    },
    /// The cache can be used again.
    CacheAvailable,
    /// How serving is going changed.
    StateChanged {
        /// How it was.
        from: ServiceState,
        /// How it is.
        to: ServiceState,
    },
    /// This stream fell behind and missed events.
    Lagged {
        /// How many it missed.
        missed: u64,
    },
}

impl EventKind {
    /// The names of all kinds, as [`EventKind::name`] gives them.
    pub const NAMES: [&'static str; 22] = [
        "file_added",
        "file_removed",
        "file_modified",
        "file_moved",
        "file_superseded",
        "origin_up",
        "origin_down",
        "origin_failover",
        "origin_added",
        "origin_removed",
        "sync_started",
        "sync_finished",
        "sync_verified",
        "sync_failed",
        "sync_held",
        "cache_evicted",
        "cache_corrupt",
        "cache_mismatch",
        "cache_unavailable",
        "cache_available",
        "state_changed",
        "lagged",
    ];

    /// Returns the kind's name, which is its `type` in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FileAdded { .. } => "file_added",
            Self::FileRemoved { .. } => "file_removed",
            Self::FileModified { .. } => "file_modified",
            Self::FileMoved { .. } => "file_moved",
            Self::FileSuperseded { .. } => "file_superseded",
            Self::OriginUp { .. } => "origin_up",
            Self::OriginDown { .. } => "origin_down",
            Self::OriginFailover { .. } => "origin_failover",
            Self::OriginAdded { .. } => "origin_added",
            Self::OriginRemoved { .. } => "origin_removed",
            Self::SyncStarted { .. } => "sync_started",
            Self::SyncFinished { .. } => "sync_finished",
            Self::SyncVerified { .. } => "sync_verified",
            Self::SyncFailed { .. } => "sync_failed",
            Self::SyncHeld { .. } => "sync_held",
            Self::CacheEvicted { .. } => "cache_evicted",
            Self::CacheCorrupt { .. } => "cache_corrupt",
            Self::CacheMismatch { .. } => "cache_mismatch",
            Self::CacheUnavailable { .. } => "cache_unavailable",
            Self::CacheAvailable => "cache_available",
            Self::StateChanged { .. } => "state_changed",
            Self::Lagged { .. } => "lagged",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1. [`EventKind::Lagged`] has that of the last event missed.
    pub seq: u64,
    /// When, in nanoseconds since 1970.
    pub at: UnixNanos,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

struct Bus {
    clock: Arc<dyn Clock>,
    /// The last number given, and where events go; `None` once the bus is closed.
    sender: Mutex<(u64, Option<broadcast::Sender<Arc<Event>>>)>,
    missed: AtomicU64,
}

/// Takes events and hands them to streams. Clones are the same bus.
#[derive(Clone)]
pub struct EventBus(Arc<Bus>);

impl EventBus {
    /// Events that are kept for a stream that is slow: the burst of a few thousand files that a batch of a scan
    /// makes, at some hundred bytes each.
    pub const CAPACITY: usize = 8192;

    /// Makes a bus.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_capacity(clock, Self::CAPACITY)
    }

    /// Makes a bus that keeps at least `capacity` events for slow streams.
    pub fn with_capacity(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        let sender = broadcast::Sender::new(capacity.max(1));
        Self(Arc::new(Bus { clock, sender: Mutex::new((0, Some(sender))), missed: AtomicU64::new(0) }))
    }

    /// Tells everybody who listens. Never waits; does nothing once the bus is closed.
    pub fn publish(&self, kind: EventKind) {
        let at = self.0.clock.unix();
        let mut sender = self.0.sender.lock();
        let (last, Some(open)) = &mut *sender else { return };
        *last += 1;
        let event = Event { seq: *last, at, kind };
        // It fails when nobody listens.
        let _ = open.send(Arc::new(event));
    }

    /// Tells whether anybody listens; events that take work to make may be left unmade when nobody does.
    pub fn is_heard(&self) -> bool {
        self.0.sender.lock().1.as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Listens from now on. The stream of a closed bus is at its end.
    pub fn subscribe(&self) -> EventStream {
        let sender = self.0.sender.lock();
        let receiver = sender.1.as_ref().map(broadcast::Sender::subscribe);
        EventStream { bus: self.0.clone(), receiver, last: sender.0 }
    }

    /// Returns how many events streams have missed, all together.
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Ends all streams, once they have given what was published before.
    pub fn close(&self) {
        self.0.sender.lock().1 = None;
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sender = self.0.sender.lock();
        f.debug_struct("EventBus")
            .field("published", &sender.0)
            .field("missed", &self.missed())
            .field("open", &sender.1.is_some())
            .finish()
    }
}

/// Listens to an [`EventBus`].
pub struct EventStream {
    bus: Arc<Bus>,
    receiver: Option<broadcast::Receiver<Arc<Event>>>,
    /// Number of the last event given, or missed.
    last: u64,
}

impl EventStream {
    /// Returns the next event, or `None` when the bus is closed. Dropping the future misses nothing.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => {
                self.last = event.seq;
                Some(event)
            }
            Err(RecvError::Lagged(missed)) => {
                self.last += missed;
                self.bus.missed.fetch_add(missed, Ordering::Relaxed);
                let at = self.bus.clock.unix();
                Some(Arc::new(Event { seq: self.last, at, kind: EventKind::Lagged { missed } }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("last", &self.last).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;

    fn origin(name: &str) -> EventKind {
        EventKind::OriginUp { origin: name.into() }
    }

    fn samples() -> Vec<EventKind> {
        let id = FileId::from_raw(7).unwrap();
        let path = || "a/b.flac".to_owned();
        let origin = || OriginId::from("nas");
        let reason = || "why".to_owned();
        vec![
            EventKind::FileAdded { id, path: path() },
            EventKind::FileRemoved { id, path: path() },
            EventKind::FileModified { id, path: path(), content: true },
            EventKind::FileMoved { id, from: path(), path: path() },
            EventKind::FileSuperseded { id, old: id, path: path() },
            EventKind::OriginUp { origin: origin() },
            EventKind::OriginDown { origin: origin(), reason: reason() },
            EventKind::OriginFailover { origin: origin(), to: origin() },
            EventKind::OriginAdded { origin: origin() },
            EventKind::OriginRemoved { origin: origin() },
            EventKind::SyncStarted { origin: origin() },
            EventKind::SyncFinished {
                origin: origin(),
                listed: 5,
                added: 4,
                changed: 3,
                missing: 2,
                returned: 1,
                complete: true,
            },
            EventKind::SyncVerified { origin: origin(), verified: 3, differing: 2, unread: 1 },
            EventKind::SyncFailed { origin: origin(), reason: reason() },
            EventKind::SyncHeld { origin: origin(), reason: reason() },
            EventKind::CacheEvicted { chunks: 1, bytes: 2 },
            EventKind::CacheCorrupt { chunk: "ab".into() },
            EventKind::CacheMismatch { id, origin: origin(), path: path() },
            EventKind::CacheUnavailable { reason: reason() },
            EventKind::CacheAvailable,
            EventKind::StateChanged { from: ServiceState::Ready, to: ServiceState::Offline },
            EventKind::Lagged { missed: 3 },
        ]
    }

    #[test]
    fn event_names_are_their_types_in_json_and_all_are_listed() {
        let mut names = Vec::new();
        for kind in samples() {
            let event = Event { seq: 1, at: UnixNanos(2), kind };
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["type"], event.kind.name());
            assert_eq!(json["seq"], 1);
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
            names.push(event.kind.name());
        }
        assert_eq!(names, EventKind::NAMES);
    }

    #[tokio::test]
    async fn stream_that_falls_behind_is_told_how_much_it_missed() {
        let bus = EventBus::with_capacity(Arc::new(SystemClock::new()), 4);
        bus.publish(origin("before"));
        let mut slow = bus.subscribe();
        for n in 0..10 {
            bus.publish(origin(&n.to_string()));
        }
        let lagged = slow.next().await.unwrap();
        assert_eq!((lagged.seq, &lagged.kind), (7, &EventKind::Lagged { missed: 6 }));
        for n in 6..10 {
            let event = slow.next().await.unwrap();
            assert_eq!((event.seq, &event.kind), (n + 2, &origin(&n.to_string())));
        }
        assert_eq!(bus.missed(), 6);
    }

    #[tokio::test]
    async fn closed_bus_ends_its_streams_after_what_was_published() {
        let bus = EventBus::new(Arc::new(SystemClock::new()));
        assert!(!bus.is_heard());
        let mut stream = bus.subscribe();
        assert!(bus.is_heard());
        bus.publish(EventKind::CacheAvailable);
        bus.close();
        bus.publish(EventKind::CacheAvailable);
        assert_eq!(stream.next().await.unwrap().seq, 1);
        assert!(stream.next().await.is_none());
        assert!(bus.subscribe().next().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_of_many_threads_reach_a_stream_in_the_order_of_their_numbers() {
        let bus = EventBus::new(Arc::new(SystemClock::new()));
        let mut stream = bus.subscribe();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| bus.publish(EventKind::CacheAvailable)));
            }
        });
        bus.close();
        let mut expected = 1;
        while let Some(event) = stream.next().await {
            assert_eq!(event.seq, expected);
            expected += 1;
        }
        assert_eq!(expected, 2001);
    }
}
