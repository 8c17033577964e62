//! XDR (RFC 4506): how NFS and what it stands on write numbers and text.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::Failure;

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer(BytesMut);

impl Writer {
    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// Writes bytes with their length, padded to a multiple of four.
    pub(super) fn opaque(mut self, bytes: &[u8]) -> Self {
        self.0.put_u32(bytes.len() as u32);
        self.raw(bytes)
    }

    /// Writes bytes without their length, padded.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.put_slice(bytes);
        self.0.put_bytes(0, bytes.len().next_multiple_of(4) - bytes.len());
        self
    }

    pub(super) fn done(self) -> Bytes {
        self.0.freeze()
    }
}

/// Takes values off one after the other, each checked against what is left. Bytes are not copied.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    fn has(&self, len: usize) -> Result<(), Failure> {
        if self.0.remaining() >= len {
            Ok(())
        } else {
            Err(Failure::garbled("an answer of the server is cut short"))
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, Failure> {
        self.has(4)?;
        Ok(self.0.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, Failure> {
        self.has(8)?;
        Ok(self.0.get_u64())
    }

    pub(super) fn flag(&mut self) -> Result<bool, Failure> {
        Ok(self.u32()? != 0)
    }

    /// Takes bytes with their length.
    pub(super) fn opaque(&mut self) -> Result<Bytes, Failure> {
        let len = self.u32()? as usize;
        self.raw(len)
    }

    /// Takes so many bytes, and their padding.
    pub(super) fn raw(&mut self, len: usize) -> Result<Bytes, Failure> {
        self.has(len)?;
        let bytes = self.0.split_to(len);
        // Servers are known to leave out the last padding.
        let padding = (len.next_multiple_of(4) - len).min(self.0.remaining());
        self.0.advance(padding);
        Ok(bytes)
    }

    /// Takes what may be there or not.
    pub(super) fn option<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        if self.flag()? { take(self).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Writer::default().u32(7).opaque(b"abcde").u64(1 << 40).raw(b"12345678").done();
        assert_eq!(bytes.len(), 4 + 4 + 8 + 8 + 8);
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.u32().unwrap(), 7);
        assert_eq!(reader.opaque().unwrap(), &b"abcde"[..]);
        assert_eq!(reader.u64().unwrap(), 1 << 40);
        assert_eq!(reader.raw(8).unwrap(), &b"12345678"[..]);
        assert!(reader.u32().is_err());
    }

    #[test]
    fn length_beyond_what_is_there_is_refused() {
        let mut reader = Reader::new(Writer::default().u32(u32::MAX).u32(0).done());
        assert!(reader.opaque().is_err());
    }
}
