//! ID3v2 in all its versions and dresses, built by hand, and what stands beside it.

use musicfs_core::{Format, PictureKind, PictureStorage};
use musicfs_sync::tags::ParsedAudio;

use crate::support::{cover_bytes, dumped, full_tag, parse, sample};

/// Writes a number with 7 bits in a byte.
fn synchsafe(n: usize) -> [u8; 4] {
    [(n >> 21 & 0x7f) as u8, (n >> 14 & 0x7f) as u8, (n >> 7 & 0x7f) as u8, (n & 0x7f) as u8]
}

fn tag(version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    [&[b'I', b'D', b'3', version, 0, flags][..], &synchsafe(body.len()), body].concat()
}

fn frame(version: u8, id: &str, content: &[u8]) -> Vec<u8> {
    flagged(version, id, 0, content)
}

fn flagged(version: u8, id: &str, flags: u8, content: &[u8]) -> Vec<u8> {
    let size = content.len();
    match version {
        2 => [id.as_bytes(), &(size as u32).to_be_bytes()[1..], content].concat(),
        3 => [id.as_bytes(), &(size as u32).to_be_bytes(), &[0, flags], content].concat(),
        _ => [id.as_bytes(), &synchsafe(size), &[0, flags], content].concat(),
    }
}

fn latin(text: &str) -> Vec<u8> {
    [&[0], text.as_bytes()].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    let mut out = vec![1, 0xff, 0xfe];
    out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    out
}

fn unsynchronised(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, byte) in raw.iter().enumerate() {
        out.push(*byte);
        if *byte == 0xff && raw.get(i + 1).is_none_or(|next| *next >= 0xe0 || *next == 0) {
            out.push(0);
        }
    }
    out
}

fn mp3(tag: &[u8]) -> ParsedAudio {
    let found = parse("a.mp3", &[tag, &sample("cbr.mp3")].concat()).unwrap();
    assert_eq!(found.format, Format::Mp3);
    assert!(found.audio.duration_ms.abs_diff(548) <= 1);
    found
}

fn apic() -> Vec<u8> {
    [&b"\0image/jpeg\0\x04Hinten\0"[..], &cover_bytes()].concat()
}

#[test]
fn version_2_2_is_read() {
    let pic = [&b"\0JPG\x03Vorn\0"[..], &cover_bytes()].concat();
    let body = [
        frame(2, "TT2", &latin("Titel")),
        frame(2, "TP1", &utf16("Ann\0Bob")),
        frame(2, "TAL", &latin("Album")),
        frame(2, "TRK", &latin("3/12")),
        frame(2, "TYE", &latin("1997")),
        frame(2, "TCO", &latin("(17)")),
        frame(2, "TCP", &latin("1")),
        frame(2, "COM", &latin("eng\0Notes")),
        frame(2, "TXX", &latin("MusicBrainz Album Id\0abc")),
        frame(2, "UFI", b"http://musicbrainz.org\0rec"),
        frame(2, "PIC", &pic),
        vec![0; 50],
    ]
    .concat();
    let bytes = [tag(2, 0, &body), sample("cbr.mp3")].concat();
    let audio = parse("a.mp3", &bytes).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.artists, ["Ann", "Bob"]);
    assert_eq!(audio.album.as_deref(), Some("Album"));
    assert_eq!((audio.track, audio.track_total), (Some(3), Some(12)));
    assert_eq!(audio.date.as_deref(), Some("1997"));
    assert_eq!(audio.genres, ["Rock"]);
    assert!(audio.compilation);
    assert_eq!(audio.comment.as_deref(), Some("Notes"));
    assert_eq!(audio.musicbrainz.release.as_deref(), Some("abc"));
    assert_eq!(audio.musicbrainz.recording.as_deref(), Some("rec"));
    let picture = &audio.pictures[0];
    assert_eq!((picture.kind, picture.mime.as_str()), (PictureKind::Front, "image/jpeg"));
    assert_eq!(&bytes[picture.offset as usize..][..picture.len as usize], cover_bytes());
}

#[test]
fn version_2_3_keeps_day_and_year_apart_and_they_are_joined() {
    let body = [
        frame(3, "TYER", &latin("1997")),
        frame(3, "TDAT", &latin("2503")),
        frame(3, "TORY", &latin("1959")),
        frame(3, "TCON", &latin("(8)(17)Jazzrock")),
        frame(3, "TPE1", &latin("AC/DC")),
    ]
    .concat();
    let audio = mp3(&tag(3, 0, &body)).audio;
    assert_eq!(audio.date.as_deref(), Some("1997-03-25"));
    assert_eq!(audio.genres, ["Jazz", "Rock", "Jazzrock"]);
    assert_eq!(audio.artists, ["AC/DC"]);
}

