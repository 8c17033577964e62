//! What changed: a listing compared with what is known. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use musicfs_core::{
    FileId, FileKind, FileState, FileVersion, KnownFile, OriginEntry, OriginId, OriginPath, UnixNanos,
};

use super::ids::Ids;
use super::known::{Known, KnownFiles};
use crate::library::Exclusions;
use crate::tags;

/// So many files that came to excluded folders are compared with what is known; those beyond are not followed.
const MOST_CAME: usize = 20_000;

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

/// What was listed below an excluded folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Below {
    /// Music that is known of it is where it was.
    pub(super) music: bool,
    /// So is a sidecar.
    pub(super) sidecar: bool,
    /// Something is there that is not known of it.
    pub(super) others: bool,
    /// That was read, as something else may have taken the folder's name.
    pub(super) lifted: bool,
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
    excluding: HashMap<OriginPath, Below>,
    /// What was listed below excluded folders and may have come from elsewhere, by the exclusion.
    came: BTreeMap<OriginPath, Vec<OriginEntry>>,
    /// How many that is.
    came_count: usize,
    /// Files that are read although they are excluded with their folder, and whether they were.
    asked: HashMap<FileId, bool>,
    /// Files that a pass which came to no end recorded, or of which it recorded what is in their places.
    unsettled: HashSet<FileId>,
    /// Folders in which new files may be known ones.
    restless: HashSet<OriginPath>,
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
            excluding: HashMap::new(),
            came: BTreeMap::new(),
            came_count: 0,
            asked: HashMap::new(),
            unsettled: HashSet::new(),
            restless: HashSet::new(),
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

    /// Says which files a pass that came to no end recorded, or recorded others in the places of.
    pub(super) fn leave_unsettled(&mut self, files: impl IntoIterator<Item = FileId>) {
        self.unsettled.extend(files);
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

    /// Tells whether files of a folder may have changed their names, whatever else changed of them, or have come from
    /// an excluded folder with others.
    pub(super) fn is_restless(&self, folder: &OriginPath) -> bool {
        self.restless.contains(folder)
    }

    /// Tells whether anything of this origin is excluded.
    pub(super) fn excludes_any(&self) -> bool {
        self.excluded.is_any_of(self.ids.origin())
    }

    /// Tells whether the user does not want to see what is at a path.
    pub(super) fn is_excluded(&self, path: &OriginPath) -> bool {
        self.excluded_by(path).is_some()
    }

    /// Returns the exclusion that a path is left out by.
    pub(super) fn excluded_by(&self, path: &OriginPath) -> Option<OriginPath> {
        self.excluded.covering(self.ids.origin(), path)
    }

    /// Returns what was listed below an excluded folder; `None` when nothing was.
    pub(super) fn below(&self, folder: &OriginPath) -> Option<Below> {
        self.excluding.get(folder).copied()
    }

    /// Returns the excluded folders in which something is, but no music that is known of them; in order, each once.
    pub(super) fn maybe_displaced(&self) -> Vec<(OriginPath, Below)> {
        let displaced =
            self.excluding.iter().filter(|(_, below)| below.others && !below.music && !below.lifted);
        let mut displaced: Vec<_> = displaced.map(|(folder, below)| (folder.clone(), *below)).collect();
        displaced.sort_by(|a, b| a.0.cmp(&b.0));
        displaced
    }

    /// Has what is below excluded folders read when it is listed the next time.
    pub(super) fn lift(&mut self, folders: &[OriginPath]) {
        folders.iter().for_each(|folder| self.excluding.entry(folder.clone()).or_default().lifted = true);
    }

    /// Hands over what was listed below excluded folders that are not lifted and may have come from elsewhere.
    pub(super) fn take_came(&mut self) -> BTreeMap<OriginPath, Vec<OriginEntry>> {
        let mut came = std::mem::take(&mut self.came);
        came.retain(|folder, _| self.below(folder).is_none_or(|below| !below.lifted));
        came
    }

    /// Returns the sizes and times of the files that are not where they were.
    pub(super) fn gone_versions(&mut self) -> HashSet<(u64, Option<UnixNanos>)> {
        let gone = self.known.iter().filter(|(_, known)| !known.seen || known.is_other);
        gone.map(|(_, known)| known.size_and_time()).collect()
    }

    /// Has files be read when they are given the next time, although they are excluded with their folder.
    pub(super) fn ask_for(&mut self, entries: &[OriginEntry]) {
        for entry in entries {
            self.asked.entry(self.ids.of(&entry.path)).or_insert(false);
        }
    }

    /// Tells whether a file was read although it is excluded with its folder, which is itself.
    pub(super) fn was_asked_for(&self, id: FileId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Tells whether what is at a path is read although it is excluded with its folder.
    pub(super) fn is_lifted(&self, path: &OriginPath) -> bool {
        self.excluded_by(path).and_then(|by| self.below(&by)).is_some_and(|below| below.lifted)
    }

    /// Takes note that a file of an excluded folder is where it was, in another version.
    pub(super) fn is_left(&mut self, path: &OriginPath) {
        if let Some(by) = self.excluded_by(path) {
            self.excluding.entry(by).or_default().music = true;
        }
    }

    /// Decides on one entry of a listing and takes note of it.
    pub fn detect_changes(&mut self, entry: &OriginEntry) -> Delta {
        if tags::is_ignored(&entry.path) {
            return Delta::Ignored;
        }
        let sidecar = tags::sidecar_kind(&entry.path).is_some();
        let no_extension = entry.path.stem_and_extension().1.is_none();
        let of_concern = sidecar || no_extension || tags::looks_like_music(&entry.path);
        if let Some(by) = self.excluded_by(&entry.path) {
            return self.covered(entry, by, of_concern, sidecar);
        }
        if !of_concern {
            return Delta::Ignored;
        }
        self.listed += 1;
        let id = self.id_of(&entry.path);
        let reread = self.reread;
        let listed = match self.known.get_mut(id) {
            None => {
                if !self.excluded.is_empty() && self.known.may_have(&entry.version) {
                    self.restless.insert(entry.path.parent());
                }
                Listed::New
            }
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
                if !sidecar && !known.is_version(&entry.version) {
                    self.restless.insert(entry.path.parent());
                }
                Listed::Changed
            }
        };
        to_record(id, listed, sidecar)
    }

    /// Takes note of a file that is not to be seen: it is there. It may be another than it was where it is excluded
    /// alone, or was to be seen when it was recorded; and below a folder that is lifted. What is not known there, and
    /// has the size and time of a file that is known, may be that one.
    fn covered(&mut self, entry: &OriginEntry, by: OriginPath, of_concern: bool, sidecar: bool) -> Delta {
        let (id, alone) = (self.id_of(&entry.path), by == entry.path);
        if let Some(read) = self.asked.get_mut(&id) {
            let known = self.known.get_mut(id).map(|known| known.seen = true);
            let listed = if known.is_some() { Listed::Changed } else { Listed::New };
            return if std::mem::replace(read, true) {
                Delta::Ignored
            } else {
                to_record(id, listed, sidecar)
            };
        }
        let may_be_known = self.partial || self.known.may_have(&entry.version);
        let may_have_come = of_concern && !alone && may_be_known && self.came_count < MOST_CAME;
        let below = self.excluding.entry(by.clone()).or_default();
        let Some(known) = self.known.get_mut(id) else {
            below.others |= of_concern;
            if below.lifted && of_concern {
                return to_record(id, Listed::New, sidecar);
            }
            if may_have_come {
                self.came_count += 1;
                self.came.entry(by).or_default().push(entry.clone());
            }
            return Delta::Ignored;
        };
        let same = known.is_version(&entry.version);
        if alone && same && known.kind != FileKind::Sidecar && self.reread.wants(&entry.version) {
            known.seen = true;
            return to_record(id, Listed::Changed, sidecar);
        }
        let is_unread = matches!(known.state, FileState::Excluded | FileState::Missing);
        if !same && !below.lifted && may_have_come && is_unread && !self.unsettled.contains(&id) {
            self.came_count += 1;
            self.came.entry(by).or_default().push(entry.clone());
        }
        if below.lifted {
            // The others were read when they were listed before.
            let is_read = !same && known.state != FileState::Present && !self.unsettled.contains(&id);
            return if is_read { to_record(id, Listed::Changed, sidecar) } else { Delta::Ignored };
        }
        match known.kind {
            _ if !same || self.unsettled.contains(&id) => below.others = true,
            FileKind::Sidecar => below.sidecar = true,
            FileKind::Audio | FileKind::Unparsed | FileKind::Other => below.music = true,
        }
        if !same && !alone && known.state == FileState::Missing {
            return Delta::Ignored;
        }
        known.seen = true;
        if !same && (alone || known.state != FileState::Excluded || self.unsettled.contains(&id)) {
            return to_record(id, Listed::Changed, sidecar);
        }
        known.is_other |= !same;
        if known.state == FileState::Excluded {
            return Delta::Ignored;
        }
        known.state = FileState::Excluded;
        Delta::Returned(id, known.kind)
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

    /// Returns the excluded files in whose places something else was listed, which was not read.
    pub(super) fn displaced_excluded(&mut self) -> Vec<FileId> {
        self.known.iter().filter(|(_, known)| known.is_other).map(|(id, _)| id).collect()
    }

    /// Tells whether an excluded file is not where it was.
    pub(super) fn misses_excluded(&mut self) -> bool {
        let is_missed = |known: &Known| known.state == FileState::Excluded && (known.is_other || !known.seen);
        self.known.iter().any(|(_, known)| is_missed(known))
    }

    /// Tells whether a file was known, and listed as it was.
    pub(super) fn is_in_place(&mut self, id: FileId) -> bool {
        self.known.get_mut(id).is_some_and(|known| known.seen && !known.is_other)
    }

    /// Returns the files that were missing before and are still.
    pub(super) fn still_missing(&mut self) -> Vec<FileId> {
        let still = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Missing);
        still.map(|(id, _)| id).collect()
    }
}

