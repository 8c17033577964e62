//! Fetches under way: each is a task, from the request to the manifest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use musicfs_core::{
    Batch, ByteRange, ChunkError, ChunkExtent, ChunkHash, ChunkManifest, EventKind, FileId, FileVersion, Op,
    PartSink, ReadPlan,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use super::table::{Shared, Tracked};
use super::{Inner, RETRY_STORE, blocking};
use crate::cached_file::Launch;
use crate::chunker::{Cut, Run};
use crate::keeper::CacheKeeper;

/// A manifest is saved when this much of its file has come, and when nothing more is coming: what a kill loses.
const SAVE_EVERY: u64 = 8 << 20;
/// How often it is tried to make room for a chunk, each time to lose it to another.
const TRIES_FOR_ROOM: usize = 8;

/// Counts something for as long as it goes on.
pub(super) struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    pub(super) fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Who asked for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Somebody who reads, or is about to.
    Reader,
    /// Nobody yet.
    Prefetch,
}

/// Fetches that follow one another in the file, in one request to its origin. What comes of it is handed on piece by
/// piece.
struct Request {
    range: ByteRange,
    /// What has not come yet, in order; the first may have begun to.
    open: Mutex<Open>,
}

/// The pieces of a request, as they land.
type Pieces = mpsc::UnboundedReceiver<(Launch, Bytes)>;

struct Open {
    launches: VecDeque<Launch>,
    /// What has come of the first.
    begun: BytesMut,
    landed: mpsc::UnboundedSender<(Launch, Bytes)>,
}

impl Request {
    /// Puts fetches together that follow one another; returns each request with the pieces that land.
    fn of(launches: Vec<Launch>) -> Vec<(Arc<Self>, Pieces)> {
        let mut rows: Vec<VecDeque<Launch>> = Vec::new();
        for launch in launches {
            match rows
                .last_mut()
                .filter(|row| row.back().is_some_and(|l| l.range.end() == launch.range.start()))
            {
                Some(row) => row.push_back(launch),
                None => rows.push(VecDeque::from([launch])),
            }
        }
        let request = |launches: VecDeque<Launch>| {
            let ends = launches.front().zip(launches.back());
            let range = ends.map_or(ByteRange::at(0, 0), |(first, last)| {
                ByteRange::new(first.range.start(), last.range.end())
            });
            let (landed, pieces) = mpsc::unbounded_channel();
            let open = Mutex::new(Open { launches, begun: BytesMut::new(), landed });
            (Arc::new(Self { range, open }), pieces)
        };
        rows.into_iter().map(request).collect()
    }

    /// Takes the next part, and hands on the pieces that it completes.
    fn take(&self, mut part: Bytes) {
        let mut open = self.open.lock();
        while let Some(launch) = open.launches.front() {
            let len = launch.range.len() as usize;
            let missing = len - open.begun.len();
            if part.len() < missing {
                if open.begun.is_empty() {
                    open.begun.reserve(len);
                }
                open.begun.extend_from_slice(&part);
                return;
            }
            let last = part.split_to(missing);
            let whole = if open.begun.is_empty() {
                last
            } else {
                open.begun.extend_from_slice(&last);
                open.begun.split().freeze()
            };
            if let Some(launch) = open.launches.pop_front() {
                // Whoever stores them is there until this request ends.
                let _ = open.landed.send((launch, whole));
            }
        }
    }

    /// Ends it; returns what has not come.
    fn end(&self) -> VecDeque<Launch> {
        let mut open = self.open.lock();
        // No more will land.
        open.landed = mpsc::unbounded_channel().0;
        std::mem::take(&mut open.launches)
    }
}

impl Inner {
    /// Begins to fetch, those that follow one another in one request.
    pub(super) fn start(
        self: &Arc<Self>,
        file: &Shared,
        plan: &ReadPlan,
        launches: Vec<Launch>,
        asked: Asked,
    ) {
        for (request, pieces) in Request::of(launches) {
            // Counted from now, so that whoever waits for the end waits for these.
            let (fetching, storing) = (Landing::new(file), Landing::new(file));
            let (inner, its_file, its_plan) = (self.clone(), file.clone(), plan.clone());
            tokio::spawn(async move {
                let _done = storing;
                inner.land(&its_file, &its_plan, pieces, asked).await;
            });
            let (inner, file, plan) = (self.clone(), file.clone(), plan.clone());
            tokio::spawn(async move {
                let _done = fetching;
                let _reading = (asked == Asked::Reader).then(|| Counted::new(&inner.reading));
                inner.fly(&file, &plan, &request, asked).await;
            });
        }
    }

