//! Monkey's Audio and Musepack: what lofty tells of their streams.
//!
//! lofty is shown only the audio, without the tags around it, and of Musepack SV8 only the head: it would read all
//! packets to add up their lengths.

use lofty::ape::ApeFile;
use lofty::config::ParseOptions;
use lofty::file::AudioFile;
use lofty::musepack::{MpcFile, MpcProperties};
use musicfs_core::{AudioMeta, ByteRange, Codec};

use super::window::{Stop, Window};
use super::{ParseError, stream};

/// How much of a Musepack stream is shown: its header packets.
const MUSEPACK_HEAD: u64 = 4096;
/// The loudness, in dB, that Musepack SV8's ReplayGain values are relative to.
const MUSEPACK_REFERENCE: f32 = 64.82;

fn options() -> ParseOptions {
    ParseOptions::new().read_tags(false).read_cover_art(false)
}

/// Reads the Monkey's Audio stream in `audio`.
pub(super) fn read_monkey(
    window: &mut Window<'_>,
    audio: ByteRange,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    let file =
        window.stream(audio, |view| ApeFile::read_from(view, options()))?.map_err(ParseError::malformed)?;
    let found = file.properties();
    meta.codec = Some(Codec::Ape);
    meta.sample_rate = found.sample_rate();
    meta.channels = found.channels();
    meta.bit_depth = found.bit_depth();
    meta.duration_ms = u64::try_from(found.duration().as_millis()).unwrap_or(0);
    stream::set_bitrate(meta, audio.len());
    require(meta)
}

/// Reads the Musepack stream in `audio`.
pub(super) fn read_musepack(
    window: &mut Window<'_>,
    audio: ByteRange,
    meta: &mut AudioMeta,
) -> Result<(), Stop> {
    let head = ByteRange::at(audio.start(), MUSEPACK_HEAD).intersect(&audio).unwrap_or(audio);
    let file =
        window.stream(head, |view| MpcFile::read_from(view, options()))?.map_err(ParseError::malformed)?;
    meta.codec = Some(Codec::Musepack);
    let duration = match file.properties() {
        MpcProperties::Sv8(found) => {
            (meta.sample_rate, meta.channels) = (found.sample_rate(), found.channels());
            let gains = found.replay_gain;
            let gain =
                |loudness: u16| (loudness > 0).then(|| MUSEPACK_REFERENCE - f32::from(loudness) / 256.0);
            let peak = |level: u16| {
                (level > 0).then(|| 10f32.powf(f32::from(level) / (256.0 * 20.0)) / f32::from(i16::MAX))
            };
            meta.replay_gain.track_gain = gain(gains.title_gain);
            meta.replay_gain.album_gain = gain(gains.album_gain);
            meta.replay_gain.track_peak = peak(gains.title_peak);
            meta.replay_gain.album_peak = peak(gains.album_peak);
            found.duration()
        }
        MpcProperties::Sv7(found) => {
            (meta.sample_rate, meta.channels) = (found.sample_rate(), found.channels());
            read_gains_of_sv7(&window.array(audio.start())?, meta);
            found.duration()
        }
        MpcProperties::Sv4to6(found) => {
            (meta.sample_rate, meta.channels) = (found.sample_rate(), found.channels());
            found.duration()
        }
    };
    meta.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(0);
    stream::set_bitrate(meta, audio.len());
    require(meta)
}

/// Reads ReplayGain of Musepack SV7: gains in 1/100 dB, with a sign that lofty does not heed, and peaks of 16 bits.
fn read_gains_of_sv7(head: &[u8; 20], meta: &mut AudioMeta) {
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let gain = |at: usize| Some(f32::from(word(at).cast_signed()) / 100.0).filter(|gain| *gain != 0.0);
    let peak = |at: usize| (word(at) > 0).then(|| f32::from(word(at)) / f32::from(i16::MAX));
    meta.replay_gain.track_peak = peak(12);
    meta.replay_gain.track_gain = gain(14);
    meta.replay_gain.album_peak = peak(16);
    meta.replay_gain.album_gain = gain(18);
}

/// Refuses a stream of which nothing was found out: lofty leaves out what it cannot read.
fn require(meta: &AudioMeta) -> Result<(), Stop> {
    if meta.sample_rate == 0 || meta.channels == 0 {
        return Err(ParseError::Malformed("its stream header cannot be read".to_owned()).into());
    }
    Ok(())
}
