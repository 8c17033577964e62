//! Which part of a file is its head and its tail: pure.
//!
//! Whoever looks for tags and pictures, or begins to play, reads these; their chunks are kept longer than others
//! (see [`ChunkClass`]). No chunk crosses from one into the middle, so that keeping them costs no more than they
//! are long. Both are measured from where the audio lies, so that a change of the tags leaves the cuts in the
//! audio where they were.

use musicfs_core::ByteRange;

use crate::index::ChunkClass;

/// How much of the audio belongs to the head: what a scanner's reads and the kernel's read-ahead beyond them reach,
/// and what a player needs to begin.
const HEAD: u64 = 512 << 10;
/// How much of the audio belongs to the tail: tags at the end are found from there.
const TAIL: u64 = 64 << 10;

/// How much of a file's beginning is worth reading when it is read for its tags: what the kernel asks for when somebody
/// reads the first 64 KiB, or less.
pub(crate) const SEEN_HEAD: u64 = 128 << 10;

/// Where a file's head ends and its tail begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edges {
    audio: Option<ByteRange>,
    head_end: u64,
    tail_start: u64,
}

impl Edges {
    /// Finds them for a file of `size` bytes, whose audio lies in `audio` when that is known.
    pub(crate) fn of(size: u64, audio: Option<ByteRange>) -> Self {
        let inner = audio.unwrap_or(ByteRange::new(0, size)).clamp_to(size);
        let head_end = inner.start().saturating_add(HEAD).min(size);
        let tail_start = inner.end().saturating_sub(TAIL).max(head_end);
        Self { audio: audio.map(|_| inner), head_end, tail_start }
    }

    /// Returns the offsets that no chunk crosses.
    pub(crate) fn fences(&self) -> Vec<u64> {
        let audio = self.audio.iter().flat_map(|audio| [audio.start(), audio.end()]);
        audio.chain([self.head_end, self.tail_start]).collect()
    }

    /// Returns the parts of a range that are of the head or the tail.
    pub(crate) fn within(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> {
        let edges = [ByteRange::new(0, self.head_end), ByteRange::new(self.tail_start, u64::MAX)];
        edges.into_iter().filter_map(move |edge| edge.intersect(&range))
    }

    /// Tells what part of the file a chunk is.
    pub(crate) fn class(&self, range: ByteRange) -> ChunkClass {
        let is_edge = range.start() < self.head_end || range.end() > self.tail_start;
        if is_edge { ChunkClass::Edge } else { ChunkClass::Body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 30 << 20;

    #[test]
    fn head_and_tail_are_measured_from_the_audio() {
        let audio = ByteRange::new(3 << 20, SIZE - (1 << 20));
        let edges = Edges::of(SIZE, Some(audio));
        let class = |start, end| edges.class(ByteRange::new(start, end));
        assert_eq!(class(0, 3 << 20), ChunkClass::Edge);
        assert_eq!(class(3 << 20, (3 << 20) + HEAD), ChunkClass::Edge);
        assert_eq!(class((3 << 20) + HEAD, SIZE - (1 << 20) - TAIL), ChunkClass::Body);
        assert_eq!(class(SIZE - (1 << 20) - TAIL, SIZE - (1 << 20)), ChunkClass::Edge);
        assert_eq!(class(SIZE - (1 << 20), SIZE), ChunkClass::Edge);
    }

    #[test]
    fn fences_move_with_the_audio() {
        let fences = |start: u64| Edges::of(SIZE, Some(ByteRange::new(start, start + (20 << 20)))).fences();
        let moved: Vec<u64> = fences(4096).into_iter().map(|fence| fence + 1000).collect();
        assert_eq!(fences(5096), moved);
    }

    #[test]
    fn small_or_unknown_file_is_all_edge_or_measured_whole() {
        let small = Edges::of(1000, Some(ByteRange::new(100, 900)));
        assert_eq!(small.class(ByteRange::new(100, 900)), ChunkClass::Edge);
        let unknown = Edges::of(SIZE, None);
        assert_eq!(unknown.fences(), [HEAD, SIZE - TAIL]);
        assert_eq!(unknown.class(ByteRange::new(HEAD, SIZE - TAIL)), ChunkClass::Body);
        // A catalogue may be wrong about where the audio lies.
        let beyond = Edges::of(1000, Some(ByteRange::new(5000, 9000)));
        assert!(beyond.fences().iter().all(|fence| *fence <= 1000));
    }
}
