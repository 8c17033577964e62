//! What a file says of its music.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::{ByteRange, ChunkHash};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A file's container, recognised by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Native FLAC.
    Flac,
    /// MPEG audio (layers I to III).
    Mp3,
    /// MPEG-4 (m4a, m4b, mp4, alac).
    Mp4,
    /// Raw AAC (ADTS).
    Aac,
    /// Ogg with Vorbis, Opus, FLAC or Speex.
    Ogg,
    /// RIFF WAVE, RF64 included.
    Wav,
    /// AIFF and AIFF-C.
    Aiff,
    /// WavPack.
    WavPack,
    /// Monkey's Audio.
    Ape,
    /// Musepack, SV7 and SV8.
    Mpc,
    /// DSD stream file.
    Dsf,
}

impl Format {
    /// Returns the file name extension that players expect, for a file that has none.
    pub const fn default_extension(self) -> &'static str {
        match self {
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Mp4 => "m4a",
            Self::Aac => "aac",
            Self::Ogg => "ogg",
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::WavPack => "wv",
            Self::Ape => "ape",
            Self::Mpc => "mpc",
            Self::Dsf => "dsf",
        }
    }

    /// Returns the format's name as users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Mp4 => "MPEG-4",
            Self::Aac => "AAC",
            Self::Ogg => "Ogg",
            Self::Wav => "WAV",
            Self::Aiff => "AIFF",
            Self::WavPack => "WavPack",
            Self::Ape => "Monkey's Audio",
            Self::Mpc => "Musepack",
            Self::Dsf => "DSF",
        }
    }
}

/// How the audio is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Codec {
    /// FLAC, in its own container or in Ogg.
    Flac,
    /// MPEG audio layer I, II or III.
    Mp3,
    /// AAC in any profile.
    Aac,
    /// Apple Lossless.
    Alac,
    /// Vorbis.
    Vorbis,
    /// Opus.
    Opus,
    /// Speex.
    Speex,
    /// Linear PCM.
    Pcm,
    /// WavPack.
    WavPack,
    /// Monkey's Audio.
    Ape,
    /// Musepack.
    Musepack,
    /// One-bit DSD.
    Dsd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Aac => "AAC",
            Self::Alac => "ALAC",
            Self::Vorbis => "Vorbis",
            Self::Opus => "Opus",
            Self::Speex => "Speex",
            Self::Pcm => "PCM",
            Self::WavPack => "WavPack",
            Self::Ape => "Monkey's Audio",
            Self::Musepack => "Musepack",
            Self::Dsd => "DSD",
        })
    }
}

/// Names by which to sort, where the file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SortNames {
    /// Title.
    #[serde(skip_serializing_if = "is_default")]
    pub title: Option<String>,
    /// Artist.
    #[serde(skip_serializing_if = "is_default")]
    pub artist: Option<String>,
    /// Album.
    #[serde(skip_serializing_if = "is_default")]
    pub album: Option<String>,
    /// Album artist.
    #[serde(skip_serializing_if = "is_default")]
    pub album_artist: Option<String>,
    /// Composer.
    #[serde(skip_serializing_if = "is_default")]
    pub composer: Option<String>,
}

/// Identifiers of the MusicBrainz database, as tagged (UUIDs as text).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MusicBrainzIds {
    /// Recording.
    #[serde(skip_serializing_if = "is_default")]
    pub recording: Option<String>,
    /// Track on its release.
    #[serde(skip_serializing_if = "is_default")]
    pub track: Option<String>,
    /// Release (an album's edition).
    #[serde(skip_serializing_if = "is_default")]
    pub release: Option<String>,
    /// Release group (an album's editions together).
    #[serde(skip_serializing_if = "is_default")]
    pub release_group: Option<String>,
    /// Artists, in order.
    #[serde(skip_serializing_if = "is_default")]
    pub artists: Vec<String>,
    /// Album artists, in order.
    #[serde(skip_serializing_if = "is_default")]
    pub album_artists: Vec<String>,
}

/// ReplayGain 2.0 values: gains in dB, peaks as a fraction of full scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayGain {
    /// Track gain, dB.
    #[serde(skip_serializing_if = "is_default")]
    pub track_gain: Option<f32>,
    /// Track peak.
    #[serde(skip_serializing_if = "is_default")]
    pub track_peak: Option<f32>,
    /// Album gain, dB.
    #[serde(skip_serializing_if = "is_default")]
    pub album_gain: Option<f32>,
    /// Album peak.
    #[serde(skip_serializing_if = "is_default")]
    pub album_peak: Option<f32>,
}

