//! What identifies audio that carries no checksum: its length as stored, and samples of it.
//!
//! Samples stand at places that follow from the audio alone, never from the tags around it, so that a file that was
//! tagged anew is still recognised; and where a parser has been anyway, so that an origin is nearly always asked
//! for nothing more:
//!
//! * formats made of frames: the first and the last bytes;
//! * FLAC without its MD5: the first bytes, which differ as soon as there is any sound;
//! * uncompressed audio: more of the first bytes, which are silence more often, and nothing when they are;
//! * Ogg: the payloads of the first and the last page with the position of the last, as their headers are
//!   numbered anew by whoever writes comments;
//! * MPEG-4: the table of the sizes of frames, which stands beside the tags.

use musicfs_core::{AudioIdentity, AudioMeta, ByteRange, ChunkHash};

use super::window::{Stop, Window};

/// Length of a sample: some frames of any codec, and a small part of what is fetched at once.
pub(super) const SAMPLE: u64 = 4 * 1024;
/// Length of a sample of uncompressed audio: a quarter of a second, within the first block fetched.
const PCM_SAMPLE: u64 = 48 * 1024;

/// Identifies audio by the bytes in `places`, and records where it lies.
pub(super) fn identify(
    window: &mut Window<'_>,
    audio: ByteRange,
    places: &[ByteRange],
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    meta.audio_region = Some(audio);
    let mut hasher = blake3::Hasher::new();
    for place in places {
        // The length goes first, so that no two lists of places look alike.
        hasher.update(&place.len().to_le_bytes());
        hasher.update(window.up_to(place.start(), place.len() as usize)?);
    }
    set(meta, audio.len(), &hasher);
    Ok(())
}

/// Records an identity.
pub(super) fn set(meta: &mut AudioMeta, bytes: u64, hasher: &blake3::Hasher) {
    let hash = ChunkHash::from_bytes(*hasher.finalize().as_bytes());
    meta.identity = Some(AudioIdentity::Sampled { bytes, hash });
}

/// The first bytes of audio.
pub(super) fn head(audio: ByteRange) -> ByteRange {
    ByteRange::new(audio.start(), audio.end().min(audio.start() + SAMPLE))
}

/// The last bytes of audio.
pub(super) fn tail(audio: ByteRange) -> ByteRange {
    ByteRange::new(audio.start().max(audio.end().saturating_sub(SAMPLE)), audio.end())
}

/// Identifies uncompressed audio, unless it begins with silence: that would make many files one.
pub(super) fn identify_pcm(
    window: &mut Window<'_>,
    audio: ByteRange,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    let place =
        ByteRange::new(audio.start(), audio.end().min(audio.start() + PCM_SAMPLE)).clamp_to(window.len());
    identify(window, audio, &[place], meta)?;
    let bytes = window.up_to(place.start(), place.len() as usize)?;
    if bytes.iter().all(|b| *b == bytes[0]) {
        meta.identity = None;
    }
    Ok(())
}
