//! What a pass leaves for the next one over the same origin.
//!
//! It is a note in the catalogue, written in the batches whose progress it tells, so that it is never ahead of them
//! nor behind. A pass that changes nothing writes none.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use musicfs_core::{FileId, FileQuery, FileState, MetaDb, MetaError, Op, OriginId, OriginPath, ScanCursor};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::ScanError;
use crate::library::{Exclusions, Identity, Library};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// What identified the storage when it was last listed whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// A pass began to change the catalogue and has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unfinished: Option<Unfinished>,
    /// Sidecars may stand where they no longer belong.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unsettled: bool,
    /// It was never listed whole, so that its files may have to take the names that they are to have.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) first: bool,
}

/// How far a pass came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Unfinished {
    /// It was to read unchanged files too.
    pub(super) reread: bool,
    /// Up to where what was listed is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Arc<str>>,
    /// New files that it recorded, and that may turn out to be former ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) arrived: Vec<FileId>,
    /// What it recorded of files that are not what they were, apart from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) apart: Vec<FileId>,
    /// Files whose ids the library may not know yet to have moved to where they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) moved: Vec<FileId>,
    /// What became of exclusions.
    #[serde(skip_serializing_if = "Carried::is_empty")]
    pub(super) carried: Carried,
}

/// Exclusions that a pass takes elsewhere before their files go, by the ids that follow from their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Carried {
    from: Vec<FileId>,
    to: Vec<FileId>,
}

impl Carried {
    /// Adds exclusions that are to be taken elsewhere.
    pub(super) fn extend(&mut self, origin: &OriginId, from: &[OriginPath], to: &[OriginPath]) {
        self.from.extend(from.iter().map(|path| FileId::derive(origin, path, 0)));
        self.to.extend(to.iter().map(|path| FileId::derive(origin, path, 0)));
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether an exclusion by this path was taken elsewhere, or came from there.
    pub(super) fn concerns(&self, origin: &OriginId, path: &OriginPath) -> bool {
        let id = FileId::derive(origin, path, 0);
        self.from.contains(&id) || self.to.contains(&id)
    }

    /// Forgets them where the library was not told.
    fn check(&mut self, origin: &OriginId, excluded: &Exclusions) {
        let ours = excluded.all().into_iter().filter(|(of, _)| of == origin);
        let ours: HashSet<FileId> = ours.map(|(_, path)| FileId::derive(origin, &path, 0)).collect();
        let left = |id: &FileId| self.to.contains(id) || !ours.contains(id);
        if !self.to.iter().all(|id| ours.contains(id)) || !self.from.iter().all(left) {
            *self = Self::default();
        }
    }
}

/// So many new files of a pass that is killed are remembered; a file beyond them that had moved is taken for new. As
/// many may not be what they were; those beyond them are taken to be changed.
pub(super) const MAX_ARRIVED: usize = 10_000;

impl Unfinished {
    pub(super) fn new(
        reread: bool,
        cursor: Option<&ScanCursor>,
        arrived: &[FileId],
        apart: Vec<FileId>,
    ) -> Self {
        let cursor = cursor.map(|cursor| cursor.0.clone());
        Self { reread, cursor, apart, ..Self::default() }.with_arrived(arrived)
    }

    /// Returns it with these files for new ones.
    pub(super) fn with_arrived(self, arrived: &[FileId]) -> Self {
        Self { arrived: arrived[..arrived.len().min(MAX_ARRIVED)].to_vec(), ..self }
    }

    /// Returns it with these exclusions taken elsewhere.
    pub(super) fn with_carried(self, carried: Carried) -> Self {
        Self { carried, ..self }
    }

    /// Returns where reading unchanged files goes on.
    pub(super) fn goes_on_at(&self) -> Option<ScanCursor> {
        self.cursor.clone().filter(|_| self.reread).map(ScanCursor)
    }
}

fn key(origin: &OriginId) -> Cow<'static, str> {
    format!("pass:{origin}").into()
}