    /// One request.
    async fn fly(&self, file: &Shared, plan: &ReadPlan, request: &Arc<Request>, asked: Asked) {
        let taking = Arc::clone(request);
        let parts = PartSink::new(move |part| taking.take(part));
        let fetched = self.fetcher.fetch_parts(plan, request.range, &parts).await;
        let missing = request.end();
        let Err(error) = fetched else { return };
        let error = Arc::new(error);
        for Launch { range, outcome } in missing {
            file.lock().failed(range);
            outcome.send_replace(Some(Err(Arc::clone(&error))));
        }
        self.cut(file, asked).await;
        self.save_if_up(file, plan).await;
    }

    /// Serves and stores what comes of a request.
    async fn land(&self, file: &Shared, plan: &ReadPlan, mut pieces: Pieces, asked: Asked) {
        let mut storing = FuturesUnordered::new();
        loop {
            let (Launch { range, outcome }, bytes) = tokio::select! {
                biased;
                piece = pieces.recv() => match piece {
                    Some(piece) => piece,
                    None => break,
                },
                Some(()) = storing.next() => continue,
            };
            if asked == Asked::Prefetch {
                self.counters.prefetched.fetch_add(range.len(), Ordering::Relaxed);
            }
            let refuted = self.compare_with_guess(file, range, &bytes);
            outcome.send_replace(Some(Ok(bytes.clone())));
            let chunk = file.lock().arrived(range, bytes);
            if refuted {
                self.correct(plan).await;
            }
            storing.push(async move {
                self.keep_all(file, chunk.into_iter().collect(), asked).await;
                self.cut(file, asked).await;
            });
        }
        while storing.next().await.is_some() {}
        self.save_if_up(file, plan).await;
    }

    async fn save_if_up(&self, file: &Shared, plan: &ReadPlan) {
        if !self.store_is_down() {
            self.save_if_due(file, plan, SAVE_EVERY).await;
        }
    }

    /// Cuts what has come of a file and stores the chunks. Readers go on meanwhile.
    async fn cut(&self, file: &Shared, asked: Asked) {
        let mut storing = FuturesUnordered::new();
        let mut next = file.lock().begin_cutting();
        while let Some(runs) = next {
            // Chunks take memory beside what they are cut from, until they are stored: less is read ahead meanwhile.
            let share = self.fetcher.share(runs.iter().map(Run::len).sum());
            // By this thread, of which there are few: what an allocator keeps for each of many threads adds up.
            let runs: Vec<Run> = runs.into_iter().map(Run::joined).collect();
            let work = || runs.into_iter().map(Run::cut).unzip::<_, _, Vec<_>, Vec<_>>();
            let Ok((cuts, rest)) = tokio::task::spawn_blocking(work).await else {
                // The program ends.
                return;
            };
            next = file.lock().end_cutting(rest.into_iter().flatten().collect());
            let cuts = cuts.into_iter().flatten().collect();
            storing.push(async move {
                let _share = share;
                self.keep_all(file, cuts, asked).await;
            });
        }
        while storing.next().await.is_some() {}
    }

    /// Stores chunks, several at once: what forces one to disk often takes the others along.
    async fn keep_all(&self, file: &Shared, cuts: Vec<Cut>, asked: Asked) {
        join_all(cuts.into_iter().map(|cut| self.keep(file, cut, asked))).await;
    }

    /// Stores a chunk, when there is room.
    pub(super) async fn keep(&self, file: &Shared, cut: Cut, asked: Asked) {
        if self.store_is_down() {
            file.lock().not_stored();
            return;
        }
        // A guess that was right is in the store, and counted.
        let guess = file.lock().guess_of(cut.range);
        let is_there = guess.is_some_and(|guess| self.is_counted(&guess.hash));
        match self.put(&cut.bytes, is_there).await {
            Ok(hash) => {
                if self.told_down.swap(false, Ordering::Relaxed) {
                    self.tell(EventKind::CacheAvailable);
                }
                if !is_there {
                    self.took_in(file, &hash, cut.range);
                }
                let mut state = file.lock();
                if asked == Asked::Reader && state.will_read(cut.range) {
                    self.hot.insert(&hash, cut.bytes);
                }
                state.stored(ChunkExtent { range: cut.range, hash });
            }
            Err(error) => {
                if let Some(error) = error {
                    self.store_failed(&error);
                }
                self.counters.not_stored.fetch_add(1, Ordering::Relaxed);
                file.lock().not_stored();
            }
        }
    }

