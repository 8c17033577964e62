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
        for pid in family(child.id()) {
            // What has ended meanwhile need not be killed.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
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
            ended || TcpStream::connect(self.addr).is_ok()
        });
        !ended
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
