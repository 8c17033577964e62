//! FLAC built block by block, where speed or size matters.

use musicfs_core::AudioMeta;

/// Vendor string of the comments written here.
pub(super) const VENDOR: &str = "musicfs-test-utils";
/// Metadata block type of the Vorbis comments.
const COMMENTS: u8 = 4;
/// Metadata block type of padding.
const PADDING: u8 = 1;
/// Samples per channel in a frame of noise.
const BLOCK: usize = 4096;
/// Samples per second of noise.
const RATE: u64 = 44_100;
/// Seed of the noise; any will do as long as it stays.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns a metadata block with its header.
pub(super) fn metadata_block(kind: u8, body: &[u8], is_last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + body.len());
    out.push(kind | if is_last { 0x80 } else { 0 });
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(body);
    out
}

/// Returns a block of Vorbis comments.
pub(super) fn comment_block<'a>(
    vendor: &str,
    items: impl Iterator<Item = (&'a str, &'a str)>,
    is_last: bool,
) -> Vec<u8> {
    fn put(out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let mut list = Vec::new();
    let mut count = 0_u32;
    for (key, value) in items {
        put(&mut list, &format!("{key}={value}"));
        count += 1;
    }
    let mut body = Vec::with_capacity(list.len() + 64);
    put(&mut body, vendor);
    body.extend_from_slice(&count.to_le_bytes());
    body.extend_from_slice(&list);
    metadata_block(COMMENTS, &body, is_last)
}

/// An encoded FLAC file taken apart, to be put together again with other comments.
pub(super) struct Template {
    streaminfo: [u8; 34],
    frames: &'static [u8],
}

impl Template {
    /// Takes apart a file; `None` when it is not FLAC.
    pub(super) fn of(file: &'static [u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(b"fLaC")?;
        let mut streaminfo = None;
        loop {
            let (head, after) = rest.split_at_checked(4)?;
            let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            let (body, after) = after.split_at_checked(len)?;
            rest = after;
            if head[0] & 0x7f == 0 {
                streaminfo = body.try_into().ok();
            }
            if head[0] & 0x80 != 0 {
                return Some(Self { streaminfo: streaminfo?, frames: rest });
            }
        }
    }

    /// Writes a file with `items` for comments to `out`, padded to `size` bytes where it is shorter.
    pub(super) fn write<'a>(
        &self,
        out: &mut Vec<u8>,
        items: impl Iterator<Item = (&'a str, &'a str)>,
        size: usize,
    ) {
        out.clear();
        out.extend_from_slice(b"fLaC");
        out.extend_from_slice(&metadata_block(0, &self.streaminfo, false));
        out.extend_from_slice(&comment_block(VENDOR, items, false));
        let padding = size.saturating_sub(out.len() + self.frames.len() + 4);
        out.extend_from_slice(&metadata_block(PADDING, &vec![0; padding], true));
        out.extend_from_slice(self.frames);
    }
}

/// Returns a valid FLAC file of about `bytes` bytes: stereo noise at 44.1 kHz that no encoder can make smaller, with
/// `audio`'s title, artist, album and track number.
pub fn noise_flac(audio: &AudioMeta, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(BLOCK * 4);
    let mut state = SEED;
    while noise.len() < BLOCK * 4 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.push((state >> 56) as u8);
    }
    let frames = (bytes / (BLOCK * 4)).max(1) as u64;
    let mut out = b"fLaC".to_vec();
    out.reserve(bytes + BLOCK * 8);
    out.extend_from_slice(&metadata_block(0, &streaminfo(frames * BLOCK as u64), false));
    let track = audio.track.map(|n| n.to_string());
    let items = [
        ("TITLE", audio.title.as_deref()),
        ("ARTIST", audio.artists.first().map(String::as_str)),
        ("ALBUM", audio.album.as_deref()),
        ("TRACKNUMBER", track.as_deref()),
    ];
    let items = items.into_iter().filter_map(|(key, value)| Some((key, value?)));
    out.extend_from_slice(&comment_block(VENDOR, items, true));
    let table = crc16_table();
    for number in 0..frames {
        push_frame(&mut out, number, &noise, &table);
    }
    out
}

/// STREAMINFO of stereo, 16 bits, fixed blocks; no MD5, which FLAC allows.
fn streaminfo(samples: u64) -> [u8; 34] {
    let mut info = [0; 34];
    info[0..2].copy_from_slice(&(BLOCK as u16).to_be_bytes());
    info[2..4].copy_from_slice(&(BLOCK as u16).to_be_bytes());
    let packed = RATE << 44 | 1 << 41 | 15 << 36 | samples;
    info[10..18].copy_from_slice(&packed.to_be_bytes());
    info
}

/// A frame of two verbatim subframes.
fn push_frame(out: &mut Vec<u8>, number: u64, noise: &[u8], table: &[u16; 256]) {
    let start = out.len();
    // Sync and fixed block size; 4096 samples at 44.1 kHz; two channels of 16 bits; frame number.
    out.extend_from_slice(&[0xff, 0xf8, 0xc9, 0x18]);
    out.extend_from_slice(&coded_number(number));
    out.push(crc8(&out[start..]));
    for channel in noise.chunks(BLOCK * 2) {
        // Verbatim, no wasted bits.
        out.push(0x02);
        out.extend_from_slice(channel);
    }
    let crc =
        out[start..].iter().fold(0_u16, |crc, byte| (crc << 8) ^ table[usize::from((crc >> 8) as u8 ^ byte)]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// The number coded as UTF-8 codes a character, surrogates included.
fn coded_number(number: u64) -> Vec<u8> {
    let tail = |shift: u32| 0x80 | (number >> shift & 0x3f) as u8;
    match number {
        0..0x80 => vec![number as u8],
        0x80..0x800 => vec![0xc0 | (number >> 6) as u8, tail(0)],
        0x800..0x1_0000 => vec![0xe0 | (number >> 12) as u8, tail(6), tail(0)],
        _ => vec![0xf0 | (number >> 18 & 0x07) as u8, tail(12), tail(6), tail(0)],
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| (crc << 1) ^ if crc & 0x80 != 0 { 0x07 } else { 0 })
    })
}

fn crc16_table() -> [u16; 256] {
    std::array::from_fn(|n| {
        (0..8).fold((n as u16) << 8, |crc, _| (crc << 1) ^ if crc & 0x8000 != 0 { 0x8005 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use lofty::file::{AudioFile, TaggedFileExt};
    use lofty::probe::Probe;
    use lofty::tag::Accessor;

    use super::*;

    #[test]
    fn noise_is_a_flac_file_of_the_size_asked_for() {
        let audio = AudioMeta { title: Some("Noise".into()), track: Some(7), ..AudioMeta::default() };
        let bytes = noise_flac(&audio, 3_000_000);
        assert!((2_900_000..3_100_000).contains(&bytes.len()));
        let file = Probe::new(Cursor::new(&bytes)).guess_file_type().unwrap().read().unwrap();
        assert_eq!(file.primary_tag().unwrap().title().as_deref(), Some("Noise"));
        assert_eq!(file.properties().sample_rate(), Some(44_100));
        assert!(file.properties().duration().as_secs() >= 16);
    }

    #[test]
    fn coded_number_is_the_utf8_of_the_character() {
        for n in [0, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x1_0000, 0x10_ffff] {
            let mut buffer = [0; 4];
            let wanted = char::from_u32(n).map(|c| c.encode_utf8(&mut buffer).as_bytes().to_vec());
            assert_eq!(Some(coded_number(n.into())), wanted);
        }
    }
}
