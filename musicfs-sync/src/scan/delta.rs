//! What changed: a listing compared with what is known. Pure.

use std::collections::{HashMap, HashSet};

use musicfs_core::{
    FileId, FileKind, FileState, FileVersion, KnownFile, OriginEntry, OriginId, OriginPath, UnixNanos,
};

use super::ids::Ids;
use super::known::KnownFiles;
use crate::library::Exclusions;
use crate::tags;

/// What a listed file means for the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// It is as the catalogue has it.
    Unchanged(FileId, FileKind),
    /// The catalogue has it, but was to show it and does not, or the other way round: it was thought to be gone, or
    /// what the user wants to see has changed.
    Returned(FileId, FileKind),
    /// It is new or changed, and is to be read for what it is.
    Read(FileId, Listed),
    /// It is a new or changed file that need not be read.
    Sidecar(FileId, Listed),
    /// It is none of our concern.
    Ignored,
}

/// Whether a listed file was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It was not.
    New,
    /// It was, in another version, or without having been read.
    Changed,
}

/// Which files are read although they seem unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reread {
    /// None.
    #[default]
    None,
    /// All music.
    All,
    /// Those whose time lies in this span: the clock of this machine was set meanwhile, so that a file may have
    /// changed and have the time that it had.
    Of(UnixNanos, UnixNanos),
}

impl Reread {
    fn wants(self, version: &FileVersion) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(from, to) => version.mtime.is_none_or(|time| from <= time && time <= to),
        }
    }
}

/// Compares the listing of one origin with what is known of it, page by page.
///
/// The outcome depends on neither the order of the entries nor the way they are cut into pages, and a page that is
/// given twice changes nothing. Versions are compared to the nanosecond.
#[derive(Clone, Debug)]
pub struct DeltaDetector {
    ids: Ids,
    known: KnownFiles,
    excluded: Exclusions,
    /// Exclusions by which anything is left out that was listed.
    excluding: HashSet<OriginPath>,
    /// Only a part of what there is is known.
    partial: bool,
    reread: Reread,
    listed: u64,
    unchanged: u64,
}

impl DeltaDetector {
    /// Makes a detector that knows nothing yet but the ids that do not follow from their paths.
    pub fn new(origin: OriginId, identities: HashMap<OriginPath, FileId>, reread: Reread) -> Self {
        Self::with_ids(Ids::new(origin, identities), reread)
    }

    pub(super) fn with_ids(ids: Ids, reread: Reread) -> Self {
        Self {
            ids,
            known: KnownFiles::default(),
            excluded: Exclusions::default(),
            excluding: HashSet::new(),
            partial: false,
            reread,
            listed: 0,
            unchanged: 0,
        }
    }

    /// Leaves out what the user does not want to see.
    pub fn exclude(&mut self, excluded: Exclusions) {
        self.excluded = excluded;
    }

    /// Says that only a part of what there is is going to be recorded.
    pub(super) fn is_of_a_part(&mut self) {
        self.partial = true;
    }

    /// Records a file that the catalogue knows.
    pub fn add_known(&mut self, file: &KnownFile) {
        self.known.add(file);
    }

    /// Tells whether the catalogue knows none.
    pub fn knows_nothing(&self) -> bool {
        self.known.is_empty()
    }

    /// Tells whether the file is among those recorded.
    pub(super) fn is_known(&mut self, id: FileId) -> bool {
        self.known.get_mut(id).is_some()
    }

    /// Returns the id of the file at `path`, known or not.
    pub fn id_of(&self, path: &OriginPath) -> FileId {
        self.ids.of(path)
    }

    /// Tells whether an id is not the one that follows from its path, and not yet recorded.
    pub(super) fn is_new_exception(&self, id: FileId, path: &OriginPath) -> bool {
        self.ids.is_new_exception(id, path)
    }

    /// Tells whether some known file may have this version, so that a new file may be that one, moved.
    pub(super) fn may_have_moved(&self, version: &FileVersion) -> bool {
        // What is excluded elsewhere must not be shown even for a moment.
        self.known.may_have(version) || (self.partial && !self.excluded.is_empty())
    }

