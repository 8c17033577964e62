//! The copy of the index on disk: sled, guarded.
//!
//! It saves a walk over all chunk files at start, and remembers when each chunk was used. Nothing depends on it:
//! what it says is compared with the files afterwards, and without it everything is found from the files alone.
//! sled 0.34 panics on damaged files and opens a truncated database as an empty one without a word, so every call
//! runs under `catch_unwind`, every value has a checksum, and a count of all entries is written with every batch. A
//! copy that is not as it should be is moved into quarantine and begun anew; one that another process holds is left
//! alone, and this process goes on without.
//!
//! Keys are hashes; values are `used` (8 bytes), `len` (4), `refs` (2), class (1), pinned (1), all little-endian,
//! then 4 bytes of the BLAKE3 hash of key and value. The key `count` holds the number of entries (8 bytes).

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use musicfs_core::ChunkHash;

use super::{Changed, ChunkClass, Entry};

/// Version of the layout of keys and values: part of the folder's name, so that another version begins anew.
pub(crate) const FOLDER: &str = "index-1";
/// Memory that sled may use for pages. What is read is read once, at start.
const SLED_CACHE: u64 = 4 << 20;
/// How often the lock is tried, and the time between: sled's threads let go of it a little after it was closed.
const LOCK_TRIES: u32 = 40;
const LOCK_STEP: Duration = Duration::from_millis(25);
const COUNT: &[u8] = b"count";
const VALUE: usize = 20;

/// The copy, open.
pub(crate) struct DiskIndex {
    db: sled::Db,
    count: u64,
}

impl std::fmt::Debug for DiskIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskIndex").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Why there is no copy to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskIndexError {
    /// Another process has it.
    #[error("another process holds the chunk index")]
    Locked,
    /// It is damaged.
    #[error("the chunk index is damaged: {0}")]
    Damaged(String),
    /// The disk failed.
    #[error("the chunk index cannot be written or read")]
    Io(#[source] io::Error),
}

/// What opening gave.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The copy; `None` when there is none to be had.
    pub(crate) disk: Option<DiskIndex>,
    /// Whether what was visited is all that there was: it need not be found from the files first.
    pub(crate) trusted: bool,
}

/// Opens the copy in `folder`, which is made when it is not there, and visits every entry when all of them are
/// sound. Blocks.
pub(crate) fn open(folder: &Path, visit: &mut dyn FnMut(ChunkHash, Entry)) -> Opened {
    let was_there = folder.join("db").exists();
    let mut opened = DiskIndex::open(folder, was_there);
    for _ in 1..LOCK_TRIES {
        if !matches!(opened, Err(DiskIndexError::Locked)) {
            break;
        }
        std::thread::sleep(LOCK_STEP);
        opened = DiskIndex::open(folder, was_there);
    }
    match opened {
        Ok((disk, entries)) => {
            entries.into_iter().for_each(|(hash, entry)| visit(hash, entry));
            // An empty one may be what is left of another; that there are no chunks is quickly found from the files.
            let trusted = was_there && disk.count > 0;
            Opened { disk: Some(disk), trusted }
        }
        Err(DiskIndexError::Damaged(reason)) => {
            tracing::warn!(%reason, "the chunk index is damaged; it is being made anew from the chunk files");
            let fresh = set_aside(folder).map_err(DiskIndexError::Io);
            let disk = fresh.and_then(|()| DiskIndex::open(folder, false));
            let disk = disk.map(|(disk, _)| disk).map_err(|error| without(&error)).ok();
            Opened { disk, trusted: false }
        }
        Err(error) => {
            without(&error);
            Opened { disk: None, trusted: false }
        }
    }
}

fn without(error: &DiskIndexError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(
        error,
        "going on without a chunk index on disk; the chunk files are counted at every start"
    );
}

/// Moves a damaged copy away, in place of the one moved before.
fn set_aside(folder: &Path) -> io::Result<()> {
    let quarantine = folder.with_extension("damaged");
    match fs::remove_dir_all(&quarantine) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(folder, quarantine)
}

impl DiskIndex {
    fn open(folder: &Path, was_there: bool) -> Result<(Self, Vec<(ChunkHash, Entry)>), DiskIndexError> {
        guarded(|| {
            let config = sled::Config::new().path(folder).cache_capacity(SLED_CACHE).flush_every_ms(None);
            let db = config.open().map_err(of_sled)?;
            let mut entries = Vec::new();
            let mut count = None;
            for item in db.iter() {
                let (key, value) = item.map_err(of_sled)?;
                if key == COUNT {
                    count = <[u8; 8]>::try_from(value.as_ref()).ok().map(u64::from_le_bytes);
                } else {
                    entries.push(entry_of(&key, &value)?);
                }
            }
            match count {
                Some(count) if count == entries.len() as u64 => Ok((Self { db, count }, entries)),
                None if !was_there && entries.is_empty() => {
                    // One that says nothing of how many entries it has is damaged.
                    db.insert(COUNT, &0u64.to_le_bytes()).map_err(of_sled)?;
                    db.flush().map_err(of_sled)?;
                    Ok((Self { db, count: 0 }, entries))
                }
                count => {
                    let found = entries.len();
                    let said = count.map_or("no number".to_owned(), |count| count.to_string());
                    Err(DiskIndexError::Damaged(format!("it has {found} entries where {said} is noted")))
                }
            }
        })
    }

