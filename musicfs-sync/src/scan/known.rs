//! What a pass knows of an origin's files, in as little memory as that takes.
//!
//! A million files are some 40 MB: rows of fixed size in order of id, found through a table of where the ids begin
//! that share their first bits. Ids are hashes, so that each such run is short. Etags are kept as hashes of 64
//! bits, which is enough to tell two versions of one file apart.

use musicfs_core::{FileId, FileKind, FileState, FileVersion, KnownFile, UnixNanos};

/// Bits of an id; see [`FileId`].
const ID_BITS: u32 = 62;
/// Ids that share their first bits, on average, at the most.
const RUN: usize = 4;

/// What is the same of a file that moved.
pub(super) type SizeAndTime = (u64, Option<UnixNanos>);

/// Returns the size and time of a version.
pub(super) fn size_and_time(version: &FileVersion) -> SizeAndTime {
    (version.size, version.mtime)
}

/// A file, as far as comparing it with a listing needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    id: FileId,
    size: u64,
    mtime: i64,
    /// Hash of the etag; 0 for none.
    etag: u64,
    pub(super) kind: FileKind,
    pub(super) state: FileState,
    has_mtime: bool,
    pub(super) seen: bool,
    /// It is excluded with its folder, and something else was listed in its place.
    pub(super) is_other: bool,
    /// It was added after files were last looked up, and takes the place of a row with its id that was there then.
    fresh: bool,
}

impl Known {
    fn of(file: &KnownFile) -> Self {
        let FileVersion { size, mtime, etag } = &file.version;
        Self {
            id: file.id,
            size: *size,
            mtime: mtime.map_or(0, |time| time.0),
            etag: etag_hash(etag.as_deref()),
            kind: file.kind,
            state: file.state,
            has_mtime: mtime.is_some(),
            seen: false,
            is_other: false,
            fresh: true,
        }
    }

    /// See [`size_and_time`].
    pub(super) fn size_and_time(&self) -> SizeAndTime {
        (self.size, self.has_mtime.then_some(UnixNanos(self.mtime)))
    }

    /// As [`FileVersion::is_same`].
    pub(super) fn is_version(&self, version: &FileVersion) -> bool {
        let etag = etag_hash(version.etag.as_deref());
        let same_time = self.has_mtime == version.mtime.is_some()
            && version.mtime.is_none_or(|time| time.0 == self.mtime);
        self.size == version.size && if etag != 0 && self.etag != 0 { etag == self.etag } else { same_time }
    }
}

fn etag_hash(etag: Option<&str>) -> u64 {
    let Some(etag) = etag else { return 0 };
    let mut bytes = [0; 8];
    blake3::Hasher::new().update(etag.as_bytes()).finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes).max(1)
}

/// The files of an origin, or of a part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFiles {
    rows: Vec<Known>,
    /// Where in `rows` the ids with these first bits begin; empty while rows are added.
    starts: Vec<u32>,
    shift: u32,
    versions: Versions,
}

impl KnownFiles {
    /// Adds a file. One that was there when files were last looked up is replaced.
    pub(super) fn add(&mut self, file: &KnownFile) {
        self.starts.clear();
        self.versions.add(&file.version);
        self.rows.push(Known::of(file));
    }

    /// Puts the rows in order; called by itself when something is looked up.
    fn settle(&mut self) {
        if !self.starts.is_empty() {
            return;
        }
        // In place: a stable sort takes half of the rows' memory once more, at the moment when most is in use.
        self.rows.sort_unstable_by_key(|row| (row.id, !row.fresh));
        self.rows.dedup_by_key(|row| row.id);
        self.rows.iter_mut().for_each(|row| row.fresh = false);
        self.rows.shrink_to_fit();
        let bits = (self.rows.len() / RUN).max(1).ilog2();
        self.shift = ID_BITS - bits;
        let runs = 1usize << bits;
        self.starts = Vec::with_capacity(runs + 1);
        let mut at = 0;
        for run in 0..runs {
            self.starts.push(at as u32);
            while self.rows.get(at).is_some_and(|row| self.run_of(row.id) == run) {
                at += 1;
            }
        }
        self.starts.push(self.rows.len() as u32);
    }