#[test]
fn version_2_4_splits_values_at_nuls_and_prefers_the_release_date() {
    let body = [
        frame(4, "TPE1", b"\x03Ann\0Bob\0"),
        frame(4, "TCON", b"\x03" as &[u8]),
        frame(4, "TCON", b"\x0317\0Fusion\0(4)"),
        frame(4, "TDOR", b"\x031959"),
        frame(4, "TDRC", b"\x031997-03-25"),
        frame(4, "TXXX", b"\x03ARTISTS\0Ann\0Bob"),
    ]
    .concat();
    let audio = mp3(&tag(4, 0, &body)).audio;
    assert_eq!(audio.artists, ["Ann", "Bob"]);
    assert_eq!(audio.genres, ["Rock", "Fusion", "Disco"]);
    assert_eq!(audio.date.as_deref(), Some("1997-03-25"));
}

#[test]
fn unsynchronised_tags_of_every_version_are_read_and_their_pictures_located() {
    for version in [2u8, 3, 4] {
        let (title, picture) = if version == 2 { ("TT2", "PIC") } else { ("TIT2", "APIC") };
        let pic = if version == 2 { [&b"\0PNG\x04Hinten\0"[..], &cover_bytes()].concat() } else { apic() };
        // UTF-16 has bytes that unsynchronisation changes.
        let title_text = utf16("ÿ-Titel");
        let body = if version == 4 {
            let flags = 0x02;
            [
                flagged(4, picture, flags, &unsynchronised(&pic)),
                flagged(4, title, flags, &unsynchronised(&title_text)),
            ]
            .concat()
        } else {
            unsynchronised(&[frame(version, picture, &pic), frame(version, title, &title_text)].concat())
        };
        let bytes = [tag(version, 0x80, &body), sample("cbr.mp3")].concat();
        let audio = parse("a.mp3", &bytes).unwrap().audio;
        assert_eq!(audio.title.as_deref(), Some("ÿ-Titel"), "2.{version}");
        let [found] = audio.pictures.as_slice() else { panic!("2.{version}: {:?}", audio.pictures) };
        assert_eq!((found.kind, found.storage), (PictureKind::Back, PictureStorage::Unsynchronised));
        let stored = &bytes[found.offset as usize..][..found.len as usize];
        assert_eq!(stored, unsynchronised(&cover_bytes()), "2.{version}");
    }
}

#[test]
fn extended_header_and_footer_are_passed_over() {
    let title = |version| frame(version, "TIT2", &latin("Titel"));
    let v3 = [&6u32.to_be_bytes()[..], &[0; 6], &title(3)].concat();
    assert_eq!(mp3(&tag(3, 0x40, &v3)).audio.title.as_deref(), Some("Titel"));
    let v4 = [&synchsafe(6)[..], &[1, 0], &title(4)].concat();
    assert_eq!(mp3(&tag(4, 0x40, &v4)).audio.title.as_deref(), Some("Titel"));
    let mut footed = tag(4, 0x10, &title(4));
    let mut footer = footed[..10].to_vec();
    footer[..3].copy_from_slice(b"3DI");
    footed.extend(footer);
    assert_eq!(mp3(&footed).audio.title.as_deref(), Some("Titel"));
}

#[test]
fn frame_sizes_as_itunes_wrote_them_are_understood() {
    let mut picture = frame(4, "APIC", &apic());
    let plain = (picture.len() as u32 - 10).to_be_bytes();
    assert_ne!(picture[4..8], plain);
    picture[4..8].copy_from_slice(&plain);
    let body = [picture, frame(4, "TIT2", &latin("Titel")), vec![0; 20]].concat();
    let audio = mp3(&tag(4, 0, &body)).audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.pictures[0].len, cover_bytes().len() as u64);
}

#[test]
fn flags_data_before_a_frame_is_passed_over_and_opaque_frames_are_skipped() {
    let content = [&[0x17][..], &synchsafe(6), &latin("Titel")].concat();
    let body = [
        flagged(4, "TALB", 0x08, b"\0compressed"),
        flagged(4, "TPE1", 0x04, b"\0encrypted"),
        flagged(4, "TIT2", 0x41, &content),
    ]
    .concat();
    let audio = mp3(&tag(4, 0, &body)).audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.album, None);
    assert!(audio.artists.is_empty());
}

#[test]
fn comments_of_players_are_not_taken_for_the_users() {
    let body = [
        frame(3, "COMM", &latin("engiTunNORM\0 000003F2")),
        frame(3, "COMM", &latin("engMusic notes\0Second choice")),
        frame(3, "COMM", &latin("eng\0Mine")),
    ];
    assert_eq!(mp3(&tag(3, 0, &body.concat())).audio.comment.as_deref(), Some("Mine"));
    assert_eq!(mp3(&tag(3, 0, &body[..2].concat())).audio.comment.as_deref(), Some("Second choice"));
    assert_eq!(mp3(&tag(3, 0, &body[0])).audio.comment, None);
}

