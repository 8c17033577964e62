//! Unmounting, without waiting for those who still use the mount.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::mounting::helper;

/// Why a mount could not be taken out of the tree.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The kernel refused.
    #[error("umount failed")]
    Umount(#[source] io::Error),
    /// fusermount3 is not installed, and only it may unmount for a user.
    #[error("fusermount3 is not installed; install the package fuse3")]
    NoHelper,
    /// fusermount3 could not be run.
    #[error("fusermount3 could not be run")]
    Helper(#[source] io::Error),
    /// fusermount3 refused.
    #[error("fusermount3 refused: {0}")]
    Refused(String),
}

/// Takes what is on top at `mountpoint` out of the tree. Programs that have files of it open keep them.
///
/// # Errors
/// [`DetachError`]. It is no error when nothing is mounted there.
pub(crate) fn detach(mountpoint: &Path) -> Result<(), DetachError> {
    match umount2(mountpoint, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: nothing is mounted there (any more).
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(Errno::EPERM) => detach_by_helper(mountpoint),
        Err(errno) => Err(DetachError::Umount(errno.into())),
    }
}

fn detach_by_helper(mountpoint: &Path) -> Result<(), DetachError> {
    let helper = helper().ok_or(DetachError::NoHelper)?;
    let output = Command::new(helper)
        .args(["-u", "-z", "--"])
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(DetachError::Helper)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(DetachError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
