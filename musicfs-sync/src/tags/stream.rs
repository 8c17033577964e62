//! Figures of a stream that several formats work out alike.

use musicfs_core::AudioMeta;

/// Returns how long so many samples (per channel) play, in milliseconds, rounded; 0 when the rate is unknown.
pub(super) fn millis(samples: u64, sample_rate: u32) -> u64 {
    let rate = u128::from(sample_rate);
    if rate == 0 {
        return 0;
    }
    u64::try_from((u128::from(samples) * 1000 + rate / 2) / rate).unwrap_or(0)
}

/// Sets the average bitrate from the stored audio's length in bytes and the playing time, when that is known.
pub(super) fn set_bitrate(meta: &mut AudioMeta, audio_bytes: u64) {
    if let Some(kbps) = (u128::from(audio_bytes) * 8 + u128::from(meta.duration_ms) / 2)
        .checked_div(u128::from(meta.duration_ms))
    {
        meta.bitrate_kbps = u32::try_from(kbps).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_never_overflow() {
        assert_eq!(millis(44_100, 44_100), 1000);
        assert_eq!(millis(1, 44_100), 0);
        assert_eq!(millis(u64::MAX, 1), 0);
        assert_eq!(millis(5, 0), 0);
        let mut meta = AudioMeta { duration_ms: 1000, ..Default::default() };
        set_bitrate(&mut meta, 40_000);
        assert_eq!(meta.bitrate_kbps, 320);
        meta = AudioMeta::default();
        set_bitrate(&mut meta, 40_000);
        assert_eq!(meta.bitrate_kbps, 0);
    }
}
