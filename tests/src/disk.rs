//! Disks that are full or read-only.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run;

/// A filesystem in memory over a folder, with room for little. It goes with this value. Needs root.
#[derive(Debug)]
pub struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Mounts it, with the options of `mount -t tmpfs -o`.
    ///
    /// # Panics
    /// When that fails.
    pub fn over(folder: &'a Path, options: &str) -> Self {
        fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "musicfs-test"]).arg(folder);
        run::succeed(command);
        Self(folder)
    }

    /// Puts a read-only view of the disk over it: whoever opens a file anew sees that.
    ///
    /// # Panics
    /// When that fails.
    pub fn make_read_only(&self) {
        let mut bind = Command::new("mount");
        bind.arg("--bind").args([self.0, self.0]);
        run::succeed(bind);
        let mut forbid = Command::new("mount");
        forbid.args(["-o", "remount,bind,ro"]).arg(self.0);
        run::succeed(forbid);
    }

    /// Takes away what [`SmallDisk::make_read_only`] put over it.
    ///
    /// # Panics
    /// When that fails.
    pub fn make_writable(&self) {
        let lifted = nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
        lifted.unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        while nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
}
