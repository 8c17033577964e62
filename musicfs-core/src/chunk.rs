//! Where the bytes of music are cached.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::ByteRange;

/// Names a chunk by its content: BLAKE3, 256 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkHash([u8; 32]);

/// Why text is not a [`ChunkHash`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a chunk hash (64 lower-case hexadecimal digits)")]
pub struct InvalidChunkHash(String);

impl ChunkHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Wraps a hash that was computed already.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Returns the hash's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

impl FromStr for ChunkHash {
    type Err = InvalidChunkHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidChunkHash(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 || digits.iter().any(|d| !matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for ChunkHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChunkHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A stretch of a file that one chunk holds whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkExtent {
    /// Where in the file.
    pub range: ByteRange,
    /// Which chunk; its length is the range's.
    pub hash: ChunkHash,
}

/// Which stretches of a file's version are cached, and in which chunks; a gap is what is not cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkManifest {
    extents: Vec<ChunkExtent>,
}

impl ChunkManifest {
    /// Returns the extents in order of offset; no two overlap.
    pub fn extents(&self) -> &[ChunkExtent] {
        &self.extents
    }

    /// Adds an extent, unless it is empty or overlaps what is there; tells whether it was added.
    pub fn insert(&mut self, extent: ChunkExtent) -> bool {
        let at = self.extents.partition_point(|e| e.range.end() <= extent.range.start());
        let free = self.extents.get(at).is_none_or(|next| next.range.start() >= extent.range.end());
        let added = free && !extent.range.is_empty();
        if added {
            self.extents.insert(at, extent);
        }
        added
    }

    /// Removes an extent; tells whether it was there.
    pub fn remove(&mut self, extent: &ChunkExtent) -> bool {
        let at = self.extents.partition_point(|e| e.range.start() < extent.range.start());
        let is_there = self.extents.get(at) == Some(extent);
        if is_there {
            self.extents.remove(at);
        }
        is_there
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

    /// Returns the number of bytes that are covered.
    pub fn covered(&self) -> u64 {
        self.extents.iter().map(|e| e.range.len()).sum()
    }
}

/// A failure of a chunk store.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The chunk was there but its bytes were not what its name says. It has been put into quarantine; from now
    /// on it is absent.
    #[error("chunk {0} is corrupt and was put into quarantine")]
    Corrupt(ChunkHash),
    /// There is no room: the disk or the store's limit is reached.
    #[error("no room for a chunk of {needed} bytes")]
    Full {
        /// What would have been needed.
        needed: u64,
    },
    /// The storage failed.
    #[error("chunk storage failed")]
    Io(#[source] std::io::Error),
}

/// Keeps chunks of bytes under the hash of their content.
///
/// # Contract
/// * **put** is atomic and idempotent: a chunk is there whole or not at all, whenever the machine stops; putting
///   what is there already costs nothing and changes no size. When it returns, the chunk can be got.
/// * **get** returns verified bytes only: they hash to the name asked for. A damaged chunk is reported as
///   [`ChunkError::Corrupt`] once, and absent afterwards, so that reading through heals it.
/// * **Sizes** are exact at all times, restarts included: the sum of the lengths of the chunks that can be got.
/// * There is no policy here: nothing is evicted by the store itself. When there is no room, `put` says so.
/// * **Cancel safety**: dropping a future leaves the chunk either there or not; never torn.
/// * **Concurrency**: all methods at the same time, the same hash included.
#[async_trait]
pub trait ChunkStore: Send + Sync + 'static {
    /// Stores `bytes` (1 byte to 16 MiB) and returns their hash.
    ///
    /// # Errors
    /// [`ChunkError::Full`] when there is no room, [`ChunkError::Io`] when the storage fails; nothing is stored
    /// then.
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError>;

    /// Returns the chunk's bytes, verified, or `None` when it is not there.
    ///
    /// # Errors
    /// [`ChunkError::Corrupt`] once for a damaged chunk, [`ChunkError::Io`] when the storage fails.
    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError>;

    /// Tells whether the chunk is there, without verifying it.
    ///
    /// # Errors
    /// [`ChunkError::Io`] when the storage fails.
    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError>;

    /// Removes the chunk and returns the bytes freed, or `None` when it was not there.
    ///
    /// # Errors
    /// [`ChunkError::Io`] when the storage fails; the chunk is still counted then.
    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError>;

    /// Lists the chunks with their lengths, in no order. A chunk put or removed meanwhile may be in it or not.
    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>>;

    /// Returns the sum of the lengths of all chunks.
    fn current_size(&self) -> u64;
}

#[async_trait]
impl<T: ChunkStore + ?Sized> ChunkStore for Arc<T> {
    async fn put(&self, bytes: Bytes) -> Result<ChunkHash, ChunkError> {
        (**self).put(bytes).await
    }
    async fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, ChunkError> {
        (**self).get(hash).await
    }
    async fn contains(&self, hash: &ChunkHash) -> Result<bool, ChunkError> {
        (**self).contains(hash).await
    }
    async fn remove(&self, hash: &ChunkHash) -> Result<Option<u64>, ChunkError> {
        (**self).remove(hash).await
    }
    fn list(&self) -> BoxStream<'static, Result<(ChunkHash, u64), ChunkError>> {
        (**self).list()
    }
    fn current_size(&self) -> u64 {
        (**self).current_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hash_text_round_trips_and_bad_text_is_refused() {
        let hash = ChunkHash::of(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "zz", &"A".repeat(64), &"é".repeat(32), &"0".repeat(63)] {
            assert!(bad.parse::<ChunkHash>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn gaps_and_extents_together_cover_a_range_exactly(
            spans in prop::collection::vec((0u64..200, 0u64..40), 0..20),
            ask in (0u64..250, 0u64..250),
        ) {
            let mut manifest = ChunkManifest::default();
            for (start, len) in spans {
                manifest.insert(ChunkExtent { range: ByteRange::at(start, len), hash: ChunkHash::of(b"") });
            }
            let range = ByteRange::new(ask.0, ask.1);
            let gaps = manifest.gaps(range);
            for offset in range.start()..range.end() {
                let one = ByteRange::at(offset, 1);
                let in_gap = gaps.iter().filter(|g| g.intersect(&one).is_some()).count();
                let in_extent = manifest.extents().iter().filter(|e| e.range.intersect(&one).is_some()).count();
                prop_assert_eq!(in_gap + in_extent, 1);
            }
            prop_assert!(gaps.iter().all(|g| !g.is_empty() && g.start() >= range.start() && g.end() <= range.end()));
        }
    }
}
