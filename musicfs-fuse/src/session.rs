//! A live mount: from mounting to unmounting.
//!
//! # Invariants
//! * Nothing is unmounted but this very mount: before unmounting, the table of mounts must show it, by id and
//!   device, on top at its mount point. One that was unmounted from outside is not unmounted again.
//! * Unmounting never hangs: the mount leaves the tree at once, whoever has files open; those who still read are
//!   waited for up to a limit, and then cut off where the kernel lets us.
//! * Dropping a session unmounts it too, without waiting.
//!
//! The FUSE library is given the device only and knows of no mount point, as its own unmounting does not keep the
//! first rule.

mod mounting;
mod unmounting;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, SessionACL};
use futures::future::{Either, select};
use musicfs_core::{Clock, MetaDb, MetaError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::adapter::Adapter;
use crate::error::chain;
use crate::invalidate::{self, Invalidator, Kernel};
use crate::{Backends, FsStats, MountEntry, MountState, MusicFs, Os, mount_state};

pub use mounting::resolve_mountpoint;
pub use unmounting::DetachError;
pub(crate) use unmounting::detach;

/// How long readers get to take notice after their connection was cut.
const AFTER_ABORT: Duration = Duration::from_secs(1);

/// How to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Whether other users may use the mount.
    pub allow_other: bool,
    /// Whether the kernel is to read local files by itself where it can. What is read is the same either way.
    pub passthrough: bool,
    /// What the table of mounts names the mount.
    pub fs_name: String,
    /// Threads that take requests.
    pub threads: usize,
    /// How long the kernel may keep names and attributes. Changes are announced to it, so that this only bounds
    /// what a lost announcement costs.
    pub ttl: Duration,
    /// How far the kernel reads ahead, where we may say so (root).
    pub read_ahead_kib: u32,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            allow_other: false,
            passthrough: true,
            fs_name: "musicfs".into(),
            threads: 2,
            ttl: Duration::from_secs(4 * 3600),
            read_ahead_kib: 1024,
        }
    }
}

