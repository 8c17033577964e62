//! Writing many chunks at the cost of one: they are forced to disk together, before any of them takes its name.
//!
//! For what nobody waits for. A chunk is there whole or not at all, as with [`ChunkStore::put`]; of several, some may
//! be there and others not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
#[cfg(doc)]
use musicfs_core::ChunkStore;
use musicfs_core::{ChunkError, ChunkHash};

use super::CasStore;
use super::files::{Files, Reserved, failed};
use crate::durable;
use crate::index::{Entry, Known};

/// A chunk that is written and has no name yet.
struct Staged<'a> {
    hash: ChunkHash,
    len: u64,
    temporary: PathBuf,
    _reserved: Reserved<'a>,
}

impl CasStore {
    /// Stores chunks and returns their hashes in order. When one cannot be stored, none of them need be. Cancel safe
    /// as [`ChunkStore::put`].
    ///
    /// # Errors
    /// As [`ChunkStore::put`].
    pub(crate) async fn put_together(&self, chunks: Vec<Bytes>) -> Result<Vec<ChunkHash>, ChunkError> {
        if !self.counted().await {
            return Err(ChunkError::Io(io::Error::other("the chunks could not be counted")));
        }
        let hashes = self.blocking(move |files| {
            let hashed: Vec<_> = chunks.into_iter().map(|bytes| (ChunkHash::of(&bytes), bytes)).collect();
            files.put_together(&hashed)?;
            Ok(hashed.into_iter().map(|(hash, _)| hash).collect())
        });
        let hashes = hashes.await?;
        self.save_if_due();
        Ok(hashes)
    }
}

impl Files {
    fn put_together(&self, chunks: &[(ChunkHash, Bytes)]) -> Result<(), ChunkError> {
        let mut staged = Vec::with_capacity(chunks.len());
        let written = self.stage(chunks, &mut staged);
        let named = written.and_then(|()| staged.iter().try_for_each(|chunk| self.name(chunk)));
        if named.is_err() {
            // Those that have taken their names are there no more under these.
            for chunk in &staged {
                let _ = fs::remove_file(&chunk.temporary);
            }
        }
        named
    }

    /// Writes the chunks that are not there under temporary names, and forces them to disk.
    fn stage<'a>(
        &'a self,
        chunks: &[(ChunkHash, Bytes)],
        staged: &mut Vec<Staged<'a>>,
    ) -> Result<(), ChunkError> {
        for (hash, bytes) in chunks {
            if matches!(self.known(hash), Known::There(_)) {
                self.used(hash);
                continue;
            }
            let len = bytes.len() as u64;
            let reserved = self.reserve(len)?;
            let temporary = self.temporary(hash);
            let file = match File::create_new(&temporary) {
                // The folders may have been removed while the store is in use.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.layout.make_folders().and_then(|()| File::create_new(&temporary))
                }
                made => made,
            };
            staged.push(Staged { hash: *hash, len, temporary, _reserved: reserved });
            file.and_then(|mut file| file.write_all(bytes)).map_err(|error| failed(error, len))?;
        }
        fail::fail_point!("cas-put-together-before-sync", |_| Err(ChunkError::Io(io::Error::other(
            "injected"
        ))));
        if staged.is_empty() {
            return Ok(());
        }
        // Where room is only allotted when it is written, the want of it shows here.
        let all = staged.iter().map(|chunk| chunk.len).sum();
        sync_disk_of(self.layout.root()).map_err(|error| failed(error, all))
    }

    /// Gives a chunk its name, and counts it. Waits for its turn.
    fn name(&self, chunk: &Staged<'_>) -> Result<(), ChunkError> {
        let _turn = self.turn_of(&chunk.hash).blocking_lock_owned();
        if matches!(self.known(&chunk.hash), Known::There(_)) {
            return fs::remove_file(&chunk.temporary).map_err(ChunkError::Io);
        }
        let path = self.layout.chunk(&chunk.hash);
        durable::rename(&chunk.temporary, &path).map_err(|error| failed(error, chunk.len))?;
        self.index.lock().insert(chunk.hash, Entry::new(chunk.len, self.now()));
        Ok(())
    }
}

/// Forces all that was written to a disk to it: one wait, where a file at a time would be one for each.
fn sync_disk_of(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}
