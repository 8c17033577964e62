//! Connections for reading: opened when all are busy, up to a bound, and lent for one call each.
//!
//! **Locking.** One mutex over the list of idle connections, held for a push or a pop; opening happens outside it.
//! Whoever finds the bound reached waits for one to come back. A call that holds one must not ask for another:
//! that is why a visitor must not call the database.

use std::path::{Path, PathBuf};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use super::error::Result;
use super::{sql, store};

/// How many connections read at the same time: more than a small server has cores for. Each costs up to 1 MiB of
/// cache.
const MOST: usize = 8;

/// Lends connections.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    returned: Condvar,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Those idle and those lent.
    open: usize,
}

/// The right to one connection. What is not given back, after a panic or a failure, is closed.
struct Lease<'a> {
    readers: &'a Readers,
    given_back: Option<Connection>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), returned: Condvar::new() }
    }

    /// Calls `read` with a connection; waits for one while all are lent.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let (mut lease, connection) = self.lease();
        let connection = match connection {
            Some(connection) => connection,
            None => self.open()?,
        };
        let result = read(&connection);
        lease.given_back = Some(connection);
        result
    }

    fn lease(&self) -> (Lease<'_>, Option<Connection>) {
        let mut idle = self.idle.lock();
        let connection = loop {
            if let Some(connection) = idle.connections.pop() {
                break Some(connection);
            }
            if idle.open < MOST {
                idle.open += 1;
                break None;
            }
            self.returned.wait(&mut idle);
        };
        (Lease { readers: self, given_back: None }, connection)
    }

    fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        store::settle(&connection)?;
        connection.execute_batch(sql::TUNE_READER)?;
        Ok(connection)
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.idle.lock().open
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut idle = self.readers.idle.lock();
        match self.given_back.take() {
            Some(connection) => idle.connections.push(connection),
            None => idle.open -= 1,
        }
        drop(idle);
        self.readers.returned.notify_one();
    }
}
