//! What the user wants kept in the cache.

use std::collections::{BTreeSet, HashSet};

use crate::{FileId, FileMeta, OriginId, VirtualPath};

/// One thing to keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pin {
    /// A file, wherever it is shown.
    File(FileId),
    /// All that is shown in a directory of the tree and below it, now and later.
    Folder(VirtualPath),
    /// All files of an origin.
    Origin(OriginId),
}

/// All pins together, for asking whether a file is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinSet {
    files: HashSet<FileId>,
    folders: BTreeSet<VirtualPath>,
    origins: HashSet<OriginId>,
}

impl PinSet {
    /// Tells whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty() && self.origins.is_empty()
    }

    /// Tells whether `file` is pinned: by itself, by its origin, or by a directory that it is shown in or below (by
    /// whole names: `Artist2` is not in `Artist`).
    pub fn covers(&self, file: &FileMeta) -> bool {
        self.files.contains(&file.id)
            || self.origins.contains(&file.origin)
            || file.shown_at.as_ref().is_some_and(|path| self.covers_folder_of(path))
    }

    fn covers_folder_of(&self, path: &VirtualPath) -> bool {
        let names = path.names();
        !self.folders.is_empty()
            && (1..=names.len())
                .filter_map(|n| VirtualPath::new(names[..n].to_vec()))
                .any(|folder| self.folders.contains(&folder))
    }
}

impl FromIterator<Pin> for PinSet {
    fn from_iter<T: IntoIterator<Item = Pin>>(pins: T) -> Self {
        let mut set = Self::default();
        for pin in pins {
            match pin {
                Pin::File(id) => drop(set.files.insert(id)),
                Pin::Folder(path) => drop(set.folders.insert(path)),
                Pin::Origin(origin) => drop(set.origins.insert(origin)),
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileKind, FileState, FileVersion, OriginPath};

    fn file(origin: &str, shown_at: Option<&str>) -> FileMeta {
        let (origin, path) = (OriginId::from(origin), OriginPath::new("x.flac").unwrap());
        FileMeta {
            id: FileId::derive(&origin, &path, 0),
            origin,
            path,
            version: FileVersion::default(),
            kind: FileKind::Audio,
            state: FileState::Present,
            format: None,
            audio: None,
            problem: None,
            shown_at: shown_at.map(|path| VirtualPath::from_text(path).unwrap()),
        }
    }

    #[test]
    fn pinned_folder_covers_what_is_below_it_by_whole_names() {
        let pins: PinSet =
            [Pin::Folder(VirtualPath::from_text("Artist/Album").unwrap())].into_iter().collect();
        for (path, pinned) in [
            ("Artist/Album/01.flac", true),
            ("Artist/Album/CD1/01.flac", true),
            ("Artist/Album2/01.flac", false),
            ("Artist/01.flac", false),
        ] {
            assert_eq!(pins.covers(&file("nas", Some(path))), pinned, "{path}");
        }
        assert!(!pins.covers(&file("nas", None)));
    }

    #[test]
    fn file_is_pinned_by_itself_or_by_its_origin() {
        let one = file("nas", None);
        let other = file("box", Some("a.flac"));
        let by_id: PinSet = [Pin::File(one.id)].into_iter().collect();
        assert!(by_id.covers(&one) && !by_id.covers(&other));
        let by_origin: PinSet = [Pin::Origin("box".into())].into_iter().collect();
        assert!(!by_origin.covers(&one) && by_origin.covers(&other));
        assert!(PinSet::default().is_empty() && !by_origin.is_empty());
    }
}
