//! Where music comes from: the origins of MusicFS.
//!
//! * [`LocalOrigin`] is a folder of this machine, on a disk or mounted from a network.
//! * [`SftpOrigin`], [`SmbOrigin`] and [`NfsOrigin`] are folders on servers, spoken to directly (features `sftp`,
//!   `smb`, `nfs`).
//! * [`OriginRegistry`] holds the origins of a library, by id and by preference.
//! * [`OriginReader`] delivers the bytes of files straight from their origins, each call by a deadline, so that
//!   one file or one origin that hangs harms no other. It is the whole of reading when there is no cache.
//!
//! An origin is anything that keeps the contract of [`musicfs_core::Origin`]; the conformance suite in
//! `musicfs-test-utils` tells whether it does. None is ever written to.
//!
//! # Example: list a folder
//!
//! ```
//! use futures::StreamExt;
//! use musicfs_core::{Origin, ScanRequest};
//! use musicfs_origins::LocalOrigin;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # std::fs::write(dir.path().join("a.flac"), b"music")?;
//! let origin = LocalOrigin::new("disk", dir.path());
//! let mut pages = origin.scan(ScanRequest::all());
//! while let Some(page) = pages.next().await {
//!     for entry in page?.entries {
//!         println!("{} ({})", entry.path, entry.version);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod failover;
mod health;
mod layers;
mod local;
#[cfg(feature = "nfs")]
mod nfs;
mod reader;
mod registry;
#[cfg(feature = "web")]
#[cfg_attr(
    not(all(feature = "http", feature = "s3", feature = "webdav")),
    allow(dead_code, unused_imports, reason = "not every kind uses all that they share")
)]
mod remote;
mod secret;
#[cfg(feature = "sftp")]
mod sftp;
#[cfg(feature = "smb")]
mod smb;
mod spec;
#[cfg(feature = "wire")]
#[cfg_attr(
    not(all(feature = "http", feature = "nfs", feature = "sftp", feature = "smb")),
    allow(dead_code, unused_imports, reason = "not every kind uses all that they share")
)]
mod wire;

pub use failover::{
    CircuitReader, FAILBACK_DELAY, FailoverExecutor, FailoverReader, Rank, RetryConfig, Router,
};
pub use health::{Condition, Health, HealthMonitor, HealthSnapshot, Outlook};
pub use layers::{
    Jitter, LayerConfig, Layered, Limit, Limits, Metrics, MetricsSnapshot, OriginMetrics, Progress, Retry,
    RetryPolicy, Settle, Timeout, Timeouts, layered,
};
pub use local::LocalOrigin;
#[cfg(feature = "nfs")]
pub use nfs::{NfsConfig, NfsOrigin};
pub use reader::{OriginReader, ReadLimits};
pub use registry::{OriginRegistry, Registered};
#[cfg(feature = "http")]
pub use remote::HttpOrigin;
#[cfg(feature = "opendal")]
pub use remote::OpendalOrigin;
#[cfg(feature = "webdav")]
pub use remote::WebdavOrigin;
#[cfg(feature = "s3")]
pub use remote::{S3Config, S3Credentials, S3Origin};
#[cfg(any(feature = "http", feature = "webdav"))]
pub use remote::{WebAuth, WebConfig};
#[cfg(feature = "web")]
pub use remote::{WebError, WebOptions};
pub use secret::Secret;
#[cfg(feature = "sftp")]
pub use sftp::{SftpAuth, SftpConfig, SftpOrigin};
#[cfg(feature = "smb")]
pub use smb::{SmbConfig, SmbOrigin};
pub use spec::{
    BuiltOrigin, Environment, LocalSpec, NfsSpec, OpendalSpec, OriginKind, OriginSpec, S3Spec, SecretCommand,
    SecretSource, SftpSpec, SmbSpec, SpecError, WebSpec, build, derived_id,
};
