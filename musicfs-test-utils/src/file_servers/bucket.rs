//! Services that keep objects in buckets, and what it takes to fill one: plain requests.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tempfile::TempDir;

use super::process::{ServerProcess, find};

/// A service in memory that holds one bucket.
pub trait Bucket: Sized + Send + Sync + 'static {
    /// Starts it, with an empty bucket.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    fn with_bucket(bucket: &str) -> Self;

    /// Returns where it listens.
    fn addr(&self) -> SocketAddr;

    /// Stores an object.
    ///
    /// # Panics
    /// When the service refuses.
    fn put(&self, key: &[u8], bytes: &[u8]);

    /// Removes an object.
    ///
    /// # Panics
    /// When the service refuses.
    fn delete(&self, key: &[u8]);
}

/// The process of such a service, and the name of its bucket.
#[derive(Debug)]
pub(super) struct Service {
    _dir: TempDir,
    process: ServerProcess,
    bucket: String,
}

impl Service {
    /// Starts `program` with the arguments that `arguments` makes for a port.
    pub(super) fn start(program: &str, bucket: &str, arguments: impl Fn(&str) -> Vec<String>) -> Self {
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let process =
            ServerProcess::start(&find(program), dir.path().join("log"), |port| arguments(&port.to_string()));
        Self { _dir: dir, process, bucket: bucket.to_owned() }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }
}

/// Asks a server for something, with further `headers`, each ended by a line break.
///
/// # Panics
/// When it refuses.
pub(super) fn ask(addr: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    let answer = TcpStream::connect(addr).and_then(|mut stream| {
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer.unwrap_or_else(|e| panic!("{method} {target}: {e}"));
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{method} {target}: {answer}");
}

/// Escapes a key for a URL, but for the slashes in it.
pub(super) fn escaped(key: &[u8]) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
