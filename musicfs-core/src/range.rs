//! Byte ranges.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A half-open range of byte offsets, `start <= end`. Written as the pair of both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Makes the range `start..end`; an `end` below `start` gives the empty range at `start`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }

    /// Makes the range of `len` bytes from `start`, cut where offsets end.
    pub const fn at(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    /// Returns the first offset.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the offset after the last.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the number of bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Tells whether there is no byte in the range.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the part inside a file of `size` bytes: a range past the end becomes empty.
    pub fn clamp_to(&self, size: u64) -> Self {
        Self::new(self.start.min(size), self.end.min(size))
    }

    /// Returns what both ranges cover, or `None` when that is nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both = Self::new(self.start.max(other.start), self.end.min(other.end));
        (!both.is_empty()).then_some(both)
    }
}

impl From<(u64, u64)> for ByteRange {
    fn from((start, end): (u64, u64)) -> Self {
        Self::new(start, end)
    }
}

impl From<ByteRange> for (u64, u64) {
    fn from(range: ByteRange) -> Self {
        (range.start, range.end)
    }
}

impl From<Range<u64>> for ByteRange {
    fn from(range: Range<u64>) -> Self {
        Self::new(range.start, range.end)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteRange({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_past_the_end_is_empty_after_clamping() {
        assert!(ByteRange::at(10, 5).clamp_to(10).is_empty());
        assert_eq!(ByteRange::at(8, 5).clamp_to(10), ByteRange::new(8, 10));
        assert_eq!(ByteRange::at(u64::MAX, 5).len(), 0);
        assert!(ByteRange::new(5, 3).is_empty());
    }

    #[test]
    fn intersection_of_neighbours_is_none() {
        assert_eq!(ByteRange::new(0, 5).intersect(&ByteRange::new(5, 9)), None);
        assert_eq!(ByteRange::new(0, 6).intersect(&ByteRange::new(5, 9)), Some(ByteRange::new(5, 6)));
    }
}
