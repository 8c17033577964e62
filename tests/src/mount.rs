//! A running daemon with its mount, which ends with the test.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use musicfs_test_utils::eventually_blocking;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::home::Home;

/// A mounted library. Dropping it kills the daemon and clears the mount.
#[derive(Debug)]
pub struct Mount<'a> {
    home: &'a Home,
    daemon: Option<Child>,
    log: PathBuf,
    /// Whether the mount stays when this value goes.
    stays: bool,
}

/// Tells whether something is mounted at `at`, without touching it.
pub fn is_mounted(at: &Path) -> bool {
    mounts_at(at) > 0
}

/// Returns how many mounts are stacked at `at`, without touching it.
///
/// # Panics
/// When the kernel's table cannot be read.
pub fn mounts_at(at: &Path) -> usize {
    let table =
        fs::read("/proc/self/mountinfo").unwrap_or_else(|error| panic!("/proc/self/mountinfo: {error}"));
    let at = at.as_os_str().as_bytes();
    table.split(|b| *b == b'\n').filter(|line| line.split(|b| *b == b' ').nth(4) == Some(at)).count()
}

impl<'a> Mount<'a> {
    /// Starts a daemon in the foreground and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub fn start(home: &'a Home, origin: &Path, args: &[&str]) -> Self {
        let mut all = vec!["--origin".into(), origin.as_os_str().to_owned()];
        all.extend(args.iter().map(OsString::from));
        Self::start_configured(home, &all)
    }

    /// As [`Mount::start`], with the origins that the home's configuration names.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub fn start_configured(home: &'a Home, args: &[OsString]) -> Self {
        let log =
            home.folder(&format!("daemon-{}.log", fs::read_dir(home.path()).map_or(0, Iterator::count)));
        let file = fs::File::create(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = match home.user() {
            None => Command::new(home.binary()),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.args([
                    format!("--reuid={uid}"),
                    format!("--regid={uid}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg("--").arg(home.binary());
                command
            }
        };
        home.surround(&mut command);
        command.arg("mount").args(args).arg(home.mountpoint());
        let twin = file.try_clone().unwrap_or_else(|error| panic!("{error}"));
        command.stdin(Stdio::null()).stdout(file).stderr(twin);
        let daemon = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut mount = Self { home, daemon: Some(daemon), log, stays: false };
        mount.wait_ready();
        mount
    }

    fn wait_ready(&mut self) {
        let at = self.home.mountpoint();
        eventually_blocking("the mount to answer", || {
            if let Some(daemon) = &mut self.daemon
                && let Ok(Some(status)) = daemon.try_wait()
            {
                panic!(
                    "the daemon ended with {status}:\n{}",
                    fs::read_to_string(&self.log).unwrap_or_default()
                );
            }
            is_mounted(&at) && self.home.run(["status".as_ref(), at.as_os_str()]).status.success()
        });
    }

    /// Returns where it is mounted.
    pub fn at(&self) -> PathBuf {
        self.home.mountpoint()
    }

    /// Returns the path of `path` in the mount.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at().join(path)
    }

    /// Returns the daemon's process id.
    ///
    /// # Panics
    /// When it has been ended.
    pub fn pid(&self) -> Pid {
        let daemon = self.daemon.as_ref().unwrap_or_else(|| panic!("the daemon has been ended"));
        Pid::from_raw(daemon.id() as i32)
    }

    /// Returns what the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns what `musicfs status --json` says.
    ///
    /// # Panics
    /// When it fails.
    pub fn status(&self) -> Value {
        let text = self.home.succeed([
            "status".as_ref(),
            "--json".as_ref(),
            "--problems".as_ref(),
            self.at().as_os_str(),
        ]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Waits until every origin has been scanned to its end and nothing is being scanned.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_scanned(&self) {
        eventually_blocking("the first scan to end", || {
            let status = self.status();
            let origins = status["origins"].as_array().map_or(0, Vec::len);
            let done = status["scan"]["last"].as_object();
            status["scan"]["phase"] == "idle"
                && done.is_some_and(|done| {
                    done.len() == origins && done.values().all(|one| one["complete"] == true)
                })
        });
    }

    /// Scans again and returns the result for the one origin.
    ///
    /// # Panics
    /// When the scan fails.
    pub fn rescan(&self, args: &[&str]) -> Value {
        let mut all = vec!["scan".into(), "--json".into(), "--mount".into(), self.at().into_os_string()];
        all.extend(args.iter().map(OsString::from));
        self.home.succeed(all);
        let last = self.status()["scan"]["last"].clone();
        last.as_object()
            .and_then(|last| last.values().next().cloned())
            .unwrap_or_else(|| panic!("no result: {last}"))
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// When it is not there to receive it.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{signal}: {error}"));
    }

    /// Waits until the daemon has ended and returns its exit code; `None` when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("the daemon has been ended"));
        let mut code = None;
        eventually_blocking("the daemon to end", || match daemon.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        });
        code
    }

    /// Ends the daemon as `kill -9` does, and leaves the dead mount as it is.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill_daemon(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_ended();
        self.stays = true;
    }

    /// Unmounts by command and checks that the daemon has ended well.
    ///
    /// # Panics
    /// When it has not.
    pub fn unmount(mut self) {
        let at = self.at();
        self.home.succeed(["umount".as_ref(), at.as_os_str()]);
        assert_eq!(self.wait_ended(), Some(0), "the daemon failed:\n{}", self.log());
        assert!(!is_mounted(&at), "the mount is still there");
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if !self.stays {
            clear(&self.home.mountpoint());
        }
    }
}

/// Detaches whatever is mounted at `at`.
pub fn clear(at: &Path) {
    while is_mounted(at) {
        let detached = Command::new("fusermount3").arg("-uzq").arg("--").arg(at).status();
        if !detached.is_ok_and(|status| status.success())
            && nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).is_err()
        {
            return;
        }
    }
}
