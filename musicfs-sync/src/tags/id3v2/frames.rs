//! Frames of an ID3v2 tag.

use musicfs_core::{PictureKind, PictureRef, PictureStorage};

use super::{Body, synchronise};
use crate::tags::fields::{Field, Fields};
use crate::tags::keys;
use crate::tags::picture;
use crate::tags::text::{self, MAX_STORED};
use crate::tags::window::{Stop, Window};

/// How much of a picture frame is read to find where the picture begins: its type, kind and description.
const PICTURE_HEAD: usize = 1024;

/// A frame's header.
#[derive(Debug)]
pub(super) struct Header {
    id: [u8; 4],
    version: u8,
    pub(super) size: u32,
    pub(super) unsynchronised: bool,
    /// Compressed or encrypted.
    opaque: bool,
    /// Bytes of flags' data before the content.
    prefix: u64,
}

/// Tells whether bytes may be a frame's id.
pub(super) fn is_id(id: &[u8]) -> bool {
    id.first().is_some_and(u8::is_ascii_uppercase)
        && id.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ')
}

impl Header {
    /// Reads a header; `None` where there is no frame (padding, or the end).
    pub(super) fn parse(version: u8, head: &[u8]) -> Option<Self> {
        if version == 2 {
            let [a, b, c, x, y, z]: [u8; 6] = head.try_into().ok()?;
            let id = [a, b, c, b' '];
            let size = u32::from_be_bytes([0, x, y, z]);
            return is_id(&id).then_some(Self {
                id,
                version,
                size,
                unsynchronised: false,
                opaque: false,
                prefix: 0,
            });
        }
        let [a, b, c, d, w, x, y, z, _, flags]: [u8; 10] = head.try_into().ok()?;
        let id = [a, b, c, d];
        let size = u32::from_be_bytes([w, x, y, z]);
        let (unsynchronised, opaque, prefix) = if version == 3 {
            (false, flags & 0xc0 != 0, u64::from(flags >> 5 & 1))
        } else {
            // Group byte, then data length.
            (flags & 0x02 != 0, flags & 0x0c != 0, u64::from(flags >> 6 & 1) + u64::from(flags & 1) * 4)
        };
        is_id(&id).then_some(Self { id, version, size, unsynchronised, opaque, prefix })
    }
}

/// Reads the frame whose content is at `data`, when it is of interest.
pub(super) fn read(
    frame: &Header,
    body: &Body,
    window: &mut Window<'_>,
    data: u64,
    fields: &mut Fields,
    pictures: &mut Vec<PictureRef>,
) -> Result<(), Stop> {
    let size = u64::from(frame.size);
    if frame.opaque || size <= frame.prefix {
        return Ok(());
    }
    let (start, len) = (data + frame.prefix, size - frame.prefix);
    if matches!(&frame.id, b"APIC" | b"PIC ") {
        return read_picture(frame, body, window, start, len, pictures);
    }
    let wanted =
        frame.id[0] == b'T' || frame.id[0] == b'X' || matches!(&frame.id[..3], b"COM" | b"UFI" | b"RVA");
    if !wanted || len > MAX_STORED as u64 {
        return Ok(());
    }
    let mut content = body.head(window, start, len as usize)?;
    if frame.unsynchronised {
        content = synchronise(&content);
    }
    read_content(frame, &content, fields);
    Ok(())
}

fn read_content(frame: &Header, content: &[u8], fields: &mut Fields) {
    match &frame.id {
        b"TXXX" | b"TXX " => {
            let Some((encoding, rest)) = content.split_first() else { return };
            let (key, value) = split_text(*encoding, rest);
            let key = decode(*encoding, key);
            if let Some(field) = keys::extra_field_of(key.as_bytes()) {
                fields.add_each(field, &decode(*encoding, value));
            }
        }
        b"COMM" | b"COM " => {
            let Some((encoding, rest)) = content.split_first() else { return };
            // The language comes first.
            let (about, value) = split_text(*encoding, rest.get(3..).unwrap_or_default());
            let about = decode(*encoding, about);
            let value = decode(*encoding, value);
            if about.is_empty() {
                fields.add(Field::Comment, &value);
            } else if !is_technical(&about) {
                fields.add(Field::Description, &value);
            }
        }
        b"UFID" | b"UFI " => {
            if let Some(id) = content.strip_prefix(b"http://musicbrainz.org\0") {
                fields.add(Field::MbRecording, &text::latin1(id));
            }
        }
        b"RVA2" => read_volume(content, fields),
        id => {
            if let Some(field) = field_of(id)
                && let Some((encoding, rest)) = content.split_first()
            {
                fields.add_each(field, &decode(*encoding, rest));
            }
        }
    }
}

