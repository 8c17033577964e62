//! What changed: a listing compared with what is known. Pure.

use std::collections::HashMap;

use musicfs_core::{FileId, FileKind, FileState, FileVersion, KnownFile, OriginEntry, OriginId, OriginPath};

use crate::tags;

/// What a listed file means for the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// It is as the catalogue has it.
    Unchanged(FileId, FileKind),
    /// It is as the catalogue has it, but was thought to be gone.
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

#[derive(Debug)]
struct Known {
    version: FileVersion,
    kind: FileKind,
    state: FileState,
    seen: bool,
}

/// Compares the listing of one origin with what is known of it, page by page.
///
/// The outcome depends on neither the order of the entries nor the way they are cut into pages, and a page that is
/// given twice changes nothing.
#[derive(Debug)]
pub struct DeltaDetector {
    origin: OriginId,
    known: HashMap<FileId, Known>,
    identities: HashMap<OriginPath, FileId>,
    reread: bool,
    listed: u64,
}

impl DeltaDetector {
    /// Makes a detector that knows nothing yet. With `reread`, what seems unchanged is read all the same.
    pub fn new(origin: OriginId, identities: HashMap<OriginPath, FileId>, reread: bool) -> Self {
        Self { origin, known: HashMap::new(), identities, reread, listed: 0 }
    }

    /// Records a file that the catalogue knows.
    pub fn add_known(&mut self, file: KnownFile) {
        let KnownFile { id, version, kind, state } = file;
        self.known.insert(id, Known { version, kind, state, seen: false });
    }

    /// Returns the id of the file at `path`, known or not.
    pub fn id_of(&self, path: &OriginPath) -> FileId {
        // Nearly always there is no exception to look up.
        let exception = if self.identities.is_empty() { None } else { self.identities.get(path) };
        exception.copied().unwrap_or_else(|| FileId::derive(&self.origin, path, 0))
    }

    /// Decides on one entry of a listing and takes note of it.
    pub fn detect_changes(&mut self, entry: &OriginEntry) -> Delta {
        if tags::is_ignored(&entry.path) {
            return Delta::Ignored;
        }
        let sidecar = tags::sidecar_kind(&entry.path).is_some();
        let no_extension = entry.path.stem_and_extension().1.is_none();
        if !sidecar && !no_extension && !tags::looks_like_music(&entry.path) {
            return Delta::Ignored;
        }
        self.listed += 1;
        let id = self.id_of(&entry.path);
        let listed = match self.known.get_mut(&id) {
            None => Listed::New,
            Some(known) => {
                known.seen = true;
                let same = known.version.is_same(&entry.version) && known.state != FileState::Pending;
                // A missing file that is back is shown again even when it is to be reread.
                if same && known.state == FileState::Missing {
                    known.state = FileState::Present;
                    return Delta::Returned(id, known.kind);
                }
                if same && !(self.reread && known.kind != FileKind::Sidecar) {
                    return Delta::Unchanged(id, known.kind);
                }
                Listed::Changed
            }
        };
        if sidecar { Delta::Sidecar(id, listed) } else { Delta::Read(id, listed) }
    }

    /// Returns how many files of concern were listed.
    pub fn listed(&self) -> u64 {
        self.listed
    }

    /// Returns how many known files are thought to be there.
    pub fn expected(&self) -> u64 {
        self.known.values().filter(|known| known.state == FileState::Present).count() as u64
    }

    /// Returns the files that were known and not listed, in order of id. They are gone if, and only if, the listing
    /// was complete.
    pub fn unseen(&self) -> Vec<FileId> {
        let gone = |known: &Known| !known.seen && known.state == FileState::Present;
        let mut ids: Vec<FileId> = self.known.iter().filter(|(_, k)| gone(k)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
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

    fn detector(known: &[(&str, i64, FileKind, FileState)], reread: bool) -> DeltaDetector {
        let mut detector = DeltaDetector::new(OriginId::from("o"), HashMap::new(), reread);
        for (path, mtime, kind, state) in known {
            let id = detector.id_of(&OriginPath::new(path).unwrap());
            detector.add_known(KnownFile { id, version: version(*mtime), kind: *kind, state: *state });
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
            false,
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
        assert_eq!(d.unseen(), vec![id(&d, "gone.flac")]);
        assert_eq!(d.listed(), 9);
    }

    #[test]
    fn reread_reads_music_that_seems_unchanged() {
        let mut d = detector(
            &[
                ("a.flac", 1, FileKind::Audio, FileState::Present),
                ("a.jpg", 1, FileKind::Sidecar, FileState::Present),
            ],
            true,
        );
        assert!(matches!(d.detect_changes(&entry("a.flac", 1)), Delta::Read(..)));
        assert!(matches!(d.detect_changes(&entry("a.jpg", 1)), Delta::Unchanged(..)));
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
            let mut forward = detector(&rows, false);
            let mut turned = detector(&rows, false);
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
