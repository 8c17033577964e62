//! Recognises audio files by their content, and reads what their tags and stream headers say.
//!
//! A file is read over a *window* on it, which holds the parts fetched so far; a parser that needs a part
//! that is not there stops, the part is fetched, and the parser runs again. So one set of parsers, none of them
//! async, serves local files ([`parse_file`]) and origins ([`parse_origin`]), and no thread waits for a network.
//!
//! # What is read
//! The head, and where a format keeps tags or the length at the end, that too; both in pieces of 64 KiB from an
//! origin, or with more of the head where that is kept for others. Pictures are located ([`PictureRef`](musicfs_core::PictureRef)) and passed over. lofty is used where it
//! reads no more than that: for the streams of MPEG-4, Monkey's Audio and Musepack. Tags, FLAC, Ogg, WavPack,
//! frames of MPEG audio and chunked files are read by own code, which stays within bounds that lofty does not
//! keep; each module says which.
//!
//! # Invariants
//! * At most 4 MiB are fetched of a file, and one with neither tags nor audio is given up after 256 KiB.
//! * Nothing that a file holds makes a parser panic or loop: reads in one run are counted, tables are bounded, and
//!   a panic in a dependency becomes a [`ParseError`].
//! * Text is taken as it is tagged, with blanks and control characters at its ends removed; bytes that are no text
//!   are replaced, never refused.
//!
//! # What is not done
//! Audio is not decoded, files are not checked for damage behind their headers, and nothing is written.

mod chunks;
mod dsf;
mod fields;
mod flac;
mod genre;
mod id3v2;
mod keys;
mod mp4;
mod mpeg;
mod names;
mod ogg;
mod others;
mod picture;
mod recognise;
mod sample;
mod stream;
mod text;
mod trailing;
mod vorbis;
mod wavpack;
mod window;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use musicfs_core::{
    AudioMeta, ByteRange, FileVersion, Format, Origin, OriginError, OriginErrorKind, OriginPath,
};

pub use names::{SidecarKind, is_ignored, looks_like_music, sidecar_kind};

use fields::Fields;
use recognise::{Leading, recognise};
use trailing::Trailing;
pub(crate) use window::Parts;
use window::{Stop, Window};

/// Most times that an origin is asked for more of one file.
const MAX_FETCHES: usize = 64;

/// What was found in an audio file.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedAudio {
    /// The container.
    pub format: Format,
    /// Tags and stream.
    pub audio: AudioMeta,
    /// How many bytes were read to find it out.
    pub bytes_read: u64,
}

