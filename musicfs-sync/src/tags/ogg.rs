//! Ogg with Vorbis, Opus, FLAC or Speex.
//!
//! The header packets are read page by page, pictures in comments being passed over; the playing time is told by
//! the last page, which is looked for in the file's last bytes. Nothing between is read.

mod pages;

use musicfs_core::{AudioMeta, ByteRange, Codec, PictureRef, PictureStorage};

use super::fields::Fields;
use super::vorbis::{self, Extent, Source};
use super::window::{Stop, Window};
use super::{ParseError, flac, picture, sample, stream};
use pages::{Page, Pages};

/// Most streams of a file that are looked at to find one of audio.
const MAX_STREAMS: usize = 16;
/// Most metadata blocks of Ogg FLAC that are looked at.
const MAX_BLOCKS: usize = 64;
/// How much of a FLAC picture block is read to find where its picture begins.
const PICTURE_HEAD: u64 = 512;
/// How far from the file's end the last page is looked for, first and at most: most pages are short, and one has up to
/// 65,307 bytes.
const TAILS: [u64; 3] = [16 * 1024, 64 * 1024, LONGEST_TAIL];
const LONGEST_TAIL: u64 = 192 * 1024;
/// Opus counts time in samples at this rate, whatever it was made from.
const OPUS_RATE: u32 = 48_000;

/// Reads the file whose first page is at `start`.
pub(super) fn read(
    window: &mut Window<'_>,
    start: u64,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    let mut at = start;
    for _ in 0..MAX_STREAMS {
        let page = Page::at(window, at)?.filter(Page::is_first);
        let Some(page) = page else { break };
        let head = window.up_to(page.payload, page.payload_len.min(64) as usize)?.to_vec();
        if let Some(id) = Identification::of(&head) {
            return read_stream(window, at, &page, &id, meta, fields);
        }
        at = page.end();
    }
    Err(ParseError::Malformed("it holds no Vorbis, Opus, FLAC or Speex stream".to_owned()).into())
}

/// What a stream's first packet says.
struct Identification {
    codec: Codec,
    sample_rate: u32,
    channels: u8,
    /// Samples at the start that are not played (Opus).
    skipped: u64,
    stream_info: Option<[u8; 34]>,
}

impl Identification {
    fn of(packet: &[u8]) -> Option<Self> {
        let byte = |at: usize| packet.get(at).copied();
        let number = |at: usize| Some(u32::from_le_bytes(packet.get(at..)?.get(..4)?.try_into().ok()?));
        let id = |codec, sample_rate, channels| Self {
            codec,
            sample_rate,
            channels,
            skipped: 0,
            stream_info: None,
        };
        if packet.starts_with(b"\x01vorbis") {
            Some(id(Codec::Vorbis, number(12)?, byte(11)?))
        } else if packet.starts_with(b"OpusHead") {
            let skipped = u64::from(u16::from_le_bytes([byte(10)?, byte(11)?]));
            Some(Self { skipped, ..id(Codec::Opus, OPUS_RATE, byte(9)?) })
        } else if packet.starts_with(b"Speex   ") {
            Some(id(Codec::Speex, number(36)?, u8::try_from(number(48)?).ok()?))
        } else if packet.starts_with(b"\x7fFLAC") {
            let block = packet.get(17..)?.get(..34)?.try_into().ok()?;
            Some(Self { stream_info: Some(block), ..id(Codec::Flac, 0, 0) })
        } else {
            None
        }
    }
}

fn read_stream(
    window: &mut Window<'_>,
    at: u64,
    first: &Page,
    id: &Identification,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    meta.codec = Some(id.codec);
    match &id.stream_info {
        Some(block) => flac::stream_info(block, meta),
        None => (meta.sample_rate, meta.channels) = (id.sample_rate, id.channels),
    }
    let mut pages = Pages::new(first.serial, at);
    pages.next_packet(window)?;
    let extent = if id.codec == Codec::Flac {
        read_blocks(window, &mut pages, meta, fields)?
    } else {
        pages.next_packet(window)?;
        let mark: &[u8] = match id.codec {
            Codec::Vorbis => b"\x03vorbis",
            Codec::Opus => b"OpusTags",
            _ => b"",
        };
        let mut found = Vec::new();
        pages.take(window, mark.len(), &mut found)?;
        if found == mark {
            vorbis::read(&mut pages, window, fields, &mut meta.pictures)?
        } else {
            Extent::Whole
        }
    };
    let last = last_page(window, first.serial)?;
    if let Some((samples, _)) = last {
        let played = samples.saturating_sub(id.skipped);
        meta.duration_ms = stream::millis(played, meta.sample_rate);
    }
    let end = window.len();
    match extent {
        Extent::Cut(headers_end) => stream::set_bitrate(meta, end.saturating_sub(headers_end)),
        Extent::Whole if end_of_headers(window, &mut pages, id.codec)? => {
            let audio = ByteRange::new(pages.start(), end);
            stream::set_bitrate(meta, audio.len());
            identify(window, audio, pages.rest_of_page(), last, meta)?;
        }
        Extent::Whole => stream::set_bitrate(meta, 0),
    }
    Ok(())
}

