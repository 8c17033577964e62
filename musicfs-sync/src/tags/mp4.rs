//! MPEG-4 files: M4A, M4B, ALAC.
//!
//! lofty tells what the stream is. The tags are read here, because lofty reads the whole `ilst` atom, covers
//! included.

use lofty::config::ParseOptions;
use lofty::file::AudioFile;
use lofty::mp4::{Mp4Codec, Mp4File};
use musicfs_core::{AudioMeta, ByteRange, Codec, PictureKind, PictureRef, PictureStorage};

use super::fields::{Field, Fields};
use super::text::{self, MAX_STORED};
use super::window::{Stop, Window};
use super::{ParseError, genre, keys, picture, sample};

/// Most atoms at one level that are looked at.
const MAX_ATOMS: usize = 2000;

/// Reads an MPEG-4 file.
pub(super) fn read(window: &mut Window<'_>, meta: &mut AudioMeta, fields: &mut Fields) -> Result<(), Stop> {
    let whole = Atom { kind: *b"    ", at: 0, end: window.len() };
    let Some(movie) = whole.child(window, b"moov")? else {
        return Err(ParseError::Malformed("it has no \"moov\" atom".to_owned()).into());
    };
    read_stream(window, meta)?;
    for holder in [movie.child(window, b"udta")?, Some(movie)].into_iter().flatten() {
        let Some(tags) = holder.child(window, b"meta")? else { continue };
        // `meta` has four bytes of version and flags before its atoms; some writers leave them out.
        let bare = window.up_to(tags.at + 4, 4)?;
        let skip = if matches!(bare, b"hdlr" | b"ilst" | b"mhdr") { 0 } else { 4 };
        let tags = Atom { at: tags.at + skip, ..tags };
        if let Some(list) = tags.child(window, b"ilst")? {
            list.each(window, |window, item| read_item(window, item, meta, fields))?;
            break;
        }
    }
    identify(window, &whole, &movie, meta)
}

/// Identifies the audio by the sizes of its frames, which differ from track to track as soon as there is sound; where
/// they are all alike, by its first bytes.
fn identify(window: &mut Window<'_>, whole: &Atom, movie: &Atom, meta: &mut AudioMeta) -> Result<(), Stop> {
    let mut media = Vec::new();
    whole.each(window, |_, atom| {
        if atom.kind == *b"mdat" {
            media.push(ByteRange::new(atom.at, atom.end));
        }
        Ok(())
    })?;
    // Of a file in fragments nothing lies in one piece.
    let &[audio] = media.as_slice() else { return Ok(()) };
    let mut sizes = None;
    movie.each(window, |window, track| {
        if track.kind == *b"trak" && sizes.is_none() {
            sizes = sizes_of_audio(window, track)?;
        }
        Ok(())
    })?;
    let place = match sizes {
        Some(table) => ByteRange::new(table.at, table.end.min(table.at + sample::SAMPLE)),
        None => sample::head(audio),
    };
    sample::identify(window, audio, &[place], meta)
}

/// Returns the table of the sizes of a track's frames when it is one of audio and they differ.
fn sizes_of_audio(window: &mut Window<'_>, track: &Atom) -> Result<Option<Atom>, Stop> {
    let Some(media) = track.child(window, b"mdia")? else { return Ok(None) };
    let Some(handler) = media.child(window, b"hdlr")? else { return Ok(None) };
    if window.up_to(handler.at + 8, 4)? != b"soun" {
        return Ok(None);
    }
    let mut at = media;
    for kind in [b"minf", b"stbl", b"stsz"] {
        let Some(child) = at.child(window, kind)? else { return Ok(None) };
        at = child;
    }
    // Version and flags, then one size for all, which is 0 where they differ.
    Ok((window.up_to(at.at + 4, 4)? == [0; 4]).then_some(at))
}

/// Takes from lofty what the stream is.
fn read_stream(window: &mut Window<'_>, meta: &mut AudioMeta) -> Result<(), Stop> {
    let all = ByteRange::new(0, window.len());
    let options = ParseOptions::new().read_tags(false).read_cover_art(false);
    let file =
        window.stream(all, |view| Mp4File::read_from(view, options))?.map_err(ParseError::malformed)?;
    let stream = file.properties();
    meta.codec = stream.codec().and_then(|codec| match codec {
        Mp4Codec::AAC => Some(Codec::Aac),
        Mp4Codec::ALAC => Some(Codec::Alac),
        Mp4Codec::MP3 => Some(Codec::Mp3),
        Mp4Codec::FLAC => Some(Codec::Flac),
        _ => None,
    });
    meta.duration_ms = u64::try_from(stream.duration().as_millis()).unwrap_or(0);
    meta.sample_rate = stream.sample_rate().unwrap_or(0);
    meta.channels = stream.channels().unwrap_or(0);
    if matches!(meta.codec, Some(Codec::Alac | Codec::Flac)) {
        meta.bit_depth = stream.bit_depth().unwrap_or(0);
    }
    meta.bitrate_kbps = stream.audio_bitrate().unwrap_or(0);
    Ok(())
}

/// An atom: its kind, and where its content lies.
#[derive(Clone, Copy)]
struct Atom {
    kind: [u8; 4],
    at: u64,
    end: u64,
}

