//! moto, which plays Amazon's services in memory.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::bucket::{ask, escaped};
use super::process::{ServerProcess, find};

/// An S3 service in memory, that believes whoever asks.
#[derive(Debug)]
pub struct Moto {
    _dir: TempDir,
    process: ServerProcess,
}

impl Moto {
    /// Starts it, with an empty bucket.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn with_bucket(bucket: &str) -> Self {
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let process = ServerProcess::start(&find("moto_server"), dir.path().join("log"), |port| {
            ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec()
        });
        let moto = Self { _dir: dir, process };
        moto.ask("PUT", &format!("/{bucket}"), b"");
        moto
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
        self.ask("PUT", &format!("/{bucket}/{}", escaped(key)), bytes);
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When the service refuses.
    pub fn delete(&self, bucket: &str, key: &[u8]) {
        self.ask("DELETE", &format!("/{bucket}/{}", escaped(key)), b"");
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) {
        // It wants to know for which service and region a request was signed, and does not look at the signature.
        let signed = "Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=none\r\n";
        ask(self.addr(), method, target, signed, body);
    }
}
