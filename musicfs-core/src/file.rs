//! What is known of one file on an origin.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AlbumKey, AudioMeta, FileId, Format, OriginId, OriginPath, UnixNanos, VirtualPath};

/// Which bytes a path held: what an origin tells to know a changed file from an unchanged one.
///
/// With an `etag` the version is strong: equal etags mean equal bytes. Without, size and modification time
/// decide, which a writer can defeat; that is what the content checks of a sync are for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct FileVersion {
    /// Size in bytes.
    pub size: u64,
    /// Modification time as exact as the origin gives it, or `None` where it gives none.
    pub mtime: Option<UnixNanos>,
    /// The origin's own name for these bytes (an HTTP etag, an S3 version id).
    pub etag: Option<Arc<str>>,
}

impl FileVersion {
    /// Tells whether `other` is the same version: by etag where both have one, else by size and time.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => a == b && self.size == other.size,
            _ => self.size == other.size && self.mtime == other.mtime,
        }
    }
}

impl fmt::Display for FileVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)?;
        if let Some(mtime) = self.mtime {
            let (secs, nanos) = mtime.parts();
            write!(f, " of {secs}.{nanos:09}")?;
        }
        if let Some(etag) = &self.etag {
            write!(f, " ({etag})")?;
        }
        Ok(())
    }
}

/// What kind of file it is, as far as the tree is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Music: recognised by its content.
    Audio,
    /// What lies beside music and belongs to it: covers, booklets, cue sheets, logs, lyrics.
    Sidecar,
    /// Looks like music by its name, but could not be parsed; [`FileMeta::problem`] says why.
    Unparsed,
    /// None of these: remembered so that it is not opened again, and never shown.
    Other,
}

/// Whether a file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Listed, and waiting for its first read.
    Pending,
    /// Listed and read.
    Present,
    /// Proven to be gone from its origin; remembered.
    Missing,
}

/// One file on one origin, as the catalogue knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct FileMeta {
    /// The file's id.
    pub id: FileId,
    /// The origin it is on.
    pub origin: OriginId,
    /// Its path there.
    pub path: OriginPath,
    /// The version that was read last.
    pub version: FileVersion,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Whether it is there.
    pub state: FileState,
    /// Its container; `None` for what is not audio.
    pub format: Option<Format>,
    /// What its tags say; `None` for what is not audio.
    pub audio: Option<Box<AudioMeta>>,
    /// Why it could not be parsed: one line for the user.
    pub problem: Option<String>,
    /// Where in the tree it is shown, or `None` when it is not. Set by a [`Placement`](crate::Placement), not by
    /// writing the file.
    pub shown_at: Option<VirtualPath>,
}

impl FileMeta {
    /// Returns the album that the file belongs to.
    pub fn album_key(&self) -> Option<AlbumKey> {
        self.audio.as_ref()?.album_key()
    }
}
