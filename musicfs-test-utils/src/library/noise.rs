//! Large files of several formats: a sample, stretched with noise that no decoder makes sense of.

use musicfs_core::AudioMeta;

use super::{Sample, TrackError, ogg_flac, tagging};

/// Bytes of noise in a page of Ogg.
const PAGE: usize = 8_000;
/// Where in a page its position is, and where its number.
const POSITION: std::ops::Range<usize> = 6..14;
const NUMBER: std::ops::Range<usize> = 18..22;

/// Returns a file of the sample's format with `tags` and about `bytes` bytes of audio, nearly all noise, which is the
/// same for the same `seed`. Its tags and headers are sound; it cannot be played.
///
/// # Errors
/// [`TrackError::Tags`] when the format cannot hold the tags, or is one that is not made here: all are but MPEG audio,
/// MPEG-4 and Ogg.
pub fn noise_track(sample: Sample, tags: &AudioMeta, bytes: usize, seed: u64) -> Result<Vec<u8>, TrackError> {
    let noise = noise(bytes, seed);
    let plain = sample.bytes();
    let stretched = match sample {
        // What follows the first frames is not looked at.
        Sample::Mp3Cbr | Sample::Mp3Vbr => Some([plain, &noise].concat()),
        Sample::Aac | Sample::Alac => stretched_mp4(plain, &noise),
        Sample::Vorbis | Sample::Opus | Sample::Speex | Sample::OggFlac => stretched_ogg(plain, &noise),
        _ => None,
    };
    let stretched = stretched
        .ok_or_else(|| TrackError::Tags { sample, reason: "files of noise are not made of it".to_owned() })?;
    tagging::tagged_bytes(sample, stretched, tags, None)
}

/// Returns bytes that differ everywhere, the same for the same `seed`: content-defined cuts fall in them where they
/// would in music.
pub fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    // xorshift64*
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Noise without a byte of 0xFF or 0, so that nothing in it is taken for a mark.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 56) as u8).clamp(1, 0xfe)
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Puts noise at the end of the media.
fn stretched_mp4(file: &[u8], noise: &[u8]) -> Option<Vec<u8>> {
    let at = file.windows(4).position(|kind| kind == b"mdat")?.checked_sub(4)?;
    let len = u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?);
    let (before, after) = file.split_at_checked(at + len as usize)?;
    let mut out = [before, noise, after].concat();
    out[at..at + 4].copy_from_slice(&(len + u32::try_from(noise.len()).ok()?).to_be_bytes());
    Some(out)
}

/// Puts pages of noise before the last page.
fn stretched_ogg(file: &[u8], noise: &[u8]) -> Option<Vec<u8>> {
    let pages = ogg_flac::split(file)?;
    let (last, before) = pages.split_last()?;
    let mut out = before.concat();
    let mut number = u32::try_from(before.len()).ok()?;
    for packet in noise.chunks(PAGE) {
        for mut page in ogg_flac::paginate(packet, last.get(14..18)?, &mut number) {
            // A position that header packets do not have.
            page[POSITION].copy_from_slice(&1_u64.to_le_bytes());
            ogg_flac::checksum(&mut page);
            out.extend_from_slice(&page);
        }
    }
    let mut last = last.to_vec();
    last[NUMBER].copy_from_slice(&number.to_le_bytes());
    ogg_flac::checksum(&mut last);
    out.extend_from_slice(&last);
    Some(out)
}
