//! RIFF WAVE (with RF64 and BW64) and AIFF: files made of chunks.
//!
//! Chunk headers are walked and audio is skipped. lofty knows neither RF64 nor depths that are not whole bytes, and
//! reads pictures inside `id3 ` chunks.

use musicfs_core::{AudioMeta, ByteRange, Codec};

use super::fields::{Field, Fields};
use super::text::{self, MAX_STORED};
use super::window::{Stop, Window};
use super::{ParseError, id3v2, sample, stream};

/// Most chunks of a file, or of a list in it, that are looked at.
const MAX_CHUNKS: usize = 500;

/// A chunk: what it is, and where its content lies.
struct Chunk {
    id: [u8; 4],
    at: u64,
    len: u64,
}

/// Steps through chunks.
struct Chunks {
    next: u64,
    end: u64,
    little_endian: bool,
}

impl Chunks {
    fn next(&mut self, window: &mut Window<'_>) -> Result<Option<Chunk>, Stop> {
        if self.next + 8 > self.end {
            return Ok(None);
        }
        let [a, b, c, d, len @ ..] = window.array::<8>(self.next)?;
        let id = [a, b, c, d];
        if !id.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Ok(None);
        }
        let len =
            u64::from(if self.little_endian { u32::from_le_bytes(len) } else { u32::from_be_bytes(len) });
        let at = self.next + 8;
        self.skip(at, len);
        Ok(Some(Chunk { id, at, len }))
    }

    /// Goes on behind a chunk's content, which is padded to an even length.
    fn skip(&mut self, at: u64, len: u64) {
        self.next = at.saturating_add(len).saturating_add(len & 1);
    }
}

/// Reads a RIFF WAVE file that begins at `start`.
pub(super) fn read_wav(
    window: &mut Window<'_>,
    start: u64,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    /// Size in a 32-bit field that stands for one in the chunk `ds64`.
    const ELSEWHERE: u64 = u32::MAX as u64;
    let end = window.len();
    let mut chunks = Chunks { next: start + 12, end, little_endian: true };
    let (mut format, mut data, mut samples, mut long_data) = (None, None, 0, 0);
    let mut info = Fields::default();
    let mut has_id3 = false;
    for _ in 0..MAX_CHUNKS {
        let Some(chunk) = chunks.next(window)? else { break };
        match &chunk.id {
            b"ds64" if chunk.len >= 24 => {
                let sizes = window.array::<24>(chunk.at)?;
                long_data = le64(&sizes, 8);
                samples = le64(&sizes, 16);
            }
            b"fmt " if format.is_none() => format = Some(WaveFormat::read(window, &chunk)?),
            b"fact" if samples == 0 && chunk.len >= 4 => {
                samples = u64::from(u32::from_le_bytes(window.array(chunk.at)?));
            }
            b"data" if data.is_none() => {
                let said = if chunk.len == ELSEWHERE && long_data > 0 { long_data } else { chunk.len };
                chunks.skip(chunk.at, said);
                // A recorder that was cut off says nothing, or too much.
                let whole = said > 0 && said <= end - chunk.at;
                let len = if whole { said } else { end - chunk.at };
                data = Some(ByteRange::at(chunk.at, len));
            }
            b"LIST" => read_info(window, &chunk, &mut info)?,
            b"id3 " | b"ID3 " => has_id3 |= read_id3(window, &chunk, meta, fields)?,
            _ => {}
        }
    }
    if has_id3 {
        fields.next_tag();
    }
    fields.append(info);
    let (Some(format), Some(data)) = (format, data) else {
        return Err(ParseError::Malformed("it has no format or no audio data".to_owned()).into());
    };
    format.describe(data.len(), samples, meta);
    sample::identify_pcm(window, data, meta)
}