/// Returns what a text frame is about.
fn field_of(id: &[u8; 4]) -> Option<Field> {
    Some(match id {
        b"TIT2" | b"TT2 " => Field::Title,
        b"TPE1" | b"TP1 " => Field::Artist,
        b"TALB" | b"TAL " => Field::Album,
        b"TPE2" | b"TP2 " => Field::AlbumArtist,
        b"TRCK" | b"TRK " => Field::Track,
        b"TPOS" | b"TPA " => Field::Disc,
        b"TDRC" => Field::Date,
        b"TDRL" => Field::ReleaseDate,
        b"TYER" | b"TYE " => Field::Year,
        b"TDAT" | b"TDA " => Field::DayMonth,
        b"TDOR" | b"TORY" | b"TOR " => Field::OriginalDate,
        b"TCON" | b"TCO " => Field::Genre,
        b"TCOM" | b"TCM " => Field::Composer,
        b"TCMP" | b"TCP " => Field::Compilation,
        b"TSOT" | b"XSOT" | b"TST " => Field::TitleSort,
        b"TSOP" | b"XSOP" | b"TSP " => Field::ArtistSort,
        b"TSOA" | b"XSOA" | b"TSA " => Field::AlbumSort,
        b"TSO2" | b"TS2 " => Field::AlbumArtistSort,
        b"TSOC" | b"TSC " => Field::ComposerSort,
        _ => return None,
    })
}

/// Tells whether a comment is no comment but a player's data.
fn is_technical(description: &str) -> bool {
    const MARKS: &[&str] = &["itun", "id3v1", "mediamonkey_", "songs-db_", "c0", "replaygain"];
    let lower = description.to_ascii_lowercase();
    MARKS.iter().any(|mark| lower.starts_with(mark))
}

/// Reads a relative volume: gains of the master channel in 1/512 dB, for a `track` or an `album`.
fn read_volume(content: &[u8], fields: &mut Fields) {
    let mut parts = content.splitn(2, |b| *b == 0);
    let (Some(name), Some(channels)) = (parts.next(), parts.next()) else { return };
    let (gain_field, peak_field) = match name.to_ascii_lowercase().as_slice() {
        b"track" => (Field::TrackGain, Field::TrackPeak),
        b"album" => (Field::AlbumGain, Field::AlbumPeak),
        _ => return,
    };
    const MASTER: u8 = 1;
    let [MASTER, high, low, bits, rest @ ..] = channels else { return };
    let gain = f32::from(i16::from_be_bytes([*high, *low])) / 512.0;
    fields.add(gain_field, &gain.to_string());
    let bytes = usize::from(bits.div_ceil(8));
    if let Some(peak) = rest.get(..bytes).filter(|_| (8..=32).contains(bits)) {
        let peak = peak.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let full_scale = 2f64.powi(i32::from(*bits) - 1);
        fields.add(peak_field, &(f64::from(peak) / full_scale).to_string());
    }
}

fn read_picture(
    frame: &Header,
    body: &Body,
    window: &mut Window<'_>,
    start: u64,
    len: u64,
    pictures: &mut Vec<PictureRef>,
) -> Result<(), Stop> {
    let head = body.head(window, start, len.min(PICTURE_HEAD as u64) as usize)?;
    let Some((mime, kind, skip)) = picture_head(frame.version, &head) else { return Ok(()) };
    let offset = body.offset(start + skip as u64);
    let end = body.offset(start + len);
    if end <= offset {
        return Ok(());
    }
    let unsynchronised = frame.unsynchronised || matches!(body, Body::Decoded { .. });
    let storage = if unsynchronised { PictureStorage::Unsynchronised } else { PictureStorage::Plain };
    picture::push(pictures, PictureRef { kind, mime, offset, len: end - offset, storage });
    Ok(())
}

