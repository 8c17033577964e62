//! What changed: a listing compared with what is known. Pure.

mod excluded;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use musicfs_core::{
    FileId, FileKind, FileState, FileVersion, KnownFile, OriginEntry, OriginId, OriginPath, UnixNanos,
};

use super::ids::Ids;
use super::known::KnownFiles;
use crate::library::Exclusions;
use crate::tags;
use excluded::{Below, Came};

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
    excluding: HashMap<OriginPath, Below>,
    came: Came,
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
            came: Came::default(),
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

    /// Returns the files that were missing before and are still.
    pub(super) fn still_missing(&mut self) -> Vec<FileId> {
        let still = self.known.iter().filter(|(_, known)| !known.seen && known.state == FileState::Missing);
        still.map(|(id, _)| id).collect()
    }
}

fn to_record(id: FileId, listed: Listed, sidecar: bool) -> Delta {
    if sidecar { Delta::Sidecar(id, listed) } else { Delta::Read(id, listed) }
}
