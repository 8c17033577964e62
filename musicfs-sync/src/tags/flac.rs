//! Native FLAC.
//!
//! FLAC is the bulk of most libraries, and a scan needs of it what lofty does not tell: the audio's MD5 and where
//! pictures are. So its metadata blocks are read here, with no more work than that takes.

use musicfs_core::{AudioIdentity, AudioMeta, ByteRange, Codec, PictureRef, PictureStorage};

use super::fields::Fields;
use super::vorbis::{self, Flat};
use super::window::{Stop, Window};
use super::{ParseError, picture, sample, stream};

/// Most metadata blocks of a file that are looked at.
const MAX_BLOCKS: usize = 500;
/// How much of a picture block is read to find where its picture begins.
const PICTURE_HEAD: u64 = 512;
const STREAMINFO_LEN: usize = 34;

/// Reads the file whose mark `fLaC` is at `start`.
pub(super) fn read(
    window: &mut Window<'_>,
    start: u64,
    audio_end: u64,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    meta.codec = Some(Codec::Flac);
    let mut at = start + 4;
    let mut has_info = false;
    for _ in 0..MAX_BLOCKS {
        let [kind, a, b, c] = window.array::<4>(at)?;
        let (from, len) = (at + 4, u64::from(u32::from_be_bytes([0, a, b, c])));
        at = from + len;
        match kind & 0x7f {
            0 => {
                stream_info(&window.array::<STREAMINFO_LEN>(from)?, meta);
                has_info = true;
            }
            4 => {
                vorbis::read(&mut Flat::new(from, at), window, fields, &mut meta.pictures)?;
            }
            6 => {
                let head = window.up_to(from, len.min(PICTURE_HEAD) as usize)?;
                if let Some((kind, mime, skip, len)) = picture::flac_block(head) {
                    let offset = from + skip;
                    // The block's own length is right where a picture's is not.
                    let len = len.min(at.saturating_sub(offset));
                    let storage = PictureStorage::Plain;
                    let found = PictureRef { kind, mime, offset, len, storage };
                    picture::push(&mut meta.pictures, found);
                }
            }
            _ => {}
        }
        if kind & 0x80 != 0 {
            break;
        }
    }
    if !has_info {
        return Err(ParseError::Malformed("its first block is not STREAMINFO".to_owned()).into());
    }
    if at > window.len() {
        return Err(ParseError::Truncated.into());
    }
    let audio = ByteRange::new(at, audio_end);
    stream::set_bitrate(meta, audio.len());
    meta.audio_region = Some(audio);
    if meta.identity.is_none() {
        sample::identify(window, audio, &[sample::head(audio)], meta)?;
    }
    Ok(())
}

/// Reads a STREAMINFO block.
pub(super) fn stream_info(block: &[u8; STREAMINFO_LEN], meta: &mut AudioMeta) {
    // 20 bits of sample rate, 3 of channels - 1, 5 of bits - 1, 36 of samples.
    let packed = block[10..18].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    meta.sample_rate = (packed >> 44) as u32;
    meta.channels = (packed >> 41 & 7) as u8 + 1;
    meta.bit_depth = (packed >> 36 & 31) as u8 + 1;
    let samples = packed & 0xf_ffff_ffff;
    meta.duration_ms = stream::millis(samples, meta.sample_rate);
    let mut md5 = [0; 16];
    md5.copy_from_slice(&block[18..34]);
    if md5 != [0; 16] {
        meta.identity = Some(AudioIdentity::FlacMd5 { md5, samples });
    }
}
