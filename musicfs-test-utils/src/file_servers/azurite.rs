//! Azurite, an emulator of Azure Blob Storage.

use std::net::SocketAddr;

use super::bucket::{Bucket, Service, ask, escaped};

/// Allows who shows it to write in [`Azurite::ACCOUNT`]: a signature with [`Azurite::KEY`], of `devstoreaccount1`,
/// `rwdlc`, `b`, `co`, no start, the end and version that it tells, each on a line.
const PERMISSION: &str = "sv=2019-12-12&ss=b&srt=co&sp=rwdlc&se=2999-01-01T00:00:00Z\
                          &sig=y47wFgHPd81RgNbNJBfUYD0NUx%2BSF7vCaGkwax9Y1Z0%3D";

/// A service that speaks as Azure's storage of blobs does, in memory, and believes who has the key. Its buckets are
/// called containers.
#[derive(Debug)]
pub struct Azurite(Service);

impl Azurite {
    /// The account, which comes first in the path of all that is asked for.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// The account's key: the same wherever such an emulator runs.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    fn ask(&self, method: &str, target: &str, query: &str, body: &[u8]) {
        let target = format!("/{}/{}{target}?{query}{PERMISSION}", Self::ACCOUNT, self.0.bucket());
        ask(self.addr(), method, &target, "x-ms-blob-type: BlockBlob\r\n", body);
    }
}

impl Bucket for Azurite {
    fn with_bucket(bucket: &str) -> Self {
        let azurite = Self(Service::start("azurite-blob", bucket, |port| {
            ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--blobPort", port]
                .map(str::to_owned)
                .to_vec()
        }));
        azurite.ask("PUT", "", "restype=container&", b"");
        azurite
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    fn put(&self, key: &[u8], bytes: &[u8]) {
        self.ask("PUT", &format!("/{}", escaped(key)), "", bytes);
    }

    fn delete(&self, key: &[u8]) {
        self.ask("DELETE", &format!("/{}", escaped(key)), "", b"");
    }
}
