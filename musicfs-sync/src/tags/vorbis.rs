//! Vorbis comments, in FLAC and in Ogg.

use musicfs_core::PictureRef;

use super::ParseError;
use super::fields::Fields;
use super::text::{self, MAX_STORED};
use super::window::{Stop, Window};
use super::{keys, picture};

/// Most comments of a file that are looked at.
const MAX_COMMENTS: u32 = 5000;
/// Longest key that is looked at.
const MAX_KEY: u64 = 64;
/// How much of a picture's base64 text is read: its kind and MIME type.
const PICTURE_HEAD: u64 = 128;
/// What must still be possible to fetch behind a comment that is passed over: the rest of the header and the
/// file's end.
const RESERVE: u64 = 512 * 1024;

/// Bytes of a comment header in sequence, wherever in the file they are.
pub(super) trait Source {
    /// Reads the next `len` bytes into `out`, in place of what it holds.
    fn take(&mut self, window: &mut Window<'_>, len: usize, out: &mut Vec<u8>) -> Result<(), Stop>;
    /// Skips `len` bytes.
    fn skip(&mut self, window: &mut Window<'_>, len: u64) -> Result<(), Stop>;
    /// Tells whether what is skipped need not be fetched.
    fn skips_freely(&self) -> bool;
    /// Returns the next byte's offset in the file.
    fn offset(&self) -> u64;
}

/// A comment header that lies in one piece.
pub(super) struct Flat {
    at: u64,
    end: u64,
}

impl Flat {
    pub(super) fn new(start: u64, end: u64) -> Self {
        Self { at: start, end }
    }
}

impl Source for Flat {
    fn take(&mut self, window: &mut Window<'_>, len: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        out.clear();
        if len as u64 > self.end - self.at {
            return Err(ParseError::Truncated.into());
        }
        out.extend_from_slice(window.bytes(self.at, len)?);
        self.at += len as u64;
        Ok(())
    }

    fn skip(&mut self, _: &mut Window<'_>, len: u64) -> Result<(), Stop> {
        if len > self.end - self.at {
            return Err(ParseError::Truncated.into());
        }
        self.at += len;
        Ok(())
    }

    fn skips_freely(&self) -> bool {
        true
    }

    fn offset(&self) -> u64 {
        self.at
    }
}

/// How far a comment header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To its end, or to where it is damaged.
    Whole,
    /// Up to a picture too long to be passed over, which ends at or behind this offset.
    Cut(u64),
}

/// Reads a comment header. One that is damaged gives the comments before the damage.
pub(super) fn read(
    source: &mut impl Source,
    window: &mut Window<'_>,
    fields: &mut Fields,
    pictures: &mut Vec<PictureRef>,
) -> Result<Extent, Stop> {
    match read_all(source, window, fields, pictures) {
        Err(Stop::Failed(ParseError::Truncated)) => Ok(Extent::Whole),
        other => other,
    }
}

fn read_all(
    source: &mut impl Source,
    window: &mut Window<'_>,
    fields: &mut Fields,
    pictures: &mut Vec<PictureRef>,
) -> Result<Extent, Stop> {
    let mut buffer = Vec::with_capacity(256);
    let vendor = number(source, window, &mut buffer)?;
    source.skip(window, u64::from(vendor))?;
    let count = number(source, window, &mut buffer)?;
    for _ in 0..count.min(MAX_COMMENTS) {
        let len = u64::from(number(source, window, &mut buffer)?);
        let offset = source.offset();
        if len <= MAX_STORED as u64 && len <= MAX_KEY * 16 {
            source.take(window, len as usize, &mut buffer)?;
            if let Some((key, value)) = split(&buffer) {
                if key.eq_ignore_ascii_case(PICTURE_KEY) {
                    let skipped = key.len() as u64 + 1;
                    picture::push(pictures, picture::of_comment(value, offset + skipped, len - skipped));
                } else if let Some(field) = keys::field_of(key) {
                    fields.add(field, &text::utf8(value));
                }
            }
            continue;
        }
        // What is passed over may have to be fetched all the same.
        if len > window.left().saturating_sub(RESERVE) && !source.skips_freely() {
            return Ok(Extent::Cut(offset + len));
        }
        read_long(source, window, len, &mut buffer, fields, pictures)?;
    }
    Ok(Extent::Whole)
}

const PICTURE_KEY: &[u8] = b"METADATA_BLOCK_PICTURE";

/// Reads a comment that may be a picture or another's data: its key first, and the rest only if it is wanted.
fn read_long(
    source: &mut impl Source,
    window: &mut Window<'_>,
    len: u64,
    buffer: &mut Vec<u8>,
    fields: &mut Fields,
    pictures: &mut Vec<PictureRef>,
) -> Result<(), Stop> {
    let offset = source.offset();
    source.take(window, (MAX_KEY + PICTURE_HEAD) as usize, buffer)?;
    let read = buffer.len() as u64;
    let Some((key, head)) = split(buffer) else { return source.skip(window, len - read) };
    if key.eq_ignore_ascii_case(PICTURE_KEY) {
        let mut found = picture::of_comment(head, offset + key.len() as u64 + 1, 0);
        source.skip(window, len - read)?;
        // Page headers that were passed on the way are part of the stretch.
        found.len = source.offset() - found.offset;
        picture::push(pictures, found);
        return Ok(());
    }
    let field = keys::field_of(key).filter(|_| len <= MAX_STORED as u64);
    let Some(field) = field else { return source.skip(window, len - read) };
    let mut value = head.to_vec();
    source.take(window, (len - read) as usize, buffer)?;
    value.extend_from_slice(buffer);
    fields.add(field, &text::utf8(&value));
    Ok(())
}

fn split(comment: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = comment.iter().position(|b| *b == b'=')?;
    Some((&comment[..equals], &comment[equals + 1..]))
}

fn number(source: &mut impl Source, window: &mut Window<'_>, buffer: &mut Vec<u8>) -> Result<u32, Stop> {
    source.take(window, 4, buffer)?;
    Ok(buffer.as_slice().try_into().map_or(0, u32::from_le_bytes))
}