impl Record {
    /// Reads the record of an origin. What cannot be read is as good as none.
    pub(super) fn load(db: &dyn MetaDb, origin: &OriginId) -> Result<Self, MetaError> {
        let Some(text) = db.note(&key(origin))? else {
            let first = db.files(&FileQuery::Origin(origin.clone()), None, 1)?.files.is_empty();
            return Ok(Self { first, ..Self::default() });
        };
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
            warn!(%origin, %error, "the record of the last pass cannot be read; begun anew");
            // Whatever it said, nothing is taken to be in order.
            Self { unfinished: Some(Unfinished::default()), ..Self::default() }
        }))
    }

    /// Returns the record that tells of files that move in the batch with it.
    pub(super) fn having_moved(&self, moved: Vec<FileId>) -> Self {
        let unfinished = self.unfinished.clone().unwrap_or_default();
        Self { unfinished: Some(Unfinished { moved, ..unfinished }), ..self.clone() }
    }

    /// Tells the library of files that moved in a batch after which the pass was killed, and asks it about exclusions.
    pub(super) fn settle_moved(
        &mut self,
        db: &dyn MetaDb,
        library: &Library,
        origin: &OriginId,
    ) -> Result<(), ScanError> {
        let moved = self.unfinished.as_mut().map(|pass| std::mem::take(&mut pass.moved)).unwrap_or_default();
        let mut identities = Vec::with_capacity(moved.len());
        for id in moved {
            // What is gone again may have left its path to another.
            if let Some(file) = db.file(id)?.filter(|file| file.state != FileState::Missing) {
                identities.push(Identity { origin: origin.clone(), path: file.path, id });
            }
        }
        library.move_identities(&identities)?;
        if let Some(pass) = &mut self.unfinished {
            pass.carried.check(origin, &library.exclusions()?);
        }
        Ok(())
    }

    /// Returns the change that writes it.
    pub(super) fn op(&self, origin: &OriginId) -> Op {
        // It holds nothing that JSON could not.
        let value = serde_json::to_string(self).ok().filter(|_| *self != Self::default());
        Op::SetNote { key: key(origin), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{Batch, FileMeta, UnixNanos};
    use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

    #[test]
    fn record_comes_back_and_a_damaged_one_trusts_nothing() {
        let db = MemoryMetaDb::new();
        let apply = |op| db.apply(&Batch { at: UnixNanos(1), ops: vec![op] }).unwrap();
        let origin = OriginId::from("o");
        let first = Record { first: true, ..Record::default() };
        assert_eq!(Record::load(&db, &origin).unwrap(), first, "nothing was ever listed");
        let ids = |id| FileId::from_raw(id).into_iter().collect::<Vec<_>>();
        let unfinished = Unfinished::new(true, Some(&ScanCursor("x".into())), &ids(7), ids(8));
        let mut carried = Carried::default();
        let at = |text| OriginPath::new(text).unwrap();
        carried.extend(&origin, &[at("a")], &[at("b")]);
        let unfinished = Unfinished { moved: ids(9), carried, ..unfinished };
        let record = Record {
            identity: Some("fs".into()),
            unfinished: Some(unfinished),
            unsettled: true,
            first: true,
        };
        apply(record.op(&origin));
        assert_eq!(Record::load(&db, &origin).unwrap(), record);
        apply(Record::default().op(&origin));
        assert_eq!(db.note("pass:o").unwrap(), None);
        apply(Op::PutFile(Box::new(FileMeta {
            origin: origin.clone(),
            ..make_file_meta(1, "a/1.flac", 10)
        })));
        assert_eq!(Record::load(&db, &origin).unwrap(), Record::default(), "it has files and no more to say");
        apply(Op::SetNote { key: "pass:o".into(), value: Some("{".into()) });
        assert!(Record::load(&db, &origin).unwrap().unfinished.is_some());
    }

    #[test]
    fn exclusions_that_were_to_be_taken_elsewhere_count_when_the_library_knows_of_it() {
        let origin = OriginId::from("o");
        let at = |text: &str| OriginPath::new(text).unwrap();
        let mut carried = Carried::default();
        carried.extend(&origin, &[at("a"), at("b")], &[at("b"), at("c")]);
        for (excluded, done) in [(&["b", "c", "d"][..], true), (&["a", "b"], false), (&["b"], false)] {
            let mut all = Exclusions::default();
            excluded.iter().for_each(|path| all.insert(origin.clone(), at(path)));
            let mut known = carried.clone();
            known.check(&origin, &all);
            for path in ["a", "b", "c"] {
                assert_eq!(known.concerns(&origin, &at(path)), done, "{path} of {excluded:?}");
            }
            assert!(!known.concerns(&origin, &at("d")));
        }
    }
}
