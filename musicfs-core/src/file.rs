//! What is known of one file on an origin.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AlbumKey, AudioMeta, FileId, Format, OriginId, OriginPath, UnixNanos, VirtualPath};

/// Identifies what a file holds, whatever it is called, wherever it is, and however it is tagged.
///
/// Of music it is the audio's identity with the duration and the format. What lies beside music is known by size
/// and time, which is no proof of equal bytes; but as copies also want the same place in the tree, it is the same
/// picture of the same album.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentKey(i64);

impl ContentKey {
    fn of(hasher: &blake3::Hasher) -> Self {
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        Self(i64::from_le_bytes(bytes))
    }

    /// Wraps a number that [`ContentKey::raw`] gave.
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the number that stands for this key in stores.
    pub const fn raw(self) -> i64 {
        self.0
    }
}

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
    /// Not to be seen, as the user has said; remembered.
    Excluded,
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
    /// Returns what identifies the file's content; `None` for what is never taken for a copy of another: music
    /// whose audio is not identified, and what could not be parsed.
    pub fn content_key(&self) -> Option<ContentKey> {
        let mut hasher = blake3::Hasher::new();
        match self.kind {
            FileKind::Audio => {
                let audio = self.audio.as_ref()?;
                audio.identity.as_ref()?.feed(&mut hasher);
                hasher.update(self.format?.name().as_bytes());
                hasher.update(&audio.duration_ms.to_le_bytes());
            }
            FileKind::Sidecar => {
                // Not every origin tells more than seconds.
                let (secs, _) = self.version.mtime?.parts();
                hasher.update(b"beside");
                hasher.update(&secs.to_le_bytes());
                hasher.update(&self.version.size.to_le_bytes());
            }
            FileKind::Unparsed | FileKind::Other => return None,
        }
        Some(ContentKey::of(&hasher))
    }

    /// Returns the album that the file belongs to.
    pub fn album_key(&self) -> Option<AlbumKey> {
        self.audio.as_ref()?.album_key()
    }
}
