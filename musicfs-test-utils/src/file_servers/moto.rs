//! moto, which plays Amazon's services in memory.

use std::net::SocketAddr;

use super::bucket::{Bucket, Service, ask, escaped};

/// An S3 service in memory, that believes whoever asks.
#[derive(Debug)]
pub struct Moto(Service);

impl Bucket for Moto {
    fn with_bucket(bucket: &str) -> Self {
        let moto = Self(Service::start("moto_server", bucket, |port| {
            ["-H", "127.0.0.1", "-p", port].map(str::to_owned).to_vec()
        }));
        moto.ask("PUT", "", b"");
        moto
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    fn put(&self, key: &[u8], bytes: &[u8]) {
        self.ask("PUT", &format!("/{}", escaped(key)), bytes);
    }

    fn delete(&self, key: &[u8]) {
        self.ask("DELETE", &format!("/{}", escaped(key)), b"");
    }
}

impl Moto {
    fn ask(&self, method: &str, target: &str, body: &[u8]) {
        // It wants to know for which service and region a request was signed, and does not look at the signature.
        let signed = "Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=none\r\n";
        ask(self.addr(), method, &format!("/{}{target}", self.0.bucket()), signed, body);
    }
}
