//! Folders as values that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Hash of a file's content; `None` for a folder.
    pub hash: Option<blake3::Hash>,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Type and permissions.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub ino: u64,
}

impl Entry {
    /// Tells whether it is a file.
    pub fn is_file(&self) -> bool {
        self.hash.is_some()
    }
}

/// Reads everything below `dir`, by path from there.
///
/// # Panics
/// When something cannot be read.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for path in list(&folder) {
            let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if meta.is_dir() {
                todo.push(path.clone());
            }
            let entry = Entry {
                hash: meta.is_file().then(|| hash(&path)),
                mtime: (meta.mtime(), meta.mtime_nsec()),
                mode: meta.mode(),
                size: meta.size(),
                ino: meta.ino(),
            };
            found.insert(path.strip_prefix(dir).unwrap_or(&path).to_owned(), entry);
        }
    }
    found
}

/// Returns the paths of all files below `dir`, from there, sorted.
///
/// # Panics
/// When a folder cannot be listed.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for path in list(&folder) {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                todo.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the hash of a file's content, read from beginning to end.
///
/// # Panics
/// When it cannot be read.
pub fn hash(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hasher.update_reader(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hasher.finalize()
}

/// Returns an extended attribute as text; `None` when there is none.
///
/// # Panics
/// When the attribute cannot be read.
pub fn attribute(path: &Path, name: &str) -> Option<String> {
    let value = xattr::get(path, name).unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()));
    value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.into_iter().map(|entry| entry.path()).collect()
}
