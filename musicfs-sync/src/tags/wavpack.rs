//! WavPack: what the first block with audio tells.
//!
//! lofty finds no channels in files of more than two; the block says how many there are.

use musicfs_core::{AudioMeta, ByteRange, Codec};

use super::window::{Stop, Window};
use super::{ParseError, stream};

const HEAD_LEN: u64 = 32;
/// Most blocks without audio that are passed over.
const MAX_BLOCKS: usize = 16;
/// Most pieces of a block's metadata that are looked at.
const MAX_PIECES: usize = 64;
/// Samples in the file, where the encoder could not tell.
const UNKNOWN: u32 = u32::MAX;

const MONO: u32 = 1 << 2;
const DSD: u32 = 1 << 31;

/// Reads the stream in `audio`.
pub(super) fn read(window: &mut Window<'_>, audio: ByteRange, meta: &mut AudioMeta) -> Result<(), Stop> {
    let mut at = audio.start();
    for _ in 0..MAX_BLOCKS {
        let head = window.array::<{ HEAD_LEN as usize }>(at)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let end = at + 8 + u64::from(number(4));
        if !head.starts_with(b"wvpk") || end < at + HEAD_LEN {
            break;
        }
        let has_audio = number(20) > 0;
        if has_audio {
            let samples = (number(12) != UNKNOWN).then(|| {
                // 40 bits, kept so that old readers see the lower ones.
                let upper = u64::from(head[11]);
                (u64::from(number(12)) + (upper << 32)).saturating_sub(upper)
            });
            let pieces = ByteRange::new(at + HEAD_LEN, end.min(window.len()));
            return describe(window, number(24), samples, pieces, audio.len(), meta);
        }
        at = end;
    }
    Err(ParseError::Malformed("it has no block of audio".to_owned()).into())
}

fn describe(
    window: &mut Window<'_>,
    flags: u32,
    samples: Option<u64>,
    pieces: ByteRange,
    audio_bytes: u64,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    const RATES: [u32; 15] = [
        6_000, 8_000, 9_600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200,
        96_000, 192_000,
    ];
    let extra = Extra::read(window, pieces)?;
    let rate = RATES.get((flags >> 23 & 15) as usize).copied().or(extra.sample_rate).unwrap_or(0);
    let channels = extra.channels.unwrap_or(if flags & MONO != 0 { 1 } else { 2 });
    if rate == 0 || channels == 0 {
        return Err(
            ParseError::Malformed("its stream header tells no sample rate or channels".to_owned()).into()
        );
    }
    meta.codec = Some(Codec::WavPack);
    meta.channels = channels;
    // A sample of DSD audio is a byte: eight of its one-bit samples.
    let (units, bits_per_unit) = match extra.dsd_power.filter(|_| flags & DSD != 0) {
        Some(power) => (rate.checked_shl(power).unwrap_or(0), 8),
        None => (rate, 1),
    };
    meta.sample_rate = units.saturating_mul(bits_per_unit);
    meta.bit_depth = if flags & DSD != 0 {
        1
    } else {
        (((flags & 3) + 1) * 8).saturating_sub(flags >> 13 & 31).min(32) as u8
    };
    meta.duration_ms = stream::millis(samples.unwrap_or(0), units);
    stream::set_bitrate(meta, audio_bytes);
    Ok(())
}

/// What pieces of a block's metadata tell beyond its header.
#[derive(Default)]
struct Extra {
    sample_rate: Option<u32>,
    channels: Option<u8>,
    dsd_power: Option<u32>,
}

impl Extra {
    fn read(window: &mut Window<'_>, pieces: ByteRange) -> Result<Self, Stop> {
        const DSD_BLOCK: u8 = 0x0e;
        const CHANNELS: u8 = 0x0d;
        const SAMPLE_RATE: u8 = 0x27;
        let mut found = Self::default();
        let mut at = pieces.start();
        for _ in 0..MAX_PIECES {
            if at + 4 > pieces.end() {
                break;
            }
            // An id with flags, then the length in words, of one byte or three.
            let [id, a, b, c] = window.array::<4>(at)?;
            let (head, words) =
                if id & 0x80 != 0 { (4, u32::from_le_bytes([a, b, c, 0])) } else { (2, a.into()) };
            let content = at + head;
            let len = (u64::from(words) * 2).min(pieces.end().saturating_sub(content));
            let odd = u64::from(id >> 6 & 1).min(len);
            let start = window.up_to(content, len.min(4) as usize)?;
            match (id & 0x3f, start) {
                (SAMPLE_RATE, &[a, b, c, ..]) => found.sample_rate = Some(u32::from_le_bytes([a, b, c, 0])),
                (CHANNELS, &[n, ..]) if len - odd < 6 => found.channels = Some(n),
                // Six bytes and more count in twelve bits, from one.
                (CHANNELS, &[low, _, high, ..]) => {
                    let channels = (u16::from(low) | u16::from(high & 15) << 8) + 1;
                    found.channels = Some(u8::try_from(channels).unwrap_or(u8::MAX));
                }
                (DSD_BLOCK, &[power, ..]) => found.dsd_power = Some(power.into()),
                _ => {}
            }
            at = content + len;
        }
        Ok(found)
    }
}
