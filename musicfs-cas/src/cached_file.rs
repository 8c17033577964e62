//! What is known, at this moment, of one version of one file: what is cached, and what is being fetched.
//!
//! Pure bookkeeping behind one lock, which [`FileReader`](crate::FileReader) holds for a few lines at a time. A
//! byte of the file is in at most one of: an extent (it is in a chunk), a flight (it is being fetched, or has
//! arrived and waits to be stored), a gap. A guess is a gap that is fetched as a whole or not at all, so that what comes
//! can be compared with its chunk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::{ByteRange, ChunkExtent, ChunkManifest, ReadError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::chunker::{Chunker, Cut, Run};
use crate::window::{Ahead, ReadAhead};

/// Fetches begin and end at multiples of this, where the gap allows: small reads would else cost a round trip each.
const BLOCK: u64 = 64 << 10;
/// Longest fetch of what a reader waits for: what comes in one request is what its first byte may have to wait for.
const PIECE: u64 = 1 << 20;
/// The least that is fetched ahead where the budget is nearly used up.
const LEAST_STEP: u64 = 128 << 10;
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

    /// Returns the first gap that begins at `from` or later, or contains it.
    pub(crate) fn next_gap(&self, from: u64) -> Option<ByteRange> {
        self.gaps(ByteRange::new(from.min(self.size), self.size)).into_iter().next()
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

    /// Plans fetches for all of `range` that is in a gap. What a reader waits for is widened to whole blocks.
    pub(crate) fn launch_demand(&mut self, range: ByteRange, guesses: Guesses) -> Vec<Launch> {
        let start = range.start() / BLOCK * BLOCK;
        let end = range.end().div_ceil(BLOCK) * BLOCK;
        let wanted: Vec<ByteRange> = self.gaps(range);
        let wide = self.gaps(ByteRange::new(start, end).clamp_to(self.size));
        let needed = |gap: &ByteRange| wanted.iter().any(|want| gap.intersect(want).is_some());
        let pieces = self.pieces(wide.into_iter().filter(needed), range, guesses);
        pieces.into_iter().map(|piece| self.launch(piece, None)).collect()
    }

    /// Plans fetches for all of `range` that is in a gap, and of nothing else, but for guesses: each is compared whole.
    pub(crate) fn launch_exactly(&mut self, range: ByteRange) -> Vec<Launch> {
        let gaps = self.gaps(range.clamp_to(self.size));
        let pieces = self.pieces(gaps.into_iter(), range, Guesses::Compare);
        pieces.into_iter().map(|piece| self.launch(piece, None)).collect()
    }

    /// Plans fetches ahead of a reader, of `step` bytes at the most, for as long as `budget` gives a share to each;
    /// what it does not give for a whole step, it may for a part.
    pub(crate) fn launch_ahead(
        &mut self,
        range: ByteRange,
        mut step: u64,
        guesses: Guesses,
        mut budget: impl FnMut(u64) -> Option<OwnedSemaphorePermit>,
    ) -> Vec<Launch> {
        let mut launches = Vec::new();
        // What follows one another goes in one request; what comes of it is served piece by piece.
        step = step.min(PIECE);
        let gaps = self.gaps(range.clamp_to(self.size));
        let stretches: Vec<_> =
            gaps.into_iter().flat_map(|gap| self.stretches(gap, range, guesses)).collect();
        for stretch in stretches {
            let mut at = stretch.range.start();
            while at < stretch.range.end() {
                // Pieces end where steps do, so that those of several reads fit together.
                let step_end = if stretch.whole { u64::MAX } else { (at / step + 1) * step };
                let piece = ByteRange::new(at, stretch.range.end().min(step_end));
                match budget(piece.len()) {
                    Some(share) => {
                        launches.push(self.launch(piece, Some(share)));
                        at = piece.end();
                    }
                    None if step > LEAST_STEP && !stretch.whole => step /= 2,
                    None => return launches,
                }
            }
        }
        launches
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

    /// Divides gaps into what is fetched at once.
    fn pieces(
        &self,
        gaps: impl Iterator<Item = ByteRange>,
        wanted: ByteRange,
        guesses: Guesses,
    ) -> Vec<ByteRange> {
        gaps.flat_map(|gap| self.stretches(gap, wanted, guesses)).flat_map(pieces).collect()
    }

    /// Divides a gap at the guesses in it. Those that have a part in `wanted` are fetched, each as a whole.
    fn stretches(&self, gap: ByteRange, wanted: ByteRange, guesses: Guesses) -> Vec<Stretch> {
        let plain = |from, to| Stretch { range: ByteRange::new(from, to), whole: false };
        let (mut all, mut at) = (Vec::new(), gap.start());
        for guess in self.manifest.guesses_in(gap) {
            if at < guess.range.start() {
                all.push(plain(at, guess.range.start()));
            }
            if guesses == Guesses::Compare && guess.range.intersect(&wanted).is_some() {
                all.push(Stretch { range: guess.range, whole: true });
            }
            at = guess.range.end();
        }
        if at < gap.end() {
            all.push(plain(at, gap.end()));
        }
        all
    }

    /// The parts of `range` that are neither in a chunk nor in a fetch.
    fn gaps(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut gaps = Vec::new();
        for gap in self.manifest.gaps(range) {
            let mut at = gap.start();
            let before = self.flights.range(..gap.start()).next_back().map(|(_, flight)| flight);
            let within = self.flights.range(gap.start()..gap.end()).map(|(_, flight)| flight);
            for flight in before.into_iter().chain(within) {
                if flight.range.start() > at {
                    gaps.push(ByteRange::new(at, flight.range.start()));
                }
                at = at.max(flight.range.end());
            }
            if at < gap.end() {
                gaps.push(ByteRange::new(at, gap.end()));
            }
        }
        gaps
    }
}

/// Part of a gap.
struct Stretch {
    range: ByteRange,
    /// Whether it is of no use in parts.
    whole: bool,
}

/// Divides what a reader waits for.
fn pieces(stretch: Stretch) -> impl Iterator<Item = ByteRange> {
    let Stretch { range, whole } = stretch;
    let piece = if whole { range.len() } else { PIECE };
    let starts = (0..range.len().div_ceil(piece)).map(move |n| range.start() + n * piece);
    starts.map(move |start| ByteRange::new(start, (start + piece).min(range.end())))
}

#[cfg(test)]
mod tests {
    use musicfs_core::ChunkHash;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn extent(start: u64, end: u64) -> ChunkExtent {
        ChunkExtent { range: ByteRange::new(start, end), hash: ChunkHash::of(&start.to_le_bytes()) }
    }

    fn ranges(launches: &[Launch]) -> Vec<(u64, u64)> {
        launches.iter().map(|l| (l.range.start(), l.range.end())).collect()
    }

    /// Cuts what can be cut.
    fn cut(file: &mut CachedFile) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut next = file.begin_cutting();
        while let Some(runs) = next {
            let (of_runs, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
            cuts.extend(of_runs.into_iter().flatten());
            next = file.end_cutting(rest.into_iter().flatten().collect());
        }
        cuts
    }

    #[test]
    fn demand_fetches_only_gaps_in_whole_blocks() {
        let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![]);
        file.stored(extent(0, 100_000));
        let first = file.launch_demand(ByteRange::new(90_000, 100_001), Guesses::Compare);
        assert_eq!(ranges(&first), [(100_000, 131_072)]);
        assert!(file.launch_demand(ByteRange::new(90_000, 131_072), Guesses::Compare).is_empty());
        assert_eq!(
            ranges(&file.launch_demand(ByteRange::new(10 * MIB - 5, 10 * MIB), Guesses::Compare)),
            [(10 * MIB - BLOCK, 10 * MIB)]
        );
    }

    #[test]
    fn what_is_fetched_by_order_is_not_widened_but_to_whole_guesses() {
        let (mut file, _) = guessing();
        assert_eq!(ranges(&file.launch_exactly(ByteRange::new(500_000, 900_000))), [(500_000, 900_000)]);
        assert_eq!(
            ranges(&file.launch_exactly(ByteRange::new(150_000, 200_001))),
            [(150_000, 200_000), (200_000, 500_000)]
        );
    }

    #[test]
    fn what_is_offered_is_cut_apart_from_what_is_fetched_and_leaves_nothing_behind_when_it_is_not_kept() {
        let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
        let fetched = file.launch_demand(ByteRange::new(2 * BLOCK, 3 * BLOCK), Guesses::Compare);
        let head = Bytes::from(vec![1; 2 * BLOCK as usize]);
        let (taken, cuts) = file.offer(0, &head);
        assert_eq!(taken, [ByteRange::new(0, 2 * BLOCK)]);
        assert_eq!(cuts.iter().map(|cut| cut.range).collect::<Vec<_>>(), taken, "it waits for nothing");
        file.failed(taken[0]);
        assert!(cut(&mut file).is_empty());
        let again = file.launch_demand(taken[0], Guesses::Compare);
        file.arrived(again[0].range, head);
        file.arrived(fetched[0].range, Bytes::from(vec![2; BLOCK as usize]));
        for cut in cut(&mut file) {
            file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
        }
        assert_eq!(file.manifest().covered(), 3 * BLOCK);
        assert!(file.flights.is_empty());
    }

    #[test]
    fn ahead_stops_where_the_budget_ends() {
        let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![]);
        let mut left = 2;
        let pool = Arc::new(tokio::sync::Semaphore::new(10));
        let launches = file.launch_ahead(ByteRange::new(0, 8 * MIB), MIB, Guesses::Compare, |bytes| {
            if bytes < MIB {
                return None;
            }
            left -= 1;
            (left >= 0).then(|| pool.clone().try_acquire_owned().unwrap())
        });
        assert_eq!(ranges(&launches), [(0, MIB), (MIB, 2 * MIB)]);
        assert_eq!(pool.available_permits(), 8);
        file.failed(launches[0].range);
        assert_eq!(pool.available_permits(), 9);
    }

    #[test]
    fn stored_chunks_free_their_flights_and_are_due_to_be_saved_when_idle() {
        let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
        let launches = file.launch_demand(ByteRange::new(0, MIB), Guesses::Compare);
        assert!(matches!(file.place(5, Guesses::Compare), Place::Flight(..)));
        file.arrived(launches[0].range, Bytes::from(vec![1; 1 << 20]));
        assert!(file.take_unsaved(u64::MAX).is_none());
        for cut in cut(&mut file) {
            file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
        }
        assert!(matches!(file.place(5, Guesses::Compare), Place::Chunk(_)));
        assert!(file.flights.is_empty());
        assert_eq!(file.take_unsaved(u64::MAX).map(|m| m.covered()), Some(MIB));
        assert!(file.take_unsaved(u64::MAX).is_none());
    }

    #[test]
    fn what_comes_while_others_are_cut_is_cut_after_them() {
        let mut file = CachedFile::new(4 * MIB, ChunkManifest::default(), vec![]);
        let launches = file.launch_demand(ByteRange::new(0, 4 * MIB), Guesses::Compare);
        let bytes = Bytes::from(vec![1; 1 << 20]);
        file.arrived(launches[0].range, bytes.clone());
        file.arrived(launches[1].range, bytes.clone());
        let runs = file.begin_cutting().unwrap();
        file.arrived(launches[2].range, bytes.clone());
        assert!(file.begin_cutting().is_none(), "one cuts");
        file.failed(launches[3].range);
        let (mut cuts, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
        let runs = file.end_cutting(rest.into_iter().flatten().collect()).unwrap();
        let (more, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
        assert!(rest.iter().all(Option::is_none), "nothing more comes");
        assert!(file.end_cutting(vec![]).is_none());
        cuts.extend(more);
        let lengths: Vec<u64> = cuts.iter().flatten().map(|cut| cut.range.len()).collect();
        assert_eq!(lengths.iter().sum::<u64>(), 3 * MIB, "{lengths:?}");
    }

    #[test]
    fn lost_chunk_is_a_gap_again() {
        let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
        let whole = extent(0, MIB);
        file.stored(whole);
        assert!(file.lost(&whole) && !file.lost(&whole));
        assert_eq!((file.lost_at(0), file.lost_at(MIB)), (Some(whole), None));
        assert!(matches!(file.place(0, Guesses::Compare), Place::Gap));
        assert_eq!(file.launch_demand(ByteRange::new(0, 1), Guesses::Compare).len(), 1);
        file.stored(extent(10, 20));
        assert_eq!(file.lost_at(0), None);
    }

    #[test]
    fn what_cannot_be_stored_stays_within_its_bound() {
        let mut file = CachedFile::new(64 * MIB, ChunkManifest::default(), vec![]);
        for n in 0..20 {
            let launch = file.launch_demand(ByteRange::at(n * MIB, MIB), Guesses::Compare);
            file.arrived(launch[0].range, Bytes::from(vec![0; 1 << 20]));
            file.not_stored();
        }
        assert!(file.flights.len() as u64 * PIECE <= MAX_UNSTORED);
        assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Flight(..)));
        let under_way = file.launch_demand(ByteRange::at(30 * MIB, MIB), Guesses::Compare);
        file.forget_unstored();
        assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Flight(..)));
        file.failed(under_way[0].range);
        file.forget_unstored();
        assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Gap), "the store may take it now");
    }

    fn guessing() -> (CachedFile, Vec<ChunkExtent>) {
        let guesses = vec![extent(200_000, 500_000), extent(500_000, 900_000)];
        let mut manifest = ChunkManifest::default();
        assert!(manifest.insert(extent(0, 100_000)));
        assert!(guesses.iter().all(|guess| manifest.guess(*guess)));
        (CachedFile::new(MIB, manifest, vec![]), guesses)
    }

    #[test]
    fn guesses_are_fetched_whole_and_only_where_they_are_wanted() {
        let (mut file, guesses) = guessing();
        let launches = file.launch_demand(ByteRange::new(190_000, 210_000), Guesses::Compare);
        // The block goes on into the guess, which is longer.
        assert_eq!(ranges(&launches), [(131_072, 200_000), (200_000, 500_000)]);
        assert!(matches!(file.place(499_999, Guesses::Compare), Place::Flight(..)));
        let launches = file.launch_demand(ByteRange::new(899_990, 900_010), Guesses::Compare);
        assert_eq!(ranges(&launches), [(500_000, 900_000), (900_000, 917_504)]);
        let launches = file.launch_demand(ByteRange::new(950_000, 950_001), Guesses::Compare);
        assert_eq!(ranges(&launches), [(917_504, 983_040)]);
        assert_eq!(file.guess_of(guesses[0].range), Some(guesses[0]));
        assert_eq!(file.guess_of(ByteRange::new(200_000, 499_999)), None);
    }

    #[test]
    fn guesses_are_served_when_they_cannot_be_compared() {
        let (mut file, guesses) = guessing();
        assert!(matches!(file.place(499_999, Guesses::Compare), Place::Gap));
        assert!(matches!(file.place(499_999, Guesses::Serve), Place::Chunk(extent) if extent == guesses[0]));
        let launches = file.launch_demand(ByteRange::new(190_000, 910_000), Guesses::Serve);
        assert_eq!(ranges(&launches), [(131_072, 200_000), (900_000, 917_504)]);
        assert!(file.lost(&guesses[0]));
        assert_eq!(file.lost_at(499_999), None, "nobody knows that it was right");
        assert!(matches!(file.place(499_999, Guesses::Serve), Place::Gap));
    }

    #[test]
    fn doubt_spares_what_is_being_stored() {
        let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![MIB / 2]);
        file.stored(extent(8 * MIB, 9 * MIB));
        let launches = file.launch_demand(ByteRange::new(0, 2 * MIB), Guesses::Compare);
        assert_eq!(ranges(&launches), [(0, MIB), (MIB, 2 * MIB)]);
        let bytes = Bytes::from(vec![1; 1 << 20]);
        let store = |file: &mut CachedFile, cuts: Vec<Cut>| {
            for cut in cuts {
                file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
            }
        };
        file.arrived(launches[0].range, bytes.clone());
        let first = cut(&mut file);
        let end = first.last().map(|cut| cut.range.end());
        assert_eq!(end, Some(MIB / 2), "the rest waits for what comes next");
        store(&mut file, first);
        assert_eq!(file.doubt(), [ByteRange::new(8 * MIB, 9 * MIB)]);
        file.arrived(launches[1].range, bytes);
        let rest = cut(&mut file);
        store(&mut file, rest);
        assert!(file.flights.is_empty(), "it is stored, and takes memory all the same");
        assert_eq!((file.manifest().covered(), file.manifest().guessed()), (2 * MIB, MIB));
    }

    #[test]
    fn guess_that_was_right_stays_and_one_that_was_wrong_takes_all_along() {
        let (mut file, guesses) = guessing();
        let bytes = Bytes::from(vec![1; 300_000]);
        file.launch_demand(guesses[0].range, Guesses::Compare);
        let chunk = file.arrived(guesses[0].range, bytes);
        assert_eq!(chunk.map(|chunk| chunk.range), Some(guesses[0].range));
        file.stored(guesses[0]);
        assert!(
            matches!(file.place(499_999, Guesses::Compare), Place::Chunk(extent) if extent == guesses[0])
        );
        assert!(file.has_guesses());
        file.refuted();
        assert!(!file.has_guesses());
        assert_eq!(file.take_unsaved(1).map(|manifest| manifest.covered()), Some(400_000));
    }
}
