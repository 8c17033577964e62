//! A file that the kernel reads by itself.
//!
//! What it reads is what lies in the file now: one that is rewritten in place is seen at once, as on any disk. Size and
//! time are therefore asked of the file, of whose change the catalogue learns a moment later. It is open, and on a disk of
//! this machine, so that asking does no I/O.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use fuser::BackingId;
use musicfs_core::UnixNanos;

use crate::numbers::Told;

/// The file, as the kernel knows it and as the daemon does.
#[derive(Debug)]
pub(crate) struct Backed {
    id: BackingId,
    file: File,
    /// What it was when it was opened.
    opened: Told,
}

impl Backed {
    pub(crate) fn new(id: BackingId, file: File) -> io::Result<Self> {
        let opened = found(&file)?;
        Ok(Self { id, file, opened })
    }

    /// Returns by what the kernel knows it.
    pub(crate) fn id(&self) -> &BackingId {
        &self.id
    }

    /// Returns what the kernel is to be told of it when it has been rewritten since it was opened.
    pub(crate) fn rewritten(&self) -> Option<Told> {
        found(&self.file).ok().filter(|now| *now != self.opened)
    }
}

fn found(file: &File) -> io::Result<Told> {
    let meta = file.metadata()?;
    Ok(Told { size: meta.len(), mtime: UnixNanos::from_parts(meta.mtime(), meta.mtime_nsec()) })
}