/// Why a file is not shown as music: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is of no known kind.
    #[error(
        "not an audio file of a known format: no mark of one at its start, no MPEG audio in the first 64 KiB"
    )]
    Unrecognised,
    /// The content is audio of a kind that is not read.
    #[error("{0} files are not supported")]
    Unsupported(&'static str),
    /// There are tags, but no audio behind them.
    #[error("no MPEG audio found in the first 64 KiB behind its tags")]
    NoAudio,
    /// The file ends where its header goes on.
    #[error("truncated: the file ends inside its header")]
    Truncated,
    /// The header contradicts the format.
    #[error("damaged: {0}")]
    Malformed(String),
    /// More would have to be read than any sound file needs.
    #[error("damaged or overlong header: nothing conclusive in 4 MiB")]
    TooMuch,
    /// More steps would have to be made than any sound file needs.
    #[error("damaged: its header leads nowhere")]
    TooInvolved,
    /// A parser failed; the file is at fault, and so is the parser.
    #[error("the parser failed on this file: {0}")]
    Panicked(String),
    /// The file could not be read: it says nothing about its content, and may go by itself.
    #[error("could not be read")]
    Read(#[source] io::Error),
}

impl ParseError {
    /// Sorts what lofty says, on one line.
    fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(one_line(&error.to_string()))
    }

    /// Tells whether the file's content is at fault, so that trying again before it changes is no use.
    pub const fn is_about_content(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// Why a file on an origin was not parsed.
#[derive(Debug, thiserror::Error)]
pub enum ParseFailure {
    /// It was read, and is not what can be parsed.
    #[error(transparent)]
    Unparsable(#[from] ParseError),
    /// It could not be read; nothing is known of its content.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// Parses a local file of `len` bytes. Blocks on reading it.
///
/// The file's position is neither used nor moved.
///
/// # Errors
/// [`ParseError::Read`] when it cannot be read or is shorter than `len`, else why it cannot be parsed.
pub fn parse_file(file: &File, len: u64) -> Result<ParsedAudio, ParseError> {
    let mut window = Window::local(file, len);
    match run(&mut window) {
        Ok(parsed) => Ok(parsed),
        Err(Stop::Failed(error)) => Err(error),
        // A local window fetches by itself.
        Err(Stop::Missing(range)) => {
            Err(ParseError::Read(io::Error::other(format!("bytes {range} were not read"))))
        }
    }
}

/// Parses a version of a file on an origin, reading as little of it as can be.
///
/// Cancel safety: dropping the future drops the reads under way; nothing is kept.
///
/// # Errors
/// [`ParseFailure::Origin`] when a read fails, else why the file cannot be parsed.
pub async fn parse_origin(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
) -> Result<ParsedAudio, ParseFailure> {
    let window = Window::remote(version.size);
    Ok(parse_window(origin, path, version, window, 0).await?.0)
}

/// As [`parse_origin`], with at least `head` bytes of the beginning; returns as well what was read.
pub(crate) async fn parse_new(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
    head: u64,
) -> Result<(ParsedAudio, Parts), ParseFailure> {
    let (parsed, window) = parse_window(origin, path, version, Window::remote(version.size), head).await?;
    Ok((parsed, window.into_parts()))
}

/// As [`parse_new`], for a file that is known: its tags are likely to be all that changed, so that less of it is
/// asked for at first.
pub(crate) async fn parse_changed(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
) -> Result<(ParsedAudio, Parts), ParseFailure> {
    let window = Window::remote_frugal(version.size);
    let (parsed, window) = parse_window(origin, path, version, window, 0).await?;
    Ok((parsed, window.into_parts()))
}

async fn parse_window(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
    mut window: Window<'static>,
    head: u64,
) -> Result<(ParsedAudio, Window<'static>), ParseFailure> {
    prefetch(origin, path, version, &mut window, head).await?;
    for _ in 0..MAX_FETCHES {
        match run(&mut window) {
            Ok(parsed) => return Ok((parsed, window)),
            Err(Stop::Failed(error)) => return Err(error.into()),
            Err(Stop::Missing(range)) => {
                let bytes = fetch(origin, path, version, range).await?;
                window.insert(range.start(), &bytes);
            }
        }
    }
    Err(ParseError::TooInvolved.into())
}

/// Fetches the head, and at the same time the end of a file whose name tells that it will be needed.
async fn prefetch(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
    window: &mut Window<'_>,
    head: u64,
) -> Result<(), OriginError> {
    let block = window.block();
    let head = ByteRange::at(0, head.max(block)).clamp_to(version.size);
    let tail = ByteRange::new(version.size.saturating_sub(block).max(head.end()), version.size);
    if head.is_empty() {
        return Ok(());
    }
    if tail.is_empty() || !names::has_tags_at_end(path) {
        let bytes = fetch(origin, path, version, head).await?;
        window.insert(0, &bytes);
        return Ok(());
    }
    let both =
        futures::future::try_join(fetch(origin, path, version, head), fetch(origin, path, version, tail));
    let (first, last) = both.await?;
    window.insert(0, &first);
    window.insert(tail.start(), &last);
    Ok(())
}

/// Reads a range of any length, in as many reads as the origin needs.
async fn fetch(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
    range: ByteRange,
) -> Result<Bytes, OriginError> {
    let longest = origin.caps().max_range.max(1);
    let read = async |part: ByteRange| {
        let bytes = origin.read(path, version, part).await?;
        if bytes.len() as u64 == part.len() {
            return Ok(bytes);
        }
        let said = format!("{} bytes came for the range {part}", bytes.len());
        Err(OriginError::new(origin.id(), path, OriginErrorKind::Corrupt).with_source(said))
    };
    if range.len() <= longest {
        return read(range).await;
    }
    let mut all = Vec::with_capacity(range.len() as usize);
    let mut at = range.start();
    while at < range.end() {
        let part = ByteRange::new(at, at.saturating_add(longest).min(range.end()));
        all.extend_from_slice(&read(part).await?);
        at = part.end();
    }
    Ok(all.into())
}

/// Runs the parsers once over what is held.
fn run(window: &mut Window<'_>) -> Result<ParsedAudio, Stop> {
    window.restart();
    guarded(|| parse(window))
}

/// Turns a panic of a parser into a failure of the file: lofty panics on some damaged ones.
fn guarded<T>(parse: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    // What a parser leaves half done is dropped with its window, or run anew from the start.
    match catch_unwind(AssertUnwindSafe(parse)) {
        Ok(parsed) => parsed,
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(ParseError::Panicked(one_line(&text)).into())
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse(window: &mut Window<'_>) -> Result<ParsedAudio, Stop> {
    let found = recognise(window)?;
    let mut audio = AudioMeta::default();
    let mut fields = Fields::default();
    let (meta, start) = (&mut audio, found.start);
    // Formats with tags of their own at the head prefer those to an ID3v2 tag that a tool put before them.
    match found.format {
        Format::Flac => {
            let end = window.len();
            flac::read(window, start, end, meta, &mut fields)?;
            read_leading(window, &found.leading, &mut fields, meta)?;
        }
        Format::Ogg => {
            ogg::read(window, start, meta, &mut fields)?;
            read_leading(window, &found.leading, &mut fields, meta)?;
        }
        Format::Wav => chunks::read_wav(window, start, meta, &mut fields)?,
        Format::Aiff => chunks::read_aiff(window, start, meta, &mut fields)?,
        Format::Mp4 => mp4::read(window, meta, &mut fields)?,
        Format::Dsf => dsf::read(window, meta, &mut fields)?,
        _ => read_tagged(window, &found, meta, &mut fields)?,
    }
    fields.finish(meta);
    Ok(ParsedAudio { format: found.format, audio, bytes_read: window.fetched() })
}

/// Reads the formats that are only a stream, with tags before or behind it.
fn read_tagged(
    window: &mut Window<'_>,
    found: &recognise::Recognised,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    let trailing = Trailing::find(window, found.start)?;
    let stream = ByteRange::new(found.start, trailing.start);
    match (found.format, &found.frame) {
        (_, Some(frame)) => mpeg::read(window, found.start, frame, stream.end(), meta)?,
        (Format::WavPack, _) => wavpack::read(window, stream, meta)?,
        (Format::Ape, _) => others::read_monkey(window, stream, meta)?,
        _ => others::read_musepack(window, stream, meta)?,
    }
    sample::identify(window, stream, &[sample::head(stream), sample::tail(stream)], meta)?;
    if found.frame.is_some() {
        read_leading(window, &found.leading, fields, meta)?;
        trailing.read(window, fields, &mut meta.pictures)
    } else {
        trailing.read(window, fields, &mut meta.pictures)?;
        read_leading(window, &found.leading, fields, meta)
    }
}

fn read_leading(
    window: &mut Window<'_>,
    leading: &[Leading],
    fields: &mut Fields,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    for tag in leading {
        fields.next_tag();
        match tag {
            Leading::Id3v2(tag) => tag.read(window, fields, &mut meta.pictures)?,
            Leading::Ape(tag) => tag.read(window, fields, &mut meta.pictures)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_a_parser_is_the_files_failure() {
        let failed = guarded::<()>(|| panic!("of two\nlines"));
        match failed {
            Err(Stop::Failed(error)) => {
                assert_eq!(error.to_string(), "the parser failed on this file: of two lines");
            }
            other => panic!("{other:?}"),
        }
    }
}
