//! An emulator of Google Cloud Storage.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::bucket::{ask, escaped};
use super::process::{ServerProcess, find};

/// A service that speaks as Google's storage does, in memory, and believes whoever asks.
#[derive(Debug)]
pub struct Gcs {
    _dir: TempDir,
    process: ServerProcess,
}

impl Gcs {
    /// Starts it, with an empty bucket.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn with_bucket(bucket: &str) -> Self {
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let process = ServerProcess::start(&find("gcp-storage-emulator"), dir.path().join("log"), |port| {
            let port = port.to_string();
            ["start", "--host", "127.0.0.1", "--port", &port, "--in-memory", "--default-bucket", bucket]
                .map(str::to_owned)
                .to_vec()
        });
        Self { _dir: dir, process }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Stores an object.
    ///
    /// # Panics
    /// When the service refuses.
    pub fn put(&self, bucket: &str, key: &[u8], bytes: &[u8]) {
        let name = escaped(key);
        let target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={name}");
        // In two parts, as a plain body must not be empty.
        let head = "--part\r\nContent-Type: application/json\r\n\r\n{}\r\n--part\r\nContent-Type: audio/flac\r\n\r\n";
        let body = [head.as_bytes(), bytes, b"\r\n--part--\r\n"].concat();
        ask(self.addr(), "POST", &target, "Content-Type: multipart/related; boundary=part\r\n", &body);
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When the service refuses.
    pub fn delete(&self, bucket: &str, key: &[u8]) {
        let name = escaped(key).replace('/', "%2F");
        ask(self.addr(), "DELETE", &format!("/storage/v1/b/{bucket}/o/{name}"), "", b"");
    }
}
