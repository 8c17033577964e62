//! Which chunks hold which stretches of a file.

use super::ChunkHash;
use crate::ByteRange;

/// A stretch of a file that one chunk holds whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkExtent {
    /// Where in the file.
    pub range: ByteRange,
    /// Which chunk; its length is the range's.
    pub hash: ChunkHash,
}

/// Which stretches of a file's version are cached, and in which chunks; a gap is what is not cached.
///
/// A stretch may be there by *guess*: a chunk is taken to hold it (audio of a file whose tags changed), and nobody has
/// compared. It counts as a gap, so that reading it compares it; its chunk is there for when the origin is not.
///
/// Extents and guesses do not overlap, neither each other nor themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkManifest {
    extents: Vec<ChunkExtent>,
    guesses: Vec<ChunkExtent>,
}

impl ChunkManifest {
    /// Returns the extents in order of offset; no two overlap.
    pub fn extents(&self) -> &[ChunkExtent] {
        &self.extents
    }

    /// Returns the guesses in order of offset.
    pub fn guesses(&self) -> &[ChunkExtent] {
        &self.guesses
    }

    /// Returns the extents and the guesses: all whose chunks are of use.
    pub fn all(&self) -> impl Iterator<Item = &ChunkExtent> {
        self.extents.iter().chain(&self.guesses)
    }

    /// Returns the guesses that have a part in `range`, in order.
    pub fn guesses_in(&self, range: ByteRange) -> &[ChunkExtent] {
        let first = self.guesses.partition_point(|e| e.range.end() <= range.start());
        let end = self.guesses.partition_point(|e| e.range.start() < range.end());
        self.guesses.get(first..end).unwrap_or_default()
    }

    /// Adds an extent, unless it is empty or overlaps another; tells whether it was added. Guesses that it overlaps go.
    pub fn insert(&mut self, extent: ChunkExtent) -> bool {
        let added = insert(&mut self.extents, extent);
        if added && !self.guesses.is_empty() {
            self.guesses.retain(|guess| guess.range.intersect(&extent.range).is_none());
        }
        added
    }

    /// Adds a guess, unless it is empty or overlaps what is there; tells whether it was added.
    pub fn guess(&mut self, guess: ChunkExtent) -> bool {
        self.gaps(guess.range) == [guess.range] && insert(&mut self.guesses, guess)
    }

    /// Removes an extent or a guess; tells whether it was there.
    pub fn remove(&mut self, extent: &ChunkExtent) -> bool {
        remove(&mut self.extents, extent) || remove(&mut self.guesses, extent)
    }

    /// Removes all guesses; returns how many bytes they were of.
    pub fn drop_guesses(&mut self) -> u64 {
        let bytes = self.guessed();
        self.guesses.clear();
        bytes
    }

    /// Makes guesses of all extents; returns how many bytes they were of.
    pub fn doubt(&mut self) -> u64 {
        let bytes = self.covered();
        self.guesses.append(&mut self.extents);
        self.guesses.sort_unstable_by_key(|guess| guess.range.start());
        bytes
    }

    /// Returns the parts of `range` that no extent covers, in order.
    pub fn gaps(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut gaps = Vec::new();
        let mut at = range.start();
        let first = self.extents.partition_point(|e| e.range.end() <= range.start());
        for extent in self.extents[first..].iter().take_while(|e| e.range.start() < range.end()) {
            if extent.range.start() > at {
                gaps.push(ByteRange::new(at, extent.range.start()));
            }
            at = extent.range.end();
        }
        if at < range.end() {
            gaps.push(ByteRange::new(at, range.end()));
        }
        gaps
    }

    /// Returns the number of bytes that are covered by extents.
    pub fn covered(&self) -> u64 {
        self.extents.iter().map(|e| e.range.len()).sum()
    }

    /// Returns the number of bytes that are there by guess.
    pub fn guessed(&self) -> u64 {
        self.guesses.iter().map(|e| e.range.len()).sum()
    }
}