/// What a picture in a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureKind {
    /// The front cover.
    Front,
    /// The back cover.
    Back,
    /// Anything else.
    Other,
}

/// How a picture's bytes lie in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureStorage {
    /// As they are.
    #[default]
    Plain,
    /// With ID3v2's unsynchronisation: a zero byte after a byte of 0xFF does not belong to the picture.
    Unsynchronised,
    /// As the base64 text of a FLAC picture block (the comment `METADATA_BLOCK_PICTURE`).
    Base64,
}

/// Where in its file a picture's bytes are. They are never loaded by a scan.
///
/// In an Ogg file the stretch may cross pages, whose headers then lie among the picture's bytes and are counted
/// in its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRef {
    /// What it shows.
    pub kind: PictureKind,
    /// Its MIME type as the file gives it; may be empty.
    pub mime: String,
    /// Offset of the picture's first byte in the file.
    pub offset: u64,
    /// Length in bytes, as stored.
    pub len: u64,
    /// How the bytes are stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: PictureStorage,
}

/// What tells that two files hold the same audio, whatever their tags.
///
/// Equal identities say that the audio is the same, not that its bytes in the files are: a FLAC file may have been
/// encoded again, and the pages of an Ogg file are numbered anew when its comments grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioIdentity {
    /// FLAC's own MD5 of the decoded samples, with their number.
    FlacMd5 {
        /// MD5 of the decoded audio.
        md5: [u8; 16],
        /// Samples per channel.
        samples: u64,
    },
    /// For formats that carry no checksum of their audio: how long it is as stored, and what stands at fixed places
    /// in it.
    Sampled {
        /// Length of the stored audio in bytes: that of [`AudioMeta::audio_region`].
        bytes: u64,
        /// BLAKE3 of the places that are looked at, which differ by format.
        hash: ChunkHash,
    },
}

impl AudioIdentity {
    /// Feeds a hash with the identity, in a form that stays the same for as long as catalogues live.
    pub(crate) fn feed(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::FlacMd5 { md5, samples } => {
                hasher.update(b"flac md5").update(md5).update(&samples.to_le_bytes());
            }
            Self::Sampled { bytes, hash } => {
                hasher.update(b"sampled").update(&bytes.to_le_bytes()).update(hash.as_bytes());
            }
        }
    }
}

/// What a file's tags and stream headers say. Empty tags and tags of blanks only count as absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AudioMeta {
    /// Title.
    #[serde(skip_serializing_if = "is_default")]
    pub title: Option<String>,
    /// Artists, in the order tagged.
    #[serde(skip_serializing_if = "is_default")]
    pub artists: Vec<String>,
    /// Album.
    #[serde(skip_serializing_if = "is_default")]
    pub album: Option<String>,
    /// Album artists, in the order tagged.
    #[serde(skip_serializing_if = "is_default")]
    pub album_artists: Vec<String>,
    /// Track number, from 1.
    #[serde(skip_serializing_if = "is_default")]
    pub track: Option<u32>,
    /// Number of tracks on the disc.
    #[serde(skip_serializing_if = "is_default")]
    pub track_total: Option<u32>,
    /// Disc number, from 1.
    #[serde(skip_serializing_if = "is_default")]
    pub disc: Option<u32>,
    /// Number of discs.
    #[serde(skip_serializing_if = "is_default")]
    pub disc_total: Option<u32>,
    /// Date as tagged; begins with the year where it is well formed.
    #[serde(skip_serializing_if = "is_default")]
    pub date: Option<String>,
    /// Genres.
    #[serde(skip_serializing_if = "is_default")]
    pub genres: Vec<String>,
    /// Composers.
    #[serde(skip_serializing_if = "is_default")]
    pub composers: Vec<String>,
    /// Whether the file belongs to a compilation of several artists.
    #[serde(skip_serializing_if = "is_default")]
    pub compilation: bool,
    /// Names to sort by.
    #[serde(skip_serializing_if = "is_default")]
    pub sort: SortNames,
    /// Comment.
    #[serde(skip_serializing_if = "is_default")]
    pub comment: Option<String>,
    /// MusicBrainz identifiers.
    #[serde(skip_serializing_if = "is_default")]
    pub musicbrainz: MusicBrainzIds,
    /// ReplayGain values.
    #[serde(skip_serializing_if = "is_default")]
    pub replay_gain: ReplayGain,
    /// Playing time in milliseconds; 0 when unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub duration_ms: u64,
    /// Samples per second; 0 when unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub sample_rate: u32,
    /// Channels; 0 when unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub channels: u8,
    /// Bits per sample; 0 where the codec has none.
    #[serde(skip_serializing_if = "is_default")]
    pub bit_depth: u8,
    /// Average bitrate of the stored (not the decoded) audio in kbit/s; 0 when unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub bitrate_kbps: u32,
    /// Codec.
    #[serde(skip_serializing_if = "is_default")]
    pub codec: Option<Codec>,
    /// Where the pictures are.
    #[serde(skip_serializing_if = "is_default")]
    pub pictures: Vec<PictureRef>,
    /// Where in the file the audio lies, tags and headers being outside; `None` where that is not one stretch, or
    /// was not found out.
    #[serde(skip_serializing_if = "is_default")]
    pub audio_region: Option<ByteRange>,
    /// What identifies the audio itself.
    #[serde(skip_serializing_if = "is_default")]
    pub identity: Option<AudioIdentity>,
}

