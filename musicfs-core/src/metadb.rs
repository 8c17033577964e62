//! What is known: files, their tags, and the tree they are shown in.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    AlbumKey, ChunkManifest, FileId, FileKind, FileMeta, FileState, FileVersion, Ino, Name, OriginId,
    OriginPath, UnixNanos, VirtualPath,
};

/// Counts the batches that were applied; grows with each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A position in a directory: that of an entry, fixed for as long as the entry lives. 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Cookie(pub u64);

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeKind {
    /// A directory.
    Dir,
    /// A file, known by [`Ino::file_id`].
    File,
}

/// One entry of the tree. The root is its own parent, and has neither name nor cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its inode number.
    pub ino: Ino,
    /// The directory that it stands in.
    pub parent: Ino,
    /// Its name there; `None` for the root.
    pub name: Option<Name>,
    /// Its position there.
    pub cookie: Cookie,
    /// What it is.
    pub kind: NodeKind,
    /// Size in bytes; 0 for a directory.
    pub size: u64,
    /// When its content changed: the version's time for a file, the last change of its entries for a directory.
    pub mtime: UnixNanos,
}

/// Where a file is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The file.
    pub id: FileId,
    /// The path that it would like.
    pub path: VirtualPath,
    /// The number to take when it was given one before (`Title (2).flac`), else 0.
    pub prefer: u32,
}

/// A change to the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Records what was observed of a file: inserts it, or replaces all but where it is shown, its manifest and
    /// the time it was first seen. A file in the tree whose content became another is shown again where it wanted
    /// to be, as its copies are others now.
    PutFile(Box<FileMeta>),
    /// Shows a file at a path. See the rules of the tree in [`VirtualTree`](crate::VirtualTree). Showing it where
    /// it is already wanted changes nothing but its size and time.
    Place(Placement),
    /// Records that a file is at another path of its origin now. What is known of it, and where it is shown, stays.
    Move {
        /// The file.
        id: FileId,
        /// Its new path.
        path: OriginPath,
    },
    /// Takes a file out of the tree; what is known of it stays.
    Unplace(FileId),
    /// Changes whether a file is there. The batch's time is remembered as that of its going.
    SetState(FileId, FileState),
    /// Forgets a file altogether: its row, its place, its manifest.
    Forget(FileId),
    /// Records which stretches of a version of a file are cached, in place of what was recorded before.
    PutManifest {
        /// The file.
        id: FileId,
        /// The version that the chunks belong to.
        version: FileVersion,
        /// The stretches.
        manifest: ChunkManifest,
    },
    /// Says that what was served of a file was not what its version holds: whoever keeps bytes of it is to forget them,
    /// as when its content changed.
    Correct(FileId),
    /// Records the origins in order of preference, the most preferred first, in place of what was recorded before;
    /// those that are not named come after. It decides which of several copies leads.
    RankOrigins(Vec<OriginId>),
    /// Records a small note about the catalogue itself under a key, or removes it.
    SetNote {
        /// The key.
        key: Cow<'static, str>,
        /// The text, or `None` to remove the note.
        value: Option<String>,
    },
}

/// Changes that are applied together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The time: directories whose entries change take it as theirs, new files as first seen.
    pub at: UnixNanos,
    /// The changes, in order.
    pub ops: Vec<Op>,
}

/// A file that was given a number because its name was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffixed {
    /// The file.
    pub id: FileId,
    /// The path that it would have liked.
    pub path: VirtualPath,
    /// The number, from 2.
    pub n: u32,
}

/// What applying a batch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The revision that the catalogue has now.
    pub revision: Revision,
    /// Files that took a number in this batch.
    pub suffixed: Vec<Suffixed>,
}

/// One consequence of a batch, for those who keep something derived from the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entry appeared in a directory.
    EntryAdded {
        /// The directory.
        parent: Ino,
        /// The entry's name.
        name: Name,
        /// The entry's inode.
        ino: Ino,
    },
    /// An entry went from a directory.
    EntryRemoved {
        /// The directory.
        parent: Ino,
        /// The entry's name.
        name: Name,
        /// The entry's inode.
        ino: Ino,
    },
    /// What is known of a file changed, or the file is new.
    FileChanged {
        /// The file.
        id: FileId,
        /// Whether its version, and with it its bytes, changed.
        content: bool,
    },
    /// A file was forgotten.
    FileForgotten {
        /// The file.
        id: FileId,
    },
}

/// Changes after a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The changes, in the order they were made; those of one revision are never split.
    pub changes: Vec<Change>,
    /// The revision that is reached with them: ask on from here.
    pub upto: Revision,
    /// Changes right after the revision asked for are no longer known: start afresh from the whole.
    pub truncated: bool,
}

/// What a pass over an origin needs to know of a file to leave it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its id.
    pub id: FileId,
    /// Its version.
    pub version: FileVersion,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Whether it is there.
    pub state: FileState,
}

