//! Values that need more than copying: totals, ReplayGain, lists, RIFF's own tags, unreadable kinds.

use lofty::tag::{ItemKey, ItemValue, Tag, TagItem, TagType};
use musicfs_core::{AudioMeta, Codec, Format};
use musicfs_sync::tags::ParseError;

use crate::support::{parse, sample, tagged};

fn comments(values: &[(&str, &str)]) -> AudioMeta {
    let mut block = 0u32.to_le_bytes().to_vec();
    block.extend((values.len() as u32).to_le_bytes());
    for (key, value) in values {
        let comment = format!("{key}={value}");
        block.extend((comment.len() as u32).to_le_bytes());
        block.extend(comment.bytes());
    }
    let mut file = sample("tone.flac")[..4 + 4 + 34].to_vec();
    file[4] &= 0x7f;
    file.push(0x84);
    file.extend(&(block.len() as u32).to_be_bytes()[1..]);
    file.extend(block);
    file.extend([0xff, 0xf8, 0, 0]);
    parse("a.flac", &file).unwrap().audio
}

#[test]
fn vorbis_comments_keep_all_values_in_order() {
    let audio = comments(&[
        ("artist", "Zoë"),
        ("ARTIST", "Ann"),
        ("Artist", " "),
        ("GENRE", "Jazz"),
        ("genre", "17"),
        ("COMPOSER", "B"),
        ("COMPOSER", "A"),
        ("ALBUM ARTIST", "Die Band"),
        ("MUSICBRAINZ_ARTISTID", "z"),
        ("MUSICBRAINZ_ARTISTID", "a"),
    ]);
    assert_eq!(audio.artists, ["Zoë", "Ann"]);
    assert_eq!(audio.genres, ["Jazz", "Rock"]);
    assert_eq!(audio.composers, ["B", "A"]);
    assert_eq!(audio.album_artists, ["Die Band"]);
    assert_eq!(audio.musicbrainz.artists, ["z", "a"]);
}

#[test]
fn list_of_artists_stands_in_for_a_credit_only_when_it_is_one() {
    let credit = ("ARTIST", "Ann feat. Bob");
    assert_eq!(comments(&[credit, ("ARTISTS", "Ann"), ("ARTISTS", "Bob")]).artists, ["Ann", "Bob"]);
    assert_eq!(comments(&[credit, ("ARTISTS", "Ann")]).artists, ["Ann feat. Bob"]);
}

#[test]
fn totals_come_from_either_place() {
    let audio = comments(&[("TRACKNUMBER", "03/12"), ("DISCNUMBER", "1"), ("TOTALDISCS", "2")]);
    assert_eq!((audio.track, audio.track_total), (Some(3), Some(12)));
    assert_eq!((audio.disc, audio.disc_total), (Some(1), Some(2)));
}

#[test]
fn dates_prefer_the_release_to_the_original() {
    let audio = comments(&[("ORIGINALDATE", "1959-08-17"), ("YEAR", "1997"), ("DATE", "1997-03-25")]);
    assert_eq!(audio.date.as_deref(), Some("1997-03-25"));
    assert_eq!(comments(&[("ORIGINALDATE", "1959-08-17")]).date.as_deref(), Some("1959-08-17"));
}

#[test]
fn tags_of_blanks_are_absent() {
    let audio = comments(&[("TITLE", " \t\u{3000}"), ("ALBUM", "\0"), ("COMMENT", ""), ("TRACKNUMBER", "x")]);
    assert_eq!((audio.title, audio.album, audio.comment, audio.track), (None, None, None, None));
}

