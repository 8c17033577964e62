//! What a listing tells of what the user does not want to see. Pure, as all of the comparison.
//!
//! A file that is excluded is taken note of and not read. Where it may be another by now, or what is below an excluded
//! folder may have come from elsewhere, the pass asks for it, and gives it once more.

use std::collections::{BTreeMap, HashSet};

use musicfs_core::{FileId, FileKind, FileState, OriginEntry, OriginPath};

use super::{Delta, DeltaDetector, Listed, to_record};
use crate::scan::known::{Known, SizeAndTime};

/// So many files that came to excluded folders are compared with what is known; those beyond are not followed.
const MOST_CAME: usize = 20_000;

/// What was listed below an excluded folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::scan) struct Below {
    /// Music that is known of it is where it was.
    pub(in crate::scan) music: bool,
    /// So is a sidecar.
    pub(in crate::scan) sidecar: bool,
    /// Something is there that is not known of it.
    pub(in crate::scan) others: bool,
    /// That was read, as something else may have taken the folder's name.
    pub(in crate::scan) lifted: bool,
}

/// What was listed below excluded folders and may have come from elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    by_exclusion: BTreeMap<OriginPath, Vec<OriginEntry>>,
    /// How many were noted, handed over or not.
    noted: usize,
}

impl Came {
    fn note(&mut self, by: &OriginPath, entry: &OriginEntry) {
        if self.noted < MOST_CAME {
            self.noted += 1;
            self.by_exclusion.entry(by.clone()).or_default().push(entry.clone());
        }
    }
}

impl DeltaDetector {
    /// Tells whether anything of this origin is excluded.
    pub(in crate::scan) fn excludes_any(&self) -> bool {
        self.excluded.is_any_of(self.ids.origin())
    }

    /// Tells whether the user does not want to see what is at a path.
    pub(in crate::scan) fn is_excluded(&self, path: &OriginPath) -> bool {
        self.excluded_by(path).is_some()
    }

    /// Returns the exclusion that a path is left out by.
    pub(in crate::scan) fn excluded_by(&self, path: &OriginPath) -> Option<OriginPath> {
        self.excluded.covering(self.ids.origin(), path)
    }

    /// Returns what was listed below an excluded folder; `None` when nothing was.
    pub(in crate::scan) fn below(&self, folder: &OriginPath) -> Option<Below> {
        self.excluding.get(folder).copied()
    }

    /// Returns the excluded folders in which something is, but no music that is known of them; in order, each once.
    pub(in crate::scan) fn maybe_displaced(&self) -> Vec<(OriginPath, Below)> {
        let displaced =
            self.excluding.iter().filter(|(_, below)| below.others && !below.music && !below.lifted);
        let mut displaced: Vec<_> = displaced.map(|(folder, below)| (folder.clone(), *below)).collect();
        displaced.sort_by(|a, b| a.0.cmp(&b.0));
        displaced
    }

    /// Has what is below excluded folders read when it is listed the next time.
    pub(in crate::scan) fn lift(&mut self, folders: &[OriginPath]) {
        folders.iter().for_each(|folder| self.excluding.entry(folder.clone()).or_default().lifted = true);
    }

    /// Hands over what was listed below excluded folders that are not lifted and may have come from elsewhere.
    pub(in crate::scan) fn take_came(&mut self) -> BTreeMap<OriginPath, Vec<OriginEntry>> {
        let mut came = std::mem::take(&mut self.came.by_exclusion);
        came.retain(|folder, _| self.below(folder).is_none_or(|below| !below.lifted));
        came
    }

    /// Returns the sizes and times of the files that are not where they were.
    pub(in crate::scan) fn gone_versions(&mut self) -> HashSet<SizeAndTime> {
        let gone = self.known.iter().filter(|(_, known)| !known.seen || known.is_other);
        gone.map(|(_, known)| known.size_and_time()).collect()
    }

    /// Has files be read when they are given the next time, although they are excluded with their folder.
    pub(in crate::scan) fn ask_for(&mut self, entries: &[OriginEntry]) {
        for entry in entries {
            self.asked.entry(self.ids.of(&entry.path)).or_insert(false);
        }
    }

