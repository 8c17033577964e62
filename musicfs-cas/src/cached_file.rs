//! What is known, at this moment, of one version of one file: what is cached, and what is being fetched.
//!
//! Pure bookkeeping behind one lock, which [`FileReader`](crate::FileReader) holds for a few lines at a time. A
//! byte of the file is in at most one of: an extent (it is in a chunk), a flight (it is being fetched, or has
//! arrived and waits to be stored), a gap. A guess is a gap that is fetched as a whole or not at all, so that what comes
//! can be compared with its chunk.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::{ByteRange, ChunkExtent, ChunkManifest, ReadError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::chunker::{Chunker, Cut, Run};
use crate::window::{Ahead, ReadAhead};

/// What may have arrived and not been stored, per file, while the store takes nothing.
const MAX_UNSTORED: u64 = 2 << 20;
/// A track counts as being played when this much of it, or all of it, was read forward.
const PLAYED: u64 = 1 << 20;

/// What came of a fetch.
pub(crate) type Fetched = Result<Bytes, Arc<ReadError>>;

/// What guesses are to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guesses {
    /// Gaps, which are filled.
    Compare,
    /// As good as what is proven: nobody is there to compare them with.
    Serve,
}

/// One fetch of a stretch of the file.
#[derive(Debug)]
struct Flight {
    range: ByteRange,
    outcome: watch::Receiver<Option<Fetched>>,
    /// Whether its bytes have been handed to the chunker.
    arrived: bool,
    /// Its share of the read-ahead budget, until its bytes leave memory.
    _budget: Option<OwnedSemaphorePermit>,
}

/// Whether somebody cuts what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cutting {
    No,
    Yes,
    /// And has to look again then.
    AndAgain,
}

/// A fetch that is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// What to fetch.
    pub(crate) range: ByteRange,
    /// Where to put what comes.
    pub(crate) outcome: watch::Sender<Option<Fetched>>,
}

/// Where the next byte of a read is.
#[derive(Debug)]
pub(crate) enum Place {
    /// In a chunk.
    Chunk(ChunkExtent),
    /// In a fetch, that of this range.
    Flight(ByteRange, watch::Receiver<Option<Fetched>>),
    /// Nowhere.
    Gap,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct CachedFile {
    size: u64,
    manifest: ChunkManifest,
    unsaved: u64,
    flights: BTreeMap<u64, Flight>,
    /// Chunks that were proven to be of the file and are no longer there, until their stretches are stored again.
    lost: BTreeMap<u64, ChunkExtent>,
    chunker: Chunker,
    cutting: Cutting,
    ahead: ReadAhead,
    /// Up to where chunks were loaded ahead of the reader who was there last.
    loaded_to: u64,
    /// Up to where it was played.
    played_to: u64,
    /// Raised by every seek: who follows a reader stops then.
    round: u64,
    followed: bool,
    refutations: u32,
}

impl CachedFile {
    /// Begins with what was cached before. No chunk will cross one of `fences`.
    pub(crate) fn new(size: u64, manifest: ChunkManifest, fences: Vec<u64>) -> Self {
        Self {
            size,
            manifest,
            unsaved: 0,
            flights: BTreeMap::new(),
            lost: BTreeMap::new(),
            chunker: Chunker::new(fences),
            cutting: Cutting::No,
            ahead: ReadAhead::default(),
            loaded_to: 0,
            played_to: 0,
            round: 0,
            followed: false,
            refutations: 0,
        }
    }

    /// Returns what is cached.
    pub(crate) fn manifest(&self) -> &ChunkManifest {
        &self.manifest
    }

    /// Takes note of a read; returns what to do ahead of it, and whether the file is being played.
    pub(crate) fn note_read(&mut self, range: ByteRange) -> (Ahead, bool) {
        let ahead = self.ahead.on_read(range, self.size);
        let forward = ahead.forward;
        if forward == 0 {
            // Somebody reads elsewhere: what was ahead of the reader before may not be wanted any more.
            self.round += 1;
            self.followed = false;
            self.loaded_to = 0;
        }
        let plays = forward >= PLAYED || (forward > 0 && self.size <= PLAYED && forward >= self.size);
        if plays {
            self.played_to = ahead.window.end();
        }
        (ahead, plays)
    }

    /// Tells whether a reader is about to come to `range`.
    pub(crate) fn will_read(&self, range: ByteRange) -> bool {
        self.ahead.will_read(range)
    }

    /// Returns up to where the file was played.
    pub(crate) fn played_to(&self) -> u64 {
        self.played_to
    }

    /// Begins to fetch ahead of a reader; `None` when that was begun since the last seek.
    pub(crate) fn begin_following(&mut self) -> Option<u64> {
        let begins = !self.followed;
        self.followed = true;
        begins.then_some(self.round)
    }

