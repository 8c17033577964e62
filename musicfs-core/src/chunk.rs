//! Where the bytes of music are cached.

mod manifest;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use manifest::{ChunkExtent, ChunkManifest};

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

    #[test]
    fn hash_text_round_trips_and_bad_text_is_refused() {
        let hash = ChunkHash::of(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "zz", &"A".repeat(64), &"é".repeat(32), &"0".repeat(63)] {
            assert!(bad.parse::<ChunkHash>().is_err(), "{bad:?}");
        }
    }
}