/// Identifies the audio by the payloads of its first and last page.
fn identify(
    window: &mut Window<'_>,
    audio: ByteRange,
    first: ByteRange,
    last: Option<(u64, u64)>,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    meta.audio_region = Some(audio);
    let Some((position, at)) = last else { return Ok(()) };
    let Some(last) = Page::at(window, at)? else { return Ok(()) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&position.to_le_bytes());
    for payload in [first, ByteRange::at(last.payload, last.payload_len)] {
        let len = payload.len().min(sample::SAMPLE);
        hasher.update(&len.to_le_bytes());
        hasher.update(window.up_to(payload.start(), len as usize)?);
    }
    sample::set(meta, audio.len(), &hasher);
    Ok(())
}

/// Goes to where the audio begins, behind the comments and Vorbis' third header, and tells whether there is any.
fn end_of_headers(window: &mut Window<'_>, pages: &mut Pages, codec: Codec) -> Result<bool, Stop> {
    for _ in 0..if codec == Codec::Vorbis { 2 } else { 1 } {
        match pages.next_packet(window) {
            // A file without audio, or cut short in its headers, still has its tags.
            Err(Stop::Failed(ParseError::Truncated)) => return Ok(false),
            other => other?,
        }
    }
    Ok(true)
}

/// Reads the metadata blocks of Ogg FLAC, one a packet.
fn read_blocks(
    window: &mut Window<'_>,
    pages: &mut Pages,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<Extent, Stop> {
    let mut head = Vec::new();
    for _ in 0..MAX_BLOCKS {
        pages.next_packet(window)?;
        pages.take(window, 4, &mut head)?;
        let &[kind, a, b, c] = head.as_slice() else { break };
        let len = u64::from(u32::from_be_bytes([0, a, b, c]));
        match kind & 0x7f {
            // An audio frame begins with 0xFF: the headers are over.
            0x7f => break,
            4 => {
                let extent = vorbis::read(pages, window, fields, &mut meta.pictures)?;
                if extent != Extent::Whole {
                    return Ok(extent);
                }
            }
            // A picture too long to be passed over ends the headers, as far as they are read.
            6 if len > window.left().saturating_sub(LONGEST_TAIL) => {
                return Ok(Extent::Cut(pages.offset() + len));
            }
            6 => read_picture(window, pages, len, &mut meta.pictures)?,
            _ => {}
        }
        if kind & 0x80 != 0 {
            break;
        }
    }
    Ok(Extent::Whole)
}

fn read_picture(
    window: &mut Window<'_>,
    pages: &mut Pages,
    len: u64,
    pictures: &mut Vec<PictureRef>,
) -> Result<(), Stop> {
    let mut head = Vec::new();
    let block_at = pages.offset();
    pages.take(window, len.min(PICTURE_HEAD) as usize, &mut head)?;
    let Some((kind, mime, skip, _)) = picture::flac_block(&head) else { return Ok(()) };
    let offset = block_at + skip;
    pages.skip(window, len - head.len() as u64)?;
    let found =
        PictureRef { kind, mime, offset, len: pages.offset() - offset, storage: PictureStorage::Plain };
    picture::push(pictures, found);
    Ok(())
}

/// Returns the position, in samples, that the stream's last page ends at, and where that page is.
fn last_page(window: &mut Window<'_>, serial: u32) -> Result<Option<(u64, u64)>, Stop> {
    const MARK: &[u8] = b"OggS\0";
    for tail in TAILS {
        let from = window.len().saturating_sub(tail);
        let bytes = window.up_to(from, tail as usize)?;
        let mut end = bytes.len();
        while let Some(at) = bytes[..end].windows(MARK.len()).rposition(|w| w == MARK) {
            if let Some(page) = bytes.get(at..).and_then(|b| b.first_chunk::<27>())
                && pages::serial(page) == serial
                && let Some(position) = pages::position(page)
            {
                return Ok(Some((position, from + at as u64)));
            }
            end = at;
        }
        if from == 0 {
            break;
        }
    }
    Ok(None)
}