impl Atom {
    /// Reads the head of the atom at `at`, in one that ends at `end`.
    fn read(window: &mut Window<'_>, at: u64, end: u64) -> Result<Option<Self>, Stop> {
        if at + 8 > end {
            return Ok(None);
        }
        let [a, b, c, d, kind @ ..] = window.array::<8>(at)?;
        let (head, len) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, end - at),
            1 if at + 16 <= end => (16, u64::from_be_bytes(window.array(at + 8)?)),
            len => (8, u64::from(len)),
        };
        if len < head {
            return Ok(None);
        }
        Ok(Some(Self { kind, at: at + head, end: at.saturating_add(len).min(end) }))
    }

    /// Visits the atoms inside.
    fn each(
        &self,
        window: &mut Window<'_>,
        mut visit: impl FnMut(&mut Window<'_>, &Atom) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut at = self.at;
        for _ in 0..MAX_ATOMS {
            let Some(atom) = Self::read(window, at, self.end)? else { break };
            visit(window, &atom)?;
            at = atom.end;
        }
        Ok(())
    }

    /// Finds the first atom of a kind inside.
    fn child(&self, window: &mut Window<'_>, kind: &[u8; 4]) -> Result<Option<Self>, Stop> {
        let mut at = self.at;
        for _ in 0..MAX_ATOMS {
            let Some(atom) = Self::read(window, at, self.end)? else { break };
            if atom.kind == *kind {
                return Ok(Some(atom));
            }
            at = atom.end;
        }
        Ok(None)
    }

    fn len(&self) -> u64 {
        self.end - self.at
    }

    /// Returns the content when it can be a text.
    fn content(&self, window: &mut Window<'_>) -> Result<Vec<u8>, Stop> {
        if self.len() > MAX_STORED as u64 {
            return Ok(Vec::new());
        }
        Ok(window.up_to(self.at, self.len() as usize)?.to_vec())
    }
}

/// Reads one tag: its `data` atoms, each a value.
fn read_item(
    window: &mut Window<'_>,
    item: &Atom,
    meta: &mut AudioMeta,
    fields: &mut Fields,
) -> Result<(), Stop> {
    let mut name = Vec::new();
    item.each(window, |window, part| {
        match &part.kind {
            // Version and flags precede the text.
            b"name" => name = part.content(window)?.get(4..).unwrap_or_default().to_vec(),
            b"data" if part.len() >= 8 => {
                let kind = u32::from_be_bytes(window.array(part.at)?) & 0xff_ffff;
                let value = Atom { at: part.at + 8, ..*part };
                if &item.kind == b"covr" {
                    add_cover(window, kind, &value, meta)?;
                } else {
                    let content = value.content(window)?;
                    add_value(&item.kind, &name, kind, &content, fields);
                }
            }
            _ => {}
        }
        Ok(())
    })
}

fn add_cover(window: &mut Window<'_>, kind: u32, value: &Atom, meta: &mut AudioMeta) -> Result<(), Stop> {
    let mime = match kind {
        12 => "image/gif".to_owned(),
        13 => "image/jpeg".to_owned(),
        14 => "image/png".to_owned(),
        27 => "image/bmp".to_owned(),
        _ => picture::mime_of_content(window.up_to(value.at, value.len().min(12) as usize)?),
    };
    let (offset, len, storage) = (value.at, value.len(), PictureStorage::Plain);
    picture::push(&mut meta.pictures, PictureRef { kind: PictureKind::Front, mime, offset, len, storage });
    Ok(())
}

fn add_value(item: &[u8; 4], name: &[u8], kind: u32, content: &[u8], fields: &mut Fields) {
    let word = |at: usize| content.get(at..at + 2).map_or(0, |b| u32::from(u16::from_be_bytes([b[0], b[1]])));
    let field = match item {
        b"\xa9nam" => Field::Title,
        b"\xa9ART" => Field::Artist,
        b"\xa9alb" => Field::Album,
        b"aART" => Field::AlbumArtist,
        b"\xa9day" => Field::Date,
        b"\xa9gen" => Field::Genre,
        b"\xa9wrt" => Field::Composer,
        b"\xa9cmt" => Field::Comment,
        b"sonm" => Field::TitleSort,
        b"soar" => Field::ArtistSort,
        b"soal" => Field::AlbumSort,
        b"soaa" => Field::AlbumArtistSort,
        b"soco" => Field::ComposerSort,
        b"trkn" => {
            fields.add_number(Field::Track, word(2));
            return fields.add_number(Field::TrackTotal, word(4));
        }
        b"disk" => {
            fields.add_number(Field::Disc, word(2));
            return fields.add_number(Field::DiscTotal, word(4));
        }
        // ID3v1's number, from 1.
        b"gnre" => {
            let name = word(0).checked_sub(1).and_then(|n| genre::by_number(&n.to_string()));
            return fields.add(Field::Genre, name.unwrap_or_default());
        }
        b"cpil" => {
            let set = content.iter().any(|b| *b != 0);
            return fields.add(Field::Compilation, if set { "1" } else { "0" });
        }
        b"----" => match keys::extra_field_of(name) {
            Some(field) => field,
            None => return,
        },
        _ => return,
    };
    const UTF16: u32 = 2;
    let value = if kind == UTF16 { text::utf16(content, true) } else { text::utf8(content) };
    fields.add_each(field, &value);
}