fn le64(bytes: &[u8; 24], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// What a `fmt ` chunk says.
struct WaveFormat {
    tag: u16,
    channels: u16,
    sample_rate: u32,
    bytes_per_second: u32,
    block_align: u16,
    bits: u16,
}

impl WaveFormat {
    fn read(window: &mut Window<'_>, chunk: &Chunk) -> Result<Self, Stop> {
        const EXTENSIBLE: u16 = 0xfffe;
        let content = window.bytes(chunk.at, chunk.len.min(40) as usize)?;
        let word = |at: usize| content.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let long = |at: usize| u32::from(word(at)) | u32::from(word(at + 2)) << 16;
        if content.len() < 16 {
            return Err(ParseError::Malformed("its format chunk is too short".to_owned()).into());
        }
        let extensible = word(0) == EXTENSIBLE && content.len() >= 26;
        Ok(Self {
            tag: if extensible { word(24) } else { word(0) },
            channels: word(2),
            sample_rate: long(4),
            bytes_per_second: long(8),
            block_align: word(12),
            bits: if extensible && word(18) > 0 { word(18) } else { word(14) },
        })
    }

    fn describe(&self, data: u64, samples: u64, meta: &mut AudioMeta) {
        meta.codec = match self.tag {
            1 | 3 => Some(Codec::Pcm),
            0x50 | 0x55 => Some(Codec::Mp3),
            0xff | 0x1600 | 0x1602 | 0x1610 => Some(Codec::Aac),
            0xf1ac => Some(Codec::Flac),
            _ => None,
        };
        let is_pcm = matches!(self.tag, 1 | 3);
        meta.sample_rate = self.sample_rate;
        meta.channels = u8::try_from(self.channels).unwrap_or(0);
        meta.bit_depth = if is_pcm { u8::try_from(self.bits).unwrap_or(0) } else { 0 };
        meta.duration_ms = if is_pcm && self.block_align > 0 {
            stream::millis(data / u64::from(self.block_align), self.sample_rate)
        } else if samples > 0 {
            stream::millis(samples, self.sample_rate)
        } else {
            stream::millis(data, self.bytes_per_second)
        };
        stream::set_bitrate(meta, data);
    }
}

/// Reads `LIST INFO`.
fn read_info(window: &mut Window<'_>, list: &Chunk, fields: &mut Fields) -> Result<(), Stop> {
    if list.len < 4 || window.up_to(list.at, 4)? != b"INFO" {
        return Ok(());
    }
    let end = (list.at + list.len).min(window.len());
    let mut chunks = Chunks { next: list.at + 4, end, little_endian: true };
    for _ in 0..MAX_CHUNKS {
        let Some(chunk) = chunks.next(window)? else { break };
        let field = match &chunk.id.to_ascii_uppercase()[..] {
            b"INAM" => Field::Title,
            b"IART" => Field::Artist,
            b"IPRD" => Field::Album,
            b"ICRD" => Field::Date,
            b"IGNR" => Field::Genre,
            b"ICMT" => Field::Comment,
            b"IMUS" => Field::Composer,
            b"ITRK" | b"IPRT" => Field::Track,
            _ => continue,
        };
        if chunk.len <= MAX_STORED as u64 {
            let value = text::latin1(window.up_to(chunk.at, chunk.len as usize)?);
            fields.add(field, value.split('\0').next().unwrap_or_default());
        }
    }
    Ok(())
}

/// Reads an ID3v2 tag in a chunk; tells whether there is one.
fn read_id3(
    window: &mut Window<'_>,
    chunk: &Chunk,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<bool, Stop> {
    let Some(tag) = id3v2::Tag::at(window, chunk.at)? else { return Ok(false) };
    tag.read(window, fields, &mut meta.pictures)?;
    Ok(true)
}

/// Reads an AIFF or AIFF-C file that begins at `start`.
pub(super) fn read_aiff(
    window: &mut Window<'_>,
    start: u64,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    let compressed = window.bytes(start + 8, 4)? == b"AIFC";
    let end = window.len();
    let mut chunks = Chunks { next: start + 12, end, little_endian: false };
    let (mut common, mut audio) = (None, ByteRange::new(0, 0));
    let mut texts = Fields::default();
    let mut has_id3 = false;
    for _ in 0..MAX_CHUNKS {
        let Some(chunk) = chunks.next(window)? else { break };
        let field = match &chunk.id {
            b"COMM" if common.is_none() && chunk.len >= 18 => {
                common = Some(window.up_to(chunk.at, if compressed { 22 } else { 18 })?.to_vec());
                continue;
            }
            b"SSND" => {
                // An offset and a block size precede the samples.
                audio = ByteRange::new(chunk.at + 8, chunk.at.saturating_add(chunk.len)).clamp_to(end);
                continue;
            }
            b"ID3 " | b"id3 " => {
                has_id3 |= read_id3(window, &chunk, meta, fields)?;
                continue;
            }
            b"NAME" => Field::Title,
            b"AUTH" => Field::Artist,
            b"ANNO" => Field::Comment,
            _ => continue,
        };
        if chunk.len <= MAX_STORED as u64 {
            texts.add(field, &text::latin1(window.up_to(chunk.at, chunk.len as usize)?));
        }
    }
    if has_id3 {
        fields.next_tag();
    }
    fields.append(texts);
    let Some(common) = common else {
        return Err(ParseError::Malformed("it has no COMM chunk".to_owned()).into());
    };
    let word = |at: usize| common.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let samples = u64::from(word(2)) << 16 | u64::from(word(4));
    meta.channels = u8::try_from(word(0)).unwrap_or(0);
    meta.sample_rate = extended(common.get(8..18).unwrap_or_default());
    let is_pcm = !compressed
        || matches!(
            common.get(18..22),
            Some(
                b"NONE"
                    | b"twos"
                    | b"sowt"
                    | b"raw "
                    | b"in24"
                    | b"in32"
                    | b"fl32"
                    | b"FL32"
                    | b"fl64"
                    | b"FL64"
            )
        );
    if is_pcm {
        meta.codec = Some(Codec::Pcm);
        meta.bit_depth = u8::try_from(word(6)).unwrap_or(0);
    }
    meta.duration_ms = stream::millis(samples, meta.sample_rate);
    stream::set_bitrate(meta, audio.len());
    if audio.is_empty() { Ok(()) } else { sample::identify_pcm(window, audio, meta) }
}

/// Reads an 80-bit floating-point number as a whole number; 0 where it is none that a sample rate could be.
fn extended(bytes: &[u8]) -> u32 {
    let Some((head, mantissa)) = bytes.split_first_chunk::<2>() else { return 0 };
    let exponent = i32::from(u16::from_be_bytes(*head)) - 16_383;
    let Ok(mantissa) = <[u8; 8]>::try_from(mantissa) else { return 0 };
    if !(0..32).contains(&exponent) {
        return 0;
    }
    // The mantissa has its point behind the first bit; round.
    let scaled = u64::from_be_bytes(mantissa) >> (62 - exponent);
    u32::try_from(scaled.div_ceil(2)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_rates_of_80_bits_are_read() {
        assert_eq!(extended(&[0x40, 0x0e, 0xac, 0x44, 0, 0, 0, 0, 0, 0]), 44_100);
        assert_eq!(extended(&[0x40, 0x10, 0xbb, 0x80, 0, 0, 0, 0, 0, 0]), 192_000);
        assert_eq!(extended(&[0x7f, 0xff, 0xac, 0x44, 0, 0, 0, 0, 0, 0]), 0);
        assert_eq!(extended(&[0; 10]), 0);
        assert_eq!(extended(&[]), 0);
    }
}
