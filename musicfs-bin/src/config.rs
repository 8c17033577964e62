//! The configuration: what is set, by whom, and what is wrong with it.
//!
//! Every key has four sources, the first that sets it wins: a flag, a variable `MUSICFS_*`, the file, the
//! default. All that is wrong is reported at once, each with its place; what is not wrong still has its value, so
//! that commands which need only a part (where the control sockets are) work beside a broken rest.
//!
//! Loading reads the file and resolves symbolic links of origins' paths; whether paths make sense is checked
//! apart ([`check`]). No key holds a secret, only where one is found.

pub(crate) mod check;
mod file;
pub(crate) mod keys;
mod loader;
mod origins;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use musicfs_core::Template;

use loader::Loader;
pub(crate) use origins::{NamedOrigin, blake3_hex};
pub(crate) use settings::{ByteSize, LogFormat, LogLevel, read_time};
pub(crate) use show::KeyShown;

use crate::env::Env;

/// Wait for a read from a local disk: far beyond a disk that spins up from sleep is broken.
const LOCAL_DEADLINE: Duration = Duration::from_secs(5);
/// Wait for a read over a network: players give up at about this time themselves.
const REMOTE_DEADLINE: Duration = Duration::from_secs(30);
/// Wait for open requests when stopping: well below the 90 s after which systemd kills.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Part of the disk that a cache leaves free, in percent: enough for the system to go on.
const CACHE_MIN_FREE: usize = 10;
/// Time after which kept audio is compared: by then an album that is being tagged has its final tags.
const RECHECK_AFTER: Duration = Duration::from_secs(600);
/// Time between rescans: soon enough for a new album, rare enough to let disks sleep.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
const RESCAN_INTERVAL: Duration = Duration::from_secs(300);
/// Time that a file which is gone and cached stays listed: long enough to bring back what was deleted by mistake.
const MISSING_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The configuration of the system's own mounts.
const SYSTEM_FILE: &str = "/etc/musicfs/config.toml";

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// In a variable.
    Variable(String),
    /// On the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody.
    Default,
    /// What stands there.
    Set(Place),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Set(Place::File { path, line, .. }) => write!(f, "file {}:{line}", path.display()),
            Self::Set(Place::Variable(name)) => write!(f, "env {name}"),
            Self::Set(Place::Flag(name)) => write!(f, "flag {name}"),
        }
    }
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where, when it is in one place.
    pub(crate) place: Option<Place>,
    /// The key that it concerns.
    pub(crate) key: Option<&'static str>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl Problem {
    fn at(place: Place, message: String) -> Self {
        Self { place: Some(place), key: None, message }
    }

    pub(crate) fn of(source: &Source, key: &'static str, message: String) -> Self {
        let place = if let Source::Set(place) = source { Some(place.clone()) } else { None };
        Self { place, key: Some(key), message }
    }

    /// Tells whether the command line is to blame.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self.place, Some(Place::Flag(_)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let (Some(key), Some(Place::File { .. }) | None) = (self.key, &self.place) {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message.replace('\n', "\n  "))
    }
}

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The file to read.
    pub(crate) config: Option<PathBuf>,
    /// Values of keys.
    pub(crate) values: BTreeMap<&'static str, OsString>,
    /// Origins; any stand in place of all that other sources name.
    pub(crate) origins: Vec<OsString>,
}

/// The configuration in effect.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// See [`keys::KEYS`] for this and the rest.
    pub(crate) mountpoint: Option<PathBuf>,
    pub(crate) origins: Vec<NamedOrigin>,
    pub(crate) cache_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) template: Template,
    pub(crate) allow_other: bool,
    pub(crate) passthrough: bool,
    pub(crate) cache_size: ByteSize,
    pub(crate) cache_min_free: usize,
    pub(crate) cache_max_age: Duration,
    pub(crate) prefetch: bool,
    pub(crate) recheck_after: Duration,
    pub(crate) local_deadline: Duration,
    pub(crate) remote_deadline: Duration,
    /// How long an origin that was lost must answer before it is preferred again.
    pub(crate) failback_delay: Duration,
    pub(crate) drain_limit: Duration,
    pub(crate) log_level: LogLevel,
    pub(crate) log_format: LogFormat,
    pub(crate) scan_workers: usize,
    pub(crate) health_interval: Duration,
    pub(crate) rescan_interval: Duration,
    pub(crate) watch: bool,
    pub(crate) missing_grace: Duration,
    pub(crate) missing_max_age: Duration,
    sources: BTreeMap<&'static str, Source>,
}

