//! Tags at a file's end: ID3v1, Lyrics3 (skipped) and APEv2.

use musicfs_core::{ByteRange, PictureKind, PictureRef, PictureStorage};

use super::fields::{Field, Fields};
use super::text::{self, MAX_STORED};
use super::window::{Stop, Window};
use super::{genre, keys, picture};

const ID3V1_LEN: u64 = 128;
const APE_HEAD_LEN: u64 = 32;
/// Most items of an APE tag that are looked at.
const MAX_ITEMS: u32 = 2000;
/// Set in an APE tag's flags where a header precedes the items.
const APE_HAS_HEADER: u32 = 1 << 31;

/// Tags found at a file's end.
#[derive(Debug)]
pub(super) struct Trailing {
    /// Where they begin: the end of the audio.
    pub(super) start: u64,
    id3v1: Option<[u8; ID3V1_LEN as usize]>,
    ape: Option<ApeTag>,
}

/// An APE tag's items.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApeTag {
    items: ByteRange,
    count: u32,
    /// First byte after the tag, header and footer included.
    end: u64,
}

impl Trailing {
    /// Looks for tags at the end of the file, not before `audio_start`.
    pub(super) fn find(window: &mut Window<'_>, audio_start: u64) -> Result<Self, Stop> {
        let mut found = Self { start: window.len(), id3v1: None, ape: None };
        // Any order occurs; ID3v1 is last by its own rules.
        if found.start - audio_start >= ID3V1_LEN {
            let tag = window.array::<{ ID3V1_LEN as usize }>(found.start - ID3V1_LEN)?;
            if tag.starts_with(b"TAG") {
                found.start -= ID3V1_LEN;
                found.id3v1 = Some(tag);
            }
        }
        for _ in 0..3 {
            let room = found.start - audio_start;
            if let Some(len) = lyrics_len(window, found.start)?.filter(|len| *len <= room) {
                found.start -= len;
            } else if let Some((tag, start)) = ApeTag::ending_at(window, found.start)?
                && start >= audio_start
            {
                found.start = start;
                found.ape = found.ape.or(Some(tag));
            } else {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the tags, APE before ID3v1.
    pub(super) fn read(
        &self,
        window: &mut Window<'_>,
        fields: &mut Fields,
        pictures: &mut Vec<PictureRef>,
    ) -> Result<(), Stop> {
        if let Some(tag) = self.ape {
            fields.next_tag();
            tag.read(window, fields, pictures)?;
        }
        if let Some(tag) = &self.id3v1 {
            fields.next_tag();
            read_id3v1(tag, fields);
        }
        Ok(())
    }
}

/// Returns the length of a Lyrics3v2 tag that ends at `end`.
fn lyrics_len(window: &mut Window<'_>, end: u64) -> Result<Option<u64>, Stop> {
    const MARK: u64 = 15;
    if end < MARK {
        return Ok(None);
    }
    let mark = window.bytes(end - MARK, MARK as usize)?;
    let Some((size, b"LYRICS200")) = mark.split_first_chunk::<6>() else { return Ok(None) };
    Ok(std::str::from_utf8(size).ok().and_then(|s| s.parse::<u64>().ok()).map(|size| size + MARK))
}

fn read_id3v1(tag: &[u8; ID3V1_LEN as usize], fields: &mut Fields) {
    let text = |range: std::ops::Range<usize>| {
        let stored = &tag[range];
        let end = stored.iter().position(|b| *b == 0).unwrap_or(stored.len());
        text::latin1(&stored[..end])
    };
    fields.add(Field::Title, &text(3..33));
    fields.add(Field::Artist, &text(33..63));
    fields.add(Field::Album, &text(63..93));
    fields.add(Field::Year, &text(93..97));
    // ID3v1.1: a NUL before the last byte makes that the track number.
    let has_track = tag[125] == 0 && tag[126] != 0;
    fields.add(Field::Comment, &text(97..if has_track { 125 } else { 127 }));
    if has_track {
        fields.add_number(Field::Track, u32::from(tag[126]));
    }
    if let Some(genre) = genre::by_number(&tag[127].to_string()) {
        fields.add(Field::Genre, genre);
    }
}

impl ApeTag {
    /// Reads the tag that begins with a header at `at`.
    pub(super) fn starting_at(window: &mut Window<'_>, at: u64) -> Result<Option<Self>, Stop> {
        let Some((size, count, _)) = ape_head(window.up_to(at, APE_HEAD_LEN as usize)?) else {
            return Ok(None);
        };
        let start = at + APE_HEAD_LEN;
        let end = start + u64::from(size);
        Ok(Some(Self { items: ByteRange::new(start, end.saturating_sub(APE_HEAD_LEN)), count, end }))
    }

    /// Reads the tag whose footer ends at `end`, and returns it with its first byte's offset.
    fn ending_at(window: &mut Window<'_>, end: u64) -> Result<Option<(Self, u64)>, Stop> {
        let Some(footer) = end.checked_sub(APE_HEAD_LEN) else { return Ok(None) };
        let Some((size, count, flags)) = ape_head(window.bytes(footer, APE_HEAD_LEN as usize)?) else {
            return Ok(None);
        };
        let header = if flags & APE_HAS_HEADER != 0 { APE_HEAD_LEN } else { 0 };
        let Some(items) = end.checked_sub(u64::from(size)) else { return Ok(None) };
        let tag = Self { items: ByteRange::new(items, footer), count, end };
        Ok(items.checked_sub(header).map(|start| (tag, start)))
    }

    /// Returns the offset of the first byte after the tag.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Reads the tag's items.
    pub(super) fn read(
        &self,
        window: &mut Window<'_>,
        fields: &mut Fields,
        pictures: &mut Vec<PictureRef>,
    ) -> Result<(), Stop> {
        /// Longest key of an item, with the NUL after it.
        const MAX_KEY: usize = 256;
        let end = self.items.end().min(window.len());
        let mut at = self.items.start();
        for _ in 0..self.count.min(MAX_ITEMS) {
            if at + 8 > end {
                break;
            }
            let [a, b, c, d, flags @ ..] = window.array::<8>(at)?;
            let size = u64::from(u32::from_le_bytes([a, b, c, d]));
            let flags = u32::from_le_bytes(flags);
            let key = window.up_to(at + 8, MAX_KEY)?;
            let Some(key_len) = key.iter().position(|b| *b == 0) else { break };
            let key = key[..key_len].to_vec();
            let value = at + 8 + key_len as u64 + 1;
            if value + size > end {
                break;
            }
            match flags >> 1 & 3 {
                0 if size <= MAX_STORED as u64 => {
                    if let Some(field) = keys::field_of(&key) {
                        let text = text::latin1(window.bytes(value, size as usize)?);
                        fields.add_each(field, &text);
                    }
                }
                1 => read_picture(window, &key, value, size, pictures)?,
                _ => {}
            }
            at = value + size;
        }
        Ok(())
    }
}

/// Reads the size (of items and footer), the number of items and the flags of an APE tag's header or footer.
fn ape_head(head: &[u8]) -> Option<(u32, u32, u32)> {
    let rest = head.strip_prefix(b"APETAGEX")?;
    let number = |at: usize| Some(u32::from_le_bytes(rest.get(at..)?.get(..4)?.try_into().ok()?));
    let size = number(4)?;
    (u64::from(size) >= APE_HEAD_LEN).then_some((size, number(8)?, number(12)?))
}

/// Locates the picture of a binary item `Cover Art (…)`: a file name, a NUL, and the picture.
fn read_picture(
    window: &mut Window<'_>,
    key: &[u8],
    value: u64,
    size: u64,
    pictures: &mut Vec<PictureRef>,
) -> Result<(), Stop> {
    const HEAD: u64 = 512;
    let key = key.to_ascii_lowercase();
    if !key.starts_with(b"cover art") {
        return Ok(());
    }
    let kind = match key.as_slice() {
        b"cover art (front)" => PictureKind::Front,
        b"cover art (back)" => PictureKind::Back,
        _ => PictureKind::Other,
    };
    let head = window.bytes(value, size.min(HEAD) as usize)?;
    let Some(name) = head.iter().position(|b| *b == 0) else { return Ok(()) };
    let mime = picture::mime_of_content(&head[name + 1..]);
    let skip = name as u64 + 1;
    let storage = PictureStorage::Plain;
    picture::push(pictures, PictureRef { kind, mime, offset: value + skip, len: size - skip, storage });
    Ok(())
}