/// What is cached of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedManifest {
    /// The file.
    pub id: FileId,
    /// The version that the chunks belong to.
    pub version: FileVersion,
    /// The stretches.
    pub manifest: ChunkManifest,
}

/// Which files to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileQuery {
    /// All.
    All,
    /// All of one origin.
    Origin(OriginId),
    /// Those directly in one folder of an origin.
    Folder(OriginId, OriginPath),
    /// Those in one folder of an origin and all below it.
    Under(OriginId, OriginPath),
    /// Those of one origin that have this size in bytes.
    OfSize(OriginId, u64),
    /// Those of one album that have a disc number, in all origins.
    DiscsOf(AlbumKey),
    /// Those that could not be parsed, but for what is excluded.
    Problems,
    /// Those gone from their origin.
    Missing,
    /// Those that are there and of which something is cached by guess ([`ChunkManifest::guesses`]).
    Guessed,
}

/// A page of files.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePage {
    /// The files, in order of id.
    pub files: Vec<FileMeta>,
    /// Goes on after this page; `None` at the end.
    pub next: Option<FileId>,
}

/// How far a walk over all entries has come, and where a file stands in it. A file that is recorded anew stands after
/// all that ever were. Means nothing to anybody but the catalogue that gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub i64);

/// A page of the files that have an entry of their own in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownPage {
    /// The files, in the order of their marks.
    pub files: Vec<FileMeta>,
    /// The mark of the last of them.
    pub last: Option<Mark>,
    /// Goes on after this page; `None` at the end.
    pub next: Option<Mark>,
}

/// A file at its place in the order in which the catalogue keeps them.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkedFile {
    /// Its id.
    pub id: FileId,
    /// Where it stands.
    pub mark: Mark,
    /// The file, when it has an entry of its own in the tree.
    pub shown: Option<FileMeta>,
}

/// Sums over the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files that are shown, sidecars included; copies of one file count once.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Music among them that was parsed.
    pub tracks: u64,
    /// Files that could not be parsed, but for what is excluded.
    pub problems: u64,
    /// Files gone from their origin.
    pub missing: u64,
    /// Directories of the tree, without the root.
    pub dirs: u64,
}

/// A failure of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The id already belongs to another path: derive another.
    #[error("id {id} of {origin}:{path} is already that of another file")]
    IdTaken {
        /// The id.
        id: FileId,
        /// The origin of the file that wanted it.
        origin: OriginId,
        /// That file's path.
        path: OriginPath,
    },
    /// A change names a file that is not in the catalogue.
    #[error("file {0} is not in the catalogue")]
    UnknownFile(FileId),
    /// What is stored is damaged.
    #[error("the catalogue is damaged: {0}")]
    Corrupt(String),
    /// The storage failed or is full.
    #[error("the catalogue's storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The catalogue.
