//! An emulator of Google Cloud Storage.

use std::net::SocketAddr;

use super::bucket::{Bucket, Service, ask, escaped};

/// A service that speaks as Google's storage does, in memory, and believes whoever asks.
#[derive(Debug)]
pub struct Gcs(Service);

impl Bucket for Gcs {
    fn with_bucket(bucket: &str) -> Self {
        Self(Service::start("gcp-storage-emulator", bucket, |port| {
            ["start", "--host", "127.0.0.1", "--port", port, "--in-memory", "--default-bucket", bucket]
                .map(str::to_owned)
                .to_vec()
        }))
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    fn put(&self, key: &[u8], bytes: &[u8]) {
        let (bucket, name) = (self.0.bucket(), escaped(key));
        let target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={name}");
        // In two parts, as a plain body must not be empty.
        let head = "--part\r\nContent-Type: application/json\r\n\r\n{}\r\n--part\r\nContent-Type: audio/flac\r\n\r\n";
        let body = [head.as_bytes(), bytes, b"\r\n--part--\r\n"].concat();
        ask(self.addr(), "POST", &target, "Content-Type: multipart/related; boundary=part\r\n", &body);
    }

    fn delete(&self, key: &[u8]) {
        let (bucket, name) = (self.0.bucket(), escaped(key).replace('/', "%2F"));
        ask(self.addr(), "DELETE", &format!("/storage/v1/b/{bucket}/o/{name}"), "", b"");
    }
}
