//! Which id a file has: it follows from its path, but for exceptions that the library remembers.

use std::collections::{HashMap, HashSet};

use musicfs_core::{FileId, OriginId, OriginPath};

use super::ScanError;
use crate::library::Library;

/// The ids of one origin's files.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    origin: OriginId,
    exceptions: HashMap<OriginPath, FileId>,
    /// Ids that belong to the paths in `exceptions`, and to no other.
    taken: HashSet<FileId>,
}

impl Ids {
    pub(super) fn new(origin: OriginId, exceptions: HashMap<OriginPath, FileId>) -> Self {
        let taken = exceptions.values().copied().collect();
        Self { origin, exceptions, taken }
    }

    /// Loads the exceptions.
    pub(super) fn load(library: &Library, origin: &OriginId) -> Result<Self, ScanError> {
        let ours = library.identities()?.into_iter().filter(|identity| identity.origin == *origin);
        Ok(Self::new(origin.clone(), ours.map(|identity| (identity.path, identity.id)).collect()))
    }

    /// Returns the origin.
    pub(super) fn origin(&self) -> &OriginId {
        &self.origin
    }

    /// Returns the id of the file at `path`, known or not.
    pub(super) fn of(&self, path: &OriginPath) -> FileId {
        // Nearly always there is no exception to look up.
        if self.exceptions.is_empty() {
            return FileId::derive(&self.origin, path, 0);
        }
        if let Some(id) = self.exceptions.get(path) {
            return *id;
        }
        // A file that was here has taken the id along.
        let mut salt = 0;
        loop {
            let id = FileId::derive(&self.origin, path, salt);
            if !self.taken.contains(&id) {
                return id;
            }
            salt += 1;
        }
    }

    /// Tells whether an id is not the one that follows from its path, and not yet recorded.
    pub(super) fn is_new_exception(&self, id: FileId, path: &OriginPath) -> bool {
        !self.exceptions.contains_key(path) && FileId::derive(&self.origin, path, 0) != id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_that_a_moved_file_took_along_is_not_given_to_its_successor() {
        let (old, new) = (OriginPath::new("a.flac").unwrap(), OriginPath::new("b.flac").unwrap());
        let moved = FileId::derive(&"o".into(), &old, 0);
        let ids = Ids::new("o".into(), HashMap::from([(new.clone(), moved)]));
        assert_eq!(ids.of(&new), moved);
        assert_eq!(ids.of(&old), FileId::derive(&"o".into(), &old, 1));
        assert!(ids.is_new_exception(ids.of(&old), &old) && !ids.is_new_exception(moved, &new));
    }
}