    /// Puts a chunk into the store, making room for it unless it `is_there`; fails without an error when the limits leave
    /// none.
    async fn put(&self, bytes: &Bytes, is_there: bool) -> Result<ChunkHash, Option<ChunkError>> {
        let Some(keeper) = self.keeper.get() else {
            return self.store.put(bytes.clone()).await.map_err(Some);
        };
        let len = bytes.len() as u64;
        // What is made room for may be taken by another, whose chunk came first.
        for _ in 0..TRIES_FOR_ROOM {
            if !is_there && !keeper.admit(len).await {
                return Err(None);
            }
            let refused = keeper.refused_by_disk();
            match self.store.put(bytes.clone()).await {
                Err(ChunkError::Full { .. }) if keeper.refused_by_disk() == refused => {}
                Err(error @ ChunkError::Full { .. }) => {
                    if !keeper.make_room(len).await {
                        return Err(Some(error));
                    }
                    return self.store.put(bytes.clone()).await.map_err(Some);
                }
                done => return done.map_err(Some),
            }
        }
        Err(None)
    }

    pub(super) fn took_in(&self, file: &Tracked, hash: &ChunkHash, range: ByteRange) {
        if let Some(keeper) = self.keeper.get() {
            let pinned = file.meta.as_ref().is_some_and(|meta| keeper.is_pinned(meta));
            keeper.stored(hash, file.edges.class(range), pinned);
        }
    }

    /// Saves the manifest, when `enough` of it changed or nothing more is coming.
    pub(super) async fn save_if_due(&self, file: &Shared, plan: &ReadPlan, enough: u64) {
        let _turn = file.saving.lock().await;
        let unsaved = file.lock().take_unsaved(enough);
        if let Some(manifest) = unsaved {
            self.save(vec![(plan.file(), plan.version().clone(), manifest)]).await;
        }
    }

    /// Saves the manifest as it is in memory.
    pub(super) async fn save_anyhow(&self, file: &Shared, plan: &ReadPlan) {
        let _turn = file.saving.lock().await;
        let manifest = file.lock().manifest().clone();
        self.save(vec![(plan.file(), plan.version().clone(), manifest)]).await;
    }

    /// Records manifests, all at once.
    pub(super) async fn save(&self, manifests: Vec<(FileId, FileVersion, ChunkManifest)>) {
        let (db, at) = (self.db.clone(), self.clock.unix());
        let saved = blocking(move || {
            let mut ops = Vec::with_capacity(manifests.len());
            for (id, version, manifest) in manifests {
                // What is cached of a newer version is not to be lost for the sake of one that is gone.
                if db.file(id)?.is_some_and(|file| file.version.is_same(&version)) {
                    ops.push(Op::PutManifest { id, version, manifest });
                }
            }
            if ops.is_empty() { Ok(()) } else { db.apply(&Batch { at, ops }).map(drop) }
        })
        .await;
        if let Err(error) = saved {
            warn!(error = &error as &dyn std::error::Error, "what is cached could not be recorded");
        }
    }

    pub(super) fn store_is_down(&self) -> bool {
        self.store_down_until.lock().is_some_and(|until| self.clock.now() < until)
    }

    /// Tells whether what is read now will not be kept: the store fails, or is full and nothing may go.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.store_is_down() || self.keeper.get().is_some_and(CacheKeeper::is_stuck)
    }

    /// Tells what happened to the cache.
    pub(super) fn tell(&self, event: EventKind) {
        if let Some(keeper) = self.keeper.get() {
            keeper.tell(event);
        }
    }

    pub(super) fn store_failed(&self, error: &ChunkError) {
        let until = self.clock.now().plus(RETRY_STORE);
        let before = self.store_down_until.lock().replace(until);
        if before.is_none_or(|before| before < self.clock.now()) {
            error!(
                error = error as &dyn std::error::Error,
                "the cache fails; reading from origins, trying again in {} s",
                RETRY_STORE.as_secs()
            );
            self.told_down.store(true, Ordering::Relaxed);
            self.tell(EventKind::CacheUnavailable { reason: error.to_string() });
        }
    }
}

/// A fetch under way; takes note that it is over.
pub(super) struct Landing(Shared);

impl Landing {
    pub(super) fn new(file: &Shared) -> Self {
        file.in_flight.send_modify(|count| *count += 1);
        Self(file.clone())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}