#[test]
fn gain_of_opus_is_put_into_replay_gains_scale() {
    let mut tag = Tag::new(TagType::VorbisComments);
    tag.insert_text(ItemKey::TrackTitle, "x".to_owned());
    let mut own = lofty::ogg::tag::VorbisComments::from(tag);
    own.push("R128_TRACK_GAIN".to_owned(), "-1280".to_owned());
    own.push("R128_ALBUM_GAIN".to_owned(), "256".to_owned());
    let mut file = std::io::Cursor::new(sample("tone.opus"));
    lofty::tag::TagExt::save_to(&own, &mut file, lofty::config::WriteOptions::default()).unwrap();
    let audio = parse("a.opus", &file.into_inner()).unwrap().audio;
    // -23 LUFS against ReplayGain's -18: five decibels louder.
    assert_eq!(audio.replay_gain.track_gain, Some(-5.0 + 5.0));
    assert_eq!(audio.replay_gain.album_gain, Some(1.0 + 5.0));
}

#[test]
fn gains_in_musepacks_header_count_where_no_tag_has_them() {
    let audio = parse("a.mpc", &crate::support::musepack7()).unwrap().audio;
    assert_eq!(audio.replay_gain.track_gain, Some(-6.12));
    assert_eq!(audio.replay_gain.album_gain, Some(2.5));
    assert!((audio.replay_gain.track_peak.unwrap() - 0.5).abs() < 0.001);
    // Packet `RG`: version, then loudness and peak of title and album.
    let mut sv8 = sample("sv8.mpc");
    let at = sv8.windows(2).position(|w| w == b"RG").unwrap() + 3;
    sv8[at..at + 9].copy_from_slice(&[1, 0x47, 0xd2, 0x59, 0xf5, 0, 0, 0, 0]);
    let audio = parse("a.mpc", &sv8).unwrap().audio;
    assert!((audio.replay_gain.track_gain.unwrap() - (64.82 - 71.82)).abs() < 0.01);
    assert!((audio.replay_gain.track_peak.unwrap() - 0.96).abs() < 0.01);
    assert_eq!(audio.replay_gain.album_gain, None);
}

#[test]
fn riff_info_is_read_and_ranks_below_id3() {
    let mut info = Tag::new(TagType::RiffInfo);
    for (key, value) in [
        (ItemKey::TrackTitle, "Titel"),
        (ItemKey::TrackArtist, "Ann"),
        (ItemKey::AlbumTitle, "Album"),
        (ItemKey::Genre, "Jazz"),
        (ItemKey::Comment, "Notes"),
    ] {
        info.push(TagItem::new(key, ItemValue::Text(value.to_owned())));
    }
    let bytes = tagged(&sample("tone.wav"), &info);
    let audio = parse("a.wav", &bytes).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.artists, ["Ann"]);
    assert_eq!(audio.album.as_deref(), Some("Album"));
    assert_eq!(audio.genres, ["Jazz"]);
    assert_eq!(audio.comment.as_deref(), Some("Notes"));
    let mut id3 = Tag::new(TagType::Id3v2);
    id3.insert_text(ItemKey::TrackTitle, "Aus ID3".to_owned());
    let audio = parse("a.wav", &tagged(&bytes, &id3)).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Aus ID3"));
    assert_eq!(audio.album.as_deref(), Some("Album"));
}

#[test]
fn aiff_texts_are_read() {
    let mut texts = Tag::new(TagType::AiffText);
    texts.insert_text(ItemKey::TrackTitle, "Titel".to_owned());
    texts.insert_text(ItemKey::TrackArtist, "Ann".to_owned());
    let audio = parse("a.aiff", &tagged(&sample("tone.aiff"), &texts)).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Titel"));
    assert_eq!(audio.artists, ["Ann"]);
}

#[test]
fn wave_recorded_without_a_length_plays_to_the_files_end() {
    let mut bytes = sample("tone.wav");
    let at = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
    for said in [0u32, u32::MAX] {
        bytes[at..at + 4].copy_from_slice(&said.to_le_bytes());
        assert_eq!(parse("a.wav", &bytes).unwrap().audio.duration_ms, 500);
    }
}

