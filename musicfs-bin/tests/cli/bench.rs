//! A bench: directories, music, and daemons that end with the test.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use musicfs_test_utils::{eventually_blocking, library};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Directories of one test.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// Makes the directories, with a mountpoint and three tracks.
    pub(crate) fn new() -> Self {
        let bench = Self { dir: tempfile::Builder::new().prefix("mfs").tempdir().unwrap() };
        std::fs::create_dir(bench.mountpoint()).unwrap();
        library::bench_library(&bench.music(), 3).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.path("mnt")
    }

    pub(crate) fn music(&self) -> PathBuf {
        self.path("music")
    }

    /// Prepares the binary with an environment of the bench's own.
    pub(crate) fn command(&self) -> Command {
        self.command_as(Path::new(env!("CARGO_BIN_EXE_musicfs")))
    }

    /// Prepares the binary under another path.
    pub(crate) fn command_as(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", "/usr/bin:/bin")
            .env("MUSICFS_CACHE_DIR", self.path("cache"))
            .env("MUSICFS_STATE_DIR", self.path("state"))
            .env("MUSICFS_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    /// Runs the binary, which must succeed, and returns what it printed.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    }

    /// Runs the binary, which must succeed, and returns the JSON that it printed.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let out = self.ok(args);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Mounts in the foreground with the music of the bench, and waits until the daemon says that it is mounted.
    pub(crate) fn mount(&self, args: &[&str]) -> Daemon {
        let mut command = self.command();
        command.arg("mount").arg("--origin").arg(self.music()).args(args).arg(self.mountpoint());
        Daemon::start(command, self.mountpoint(), self.path("daemon.log"))
    }

    /// Waits until a condition holds of the mount's status.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let mountpoint = self.mountpoint();
        eventually_blocking(what, || {
            let ran = self.run([OsStr::new("status"), "--json".as_ref(), mountpoint.as_os_str()]);
            serde_json::from_str(&ran.out).is_ok_and(|status| holds(&status))
        });
    }

    /// Waits until the tree shows this many tracks and no scan runs.
    pub(crate) fn until_tracks(&self, tracks: u64) {
        self.until("the scan to end", |status| {
            status["totals"]["tracks"] == tracks && status["scan"]["phase"] == "idle"
        });
    }

    /// Returns the path of some track in the mount.
    pub(crate) fn some_track(&self) -> PathBuf {
        fn first(dir: &Path) -> Option<PathBuf> {
            std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find_map(|path| if path.is_dir() { first(&path) } else { Some(path) })
        }
        first(&self.mountpoint()).expect("a track")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        clear(&self.mountpoint());
    }
}

/// What a command that ended said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks code and what was said in error.
    pub(crate) fn failed_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {}", self.err);
        }
    }
}

/// A daemon in the foreground, killed with its mount when dropped.
pub(crate) struct Daemon {
    child: Child,
    mountpoint: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(mut command: Command, mountpoint: PathBuf, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        let out = log.with_extension("out");
        command.stderr(file).stdout(std::fs::File::create(&out).unwrap()).process_group(0);
        let child = command.spawn().unwrap();
        let mut daemon = Self { child, mountpoint, log };
        eventually_blocking("the daemon to say that it is mounted", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", daemon.log());
            }
            std::fs::read_to_string(&out).is_ok_and(|text| text.contains("Unmount with"))
        });
        daemon
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn until_logged(&self, part: &str) {
        eventually_blocking(part, || self.log().contains(part));
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually_blocking("the daemon to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        clear(&self.mountpoint);
    }
}

/// Tells whether something is mounted there, without touching it.
pub(crate) fn is_mounted(mountpoint: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == mountpoint.to_str())
}

/// Detaches what is mounted there.
pub(crate) fn clear(mountpoint: &Path) {
    use nix::mount::{MntFlags, umount2};
    while is_mounted(mountpoint) && umount2(mountpoint, MntFlags::MNT_DETACH).is_ok() {}
}

/// A limit for what must not hang.
pub(crate) const SOON: Duration = Duration::from_secs(20);
