//! Memory that chunks are read into, used over and over.
//!
//! Memory that was just asked of the system has its pages made and cleared as they are first written to, which costs as
//! much as hashing what is put there. What somebody has let go of is there at once. All pieces of a
//! store are of one size; those for chunks are of that of a huge page, so that each serves every chunk, and a disk puts
//! a chunk into it in one go.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;

/// Length of a piece for chunks: the longest chunk that is cut, and a huge page where there are some.
pub(crate) const PIECE: usize = 2 << 20;
/// Bytes for which a piece would be too much.
pub(crate) const FEW: usize = 1 << 20;
/// What is put together of fewer bytes gets memory of its own: it is served at once and let go of.
const FEW_JOINED: usize = 256 << 10;

/// Returns how much memory the bytes of a chunk take when they are read.
pub(crate) fn taken(len: usize) -> usize {
    if len < FEW { len } else { len.next_multiple_of(PIECE) }
}

/// A bounded store of free pieces. Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    piece: usize,
    max_free: usize,
    /// The one that was let go of last is last: the processor may still have some of it.
    free: Arc<Mutex<Vec<MmapMut>>>,
}

/// Memory that returns to its store when it is dropped. What is in it is what it was used for before.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// There until it is dropped.
    memory: Option<MmapMut>,
    len: usize,
    home: Buffers,
}

impl Buffers {
    /// Makes a store of pieces of `piece` bytes, which keeps `max_free` at the most for those who come.
    pub(crate) fn new(piece: usize, max_free: usize) -> Self {
        Self { piece, max_free, free: Arc::default() }
    }

    /// Returns a buffer of `len` bytes, which begins with a page.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub(crate) fn take(&self, len: usize) -> io::Result<Buffer> {
        let free = if len <= self.piece { self.free.lock().pop() } else { None };
        let memory = match free {
            Some(memory) => memory,
            None => {
                let memory = MmapMut::map_anon(len.max(self.piece))?;
                if self.piece >= PIECE {
                    // Without huge pages, small ones do.
                    let _ = memory.advise(Advice::HugePage);
                }
                memory
            }
        };
        Ok(Buffer { memory: Some(memory), len, home: self.clone() })
    }

    /// Makes one of several, as [`join`] does, in a piece where that is worth it.
    pub(crate) fn join(&self, parts: Vec<Bytes>) -> Bytes {
        let len = parts.iter().map(Bytes::len).sum();
        if parts.len() < 2 || len < FEW_JOINED {
            return join(parts);
        }
        let Ok(mut joined) = self.take(len) else { return join(parts) };
        let mut rest = joined.as_mut();
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(&part);
            rest = behind;
        }
        Bytes::from_owner(joined)
    }
}

/// Makes one of several; what is one already is not copied.
pub(crate) fn join(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(parts) => {
            let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    }
}

impl Buffer {
    /// Shortens it.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.len])
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory[..self.len])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take().filter(|memory| memory.len() == self.home.piece) else {
            return;
        };
        let mut free = self.home.free.lock();
        if free.len() < self.home.max_free {
            free.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_but_not_by_two_at_once() {
        let buffers = Buffers::new(PIECE, 2);
        let mut first = buffers.take(1_000_000).unwrap();
        let address = first.as_ref().as_ptr();
        assert_eq!((first.as_ref().len(), address.align_offset(4096)), (1_000_000, 0));
        first.truncate(10);
        assert_eq!(first.as_ref().len(), 10);
        drop(first);
        let other = buffers.take(PIECE).unwrap();
        assert_eq!((other.as_ref().as_ptr(), other.as_ref().len()), (address, PIECE));
        assert_ne!(buffers.take(1).unwrap().as_ref().as_ptr(), address);
    }

    #[test]
    fn what_is_kept_is_bounded_and_all_of_one_size() {
        let buffers = Buffers::new(PIECE, 2);
        drop([1, PIECE, 5].map(|len| buffers.take(len).unwrap()));
        assert_eq!(buffers.free.lock().len(), 2);
        let large = buffers.take(PIECE + 1).unwrap();
        assert_eq!((large.as_ref().len(), buffers.free.lock().len()), (PIECE + 1, 2));
        drop(large);
        assert!(buffers.free.lock().iter().all(|memory| memory.len() == PIECE));
    }

    #[test]
    fn what_is_joined_is_what_was_given() {
        let buffers = Buffers::new(PIECE, 1);
        for len in [0, 1, FEW_JOINED, PIECE] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let parts: Vec<Bytes> = bytes.chunks(100_001).map(Bytes::copy_from_slice).collect();
            assert!(buffers.join(parts) == bytes, "{len} bytes");
        }
        let one = Bytes::from_static(b"one");
        assert_eq!(buffers.join(vec![one.clone()]).as_ptr(), one.as_ptr());
    }
}
