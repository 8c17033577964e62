//! The embedded encodings: about a second of a 440 Hz tone each (0.1 s for DSF, silence for Monkey's Audio).
//!
//! `scripts/make-samples` made them.

use musicfs_core::{Codec, Format};

/// A short untagged encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sample {
    /// FLAC.
    Flac,
    /// MP3 of constant bitrate, without a Xing header.
    Mp3Cbr,
    /// MP3 of variable bitrate, with a Xing header.
    Mp3Vbr,
    /// AAC in MPEG-4, index first.
    Aac,
    /// Apple Lossless in MPEG-4, index last.
    Alac,
    /// AAC without a container.
    Adts,
    /// Ogg Vorbis.
    Vorbis,
    /// Opus.
    Opus,
    /// FLAC in Ogg.
    OggFlac,
    /// Speex.
    Speex,
    /// WAV.
    Wav,
    /// AIFF.
    Aiff,
    /// WavPack.
    WavPack,
    /// Musepack, stream version 8.
    Musepack,
    /// Monkey's Audio.
    Ape,
    /// DSF.
    Dsf,
}

impl Sample {
    /// One of each.
    pub const ALL: [Self; 16] = [
        Self::Flac,
        Self::Mp3Cbr,
        Self::Mp3Vbr,
        Self::Aac,
        Self::Alac,
        Self::Adts,
        Self::Vorbis,
        Self::Opus,
        Self::OggFlac,
        Self::Speex,
        Self::Wav,
        Self::Aiff,
        Self::WavPack,
        Self::Musepack,
        Self::Ape,
        Self::Dsf,
    ];

    /// Returns the untagged file.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Flac => include_bytes!("../../samples/tone.flac"),
            Self::Mp3Cbr => include_bytes!("../../samples/tone-cbr.mp3"),
            Self::Mp3Vbr => include_bytes!("../../samples/tone-vbr.mp3"),
            Self::Aac => include_bytes!("../../samples/tone-aac.m4a"),
            Self::Alac => include_bytes!("../../samples/tone-alac.m4a"),
            Self::Adts => include_bytes!("../../samples/tone.aac"),
            Self::Vorbis => include_bytes!("../../samples/tone.ogg"),
            Self::Opus => include_bytes!("../../samples/tone.opus"),
            Self::OggFlac => include_bytes!("../../samples/tone.oga"),
            Self::Speex => include_bytes!("../../samples/tone.spx"),
            Self::Wav => include_bytes!("../../samples/tone.wav"),
            Self::Aiff => include_bytes!("../../samples/tone.aiff"),
            Self::WavPack => include_bytes!("../../samples/tone.wv"),
            Self::Musepack => include_bytes!("../../samples/tone.mpc"),
            Self::Ape => include_bytes!("../../samples/tone.ape"),
            Self::Dsf => include_bytes!("../../samples/tone.dsf"),
        }
    }

    /// Returns the usual extension, without its dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Flac => "flac",
            Self::Mp3Cbr | Self::Mp3Vbr => "mp3",
            Self::Aac | Self::Alac => "m4a",
            Self::Adts => "aac",
            Self::Vorbis => "ogg",
            Self::Opus => "opus",
            Self::OggFlac => "oga",
            Self::Speex => "spx",
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::WavPack => "wv",
            Self::Musepack => "mpc",
            Self::Ape => "ape",
            Self::Dsf => "dsf",
        }
    }

    /// Returns the container that a scan must recognise.
    pub const fn format(self) -> Format {
        match self {
            Self::Flac => Format::Flac,
            Self::Mp3Cbr | Self::Mp3Vbr => Format::Mp3,
            Self::Aac | Self::Alac => Format::Mp4,
            Self::Adts => Format::Aac,
            Self::Vorbis | Self::Opus | Self::OggFlac | Self::Speex => Format::Ogg,
            Self::Wav => Format::Wav,
            Self::Aiff => Format::Aiff,
            Self::WavPack => Format::WavPack,
            Self::Musepack => Format::Mpc,
            Self::Ape => Format::Ape,
            Self::Dsf => Format::Dsf,
        }
    }

    /// Returns the codec that a scan must find.
    pub const fn codec(self) -> Codec {
        match self {
            Self::Flac | Self::OggFlac => Codec::Flac,
            Self::Mp3Cbr | Self::Mp3Vbr => Codec::Mp3,
            Self::Aac | Self::Adts => Codec::Aac,
            Self::Alac => Codec::Alac,
            Self::Vorbis => Codec::Vorbis,
            Self::Opus => Codec::Opus,
            Self::Speex => Codec::Speex,
            Self::Wav | Self::Aiff => Codec::Pcm,
            Self::WavPack => Codec::WavPack,
            Self::Musepack => Codec::Musepack,
            Self::Ape => Codec::Ape,
            Self::Dsf => Codec::Dsd,
        }
    }

    /// Returns the samples per second of the encoding.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Self::Flac => 22_050,
            Self::Opus => 48_000,
            Self::Speex => 16_000,
            Self::Alac | Self::OggFlac | Self::Wav | Self::Aiff | Self::WavPack => 11_025,
            Self::Dsf => 2_822_400,
            _ => 44_100,
        }
    }

    /// Returns the number of channels of the encoding.
    pub const fn channels(self) -> u8 {
        match self {
            Self::Flac
            | Self::Speex
            | Self::Alac
            | Self::OggFlac
            | Self::Wav
            | Self::Aiff
            | Self::WavPack
            | Self::Dsf => 1,
            _ => 2,
        }
    }

    /// Returns the playing time in milliseconds, as exact as the format tells it: lossy formats add up to 50 ms.
    pub const fn duration_ms(self) -> u64 {
        if matches!(self, Self::Dsf) { 100 } else { 1000 }
    }
}

/// A picture of 64×64 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cover {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl Cover {
    /// Returns the picture's bytes.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Jpeg => include_bytes!("../../samples/cover.jpg"),
            Self::Png => include_bytes!("../../samples/cover.png"),
        }
    }

    /// Returns its MIME type.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}
