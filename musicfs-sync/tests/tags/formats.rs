//! Every format: what it is, what its stream is, and every field of a full tag.

use lofty::tag::TagType;
use musicfs_core::{AudioIdentity, AudioMeta, Codec, Format, MusicBrainzIds, ReplayGain, SortNames};

use crate::support::{
    dsf, dumped, full_tag, fully_tagged, monkey, musepack7, parse, plain_files, sample, tagged,
};

/// A stream's figures: name, format, codec, milliseconds (with what may be off), rate, channels, bits, kbit/s.
type Row = (&'static str, Format, Codec, u64, u64, u32, u8, u8, std::ops::RangeInclusive<u32>);

/// As ffprobe tells them of the samples; bitrates are of the stored audio.
const STREAMS: &[Row] = &[
    ("a.flac", Format::Flac, Codec::Flac, 500, 0, 44_100, 2, 16, 95..=100),
    // LAME's delay and padding are not played.
    ("vbr.mp3", Format::Mp3, Codec::Mp3, 500, 0, 44_100, 2, 0, 40..=50),
    ("cbr.mp3", Format::Mp3, Codec::Mp3, 548, 1, 44_100, 1, 0, 32..=32),
    ("a.mp2", Format::Mp3, Codec::Mp3, 522, 1, 44_100, 1, 0, 32..=32),
    ("a.m4a", Format::Mp4, Codec::Aac, 500, 25, 44_100, 2, 0, 25..=40),
    ("alac.m4a", Format::Mp4, Codec::Alac, 500, 1, 44_100, 1, 16, 130..=150),
    ("a.aac", Format::Aac, Codec::Aac, 534, 1, 44_100, 2, 0, 31..=32),
    ("a.ogg", Format::Ogg, Codec::Vorbis, 500, 1, 44_100, 2, 0, 15..=35),
    ("a.opus", Format::Ogg, Codec::Opus, 500, 1, 48_000, 1, 0, 15..=23),
    ("flac.oga", Format::Ogg, Codec::Flac, 500, 0, 44_100, 1, 16, 90..=100),
    ("a.spx", Format::Ogg, Codec::Speex, 500, 5, 8_000, 1, 0, 10..=20),
    ("a.wav", Format::Wav, Codec::Pcm, 500, 0, 8_000, 1, 16, 128..=128),
    ("rf64.wav", Format::Wav, Codec::Pcm, 500, 0, 8_000, 1, 24, 192..=192),
    ("a.aiff", Format::Aiff, Codec::Pcm, 500, 0, 8_000, 1, 16, 128..=128),
    ("a.aifc", Format::Aiff, Codec::Pcm, 500, 0, 8_000, 1, 16, 128..=128),
    ("a.wv", Format::WavPack, Codec::WavPack, 500, 0, 44_100, 2, 16, 160..=165),
    ("six.wv", Format::WavPack, Codec::WavPack, 300, 0, 11_025, 6, 16, 66..=70),
    ("odd-rate.wv", Format::WavPack, Codec::WavPack, 300, 0, 13_000, 1, 16, 70..=73),
    ("dsd.wv", Format::WavPack, Codec::WavPack, 100, 1, 2_822_400, 2, 1, 20..=21),
    ("sv8.mpc", Format::Mpc, Codec::Musepack, 500, 1, 44_100, 2, 0, 55..=59),
    ("a.ape", Format::Ape, Codec::Ape, 500, 0, 44_100, 2, 16, 9..=10),
    ("sv7.mpc", Format::Mpc, Codec::Musepack, 522, 1, 44_100, 2, 0, 46..=47),
    ("a.dsf", Format::Dsf, Codec::Dsd, 500, 0, 2_822_400, 2, 1, 5640..=5780),
];

#[test]
fn stream_of_every_format_is_described() {
    let files = plain_files();
    assert_eq!(files.len(), STREAMS.len());
    for ((name, bytes), row) in files.iter().zip(STREAMS) {
        assert_eq!(*name, row.0);
        let found = parse(name, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let audio = &found.audio;
        assert_eq!((found.format, audio.codec), (row.1, Some(row.2)), "{name}");
        assert!(audio.duration_ms.abs_diff(row.3) <= row.4, "{name}: {} ms", audio.duration_ms);
        assert_eq!((audio.sample_rate, audio.channels, audio.bit_depth), (row.5, row.6, row.7), "{name}");
        assert!(row.8.contains(&audio.bitrate_kbps), "{name}: {} kbit/s", audio.bitrate_kbps);
        assert_eq!(audio.title, None, "{name}");
        assert!(audio.pictures.is_empty(), "{name}");
    }
}

#[test]
fn content_decides_whatever_the_name_says() {
    for (name, bytes) in plain_files() {
        let honest = parse(name, &bytes).unwrap();
        for other in ["x.mp3", "x.flac", "x"] {
            let found = parse(other, &bytes).unwrap_or_else(|e| panic!("{name} as {other}: {e}"));
            assert_eq!(
                (found.format, found.audio),
                (honest.format, honest.audio.clone()),
                "{name} as {other}"
            );
        }
    }
}

/// What [`full_tag`] says, in a format that can say all of it.
fn full_meta() -> AudioMeta {
    let some = |text: &str| Some(text.to_owned());
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    AudioMeta {
        title: some("Träume – 夢"),
        artists: list(&["Ann", "Bob"]),
        album: some("Das Album"),
        album_artists: list(&["Die Band"]),
        track: Some(3),
        track_total: Some(12),
        disc: Some(1),
        disc_total: Some(2),
        date: some("1997-03-25"),
        genres: list(&["Jazz", "Fusion"]),
        composers: list(&["Clara"]),
        compilation: true,
        sort: SortNames {
            title: some("Traume"),
            artist: some("Ann, A."),
            album: some("Album, Das"),
            album_artist: some("Band, Die"),
            composer: some("C., Clara"),
        },
        comment: some("A comment"),
        musicbrainz: MusicBrainzIds {
            recording: some("b1a9c0e9-d987-4042-ae91-78d6a3267d69"),
            track: some("0c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a11"),
            release: some("1c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a12"),
            release_group: some("2c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a13"),
            artists: list(&["3c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a14"]),
            album_artists: list(&["4c7ee6b8-5c5b-4ea9-9d4d-7b9d1a6f1a15"]),
        },
        replay_gain: ReplayGain {
            track_gain: Some(-7.23),
            track_peak: Some(0.988_553),
            album_gain: Some(-6.5),
            album_peak: Some(1.0),
        },
        ..AudioMeta::default()
    }
}

/// The files with a full tag in the format's own kind of tag.
pub(crate) fn tagged_files() -> Vec<(&'static str, Vec<u8>)> {
    let tags = |kind, names: &[(&'static str, &str)]| {
        names.iter().map(|(name, file)| (*name, fully_tagged(&sample(file), kind))).collect::<Vec<_>>()
    };
    let mut files = tags(
        TagType::VorbisComments,
        &[("a.flac", "tone.flac"), ("a.ogg", "tone.ogg"), ("a.opus", "tone.opus"), ("a.spx", "tone.spx")],
    );
    files.extend(tags(
        TagType::Id3v2,
        &[
            ("vbr.mp3", "vbr.mp3"),
            ("cbr.mp3", "cbr.mp3"),
            ("a.mp2", "tone.mp2"),
            ("a.aac", "tone.aac"),
            ("a.wav", "tone.wav"),
            ("a.aiff", "tone.aiff"),
            ("a.aifc", "tone.aifc"),
        ],
    ));
    files.extend(tags(TagType::Mp4Ilst, &[("a.m4a", "tone.m4a"), ("alac.m4a", "alac.m4a")]));
    files.extend(tags(TagType::Ape, &[("ape.mp3", "cbr.mp3"), ("a.wv", "tone.wv"), ("sv8.mpc", "sv8.mpc")]));
    files.push(("a.ape", fully_tagged(&monkey(), TagType::Ape)));
    files.push(("sv7.mpc", fully_tagged(&musepack7(), TagType::Ape)));
    files.push(("a.dsf", dsf(&dumped(&full_tag(TagType::Id3v2)))));
    files
}

#[test]
fn every_field_of_every_format_is_read() {
    for (name, bytes) in tagged_files() {
        let found = parse(name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}")).audio;
        let expected = AudioMeta {
            duration_ms: found.duration_ms,
            sample_rate: found.sample_rate,
            channels: found.channels,
            bit_depth: found.bit_depth,
            bitrate_kbps: found.bitrate_kbps,
            codec: found.codec,
            pictures: found.pictures.clone(),
            audio_region: found.audio_region,
            identity: found.identity.clone(),
            ..full_meta()
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn stream_is_described_alike_with_and_without_tags() {
    let plain = plain_files();
    let mut compared = 0;
    for (name, bytes) in tagged_files() {
        let Some((_, bare)) = plain.iter().find(|(n, _)| *n == name) else { continue };
        let (with, without) = (parse(name, &bytes).unwrap().audio, parse(name, bare).unwrap().audio);
        assert_eq!(with.duration_ms, without.duration_ms, "{name}");
        assert!(with.bitrate_kbps.abs_diff(without.bitrate_kbps) <= 1, "{name}: {}", with.bitrate_kbps);
        assert_eq!(with.identity, without.identity, "{name}");
        compared += 1;
    }
    assert!(compared > 15);
}

#[test]
fn flac_is_identified_by_the_md5_of_its_audio() {
    let bytes = sample("tone.flac");
    let mut md5 = [0; 16];
    md5.copy_from_slice(&bytes[8 + 18..8 + 34]);
    let identity = Some(AudioIdentity::FlacMd5 { md5, samples: 22_050 });
    assert_eq!(parse("a.flac", &bytes).unwrap().audio.identity, identity);
    let retagged = tagged(&bytes, &full_tag(TagType::VorbisComments));
    assert_eq!(parse("a.flac", &retagged).unwrap().audio.identity, identity);
    let mut unset = bytes;
    unset[8 + 18..8 + 34].fill(0);
    let sampled = parse("a.flac", &unset).unwrap().audio;
    let bytes = sampled.audio_region.unwrap().len();
    assert!(matches!(sampled.identity, Some(AudioIdentity::Sampled { bytes: b, .. }) if b == bytes));
}

#[test]
fn audio_of_every_format_is_found_where_it_lies_whatever_the_tags() {
    let plain = plain_files();
    let mut compared = 0;
    for (name, bytes) in tagged_files() {
        let Some((_, bare)) = plain.iter().find(|(n, _)| *n == name) else { continue };
        let audio = |bytes: &[u8]| {
            let region = parse(name, bytes).unwrap().audio.audio_region.unwrap_or_else(|| panic!("{name}"));
            bytes[region.start() as usize..region.end() as usize].to_vec()
        };
        let (with, without) = (audio(&bytes), audio(bare));
        assert!(!with.is_empty() && with.len() == without.len(), "{name}: {} {}", with.len(), without.len());
        // The pages of Ogg are numbered from the file's start.
        assert!(with == without || bare.starts_with(b"OggS"), "{name}");
        compared += 1;
    }
    assert!(compared > 15);
}

#[test]
fn audio_that_differs_is_identified_as_different() {
    // The sample of DSF is silence, by which nothing is identified.
    for (name, bytes) in plain_files().into_iter().filter(|(name, _)| *name != "a.dsf") {
        let parsed = parse(name, &bytes).unwrap().audio;
        let (Some(identity), Some(region)) = (parsed.identity, parsed.audio_region) else {
            panic!("{name}: {:?}", parsed.audio_region)
        };
        // One byte less of audio, which most parsers do not mind.
        if let Ok(shorter) = parse(name, &bytes[..region.end() as usize - 1])
            && let Some(other @ AudioIdentity::Sampled { .. }) = shorter.audio.identity
            && !bytes.starts_with(b"OggS")
        {
            assert_ne!(identity, other, "{name}");
        }
    }
}

#[test]
fn flac_behind_an_id3_tag_is_flac_and_its_own_tag_counts() {
    let mut own = lofty::tag::Tag::new(TagType::VorbisComments);
    own.insert_text(lofty::tag::ItemKey::TrackTitle, "Own".to_owned());
    let flac = tagged(&sample("tone.flac"), &own);
    let id3 = dumped(&full_tag(TagType::Id3v2));
    let found = parse("a.flac", &[id3, flac].concat()).unwrap();
    assert_eq!(found.format, Format::Flac);
    assert_eq!(found.audio.title.as_deref(), Some("Own"));
    assert_eq!(found.audio.album.as_deref(), Some("Das Album"));
}

#[test]
fn flac_reader_agrees_with_lofty() {
    use lofty::config::ParseOptions;
    use lofty::file::{AudioFile, TaggedFileExt};
    use lofty::tag::ItemKey;
    let full = tagged(&sample("tone.flac"), &full_tag(TagType::VorbisComments));
    for bytes in [sample("tone.flac"), full] {
        let ours = parse("a.flac", &bytes).unwrap().audio;
        let theirs = lofty::probe::Probe::new(std::io::Cursor::new(&bytes))
            .guess_file_type()
            .unwrap()
            .options(ParseOptions::new())
            .read()
            .unwrap();
        let stream = theirs.properties();
        assert_eq!(u128::from(ours.duration_ms), stream.duration().as_millis());
        assert_eq!(Some(ours.sample_rate), stream.sample_rate());
        assert_eq!(Some(ours.channels), stream.channels());
        assert_eq!(Some(ours.bit_depth), stream.bit_depth());
        let tag = theirs.primary_tag().unwrap();
        let all = |key| tag.get_strings(key).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ours.title.as_deref(), tag.get_string(ItemKey::TrackTitle));
        assert_eq!(ours.artists, all(ItemKey::TrackArtist));
        assert_eq!(ours.genres, all(ItemKey::Genre));
        assert_eq!(ours.musicbrainz.release.as_deref(), tag.get_string(ItemKey::MusicBrainzReleaseId));
        assert_eq!(ours.pictures.len(), tag.pictures().len());
    }
}
