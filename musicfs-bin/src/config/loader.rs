//! Reading the sources of a configuration, one after the other, without stopping at what is wrong.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::origins::split_list;
use super::settings::{Base, Setting};
use super::{Flags, NamedOrigin, Place, Problem, SYSTEM_FILE, Source, file, keys};
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
            let message = "expected more than 0".to_owned();
            self.problems.push(Problem::of(&source, key, message));
        }
        value
    }

    pub(super) fn percent(&mut self, key: &'static str, default: usize) -> usize {
        let value = self.value(key, default);
        if value > 90 {
            let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
            let message = format!("expected 0 to 90 percent, found {value}");
            self.problems.push(Problem::of(&source, key, message));
            return default;
        }
        value
    }

    pub(super) fn origins(&mut self) -> Vec<NamedOrigin> {
        let mut found: Vec<(Source, Result<NamedOrigin, String>)> = Vec::new();
        let variable = "MUSICFS_ORIGINS";
        let named = |raw: &OsStr, place: Place| {
            let source = Source::Set(place);
            let origin = NamedOrigin::from_text(raw, self.base(&source), source.clone());
            (source, origin.map_err(|wrong| wrong.message))
        };
        if !self.flags.origins.is_empty() {
            found.extend(self.flags.origins.iter().map(|raw| named(raw, Place::Flag("--origin".into()))));
        } else if let Some(list) = self.env.get(variable) {
            let list = split_list(list);
            found.extend(list.iter().map(|raw| named(raw, Place::Variable(variable.into()))));
        } else {
            for entry in self.file.origins.take().unwrap_or_default() {
                let source = Source::Set(entry.place);
                match NamedOrigin::from_table(entry.table, self.base(&source), source.clone()) {
                    Ok(origin) => found.push((source, Ok(origin))),
                    Err(wrong) => {
                        let at = wrong.key.and_then(|key| entry.keys.get(&key).cloned());
                        found.push((at.map_or(source, Source::Set), Err(wrong.message)));
                    }
                }
            }
        }
        let mut origins: Vec<NamedOrigin> = Vec::new();
        for (source, origin) in found {
            self.sources.entry(keys::ORIGINS).or_insert_with(|| source.clone());
            match origin.and_then(|origin| unlike(origin, &origins)) {
                Ok(origin) => origins.push(origin),
                Err(message) => self.problems.push(Problem::of(&source, keys::ORIGINS, message)),
            }
        }
        // Stable: among equals, the first named is preferred.
        origins.sort_by_key(|origin| origin.spec.priority);
        origins
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
fn unlike(origin: NamedOrigin, before: &[NamedOrigin]) -> Result<NamedOrigin, String> {
    let place = origin.place();
    match before.iter().find(|other| other.place() == place || other.id() == origin.id()) {
        Some(other) if other.place() == place => Err(format!("the origin {place} is named twice")),
        Some(other) => Err(format!(
            "the id '{}' is that of {} already; give {place} another with id = \"…\"",
            origin.id(),
            other.place(),
        )),
        None => Ok(origin),
    }
}
