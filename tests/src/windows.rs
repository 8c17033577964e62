//! Comparing what is read of a file in other ways than from its beginning to its end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// Reads windows all over a file, some across its end, and compares them.
///
/// # Panics
/// When they differ.
pub fn assert_same_at_random(seen: &Path, wanted: &[u8]) {
    let file = File::open(seen).unwrap_or_else(|error| panic!("{}: {error}", seen.display()));
    let mut numbers = Numbers(wanted.len() as u64);
    for _ in 0..60 {
        let offset = numbers.below(wanted.len() as u64 + 10_000);
        let mut window = vec![0; 1 + numbers.below(300_000) as usize];
        let mut got = 0;
        while got < window.len() {
            match file
                .read_at(&mut window[got..], offset + got as u64)
                .unwrap_or_else(|error| panic!("{}: {error}", seen.display()))
            {
                0 => break,
                n => got += n,
            }
        }
        let start = (offset as usize).min(wanted.len());
        let end = (start + window.len()).min(wanted.len());
        assert!(window[..got] == wanted[start..end], "{} differs at {offset}", seen.display());
    }
}

/// Maps a file, and compares it.
///
/// # Panics
/// When it differs.
#[expect(unsafe_code, reason = "a file is mapped as players do")]
pub fn assert_same_mapped(seen: &Path, wanted: &[u8]) {
    let file = File::open(seen).unwrap_or_else(|error| panic!("{}: {error}", seen.display()));
    // SAFETY: nothing changes the file or its origin while it is mapped.
    let map =
        unsafe { memmap2::Mmap::map(&file) }.unwrap_or_else(|error| panic!("{}: {error}", seen.display()));
    assert!(map[..] == *wanted, "{} differs when mapped", seen.display());
}
