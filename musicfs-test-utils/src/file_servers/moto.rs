//! moto, which plays Amazon's services in memory.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tempfile::TempDir;

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
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=none\r\n\r\n",
            self.addr(),
            body.len()
        );
        let answer = TcpStream::connect(self.addr()).and_then(|mut stream| {
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
}

fn escaped(key: &[u8]) -> String {
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
