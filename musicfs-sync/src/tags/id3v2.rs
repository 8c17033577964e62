//! ID3v2 tags, versions 2.2 to 2.4.
//!
//! lofty reads pictures even when told not to; this reader walks the frames, reads those that carry a field, and
//! only finds out where pictures lie. Unsynchronised tags of 2.2 and 2.3 have no frame boundaries that could be
//! walked, and are decoded from the start as far as [`MAX_UNSYNCHRONISED`] goes. Encrypted and compressed frames
//! are skipped (no known writer compresses text).

mod frames;

use musicfs_core::PictureRef;

use super::fields::Fields;
use super::window::{Stop, Window};

/// Most of an unsynchronised tag that is read; its pictures have to be read through.
const MAX_UNSYNCHRONISED: u64 = 3 * 1024 * 1024;

/// Most frames of a tag that are looked at.
const MAX_FRAMES: usize = 2000;

/// A tag's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    version: u8,
    flags: u8,
    /// First byte after the header.
    body: u64,
    /// First byte after the frames and their padding.
    body_end: u64,
}

const UNSYNCHRONISED: u8 = 0x80;
/// An extended header follows; in 2.2: the tag is compressed, in a way never defined.
const EXTENDED: u8 = 0x40;
const FOOTER: u8 = 0x10;

impl Tag {
    /// Reads the header of the tag at `at`; `None` when there is no tag.
    pub(super) fn at(window: &mut Window<'_>, at: u64) -> Result<Option<Self>, Stop> {
        let Ok(&[b'I', b'D', b'3', version, _, flags, a, b, c, d]) =
            <&[u8; 10]>::try_from(window.up_to(at, 10)?)
        else {
            return Ok(None);
        };
        if !(2..=4).contains(&version) || (a | b | c | d) & 0x80 != 0 {
            return Ok(None);
        }
        let body = at + 10;
        Ok(Some(Self { version, flags, body, body_end: body + u64::from(synchsafe([a, b, c, d])) }))
    }

    /// Returns the offset of the first byte after the tag.
    pub(super) fn end(&self) -> u64 {
        self.body_end + if self.version == 4 && self.flags & FOOTER != 0 { 10 } else { 0 }
    }

    /// Reads the tag's frames.
    pub(super) fn read(
        &self,
        window: &mut Window<'_>,
        fields: &mut Fields,
        pictures: &mut Vec<PictureRef>,
    ) -> Result<(), Stop> {
        if self.version == 2 && self.flags & EXTENDED != 0 {
            return Ok(());
        }
        let end = self.body_end.min(window.len());
        let whole = self.version < 4 && self.flags & UNSYNCHRONISED != 0;
        let body = if whole {
            let len = (end - self.body.min(end)).min(MAX_UNSYNCHRONISED);
            Body::decoded(window.up_to(self.body, len as usize)?, self.body)
        } else {
            Body::InFile { end }
        };
        self.walk(&body, window, fields, pictures)
    }

    fn walk(
        &self,
        body: &Body,
        window: &mut Window<'_>,
        fields: &mut Fields,
        pictures: &mut Vec<PictureRef>,
    ) -> Result<(), Stop> {
        let mut at = match body {
            Body::InFile { .. } => self.body,
            Body::Decoded { .. } => 0,
        };
        if self.version > 2 && self.flags & EXTENDED != 0 {
            let size: [u8; 4] = match body.head(window, at, 4)?.try_into() {
                Ok(size) => size,
                Err(_) => return Ok(()),
            };
            at += if self.version == 4 {
                u64::from(synchsafe(size))
            } else {
                u64::from(u32::from_be_bytes(size)) + 4
            };
        }
        let header_len = if self.version == 2 { 6 } else { 10 };
        for _ in 0..MAX_FRAMES {
            let head = body.head(window, at, header_len)?;
            let Some(mut frame) = frames::Header::parse(self.version, &head) else { break };
            if self.version == 4 {
                frame.size = self.true_size(body, window, at, frame.size)?;
                frame.unsynchronised |= self.flags & UNSYNCHRONISED != 0;
            }
            let data = at + header_len as u64;
            let end = data + u64::from(frame.size);
            if end > body.end() {
                break;
            }
            frames::read(&frame, body, window, data, fields, pictures)?;
            at = end;
        }
        Ok(())
    }

