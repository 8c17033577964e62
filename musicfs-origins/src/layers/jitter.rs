//! Chance, injected.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of numbers in `0.0..1.0`, for spreading retries so that many callers do not come back at once.
#[derive(Clone)]
pub struct Jitter(Arc<dyn Fn() -> f64 + Send + Sync>);

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

impl Jitter {
    /// Takes numbers from `source`; what is outside of `0.0..1.0` is cut.
    pub fn new(source: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Makes a generator that gives the same numbers for the same `seed` (SplitMix64). It spreads well and is no
    /// secret.
    pub fn seeded(seed: u64) -> Self {
        let state = AtomicU64::new(seed);
        Self::new(move || {
            let mut z = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            // The upper 53 bits are as many as a double holds.
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        })
    }

    /// Makes one that always says one half.
    pub fn steady() -> Self {
        Self::new(|| 0.5)
    }

    /// Returns the next number.
    pub(crate) fn next(&self) -> f64 {
        let unit = (self.0)();
        if unit.is_finite() { unit.clamp(0.0, 1.0) } else { 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_jitter_is_repeatable_and_spreads() {
        let (a, b) = (Jitter::seeded(7), Jitter::seeded(7));
        let drawn: Vec<f64> = (0..1000).map(|_| a.next()).collect();
        assert!(drawn.iter().all(|n| (0.0..1.0).contains(n)));
        assert_eq!(drawn, (0..1000).map(|_| b.next()).collect::<Vec<_>>());
        let low = drawn.iter().filter(|n| **n < 0.5).count();
        assert!((400..600).contains(&low), "{low} of 1000 in the lower half");
    }
}
