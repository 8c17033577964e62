//! The changes of one batch as one blob, and reading them back.
//!
//! # Format
//! A byte for the format (1), then the changes end to end, each a tag byte and its fields: numbers are 8 bytes,
//! little-endian, a name is a length byte and its bytes.
//!
//! | tag | change | fields |
//! |---|---|---|
//! | 1 | entry added | parent, name, inode |
//! | 2 | entry removed | parent, name, inode |
//! | 3 | file changed, content too | id |
//! | 4 | file changed, content not | id |
//! | 5 | file forgotten | id |

use musicfs_core::{Change, FileId, Ino, Name};

use super::error::{Result, damaged};
use super::rows::{file_id_of, ino_of, name_of};

const FORMAT: u8 = 1;

/// Collects the changes of a batch.
pub(super) struct ChangeLog {
    blob: Vec<u8>,
    count: u64,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self { blob: vec![FORMAT], count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    pub(super) fn entry_added(&mut self, parent: Ino, name: &Name, ino: Ino) {
        self.entry(1, parent, name, ino);
    }

    pub(super) fn entry_removed(&mut self, parent: Ino, name: &Name, ino: Ino) {
        self.entry(2, parent, name, ino);
    }

    pub(super) fn file_changed(&mut self, id: FileId, content: bool) {
        self.file(if content { 3 } else { 4 }, id);
    }

    pub(super) fn file_forgotten(&mut self, id: FileId) {
        self.file(5, id);
    }

    fn entry(&mut self, tag: u8, parent: Ino, name: &Name, ino: Ino) {
        let bytes = name.as_bytes();
        self.blob.push(tag);
        self.blob.extend_from_slice(&parent.raw().to_le_bytes());
        // A name has at most 255 bytes.
        self.blob.push(bytes.len() as u8);
        self.blob.extend_from_slice(bytes);
        self.blob.extend_from_slice(&ino.raw().to_le_bytes());
        self.count += 1;
    }

    fn file(&mut self, tag: u8, id: FileId) {
        self.blob.push(tag);
        self.blob.extend_from_slice(&id.raw().to_le_bytes());
        self.count += 1;
    }
}

/// Appends the changes of a blob to `changes`.
pub(super) fn read(blob: &[u8], changes: &mut Vec<Change>) -> Result<()> {
    let Some((&FORMAT, rest)) = blob.split_first() else {
        return Err(damaged("a record of changes is of an unknown format"));
    };
    let mut rest = Bytes(rest);
    while let Some(tag) = rest.byte() {
        let change = change_of(tag, &mut rest).transpose()?;
        changes.push(change.ok_or_else(|| damaged("a record of changes is cut short or garbled"))?);
    }
    Ok(())
}

/// Reads the fields of one change; `None` when they are not there, or the tag is unknown.
fn change_of(tag: u8, rest: &mut Bytes<'_>) -> Option<Result<Change>> {
    Some(match tag {
        1 | 2 => {
            let parent = ino_of(rest.number()?);
            let name = name_of(rest.name()?);
            let ino = ino_of(rest.number()?);
            name.map(|name| match tag {
                1 => Change::EntryAdded { parent, name, ino },
                _ => Change::EntryRemoved { parent, name, ino },
            })
        }
        3 | 4 => file_id_of(rest.number()?).map(|id| Change::FileChanged { id, content: tag == 3 }),
        5 => file_id_of(rest.number()?).map(|id| Change::FileForgotten { id }),
        _ => return None,
    })
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<i64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_le_bytes(*number))
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?);
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{OriginId, OriginPath, ROOT_INODE};

    #[test]
    fn changes_round_trip_and_a_torn_record_is_damage() {
        let id = FileId::derive(&OriginId::from("o"), &OriginPath::new("x").unwrap(), 0);
        let name = Name::new("x".repeat(255)).unwrap();
        let mut log = ChangeLog::new();
        log.entry_added(ROOT_INODE, &name, id.ino());
        log.entry_removed(id.ino(), &name, ROOT_INODE);
        log.file_changed(id, true);
        log.file_changed(id, false);
        log.file_forgotten(id);
        let mut changes = Vec::new();
        assert!(read(log.blob(), &mut changes).is_ok());
        assert_eq!(
            changes,
            [
                Change::EntryAdded { parent: ROOT_INODE, name: name.clone(), ino: id.ino() },
                Change::EntryRemoved { parent: id.ino(), name, ino: ROOT_INODE },
                Change::FileChanged { id, content: true },
                Change::FileChanged { id, content: false },
                Change::FileForgotten { id },
            ]
        );
        assert_eq!(log.count(), 5);
        let whole = log.blob();
        assert!(read(&whole[..whole.len() - 1], &mut Vec::new()).is_err());
        assert!(read(&[], &mut Vec::new()).is_err());
        assert!(read(&[FORMAT, 77], &mut Vec::new()).is_err());
    }
}