/// Why a mount could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point cannot be used.
    #[error("{} cannot be mounted on; it must be a directory that exists", path.display())]
    Mountpoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is mounted there already.
    #[error("{} is a mount point already; unmount it first, or choose another directory", path.display())]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// What is there.
        state: MountState,
    },
    /// There is no FUSE.
    #[error(
        "/dev/fuse cannot be opened: this kernel has no FUSE, or the container does not pass it in; try: modprobe fuse"
    )]
    NoDevice(#[source] io::Error),
    /// FUSE may not be used.
    #[error("/dev/fuse may not be opened by this user; as root: chmod 666 /dev/fuse")]
    DeviceDenied(#[source] io::Error),
    /// fusermount3 is needed and missing.
    #[error("fusermount3 is not installed, which mounts for a user; install the package fuse3")]
    NoHelper,
    /// Giving others access is not allowed to users.
    #[error(
        "allow_other is not allowed to users here; add the line 'user_allow_other' to /etc/fuse.conf, or do without"
    )]
    UserAllowOther,
    /// The kernel refused to mount.
    #[error("mounting at {} failed", path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// fusermount3 refused to mount.
    #[error("{} refused to mount at {}: {said}", helper.display(), path.display())]
    Helper {
        /// The program.
        helper: PathBuf,
        /// The mount point.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// The kernel and the daemon could not agree, or a thread could not be started.
    #[error("the connection to the kernel could not be set up")]
    Setup(#[source] io::Error),
    /// The catalogue failed.
    #[error("the catalogue failed")]
    Catalogue(#[source] MetaError),
    /// The mount could not be taken out of the tree.
    #[error("{} could not be unmounted; try: fusermount3 -uz {}", path.display(), path.display())]
    Detach {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: DetachError,
    },
    /// Something else was mounted over the mount, and is left alone.
    #[error("something else is mounted over {}; the mount below it was cut off, and stays until that is unmounted", path.display())]
    Covered {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount has left the tree, but a program still has files of it open; the connection ends with this
    /// process.
    #[error("the mount at {} is gone from the tree, but a program still has files of it open", path.display())]
    StillOpen {
        /// The mount point.
        path: PathBuf,
    },
}

/// Where our mount is.
enum Place {
    Top,
    Covered,
    Gone,
}

/// A live mount.
pub struct Session {
    mountpoint: PathBuf,
    /// The mount as it was made. Its id and device are used again once it is gone, but not before.
    entry: MountEntry,
    os: Os,
    ended: watch::Receiver<bool>,
    invalidator: Invalidator,
    watcher: AbortHandle,
    shared: Arc<dyn Served>,
    /// The mount has been left alone or unmounted for good; nothing is to be done when this is dropped.
    left: bool,
    /// Knows no mount point, so that dropping it unmounts nothing.
    _background: BackgroundSession,
}

/// What a session asks of its filesystem, whatever its backends.
trait Served: Send + Sync {
    fn stats(&self) -> FsStats;
    fn clock(&self) -> &dyn Clock;
}

impl<B: Backends> Served for crate::adapter::Shared<B> {
    fn stats(&self) -> FsStats {
        self.fs.stats()
    }
    fn clock(&self) -> &dyn Clock {
        self.fs.backends().clock()
    }
}

impl Session {
    /// Mounts a filesystem. When this returns, the mount answers.
    ///
    /// It blocks for as long as mounting takes; no origin is asked anything. Requests that wait for bytes are
    /// served on `runtime`.
    ///
    /// # Errors
    /// [`MountError`]; then nothing is mounted.
    pub fn mount<B: Backends>(
        fs: MusicFs<B>,
        mountpoint: &Path,
        options: MountOptions,
        runtime: Handle,
    ) -> Result<Self, MountError> {
        let os = Os::default();
        let mountpoint = resolve_mountpoint(mountpoint)
            .map_err(|source| MountError::Mountpoint { path: mountpoint.into(), source })?;
        match mount_state(&os, &mountpoint, &options.fs_name, None) {
            Ok(MountState::NotMounted) => {}
            Ok(state) => return Err(MountError::AlreadyMounted { path: mountpoint, state }),
            Err(error) => return Err(MountError::Setup(io::Error::other(error))),
        }
        // Revisions are waited for from before the first look, so that none is missed.
        let revisions = fs.backends().meta().subscribe();
        let since = fs.backends().meta().revision().map_err(MountError::Catalogue)?;
        let device = mounting::mount_at(&mountpoint, &options)?;
        let unmount = |error| {
            // The error that led here is the one to tell.
            let _ = detach(&mountpoint);
            MountError::Setup(error)
        };
        let entry = os.mount_table().map_err(unmount)?.top(&mountpoint).cloned();
        let entry = entry.filter(|entry| entry.is_ours(&options.fs_name));
        let entry = entry.ok_or_else(|| unmount(io::ErrorKind::NotFound.into()))?;
        let (ended_sender, ended) = watch::channel(false);
        let (invalidator, wakes) = Invalidator::new(since);
        let depth = options.passthrough.then(|| stack_depth(&os));
        let adapter =
            Adapter::new(fs, invalidator.clone(), runtime.clone(), options.ttl, depth, ended_sender);
        let shared = adapter.shared();
        let (background, notices) = serve(adapter, device, &options).map_err(unmount)?;
        invalidate::start(&shared, wakes, notices, since).map_err(unmount)?;
        let watcher = runtime.spawn(invalidator.clone().watch(revisions)).abort_handle();
        read_ahead(entry.device, options.read_ahead_kib);
        Ok(Self {
            mountpoint,
            entry,
            os,
            ended,
            invalidator,
            watcher,
            shared,
            left: false,
            _background: background,
        })
    }

    /// Returns where it is mounted, as the table of mounts has it.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Returns the number of the FUSE connection, under which the kernel's control files are.
    pub fn connection(&self) -> Option<u32> {
        self.entry.connection()
    }

    /// Returns what was done so far.
    pub fn stats(&self) -> FsStats {
        self.shared.stats()
    }

    /// Tells whether the mount is still in the tree. A lazy unmount takes it out at once, while [`Session::ended`]
    /// waits for those who still have files open. Does not touch the mount.
    pub fn is_in_tree(&self) -> bool {
        !matches!(self.place(), Place::Gone)
    }

    /// Waits until the mount has ended: it was unmounted from outside, or its connection was cut. Dropping the
    /// future is safe.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender goes with the last thread that serves the mount.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Unmounts. The mount leaves the tree at once; those who still have files open are waited for up to `limit`
    /// and then cut off. Dropping the future leaves the mount to end by itself.
    ///
    /// # Errors
    /// [`MountError::Detach`] when it could not be unmounted, [`MountError::Covered`] when something else is
    /// mounted over it, [`MountError::StillOpen`] when it left the tree and some program could not be cut off.
    pub async fn unmount(mut self, limit: Duration) -> Result<(), MountError> {
        self.watcher.abort();
        self.invalidator.stop();
        let path = self.mountpoint.clone();
        let place = self.place();
        self.left = true;
        if let Place::Top = place {
            let mountpoint = path.clone();
            let detached = tokio::task::spawn_blocking(move || detach(&mountpoint)).await;
            let detached = detached.unwrap_or_else(|e| Err(DetachError::Helper(io::Error::other(e))));
            detached.map_err(|source| MountError::Detach { path: path.clone(), source })?;
        }
        let covered = matches!(place, Place::Covered);
        if !covered && self.ended_within(limit).await {
            return Ok(());
        }
        let cut = self.connection().is_some_and(|number| self.os.abort_connection(number).is_ok());
        if covered {
            return Err(MountError::Covered { path });
        }
        if cut && self.ended_within(AFTER_ABORT).await {
            tracing::warn!(mountpoint = %path.display(), "programs that still read from the mount were cut off");
            return Ok(());
        }
        Err(MountError::StillOpen { path })
    }

    async fn ended_within(&self, limit: Duration) -> bool {
        let clock = self.shared.clock();
        let limit = clock.sleep_until(clock.now().plus(limit));
        matches!(select(std::pin::pin!(self.ended()), limit).await, Either::Left(_))
    }

    /// Finds our mount. When the table of mounts cannot be read it counts as gone: what cannot be seen is not
    /// unmounted.
    fn place(&self) -> Place {
        let Ok(table) = self.os.mount_table() else { return Place::Gone };
        let here = table.at(&self.mountpoint);
        // A mount that has ended may have given its numbers to one that another process serves.
        let ended = *self.ended.borrow();
        let user = self.entry.user_id();
        if ended && self.connection().is_none_or(|number| !self.os.may_be_served_here(number, user)) {
            return Place::Gone;
        }
        match here.last() {
            Some(top) if **top == self.entry => Place::Top,
            _ if here.contains(&&self.entry) => Place::Covered,
            _ => Place::Gone,
        }
    }
}

impl Drop for Session {
    /// Unmounts, unless [`Session::unmount`] did. It takes the mount out of the tree and waits for nobody.
    fn drop(&mut self) {
        self.watcher.abort();
        self.invalidator.stop();
        if !self.left
            && let Place::Top = self.place()
            && let Err(error) = detach(&self.mountpoint)
        {
            let error = chain(&error);
            tracing::error!(mountpoint = %self.mountpoint.display(), error, "the mount could not be unmounted");
        }
    }
}

/// Starts the threads that serve a connection.
fn serve<B: Backends>(
    adapter: Adapter<B>,
    device: OwnedFd,
    options: &MountOptions,
) -> io::Result<(BackgroundSession, Kernel)> {
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = options.threads > 1;
    let session = fuser::Session::from_fd(adapter, device, acl, config)?;
    let device = File::from(session.as_fd().try_clone_to_owned()?);
    let kernel = Kernel::new(session.notifier(), device);
    Ok((session.spawn()?, kernel))
}

/// How deep filesystems may be stacked below a file that the kernel reads by itself. A container's files are on an
/// overlay, which takes one more; otherwise less is better, as it leaves our mount usable below an overlay.
fn stack_depth(os: &Os) -> u32 {
    let overlay = |entry: &MountEntry| entry.fs_type == "overlay";
    let table = os.mount_table().unwrap_or_default();
    if table.top(Path::new("/")).is_some_and(overlay) { 2 } else { 1 }
}

/// Raises how far the kernel reads ahead. Only root may; for others it stays at 128 KiB.
fn read_ahead((major, minor): (u32, u32), kib: u32) {
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = fs::write(&path, kib.to_string()) {
        tracing::debug!(path, %error, "reading ahead stays at the kernel's default");
    }
}
