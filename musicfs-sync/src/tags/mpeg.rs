//! MPEG audio (layers I to III) and ADTS AAC: frames, found within a bound, and what they tell.
//!
//! lofty searches for frames without a bound, reads every frame of an ADTS file, and looks for the last frame of an
//! MPEG file backwards byte by byte; here the first frames and the file's length decide.

use musicfs_core::{AudioMeta, Codec};

use super::stream;
use super::window::{Stop, Window};

/// How far behind a file's leading tags the first frame is looked for.
pub(super) const SEARCH: u64 = 64 * 1024;
/// How many frames in a row make a stream where it does not begin at once: chance makes one, seldom two.
const FRAMES_IN_A_ROW: usize = 3;
/// How many frames at the head the average bitrate is taken from, where no header tells it.
const SAMPLED_FRAMES: usize = 400;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    kind: Kind,
    /// Length of the frame, header included.
    len: u32,
    sample_rate: u32,
    channels: u8,
    samples: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// MPEG audio of version 1, or of 2 and 2.5, where all is halved.
    Mpeg {
        version1: bool,
        layer: u8,
    },
    Adts,
}

impl Frame {
    fn parse(head: &[u8]) -> Option<Self> {
        let &[0xff, b, c, d, ..] = head else { return None };
        if b & 0xe0 != 0xe0 {
            return None;
        }
        if b & 0xf6 == 0xf0 { Self::parse_adts(head) } else { Self::parse_mpeg(b, c, d) }
    }

    fn parse_mpeg(b: u8, c: u8, d: u8) -> Option<Self> {
        // kbit/s by bitrate index: layers I, II and III of version 1, then I, and II with III, of version 2.
        const RATES: [[u32; 15]; 5] = [
            [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
            [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
            [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
            [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
            [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
        ];
        let version = b >> 3 & 3;
        let layer = 4 - (b >> 1 & 3);
        let (version1, rate_divisor) = match version {
            3 => (true, 1),
            2 => (false, 2),
            0 => (false, 4),
            _ => return None,
        };
        let table = match (version1, layer) {
            (true, 1..=3) => usize::from(layer) - 1,
            (false, 1) => 3,
            (false, 2 | 3) => 4,
            _ => return None,
        };
        // Index 0 is the free format, which nobody uses; 15 is forbidden.
        let kbps = *RATES[table].get(usize::from(c >> 4)).filter(|rate| **rate > 0)?;
        let sample_rate = *[44_100, 48_000, 32_000].get(usize::from(c >> 2 & 3))? / rate_divisor;
        let padding = u32::from(c >> 1 & 1);
        // An emphasis of 2 is reserved: a mark of chance.
        if d & 3 == 2 {
            return None;
        }
        let (samples, len) = match (layer, version1) {
            (1, _) => (384, (12_000 * kbps / sample_rate + padding) * 4),
            (3, false) => (576, 72_000 * kbps / sample_rate + padding),
            _ => (1152, 144_000 * kbps / sample_rate + padding),
        };
        let channels = if d >> 6 == 3 { 1 } else { 2 };
        (len > 4).then_some(Self {
            kind: Kind::Mpeg { version1, layer },
            len,
            sample_rate,
            channels,
            samples,
        })
    }

    fn parse_adts(head: &[u8]) -> Option<Self> {
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
            7_350,
        ];
        let &[_, b, c, d, e, f, g, ..] = head else { return None };
        let sample_rate = *RATES.get(usize::from(c >> 2 & 15))?;
        let channels = match (c & 1) << 2 | d >> 6 {
            7 => 8,
            n => n,
        };
        let len = u32::from(d & 3) << 11 | u32::from(e) << 3 | u32::from(f >> 5);
        let samples = (u32::from(g & 3) + 1) * 1024;
        let header_len = if b & 1 == 0 { 9 } else { 7 };
        (len > header_len).then_some(Self { kind: Kind::Adts, len, sample_rate, channels, samples })
    }

    /// Tells whether `next` may follow in the same stream.
    fn goes_with(&self, next: &Self) -> bool {
        self.kind == next.kind && self.sample_rate == next.sample_rate
    }

    /// Tells whether this is ADTS AAC, not MPEG audio.
    pub(super) fn is_adts(&self) -> bool {
        self.kind == Kind::Adts
    }
}

/// Looks for the first frame from `from` on, within [`SEARCH`] bytes. Returns it with its offset.
pub(super) fn find(window: &mut Window<'_>, from: u64) -> Result<Option<(u64, Frame)>, Stop> {
    /// Small, so that finding a frame where it is expected asks for no block beyond.
    const PIECE: u64 = 2048;
    let end = from.saturating_add(SEARCH).min(window.len());
    let mut at = from;
    while at < end {
        let piece = window.up_to(at, (end - at).min(PIECE) as usize)?;
        let Some(mark) = piece.iter().position(|b| *b == 0xff) else {
            at += piece.len() as u64;
            continue;
        };
        at += mark as u64;
        if let Some(frame) = Frame::parse(window.up_to(at, 7)?)
            && is_stream(window, at, &frame, at == from)?
        {
            return Ok(Some((at, frame)));
        }
        at += 1;
    }
    Ok(None)
}

/// Tells whether frames follow on each other. Where the file is over, fewer will do; a lone frame only where a
/// stream is expected to begin.
fn is_stream(window: &mut Window<'_>, at: u64, first: &Frame, expected: bool) -> Result<bool, Stop> {
    let mut next = at;
    let mut frame = *first;
    for n in 1..=FRAMES_IN_A_ROW {
        next += u64::from(frame.len);
        if n == FRAMES_IN_A_ROW {
            break;
        }
        // The last frame may be cut short, or tags follow.
        if next + 7 > window.len() {
            return Ok(expected || n > 1);
        }
        match Frame::parse(window.bytes(next, 7)?) {
            Some(found) if found.goes_with(first) => frame = found,
            _ => {
                let tag = window.up_to(next, 8)?;
                let tagged =
                    tag.starts_with(b"TAG") || tag.starts_with(b"APETAGEX") || tag.starts_with(b"ID3");
                return Ok(tagged && (expected || n > 1));
            }
        }
    }
    Ok(true)
}

/// Reads what the stream whose first frame is at `at` tells, its audio ending at `end`.
pub(super) fn read(
    window: &mut Window<'_>,
    at: u64,
    frame: &Frame,
    end: u64,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    meta.codec = Some(if frame.is_adts() { Codec::Aac } else { Codec::Mp3 });
    meta.sample_rate = frame.sample_rate;
    meta.channels = frame.channels;
    let audio = end.saturating_sub(at);
    let samples = match frame_count(window, at, frame)? {
        Some(counted) => counted,
        None => estimate(window, at, frame, audio)?,
    };
    meta.duration_ms = stream::millis(samples, frame.sample_rate);
    stream::set_bitrate(meta, audio);
    Ok(())
}

/// Reads the number of samples from the header that encoders put into an empty first frame: Xing's (`Info` for a
/// constant bitrate), with LAME's delay and padding taken off, or Fraunhofer's `VBRI`.
fn frame_count(window: &mut Window<'_>, at: u64, frame: &Frame) -> Result<Option<u64>, Stop> {
    const VBRI_AT: usize = 36;
    let Kind::Mpeg { version1, layer: 3 } = frame.kind else { return Ok(None) };
    let side_info = match (version1, frame.channels) {
        (true, 2) => 32,
        (false, 1) => 9,
        _ => 17,
    };
    let head = window.up_to(at, 256)?;
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..)?.get(..4)?.try_into().ok()?));
    let xing = 4 + side_info;
    let mark = head.get(xing..xing + 4);
    let per_frame = u64::from(frame.samples);
    if matches!(mark, Some(b"Xing" | b"Info")) {
        let flags = number(xing + 4).unwrap_or(0);
        let Some(frames) = number(xing + 8).filter(|n| flags & 1 != 0 && *n > 0) else { return Ok(None) };
        // Fields are there as flags say: frames, bytes, a table, quality.
        let mut lame = xing + 8;
        for (flag, len) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
            lame += if flags & flag != 0 { len } else { 0 };
        }
        let gaps = head.get(lame + 21..lame + 24).filter(|_| head[lame].is_ascii_alphabetic());
        let trimmed = gaps.map_or(0, |gaps| {
            let packed = u32::from_be_bytes([0, gaps[0], gaps[1], gaps[2]]);
            u64::from(packed >> 12) + u64::from(packed & 0xfff)
        });
        let samples = u64::from(frames) * per_frame;
        return Ok(Some(samples.checked_sub(trimmed).unwrap_or(samples)));
    }
    if head.get(VBRI_AT..VBRI_AT + 4) == Some(b"VBRI") {
        return Ok(number(VBRI_AT + 14).filter(|n| *n > 0).map(|frames| u64::from(frames) * per_frame));
    }
    Ok(None)
}

