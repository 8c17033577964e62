//! What named keys of tags are about.
//!
//! Vorbis comments, APEv2 items, ID3v2's user texts and MP4's free-form atoms use the same names, in different
//! dress (`MUSICBRAINZ_ALBUMID`, `MusicBrainz Album Id`). One table serves all: case, blanks, `_` and `-` do not
//! count.

use super::fields::Field;

/// Longest name in the table.
const LONGEST: usize = 40;

/// Returns what a key is about; `None` for one that is not of interest.
pub(super) fn field_of(key: &[u8]) -> Option<Field> {
    let mut plain = [0; LONGEST];
    let mut len = 0;
    for byte in key {
        if matches!(byte, b' ' | b'_' | b'-') {
            continue;
        }
        *plain.get_mut(len)? = byte.to_ascii_uppercase();
        len += 1;
    }
    Some(match &plain[..len] {
        b"TITLE" => Field::Title,
        b"ARTIST" => Field::Artist,
        b"ARTISTS" => Field::Artists,
        b"ALBUM" => Field::Album,
        b"ALBUMARTIST" => Field::AlbumArtist,
        b"ALBUMARTISTS" => Field::AlbumArtists,
        b"TRACKNUMBER" | b"TRACK" | b"TRACKNUM" => Field::Track,
        b"TRACKTOTAL" | b"TOTALTRACKS" | b"TRACKC" => Field::TrackTotal,
        b"DISCNUMBER" | b"DISC" | b"DISKNUMBER" | b"DISK" | b"DISCNUM" => Field::Disc,
        b"DISCTOTAL" | b"TOTALDISCS" | b"DISKTOTAL" | b"TOTALDISKS" | b"DISCC" => Field::DiscTotal,
        b"DATE" | b"RECORDINGDATE" => Field::Date,
        b"RELEASEDATE" => Field::ReleaseDate,
        b"YEAR" => Field::Year,
        b"ORIGINALDATE" | b"ORIGINALYEAR" | b"ORIGYEAR" | b"ORIGINALRELEASEDATE" => Field::OriginalDate,
        b"GENRE" => Field::Genre,
        b"COMPOSER" => Field::Composer,
        b"COMPILATION" | b"ITUNESCOMPILATION" => Field::Compilation,
        b"TITLESORT" | b"TITLESORTORDER" => Field::TitleSort,
        b"ARTISTSORT" | b"ARTISTSORTORDER" => Field::ArtistSort,
        b"ALBUMSORT" | b"ALBUMSORTORDER" => Field::AlbumSort,
        b"ALBUMARTISTSORT" | b"ALBUMARTISTSORTORDER" => Field::AlbumArtistSort,
        b"COMPOSERSORT" | b"COMPOSERSORTORDER" => Field::ComposerSort,
        b"COMMENT" => Field::Comment,
        b"DESCRIPTION" => Field::Description,
        b"MUSICBRAINZTRACKID" | b"MUSICBRAINZRECORDINGID" => Field::MbRecording,
        b"MUSICBRAINZRELEASETRACKID" => Field::MbTrack,
        b"MUSICBRAINZALBUMID" | b"MUSICBRAINZRELEASEID" => Field::MbRelease,
        b"MUSICBRAINZRELEASEGROUPID" => Field::MbReleaseGroup,
        b"MUSICBRAINZARTISTID" => Field::MbArtist,
        b"MUSICBRAINZALBUMARTISTID" => Field::MbAlbumArtist,
        b"REPLAYGAINTRACKGAIN" => Field::TrackGain,
        b"REPLAYGAINTRACKPEAK" => Field::TrackPeak,
        b"REPLAYGAINALBUMGAIN" => Field::AlbumGain,
        b"REPLAYGAINALBUMPEAK" => Field::AlbumPeak,
        b"R128TRACKGAIN" => Field::R128TrackGain,
        b"R128ALBUMGAIN" => Field::R128AlbumGain,
        _ => return None,
    })
}

/// As [`field_of`], for texts beside a tag format's own fields (ID3v2's `TXXX`, MP4's `----`): what the format has
/// a field of its own for is not taken from there.
pub(super) fn extra_field_of(key: &[u8]) -> Option<Field> {
    field_of(key).filter(|field| {
        !matches!(
            field,
            Field::Title
                | Field::Artist
                | Field::Album
                | Field::Track
                | Field::Disc
                | Field::Date
                | Field::Genre
                | Field::Composer
                | Field::Comment
                | Field::Description
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_in_any_dress() {
        for key in ["MUSICBRAINZ_ALBUMID", "MusicBrainz Album Id", "musicbrainz_album_id"] {
            assert_eq!(field_of(key.as_bytes()), Some(Field::MbRelease), "{key}");
        }
        assert_eq!(field_of(b"Album Artist"), Some(Field::AlbumArtist));
        assert_eq!(field_of(b"replaygain_track_gain"), Some(Field::TrackGain));
        assert_eq!(field_of(b""), None);
        assert_eq!(field_of(&[b'x'; 100]), None);
        assert_eq!(extra_field_of(b"TITLE"), None);
        assert_eq!(extra_field_of(b"ARTISTS"), Some(Field::Artists));
    }
}
