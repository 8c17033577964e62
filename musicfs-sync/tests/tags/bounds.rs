//! What is asked of an origin for large files, and that pictures, padding and audio are not.

use lofty::picture::{MimeType, Picture, PictureType};
use lofty::tag::{ItemKey, Tag, TagType};
use musicfs_core::{ByteRange, Format, OriginErrorKind};
use musicfs_sync::tags::{ParseError, ParseFailure, ParsedAudio};

use crate::support::{Counting, Sparse, dsf, dumped, fully_tagged, monkey, sample, tagged};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn big_cover(kind: TagType) -> Tag {
    let mut tag = Tag::new(kind);
    tag.insert_text(ItemKey::TrackTitle, "Titel".to_owned());
    let cover = Picture::unchecked(vec![0xd8; MIB as usize]);
    tag.push_picture(cover.pic_type(PictureType::CoverFront).mime_type(MimeType::Jpeg).build());
    tag.insert_text(ItemKey::AlbumTitle, "Album".to_owned());
    tag
}

/// Parses a file, and checks what was asked for it: at most `bytes`, in at most `requests`, and no byte twice.
fn parse(name: &str, content: Sparse, bytes: u64, requests: usize) -> ParsedAudio {
    let origin = Counting::new(content);
    let parsed = origin.parse(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(origin.asked() <= bytes, "{name}: {} KiB asked", origin.asked() / KIB);
    assert!(origin.requests() <= requests, "{name}: {:?}", origin.ranges());
    let ranges = origin.ranges();
    for (i, a) in ranges.iter().enumerate() {
        assert!(ranges[i + 1..].iter().all(|b| a.intersect(b).is_none()), "{name}: {ranges:?}");
    }
    parsed
}

fn assert_big(parsed: &ParsedAudio) {
    assert_eq!(parsed.audio.title.as_deref(), Some("Titel"));
    assert_eq!(parsed.audio.album.as_deref(), Some("Album"));
    assert_eq!(parsed.audio.pictures.len(), 1);
    assert_eq!(parsed.audio.pictures[0].len, MIB);
}

#[test]
fn flac_of_30_mb_with_a_picture_of_1_mb_takes_128_kib() {
    let head = tagged(&sample("tone.flac"), &big_cover(TagType::VorbisComments));
    let parsed = parse("a.flac", Sparse::of(&head).gap(30 * MIB), 128 * KIB, 2);
    assert_big(&parsed);
}

#[test]
fn mp3_of_30_mb_with_a_picture_of_1_mb_takes_head_end_of_tag_and_tail() {
    let audio = sample("vbr.mp3");
    let tag = dumped(&big_cover(TagType::Id3v2));
    let parsed = parse("a.mp3", Sparse::of(&tag).push(&audio).gap(30 * MIB), 192 * KIB, 3);
    assert_big(&parsed);
}

#[test]
fn m4a_of_30_mb_with_a_cover_takes_little_wherever_the_tags_are() {
    // ffmpeg wrote `moov` last; lofty keeps it there.
    let file = tagged(&sample("tone.m4a"), &big_cover(TagType::Mp4Ilst));
    let parsed = parse("a.m4a", Sparse::of(&file), 192 * KIB, 3);
    assert_big(&parsed);
    // Audio of 30 MB before it: its atom's length is at the head.
    let mdat = file.windows(4).position(|w| w == b"mdat").unwrap() - 4;
    let len = u32::from_be_bytes(file[mdat..mdat + 4].try_into().unwrap());
    let end = mdat + len as usize;
    let mut head = file[..end].to_vec();
    head[mdat..mdat + 4].copy_from_slice(&(len + 30 * MIB as u32).to_be_bytes());
    let parsed = parse("a.m4a", Sparse::of(&head).gap(30 * MIB).push(&file[end..]), 256 * KIB, 4);
    assert_big(&parsed);
    assert_eq!(parsed.audio.pictures[0].offset + MIB, file.len() as u64 + 30 * MIB - after_cover(&file));
}

/// Returns how many bytes follow the cover.
fn after_cover(file: &[u8]) -> u64 {
    let cover = file.windows(64).rposition(|w| w == [0xd8; 64]).unwrap() + 64;
    (file.len() - cover) as u64
}

#[test]
fn ogg_of_30_mb_takes_head_and_tail() {
    for name in ["tone.ogg", "tone.opus", "tone.spx", "flac.oga"] {
        let file = sample(name);
        // The last page moved behind 30 MB of what is no page.
        let last = file.windows(4).rposition(|w| w == b"OggS").unwrap();
        let content = Sparse::of(&file[..last]).gap(30 * MIB).push(&file[last..]);
        let parsed = parse(name, content, 128 * KIB, 2);
        assert!((480..=520).contains(&parsed.audio.duration_ms), "{name}: {}", parsed.audio.duration_ms);
    }
}

#[test]
fn ogg_with_a_picture_in_its_comments_is_read_through_once() {
    let file = tagged(&sample("tone.opus"), &big_cover(TagType::VorbisComments));
    let parsed = parse("a.opus", Sparse::of(&file), 2 * MIB, 8);
    assert_eq!(parsed.audio.title.as_deref(), Some("Titel"));
    assert_eq!(parsed.audio.album.as_deref(), Some("Album"));
    assert_eq!(parsed.audio.pictures.len(), 1);
    assert_eq!(parsed.audio.duration_ms, 500);
}

#[test]
fn ogg_with_a_picture_beyond_all_bounds_keeps_the_tags_before_it_and_its_length() {
    let mut tag = Tag::new(TagType::VorbisComments);
    tag.insert_text(ItemKey::TrackTitle, "Titel".to_owned());
    let cover = Picture::unchecked(vec![0xd8; 6 * MIB as usize]);
    tag.push_picture(cover.pic_type(PictureType::CoverFront).mime_type(MimeType::Jpeg).build());
    let file = tagged(&sample("tone.opus"), &tag);
    let parsed = parse("a.opus", Sparse::of(&file), 4 * MIB, 16);
    assert_eq!(parsed.audio.title.as_deref(), Some("Titel"));
    assert_eq!(parsed.audio.duration_ms, 500);
}

#[test]
fn wav_and_aiff_of_30_mb_take_two_blocks() {
    for (name, rest_at) in [("tone.wav", 4), ("tone.aiff", 4)] {
        let little = name.ends_with("wav");
        let file = tagged(&sample(name), &big_cover(TagType::Id3v2));
        let mark: &[u8] = if little { b"data" } else { b"SSND" };
        let at = file.windows(4).position(|w| w == mark).unwrap() + rest_at;
        let raw: [u8; 4] = file[at..at + 4].try_into().unwrap();
        let len = if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) };
        let end = at + 4 + len as usize;
        let longer = len + 30 * MIB as u32;
        let mut head = file[..end].to_vec();
        let raw = if little { longer.to_le_bytes() } else { longer.to_be_bytes() };
        head[at..at + 4].copy_from_slice(&raw);
        let content = Sparse::of(&head).gap(30 * MIB).push(&file[end..]);
        let parsed = parse(name, content, 192 * KIB, 3);
        assert_big(&parsed);
        if little {
            assert_eq!(parsed.audio.bitrate_kbps, 128, "{name}");
        }
    }
}