    /// Ends it before everything was fetched: it may be begun again.
    pub(crate) fn end_following(&mut self, round: u64) {
        if self.round == round {
            self.followed = false;
        }
    }

    /// Tells whether there was no seek since.
    pub(crate) fn is_followed(&self, round: u64) -> bool {
        self.round == round
    }

    /// Returns what is being fetched of a range.
    pub(crate) fn outcomes(&self, range: ByteRange) -> Vec<watch::Receiver<Option<Fetched>>> {
        let touching = self.flights.values().filter(|flight| flight.range.intersect(&range).is_some());
        touching.map(|flight| flight.outcome.clone()).collect()
    }

    /// Returns the chunks of a range that were not asked for yet, to be loaded ahead of the reader.
    pub(crate) fn take_to_load(&mut self, range: ByteRange) -> Vec<ChunkExtent> {
        let from = range.start().max(self.loaded_to);
        self.loaded_to = self.loaded_to.max(range.end());
        let extents = self.manifest.extents();
        let first = extents.partition_point(|extent| extent.range.end() <= from);
        let near = extents[first..].iter().take_while(|extent| extent.range.start() < range.end());
        let fresh = near.filter(|extent| extent.range.start() >= from || from == range.start());
        fresh.copied().collect()
    }

    /// Takes note that what was to be loaded from `from` on was not: there was no room.
    pub(crate) fn not_loaded(&mut self, from: u64) {
        self.loaded_to = self.loaded_to.min(from);
    }

    /// Tells where the byte at `offset` is.
    pub(crate) fn place(&self, offset: u64, guesses: Guesses) -> Place {
        let extents = self.manifest.extents();
        let at = extents.partition_point(|e| e.range.end() <= offset);
        if let Some(extent) = extents.get(at).filter(|e| e.range.start() <= offset) {
            return Place::Chunk(*extent);
        }
        if let Some(guess) = self.guess_at(offset).filter(|_| guesses == Guesses::Serve) {
            return Place::Chunk(guess);
        }
        match self.flights.range(..=offset).next_back() {
            Some((_, flight)) if flight.range.end() > offset => {
                Place::Flight(flight.range, flight.outcome.clone())
            }
            _ => Place::Gap,
        }
    }

    /// Tells whether anything is there by guess.
    pub(crate) fn has_guesses(&self) -> bool {
        !self.manifest.guesses().is_empty()
    }

    /// Returns the guess that holds the byte at `offset`.
    pub(crate) fn guess_at(&self, offset: u64) -> Option<ChunkExtent> {
        self.manifest.guesses_in(ByteRange::at(offset, 1)).first().copied()
    }

    /// Returns the guess of exactly this stretch.
    pub(crate) fn guess_of(&self, range: ByteRange) -> Option<ChunkExtent> {
        self.guess_at(range.start()).filter(|guess| guess.range == range)
    }

    /// Takes note that a guess was wrong: none is believed any more.
    pub(crate) fn refuted(&mut self) {
        self.unsaved += self.manifest.drop_guesses();
        self.refutations += 1;
    }

    /// Returns how often a guess was wrong.
    pub(crate) fn refutations(&self) -> u32 {
        self.refutations
    }

    /// Makes guesses of all that is cached, but for what is being stored, as it has only just come; returns where they
    /// are.
    pub(crate) fn doubt(&mut self) -> Vec<ByteRange> {
        let fresh = |extent: &&ChunkExtent| !self.outcomes(extent.range).is_empty();
        let fresh: Vec<ChunkExtent> = self.manifest.extents().iter().filter(fresh).copied().collect();
        self.unsaved += self.manifest.doubt();
        for extent in fresh {
            self.manifest.insert(extent);
        }
        self.manifest.guesses().iter().map(|guess| guess.range).collect()
    }

    /// Takes what a fetch brought, which can be cut then; returns it when it is a chunk as it is.
    pub(crate) fn arrived(&mut self, range: ByteRange, bytes: Bytes) -> Option<Cut> {
        let flight = self.flights.get_mut(&range.start())?;
        flight.arrived = true;
        if self.guess_of(range).is_some() {
            // It was right: the chunk is cut already.
            return Some(Cut { range, bytes });
        }
        self.chunker.push(range.start(), bytes);
        None
    }

    /// Takes out what can be cut, which is work for the processor and wants no lock; `None` when there is nothing, or
    /// somebody cuts, who will go on with it.
    pub(crate) fn begin_cutting(&mut self) -> Option<Vec<Run>> {
        if self.cutting != Cutting::No {
            self.cutting = Cutting::AndAgain;
            return None;
        }
        let flights = &self.flights;
        let ready = self.chunker.take_ready(|at| flights.get(&at).is_some_and(|flight| !flight.arrived));
        if ready.is_empty() {
            return None;
        }
        self.cutting = Cutting::Yes;
        Some(ready)
    }

