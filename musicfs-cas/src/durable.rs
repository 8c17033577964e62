//! The two ways in which anything is written: to last, and to be had again if need be.
//!
//! New content goes into a temporary file of a name never used before, is forced to disk, takes its final name in
//! one step, and then the folder is forced to disk. A machine that stops in between leaves the file whole or not
//! at all, and perhaps a temporary one, which the next start sweeps away. For what can be fetched again the folder
//! is not waited for: it may be gone after that, but never be torn.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::direct;

/// Writes `bytes` to `path` by way of `temporary`, which must be on the same filesystem and not be there.
pub(crate) fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = File::create_new(temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    });
    if let Err(error) = written {
        // It may not be there, and if it cannot be removed now it is at the next start.
        let _ = fs::remove_file(temporary);
        return Err(error);
    }
    sync_folder_of(path)
}

/// Makes a folder and what it lies in, and forces those that are new to disk.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => sync_folder_of(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = folder.parent() else { return Err(error) };
            create_folder(parent)?;
            match fs::create_dir(folder) {
                // Another may have been quicker.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => sync_folder_of(folder),
            }
        }
        Err(error) => Err(error),
    }
}

/// As [`write`], but after a failure of the machine the name may be missing, never what is behind it: for what can
/// be had again, and is written so often that waiting for its folder too would halve the speed.
pub(crate) fn write_unless_lost(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = File::create_new(temporary).and_then(|file| {
        direct::write_all(&file, bytes)?;
        file.sync_data()?;
        rename(temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written
}

/// Gives a file its name; makes the folder when it is not there.
pub(crate) fn rename(temporary: &Path, path: &Path) -> io::Result<()> {
    match (fs::rename(temporary, path), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            fs::rename(temporary, path)
        }
        (done, _) => done,
    }
}

/// Forces to disk what happened to the name `path`.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
