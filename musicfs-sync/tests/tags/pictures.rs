//! Where pictures are said to be, their bytes are.

use lofty::tag::TagType;
use musicfs_core::{Format, PictureKind, PictureRef, PictureStorage};

use crate::formats::tagged_files;
use crate::support::{cover_bytes, parse};

/// Fetches a picture as a reader would.
fn load(file: &[u8], format: Format, picture: &PictureRef) -> Vec<u8> {
    let from = picture.offset as usize;
    let stored = &file[from..from + picture.len as usize];
    let stored = if format == Format::Ogg { without_page_headers(stored) } else { stored.to_vec() };
    match picture.storage {
        PictureStorage::Plain => stored,
        PictureStorage::Unsynchronised => synchronised(&stored),
        PictureStorage::Base64 => {
            let block = data_encoding_base64(&stored);
            let mime = u32::from_be_bytes(block[4..8].try_into().unwrap()) as usize;
            let text = u32::from_be_bytes(block[8 + mime..12 + mime].try_into().unwrap()) as usize;
            block[8 + mime + 4 + text + 20..].to_vec()
        }
    }
}

/// Takes the headers of Ogg pages out of a stretch.
pub(crate) fn without_page_headers(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = stored;
    while let Some(at) = rest.windows(5).position(|w| w == b"OggS\0") {
        out.extend(&rest[..at]);
        let segments = usize::from(rest[at + 26]);
        rest = &rest[at + 27 + segments..];
    }
    out.extend(rest);
    out
}

fn synchronised(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, byte) in raw.iter().enumerate() {
        if !(*byte == 0 && i > 0 && raw[i - 1] == 0xff) {
            out.push(*byte);
        }
    }
    out
}

fn data_encoding_base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for group in text.chunks(4) {
        let value = |b: u8| match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => 0,
        };
        let bits = group.iter().fold(0u32, |n, b| n << 6 | u32::from(value(*b)));
        let padding = group.iter().filter(|b| **b == b'=').count();
        out.extend(&bits.to_be_bytes()[1..4 - padding]);
    }
    out
}

#[test]
fn picture_of_every_format_is_where_it_is_said_to_be() {
    for (name, bytes) in tagged_files() {
        let found = parse(name, &bytes).unwrap();
        let [picture] = found.audio.pictures.as_slice() else { panic!("{name}: {:?}", found.audio.pictures) };
        assert_eq!(picture.kind, PictureKind::Front, "{name}");
        assert_eq!(picture.mime, "image/jpeg", "{name}");
        assert!(load(&bytes, found.format, picture) == cover_bytes(), "{name}: {picture:?}");
    }
}

#[test]
fn picture_across_ogg_pages_is_whole_without_their_headers() {
    let mut tag = lofty::tag::Tag::new(TagType::VorbisComments);
    let large: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
    tag.push_picture(lofty::picture::Picture::unchecked(large.clone()).build());
    let bytes = crate::support::tagged(&crate::support::sample("tone.ogg"), &tag);
    let found = parse("a.ogg", &bytes).unwrap();
    let picture = &found.audio.pictures[0];
    assert_eq!(picture.storage, PictureStorage::Base64);
    assert!(load(&bytes, found.format, picture) == large);
}

#[test]
fn ogg_flac_as_its_own_encoder_writes_it_has_its_tags_and_picture() {
    // Made by `flac --ogg` with comments and a picture block.
    let bytes = crate::support::sample("tagged.oga");
    let found = parse("a.oga", &bytes).unwrap();
    assert_eq!(found.audio.title.as_deref(), Some("Träume"));
    assert_eq!(found.audio.artists, ["Ann", "Bob"]);
    assert_eq!(found.audio.sort.composer.as_deref(), Some("C., Clara"));
    let [picture] = found.audio.pictures.as_slice() else { panic!("{:?}", found.audio.pictures) };
    assert_eq!((picture.kind, picture.mime.as_str()), (PictureKind::Front, "image/png"));
    let png = load(&bytes, found.format, picture);
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xae\x42\x60\x82"));
}