///
/// # Contract
/// * All methods **block** for as long as a disk takes, never for a network; any number of readers go on while
///   one batch is applied. Each call sees the state after some batch, whole.
/// * **apply** makes all changes of a batch or, when it fails, none; when it returns they survive a kill of the
///   process. Batches are applied one after the other; each raises the revision by one. An operation on an
///   unknown file fails the batch with [`MetaError::UnknownFile`].
/// * A file's row, its place, its manifest and its notes have separate writers: an operation changes only what
///   its description says.
/// * Two files may be recorded at one path of an origin: one that was there, and what is there while nobody has
///   decided which file that is, or that took its place. Which of them the path means is not the catalogue's to know.
/// * **The tree** follows the rules of [`VirtualTree`](crate::VirtualTree), which is also the model that
///   implementations are tested against. Cookies grow with the time of insertion and are not used twice.
/// * **changes_since** gives every consequence of every batch after a revision, as far back as it is kept.
///   Consequences of a batch that undo each other may be left out.
#[expect(
    clippy::missing_errors_doc,
    reason = "all fail with Storage or Corrupt, and in no other way but as said"
)]
pub trait MetaDb: Send + Sync + 'static {
    /// Returns the entry `name` of the directory `parent`.
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Node>, MetaError>;

    /// Returns the node with this inode number. A copy that does not lead has none of its own.
    fn node(&self, ino: Ino) -> Result<Option<Node>, MetaError>;

    /// Returns at most `limit` entries of a directory after a position, in order of cookie; none for what is not
    /// a directory.
    fn list(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<Node>, MetaError>;

    /// Returns a file.
    fn file(&self, id: FileId) -> Result<Option<FileMeta>, MetaError>;

    /// Returns the files that share the entry of a file in the tree, itself included: the one that leads first, the
    /// others in the order of their standing. A file without copies is alone; none for what is not in the tree.
    fn copies(&self, id: FileId) -> Result<Vec<FileMeta>, MetaError>;

    /// Returns at most `limit` files of a query with ids above `after`, in order of id.
    fn files(&self, query: &FileQuery, after: Option<FileId>, limit: usize) -> Result<FilePage, MetaError>;

    /// Returns at most `limit` files that have an entry of their own in the tree (of copies, the one that leads) after
    /// a mark, in the order in which going through all of them costs the least. What is put while a walk goes on may
    /// be in it or not; what stays as it is comes once.
    fn shown(&self, after: Option<Mark>, limit: usize) -> Result<ShownPage, MetaError>;

    /// Returns those of these files that are in the catalogue, in the order of their marks; each once.
    fn marked(&self, ids: &[FileId]) -> Result<Vec<MarkedFile>, MetaError>;

    /// Visits all files of an origin, in no order, with one query and without holding them all.
    fn known(&self, origin: &OriginId, visit: &mut dyn FnMut(KnownFile)) -> Result<(), MetaError>;

    /// Returns when a missing file was found to be gone; `None` for one that is not missing.
    fn missing_since(&self, id: FileId) -> Result<Option<UnixNanos>, MetaError>;

    /// Returns the albums of which some file has a disc number above 1.
    fn multi_disc_albums(&self) -> Result<Vec<AlbumKey>, MetaError>;

    /// Returns the cached stretches of a file with the version they belong to.
    fn manifest(&self, id: FileId) -> Result<Option<(FileVersion, ChunkManifest)>, MetaError>;

    /// Returns the cached stretches of at most `limit` files with ids above `after`, in order of id.
    fn manifests(&self, after: Option<FileId>, limit: usize) -> Result<Vec<SavedManifest>, MetaError>;

    /// Returns a note.
    fn note(&self, key: &str) -> Result<Option<String>, MetaError>;

    /// Returns the sums.
    fn totals(&self) -> Result<Totals, MetaError>;

    /// Returns the revision reached.
    fn revision(&self) -> Result<Revision, MetaError>;

    /// Returns changes after `after`, about `limit` of them.
    fn changes_since(&self, after: Revision, limit: usize) -> Result<Changes, MetaError>;

    /// Returns a receiver that is told each new revision. Does not block.
    fn subscribe(&self) -> watch::Receiver<Revision>;

    /// Applies a batch.
    fn apply(&self, batch: &Batch) -> Result<Applied, MetaError>;
}

impl<T: MetaDb + ?Sized> MetaDb for Arc<T> {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Node>, MetaError> {
        (**self).lookup(parent, name)
    }
    fn node(&self, ino: Ino) -> Result<Option<Node>, MetaError> {
        (**self).node(ino)
    }
    fn list(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<Node>, MetaError> {
        (**self).list(dir, after, limit)
    }
    fn file(&self, id: FileId) -> Result<Option<FileMeta>, MetaError> {
        (**self).file(id)
    }
    fn copies(&self, id: FileId) -> Result<Vec<FileMeta>, MetaError> {
        (**self).copies(id)
    }
    fn files(&self, query: &FileQuery, after: Option<FileId>, limit: usize) -> Result<FilePage, MetaError> {
        (**self).files(query, after, limit)
    }
    fn shown(&self, after: Option<Mark>, limit: usize) -> Result<ShownPage, MetaError> {
        (**self).shown(after, limit)
    }
    fn marked(&self, ids: &[FileId]) -> Result<Vec<MarkedFile>, MetaError> {
        (**self).marked(ids)
    }
    fn known(&self, origin: &OriginId, visit: &mut dyn FnMut(KnownFile)) -> Result<(), MetaError> {
        (**self).known(origin, visit)
    }
    fn missing_since(&self, id: FileId) -> Result<Option<UnixNanos>, MetaError> {
        (**self).missing_since(id)
    }
    fn multi_disc_albums(&self) -> Result<Vec<AlbumKey>, MetaError> {
        (**self).multi_disc_albums()
    }
    fn manifest(&self, id: FileId) -> Result<Option<(FileVersion, ChunkManifest)>, MetaError> {
        (**self).manifest(id)
    }
    fn manifests(&self, after: Option<FileId>, limit: usize) -> Result<Vec<SavedManifest>, MetaError> {
        (**self).manifests(after, limit)
    }
    fn note(&self, key: &str) -> Result<Option<String>, MetaError> {
        (**self).note(key)
    }
    fn totals(&self) -> Result<Totals, MetaError> {
        (**self).totals()
    }
    fn revision(&self) -> Result<Revision, MetaError> {
        (**self).revision()
    }
    fn changes_since(&self, after: Revision, limit: usize) -> Result<Changes, MetaError> {
        (**self).changes_since(after, limit)
    }
    fn subscribe(&self) -> watch::Receiver<Revision> {
        (**self).subscribe()
    }
    fn apply(&self, batch: &Batch) -> Result<Applied, MetaError> {
        (**self).apply(batch)
    }
}
