//! What a scanner is told, what it says of its work, and why it fails.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use musicfs_core::{MetaError, OriginError, OriginErrorKind, OriginId, OriginPath, Template};
use serde::Serialize;

use crate::library::LibraryError;

/// How long a missing file that is cached stays in the tree, unless the user says otherwise.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a scanner works.
#[derive(Clone, Debug)]
pub struct ScannerConfig {
    /// How tags become paths.
    pub template: Template,
    /// How many files are parsed at once; 0 for as many as there are cores.
    pub workers: usize,
    /// How long a missing file that is cached whole stays in the tree.
    pub missing_grace: Duration,
    /// How long a missing file is remembered; zero for ever.
    pub missing_max_age: Duration,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        Self {
            template: Template::default(),
            workers: 0,
            missing_grace: GRACE,
            missing_max_age: Duration::ZERO,
        }
    }
}

/// What a pass is to do, beyond bringing the catalogue up to date with the whole of an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOptions {
    /// The files and folders to look at; all when `None`.
    pub paths: Option<Vec<OriginPath>>,
    /// Reads music again that seems unchanged.
    pub reread: bool,
    /// The user has said that the origin is as it should be, however much is gone.
    pub confirmed: bool,
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScanReport {
    /// The origin.
    pub origin: OriginId,
    /// Files listed that are music, or belong to music.
    pub listed: u64,
    /// Files that were as the catalogue had them, and were not opened.
    pub unchanged: u64,
    /// Files that are new.
    pub added: u64,
    /// Files that changed.
    pub changed: u64,
    /// Files that are at another path than they were, or another format of the same track.
    pub moved: u64,
    /// Files that were found to be gone.
    pub missing: u64,
    /// Files that had been gone and are back.
    pub returned: u64,
    /// Files that were read and could not be parsed.
    pub problems: u64,
    /// Whether the listing was complete.
    pub complete: bool,
    /// Why nothing was taken for gone although files are not listed; `None` when there is no such reason.
    pub held_back: Option<String>,
    /// What was held back waits for the user to confirm it.
    pub needs_confirmation: bool,
    /// The pass before had not come to its end.
    pub resumed: bool,
    /// It went on where that pass was, so that what came before was not listed.
    #[serde(skip)]
    pub(super) goes_on: bool,
    /// It was over a part, and of what stands beside it elsewhere more may have to move than was looked at: a pass
    /// over everything is to follow.
    #[serde(skip)]
    pub unsettled: bool,
    /// Paths that it was to look at where nothing is and nothing was known to be.
    #[serde(skip)]
    pub nowhere: Vec<OriginPath>,
    /// How many folders could not be listed; what is known of them is kept.
    pub unlisted: u64,
    /// The first of them.
    #[serde(skip)]
    pub unlisted_folders: Vec<Unlisted>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// So many folders that could not be listed are named; of more it is only said how many they are.
pub(super) const MOST_NAMED: usize = 100;

/// A folder that could not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The folder.
    pub path: OriginPath,
    /// Why.
    pub why: OriginErrorKind,
}

impl ScanReport {
    pub(super) fn new(origin: OriginId) -> Self {
        Self {
            origin,
            listed: 0,
            unchanged: 0,
            added: 0,
            changed: 0,
            moved: 0,
            missing: 0,
            returned: 0,
            problems: 0,
            complete: false,
            held_back: None,
            needs_confirmation: false,
            resumed: false,
            goes_on: false,
            unsettled: false,
            nowhere: Vec::new(),
            unlisted: 0,
            unlisted_folders: Vec::new(),
            elapsed_ms: 0,
        }
    }