    /// Writes changes down, all or none, and forces them to disk. After an error the copy is of no more use.
    pub(crate) fn apply(&mut self, changes: &[Changed]) -> Result<(), DiskIndexError> {
        let Self { db, count } = self;
        guarded(|| {
            let mut batch = sled::Batch::default();
            for (hash, entry) in changes {
                let was = db.contains_key(hash.as_bytes()).map_err(of_sled)?;
                match entry {
                    Some(entry) => batch.insert(hash.as_bytes(), value_of(hash, entry)),
                    None => batch.remove(hash.as_bytes()),
                }
                *count = *count + u64::from(entry.is_some()) - u64::from(was);
            }
            batch.insert(COUNT, &count.to_le_bytes());
            db.apply_batch(batch).map_err(of_sled)?;
            db.flush().map(drop).map_err(of_sled)
        })
    }
}

/// Runs work on sled; a panic in it is damage.
fn guarded<T>(work: impl FnOnce() -> Result<T, DiskIndexError>) -> Result<T, DiskIndexError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(DiskIndexError::Damaged(text.unwrap_or("it could not be read").to_owned()))
    })
}

fn of_sled(error: sled::Error) -> DiskIndexError {
    match error {
        // This is how sled says that it could not take its lock.
        sled::Error::Io(error) if error.to_string().contains("acquire lock") => DiskIndexError::Locked,
        sled::Error::Io(error) => DiskIndexError::Io(error),
        other => DiskIndexError::Damaged(other.to_string()),
    }
}

fn checksum(hash: &[u8], fields: &[u8]) -> [u8; 4] {
    let sum = ChunkHash::of(&[hash, fields].concat());
    let bytes = sum.as_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn value_of(hash: &ChunkHash, entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE);
    value.extend_from_slice(&entry.used.to_le_bytes());
    value.extend_from_slice(&entry.len.to_le_bytes());
    value.extend_from_slice(&entry.refs.to_le_bytes());
    value.push(u8::from(entry.class == ChunkClass::Edge));
    value.push(u8::from(entry.pinned != 0));
    let sum = checksum(hash.as_bytes(), &value);
    value.extend_from_slice(&sum);
    value
}

fn entry_of(key: &[u8], value: &[u8]) -> Result<(ChunkHash, Entry), DiskIndexError> {
    let damaged = || DiskIndexError::Damaged("an entry is not as it was written".to_owned());
    let hash = <[u8; 32]>::try_from(key).map_err(|_| damaged())?;
    let value = <[u8; VALUE]>::try_from(value).map_err(|_| damaged())?;
    if checksum(&hash, &value[..VALUE - 4]) != value[VALUE - 4..] {
        return Err(damaged());
    }
    let [u0, u1, u2, u3, u4, u5, u6, u7, l0, l1, l2, l3, r0, r1, class, pinned, ..] = value;
    let entry = Entry {
        used: u64::from_le_bytes([u0, u1, u2, u3, u4, u5, u6, u7]),
        len: u32::from_le_bytes([l0, l1, l2, l3]),
        refs: u16::from_le_bytes([r0, r1]),
        class: if class == 1 { ChunkClass::Edge } else { ChunkClass::Body },
        pinned,
    };
    Ok((ChunkHash::from_bytes(hash), entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32) -> Entry {
        Entry { used: 1 << 40, len: n, refs: 3, class: ChunkClass::Edge, pinned: 1 }
    }

    fn read(folder: &Path) -> (Opened, Vec<(ChunkHash, Entry)>) {
        let mut entries = Vec::new();
        let opened = open(folder, &mut |hash, entry| entries.push((hash, entry)));
        (opened, entries)
    }

    fn write(folder: &Path, count: u32) {
        let mut disk = read(folder).0.disk.unwrap();
        let changes: Vec<_> = (0..count).map(|n| (ChunkHash::of(&n.to_le_bytes()), Some(entry(n)))).collect();
        disk.apply(&changes).unwrap();
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        write(&folder, 500);
        let (opened, entries) = read(&folder);
        assert!(opened.trusted && entries.len() == 500);
        assert!(entries.contains(&(ChunkHash::of(&7u32.to_le_bytes()), entry(7))));
        let gone = ChunkHash::of(&7u32.to_le_bytes());
        opened.disk.unwrap().apply(&[(gone, None), (ChunkHash::of(b"never"), None)]).unwrap();
        let (opened, entries) = read(&folder);
        assert!(opened.trusted && entries.len() == 499);
    }

    #[test]
    fn damaged_copy_is_set_aside_and_begun_anew() {
        for damage in ["garbage", "halved", "emptied", "deleted"] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join(FOLDER);
            write(&folder, 5000);
            let file = folder.join("db");
            let len = fs::metadata(&file).unwrap().len();
            match damage {
                "garbage" => {
                    let mut bytes = fs::read(&file).unwrap();
                    let middle = bytes.len().min(200_000) / 2;
                    bytes[middle..middle + 4096].fill(0xa5);
                    fs::write(&file, bytes).unwrap();
                }
                "halved" => fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len / 2).unwrap(),
                "emptied" => fs::write(&file, b"").unwrap(),
                _ => fs::remove_file(&file).unwrap(),
            }
            for leftover in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                // Snapshots make up for some damage; without them it must be noticed all the same.
                if leftover.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap")) {
                    fs::remove_file(leftover).unwrap();
                }
            }
            let (opened, _) = read(&folder);
            assert!(!opened.trusted, "{damage}");
            let mut disk = opened.disk.expect(damage);
            disk.apply(&[(ChunkHash::of(b"x"), Some(entry(1)))]).unwrap();
            drop(disk);
            let (opened, entries) = read(&folder);
            assert!(opened.trusted && entries.len() == 1, "{damage}");
        }
    }

    #[test]
    fn copy_that_another_holds_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let holder = read(&folder).0;
        let (opened, entries) = read(&folder);
        assert!(opened.disk.is_none() && !opened.trusted && entries.is_empty());
        drop(holder);
        write(&folder, 3);
        assert_eq!(read(&folder).1.len(), 3);
    }
}