#[test]
fn relative_volume_stands_in_for_replay_gain() {
    let volume = b"track\0\x01\xfc\x00\x10\x7f\xff";
    let audio = mp3(&tag(4, 0, &frame(4, "RVA2", volume))).audio;
    assert_eq!(audio.replay_gain.track_gain, Some(-2.0));
    assert!((audio.replay_gain.track_peak.unwrap() - 0.99997).abs() < 1e-4);
    let both =
        [frame(4, "TXXX", &latin("replaygain_track_gain\0-7.5 dB")), frame(4, "RVA2", volume)].concat();
    assert_eq!(mp3(&tag(4, 0, &both)).audio.replay_gain.track_gain, Some(-7.5));
}

#[test]
fn text_of_wrong_encoding_is_taken_as_it_is() {
    let body = [
        frame(3, "TIT2", b"\0Bj\xf6rk"),
        frame(3, "TALB", "\0Björk".as_bytes()),
        frame(3, "TPE1", b"\x01\xff\xfeA\x00\x00\xd8B\x00"),
        frame(3, "TPE2", b"\x09odd"),
        frame(3, "TCOM", b"\x03\xff\xfe"),
        frame(3, "TRCK", b""),
    ]
    .concat();
    let audio = mp3(&tag(3, 0, &body)).audio;
    assert_eq!(audio.title.as_deref(), Some("Björk"));
    assert_eq!(audio.album.as_deref(), Some("Björk"));
    assert_eq!(audio.artists, ["A\u{fffd}B"]);
    assert_eq!(audio.album_artists, ["odd"]);
    assert_eq!(audio.track, None);
}

#[test]
fn two_tags_in_a_row_are_both_read_and_the_first_counts() {
    let first = tag(4, 0, &frame(4, "TIT2", &latin("Eins")));
    let second = tag(3, 0, &[frame(3, "TIT2", &latin("Zwei")), frame(3, "TALB", &latin("Album"))].concat());
    let audio = mp3(&[first, second].concat()).audio;
    assert_eq!(audio.title.as_deref(), Some("Eins"));
    assert_eq!(audio.album.as_deref(), Some("Album"));
}

fn id3v1(genre: u8, track: u8) -> Vec<u8> {
    let mut out = vec![0u8; 128];
    out[..3].copy_from_slice(b"TAG");
    out[3..8].copy_from_slice(b"Titel");
    out[33..39].copy_from_slice(b"Bj\xf6rk ");
    out[63..68].copy_from_slice(b"Album");
    out[93..97].copy_from_slice(b"1997");
    out[97..102].copy_from_slice(b"Notes");
    out[126] = track;
    out[127] = genre;
    out
}

#[test]
fn id3v1_is_read_where_nothing_better_is() {
    let audio = parse("a.mp3", &[sample("cbr.mp3"), id3v1(17, 5)].concat()).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.artists, ["Björk"]);
    assert_eq!(audio.album.as_deref(), Some("Album"));
    assert_eq!(audio.date.as_deref(), Some("1997"));
    assert_eq!(audio.comment.as_deref(), Some("Notes"));
    assert_eq!(audio.track, Some(5));
    assert_eq!(audio.genres, ["Rock"]);
    assert_eq!(audio.bitrate_kbps, 32);
    assert!(audio.duration_ms.abs_diff(548) <= 1, "{}", audio.duration_ms);
}

#[test]
fn tags_at_the_end_are_found_together_and_rank_below_those_at_the_start() {
    use lofty::tag::{ItemKey, Tag, TagType};
    let mut ape = Tag::new(TagType::Ape);
    ape.insert_text(ItemKey::AlbumTitle, "Aus APE".to_owned());
    ape.insert_text(ItemKey::TrackTitle, "Aus APE".to_owned());
    let lyrics = [&b"LYRICSBEGININD0000200"[..], b"000021LYRICS200"].concat();
    let id3v2 = tag(4, 0, &frame(4, "TIT2", &latin("Aus ID3v2")));
    let bytes = [id3v2, sample("cbr.mp3"), dumped(&ape), lyrics, id3v1(255, 0)].concat();
    let audio = parse("a.mp3", &bytes).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Aus ID3v2"));
    assert_eq!(audio.album.as_deref(), Some("Aus APE"));
    assert_eq!(audio.artists, ["Björk"]);
    assert!(audio.genres.is_empty());
    assert_eq!(audio.bitrate_kbps, 32);
    assert!(audio.duration_ms.abs_diff(548) <= 1, "{}", audio.duration_ms);
}

#[test]
fn ape_tag_at_the_start_is_read() {
    let ape = dumped(&full_tag(lofty::tag::TagType::Ape));
    let audio = mp3(&ape).audio;
    assert_eq!(audio.title.as_deref(), Some("Träume – 夢"));
    assert_eq!(audio.pictures.len(), 1);
}

#[test]
fn junk_before_the_first_frame_is_passed_over() {
    let junk: Vec<u8> = (0..5000u32).map(|i| (i % 255) as u8).collect();
    let found = parse("a.mp3", &[junk, sample("vbr.mp3")].concat()).unwrap();
    assert_eq!(found.format, Format::Mp3);
    assert_eq!(found.audio.duration_ms, 500);
}