    /// Tells whether a file was read although it is excluded with its folder, which is itself.
    pub(in crate::scan) fn was_asked_for(&self, id: FileId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Tells whether what is at a path is read although it is excluded with its folder.
    pub(in crate::scan) fn is_lifted(&self, path: &OriginPath) -> bool {
        self.excluded_by(path).and_then(|by| self.below(&by)).is_some_and(|below| below.lifted)
    }

    /// Takes note that a file of an excluded folder is where it was, in another version.
    pub(in crate::scan) fn is_left(&mut self, path: &OriginPath) {
        if let Some(by) = self.excluded_by(path) {
            self.excluding.entry(by).or_default().music = true;
        }
    }

    /// Takes note of a file that is not to be seen: it is there. It may be another than it was where it is excluded
    /// alone, or was to be seen when it was recorded; and below a folder that is lifted. What is not known there, and
    /// has the size and time of a file that is known, may be that one.
    pub(super) fn covered(
        &mut self,
        entry: &OriginEntry,
        by: OriginPath,
        of_concern: bool,
        sidecar: bool,
    ) -> Delta {
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
        let unsettled = self.unsettled.contains(&id);
        let lifted = self.below(&by).is_some_and(|below| below.lifted);
        let may_be_another = self.known.get_mut(id).is_none_or(|known| {
            let is_unread = matches!(known.state, FileState::Excluded | FileState::Missing);
            is_unread && !known.is_version(&entry.version) && !unsettled
        });
        let may_be_known = self.partial || self.known.may_have(&entry.version);
        if of_concern && !alone && !lifted && may_be_another && may_be_known {
            self.came.note(&by, entry);
        }
        let below = self.excluding.entry(by).or_default();
        let Some(known) = self.known.get_mut(id) else {
            below.others |= of_concern;
            return if lifted && of_concern { to_record(id, Listed::New, sidecar) } else { Delta::Ignored };
        };
        let same = known.is_version(&entry.version);
        if alone && same && known.kind != FileKind::Sidecar && self.reread.wants(&entry.version) {
            known.seen = true;
            return to_record(id, Listed::Changed, sidecar);
        }
        if lifted {
            // The others were read when they were listed before.
            let is_read = !same && known.state != FileState::Present && !unsettled;
            return if is_read { to_record(id, Listed::Changed, sidecar) } else { Delta::Ignored };
        }
        match known.kind {
            _ if !same || unsettled => below.others = true,
            FileKind::Sidecar => below.sidecar = true,
            FileKind::Audio | FileKind::Unparsed | FileKind::Other => below.music = true,
        }
        if !same && !alone && known.state == FileState::Missing {
            return Delta::Ignored;
        }
        known.seen = true;
        if !same && (alone || known.state != FileState::Excluded || unsettled) {
            return to_record(id, Listed::Changed, sidecar);
        }
        known.is_other |= !same;
        if known.state == FileState::Excluded {
            return Delta::Ignored;
        }
        known.state = FileState::Excluded;
        Delta::Returned(id, known.kind)
    }

    /// Returns the excluded files that were not listed.
    pub(in crate::scan) fn unseen_excluded(&mut self) -> Vec<FileId> {
        let unseen = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Excluded);
        unseen.map(|(id, _)| id).collect()
    }

    /// Returns the excluded files in whose places something else was listed, which was not read.
    pub(in crate::scan) fn displaced_excluded(&mut self) -> Vec<FileId> {
        self.known.iter().filter(|(_, known)| known.is_other).map(|(id, _)| id).collect()
    }

    /// Tells whether an excluded file is not where it was.
    pub(in crate::scan) fn misses_excluded(&mut self) -> bool {
        let is_missed = |known: &Known| known.state == FileState::Excluded && (known.is_other || !known.seen);
        self.known.iter().any(|(_, known)| is_missed(known))
    }

    /// Tells whether a file was known, and listed as it was.
    pub(in crate::scan) fn is_in_place(&mut self, id: FileId) -> bool {
        self.known.get_mut(id).is_some_and(|known| known.seen && !known.is_other)
    }
}
