//! Samba.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use super::process::{ServerProcess, find, run};

/// The password of the one user.
const PASSWORD: &str = "tr0ub4dor & 3";

/// A Samba server with the share `music`, for one user and for guests, and the share `sealed`, of the same folder,
/// that is served encrypted only.
#[derive(Debug)]
pub struct Samba {
    _dir: TempDir,
    process: ServerProcess,
    user: String,
}

impl Samba {
    /// Serves `folder`.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start(folder: &Path) -> Self {
        Self::with(folder, "")
    }

    /// Serves `folder`, with more lines in the global part of the configuration.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn with(folder: &Path, global: &str) -> Self {
        let program = find("smbd");
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let user = run(&find("id"), &["-un"], "").trim().to_owned();
        let own = dir.path().to_owned();
        for part in ["private", "lock", "state", "cache", "pid", "ncalrpc", "log"] {
            std::fs::create_dir(own.join(part)).unwrap_or_else(|e| panic!("{part}: {e}"));
        }
        let at = own.display();
        let config = |port: u16| {
            let text = format!(
                "[global]\nsmb ports = {port}\nbind interfaces only = yes\ninterfaces = lo\n\
                 private dir = {at}/private\nlock directory = {at}/lock\nstate directory = {at}/state\n\
                 cache directory = {at}/cache\npid directory = {at}/pid\nncalrpc dir = {at}/ncalrpc\n\
                 log file = {at}/log/%m\nserver role = standalone server\nmap to guest = Bad User\n\
                 guest account = nobody\ndisable spoolss = yes\nload printers = no\n\
                 printcap name = /dev/null\n{global}\n\
                 [music]\npath = {folder}\nread only = yes\nguest ok = yes\nforce user = {user}\n\
                 [sealed]\npath = {folder}\nread only = yes\nsmb encrypt = required\n",
                folder = folder.display(),
            );
            let file = own.join("smb.conf");
            std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            file.display().to_string()
        };
        let twice = format!("{PASSWORD}\n{PASSWORD}\n");
        run(&find("pdbedit"), &["-s", &config(445), "-a", "-u", &user, "-t"], &twice);
        let process = ServerProcess::start(&program, own.join("printed"), |port| {
            vec!["-F".to_owned(), "--no-process-group".to_owned(), "-s".to_owned(), config(port)]
        });
        Self { _dir: dir, process, user }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Returns whom to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the user's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}
