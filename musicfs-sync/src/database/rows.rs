//! How values stand in rows, and back. What does not read back as it was written is damage.

use std::sync::Arc;

use musicfs_core::{
    AudioMeta, ByteRange, ChunkExtent, ChunkHash, ChunkManifest, Cookie, FileId, FileKind, FileState,
    FileVersion, Format, Ino, MetaError, Name, Node, NodeKind, ROOT_INODE, Totals, UnixNanos,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::error::{Failure, Result, damaged};
use super::sql;

/// First byte of a manifest's blob.
const MANIFEST_FORMAT: u8 = 1;
/// First byte of the blob of a manifest with guesses: the number of extents follows, then the extents, then the guesses.
const GUESSING_FORMAT: u8 = 2;
/// Bytes of an extent in it: offset and length, both little-endian, and the hash.
const EXTENT_BYTES: usize = 8 + 8 + 32;

/// The row of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) cookie: u64,
    pub(super) seq: i64,
    pub(super) changes: u64,
    pub(super) pruned: u64,
    pub(super) totals: Totals,
    pub(super) clean: bool,
}

impl State {
    pub(super) fn load(db: &Connection) -> Result<Self> {
        let mut statement = db.prepare_cached(sql::STATE)?;
        Ok(statement.query_row([], |row| {
            let unsigned = |n| row.get(n).map(i64::cast_unsigned);
            Ok(Self {
                revision: unsigned(0)?,
                cookie: unsigned(1)?,
                seq: row.get(2)?,
                changes: unsigned(3)?,
                pruned: unsigned(4)?,
                totals: Totals {
                    files: unsigned(5)?,
                    bytes: unsigned(6)?,
                    tracks: unsigned(7)?,
                    problems: unsigned(8)?,
                    missing: unsigned(9)?,
                    dirs: unsigned(10)?,
                },
                clean: row.get(11)?,
            })
        })?)
    }

    pub(super) fn store(&self, db: &Connection) -> Result<()> {
        let totals = &self.totals;
        let signed = u64::cast_signed;
        db.prepare_cached(sql::SET_STATE)?.execute((
            signed(self.revision),
            signed(self.cookie),
            self.seq,
            signed(self.changes),
            signed(self.pruned),
            signed(totals.files),
            signed(totals.bytes),
            signed(totals.tracks),
            signed(totals.problems),
            signed(totals.missing),
            signed(totals.dirs),
            self.clean,
        ))?;
        Ok(())
    }
}

pub(super) fn ino_value(ino: Ino) -> i64 {
    ino.raw().cast_signed()
}

pub(super) fn ino_of(value: i64) -> Ino {
    Ino::from_raw(value.cast_unsigned())
}

pub(super) fn cookie_value(cookie: Cookie) -> i64 {
    cookie.0.cast_signed()
}

pub(super) fn file_id_of(value: i64) -> Result<FileId> {
    FileId::from_raw(value).ok_or_else(|| damaged(format!("{value} is not the id of a file")))
}

pub(super) fn name_of(bytes: &[u8]) -> Result<Name> {
    Name::new(bytes).map_err(damaged)
}

pub(super) fn kind_value(kind: FileKind) -> i64 {
    match kind {
        FileKind::Audio => 0,
        FileKind::Sidecar => 1,
        FileKind::Unparsed => 2,
        FileKind::Other => 3,
    }
}

pub(super) fn kind_of(value: i64) -> Result<FileKind> {
    match value {
        0 => Ok(FileKind::Audio),
        1 => Ok(FileKind::Sidecar),
        2 => Ok(FileKind::Unparsed),
        3 => Ok(FileKind::Other),
        _ => Err(damaged(format!("there is no kind of file {value}"))),
    }
}

pub(super) fn state_value(state: FileState) -> i64 {
    match state {
        FileState::Pending => 0,
        FileState::Present => 1,
        FileState::Missing => 2,
        FileState::Excluded => 3,
    }
}

pub(super) fn state_of(value: i64) -> Result<FileState> {
    match value {
        0 => Ok(FileState::Pending),
        1 => Ok(FileState::Present),
        2 => Ok(FileState::Missing),
        3 => Ok(FileState::Excluded),
        _ => Err(damaged(format!("there is no state of a file {value}"))),
    }
}

pub(super) fn format_text(format: Format) -> Result<String> {
    match serde_json::to_value(format) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(other) => Err(unstorable(format!("{format:?} is written as {other}"))),
        Err(error) => Err(unstorable(error)),
    }
}

pub(super) fn format_of(text: &str) -> Result<Format> {
    let text: StrDeserializer<'_, ValueError> = text.into_deserializer();
    Format::deserialize(text).map_err(damaged)
}

pub(super) fn audio_text(audio: &AudioMeta) -> Result<String> {
    serde_json::to_string(audio).map_err(unstorable)
}

pub(super) fn audio_of(text: &str) -> Result<AudioMeta> {
    serde_json::from_str(text).map_err(damaged)
}

fn unstorable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::Meta(MetaError::Storage(error.into()))
}

