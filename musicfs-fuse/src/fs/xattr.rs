//! Extended attributes: what the product tells of each file.
//!
//! Directories have none. The names are the same for every file but for `error`, which only a file has that could
//! not be parsed, and `backup`, which names the copy (`origin:path`) that is read while the file's own origin fails. `copies` names all files that share the entry, as `origin:path`, a line each, the one that leads
//! first; it is as long as it must be. `hash` is computed when it is read, not when its size is asked for: its length is fixed.

use bytes::Bytes;
use musicfs_core::{ContentReader, FileKind, FileMeta, Ino, MetaDb};

use super::MusicFs;
use crate::{Backends, FsError};

const ID: &str = "user.musicfs.id";
const ORIGIN: &str = "user.musicfs.origin";
const PATH: &str = "user.musicfs.path";
const COPIES: &str = "user.musicfs.copies";
const FORMAT: &str = "user.musicfs.format";
const HASH: &str = "user.musicfs.hash";
const CACHED: &str = "user.musicfs.cached";
const ERROR: &str = "user.musicfs.error";
const BACKUP: &str = "user.musicfs.backup";
const ALL: [&str; 9] = [ID, ORIGIN, PATH, COPIES, FORMAT, HASH, CACHED, ERROR, BACKUP];

/// What stands before the digits of a hash.
const HASH_PREFIX: &str = "blake3:";
/// Length of a hash's text: the prefix and 64 digits.
const HASH_LEN: u32 = HASH_PREFIX.len() as u32 + 64;

/// The answer to a question for an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xattr {
    /// Only the size was asked for.
    Size(u32),
    /// The value.
    Value(Bytes),
}

/// An attribute as far as it can be told at once.
#[derive(Debug)]
pub(crate) enum XattrAnswer {
    /// The whole answer.
    Ready(Xattr),
    /// The hash of this file is wanted, which takes reading it.
    Hash(Box<FileMeta>),
}

impl<B: Backends> MusicFs<B> {
    /// Returns the names of an inode's attributes, each ended by NUL; with a `size` of 0, their length.
    ///
    /// # Errors
    /// [`FsError::BufferTooSmall`] when they are longer than `size`.
    pub fn listxattr(&self, ino: Ino, size: u32) -> Result<Xattr, FsError> {
        let mut names = Vec::new();
        if let Some(file) = self.xattr_file(ino)? {
            let has = |name: &&str| match *name {
                FORMAT => file.format.is_some(),
                ERROR => problem(&file).is_some(),
                BACKUP => self.backends.reader().stand_in(&file).is_some(),
                _ => true,
            };
            for name in ALL.iter().filter(|name| has(name)) {
                names.extend_from_slice(name.as_bytes());
                names.push(0);
            }
        }
        sized(names.into(), size)
    }

    /// Returns an attribute of an inode; with a `size` of 0, only its length.
    ///
    /// Dropping the future is safe.
    ///
    /// # Errors
    /// [`FsError::NoAttribute`] when it has none of that name, [`FsError::BufferTooSmall`] when it is longer than
    /// `size`.
    pub async fn getxattr(&self, ino: Ino, name: &[u8], size: u32) -> Result<Xattr, FsError> {
        match self.begin_getxattr(ino, name, size)? {
            XattrAnswer::Ready(answer) => Ok(answer),
            XattrAnswer::Hash(file) => self.hash_xattr(&file, size).await,
        }
    }

    /// Answers what can be told at once.
    pub(crate) fn begin_getxattr(&self, ino: Ino, name: &[u8], size: u32) -> Result<XattrAnswer, FsError> {
        // Programs ask for many attributes that this filesystem never has; those cost no look at the catalogue.
        let Some(name) = ALL.iter().find(|n| n.as_bytes() == name) else {
            return Err(FsError::NoAttribute);
        };
        let file = self.xattr_file(ino)?.ok_or(FsError::NoAttribute)?;
        let value: Bytes = match *name {
            ID => file.id.to_string().into(),
            ORIGIN => file.origin.as_str().to_owned().into(),
            PATH => Bytes::copy_from_slice(file.path.as_bytes()),
            COPIES => self.copies_of(&file)?,
            FORMAT => file.format.ok_or(FsError::NoAttribute)?.name().into(),
            CACHED => self.backends.reader().cached(&file).into(),
            ERROR => problem(&file).ok_or(FsError::NoAttribute)?.to_owned().into(),
            BACKUP => {
                let (origin, path) = self.backends.reader().stand_in(&file).ok_or(FsError::NoAttribute)?;
                [origin.as_str().as_bytes(), b":", path.as_bytes()].concat().into()
            }
            _ if size == 0 => return Ok(XattrAnswer::Ready(Xattr::Size(HASH_LEN))),
            _ if size < HASH_LEN => return Err(FsError::BufferTooSmall),
            _ => return Ok(XattrAnswer::Hash(Box::new(file))),
        };
        sized(value, size).map(XattrAnswer::Ready)
    }

    /// Answers for a file's hash.
    pub(crate) async fn hash_xattr(&self, file: &FileMeta, size: u32) -> Result<Xattr, FsError> {
        match self.backends.reader().hash(file).await {
            Ok(Some(hash)) => sized(format!("{HASH_PREFIX}{hash}").into(), size),
            Ok(None) => Err(FsError::NoAttribute),
            Err(error) => Err(self.read_failed(&file.origin, &file.path, &error)),
        }
    }

    /// Names the files that share a file's entry.
    fn copies_of(&self, file: &FileMeta) -> Result<Bytes, FsError> {
        let copies = self.backends.meta().copies(file.id).map_err(|e| self.failed("getxattr", &e))?;
        let mut text = Vec::new();
        for copy in if copies.is_empty() { std::slice::from_ref(file) } else { &copies } {
            if !text.is_empty() {
                text.push(b'\n');
            }
            text.extend_from_slice(copy.origin.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(copy.path.as_bytes());
        }
        Ok(text.into())
    }

    fn xattr_file(&self, ino: Ino) -> Result<Option<FileMeta>, FsError> {
        let Some(id) = ino.file_id() else { return Ok(None) };
        let file = self.backends.meta().file(id).map_err(|e| self.failed("getxattr", &e))?;
        file.map(Some).ok_or(FsError::Stale)
    }
}

fn problem(file: &FileMeta) -> Option<&str> {
    file.problem.as_deref().filter(|_| file.kind == FileKind::Unparsed)
}

fn sized(value: Bytes, size: u32) -> Result<Xattr, FsError> {
    let len = value.len() as u32;
    match size {
        0 => Ok(Xattr::Size(len)),
        _ if len > size => Err(FsError::BufferTooSmall),
        _ => Ok(Xattr::Value(value)),
    }
}