/// Reads what precedes a picture: its MIME type, its kind, and how long all of it is.
fn picture_head(version: u8, head: &[u8]) -> Option<(String, PictureKind, usize)> {
    let (encoding, rest) = head.split_first()?;
    let (mime, rest) = if version == 2 {
        let (format, rest) = rest.split_at_checked(3)?;
        (picture::mime_of_format(format), rest)
    } else {
        let end = rest.iter().position(|b| *b == 0)?;
        (text::latin1(&rest[..end]), &rest[end + 1..])
    };
    let (kind, rest) = rest.split_first()?;
    let (_, data) = split_text(*encoding, rest);
    Some((mime, picture::kind_of_number(u32::from(*kind)), head.len() - data.len()))
}

/// Splits text at the NUL that ends its first part.
fn split_text(encoding: u8, bytes: &[u8]) -> (&[u8], &[u8]) {
    let wide = matches!(encoding, 1 | 2);
    let end = if wide {
        bytes.chunks_exact(2).position(|pair| pair == [0, 0]).map(|i| i * 2)
    } else {
        bytes.iter().position(|b| *b == 0)
    };
    match end {
        Some(end) => (&bytes[..end], &bytes[end + if wide { 2 } else { 1 }..]),
        None => (bytes, &[]),
    }
}

/// Decodes a text; values that NULs separate stay separated by them.
fn decode(encoding: u8, bytes: &[u8]) -> String {
    match encoding {
        1 => decode_wide(bytes, false),
        2 => decode_wide(bytes, true),
        3 => text::utf8(bytes),
        _ => text::latin1(bytes),
    }
}

/// Decodes UTF-16 whose values may each begin with a byte order mark, or only the first.
fn decode_wide(bytes: &[u8], big_endian: bool) -> String {
    let mut order = big_endian;
    let mut out = String::with_capacity(bytes.len() / 2);
    let mut rest = bytes;
    loop {
        let end = rest.chunks_exact(2).position(|pair| pair == [0, 0]).map_or(rest.len(), |i| i * 2);
        let value = &rest[..end];
        order = match value {
            [0xff, 0xfe, ..] => false,
            [0xfe, 0xff, ..] => true,
            _ => order,
        };
        out.push_str(&text::utf16(value, order));
        match rest.get(end + 2..) {
            Some(next) => {
                out.push('\0');
                rest = next;
            }
            None => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_values_keep_the_order_of_the_first_mark() {
        let bytes = [0xfe, 0xff, 0, b'a', 0, 0, 0, b'b', 0, 0, 0xff, 0xfe, b'c', 0];
        assert_eq!(decode(1, &bytes), "a\0b\0c");
        assert_eq!(decode(1, &[b'a', 0, 0, 0]), "a\0");
        assert_eq!(decode(2, &[0, b'a', 7]), "a");
    }

    #[test]
    fn picture_without_an_end_of_description_has_no_data() {
        assert!(picture_head(3, b"\0image/png").is_none());
        assert!(picture_head(3, b"").is_none());
        let (mime, kind, skip) = picture_head(3, b"\0image/png\0\x03d\0DATA").unwrap();
        assert_eq!((mime.as_str(), kind, skip), ("image/png", PictureKind::Front, 14));
        let (mime, _, skip) = picture_head(2, b"\0JPG\x04\0DATA").unwrap();
        assert_eq!((mime.as_str(), skip), ("image/jpeg", 6));
    }

    #[test]
    fn players_data_is_no_comment() {
        assert!(is_technical("iTunNORM"));
        assert!(is_technical("iTunes_CDDB_1"));
        assert!(!is_technical("my notes"));
    }
}