/// Reads a version from three columns, the first of which is `at`.
pub(super) fn version_of(row: &Row<'_>, at: usize) -> rusqlite::Result<FileVersion> {
    Ok(FileVersion {
        size: row.get::<_, i64>(at)?.cast_unsigned(),
        mtime: row.get::<_, Option<i64>>(at + 1)?.map(UnixNanos),
        etag: match row.get_ref(at + 2)? {
            ValueRef::Null => None,
            text => Some(Arc::from(text.as_str()?)),
        },
    })
}

/// The time that a file's entry shows; the epoch where its origin gives none.
pub(super) fn shown_mtime(version: &FileVersion) -> UnixNanos {
    version.mtime.unwrap_or_default()
}

/// Reads the columns that all queries for nodes have.
pub(super) fn node_of(row: &Row<'_>) -> Result<Node> {
    let ino = ino_of(row.get(0)?);
    Ok(Node {
        ino,
        parent: ino_of(row.get(1)?),
        name: if ino == ROOT_INODE {
            None
        } else {
            Some(name_of(row.get_ref(2)?.as_blob().map_err(damaged)?)?)
        },
        cookie: Cookie(row.get::<_, i64>(3)?.cast_unsigned()),
        kind: if ino.file_id().is_some() { NodeKind::File } else { NodeKind::Dir },
        size: row.get::<_, i64>(4)?.cast_unsigned(),
        mtime: UnixNanos(row.get(5)?),
    })
}

pub(super) fn manifest_blob(manifest: &ChunkManifest) -> Vec<u8> {
    let (extents, guesses) = (manifest.extents(), manifest.guesses());
    let mut blob = Vec::with_capacity(9 + (extents.len() + guesses.len()) * EXTENT_BYTES);
    if guesses.is_empty() {
        blob.push(MANIFEST_FORMAT);
    } else {
        blob.push(GUESSING_FORMAT);
        blob.extend_from_slice(&(extents.len() as u64).to_le_bytes());
    }
    for extent in manifest.all() {
        blob.extend_from_slice(&extent.range.start().to_le_bytes());
        blob.extend_from_slice(&extent.range.len().to_le_bytes());
        blob.extend_from_slice(extent.hash.as_bytes());
    }
    blob
}

pub(super) fn manifest_of(blob: &[u8]) -> Result<ChunkManifest> {
    let unknown = || damaged("a manifest is of an unknown format");
    let cut = || damaged("a manifest is cut short");
    let (format, mut rest) = blob.split_first().ok_or_else(unknown)?;
    let mut proven = u64::MAX;
    match *format {
        MANIFEST_FORMAT => {}
        GUESSING_FORMAT => {
            let (number, after) = rest.split_first_chunk().ok_or_else(cut)?;
            (proven, rest) = (u64::from_le_bytes(*number), after);
        }
        _ => return Err(unknown()),
    }
    let (extents, []) = rest.as_chunks::<EXTENT_BYTES>() else {
        return Err(cut());
    };
    let mut manifest = ChunkManifest::default();
    for (n, extent) in extents.iter().enumerate() {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| extent[at + n]));
        let range = ByteRange::at(word(0), word(8));
        let hash = ChunkHash::from_bytes(std::array::from_fn(|n| extent[16 + n]));
        let extent = ChunkExtent { range, hash };
        let added = if (n as u64) < proven { manifest.insert(extent) } else { manifest.guess(extent) };
        if !added {
            return Err(damaged("a manifest has stretches that overlap"));
        }
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_round_trips_and_a_torn_one_is_damage() {
        let mut manifest = ChunkManifest::default();
        for (start, len) in [(0, 10), (64, 1), (1 << 40, 7)] {
            let hash = ChunkHash::of(&[start as u8]);
            assert!(manifest.insert(ChunkExtent { range: ByteRange::at(start, len), hash }));
        }
        let blob = manifest_blob(&manifest);
        assert!(manifest_of(&blob).is_ok_and(|read| read == manifest));
        assert!(manifest_of(&blob[..blob.len() - 1]).is_err());
        assert!(manifest_of(&[]).is_err());
        let mut other = blob.clone();
        other[0] = 9;
        assert!(manifest_of(&other).is_err());
        let twice = [blob.as_slice(), &blob[1..]].concat();
        assert!(manifest_of(&twice).is_err());
        let guess = ChunkExtent { range: ByteRange::at(100, 50), hash: ChunkHash::of(b"guess") };
        assert!(manifest.guess(guess));
        let blob = manifest_blob(&manifest);
        assert!(manifest_of(&blob).is_ok_and(|read| read == manifest && read.guesses() == [guess]));
        assert!(manifest_of(&blob[..5]).is_err() && manifest_of(&blob[..blob.len() - 1]).is_err());
    }

    #[test]
    fn codes_of_kinds_states_and_formats_round_trip() {
        for kind in [FileKind::Audio, FileKind::Sidecar, FileKind::Unparsed, FileKind::Other] {
            assert!(kind_of(kind_value(kind)).is_ok_and(|read| read == kind));
        }
        for state in [FileState::Pending, FileState::Present, FileState::Missing, FileState::Excluded] {
            assert!(state_of(state_value(state)).is_ok_and(|read| read == state));
        }
        for format in [Format::Flac, Format::WavPack, Format::Mp4] {
            let text = format_text(format).ok().unwrap();
            assert!(format_of(&text).is_ok_and(|read| read == format));
        }
        assert!(kind_of(4).is_err() && state_of(-1).is_err() && format_of("tape").is_err());
    }
}
