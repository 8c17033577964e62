//! Origins on a network, over real servers that the tests start themselves as ordinary processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(all(
    feature = "http",
    feature = "nfs",
    feature = "s3",
    feature = "sftp",
    feature = "smb",
    feature = "webdav"
))]
#[path = "network/faults.rs"]
mod faults;
#[cfg(feature = "nfs")]
#[path = "network/nfs.rs"]
mod nfs;
#[cfg(feature = "sftp")]
#[path = "network/sftp.rs"]
mod sftp;
#[cfg(feature = "smb")]
#[path = "network/smb.rs"]
mod smb;
#[cfg(any(feature = "nfs", feature = "sftp", feature = "smb"))]
#[path = "network/tree.rs"]
mod tree;
