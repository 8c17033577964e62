//! Identifiers.
//!
//! A [`FileId`] is a hash of where a file is ([`OriginId`] and [`OriginPath`]), so that a catalogue which was
//! thrown away and rebuilt gives every file the id it had. An inode number follows from it ([`FileId::ino`]);
//! a directory's follows from its path ([`Ino::for_dir`]). The number space is split so that the two can never
//! meet: bit 62 is set in every file's inode number and clear in every directory's. Bit 63 stays clear, because
//! SQLite's integers are signed.
//!
//! Hashes of 62 bits can collide; whoever inserts must notice (the row names another path) and derive again
//! with the next salt.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::OriginPath;

/// Bit that tells a file's inode number from a directory's.
const FILE_BIT: u64 = 1 << 62;
/// Inode numbers below this are never given to a directory by hash: 1 is the root, the rest are kept for
/// directories that MusicFS itself invents.
const FIRST_DIR: u64 = 1024;

/// Inode number of the tree's root, as the kernel fixes it.
pub const ROOT_INODE: Ino = Ino(1);

/// Names an origin within one library.
///
/// The id takes part in every [`FileId`] of the origin: an origin that is renamed is another origin.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OriginId(Arc<str>);

impl OriginId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for OriginId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for OriginId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginId({:?})", self.0)
    }
}

/// Identifies a file for as long as the library lives: 62 bits, never negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(i64);

impl FileId {
    /// Derives the id of the file at `path` in `origin`.
    ///
    /// `salt` is 0 for all but the files whose id was found taken by another path; those go on with 1, 2, …
    pub fn derive(origin: &OriginId, path: &OriginPath, salt: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(origin.as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(path.as_bytes());
        if salt > 0 {
            hasher.update(&[0]);
            hasher.update(&salt.to_le_bytes());
        }
        Self((first_u64(&hasher) & (FILE_BIT - 1)).cast_signed())
    }

    /// Wraps a number that [`FileId::raw`] gave, or `None` when it is not in the range of ids.
    pub const fn from_raw(raw: i64) -> Option<Self> {
        if raw >= 0 && raw < FILE_BIT.cast_signed() { Some(Self(raw)) } else { None }
    }

    /// Returns the number that stands for this id in stores.
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// Returns the inode number under which the kernel knows this file, wherever in the tree it stands.
    pub const fn ino(self) -> Ino {
        Ino(self.0.cast_unsigned() | FILE_BIT)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

/// An inode number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ino(u64);

impl Ino {
    /// Wraps a number that came from the kernel or a store.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the number as the kernel knows it.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Derives the inode number of the directory `name` in `parent`.
    ///
    /// As `parent` was derived in the same way, the number follows from the whole path. `salt` as in
    /// [`FileId::derive`].
    pub fn for_dir(parent: Ino, name: &[u8], salt: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&parent.0.to_le_bytes());
        hasher.update(name);
        if salt > 0 {
            hasher.update(&[0]);
            hasher.update(&salt.to_le_bytes());
        }
        Self(FIRST_DIR + first_u64(&hasher) % (FILE_BIT - FIRST_DIR))
    }

    /// Returns the file that has this number, or `None` for a directory's.
    pub const fn file_id(self) -> Option<FileId> {
        if self.0 & FILE_BIT != 0 { FileId::from_raw((self.0 & !FILE_BIT).cast_signed()) } else { None }
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ino({:#x})", self.0)
    }
}

fn first_u64(hasher: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_id_of_same_place_is_same_and_of_another_differs() {
        let (a, b) = (OriginId::from("a"), OriginId::from("b"));
        let path = OriginPath::new("x/y.flac").unwrap();
        assert_eq!(FileId::derive(&a, &path, 0), FileId::derive(&a, &path, 0));
        assert_ne!(FileId::derive(&a, &path, 0), FileId::derive(&b, &path, 0));
        assert_ne!(FileId::derive(&a, &path, 0), FileId::derive(&a, &path, 1));
    }

    #[test]
    fn inode_numbers_of_files_and_directories_never_meet() {
        let origin = OriginId::from("a");
        for i in 0..1000 {
            let path = OriginPath::new(format!("{i}.flac")).unwrap();
            let id = FileId::derive(&origin, &path, 0);
            assert_eq!(id.ino().file_id(), Some(id));
            let dir = Ino::for_dir(ROOT_INODE, path.as_bytes(), 0);
            assert_eq!(dir.file_id(), None);
            assert!(dir.raw() >= FIRST_DIR);
            assert_eq!(FileId::from_raw(id.raw()), Some(id));
        }
        assert_eq!(FileId::from_raw(-1), None);
        assert_eq!(ROOT_INODE.file_id(), None);
    }
}
