//! The index of files by size: made when somebody asks by it, and dropped while many files come.
//!
//! Sizes come in no order, as ids do: beyond some hundred thousand files, each that is recorded has a page of each such
//! index written twice, to the log and back. A million rows take twice as long to insert with a second one, which is
//! made of all of them in three seconds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::Writer;
use super::error::{Result, is_damage};
use super::sql;

/// Files recorded since somebody asked by size, from which on the index is dropped: so many take half a second more for
/// it in a catalogue of a million. With fewer, adding a folder of music now and then would have it made each time.
const UNASKED: usize = 20_000;

/// What is known of the index.
#[derive(Debug, Default)]
pub(super) struct BySize {
    /// Whether it is there for sure.
    is_made: AtomicBool,
    /// Whether it is known not to be there.
    is_gone: AtomicBool,
    /// Whether there was no room for it, when it was last tried. A file that is recorded since gives it another try.
    no_room: AtomicBool,
    /// Files recorded since it was asked for.
    unasked: AtomicUsize,
}

impl BySize {
    /// Has the index be there, if there is room for it: without it each question goes through all files. When it is to be
    /// made, waits for whoever writes, and goes through them once.
    pub(super) fn ask(&self, writer: &Mutex<Writer>) -> Result<()> {
        self.unasked.store(0, Ordering::Relaxed);
        if self.is_made.load(Ordering::Acquire) || self.no_room.load(Ordering::Relaxed) {
            return Ok(());
        }
        match make(&writer.lock().connection) {
            Ok(()) => {
                self.is_gone.store(false, Ordering::Relaxed);
                self.is_made.store(true, Ordering::Release);
            }
            Err(error) if is_damage(&error) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the catalogue cannot be indexed by size; it is gone through instead");
                self.no_room.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Counts files that are recorded, in the transaction that records them. Returns whether the index is dropped by it,
    /// which is to be [said](BySize::dropped) once that is committed.
    pub(super) fn record(&self, files: usize, tx: &Connection) -> Result<bool> {
        if files > 0 {
            self.no_room.store(false, Ordering::Relaxed);
        }
        let unasked = self.unasked.fetch_add(files, Ordering::Relaxed) + files;
        if unasked < UNASKED || self.is_gone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Before it is dropped: if it stays, as the transaction fails, it is found when it is made.
        self.is_made.store(false, Ordering::Release);
        tx.execute_batch(sql::DROP_SIZES)?;
        Ok(true)
    }

    /// Takes note that the index is gone for sure, before anybody else writes.
    pub(super) fn dropped(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

fn make(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(sql::SORT_IN_FILE)?;
    let made = db.execute_batch(sql::INDEX_SIZES);
    db.execute_batch(sql::SORT_IN_MEMORY)?;
    if let Err(error) = made {
        tracing::debug!(%error, "files are sorted by size in memory");
        db.execute_batch(sql::INDEX_SIZES)?;
    }
    db.release_memory()
}

#[cfg(test)]
mod tests {
    use musicfs_core::{Batch, FileMeta, FileQuery, FileVersion, MetaDb, Op, OriginId, UnixNanos};

    use super::super::tests::{Fixture, put, track};
    use super::*;

    fn has_index(fixture: &Fixture) -> bool {
        let db = Connection::open(fixture.path()).unwrap();
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'files_by_size'", [], |row| row.get(0))
            .unwrap()
    }

    fn of_size(fixture: &Fixture, size: u64) -> usize {
        let query = FileQuery::OfSize(OriginId::from("nas"), size);
        fixture.db.files(&query, None, UNASKED).unwrap().files.len()
    }

    #[test]
    fn files_are_found_by_size_where_there_is_no_room_for_an_index_and_it_is_made_once_there_is() {
        let fixture = Fixture::new();
        let file = |n: u64| {
            let version = FileVersion { size: n % 1000, mtime: None, etag: None };
            put(&FileMeta { version, audio: None, ..track(&format!("{n}")) })
        };
        fixture.apply(1, (0..2000).map(file).collect());
        let most = |pages: i64| {
            let writer = fixture.db.writer.lock();
            let there: i64 =
                writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            let set = format!("PRAGMA max_page_count = {}", there + pages);
            writer.connection.query_row(&set, [], |_| Ok(())).unwrap();
        };
        most(0);
        assert_eq!((of_size(&fixture, 7), of_size(&fixture, 7)), (2, 2));
        assert!(!has_index(&fixture));
        most(1000);
        fixture.apply(2, vec![file(2007)]);
        assert_eq!(of_size(&fixture, 7), 3);
        assert!(has_index(&fixture));
    }

    #[test]
    fn index_of_sizes_is_dropped_by_the_next_batch_when_the_one_that_was_to_do_it_fails() {
        let fixture = Fixture::new();
        let file = |n: usize| put(&FileMeta { audio: None, ..track(&format!("{n}")) });
        fixture.apply(1, vec![file(0)]);
        assert_eq!(of_size(&fixture, 10), 1);
        let unknown = Op::Forget(track("unknown").id);
        let mut fails: Vec<_> = (0..UNASKED).map(file).collect();
        fails.push(unknown);
        let batch = Batch { at: UnixNanos(2), ops: fails };
        assert!(fixture.db.apply(&batch).is_err());
        assert!(has_index(&fixture));
        fixture.apply(3, vec![file(1)]);
        assert!(!has_index(&fixture));
        assert_eq!(of_size(&fixture, 10), 2);
        assert!(has_index(&fixture));
    }

    #[test]
    fn index_of_sizes_is_there_when_it_is_asked_for_and_not_while_many_files_come() {
        let file = |n: usize| {
            let version = FileVersion { size: n as u64 % 1000, mtime: None, etag: None };
            put(&FileMeta { version, audio: None, ..track(&format!("{n}")) })
        };
        let mut fixture = Fixture::new();
        fixture.apply(1, (0..2000).map(file).collect());
        assert!(!has_index(&fixture), "nobody has asked");
        assert_eq!(of_size(&fixture, 7), 2);
        assert!(has_index(&fixture));
        fixture.apply(2, (2000..4000).map(file).collect());
        assert!(has_index(&fixture), "a few more files keep it");
        assert_eq!(of_size(&fixture, 7), 4);
        for n in 2..2 + UNASKED / 2000 {
            assert!(has_index(&fixture), "it was asked for a moment ago");
            fixture.apply(3, (n * 2000..(n + 1) * 2000).map(file).collect());
        }
        assert!(!has_index(&fixture));
        assert_eq!(of_size(&fixture, 7), 4 + UNASKED / 1000);
        assert!(has_index(&fixture));
        fixture = fixture.reopen();
        assert!(has_index(&fixture), "it is kept from one start to the next");
        for _ in 0..UNASKED / 2000 {
            fixture.apply(4, (0..2000).map(file).collect());
        }
        assert!(!has_index(&fixture), "it is dropped though nobody asked since the start");
    }
}