impl AudioMeta {
    /// Returns the year of [`AudioMeta::date`], when it begins with four digits.
    pub fn year(&self) -> Option<u16> {
        let date = self.date.as_deref()?.as_bytes();
        let digits = date.get(..4)?;
        if !digits.iter().all(u8::is_ascii_digit) || date.get(4).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Tells whether the file's own tags say that its album has several discs.
    pub fn says_multi_disc(&self) -> bool {
        self.disc_total.is_some_and(|n| n > 1) || self.disc.is_some_and(|n| n > 1)
    }

    /// Returns the album this file belongs to, or `None` without an album tag.
    pub fn album_key(&self) -> Option<AlbumKey> {
        let album = self.album.as_deref()?;
        let artist = if self.album_artists.is_empty() {
            if self.compilation { crate::layout::VARIOUS_ARTISTS.to_owned() } else { self.artists.join("; ") }
        } else {
            self.album_artists.join("; ")
        };
        Some(AlbumKey::derive(&artist, album))
    }
}

/// Identifies an album: its album artist (or what stands for it) and its title, case and Unicode form folded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlbumKey(i64);

impl AlbumKey {
    fn derive(artist: &str, album: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        let fold = |s: &str| match s.trim() {
            // The same, ten times as fast.
            s if s.is_ascii() => s.to_ascii_lowercase(),
            s => s.nfkc().collect::<String>().to_lowercase(),
        };
        hasher.update(fold(artist).as_bytes());
        hasher.update(&[0]);
        hasher.update(fold(album).as_bytes());
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        Self(i64::from_le_bytes(bytes))
    }

    /// Wraps a number that [`AlbumKey::raw`] gave.
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the number that stands for this key in stores.
    pub const fn raw(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn year_is_read_from_well_formed_dates_only() {
        let year = |d: &str| AudioMeta { date: Some(d.into()), ..Default::default() }.year();
        assert_eq!(year("1959"), Some(1959));
        assert_eq!(year("1959-08-17"), Some(1959));
        assert_eq!(year("59"), None);
        assert_eq!(year("19590817"), None);
        assert_eq!(year("’959"), None);
    }

    #[test]
    fn album_key_folds_case_and_unicode_form() {
        let key = |artist: &str, album: &str| {
            AudioMeta { artists: vec![artist.into()], album: Some(album.into()), ..Default::default() }
                .album_key()
        };
        assert_eq!(key("Björk", "Debut"), key("bjo\u{308}rk", "DEBUT"));
        assert_ne!(key("Björk", "Debut"), key("Björk", "Post"));
        assert_eq!(AudioMeta::default().album_key(), None);
    }

    #[test]
    fn empty_meta_is_stored_as_an_empty_object() {
        let json = serde_json::to_string(&AudioMeta::default()).unwrap();
        assert_eq!(json, "{}");
    }
}
