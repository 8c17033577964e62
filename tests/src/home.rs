//! A place of its own for each test: directories, environment and the binary.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::mount::Mount;
use crate::{run, workspace};

/// Names a binary to test in place of one that is built for the purpose.
const GIVEN: &str = "BINARY_UNDER_TEST";

/// Returns the path of `musicfs`, built from this workspace in the profile of the tests.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = variable(GIVEN) {
            return PathBuf::from(given);
        }
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(workspace::root()).args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "musicfs-bin",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        run::succeed(build);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        workspace::metadata().target_directory.join(profile).join("musicfs").into()
    })
}

/// A user's home directory for one test: nothing outside it is read or written by what runs in it.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    user: Option<u32>,
    /// Whether changes are found by themselves, and not only when a test scans.
    watches: bool,
}

impl Home {
    /// Makes a home with an empty mountpoint in it.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("musicfs-")
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let home = Self { dir, user: None, watches: false };
        make_dir(&home.mountpoint());
        make_dir(&home.folder("run"));
        fs::set_permissions(home.folder("run"), fs::Permissions::from_mode(0o700))
            .unwrap_or_else(|error| panic!("{error}"));
        home
    }

    /// Makes a home that belongs to the user `uid`, as whom everything in it runs. Needs root.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn of_user(uid: u32) -> Self {
        let mut home = Self::new();
        for dir in [home.path().to_owned(), home.mountpoint(), home.folder("run")] {
            std::os::unix::fs::chown(&dir, Some(uid), Some(uid))
                .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        // What is built in root's home is out of others' reach.
        fs::copy(binary(), home.folder("musicfs")).unwrap_or_else(|error| panic!("{error}"));
        home.user = Some(uid);
        home
    }

    /// Lets changes be seen as they happen, as they are unless a test has to know what finds them.
    pub fn watching(mut self) -> Self {
        self.watches = true;
        self
    }

    /// Returns the home directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of `name` in the home directory.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns where [`Home::mount`] mounts.
    pub fn mountpoint(&self) -> PathBuf {
        self.folder("mnt")
    }

    /// Prepares `program` to run in this home: as its user, with no environment but its own, and a time limit.
    pub fn prepare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.user {
            None => run::limited(program),
            Some(uid) => {
                let mut command = run::limited("setpriv");
                command.args([
                    format!("--reuid={uid}"),
                    format!("--regid={uid}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg("--").arg(program);
                command
            }
        };
        self.surround(&mut command);
        command
    }

    /// Gives `command` the home's environment.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.env_clear().current_dir(self.path());
        if let Some(path) = variable("PATH") {
            command.env("PATH", path);
        }
        command
            .env("HOME", self.path())
            .env("LC_ALL", "C.UTF-8")
            .env("XDG_CACHE_HOME", self.folder("cache"))
            .env("XDG_STATE_HOME", self.folder("state"))
            .env("XDG_CONFIG_HOME", self.folder("config"))
            .env("XDG_RUNTIME_DIR", self.folder("run"))
            .env("MUSICFS_WATCH", self.watches.to_string())
            // Root's would be the machine's.
            .env("MUSICFS_RUNTIME_DIR", self.folder("run/musicfs"))
            // However full the disk of the tests is; a flag says otherwise.
            .env("MUSICFS_CACHE_MIN_FREE", "0");
    }

    /// Returns the binary's path as seen by the home's user.
    pub fn binary(&self) -> PathBuf {
        match self.user {
            None => binary().to_owned(),
            Some(_) => self.folder("musicfs"),
        }
    }

    /// Returns the user that all runs as, when it is not the tests' own.
    pub(crate) fn user(&self) -> Option<u32> {
        self.user
    }

    /// Runs `musicfs` with `args` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.prepare(self.binary());
        command.args(args);
        run::output(command)
    }

    /// Runs `musicfs` with `args`, which must succeed, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn succeed<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let mut command = self.prepare(self.binary());
        command.args(args);
        run::succeed(command)
    }

    /// Writes the configuration of whoever lives here.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn configure(&self, toml: &str) {
        make_dir(&self.folder("config/musicfs"));
        let path = self.folder("config/musicfs/config.toml");
        fs::write(&path, toml).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Mounts what is configured and waits until it answers.
    ///
    /// # Panics
    /// When it does not mount.
    pub fn mount_configured(&self) -> Mount<'_> {
        Mount::start_configured(self, &[])
    }

    /// Mounts `origin` at [`Home::mountpoint`] and waits until all of it has been scanned.
    ///
    /// # Panics
    /// When it does not mount, or the scan does not end.
    pub fn mount(&self, origin: &Path) -> Mount<'_> {
        self.mount_with(origin, &[])
    }

    /// As [`Home::mount`], with more arguments for `musicfs mount`.
    ///
    /// # Panics
    /// When it does not mount, or the scan does not end.
    pub fn mount_with(&self, origin: &Path, args: &[&str]) -> Mount<'_> {
        let mount = Mount::start(self, origin, args);
        mount.wait_scanned();
        mount
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A daemon in the background ends when its mount goes.
        crate::mount::clear(&self.mountpoint());
    }
}

fn make_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
}

#[expect(clippy::disallowed_methods, reason = "what runs the tests says with it what to test")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