/// Estimates the number of samples from the length of frames at the head, as far as it is held anyway.
fn estimate(window: &mut Window<'_>, at: u64, first: &Frame, audio: u64) -> Result<u64, Stop> {
    let sampled_end = window.held_to(at).min(at + audio);
    let (mut bytes, mut samples) = (0u64, 0u64);
    let mut next = at;
    for _ in 0..SAMPLED_FRAMES {
        if next + 7 > sampled_end {
            break;
        }
        let Some(frame) = Frame::parse(window.bytes(next, 7)?).filter(|frame| first.goes_with(frame)) else {
            break;
        };
        bytes += u64::from(frame.len);
        samples += u64::from(frame.samples);
        next += u64::from(frame.len);
    }
    if next >= at + audio {
        return Ok(samples);
    }
    Ok(u64::try_from(u128::from(samples) * u128::from(audio) / u128::from(bytes.max(1))).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_lengths_are_those_of_the_standard() {
        let frame = Frame::parse(&[0xff, 0xfb, 0x90, 0x00, 0, 0, 0]).unwrap();
        assert_eq!((frame.len, frame.sample_rate, frame.channels, frame.samples), (417, 44_100, 2, 1152));
        let v2 = Frame::parse(&[0xff, 0xf3, 0x44, 0xc0, 0, 0, 0]).unwrap();
        assert_eq!((v2.len, v2.sample_rate, v2.channels, v2.samples), (96, 24_000, 1, 576));
        let layer1 = Frame::parse(&[0xff, 0xff, 0x94, 0x00, 0, 0, 0]).unwrap();
        assert_eq!((layer1.len, layer1.samples), (288, 384));
    }

    #[test]
    fn chance_marks_are_no_frames() {
        for head in [
            [0xff, 0xff, 0xff, 0xff],
            [0xff, 0xe0, 0, 0],
            [0xff, 0xfb, 0x00, 0],
            [0xff, 0xfb, 0xf0, 0],
            [0xff, 0xfb, 0x9c, 0],
            [0xff, 0xfb, 0x90, 2],
            [0xfe, 0xfb, 0x90, 0],
        ] {
            let mut padded = head.to_vec();
            padded.extend([0; 3]);
            assert_eq!(Frame::parse(&padded), None, "{head:x?}");
        }
    }
}
