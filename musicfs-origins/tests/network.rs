//! Origins on a network, over real servers that the tests start themselves as ordinary processes.

#![cfg(all(
    feature = "http",
    feature = "nfs",
    feature = "s3",
    feature = "sftp",
    feature = "smb",
    feature = "webdav"
))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "network/faults.rs"]
mod faults;
#[path = "network/nfs.rs"]
mod nfs;
#[path = "network/sftp.rs"]
mod sftp;
#[path = "network/smb.rs"]
mod smb;
#[path = "network/tree.rs"]
mod tree;
