//! Decides what is fetched of the gaps of a file, and in which pieces.
//!
//! Pure. It reads what is cached and what is under way, and adds fetches to the latter; it knows nothing of what comes
//! of them.

use musicfs_core::ByteRange;
use tokio::sync::OwnedSemaphorePermit;

use super::{CachedFile, Guesses, Launch};

/// Fetches begin and end at multiples of this, where the gap allows: small reads would else cost a round trip each.
pub(super) const BLOCK: u64 = 64 << 10;
/// Longest fetch of what a reader waits for: what comes in one request is what its first byte may have to wait for.
pub(super) const PIECE: u64 = 1 << 20;
/// The least that is fetched ahead where the budget is nearly used up.
const LEAST_STEP: u64 = 128 << 10;

impl CachedFile {
    /// Returns the first gap that begins at `from` or later, or contains it.
    pub(crate) fn next_gap(&self, from: u64) -> Option<ByteRange> {
        self.gaps(ByteRange::new(from.min(self.size), self.size)).into_iter().next()
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

    /// Divides gaps into what is fetched at once.
    pub(super) fn pieces(
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
    pub(super) fn gaps(&self, range: ByteRange) -> Vec<ByteRange> {
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
