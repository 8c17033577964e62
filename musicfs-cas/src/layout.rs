//! Where things are on disk. This is format 1:
//!
//! ```text
//! <chunks_dir>/FORMAT             "musicfs chunks 1\n"
//! <chunks_dir>/aa/bb/<64 hex>     a chunk; aa and bb are the first two bytes of its hash
//! <chunks_dir>/tmp/               chunks being written; swept at start
//! <chunks_dir>/quarantine/<hash>  damaged chunks, for a person to look at; never read, may be deleted
//! ```
//!
//! A chunk file describes itself: its name is the BLAKE3 hash of its bytes, in lower-case hexadecimal digits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use musicfs_core::ChunkHash;

use crate::durable;
use crate::index::Index;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "musicfs chunks 1\n";
/// Longest chunk, by the contract of a chunk store.
pub(crate) const MAX_CHUNK: usize = 16 * 1024 * 1024;

/// The folders of a store.
#[derive(Debug)]
pub(crate) struct Layout {
    chunks: PathBuf,
}

impl Layout {
    pub(crate) fn new(chunks_dir: PathBuf) -> Self {
        Self { chunks: chunks_dir }
    }

    pub(crate) fn chunk(&self, hash: &ChunkHash) -> PathBuf {
        let name = hash.to_string();
        self.chunks.join(&name[..2]).join(&name[2..4]).join(name)
    }

    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.chunks.join("tmp").join(name)
    }

    pub(crate) fn quarantined(&self, hash: &ChunkHash) -> PathBuf {
        self.chunks.join("quarantine").join(hash.to_string())
    }

    /// Makes the folders, checks the format, sweeps what a stop left half done, and counts the chunks.
    pub(crate) fn open(&self) -> io::Result<Index> {
        for folder in ["tmp", "quarantine"] {
            durable::create_folder(&self.chunks.join(folder))?;
        }
        self.check_format()?;
        for entry in fs::read_dir(self.chunks.join("tmp"))? {
            let path = entry?.path();
            fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path))?;
        }
        let mut index = Index::default();
        for (first, outer) in byte_folders(&self.chunks)? {
            for (second, inner) in byte_folders(&outer)? {
                for entry in fs::read_dir(inner)? {
                    self.count(&entry?, [first, second], &mut index)?;
                }
            }
        }
        Ok(index)
    }

    fn check_format(&self) -> io::Result<()> {
        let path = self.chunks.join(FORMAT_FILE);
        match fs::read(&path) {
            Ok(found) if found == FORMAT.as_bytes() => Ok(()),
            Ok(_) => {
                let message = format!(
                    "{} does not say \"{}\": the chunks are of another format; move the folder away to begin anew",
                    path.display(),
                    FORMAT.trim_end()
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let temporary = self.temporary(FORMAT_FILE);
                // One may be left by a start that was cut short.
                let _ = fs::remove_file(&temporary);
                durable::write(&temporary, &path, FORMAT.as_bytes())
            }
            Err(error) => Err(error),
        }
    }

    /// Counts one file, when it is a chunk in its place.
    fn count(&self, entry: &fs::DirEntry, place: [u8; 2], index: &mut Index) -> io::Result<()> {
        let metadata = entry.metadata()?;
        let hash = entry.file_name().to_str().and_then(|name| name.parse::<ChunkHash>().ok());
        match hash.filter(|hash| metadata.is_file() && hash.as_bytes()[..2] == place) {
            Some(hash) if (1..=MAX_CHUNK as u64).contains(&metadata.len()) => {
                index.insert(hash, metadata.len());
            }
            Some(hash) => {
                tracing::warn!(chunk = %hash, bytes = metadata.len(), "chunk of an impossible length put into quarantine");
                fs::rename(entry.path(), self.quarantined(&hash))?;
            }
            None => tracing::warn!(file = %entry.path().display(), "not a chunk; left alone"),
        }
        Ok(())
    }
}

/// Returns the folders that are named by two hexadecimal digits.
fn byte_folders(folder: &Path) -> io::Result<Vec<(u8, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let digits = name.to_str().filter(|n| n.len() == 2 && !n.contains(|c: char| c.is_ascii_uppercase()));
        if let Some(byte) = digits.and_then(|n| u8::from_str_radix(n, 16).ok())
            && entry.file_type()?.is_dir()
        {
            folders.push((byte, entry.path()));
        }
    }
    Ok(folders)
}
