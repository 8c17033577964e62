//! Reading the sources of a configuration, one after the other, without stopping at what is wrong.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{Base, Setting};
use super::{Flags, OriginSpec, Place, Problem, SYSTEM_FILE, Source, file, keys};
use crate::env::Env;

/// A value with who set it and what its paths start from.
struct Raw {
    text: OsString,
    source: Source,
    /// Type in the file, when it is from the file.
    file: Option<file::Value>,
}

pub(super) struct Loader<'a> {
    flags: &'a Flags,
    env: &'a Env,
    pub(super) path: Option<PathBuf>,
    file: file::File,
    pub(super) sources: BTreeMap<&'static str, Source>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(flags: &'a Flags, env: &'a Env) -> Self {
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
    pub(super) fn read_file(&mut self) {
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
    pub(super) fn check_variables(&mut self) {
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

    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
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

    pub(super) fn value<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    pub(super) fn positive(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.value(key, default);
        if value.is_zero() {
            let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
            let message = "a deadline of zero would fail every read".to_owned();
            self.problems.push(Problem::of(&source, key, message));
        }
        value
    }

    pub(super) fn origins(&mut self) -> Vec<OriginSpec> {
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
