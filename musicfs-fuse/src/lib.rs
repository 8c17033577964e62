//! The kernel's view of a MusicFS library.
//!
//! * [`MusicFs`] is the filesystem as logic: it answers lookups, listings, reads and attributes from the traits of
//!   [`Backends`], and runs in a test without a kernel.
//! * [`Session`] mounts it: [`Session::mount`], [`Session::ended`], [`Session::unmount`].
//! * [`MountTable`], [`MountHandles`], [`mount_state`], [`clear_dead_mount`] tell what is mounted, who serves it and
//!   whether that is alive, without ever touching a mount.
//!
//! # Example: mounting
//!
//! ```no_run
//! # use musicfs_fuse::{Backends, FsOptions, MountError, MountOptions, MusicFs, Session};
//! # use std::{path::Path, time::Duration};
//! # async fn example<B: Backends>(backends: B) -> Result<(), MountError> {
//! let fs = MusicFs::new(backends, FsOptions::default());
//! let runtime = tokio::runtime::Handle::current();
//! let session = Session::mount(fs, Path::new("/mnt/music"), MountOptions::default(), runtime)?;
//! session.ended().await;
//! session.unmount(Duration::from_secs(5)).await
//! # }
//! ```
//!
//! # What is not here
//! Nothing of stores, origins or the catalogue: they meet this crate in core's traits. No retries and no deadlines
//! but those of the catalogue's refresh: a [`ContentReader`](musicfs_core::ContentReader) ends every call.

mod adapter;
mod attr;
mod backed;
mod backends;
mod error;
mod fs;
mod handles;
mod invalidate;
mod kernel_view;
mod liveness;
mod mount_table;
mod numbers;
mod os;
mod session;
mod stats;

pub use attr::Attr;
pub use backends::{Backends, Parts};
pub use error::FsError;
pub use fs::{DirEntry, Emitted, FsOptions, Listing, MusicFs, Opened, StatFs, Xattr};
pub use handles::{
    HandleCache, HandlesError, MountHandles, Rediscovered, clear_handles, handles_path, read_handles,
    rediscover, write_handles,
};
pub use liveness::{Cleared, LivenessError, MountState, clear_dead_mount, mount_state};
pub use mount_table::{MountEntry, MountTable};
pub use os::Os;
pub use session::{DetachError, MountError, MountOptions, Session, resolve_mountpoint};
pub use stats::FsStats;