fn to_record(id: FileId, listed: Listed, sidecar: bool) -> Delta {
    if sidecar { Delta::Sidecar(id, listed) } else { Delta::Read(id, listed) }
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

    #[test]
    fn what_came_to_an_excluded_folder_and_may_be_known_is_read_when_asked_for_and_once() {
        use FileKind::Audio;
        use FileState::{Excluded, Present};
        let known = [
            ("in/1.flac", 1, Audio, Present),
            ("out/2.flac", 2, Audio, Excluded),
            ("out/3.flac", 3, Audio, Excluded),
        ];
        let mut d = detector(&known, Reread::None);
        let mut excluded = Exclusions::default();
        excluded.insert("o".into(), OriginPath::new("out").unwrap());
        d.exclude(excluded);
        let listed = [
            entry("out/2.flac", 2),
            entry("out/3.flac", 1),
            entry("out/a.flac", 1),
            entry("out/new.flac", 9),
        ];
        listed.iter().for_each(|entry| assert_eq!(d.detect_changes(entry), Delta::Ignored));
        let came: Vec<OriginEntry> = d.take_came().into_values().flatten().collect();
        assert_eq!(came, listed[1..3]);
        assert!(d.take_came().is_empty());
        let of = |mtime| (1, Some(UnixNanos(mtime)));
        assert_eq!(d.gone_versions(), HashSet::from([of(1), of(3)]));
        d.ask_for(&came);
        assert!(matches!(d.detect_changes(&came[0]), Delta::Read(_, Listed::Changed)));
        assert!(matches!(d.detect_changes(&came[1]), Delta::Read(_, Listed::New)));
        listed.iter().for_each(|entry| assert_eq!(d.detect_changes(entry), Delta::Ignored));
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
