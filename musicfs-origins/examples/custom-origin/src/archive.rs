//! Tar archives, read from the middle. Compressed ones cannot be.
//!
//! The table of files is made once for each state of the archive. A file's version is the size and the time that
//! the archive gives it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use musicfs_core::{ByteRange, FileVersion, OriginEntry, OriginErrorKind, OriginPath, UnixNanos};

/// What stands at the end of an archive that is complete.
const END: [u8; 1024] = [0; 1024];

/// Why something could not be done.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) OriginErrorKind, pub(crate) Option<Box<dyn Error + Send + Sync>>);

impl From<OriginErrorKind> for Failure {
    fn from(kind: OriginErrorKind) -> Self {
        Self(kind, None)
    }
}

/// That the archive cannot be read, or is not there, tells nothing of the files in it.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(OriginErrorKind::Unavailable, Some(error.into()))
    }
}

/// A file in the archive.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) version: FileVersion,
    start: u64,
}

/// What tells one state of an archive from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An open archive.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    file: Arc<File>,
    stamp: Stamp,
    table: Arc<BTreeMap<OriginPath, Packed>>,
}

impl Archive {
    /// Opens what is at `path` now; when it is what it was the `last` time, its table need not be made again.
    pub(crate) fn open(path: &Path, last: Option<Self>) -> Result<Self, Failure> {
        let file = File::open(path)?;
        let stamp = Stamp::of(&file)?;
        if let Some(last) = last.filter(|last| last.stamp == stamp) {
            return Ok(last);
        }
        let table = Arc::new(table(&file)?);
        Ok(Self { file: Arc::new(file), stamp, table })
    }

    /// Fails when the archive was written to since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<(), Failure> {
        if Stamp::of(&self.file)? == self.stamp { Ok(()) } else { Err(OriginErrorKind::Changed.into()) }
    }

    /// Lists all files below a folder, those of one folder together.
    pub(crate) fn below(&self, folder: &OriginPath) -> Result<Vec<OriginEntry>, Failure> {
        let below = self.table.iter().filter(|(path, _)| path.is_within(folder));
        let mut entries: Vec<OriginEntry> = below
            .map(|(path, packed)| OriginEntry { path: path.clone(), version: packed.version.clone() })
            .collect();
        if entries.is_empty() && !folder.is_root() {
            return Err(OriginErrorKind::NotFound.into());
        }
        entries.sort_by_cached_key(|entry| entry.path.parent());
        Ok(entries)
    }

    /// Returns the file at `path`.
    pub(crate) fn find(&self, path: &OriginPath) -> Result<&Packed, Failure> {
        self.table.get(path).ok_or_else(|| {
            let is_folder = path.is_root() || self.table.keys().any(|file| file.is_within(path));
            let kind = if is_folder { OriginErrorKind::Invalid } else { OriginErrorKind::NotFound };
            kind.into()
        })
    }

    /// Reads a part of a file, as far as it lies in it.
    pub(crate) fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, Failure> {
        let packed = self.find(path)?;
        if !packed.version.is_same(version) {
            return Err(OriginErrorKind::Changed.into());
        }
        let range = range.clamp_to(packed.version.size);
        let mut bytes = vec![0; range.len() as usize];
        self.file.read_exact_at(&mut bytes, packed.start + range.start())?;
        Ok(bytes.into())
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Makes the table of an archive. Only what lies inside the archive's root, by its name, is in it.
fn table(file: &File) -> io::Result<BTreeMap<OriginPath, Packed>> {
    let mut end = END;
    let from = file.metadata()?.len().checked_sub(END.len() as u64);
    file.read_exact_at(&mut end, from.ok_or(io::ErrorKind::UnexpectedEof)?)?;
    if end != END {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut, or is still being written"));
    }
    let mut table = BTreeMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let name = entry.path_bytes();
        let path = OriginPath::new(name.strip_prefix(b"./").unwrap_or(&name));
        if let Ok(path) = path
            && entry.header().entry_type().is_file()
        {
            let seconds = i64::try_from(entry.header().mtime()?).unwrap_or(i64::MAX);
            let mtime = Some(UnixNanos::from_parts(seconds, 0));
            let version = FileVersion { size: entry.size(), mtime, etag: None };
            table.insert(path, Packed { version, start: entry.raw_file_position() });
        }
    }
    Ok(table)
}
