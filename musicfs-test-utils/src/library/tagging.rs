//! Tags and covers, written into samples: by lofty where it writes the format, else by hand.

use std::io::Cursor;

use lofty::ape::ApeTag;
use lofty::config::WriteOptions;
use lofty::id3::v2::Id3v2Tag;
use lofty::picture::{MimeType, Picture, PictureType};
use lofty::tag::{ItemKey, ItemValue, Tag, TagExt, TagItem, TagType};
use musicfs_core::AudioMeta;

use super::{Cover, Sample, TrackError, dsf, ogg_flac};

/// Returns the file of `sample` with `audio`'s tags and `cover` in it.
pub(super) fn tagged(sample: Sample, audio: &AudioMeta, cover: Option<Cover>) -> Result<Vec<u8>, TrackError> {
    tagged_bytes(sample, sample.bytes().to_vec(), audio, cover)
}

/// As [`tagged`], for a file of the sample's format.
pub(super) fn tagged_bytes(
    sample: Sample,
    bytes: Vec<u8>,
    audio: &AudioMeta,
    cover: Option<Cover>,
) -> Result<Vec<u8>, TrackError> {
    let tag = tag(audio, cover, tag_type(sample));
    if tag.is_empty() {
        return Ok(bytes);
    }
    let failed = |reason: String| TrackError::Tags { sample, reason };
    match sample {
        Sample::OggFlac => ogg_flac::tagged(&bytes, &tag).map_err(failed),
        Sample::Dsf => dsf::tagged(&bytes, tag).map_err(failed),
        _ => {
            let mut file = Cursor::new(bytes);
            let options = WriteOptions::new().preferred_padding(0);
            let saved = match tag.tag_type() {
                TagType::Id3v2 => id3v2(tag).save_to(&mut file, options),
                // A generic tag would lose its picture.
                TagType::Ape => ApeTag::from(tag).save_to(&mut file, options),
                _ => tag.save_to(&mut file, options),
            };
            saved.map_err(|error| failed(error.to_string()))?;
            Ok(file.into_inner())
        }
    }
}

/// Returns an ID3v2 tag with its frames in a fixed order; lofty's own differs from run to run.
pub(super) fn id3v2(tag: Tag) -> Id3v2Tag {
    let mut frames: Vec<_> = Id3v2Tag::from(tag).into_iter().collect();
    frames.sort_by_cached_key(|frame| format!("{frame:?}"));
    let mut sorted = Id3v2Tag::new();
    for frame in frames {
        sorted.insert(frame);
    }
    sorted
}

/// The kind of tag that taggers write to each format.
fn tag_type(sample: Sample) -> TagType {
    match sample {
        Sample::Flac | Sample::Vorbis | Sample::Opus | Sample::OggFlac | Sample::Speex => {
            TagType::VorbisComments
        }
        Sample::Mp3Cbr | Sample::Mp3Vbr | Sample::Adts | Sample::Wav | Sample::Aiff | Sample::Dsf => {
            TagType::Id3v2
        }
        Sample::Aac | Sample::Alac => TagType::Mp4Ilst,
        Sample::WavPack | Sample::Musepack | Sample::Ape => TagType::Ape,
    }
}

fn tag(audio: &AudioMeta, cover: Option<Cover>, tag_type: TagType) -> Tag {
    let mut tag = Tag::new(tag_type);
    let mut text = |key: ItemKey, value: &str| {
        tag.push_unchecked(TagItem::new(key, ItemValue::Text(value.to_owned())));
    };
    let single = [
        (ItemKey::TrackTitle, &audio.title),
        (ItemKey::AlbumTitle, &audio.album),
        (ItemKey::RecordingDate, &audio.date),
        (ItemKey::Comment, &audio.comment),
        (ItemKey::TrackTitleSortOrder, &audio.sort.title),
        (ItemKey::TrackArtistSortOrder, &audio.sort.artist),
        (ItemKey::AlbumTitleSortOrder, &audio.sort.album),
        (ItemKey::AlbumArtistSortOrder, &audio.sort.album_artist),
        (ItemKey::ComposerSortOrder, &audio.sort.composer),
        (ItemKey::MusicBrainzRecordingId, &audio.musicbrainz.recording),
        (ItemKey::MusicBrainzTrackId, &audio.musicbrainz.track),
        (ItemKey::MusicBrainzReleaseId, &audio.musicbrainz.release),
        (ItemKey::MusicBrainzReleaseGroupId, &audio.musicbrainz.release_group),
    ];
    for (key, value) in single {
        if let Some(value) = value {
            text(key, value);
        }
    }
    let several = [
        (ItemKey::TrackArtist, &audio.artists),
        (ItemKey::AlbumArtist, &audio.album_artists),
        (ItemKey::Genre, &audio.genres),
        (ItemKey::Composer, &audio.composers),
        (ItemKey::MusicBrainzArtistId, &audio.musicbrainz.artists),
        (ItemKey::MusicBrainzReleaseArtistId, &audio.musicbrainz.album_artists),
    ];
    for (key, values) in several {
        match tag_type {
            // One item with several values; of several items lofty would write the last only.
            TagType::Ape if !values.is_empty() => text(key, &values.join("\0")),
            _ => values.iter().for_each(|value| text(key, value)),
        }
    }
    let numbers = [
        (ItemKey::TrackNumber, audio.track),
        (ItemKey::TrackTotal, audio.track_total),
        (ItemKey::DiscNumber, audio.disc),
        (ItemKey::DiscTotal, audio.disc_total),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            text(key, &value.to_string());
        }
    }
    if audio.compilation {
        text(ItemKey::FlagCompilation, "1");
    }
    let gains = [
        (ItemKey::ReplayGainTrackGain, audio.replay_gain.track_gain, " dB"),
        (ItemKey::ReplayGainTrackPeak, audio.replay_gain.track_peak, ""),
        (ItemKey::ReplayGainAlbumGain, audio.replay_gain.album_gain, " dB"),
        (ItemKey::ReplayGainAlbumPeak, audio.replay_gain.album_peak, ""),
    ];
    for (key, value, unit) in gains {
        if let Some(value) = value {
            text(key, &format!("{value:.2}{unit}"));
        }
    }
    if let Some(cover) = cover {
        tag.push_picture(picture(cover));
    }
    tag
}

