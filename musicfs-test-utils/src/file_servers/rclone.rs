//! rclone, which serves a folder by many protocols.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use super::process::{ServerProcess, find};

/// An rclone that serves a folder.
#[derive(Debug)]
pub struct Rclone {
    _dir: TempDir,
    process: ServerProcess,
}

impl Rclone {
    /// Serves `folder` by SFTP to a user with a password.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn sftp(folder: &Path, user: &str, password: &str) -> Self {
        Self::serve(folder, &["sftp", "--user", user, "--pass", password])
    }

    /// Serves `folder` by NFS, version 3, with the mount protocol on the same port. Handles are forgotten when it
    /// ends.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn nfs(folder: &Path) -> Self {
        Self::serve(folder, &["nfs"])
    }

    /// Serves `folder` by WebDAV to a user with a password, or to anybody.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn webdav(folder: &Path, login: Option<(&str, &str)>) -> Self {
        match login {
            Some((user, password)) => Self::serve(folder, &["webdav", "--user", user, "--pass", password]),
            None => Self::serve(folder, &["webdav"]),
        }
    }

    /// Serves the folders in `folder` as buckets by S3, to the owner of a key.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn s3(folder: &Path, id: &str, secret: &str) -> Self {
        Self::serve(folder, &["s3", "--auth-key", &format!("{id},{secret}")])
    }

    fn serve(folder: &Path, how: &[&str]) -> Self {
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let own = dir.path().to_owned();
        let process = ServerProcess::start(&find("rclone"), own.join("log"), |port| {
            let mut arguments = vec!["serve".to_owned()];
            arguments.extend(how.iter().map(|word| (*word).to_owned()));
            arguments.extend([
                // What changes on the disk is to be seen at once.
                "--dir-cache-time=0s".to_owned(),
                // Names are to be seen as they are, not in the form that rclone keeps them in.
                "--local-encoding=Raw".to_owned(),
                // A request for what is not at the beginning is answered at once.
                "--vfs-read-wait=0s".to_owned(),
                "--addr".to_owned(),
                format!("127.0.0.1:{port}"),
                "--cache-dir".to_owned(),
                own.display().to_string(),
                "--config".to_owned(),
                own.join("config").display().to_string(),
                folder.display().to_string(),
            ]);
            arguments
        });
        Self { _dir: dir, process }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}
