//! What the operating system tells of mounts and processes, read from its files and never by touching a mount.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mount_table::MountTable;

/// Where the operating system's files are, so that a test can put its own there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Os {
    /// The process filesystem, usually `/proc`.
    pub proc: PathBuf,
    /// The control files of FUSE connections, usually `/sys/fs/fuse/connections`; need not be there.
    pub connections: PathBuf,
}

impl Default for Os {
    fn default() -> Self {
        Self { proc: "/proc".into(), connections: "/sys/fs/fuse/connections".into() }
    }
}

/// A process that serves a FUSE connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// This one.
    Process(u32),
    /// There is none.
    Nobody,
    /// It cannot be told: some process may not be looked into, or the kernel does not say.
    Unknown,
}

impl Os {
    /// Reads the table of mounts that this process sees.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn mount_table(&self) -> io::Result<MountTable> {
        Ok(MountTable::parse(&fs::read(self.proc.join("self/mountinfo"))?))
    }

    /// Returns when a process started, in the kernel's ticks since boot; `None` when it is not there. With the
    /// number, this names a process for ever, as numbers are used again.
    pub fn process_start(&self, pid: u32) -> Option<u64> {
        let stat = fs::read(self.proc.join(pid.to_string()).join("stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let after = stat.iter().rposition(|b| *b == b')')? + 1;
        let fields = std::str::from_utf8(&stat[after..]).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        // A zombie has ended; it serves nothing.
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        fields.nth(18)?.parse().ok()
    }

    /// Asks the kernel to end a connection: whoever waits for it gets an error, and its daemon is told that it has
    /// ended.
    ///
    /// # Errors
    /// When there is no such control file, or it may not be used.
    pub fn abort_connection(&self, connection: u32) -> io::Result<()> {
        fs::write(self.connections.join(connection.to_string()).join("abort"), "1")
    }

    /// Tells whether no other process than this serves a connection.
    pub(crate) fn may_be_served_here(&self, connection: u32) -> bool {
        match self.server_of(connection) {
            Server::Process(pid) => pid == std::process::id(),
            Server::Nobody => true,
            Server::Unknown => false,
        }
    }

    /// Finds who has a connection's device open.
    pub(crate) fn server_of(&self, connection: u32) -> Server {
        let Ok(processes) = fs::read_dir(&self.proc) else { return Server::Unknown };
        let mut certain = true;
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            match holds_connection(&process.path(), connection) {
                Ok(Holds::Yes) => return Server::Process(pid),
                Ok(Holds::No) => {}
                Ok(Holds::Unsaid) => certain = false,
                // It has ended meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(_) => certain = false,
            }
        }
        if certain { Server::Nobody } else { Server::Unknown }
    }
}

enum Holds {
    Yes,
    No,
    /// It has some FUSE device open, and the kernel (before Linux 6.11) does not say of which connection.
    Unsaid,
}

fn holds_connection(process: &Path, connection: u32) -> io::Result<Holds> {
    let mut holds = Holds::No;
    for fd in fs::read_dir(process.join("fd"))?.flatten() {
        let Ok(target) = fs::read_link(fd.path()) else { continue };
        if target.as_os_str().as_bytes() != b"/dev/fuse" {
            continue;
        }
        let Ok(info) = fs::read_to_string(process.join("fdinfo").join(fd.file_name())) else { continue };
        match info.lines().find_map(|line| line.strip_prefix("fuse_connection:")) {
            Some(number) if number.trim().parse() == Ok(connection) => return Ok(Holds::Yes),
            Some(_) => {}
            None => holds = Holds::Unsaid,
        }
    }
    Ok(holds)
}