#[test]
fn wave_that_holds_mp3_says_so() {
    let audio = sample("cbr.mp3");
    let mut bytes =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x55\0\x01\0\x44\xac\0\0\xa0\x0f\0\0\x01\0\0\0data".to_vec();
    bytes.extend((audio.len() as u32).to_le_bytes());
    bytes.extend(&audio);
    let found = parse("a.wav", &bytes).unwrap();
    assert_eq!((found.format, found.audio.codec), (Format::Wav, Some(Codec::Mp3)));
    assert!(found.audio.duration_ms.abs_diff(548) <= 1);
    assert_eq!(found.audio.bit_depth, 0);
}

#[test]
fn mp4_with_its_genre_as_a_number_and_tags_without_a_full_meta_is_read() {
    let atom =
        |kind: &[u8], content: &[u8]| [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat();
    let data = |kind: u8, content: &[u8]| atom(b"data", &[&[0, 0, 0, kind, 0, 0, 0, 0], content].concat());
    let items = [
        atom(b"gnre", &data(0, &[0, 18])),
        atom(b"\xa9nam", &data(1, "Träume".as_bytes())),
        atom(b"\xa9ART", &[data(1, b"Ann"), data(2, &[0, b'B', 0, b'o'])].concat()),
        atom(b"trkn", &data(0, &[0, 0, 0, 3, 0, 12, 0, 0])),
        atom(b"disk", &data(0, &[0, 0, 0, 1])),
        atom(b"cpil", &data(21, &[1])),
        atom(b"covr", &data(0, b"\x89PNG\r\n\x1a\n....")),
    ]
    .concat();
    let udta = atom(b"udta", &atom(b"meta", &atom(b"ilst", &items)));
    let mut bytes = sample("tone.m4a");
    // `moov` is the last atom: what is added to it goes to the file's end.
    let at = bytes.windows(4).position(|w| w == b"moov").unwrap() - 4;
    let old = bytes.windows(4).position(|w| w == b"udta").unwrap() - 4;
    bytes[old + 4..old + 8].copy_from_slice(b"free");
    bytes.extend(&udta);
    let len = (bytes.len() - at) as u32;
    bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
    let audio = parse("a.m4a", &bytes).unwrap().audio;
    assert_eq!(audio.title.as_deref(), Some("Träume"));
    assert_eq!(audio.artists, ["Ann", "Bo"]);
    assert_eq!(audio.genres, ["Rock"]);
    assert_eq!((audio.track, audio.track_total, audio.disc), (Some(3), Some(12), Some(1)));
    assert!(audio.compilation);
    assert_eq!(audio.pictures[0].mime, "image/png");
}

#[test]
fn reason_for_what_cannot_be_parsed_is_one_line_for_a_user() {
    let asf = [&[0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11][..], &[0; 500]].concat();
    let cut = &sample("tone.flac")[..30];
    let no_movie = b"\0\0\0\x10ftypM4A \0\0\0\0\0\0\0\x08mdat";
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (
            b"hello",
            "not an audio file of a known format: no mark of one at its start, no MPEG audio in the first 64 KiB",
        ),
        (&asf, "Windows Media files are not supported"),
        (cut, "truncated: the file ends inside its header"),
        (no_movie, "damaged: it has no \"moov\" atom"),
        (b"RIFF\0\0\0\0WAVE", "damaged: it has no format or no audio data"),
        (b"ID3\x04\0\0\0\0\0\x05hello", "truncated: the file ends inside its header"),
        (b"ID3\x04\0\0\0\0\0\x05hello and more", "no MPEG audio found in the first 64 KiB behind its tags"),
    ] {
        let error = parse("a.mp3", bytes).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.is_about_content());
    }
}

#[test]
fn file_that_is_shorter_than_listed_is_not_blamed() {
    let file = tempfile::tempfile().unwrap();
    let error = musicfs_sync::tags::parse_file(&file, 1000).unwrap_err();
    assert!(matches!(error, ParseError::Read(_)));
    assert!(!error.is_about_content());
}
