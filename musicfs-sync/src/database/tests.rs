//! Tests of the catalogue through its public face.

mod damage;
mod model;
mod plans;
mod rules;

use std::path::PathBuf;

use musicfs_core::{
    AudioMeta, Batch, FileId, FileKind, FileMeta, FileState, FileVersion, Format, MetaDb, Op, OriginId,
    OriginPath, Placement, UnixNanos, VirtualPath,
};
use tempfile::TempDir;

use super::Database;

/// A catalogue in a directory of its own.
pub(super) struct Fixture {
    dir: TempDir,
    pub(super) db: Database,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("catalogue.db")).unwrap();
        Self { dir, db }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("catalogue.db")
    }

    pub(super) fn apply(&self, at: i64, ops: Vec<Op>) -> musicfs_core::Applied {
        self.db.apply(&Batch { at: UnixNanos(at), ops }).unwrap()
    }

    /// Closes the catalogue and opens it again.
    pub(super) fn reopen(self) -> Self {
        let Self { dir, db } = self;
        drop(db);
        let db = Database::open(&dir.path().join("catalogue.db")).unwrap();
        Self { dir, db }
    }
}

fn file(origin: &str, path: &str) -> FileMeta {
    let origin = OriginId::from(origin);
    let path = OriginPath::new(path).unwrap();
    FileMeta {
        id: FileId::derive(&origin, &path, 0),
        origin,
        path,
        version: FileVersion { size: 10, mtime: Some(UnixNanos(7)), etag: None },
        kind: FileKind::Audio,
        state: FileState::Present,
        format: Some(Format::Flac),
        audio: Some(Box::new(AudioMeta { title: Some("So What".into()), ..AudioMeta::default() })),
        problem: None,
        shown_at: None,
    }
}

pub(super) fn track(path: &str) -> FileMeta {
    file("nas", path)
}

pub(super) fn put(file: &FileMeta) -> Op {
    Op::PutFile(Box::new(file.clone()))
}

fn place(id: FileId, path: &str, prefer: u32) -> Op {
    Op::Place(Placement { id, path: VirtualPath::from_text(path).unwrap(), prefer })
}
