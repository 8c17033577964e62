//! One server process and what it forks.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::eventually_blocking;

/// How often a port that somebody else took meanwhile is replaced by another.
const PORTS_TRIED: usize = 5;

/// A server process. Killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    program: PathBuf,
    arguments: Vec<String>,
    addr: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl ServerProcess {
    /// Starts `program` with the arguments that `arguments` makes for a free port, and waits until it listens.
    /// What it prints goes to `log`.
    ///
    /// # Panics
    /// When it does not start.
    pub(super) fn start(program: &Path, log: PathBuf, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        for _ in 0..PORTS_TRIED {
            let port = free_port();
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let arguments = arguments(port);
            let mut server =
                Self { program: program.to_owned(), arguments, addr, log: log.clone(), child: None };
            if server.run() {
                return server;
            }
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("{} does not start; it says:\n{said}", program.display());
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns what it has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it, with what it has forked, at once.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Stopped first, until none is new: one that takes a connection now would leave a child behind.
        let mut stopped = Vec::new();
        loop {
            let fresh: Vec<u32> =
                family(child.id()).into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            signal("-STOP", &fresh);
            stopped.extend(fresh);
        }
        signal("-KILL", &stopped);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.run(), "{} does not start again: {}", self.program.display(), self.printed());
    }

    fn run(&mut self) -> bool {
        let log = File::create(&self.log).unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        let errors = log.try_clone().unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display())));
        let mut ended = false;
        eventually_blocking("a server that listens", || {
            ended = matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(Some(_))));
            ended || (self.listens() && TcpStream::connect(self.addr).is_ok())
        });
        !ended
    }

    /// Tells whether it is this server that listens at the port, and not one of another test that was faster.
    fn listens(&self) -> bool {
        let sockets = listening(self.addr.port());
        let Some(child) = &self.child else { return false };
        family(child.id()).into_iter().any(|pid| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
        })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|e| panic!("no port: {e}"));
    listener.local_addr().map(|addr| addr.port()).unwrap_or_else(|e| panic!("no port: {e}"))
}

/// Sends a signal to processes. To one that has ended meanwhile it need not be sent.
fn signal(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
}

/// Finds the sockets that listen at a port, as they are named among a process's open files.
fn listening(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let found = lines.filter_map(|line| {
        // See proc_pid_net(5): number, own address, other's, state, five more, inode.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, own) = fields.get(1)?.split_once(':')?;
        let is_it = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(own, 16) == Ok(port);
        is_it.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    });
    found.collect()
}

/// Finds a process and all below it.
fn family(top: u32) -> Vec<u32> {
    let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything: state, then parent.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if let Some(parent) = rest.split(' ').nth(1).and_then(|field| field.parse().ok()) {
            parents.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![top];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let below = parents.remove(pid).unwrap_or_default();
        all.extend(below);
        next += 1;
    }
    all
}

/// Finds a program, also where servers are that are not for everybody.
///
/// # Panics
/// When it is not installed.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's servers are found by the environment, as a shell would"
)]
pub(super) fn find(program: &str) -> PathBuf {
    let own = std::env::var_os("MUSICFS_TEST_SERVERS").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        Some(cache?.join("musicfs-test-servers"))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = own.map(|own| own.join("bin")).into_iter().collect();
    folders.extend(std::env::split_paths(&path));
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed; install it with scripts/test-servers.sh"))
}

/// Runs a program to its end.
///
/// # Panics
/// When it fails.
pub(super) fn run(program: &Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may have ended already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tempfile::TempDir;

    use super::*;

    /// Listens late, and makes children all the time.
    const SERVER: &str = "
import os, socket, sys, time
time.sleep(0.2)
server = socket.socket()
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
while True:
    time.sleep(0.001)
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
";

    fn arguments(port: u16, mark: &str) -> Vec<String> {
        ["-c", SERVER, "127.0.0.1", &port.to_string(), mark].map(str::to_owned).to_vec()
    }

    fn running(mark: &str) -> usize {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())).count()
    }

    #[test]
    fn server_is_not_taken_for_another_at_its_port_and_leaves_nothing_behind() {
        let dir = TempDir::new().unwrap();
        let mark = dir.path().display().to_string();
        let (taken, tries) = (Cell::new(None), Cell::new(0));
        let mut server = ServerProcess::start(&find("python3"), dir.path().join("log"), |port| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                taken.set(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
            }
            arguments(port, &mark)
        });
        assert_eq!(tries.get(), 2, "{}", server.printed());
        let taken = taken.into_inner().unwrap();
        assert_ne!(server.addr(), taken.local_addr().unwrap());
        eventually_blocking("some children", || running(&mark) > 20);
        server.kill();
        eventually_blocking("all to be gone", || running(&mark) == 0);
    }
}
