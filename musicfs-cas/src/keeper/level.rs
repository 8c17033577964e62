//! How full a cache is: pure.

use serde::Serialize;

/// From here chunks are evicted.
const EVICT: u128 = 90;
/// Eviction goes down to this, so that not every chunk that comes makes it begin anew.
const EVICT_TO: u128 = 88;
/// From here nothing is fetched that nobody asked for.
const NO_PREFETCH: u128 = 95;
/// From here nothing is written.
const NO_WRITES: u128 = 99;

/// How full a cache is, in marks; each has the consequences of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheLevel {
    /// There is room.
    Normal,
    /// 90 % and more: what was used longest ago is evicted.
    Evicting,
    /// 95 % and more: nothing is fetched that nobody asked for.
    Tight,
    /// 99 % and more: what is read is not kept.
    Full,
}

impl CacheLevel {
    /// Returns its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Evicting => "evicting",
            Self::Tight => "tight",
            Self::Full => "full",
        }
    }

    /// Tells the level of `taken` bytes where `room` are allowed.
    pub(super) fn of(taken: u64, room: u64) -> Self {
        let reaches = |percent: u128| u128::from(taken) * 100 >= u128::from(room) * percent;
        match () {
            () if room == u64::MAX => Self::Normal,
            () if reaches(NO_WRITES) && taken > 0 => Self::Full,
            () if reaches(NO_PREFETCH) && taken > 0 => Self::Tight,
            () if reaches(EVICT) && taken > 0 => Self::Evicting,
            () => Self::Normal,
        }
    }
}

/// Returns how much may be added to `taken` bytes before eviction begins.
pub(super) fn before_evicting(taken: u64, room: u64) -> u64 {
    let mark = u64::try_from(u128::from(room) * EVICT / 100).unwrap_or(u64::MAX);
    mark.saturating_sub(taken)
}

/// Returns how much of `taken` bytes must go.
pub(super) fn surplus(taken: u64, room: u64) -> u64 {
    if CacheLevel::of(taken, room) < CacheLevel::Evicting {
        return 0;
    }
    let keep = u64::try_from(u128::from(room) * EVICT_TO / 100).unwrap_or(u64::MAX);
    taken.saturating_sub(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_at_their_marks() {
        let levels = [0, 899, 900, 949, 950, 989, 990, 1000, 2000].map(|taken| CacheLevel::of(taken, 1000));
        use CacheLevel::{Evicting, Full, Normal, Tight};
        assert_eq!(levels, [Normal, Normal, Evicting, Evicting, Tight, Tight, Full, Full, Full]);
        assert_eq!(CacheLevel::of(u64::MAX - 1, u64::MAX), Normal);
        assert_eq!((CacheLevel::of(1, 0), CacheLevel::of(0, 0)), (Full, Normal));
    }

    #[test]
    fn surplus_is_what_must_go_to_be_well_below_the_first_mark() {
        assert_eq!([surplus(899, 1000), surplus(900, 1000), surplus(1000, 1000)], [0, 20, 120]);
        assert_eq!((surplus(5, 0), surplus(u64::MAX - 1, u64::MAX)), (5, 0));
    }
}
