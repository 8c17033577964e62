//! File servers that a test starts as ordinary processes on free ports of the loopback: OpenSSH, Samba, rclone, nginx,
//! Apache, moto, emulators of Google's and Microsoft's storage.
//!
//! Each is killed, with what it has forked, when it is dropped. A server that is not installed fails the test with
//! the way to install it.

mod azurite;
mod bucket;
mod gcs;
mod moto;
mod mounted;
mod process;
mod rclone;
mod samba;
mod sshd;
mod web;

pub use azurite::Azurite;
pub use bucket::Bucket;
pub use gcs::Gcs;
pub use moto::Moto;
pub use mounted::RcloneMount;
pub use process::ServerProcess;
pub use rclone::Rclone;
pub use samba::Samba;
pub use sshd::{Agent, Sshd};
pub use web::WebServer;
