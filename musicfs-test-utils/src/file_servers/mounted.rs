//! A folder mounted by rclone, which stands for what the system mounts from a network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::process::find;
use crate::eventually_blocking;

/// A folder that the kernel sees through FUSE (`fuse.rclone`). Unmounted when dropped.
#[derive(Debug)]
pub struct RcloneMount {
    own: TempDir,
    folder: PathBuf,
    at: PathBuf,
    child: Option<Child>,
}

impl RcloneMount {
    /// Mounts `folder` in a place of its own.
    ///
    /// # Panics
    /// When rclone is not installed or cannot mount.
    pub fn new(folder: &Path) -> Self {
        let own = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let at = own.path().join("mounted");
        std::fs::create_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
        let mut mount = Self { own, folder: folder.to_owned(), at, child: None };
        mount.again();
        mount
    }

    /// Returns where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Kills the process behind the mount, which stays, and answers that it is not connected.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Takes a dead mount away and mounts anew.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn again(&mut self) {
        self.unmount();
        let own = self.own.path();
        let mut command = Command::new(find("rclone"));
        command.arg("mount").arg(&self.folder).arg(&self.at).arg("--config").arg(own.join("config"));
        command.arg("--cache-dir").arg(own.join("cache"));
        // What changes below is to be seen at once, under the names that are there.
        command.args([
            "--dir-cache-time=0s",
            "--attr-timeout=0s",
            "--poll-interval=0s",
            "--local-encoding=Raw",
        ]);
        let log = own.join("log");
        let said = std::fs::File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("rclone: {e}"));
        eventually_blocking("a mount", || {
            let ended = matches!(child.try_wait(), Ok(Some(_)));
            assert!(!ended, "rclone ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            self.is_mounted()
        });
        self.child = Some(child);
    }

    fn is_mounted(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let at = self.at.display().to_string();
        table.lines().any(|line| line.split(' ').nth(4) == Some(&at))
    }

    /// Takes the mount away, as if it had never been; the folder it was on stays, and is empty.
    pub fn unmount(&mut self) {
        self.kill();
        if self.is_mounted() {
            let at = self.at.as_os_str();
            let _ = Command::new(find("fusermount3")).arg("-uz").arg(at).stderr(Stdio::null()).status();
            eventually_blocking("an unmounted folder", || !self.is_mounted());
        }
    }
}

impl Drop for RcloneMount {
    fn drop(&mut self) {
        self.unmount();
    }
}
