//! The configuration: what is set, by whom, and what is wrong with it.
//!
//! Every key has four sources, the first that sets it wins: a flag, a variable `MUSICFS_*`, the file, the
//! default. All that is wrong is reported at once, each with its place; what is not wrong still has its value, so
//! that commands which need only a part (where the control sockets are) work beside a broken rest.
//!
//! Loading reads the file and resolves symbolic links of origins' paths; whether paths make sense is checked
//! apart ([`check`]). No key holds a secret: origins that need one are not known to this build.

pub(crate) mod check;
mod file;
pub(crate) mod keys;
mod origins;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::Template;

pub(crate) use origins::{OriginSpec, blake3_hex};
use settings::{Base, Setting};
pub(crate) use settings::{LogFormat, LogLevel};
pub(crate) use show::KeyShown;

use crate::env::Env;

/// Wait for a read from a local disk: far beyond a disk that spins up from sleep is broken.
const LOCAL_DEADLINE: Duration = Duration::from_secs(5);
/// Wait for a read over a network: players give up at about this time themselves.
const REMOTE_DEADLINE: Duration = Duration::from_secs(30);
/// Wait for open requests when stopping: well below the 90 s after which systemd kills.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Time between rescans: soon enough for a new album, rare enough to let disks sleep.
const RESCAN_INTERVAL: Duration = Duration::from_secs(300);
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

    fn of(source: &Source, key: &'static str, message: String) -> Self {
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
    pub(crate) origins: Vec<OriginSpec>,
    pub(crate) cache_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) template: Template,
    pub(crate) allow_other: bool,
    pub(crate) passthrough: bool,
    pub(crate) local_deadline: Duration,
    pub(crate) remote_deadline: Duration,
    pub(crate) drain_limit: Duration,
    pub(crate) log_level: LogLevel,
    pub(crate) log_format: LogFormat,
    pub(crate) scan_workers: usize,
    pub(crate) rescan_interval: Duration,
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
            local_deadline: loader.positive(keys::LOCAL_DEADLINE, LOCAL_DEADLINE),
            remote_deadline: loader.positive(keys::REMOTE_DEADLINE, REMOTE_DEADLINE),
            drain_limit: loader.value(keys::DRAIN_LIMIT, DRAIN_LIMIT),
            log_level: loader.value(keys::LOG_LEVEL, LogLevel::default()),
            log_format: loader.value(keys::LOG_FORMAT, LogFormat::default()),
            scan_workers: loader.value(keys::SCAN_WORKERS, 0),
            rescan_interval: loader.value(keys::RESCAN_INTERVAL, RESCAN_INTERVAL),
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

/// A value with who set it and what its paths start from.
struct Raw {
    text: OsString,
    source: Source,
    /// Type in the file, when it is from the file.
    file: Option<file::Value>,
}

struct Loader<'a> {
    flags: &'a Flags,
    env: &'a Env,
    path: Option<PathBuf>,
    file: file::File,
    sources: BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
}

impl<'a> Loader<'a> {
    fn new(flags: &'a Flags, env: &'a Env) -> Self {
        Self {
            flags,
            env,
            path: None,
            file: file::File::default(),
            sources: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// Reads the file that is named, or the usual one when it exists.
    fn read_file(&mut self) {
        let named = match (&self.flags.config, self.env.get("MUSICFS_CONFIG")) {
            (Some(path), _) => Some((path.clone(), Place::Flag("--config".into()))),
            (None, Some(path)) => Some((path.into(), Place::Variable("MUSICFS_CONFIG".into()))),
            (None, None) => None,
        };
        let (path, place) = match named {
            Some((path, place)) => match crate::paths::absolute(&path, &self.env.cwd, self.env.home()) {
                Ok(path) => (path, Some(place)),
                Err(message) => return self.problems.push(Problem::at(place, message)),
            },
            None => (self.usual_file(), None),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                self.file = file::parse(&path, &text, &mut self.problems);
                self.path = Some(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.is_none() => {}
            Err(error) => {
                let message = format!("cannot read the configuration {}: {error}", path.display());
                self.problems.push(Problem { place, key: None, message });
            }
        }
    }

    fn usual_file(&self) -> PathBuf {
        match (self.env.xdg("XDG_CONFIG_HOME"), self.env.home()) {
            (Some(dir), _) => dir.join("musicfs/config.toml"),
            (None, Some(home)) => home.join(".config/musicfs/config.toml"),
            (None, None) => SYSTEM_FILE.into(),
        }
    }

    /// A variable that is nearly a key is a mistake that nothing else would tell of.
    fn check_variables(&mut self) {
        let known: Vec<String> = keys::KEYS.iter().map(keys::Key::variable).collect();
        for name in self.env.names_with_prefix(keys::PREFIX) {
            if known.iter().any(|k| k == name) || keys::OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let near = known.iter().find(|known| strsim::damerau_levenshtein(known, name) <= 2);
            if let Some(near) = near {
                let message = format!("no such key; did you mean '{near}'?");
                self.problems.push(Problem::at(Place::Variable(name.to_owned()), message));
            }
        }
    }

    /// Returns what the first source that sets a key says.
    fn raw(&self, key: &'static str) -> Option<Raw> {
        let raw = |text: &OsStr, place| Raw { text: text.to_owned(), source: Source::Set(place), file: None };
        let spec = keys::find(key)?;
        if let Some(text) = self.flags.values.get(key) {
            return Some(raw(text, Place::Flag(spec.flag())));
        }
        let variable = spec.variable();
        if let Some(text) = self.env.get(&variable) {
            return Some(raw(text, Place::Variable(variable)));
        }
        let (_, value) = self.file.values.iter().find(|(name, _)| *name == key)?;
        Some(Raw { file: Some(value.clone()), ..raw(&value.text, value.place.clone()) })
    }

    fn base(&self, source: &Source) -> Base<'_> {
        let dir = match (source, &self.path) {
            (Source::Set(Place::File { .. }), Some(path)) => path.parent().unwrap_or(Path::new("/")),
            _ => &self.env.cwd,
        };
        Base { dir, home: self.env.home() }
    }

    fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        let raw = self.raw(key)?;
        let value = match typed::<T>(raw.file.as_ref()) {
            Ok(()) => T::read(&raw.text, self.base(&raw.source)),
            Err(message) => Err(message),
        };
        let value = match value {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems.push(Problem::of(&raw.source, key, message));
                None
            }
        };
        self.sources.insert(key, raw.source);
        value
    }

