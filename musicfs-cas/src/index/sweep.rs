//! Compares the index with the chunk files, which are what counts.
//!
//! A file that the index does not know is added, a chunk without a file is taken off, a file of an impossible
//! length goes into quarantine. It goes folder by folder, beside reads and writes: whatever differs is looked at
//! again in the chunk's turn. Names are compared, lengths only of files that are new; a chunk's bytes are looked
//! at when it is read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Weak;

use musicfs_core::ChunkHash;

use crate::store::files::Files;

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Chunks that the index did not know.
    pub(crate) found: u64,
    /// Chunks whose files are gone.
    pub(crate) lost: u64,
}

/// Compares until the end, or until the store is gone. Blocks.
pub(crate) fn sweep(store: &Weak<Files>) -> io::Result<Swept> {
    let mut swept = Swept::default();
    for first in 0..=u8::MAX {
        let Some(files) = store.upgrade() else { break };
        let known = files.index.lock().in_folder(first);
        let on_disk = chunks_in(&files, first)?;
        for hash in on_disk.iter().filter(|hash| known.binary_search(hash).is_err()) {
            swept.found += u64::from(files.adopt(hash)?);
        }
        for hash in known.iter().filter(|hash| !on_disk.contains(hash)) {
            swept.lost += u64::from(files.drop_if_gone(hash)?);
        }
    }
    Ok(swept)
}

/// Returns the chunks that have a file in one folder, and says what else is there.
fn chunks_in(files: &Files, first: u8) -> io::Result<BTreeSet<ChunkHash>> {
    let mut found = BTreeSet::new();
    for entry in read_dir(&files.layout.folder(first))? {
        let entry = entry?;
        let hash = entry.file_name().to_str().and_then(|name| name.parse::<ChunkHash>().ok());
        match hash.filter(|hash| hash.as_bytes()[0] == first) {
            Some(hash) if entry.file_type()?.is_file() => drop(found.insert(hash)),
            _ => tracing::warn!(file = %entry.path().display(), "not a chunk; left alone"),
        }
    }
    Ok(found)
}

/// Lists a folder; one that is not there is empty.
fn read_dir(folder: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<fs::DirEntry>>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Box::new(std::iter::empty()))
        }
        Err(error) => Err(error),
    }
}