#[test]
fn adts_of_30_mb_is_not_read_for_its_length() {
    let frames = sample("tone.aac");
    let mut content = Sparse::of(&dumped(&big_cover(TagType::Id3v2)));
    let tag_len = content.len;
    for _ in 0..100 {
        content = content.push(&frames);
    }
    let audio = content.len - tag_len;
    let content = content.gap(30 * MIB);
    let parsed = parse("a.aac", content, 256 * KIB, 4);
    assert_big(&parsed);
    assert_eq!(parsed.format, Format::Aac);
    // The rate of the frames at the head, over the whole length: 53.4 s for what is there.
    let expected = 53_400 * (audio + 30 * MIB) / audio;
    let off = parsed.audio.duration_ms.abs_diff(expected);
    assert!(off < expected / 50, "{} {expected}", parsed.audio.duration_ms);
}

#[test]
fn ape_tag_with_a_cover_is_not_read_through() {
    for (name, file) in [("a.wv", sample("tone.wv")), ("a.mpc", sample("sv8.mpc")), ("a.ape", monkey())] {
        let tag = dumped(&big_cover(TagType::Ape));
        let parsed = parse(name, Sparse::of(&file).gap(30 * MIB).push(&tag), 320 * KIB, 5);
        assert_big(&parsed);
    }
}