    /// Joins the report of a pass that went on with that of the one that brought it to its end.
    pub(super) fn after(self, first: &Self) -> Self {
        // What one of them could not list, the user is to know of, though the other could. Of those that were not named,
        // no more can be told than that they are as many.
        let mut folders = self.unlisted_folders;
        let known: HashSet<&OriginPath> = folders.iter().map(|folder| &folder.path).collect();
        let others = first.unlisted_folders.iter().filter(|folder| !known.contains(&folder.path));
        let others: Vec<Unlisted> = others.cloned().collect();
        folders.extend(others);
        let unlisted = self.unlisted.max(first.unlisted).max(folders.len() as u64);
        folders.truncate(MOST_NAMED);
        Self {
            added: self.added + first.added,
            changed: self.changed + first.changed,
            moved: self.moved + first.moved,
            returned: self.returned + first.returned,
            problems: self.problems + first.problems,
            unchanged: self.unchanged.saturating_sub(first.added + first.changed),
            missing: self.missing + first.missing,
            unlisted,
            unlisted_folders: folders,
            resumed: self.resumed || first.goes_on,
            elapsed_ms: self.elapsed_ms + first.elapsed_ms,
            ..self
        }
    }
}

/// What a scanner is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanPhase {
    /// Nothing.
    #[default]
    Idle,
    /// Loading what is known.
    Loading,
    /// Listing an origin and parsing what is new.
    Scanning,
    /// Arranging the tree after a change of the template.
    Arranging,
}

/// How far a pass is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PassProgress {
    /// What is being done.
    pub phase: ScanPhase,
    /// Files listed so far.
    pub listed: u64,
    /// Files parsed so far.
    pub parsed: u64,
    /// Files found so far that are new or changed and must be parsed.
    pub to_parse: u64,
}

/// How far a scanner is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanProgress {
    /// The passes under way, one an origin.
    pub passes: BTreeMap<OriginId, PassProgress>,
    /// Files looked at so far, while the tree is being arranged.
    pub arranging: Option<u64>,
    /// What the last pass over each origin did.
    pub last: BTreeMap<OriginId, ScanReport>,
}

impl ScanProgress {
    /// Returns what is being done, and how far all that is under way is together.
    pub fn together(&self) -> PassProgress {
        let mut all = PassProgress::default();
        if let Some(listed) = self.arranging {
            return PassProgress { phase: ScanPhase::Arranging, listed, ..all };
        }
        for pass in self.passes.values() {
            if all.phase != ScanPhase::Scanning {
                all.phase = pass.phase;
            }
            all.listed += pass.listed;
            all.parsed += pass.parsed;
            all.to_parse += pass.to_parse;
        }
        all
    }
}

/// Why a pass ended early. What was applied until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no such origin.
    #[error("there is no origin named {0}")]
    UnknownOrigin(OriginId),
    /// The origin failed.
    #[error("the origin could not be listed")]
    Origin(#[source] OriginError),
    /// The catalogue failed.
    #[error("the catalogue could not be read or written")]
    Meta(#[from] MetaError),
    /// The library failed.
    #[error("the library could not be read or written")]
    Library(#[from] LibraryError),
    /// It was asked to stop.
    #[error("the scan was cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_either_of_two_passes_could_not_list_are_counted_and_named() {
        let report = |names: &[&str]| {
            let folder =
                |name: &&str| Unlisted { path: OriginPath::new(name).unwrap(), why: OriginErrorKind::Denied };
            let unlisted_folders: Vec<Unlisted> = names.iter().map(folder).collect();
            let unlisted = unlisted_folders.len() as u64;
            ScanReport { unlisted, unlisted_folders, ..ScanReport::new("o".into()) }
        };
        for (first, rest, expected) in [
            (&["a"][..], &[][..], &["a"][..]),
            (&[], &["a"], &["a"]),
            (&["a"], &["a"], &["a"]),
            (&["a", "b"], &["c", "b"], &["c", "b", "a"]),
        ] {
            let both = report(rest).after(&report(first));
            assert_eq!(both.unlisted, expected.len() as u64);
            assert_eq!(both.unlisted_folders, report(expected).unlisted_folders);
        }
        let names: Vec<String> = (0..MOST_NAMED).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let first = ScanReport { unlisted: 500, ..report(&names) };
        let both = report(&["a"]).after(&first);
        assert_eq!((both.unlisted, both.unlisted_folders.len()), (500, MOST_NAMED));
    }
}