fn insert(extents: &mut Vec<ChunkExtent>, extent: ChunkExtent) -> bool {
    let at = extents.partition_point(|e| e.range.end() <= extent.range.start());
    let free = extents.get(at).is_none_or(|next| next.range.start() >= extent.range.end());
    let added = free && !extent.range.is_empty();
    if added {
        extents.insert(at, extent);
    }
    added
}

fn remove(extents: &mut Vec<ChunkExtent>, extent: &ChunkExtent) -> bool {
    let at = extents.partition_point(|e| e.range.start() < extent.range.start());
    let is_there = extents.get(at) == Some(extent);
    if is_there {
        extents.remove(at);
    }
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(start: u64, len: u64) -> ChunkExtent {
        ChunkExtent { range: ByteRange::at(start, len), hash: ChunkHash::of(&start.to_le_bytes()) }
    }

    #[test]
    fn guess_is_a_gap_until_it_is_proven_or_replaced() {
        let mut manifest = ChunkManifest::default();
        assert!(manifest.insert(extent(0, 10)));
        assert!(manifest.guess(extent(10, 10)) && manifest.guess(extent(30, 10)));
        for (start, len) in [(5, 10), (35, 1), (50, 0)] {
            assert!(!manifest.guess(extent(start, len)), "{start}");
        }
        assert_eq!(manifest.gaps(ByteRange::new(0, 50)), [ByteRange::new(10, 50)]);
        assert_eq!((manifest.covered(), manifest.guessed()), (10, 20));
        assert_eq!(manifest.guesses_in(ByteRange::new(19, 31)), [extent(10, 10), extent(30, 10)]);
        assert_eq!(manifest.guesses_in(ByteRange::new(20, 30)), []);
        assert!(manifest.insert(extent(10, 10)));
        assert_eq!(manifest.guesses(), [extent(30, 10)]);
        assert!(manifest.insert(extent(25, 6)));
        assert_eq!(manifest.guesses(), []);
        assert!(manifest.guess(extent(60, 5)) && manifest.remove(&extent(60, 5)));
        assert!(manifest.guess(extent(60, 5)));
        assert_eq!((manifest.drop_guesses(), manifest.guessed()), (5, 0));
        assert!(manifest.guess(extent(22, 3)));
        assert_eq!((manifest.doubt(), manifest.covered()), (26, 0));
        assert_eq!(manifest.guesses(), [extent(0, 10), extent(10, 10), extent(22, 3), extent(25, 6)]);
    }

    proptest! {
        #[test]
        fn gaps_and_extents_together_cover_a_range_exactly(
            spans in prop::collection::vec((0u64..200, 0u64..40, any::<bool>()), 0..20),
            ask in (0u64..250, 0u64..250),
        ) {
            let mut manifest = ChunkManifest::default();
            for (start, len, proven) in spans {
                if proven { manifest.insert(extent(start, len)) } else { manifest.guess(extent(start, len)) };
            }
            let range = ByteRange::new(ask.0, ask.1);
            let gaps = manifest.gaps(range);
            for offset in range.start()..range.end() {
                let one = ByteRange::at(offset, 1);
                let holds = |e: &&ChunkExtent| e.range.intersect(&one).is_some();
                let in_gap = gaps.iter().filter(|g| g.intersect(&one).is_some()).count();
                prop_assert_eq!(in_gap + manifest.extents().iter().filter(holds).count(), 1);
                prop_assert!(manifest.all().filter(holds).count() <= 1);
                let guessed = manifest.guesses().iter().filter(holds).count();
                prop_assert_eq!(manifest.guesses_in(one).len(), guessed);
            }
            let inside = |g: &ByteRange| g.start() >= range.start() && g.end() <= range.end();
            prop_assert!(gaps.iter().all(|g| !g.is_empty() && inside(g)));
        }
    }
}