fn picture(cover: Cover) -> Picture {
    let mime = match cover {
        Cover::Jpeg => MimeType::Jpeg,
        Cover::Png => MimeType::Png,
    };
    Picture::unchecked(cover.bytes().to_vec()).pic_type(PictureType::CoverFront).mime_type(mime).build()
}

#[cfg(test)]
mod tests {
    use lofty::file::TaggedFileExt;
    use lofty::probe::Probe;
    use musicfs_core::{MusicBrainzIds, ReplayGain, SortNames};

    use super::*;
    use crate::library::Track;

    fn full() -> AudioMeta {
        let text = |s: &str| Some(s.to_owned());
        AudioMeta {
            title: text("Jóga"),
            artists: vec!["Björk".into(), "日本".into()],
            album: text("Homogenic"),
            album_artists: vec!["Björk".into(), "Guest".into()],
            track: Some(2),
            track_total: Some(10),
            disc: Some(1),
            disc_total: Some(2),
            date: text("1997-09-22"),
            genres: vec!["Art Pop".into(), "Electronic".into()],
            composers: vec!["A".into(), "B".into()],
            compilation: true,
            sort: SortNames {
                title: text("Joga"),
                artist: text("Bjork"),
                album: text("Homogenic, The"),
                album_artist: text("Bjork"),
                composer: text("C"),
            },
            comment: text("a comment"),
            musicbrainz: MusicBrainzIds {
                recording: text("11111111-1111-4111-8111-111111111111"),
                track: text("22222222-2222-4222-8222-222222222222"),
                release: text("33333333-3333-4333-8333-333333333333"),
                release_group: text("44444444-4444-4444-8444-444444444444"),
                artists: vec!["55555555-5555-4555-8555-555555555555".into()],
                album_artists: vec!["66666666-6666-4666-8666-666666666666".into()],
            },
            replay_gain: ReplayGain {
                track_gain: Some(-6.5),
                track_peak: Some(0.5),
                album_gain: Some(-7.25),
                album_peak: Some(0.75),
            },
            ..AudioMeta::default()
        }
    }

    #[test]
    fn every_format_that_lofty_reads_back_holds_every_tag() {
        for sample in Sample::ALL {
            if matches!(sample, Sample::OggFlac | Sample::Dsf) {
                continue;
            }
            let bytes = Track::tagged(sample, full()).cover(Cover::Jpeg).to_bytes().unwrap();
            let file = Probe::new(Cursor::new(&bytes)).guess_file_type().unwrap().read().unwrap();
            let found = file.primary_tag().unwrap_or_else(|| panic!("{sample:?} has no tag"));
            let wanted = tag(&full(), None, tag_type(sample));
            for item in wanted.items() {
                let texts: Vec<_> =
                    found.get_strings(item.key()).flat_map(|s| s.split('\0')).map(str::to_owned).collect();
                // ComposerSortOrder has no key in an APE tag.
                if texts.is_empty() && item.key() == ItemKey::ComposerSortOrder {
                    continue;
                }
                for text in item.value().text().unwrap().split('\0') {
                    assert!(
                        texts.iter().any(|t| t == text),
                        "{sample:?}: {:?} is {texts:?}, wanted {text:?}",
                        item.key()
                    );
                }
            }
            // lofty takes an APE tag's pictures for unknown items when it makes the tag a general one.
            let cover = Cover::Jpeg.bytes();
            let is_whole = match tag_type(sample) {
                TagType::Ape => bytes.windows(cover.len()).any(|window| window == cover),
                _ => found.pictures().len() == 1 && found.pictures()[0].data() == cover,
            };
            assert!(is_whole, "{sample:?}");
        }
    }

    #[test]
    fn track_without_tags_is_the_sample_itself() {
        for sample in Sample::ALL {
            assert_eq!(Track::new(sample).to_bytes().unwrap(), sample.bytes());
        }
    }
}
