//! OpenSSH.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::process::{ServerProcess, find, run};

/// What [`Sshd::locked_key`] is encrypted with.
const PASSPHRASE: &str = "open sesame";

/// An OpenSSH server that serves this machine's files by SFTP to whoever has its key.
#[derive(Debug)]
pub struct Sshd {
    dir: TempDir,
    process: ServerProcess,
}

impl Sshd {
    /// Starts a server with keys of its own.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start() -> Self {
        Self::serving("internal-sftp")
    }

    /// As [`Sshd::start`], but files are served with the rights of `nobody`, where the test itself may do
    /// everything.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start_without_rights() -> Self {
        if is_root() {
            let server = "/usr/lib/openssh/sftp-server";
            Self::serving(&format!("/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups {server}"))
        } else {
            Self::start()
        }
    }

    fn serving(subsystem: &str) -> Self {
        let program = find("sshd");
        let dir = TempDir::new().unwrap_or_else(|e| panic!("no folder: {e}"));
        let keygen = find("ssh-keygen");
        for (name, kind, passphrase) in [
            ("host", "ed25519", ""),
            ("key", "ed25519", ""),
            ("locked", "ed25519", PASSPHRASE),
            ("stranger", "ed25519", ""),
        ] {
            let file = dir.path().join(name).display().to_string();
            run(&keygen, &["-q", "-t", kind, "-N", passphrase, "-C", name, "-f", &file], "");
        }
        let public = |name: &str| {
            std::fs::read_to_string(dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let authorized = [public("key.pub"), public("locked.pub")].concat();
        write(&dir.path().join("authorized"), &authorized);
        if is_root() {
            // Privilege separation wants it; only root can make it, and only root needs it.
            std::fs::create_dir_all("/run/sshd").unwrap_or_else(|e| panic!("/run/sshd: {e}"));
        }
        let root = dir.path().to_owned();
        let process = ServerProcess::start(&program, dir.path().join("log"), |port| {
            let at = root.display();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
                 UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n\
                 MaxStartups 200\nMaxSessions 100\nPidFile {at}/pid\nSubsystem sftp {subsystem}\n"
            );
            let file = root.join("config");
            write(&file, &config);
            ["-D", "-e", "-f"].map(str::to_owned).into_iter().chain([file.display().to_string()]).collect()
        });
        Self { dir, process }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Returns whom to log in as: who runs the test.
    pub fn user(&self) -> String {
        run(&find("id"), &["-un"], "").trim().to_owned()
    }

    /// Returns a key that is let in.
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// Returns a key that is let in, with what it is encrypted with.
    pub fn locked_key(&self) -> (PathBuf, &'static str) {
        (self.dir.path().join("locked"), PASSPHRASE)
    }

    /// Makes an RSA key that is let in.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn rsa_key(&self) -> PathBuf {
        let file = self.dir.path().join("rsa");
        let shown = file.display().to_string();
        run(&find("ssh-keygen"), &["-q", "-t", "rsa", "-N", "", "-f", &shown], "");
        let authorized = self.dir.path().join("authorized");
        let read =
            |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        write(&authorized, &(read(&authorized) + &read(&file.with_extension("pub"))));
        file
    }

    /// Returns a key that is not let in.
    pub fn strange_key(&self) -> PathBuf {
        self.dir.path().join("stranger")
    }

    /// Writes a file of known hosts that knows the server at `addr`, itself or a proxy before it; hashed or in the
    /// clear.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn known_hosts(&self, addr: SocketAddr, hashed: bool) -> PathBuf {
        let host = std::fs::read_to_string(self.dir.path().join("host.pub"))
            .unwrap_or_else(|e| panic!("the host's key: {e}"));
        let file = self.dir.path().join(format!("known_hosts-{}-{hashed}", addr.port()));
        write(&file, &format!("[{}]:{} {host}", addr.ip(), addr.port()));
        if hashed {
            run(&find("ssh-keygen"), &["-q", "-H", "-f", &file.display().to_string()], "");
        }
        file
    }

    /// Starts an agent that holds the key that is let in.
    ///
    /// # Panics
    /// When it does not start.
    pub fn agent(&self) -> Agent {
        let socket = self.dir.path().join("agent");
        let at = socket.display().to_string();
        let mut agent = std::process::Command::new(find("ssh-agent"));
        let child = agent.args(["-D", "-a", &at]).stdout(std::process::Stdio::null());
        let child = child.spawn().unwrap_or_else(|e| panic!("ssh-agent: {e}"));
        let agent = Agent { child, socket };
        crate::eventually_blocking("an agent", || agent.socket.exists());
        let mut add = std::process::Command::new(find("ssh-add"));
        let added = add.arg("-q").arg(self.key()).env("SSH_AUTH_SOCK", &at).status();
        assert!(added.is_ok_and(|status| status.success()), "ssh-add fails");
        agent
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}

/// An agent that holds a key. Ended when dropped.
#[derive(Debug)]
pub struct Agent {
    child: std::process::Child,
    socket: PathBuf,
}

impl Agent {
    /// Returns its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    run(&find("id"), &["-u"], "").trim() == "0"
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}
