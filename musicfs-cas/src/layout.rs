//! Where things are on disk. This is format 2:
//!
//! ```text
//! <chunks_dir>/FORMAT             "musicfs chunks 2\n"
//! <chunks_dir>/aa/<64 hex>        a chunk; aa is the first byte of its hash
//! <chunks_dir>/tmp/               chunks being written; swept at start
//! <chunks_dir>/quarantine/<hash>  damaged chunks, for a person to look at; never read, may be deleted
//! <chunks_dir>/index-1/           a copy of the index; may be deleted
//! ```
//!
//! One level of folders, as chunks are 1 to 2 MiB: a folder of a cache of 1 TiB holds some 2,000 to 4,000. With two (format 1)
//! nearly every chunk had a folder of its own, which cost as much to make as the chunk's file.
//!
//! A chunk file describes itself: its name is the BLAKE3 hash of its bytes, in lower-case hexadecimal digits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use musicfs_core::ChunkHash;

use crate::durable;
use crate::index::disk;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "musicfs chunks 2\n";
/// Longest chunk, by the contract of a chunk store.
pub(crate) const MAX_CHUNK: usize = 16 * 1024 * 1024;
/// Damaged chunks that are kept for a person to look at; beyond, the oldest goes.
const KEPT_IN_QUARANTINE: usize = 16;

/// The folders of a store.
#[derive(Debug)]
pub(crate) struct Layout {
    chunks: PathBuf,
}

impl Layout {
    pub(crate) fn new(chunks_dir: PathBuf) -> Self {
        Self { chunks: chunks_dir }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.chunks
    }

    pub(crate) fn chunk(&self, hash: &ChunkHash) -> PathBuf {
        let name = hash.to_string();
        self.chunks.join(&name[..2]).join(name)
    }

    /// Returns the folder of the chunks whose hashes begin with a byte.
    pub(crate) fn folder(&self, first: u8) -> PathBuf {
        self.chunks.join(format!("{first:02x}"))
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.chunks.join(disk::FOLDER)
    }

    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.chunks.join("tmp").join(name)
    }

    /// Moves a damaged chunk's file, or whatever is in its place, into quarantine, and drops the oldest there when there
    /// are many.
    pub(crate) fn quarantine(&self, hash: &ChunkHash) -> io::Result<()> {
        let folder = self.chunks.join("quarantine");
        let kept = folder.join(hash.to_string());
        // One that is there already; a folder would not give way to a file, nor a file to a folder.
        let _ = remove_any(&kept);
        fs::rename(self.chunk(hash), kept)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT_IN_QUARANTINE);
        kept.into_iter().take(surplus).try_for_each(|(_, path)| remove_any(&path))
    }

    /// Makes the folders, checks the format, and sweeps what a stop left half done.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.make_folders()?;
        self.check_format()?;
        for entry in fs::read_dir(self.chunks.join("tmp"))? {
            let path = entry?.path();
            remove_any(&path)?;
        }
        Ok(())
    }

    /// Makes the folders that every store has.
    pub(crate) fn make_folders(&self) -> io::Result<()> {
        ["tmp", "quarantine"].iter().try_for_each(|folder| durable::create_folder(&self.chunks.join(folder)))
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
}

fn remove_any(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|_| fs::remove_dir_all(path))
}