impl Config {
    /// Reads all sources. Returns what is in effect, and all that is wrong.
    pub(crate) fn load(flags: &Flags, env: &Env) -> (Self, Vec<Problem>) {
        let mut loader = Loader::new(flags, env);
        loader.read_file();
        loader.check_variables();
        let places = DefaultDirs::of(env);
        let mountpoint = loader.optional(keys::MOUNTPOINT);
        let origins = loader.origins();
        let config = Self {
            mountpoint,
            origins,
            cache_dir: loader.value(keys::CACHE_DIR, places.cache),
            state_dir: loader.value(keys::STATE_DIR, places.state),
            runtime_dir: loader.value(keys::RUNTIME_DIR, places.runtime),
            template: loader.value(keys::TEMPLATE, Template::default()),
            allow_other: loader.value(keys::ALLOW_OTHER, false),
            passthrough: loader.value(keys::PASSTHROUGH, true),
            cache_size: loader.value(keys::CACHE_SIZE, ByteSize(0)),
            cache_min_free: loader.percent(keys::CACHE_MIN_FREE, CACHE_MIN_FREE),
            cache_max_age: loader.value(keys::CACHE_MAX_AGE, Duration::ZERO),
            prefetch: loader.value(keys::PREFETCH, true),
            recheck_after: loader.value(keys::RECHECK_AFTER, RECHECK_AFTER),
            local_deadline: loader.positive(keys::LOCAL_DEADLINE, LOCAL_DEADLINE),
            remote_deadline: loader.positive(keys::REMOTE_DEADLINE, REMOTE_DEADLINE),
            failback_delay: loader.value(keys::FAILBACK_DELAY, musicfs_origins::FAILBACK_DELAY),
            drain_limit: loader.value(keys::DRAIN_LIMIT, DRAIN_LIMIT),
            log_level: loader.value(keys::LOG_LEVEL, LogLevel::default()),
            log_format: loader.value(keys::LOG_FORMAT, LogFormat::default()),
            scan_workers: loader.value(keys::SCAN_WORKERS, 0),
            health_interval: loader.positive(keys::HEALTH_INTERVAL, HEALTH_INTERVAL),
            rescan_interval: loader.value(keys::RESCAN_INTERVAL, RESCAN_INTERVAL),
            watch: loader.value(keys::WATCH, true),
            missing_grace: loader.value(keys::MISSING_GRACE, MISSING_GRACE),
            missing_max_age: loader.value(keys::MISSING_MAX_AGE, Duration::ZERO),
            file: loader.path.clone(),
            sources: loader.sources,
        };
        (config, loader.problems)
    }

    /// Returns who set a key.
    pub(crate) fn source(&self, key: &'static str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }
}

/// Directories where no source names any.
struct DefaultDirs {
    cache: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
}

impl DefaultDirs {
    /// XDG's for a user, the system's for root without a home. The runtime directory of root is the system's in
    /// any case: a service and a shell have to find each other's mounts.
    fn of(env: &Env) -> Self {
        let of = |variable: &str, below_home: &str, system: &str| match (env.xdg(variable), env.home()) {
            (Some(dir), _) => dir.join("musicfs"),
            (None, Some(home)) => home.join(below_home).join("musicfs"),
            (None, None) if env.uid == 0 => PathBuf::from(system),
            (None, None) => PathBuf::from(format!("/var/tmp/musicfs-{}", env.uid)).join(below_home),
        };
        let runtime = match env.xdg("XDG_RUNTIME_DIR") {
            _ if env.uid == 0 => "/run/musicfs".into(),
            Some(dir) => dir.join("musicfs"),
            None => PathBuf::from(format!("/tmp/musicfs-{}", env.uid)),
        };
        Self {
            cache: of("XDG_CACHE_HOME", ".cache", "/var/cache/musicfs"),
            state: of("XDG_STATE_HOME", ".local/state", "/var/lib/musicfs"),
            runtime,
        }
    }
}

#[cfg(test)]
mod tests;
