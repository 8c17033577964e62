//! Of which version the kernel may have pages.

use musicfs_core::Ino;

use super::VersionKey;

/// Sets of the memory of versions. With [`WAYS`] and 16 bytes an entry it takes 512 KiB, of which only what is
/// used becomes resident.
const SETS: usize = 8192;
/// Entries of a set: the last so many numbers that fall into it are remembered.
const WAYS: usize = 4;

/// Which version was last opened through the page cache, of as many numbers as there is room for. Two words an
/// entry: number (0 is none) and version.
pub(super) struct Remembered(Vec<u64>);

impl Remembered {
    pub(super) fn new() -> Self {
        Self(vec![0; SETS * WAYS * 2])
    }

    pub(super) fn forget_all(&mut self) {
        self.0.fill(0);
    }

    fn set(&mut self, number: Ino) -> &mut [u64] {
        // Nearly all numbers are hashes already.
        let at = (number.raw() as usize % SETS) * WAYS * 2;
        &mut self.0[at..at + WAYS * 2]
    }

    /// Remembers `version`, and tells whether it was remembered already.
    pub(super) fn replace(&mut self, number: Ino, version: VersionKey) -> bool {
        let set = self.set(number);
        let found = set.chunks_exact(2).position(|entry| entry[0] == number.raw());
        let same = found.is_some_and(|at| set[at * 2 + 1] == version.0);
        // The most recent comes first; what falls off the end is forgotten.
        let end = found.unwrap_or(WAYS - 1) * 2;
        set.copy_within(..end, 2);
        set[0] = number.raw();
        set[1] = version.0;
        same
    }

    pub(super) fn forget(&mut self, number: Ino) {
        for entry in self.set(number).chunks_exact_mut(2) {
            if entry[0] == number.raw() {
                entry.fill(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_versions_is_bounded_and_forgets_the_oldest() {
        let mut remembered = Remembered::new();
        let mut open = |n: u64| remembered.replace(Ino::from_raw(3 + n * SETS as u64), VersionKey(1));
        for n in 0..=WAYS as u64 {
            assert!(!open(n));
        }
        assert!(open(WAYS as u64));
        assert!(!open(0), "the oldest of the set fell off");
    }
}
