//! What the operating system tells of mounts and processes, read from its files and never by touching a mount.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mount_table::MountTable;

/// Name of a thread that every process has that serves a mount. At most 15 bytes, as the kernel keeps no more.
pub(crate) const THREAD_NAME: &str = "musicfs-inval";

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
    /// It cannot be told: a process that serves some mount may not be looked into, or the kernel does not say which.
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
    pub(crate) fn may_be_served_here(&self, connection: u32, user: Option<u32>) -> bool {
        match self.server_of(connection, user) {
            Server::Process(pid) => pid == std::process::id(),
            Server::Nobody => true,
            Server::Unknown => false,
        }
    }

    /// Finds who has the device of a connection open, which `user` mounted.
    ///
    /// What processes of other users have open cannot be seen by a user, and need not be: they did not mount it.
    pub(crate) fn server_of(&self, connection: u32, user: Option<u32>) -> Server {
        let Ok(processes) = fs::read_dir(&self.proc) else { return Server::Unknown };
        let mut certain = true;
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            match holds_connection(&process.path(), connection) {
                Ok(Holds::Yes) => return Server::Process(pid),
                Ok(Holds::No) => {}
                Ok(Holds::Unsaid) => certain &= !serves_some_mount(&process.path()),
                // It may not be looked into, or has ended meanwhile.
                Err(_) => {
                    certain &= !(may_be_of(&process.path(), user) && serves_some_mount(&process.path()))
                }
            }
        }
        if certain { Server::Nobody } else { Server::Unknown }
    }
}

/// Tells whether a process may be one of a user's. One that has ended is nobody's.
fn may_be_of(process: &Path, user: Option<u32>) -> bool {
    let status = match fs::read_to_string(process.join("status")) {
        Ok(status) => status,
        Err(e) => return e.kind() != io::ErrorKind::NotFound && e.raw_os_error() != Some(nix::libc::ESRCH),
    };
    // Real, effective, saved and filesystem uid. The owner of the folder would not do: it is root for a program
    // that was given a capability.
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut uids = uids.split_ascii_whitespace().map(str::parse);
    user.is_none_or(|user| uids.any(|uid| uid == Ok(user)))
}

/// Tells whether a process serves some mount of ours, by the name of a thread that each such process has. Unlike
/// open files, names may be read of every process.
fn serves_some_mount(process: &Path) -> bool {
    let Ok(threads) = fs::read_dir(process.join("task")) else { return false };
    let mut names =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|name| name.trim_end() == THREAD_NAME)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// An operating system of a test's own: a table of mounts and some processes.
    pub(crate) struct FakeOs {
        pub(crate) os: Os,
        dir: tempfile::TempDir,
    }

    impl FakeOs {
        pub(crate) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let os = Os { proc: dir.path().join("proc"), connections: dir.path().join("connections") };
            fs::create_dir_all(os.proc.join("self")).unwrap();
            fs::write(os.proc.join("self/mountinfo"), "22 1 254:0 / / rw - ext4 /dev/vda rw\n").unwrap();
            Self { os, dir }
        }

        pub(crate) fn path(&self) -> &Path {
            self.dir.path()
        }

        /// Mounts something: `fs_type source`, with the number of its connection.
        pub(crate) fn mount(&self, at: &str, what: &str, connection: u32) {
            let path = self.os.proc.join("self/mountinfo");
            let mut table = fs::read_to_string(&path).unwrap();
            let id = 100 + connection;
            table.push_str(&format!("{id} 22 0:{connection} / {at} ro - {what} ro,user_id=1000\n"));
            fs::write(path, table).unwrap();
        }

        /// Starts a process, which may serve a connection.
        pub(crate) fn process(&self, pid: u32, start: u64, connection: Option<u32>) {
            let dir = self.os.proc.join(pid.to_string());
            fs::create_dir_all(dir.join("fd")).unwrap();
            fs::create_dir_all(dir.join("fdinfo")).unwrap();
            fs::create_dir_all(dir.join("task/1")).unwrap();
            fs::write(dir.join("task/1/comm"), "tokio-worker\n").unwrap();
            let stat = format!("{pid} (a) b ) S {}{start} 0 0", "0 ".repeat(18));
            fs::write(dir.join("stat"), stat).unwrap();
            fs::write(dir.join("status"), "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n").unwrap();
            symlink("/dev/null", dir.join("fd/0")).unwrap();
            if let Some(connection) = connection {
                symlink("/dev/fuse", dir.join("fd/7")).unwrap();
                fs::create_dir_all(dir.join("task/2")).unwrap();
                fs::write(dir.join("task/2/comm"), format!("{THREAD_NAME}\n")).unwrap();
                let info = format!("pos:\t0\nmnt_id:\t30\nfuse_connection:\t{connection}\n");
                fs::write(dir.join("fdinfo/7"), info).unwrap();
            }
        }

        /// Has the kernel not say which connection a process serves.
        pub(crate) fn without_connection(&self, pid: u32) {
            fs::write(self.os.proc.join(pid.to_string()).join("fdinfo/7"), "pos:\t0\n").unwrap();
        }
    }

    #[test]
    fn start_of_a_process_is_read_whatever_its_name() {
        let fake = FakeOs::new();
        fake.process(4242, 777, None);
        assert_eq!(fake.os.process_start(4242), Some(777));
        assert_eq!(fake.os.process_start(4243), None);
        let own = Os::default().process_start(std::process::id()).unwrap();
        assert!(own > 0);
    }

    #[test]
    fn server_of_a_connection_is_who_has_its_device_open() {
        let fake = FakeOs::new();
        fake.process(10, 1, Some(40));
        fake.process(11, 1, Some(4));
        assert_eq!(fake.os.server_of(40, Some(1000)), Server::Process(10));
        assert_eq!(fake.os.server_of(4, Some(1000)), Server::Process(11));
        assert_eq!(fake.os.server_of(41, Some(1000)), Server::Nobody);
        fake.without_connection(11);
        assert_eq!(fake.os.server_of(4, Some(1000)), Server::Unknown);
    }

    #[test]
    fn process_that_may_not_be_looked_into_counts_when_it_serves_some_mount_of_the_user() {
        let fake = FakeOs::new();
        fake.process(10, 1, None);
        fake.process(11, 1, Some(40));
        for pid in ["10", "11"] {
            // In place of a folder that may not be read, which root could read all the same.
            fs::remove_dir_all(fake.os.proc.join(pid).join("fd")).unwrap();
            fs::write(fake.os.proc.join(pid).join("fd"), "").unwrap();
        }
        assert_eq!(fake.os.server_of(40, Some(1000)), Server::Unknown);
        assert_eq!(fake.os.server_of(40, None), Server::Unknown);
        assert_eq!(fake.os.server_of(40, Some(1001)), Server::Nobody);
        fs::remove_dir_all(fake.os.proc.join("11")).unwrap();
        assert_eq!(fake.os.server_of(40, Some(1000)), Server::Nobody);
    }
}
