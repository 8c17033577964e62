//! DSF: one-bit DSD audio with an ID3v2 tag at its end.

use musicfs_core::{AudioMeta, ByteRange, Codec};

use super::fields::Fields;
use super::window::{Stop, Window};
use super::{ParseError, id3v2, sample, stream};

/// Length of the `DSD ` and `fmt ` chunks together.
const HEAD_LEN: usize = 80;

/// Reads a DSF file.
pub(super) fn read(window: &mut Window<'_>, meta: &mut AudioMeta, fields: &mut Fields) -> Result<(), Stop> {
    let head = window.array::<HEAD_LEN>(0)?;
    if &head[28..32] != b"fmt " {
        return Err(ParseError::Malformed("its format chunk is missing".to_owned()).into());
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
    meta.codec = Some(Codec::Dsd);
    meta.channels = u8::try_from(number(52)).unwrap_or(0);
    meta.sample_rate = number(56);
    meta.bit_depth = 1;
    meta.duration_ms = stream::millis(long(64), meta.sample_rate);
    let tag_at = long(20);
    let audio_end = if tag_at == 0 { window.len() } else { tag_at.min(window.len()) };
    // The `data` chunk has a head of 12 bytes.
    let audio = ByteRange::new(HEAD_LEN as u64 + 12, audio_end);
    stream::set_bitrate(meta, audio.len());
    sample::identify_pcm(window, audio, meta)?;
    if tag_at > 0
        && tag_at < window.len()
        && let Some(tag) = id3v2::Tag::at(window, tag_at)?
    {
        tag.read(window, fields, &mut meta.pictures)?;
    }
    Ok(())
}