    fn run_of(&self, id: FileId) -> usize {
        (id.raw().cast_unsigned() >> self.shift) as usize
    }

    /// Finds a file.
    pub(super) fn get_mut(&mut self, id: FileId) -> Option<&mut Known> {
        self.settle();
        let run = self.run_of(id);
        let range = self.starts[run] as usize..self.starts[run + 1] as usize;
        self.rows[range].iter_mut().find(|row| row.id == id)
    }

    /// Tells whether no file is known.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tells whether some known file may have this size and time: a file that moved has them still.
    pub(super) fn may_have(&self, version: &FileVersion) -> bool {
        self.versions.may_have(version)
    }

    /// Visits the files in order of id.
    pub(super) fn iter(&mut self) -> impl Iterator<Item = (FileId, &Known)> {
        self.settle();
        self.rows.iter().map(|row| (row.id, row))
    }
}

/// Which sizes and times there are, as a set of bits: it never says no where it should say yes.
#[derive(Clone, Debug, Default)]
struct Versions {
    bits: Vec<u64>,
}

impl Versions {
    /// 16 million bits: for a million files, one in sixteen others is taken for one of them, which costs little.
    const BITS: u64 = 1 << 24;

    fn place(version: &FileVersion) -> (usize, u64) {
        let time = version.mtime.unwrap_or_default().0.cast_unsigned();
        let mixed = (version.size ^ time.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        let bit = mixed % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn add(&mut self, version: &FileVersion) {
        if self.bits.is_empty() {
            self.bits = vec![0; (Self::BITS / 64) as usize];
        }
        let (word, bit) = Self::place(version);
        self.bits[word] |= bit;
    }

    fn may_have(&self, version: &FileVersion) -> bool {
        let (word, bit) = Self::place(version);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(id: i64, size: u64) -> KnownFile {
        KnownFile {
            id: FileId::from_raw(id).unwrap(),
            version: FileVersion { size, mtime: Some(UnixNanos(7)), etag: None },
            kind: FileKind::Audio,
            state: FileState::Present,
        }
    }

    #[test]
    fn versions_compare_as_they_do_everywhere() {
        let version = |size, mtime: Option<i64>, etag: Option<&str>| FileVersion {
            size,
            mtime: mtime.map(UnixNanos),
            etag: etag.map(Into::into),
        };
        let all = [
            version(1, None, None),
            version(1, Some(0), None),
            version(1, Some(5), None),
            version(2, Some(5), None),
            version(1, Some(5), Some("a")),
            version(1, Some(6), Some("a")),
            version(1, Some(5), Some("b")),
            version(2, Some(5), Some("a")),
        ];
        for known in &all {
            let row = Known::of(&KnownFile { version: known.clone(), ..file(1, 0) });
            for other in &all {
                assert_eq!(row.is_version(other), known.is_same(other), "{known} {other}");
            }
        }
    }

    #[test]
    fn file_that_is_added_again_replaces_what_was_looked_up() {
        let mut files = KnownFiles::default();
        (1..100).for_each(|id| files.add(&file(id, 1)));
        let id = FileId::from_raw(50).unwrap();
        for size in 2..5 {
            files.get_mut(id).unwrap().seen = true;
            files.add(&file(50, size));
            let again = files.get_mut(id).unwrap();
            assert_eq!((again.size, again.seen), (size, false));
        }
        assert_eq!(files.iter().count(), 99);
    }

    proptest! {
        #[test]
        fn every_file_is_found_and_no_other(
            added in prop::collection::vec((0i64..1 << 62, 0u64..100), 0..200),
            asked in prop::collection::vec(0i64..1 << 62, 0..20),
        ) {
            let mut files = KnownFiles::default();
            let mut model = std::collections::BTreeMap::new();
            for (id, size) in &added {
                files.add(&file(*id, *size));
                model.insert(*id, *size);
            }
            for id in asked.iter().chain(model.keys()) {
                let found = files.get_mut(FileId::from_raw(*id).unwrap()).map(|row| row.size);
                prop_assert_eq!(found, model.get(id).copied());
            }
            prop_assert_eq!(files.iter().count(), model.len());
            for (id, size) in &model {
                prop_assert!(files.may_have(&file(*id, *size).version));
            }
        }
    }
}