    fn value<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    fn positive(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.value(key, default);
        if value.is_zero() {
            let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
            let message = "a deadline of zero would fail every read".to_owned();
            self.problems.push(Problem::of(&source, key, message));
        }
        value
    }

    fn origins(&mut self) -> Vec<OriginSpec> {
        let mut found: Vec<(Source, Result<OriginSpec, String>)> = Vec::new();
        let variable = "MUSICFS_ORIGINS";
        if !self.flags.origins.is_empty() {
            let source = Source::Set(Place::Flag("--origin".into()));
            for raw in &self.flags.origins {
                found.push((source.clone(), OriginSpec::from_text(raw, self.base(&source), source.clone())));
            }
        } else if let Some(list) = self.env.get(variable) {
            let source = Source::Set(Place::Variable(variable.into()));
            for raw in std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()) {
                let spec = OriginSpec::from_text(raw.as_os_str(), self.base(&source), source.clone());
                found.push((source.clone(), spec));
            }
        } else {
            for (place, values) in self.file.origins.take().unwrap_or_default() {
                let source = Source::Set(place);
                let spec = self.origin_of_file(&values, &source);
                found.push((source, spec));
            }
        }
        let mut origins: Vec<OriginSpec> = Vec::new();
        for (source, spec) in found {
            self.sources.entry(keys::ORIGINS).or_insert_with(|| source.clone());
            match spec.and_then(|spec| unlike(spec, &origins)) {
                Ok(spec) => origins.push(spec),
                Err(message) => self.problems.push(Problem::of(&source, keys::ORIGINS, message)),
            }
        }
        // Stable: among equals, the first named is preferred.
        origins.sort_by_key(|origin| origin.priority);
        origins
    }

    fn origin_of_file(
        &self,
        values: &[(&'static str, file::Value)],
        source: &Source,
    ) -> Result<OriginSpec, String> {
        let base = self.base(source);
        let get = |name: &str| values.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        let text = |name: &str| -> Result<Option<&OsStr>, String> {
            let Some(value) = get(name) else { return Ok(None) };
            typed::<PathBuf>(Some(value)).map_err(|message| format!("{name}: {message}"))?;
            Ok(Some(value.text.as_os_str()))
        };
        let priority = match get("priority") {
            Some(value) => {
                let read = typed::<usize>(Some(value)).and_then(|()| usize::read(&value.text, base));
                Some(read.map_err(|message| format!("priority: {message}"))?)
            }
            None => None,
        };
        OriginSpec::from_parts(text("id")?, text("type")?, text("path")?, priority, base, source.clone())
    }
}

/// Checks the type that the file has a value in.
fn typed<T: Setting>(value: Option<&file::Value>) -> Result<(), String> {
    match value {
        Some(value) if value.toml != Some(T::TOML) => {
            Err(format!("expected {}, found a TOML {}", T::TOML, value.type_name))
        }
        _ => Ok(()),
    }
}

/// Refuses an origin that is one of those before it.
fn unlike(spec: OriginSpec, before: &[OriginSpec]) -> Result<OriginSpec, String> {
    match before.iter().find(|other| other.path == spec.path || other.id == spec.id) {
        Some(other) if other.path == spec.path => {
            Err(format!("the directory {} is named twice", spec.path.display()))
        }
        Some(other) => Err(format!(
            "the id '{}' is that of {} already; give {} another with id = \"…\"",
            spec.id,
            other.path.display(),
            spec.path.display()
        )),
        None => Ok(spec),
    }
}

#[cfg(test)]
mod tests;