    /// Tells a 2.4 frame's size. It is to be written with 7 bits in a byte; iTunes for years wrote plain numbers.
    /// Where the two readings differ, the one that leads to another frame, padding or the end is right.
    fn true_size(&self, body: &Body, window: &mut Window<'_>, at: u64, plain: u32) -> Result<u32, Stop> {
        let bytes = plain.to_be_bytes();
        let safe = synchsafe(bytes);
        if safe == plain || bytes.iter().any(|b| b & 0x80 != 0) {
            return Ok(plain);
        }
        for size in [safe, plain] {
            let next = at + 10 + u64::from(size);
            if next == body.end() {
                return Ok(size);
            }
            if next < body.end() {
                let id = body.head(window, next, 4)?;
                if id.iter().all(|b| *b == 0) || (id.len() == 4 && frames::is_id(&id)) {
                    return Ok(size);
                }
            }
        }
        Ok(safe)
    }
}

/// Where frames are read from.
enum Body {
    /// The file itself, up to `end`; positions are offsets in the file.
    InFile { end: u64 },
    /// An unsynchronised tag, decoded; positions are offsets in `bytes`.
    Decoded {
        bytes: Vec<u8>,
        /// Offset in the file of the first byte.
        from: u64,
        /// Positions in `bytes` behind which a byte was dropped.
        dropped: Vec<u64>,
    },
}

impl Body {
    fn decoded(raw: &[u8], from: u64) -> Self {
        let mut bytes = Vec::with_capacity(raw.len());
        let mut dropped = Vec::new();
        let mut after_ff = false;
        for byte in raw {
            if after_ff && *byte == 0 {
                dropped.push(bytes.len() as u64);
            } else {
                bytes.push(*byte);
            }
            after_ff = *byte == 0xff;
        }
        Self::Decoded { bytes, from, dropped }
    }

    fn end(&self) -> u64 {
        match self {
            Self::InFile { end } => *end,
            Self::Decoded { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Returns up to `len` bytes at `at`.
    fn head(&self, window: &mut Window<'_>, at: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let len = self.end().saturating_sub(at).min(len as u64) as usize;
        match self {
            Self::InFile { .. } => Ok(window.up_to(at, len)?.to_vec()),
            Self::Decoded { bytes, .. } => {
                Ok(bytes.get(at as usize..).and_then(|rest| rest.get(..len)).unwrap_or_default().to_vec())
            }
        }
    }

    /// Returns where in the file the byte at `at` is.
    fn offset(&self, at: u64) -> u64 {
        match self {
            Self::InFile { .. } => at,
            Self::Decoded { from, dropped, .. } => {
                from + at + dropped.partition_point(|position| *position <= at) as u64
            }
        }
    }
}

/// Reads a number with 7 bits in a byte.
fn synchsafe(bytes: [u8; 4]) -> u32 {
    bytes.iter().fold(0, |n, b| n << 7 | u32::from(b & 0x7f))
}

/// Undoes unsynchronisation.
fn synchronise(raw: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut after_ff = false;
    for byte in raw {
        if !(after_ff && *byte == 0) {
            bytes.push(*byte);
        }
        after_ff = *byte == 0xff;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_in_an_unsynchronised_body_count_what_was_dropped() {
        let raw = [1, 0xff, 0, 0xe0, 2, 0xff, 0, 0, 3];
        let body = Body::decoded(&raw, 100);
        let Body::Decoded { bytes, .. } = &body else { panic!() };
        assert_eq!(bytes, &[1, 0xff, 0xe0, 2, 0xff, 0, 3]);
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(raw[(body.offset(i as u64) - 100) as usize], *byte, "{i}");
        }
        assert_eq!(&synchronise(&raw), bytes);
    }
}