    /// Tells whether the user does not want to see what is at a path.
    pub(super) fn is_excluded(&self, path: &OriginPath) -> bool {
        self.excluded.covering(self.ids.origin(), path).is_some()
    }

    /// Tells whether anything was listed that is left out by an exclusion.
    pub(super) fn lists_excluded(&self, by: &OriginPath) -> bool {
        self.excluding.contains(by)
    }

    /// Decides on one entry of a listing and takes note of it.
    pub fn detect_changes(&mut self, entry: &OriginEntry) -> Delta {
        if tags::is_ignored(&entry.path) {
            return Delta::Ignored;
        }
        if let Some(by) = self.excluded.covering(self.ids.origin(), &entry.path) {
            let alone = by == entry.path;
            self.excluding.insert(by);
            return self.covered(entry, alone);
        }
        let sidecar = tags::sidecar_kind(&entry.path).is_some();
        let no_extension = entry.path.stem_and_extension().1.is_none();
        if !sidecar && !no_extension && !tags::looks_like_music(&entry.path) {
            return Delta::Ignored;
        }
        self.listed += 1;
        let id = self.id_of(&entry.path);
        let reread = self.reread;
        let listed = match self.known.get_mut(id) {
            None => Listed::New,
            Some(known) => {
                known.seen = true;
                // What is no longer excluded may never have been read.
                let unread = match known.state {
                    FileState::Pending => true,
                    FileState::Excluded => known.kind == FileKind::Unparsed,
                    FileState::Present | FileState::Missing => false,
                };
                let same = known.is_version(&entry.version) && !unread;
                self.unchanged += u64::from(same);
                // What is shown again is so even when it is to be reread.
                if same && matches!(known.state, FileState::Missing | FileState::Excluded) {
                    known.state = FileState::Present;
                    return Delta::Returned(id, known.kind);
                }
                if same && (known.kind == FileKind::Sidecar || !reread.wants(&entry.version)) {
                    return Delta::Unchanged(id, known.kind);
                }
                Listed::Changed
            }
        };
        if sidecar { Delta::Sidecar(id, listed) } else { Delta::Read(id, listed) }
    }

    /// Takes note of a file that is not to be seen: it is there. Where it is excluded `alone` and is not what it was,
    /// it may be another.
    fn covered(&mut self, entry: &OriginEntry, alone: bool) -> Delta {
        let id = self.id_of(&entry.path);
        match self.known.get_mut(id) {
            None => Delta::Ignored,
            Some(known) => {
                known.seen = true;
                if alone && !known.is_version(&entry.version) {
                    return match known.kind {
                        FileKind::Sidecar => Delta::Sidecar(id, Listed::Changed),
                        _ => Delta::Read(id, Listed::Changed),
                    };
                }
                if known.state == FileState::Excluded {
                    return Delta::Ignored;
                }
                known.state = FileState::Excluded;
                Delta::Returned(id, known.kind)
            }
        }
    }

    /// Returns how many files of concern were listed.
    pub fn listed(&self) -> u64 {
        self.listed
    }

    /// Returns how many of them were as the catalogue has them.
    pub fn unchanged(&self) -> u64 {
        self.unchanged
    }

    /// Returns how many known files are thought to be there.
    pub fn expected(&mut self) -> u64 {
        self.known.iter().filter(|(_, known)| known.state == FileState::Present).count() as u64
    }