    /// Takes back what waits for more; returns what can be cut by now.
    pub(crate) fn end_cutting(&mut self, rest: Vec<Cut>) -> Option<Vec<Run>> {
        for Cut { range, bytes } in rest {
            self.chunker.push(range.start(), bytes);
        }
        match std::mem::replace(&mut self.cutting, Cutting::No) {
            Cutting::AndAgain => self.begin_cutting(),
            _ => None,
        }
    }

    /// Takes bytes that came without being asked for, where there are none, not even by guess; returns which, and their
    /// chunks.
    pub(crate) fn offer(&mut self, at: u64, bytes: &Bytes) -> (Vec<ByteRange>, Vec<Cut>) {
        let range = ByteRange::at(at, bytes.len() as u64).clamp_to(self.size);
        let free = self.pieces(self.gaps(range).into_iter(), range, Guesses::Serve);
        // Apart from what readers fetch: the two may fare differently.
        let mut apart = self.chunker.another();
        for piece in &free {
            let from = (piece.start() - at) as usize;
            let part = bytes.slice(from..from + piece.len() as usize);
            let Launch { range, outcome } = self.launch(*piece, None);
            outcome.send_replace(Some(Ok(part.clone())));
            if let Some(flight) = self.flights.get_mut(&range.start()) {
                flight.arrived = true;
            }
            apart.push(range.start(), part);
        }
        (free, apart.cut(|_| false))
    }

    /// Forgets a fetch that failed: what waited for it can be cut.
    pub(crate) fn failed(&mut self, range: ByteRange) {
        self.flights.remove(&range.start());
    }

    /// Takes note that a chunk is stored.
    pub(crate) fn stored(&mut self, extent: ChunkExtent) {
        if self.manifest.insert(extent) {
            self.unsaved += extent.range.len();
            self.lost.retain(|_, lost| lost.range.intersect(&extent.range).is_none());
        }
        let manifest = &self.manifest;
        self.flights.retain(|_, flight| !flight.arrived || !manifest.gaps(flight.range).is_empty());
    }

    /// Takes note that a chunk cannot be stored. What arrived stays in memory for those who wait for it, within a
    /// bound; the furthest behind goes first.
    pub(crate) fn not_stored(&mut self) {
        let mut held: u64 = self.flights.values().filter(|f| f.arrived).map(|f| f.range.len()).sum();
        while held > MAX_UNSTORED {
            let Some(first) =
                self.flights.iter().find(|(_, f)| f.arrived).map(|(at, f)| (*at, f.range.len()))
            else {
                return;
            };
            self.flights.remove(&first.0);
            held -= first.1;
        }
    }

    /// Forgets what arrived and was not stored, once nothing is under way: whoever wants it fetches it, for a store that
    /// may take it by now.
    pub(crate) fn forget_unstored(&mut self) {
        if self.flights.values().all(|flight| flight.arrived) {
            self.flights.clear();
        }
    }

    /// Takes note that a chunk turned out to be damaged or gone; tells whether that is news.
    pub(crate) fn lost(&mut self, extent: &ChunkExtent) -> bool {
        let is_guess = self.guess_of(extent.range).is_some();
        let news = self.manifest.remove(extent);
        if news {
            self.unsaved += extent.range.len();
            if !is_guess {
                self.lost.insert(extent.range.start(), *extent);
            }
        }
        news
    }

    /// Returns the chunk that was lost and holds the byte at `offset`.
    pub(crate) fn lost_at(&self, offset: u64) -> Option<ChunkExtent> {
        let (_, lost) = self.lost.range(..=offset).next_back()?;
        Some(*lost).filter(|lost| lost.range.end() > offset)
    }

    /// Takes note that a chunk could not be read, and may be read later: it is fetched while its origin answers, and
    /// thereby compared.
    pub(crate) fn unreadable(&mut self, extent: &ChunkExtent) {
        if self.manifest.remove(extent) && self.manifest.guess(*extent) {
            self.unsaved += extent.range.len();
        }
    }

    /// Returns the manifest to be saved: when `enough` bytes have changed since it was last saved, or nothing is
    /// being fetched any more.
    pub(crate) fn take_unsaved(&mut self, enough: u64) -> Option<ChunkManifest> {
        let idle = self.flights.values().all(|flight| flight.arrived);
        let due = self.unsaved >= enough || (self.unsaved > 0 && idle);
        due.then(|| {
            self.unsaved = 0;
            self.manifest.clone()
        })
    }

    fn launch(&mut self, range: ByteRange, budget: Option<OwnedSemaphorePermit>) -> Launch {
        let (sender, outcome) = watch::channel(None);
        let flight = Flight { range, outcome, arrived: false, _budget: budget };
        self.flights.insert(range.start(), flight);
        Launch { range, outcome: sender }
    }
}
