//! What a file is, by its content.

use musicfs_core::Format;

use super::ParseError;
use super::id3v2;
use super::mpeg::{self, Frame};
use super::trailing::ApeTag;
use super::window::{Stop, Window};

/// Most tags before the audio that are looked at.
const MAX_LEADING: usize = 8;

/// A tag before the audio.
#[derive(Debug)]
pub(super) enum Leading {
    Id3v2(id3v2::Tag),
    Ape(ApeTag),
}

/// What a file is, and where its audio begins.
#[derive(Debug)]
pub(super) struct Recognised {
    pub(super) format: Format,
    /// Offset of the format's mark, or of the first frame.
    pub(super) start: u64,
    /// Tags before that, in order.
    pub(super) leading: Vec<Leading>,
    /// The first frame, of formats made of frames.
    pub(super) frame: Option<Frame>,
}

/// Recognises a file by its content, past any tags at its head.
pub(super) fn recognise(window: &mut Window<'_>) -> Result<Recognised, Stop> {
    if window.len() == 0 {
        return Err(ParseError::Empty.into());
    }
    let mut leading = Vec::new();
    let mut at = 0;
    for _ in 0..MAX_LEADING {
        let found = if let Some(tag) = id3v2::Tag::at(window, at)? {
            at = tag.end();
            Leading::Id3v2(tag)
        } else if let Some(tag) = ApeTag::starting_at(window, at)? {
            at = tag.end();
            Leading::Ape(tag)
        } else {
            break;
        };
        leading.push(found);
        if at >= window.len() {
            return Err(ParseError::Truncated.into());
        }
    }
    // Some writers pad behind their tag without counting it.
    let start = if leading.is_empty() { at } else { skip_padding(window, at)? };
    let head = window.up_to(start, 16)?.to_vec();
    if let Some(format) = by_mark(&head) {
        return Ok(Recognised { format, start, leading, frame: None });
    }
    if let Some(name) = unsupported(&head) {
        return Err(ParseError::Unsupported(name).into());
    }
    match mpeg::find(window, start)? {
        Some((start, frame)) => {
            let format = if frame.is_adts() { Format::Aac } else { Format::Mp3 };
            Ok(Recognised { format, start, leading, frame: Some(frame) })
        }
        None if leading.is_empty() => Err(ParseError::Unrecognised.into()),
        None => Err(ParseError::NoAudio.into()),
    }
}

/// Skips zeros within the bound of the search for frames.
fn skip_padding(window: &mut Window<'_>, from: u64) -> Result<u64, Stop> {
    const PIECE: u64 = 2048;
    let end = from.saturating_add(mpeg::SEARCH).min(window.len());
    let mut at = from;
    while at < end {
        let piece = window.up_to(at, (end - at).min(PIECE) as usize)?;
        match piece.iter().position(|b| *b != 0) {
            Some(zeros) => return Ok(at + zeros as u64),
            None => at += piece.len() as u64,
        }
    }
    Ok(from)
}

fn by_mark(head: &[u8]) -> Option<Format> {
    Some(match head {
        [b'f', b'L', b'a', b'C', ..] => Format::Flac,
        [b'O', b'g', b'g', b'S', 0, ..] => Format::Ogg,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'R', b'F', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'B', b'W', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Format::Wav,
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => Format::Aiff,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Format::Mp4,
        [b'w', b'v', b'p', b'k', ..] => Format::WavPack,
        [b'M', b'A', b'C', b' ', ..] => Format::Ape,
        [b'M', b'P', b'C', b'K', ..] => Format::Mpc,
        [b'M', b'P', b'+', version, ..] if version & 0x0f == 7 => Format::Mpc,
        [b'D', b'S', b'D', b' ', ..] => Format::Dsf,
        _ => return None,
    })
}

/// Names formats of audio that cannot be read, so that the user is told more than that the file is unknown.
fn unsupported(head: &[u8]) -> Option<&'static str> {
    Some(match head {
        [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, ..] => "Windows Media",
        [b'F', b'R', b'M', b'8', ..] => "DSDIFF",
        [b'T', b'T', b'A', b'1' | b'2', ..] => "True Audio",
        [b't', b'B', b'a', b'K', ..] => "TAK",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "Matroska",
        [b'a', b'j', b'k', b'g', ..] => "Shorten",
        [b'O', b'F', b'R', b' ', ..] => "OptimFROG",
        [b'c', b'a', b'f', b'f', ..] => "Core Audio",
        [b'.', b's', b'n', b'd', ..] => "Sun audio",
        [b'.', b'r', b'a', 0xfd, ..] | [b'.', b'R', b'M', b'F', ..] => "RealAudio",
        [b'r', b'i', b'f', b'f', 0x2e, 0x91, ..] => "Wave64",
        [0x0b, 0x77, ..] => "AC-3",
        [0x7f, 0xfe, 0x80, 0x01, ..] => "DTS",
        _ => return None,
    })
}