#[test]
fn dsf_takes_its_head_and_its_tag() {
    let tag = dumped(&big_cover(TagType::Id3v2));
    let bare = dsf(b"x");
    let at = 30 * MIB;
    let mut head = bare[..bare.len() - 1].to_vec();
    let before = head.len() as u64;
    head[20..28].copy_from_slice(&(before + at).to_le_bytes());
    let parsed = parse("a.dsf", Sparse::of(&head).gap(at).push(&tag), 256 * KIB, 4);
    assert_big(&parsed);
}

#[test]
fn mp3_with_a_megabyte_of_padding_behind_its_tag_is_not_read_through() {
    let tag = dumped(&big_cover(TagType::Id3v2));
    let origin = Counting::new(Sparse::of(&tag).gap(MIB).push(&sample("cbr.mp3")));
    let failed = origin.parse("a.mp3").unwrap_err();
    assert!(matches!(failed, ParseFailure::Unparsable(ParseError::NoAudio)), "{failed}");
    assert!(origin.asked() <= 384 * KIB, "{}", origin.asked() / KIB);
}

#[test]
fn mp3_with_some_padding_behind_its_tag_is_read() {
    let tag = dumped(&big_cover(TagType::Id3v2));
    let parsed = parse("a.mp3", Sparse::of(&tag).gap(40 * KIB).push(&sample("cbr.mp3")), 256 * KIB, 4);
    assert_big(&parsed);
}

#[test]
fn garbage_named_mp3_is_given_up_early() {
    let mut noise = vec![0u8; 2 * MIB as usize];
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    for content in
        [Sparse::of(&noise), Sparse::default().gap(30 * MIB), Sparse::of(&vec![0xff; MIB as usize])]
    {
        let origin = Counting::new(content);
        let failed = origin.parse("a.mp3").unwrap_err();
        assert!(matches!(failed, ParseFailure::Unparsable(ParseError::Unrecognised)), "{failed}");
        assert!(origin.asked() <= 256 * KIB, "{}", origin.asked() / KIB);
    }
}

#[test]
fn cbr_mp3_of_30_mb_is_not_searched_for_its_last_frame() {
    let frames = sample("cbr.mp3");
    let parsed = parse("a.mp3", Sparse::of(&frames).gap(30 * MIB), 128 * KIB, 2);
    let expected = (frames.len() as u64 + 30 * MIB) * 8 / 32;
    assert!(parsed.audio.duration_ms.abs_diff(expected) < expected / 100, "{}", parsed.audio.duration_ms);
}

#[test]
fn head_and_tail_are_asked_for_at_once_where_the_name_tells_that_both_are_needed() {
    let file = sample("tone.opus");
    let last = file.windows(4).rposition(|w| w == b"OggS").unwrap();
    let len = file.len() as u64 + MIB;
    let origin = Counting::new(Sparse::of(&file[..last]).gap(MIB).push(&file[last..]));
    origin.parse("a.opus").unwrap();
    assert_eq!(origin.ranges(), [ByteRange::new(0, 64 * KIB), ByteRange::new(len - 64 * KIB, len)]);
}

#[test]
fn origin_with_short_ranges_is_asked_in_pieces() {
    let file = fully_tagged(&sample("tone.flac"), TagType::VorbisComments);
    let origin = Counting::new(Sparse::of(&file)).with_max_range(1000);
    let parsed = origin.parse("a.flac").unwrap();
    assert_eq!(parsed.audio.title.as_deref(), Some("Träume – 夢"));
    assert_eq!(parsed.bytes_read, origin.asked());
}

#[test]
fn failure_of_the_origin_is_not_the_files() {
    let mut origin = Counting::new(Sparse::of(&sample("tone.flac")));
    origin.fails = Some(OriginErrorKind::TimedOut);
    match origin.parse("a.flac").unwrap_err() {
        ParseFailure::Origin(error) => assert_eq!(error.kind, OriginErrorKind::TimedOut),
        ParseFailure::Unparsable(error) => panic!("{error}"),
    }
}