    /// Returns the files that were known and not listed, in order of id. They are gone if, and only if, the listing
    /// was complete. Those that wait for their first read, or are missing already, are none of them.
    pub fn unseen(&mut self) -> Vec<FileId> {
        let gone = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Present);
        gone.map(|(id, _)| id).collect()
    }

    /// Returns the excluded files that were not listed.
    pub(super) fn unseen_excluded(&mut self) -> Vec<FileId> {
        let unseen = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Excluded);
        unseen.map(|(id, _)| id).collect()
    }

    /// Returns the files that were missing before and are still.
    pub(super) fn still_missing(&mut self) -> Vec<FileId> {
        let still = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Missing);
        still.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::UnixNanos;
    use proptest::prelude::*;

    fn version(mtime: i64) -> FileVersion {
        FileVersion { size: 1, mtime: Some(UnixNanos(mtime)), etag: None }
    }

    fn entry(path: &str, mtime: i64) -> OriginEntry {
        OriginEntry { path: OriginPath::new(path).unwrap(), version: version(mtime) }
    }

    fn detector(known: &[(&str, i64, FileKind, FileState)], reread: Reread) -> DeltaDetector {
        let mut detector = DeltaDetector::new(OriginId::from("o"), HashMap::new(), reread);
        for (path, mtime, kind, state) in known {
            let id = detector.id_of(&OriginPath::new(path).unwrap());
            detector.add_known(&KnownFile { id, version: version(*mtime), kind: *kind, state: *state });
        }
        detector
    }

    #[test]
    fn entries_are_sorted_by_what_is_known_of_them() {
        use FileKind::{Audio, Sidecar, Unparsed};
        use FileState::{Missing, Pending, Present};
        let mut d = detector(
            &[
                ("same.flac", 1, Audio, Present),
                ("new-version.flac", 1, Audio, Present),
                ("back.flac", 1, Audio, Missing),
                ("waiting.flac", 1, Unparsed, Pending),
                ("broken.mp3", 1, Unparsed, Present),
                ("cover.jpg", 1, Sidecar, Present),
                ("gone.flac", 1, Audio, Present),
                ("long-gone.flac", 1, Audio, Missing),
                ("never-read.flac", 1, Unparsed, Pending),
            ],
            Reread::None,
        );
        let id = |d: &DeltaDetector, path: &str| d.id_of(&OriginPath::new(path).unwrap());
        let mut detect = |path: &str, mtime| d.detect_changes(&entry(path, mtime));
        assert!(matches!(detect("same.flac", 1), Delta::Unchanged(_, Audio)));
        assert!(matches!(detect("new-version.flac", 2), Delta::Read(_, Listed::Changed)));
        assert!(matches!(detect("back.flac", 1), Delta::Returned(_, Audio)));
        assert!(matches!(detect("waiting.flac", 1), Delta::Read(_, Listed::Changed)));
        assert!(matches!(detect("broken.mp3", 1), Delta::Unchanged(_, Unparsed)));
        assert!(matches!(detect("cover.jpg", 1), Delta::Unchanged(_, Sidecar)));
        assert!(matches!(detect("new.flac", 1), Delta::Read(_, Listed::New)));
        assert!(matches!(detect("booklet.pdf", 1), Delta::Sidecar(_, Listed::New)));
        assert!(matches!(detect("noextension", 1), Delta::Read(_, Listed::New)));
        assert!(matches!(detect("program.exe", 1), Delta::Ignored));
        assert!(matches!(detect("._same.flac", 1), Delta::Ignored));
        // Neither what is known to be missing nor what waits for its first read goes missing.
        let gone = id(&d, "gone.flac");
        assert_eq!(d.unseen(), vec![gone]);
        assert_eq!(d.listed(), 9);
    }

    #[test]
    fn reread_reads_music_that_seems_unchanged() {
        let mut d = detector(
            &[
                ("a.flac", 1, FileKind::Audio, FileState::Present),
                ("a.jpg", 1, FileKind::Sidecar, FileState::Present),
            ],
            Reread::All,
        );
        assert!(matches!(d.detect_changes(&entry("a.flac", 1)), Delta::Read(..)));
        assert!(matches!(d.detect_changes(&entry("a.jpg", 1)), Delta::Unchanged(..)));
    }

    #[test]
    fn files_of_a_time_that_the_clock_went_through_twice_are_read() {
        let rows = ["a.flac", "b.flac", "c.flac"].map(|p| (p, 0, FileKind::Audio, FileState::Present));
        let mut d = detector(&rows, Reread::Of(UnixNanos(10), UnixNanos(20)));
        for (n, (path, time)) in [("a.flac", 9), ("b.flac", 10), ("c.flac", 21)].into_iter().enumerate() {
            let id = d.id_of(&OriginPath::new(path).unwrap());
            d.add_known(&KnownFile {
                id,
                version: version(time),
                kind: FileKind::Audio,
                state: FileState::Present,
            });
            let delta = d.detect_changes(&entry(path, time));
            assert_eq!(matches!(delta, Delta::Read(..)), n == 1, "{path}");
        }
    }

    #[test]
    fn excluded_files_and_folders_are_not_invented() {
        let mut d = detector(&[], Reread::None);
        let mut excluded = Exclusions::default();
        for path in ["a/x.flac", "b"] {
            excluded.insert("o".into(), OriginPath::new(path).unwrap());
        }
        excluded.insert("other".into(), OriginPath::new("a").unwrap());
        d.exclude(excluded);
        for (path, ignored) in
            [("a/x.flac", true), ("a/y.flac", false), ("b/c/z.flac", true), ("b2/z.flac", false)]
        {
            assert_eq!(d.detect_changes(&entry(path, 1)) == Delta::Ignored, ignored, "{path}");
        }
    }

    #[test]
    fn files_that_the_catalogue_does_not_show_as_the_user_wants_are_put_right() {
        use FileKind::{Audio, Unparsed};
        use FileState::{Excluded, Missing, Present};
        let known = [
            ("out/shown.flac", 1, Audio, Present),
            ("out/gone.flac", 1, Audio, Missing),
            ("out/hidden.flac", 1, Audio, Excluded),
            ("in/hidden.flac", 1, Audio, Excluded),
            ("in/unread.flac", 1, Unparsed, Excluded),
            ("in/other.flac", 1, Audio, Excluded),
        ];
        let mut d = detector(&known, Reread::None);
        let mut excluded = Exclusions::default();
        excluded.insert("o".into(), OriginPath::new("out").unwrap());
        d.exclude(excluded);
        let mut detect = |path: &str, mtime| d.detect_changes(&entry(path, mtime));
        assert!(matches!(detect("out/shown.flac", 1), Delta::Returned(_, Audio)));
        assert_eq!(detect("out/shown.flac", 1), Delta::Ignored, "once");
        assert!(matches!(detect("out/gone.flac", 1), Delta::Returned(_, Audio)), "it is back, and excluded");
        assert_eq!(detect("out/hidden.flac", 1), Delta::Ignored);
        assert!(matches!(detect("in/hidden.flac", 1), Delta::Returned(_, Audio)));
        assert!(matches!(detect("in/unread.flac", 1), Delta::Read(_, Listed::Changed)));
        assert!(matches!(detect("in/other.flac", 2), Delta::Read(_, Listed::Changed)));
        assert!(d.unseen().is_empty(), "all were listed");
    }

    proptest! {
        #[test]
        fn outcome_does_not_depend_on_order_or_repetition(
            known in prop::collection::btree_map(0u8..20, 0i64..3, 0..20),
            listed in prop::collection::btree_map(0u8..20, 0i64..3, 0..20),
            order in any::<prop::sample::Index>(),
        ) {
            let name = |n: &u8| format!("{n}.flac");
            let rows: Vec<_> = known.iter().map(|(n, m)| (name(n), *m)).collect();
            let rows: Vec<_> =
                rows.iter().map(|(p, m)| (p.as_str(), *m, FileKind::Audio, FileState::Present)).collect();
            let entries: Vec<_> = listed.iter().map(|(n, m)| entry(&name(n), *m)).collect();
            let mut forward = detector(&rows, Reread::None);
            let mut turned = detector(&rows, Reread::None);
            let mut first: Vec<_> = entries.iter().map(|e| (e.path.clone(), forward.detect_changes(e))).collect();
            let at = if entries.is_empty() { 0 } else { order.index(entries.len()) };
            let mut again = entries.clone();
            again.rotate_left(at);
            let mut second: Vec<_> = again.iter().map(|e| (e.path.clone(), turned.detect_changes(e))).collect();
            first.sort_by(|a, b| a.0.cmp(&b.0));
            second.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(first, second);
            for e in &entries {
                turned.detect_changes(e);
            }
            prop_assert_eq!(forward.unseen(), turned.unseen());
            let gone = known.keys().filter(|n| !listed.contains_key(n)).count();
            prop_assert_eq!(forward.unseen().len(), gone);
        }
    }
}
