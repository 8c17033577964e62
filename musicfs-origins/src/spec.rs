//! Origins as a configuration or a command line names them, and how they are built.
//!
//! * An [`OriginSpec`] is made from a table (`[[origins]]`) or from a URL or path; the two mean the same keys, so
//!   that a table may have a `url` and further keys beside it.
//! * [`build`] makes the origin, with all layers around it.
//!
//! # Invariants
//! * A spec holds no secret: only where one is found ([`SecretSource`]). It may be printed and logged. A URL with
//!   a password is refused, and so is a key that would hold one.
//! * Nothing is read from the environment here; whoever builds hands in an [`Environment`].
//! * An unknown key is an error that names the nearest known one.

mod address;
mod build;
mod keys;
mod kinds;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use musicfs_core::OriginId;
use serde::Deserialize;

pub use build::{BuiltOrigin, Environment, build};
pub use kinds::{LocalSpec, NfsSpec, OpendalSpec, OriginKind, S3Spec, SftpSpec, SmbSpec, WebSpec};
pub use secrets::{SecretCommand, SecretSource};

/// Priority of an origin that is given none; a lower number is preferred.
const DEFAULT_PRIORITY: u32 = 100;
/// Longest part of a name that an id made from it keeps.
const SLUG_MAX: usize = 24;
/// Longest id.
const ID_MAX: usize = 64;

/// Why an origin cannot be made of what was said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A key that no such origin has.
    #[error(
        "{kind} origins have no key '{key}'{}",
        nearest.as_ref().map_or(String::new(), |n| format!("; did you mean '{n}'?"))
    )]
    UnknownKey {
        /// The type of origin.
        kind: String,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: Option<String>,
    },
    /// A secret was written where it could be seen.
    #[error(
        "'{key}' is not written down here; say where it is found with {key}_env (a variable), {key}_file (a file) \
         or {key}_command (a command that prints it)"
    )]
    SecretInPlace {
        /// What it is.
        key: String,
    },
    /// A type of origin that nobody knows.
    #[error("there are no origins of type '{name}'; {hint}")]
    UnknownType {
        /// The type.
        name: String,
        /// The known type that is most like it, or all.
        hint: String,
    },
    /// A type of origin that this program was built without.
    #[error("this program was built without origins of type '{0}'")]
    NotBuiltIn(&'static str),
    /// A key that has to be there.
    #[error("{kind} origins need the key '{key}'")]
    Missing {
        /// The type of origin.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value that makes no sense.
    #[error("'{key}': {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// An address that makes no sense.
    #[error("'{url}' is not the address of an origin: {reason}")]
    Address {
        /// The address, without what may be a secret.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret cannot be had.
    #[error("{what} cannot be had from {from}")]
    Secret {
        /// What it is for: the key's name without its ending.
        what: &'static str,
        /// Where it should be.
        from: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that an origin needs cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The origin refuses its configuration.
    #[error("the origin '{id}' cannot be set up")]
    Origin {
        /// The origin.
        id: OriginId,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an origin is, where, and how it is to be used. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSpec {
    /// Its id: given, or made from its address.
    pub id: OriginId,
    /// Which of several copies is preferred: that of the origin with the lowest number.
    pub priority: u32,
    /// Calls at once; `None` for as many as the origin advises.
    pub concurrency: Option<usize>,
    /// Bytes per second; `None` for as many as come.
    pub bandwidth: Option<u64>,
    /// Time for a connection to be made.
    pub connect_timeout: Option<Duration>,
    /// Time until something comes of a call.
    pub read_timeout: Option<Duration>,
    /// What kind of origin it is.
    pub kind: OriginKind,
}

/// Keys that every origin has, beside `type` and `url`.
#[derive(Deserialize)]
struct Common {
    id: Option<String>,
    priority: Option<u32>,
    concurrency: Option<usize>,
    bandwidth: Option<keys::Bytes>,
    connect_timeout: Option<keys::Time>,
    read_timeout: Option<keys::Time>,
}

impl OriginSpec {
    /// Makes a spec without limits of its own, of the priority of those that are given none.
    pub fn new(id: OriginId, kind: OriginKind) -> Self {
        Self {
            id,
            priority: DEFAULT_PRIORITY,
            concurrency: None,
            bandwidth: None,
            connect_timeout: None,
            read_timeout: None,
            kind,
        }
    }

    /// Makes a spec of a table, such as one of `[[origins]]`. Relative paths of files are below `base`.
    ///
    /// The type is named by `type`, or follows from `url`.
    ///
    /// # Errors
    /// [`SpecError`] that names the key that is wrong.
    pub fn from_table(mut table: toml::Table, base: &Path) -> Result<Self, SpecError> {
        let mut text = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(keys::wrong(key, "it has to be text")),
        };
        let (mut kind, url) = (text("type")?, text("url")?);
        if let Some(url) = url {
            let (told, said) = address::parse(&url, kind.as_deref())?;
            if kind.get_or_insert(told.clone()) != &told {
                return Err(keys::wrong("type", format!("'url' is that of a {told} origin")));
            }
            for (key, value) in said {
                if table.get(&key).is_some_and(|given| *given != value) {
                    return Err(keys::wrong(&key, "'url' says something else"));
                }
                table.insert(key, value);
            }
        }
        let Some(kind) = kind else {
            return Err(keys::wrong("type", "it is missing, and there is no 'url' to tell it"));
        };
        let known = keys::fields::<Common>();
        let (common, own) = table.into_iter().partition(|(key, _)| known.contains(&key.as_str()));
        let common: Common = keys::read(common, &kind)?;
        let mut parsed = OriginKind::read(&kind, own)?;
        parsed.below(base);
        if common.concurrency == Some(0) {
            return Err(keys::wrong("concurrency", "it has to be at least 1"));
        }
        Ok(Self {
            id: common.id.map_or_else(|| Ok(parsed.derived_id()), |id| checked_id(&id))?,
            priority: common.priority.unwrap_or(DEFAULT_PRIORITY),
            concurrency: common.concurrency,
            bandwidth: common.bandwidth.map(|bytes| bytes.0),
            connect_timeout: common.connect_timeout.map(|time| time.0),
            read_timeout: common.read_timeout.map(|time| time.0),
            kind: parsed,
        })
    }

    /// Makes a spec of what a command line names: a URL, or a path of this machine, which is below `base` when it
    /// is relative.
    ///
    /// # Errors
    /// [`SpecError`] when it is neither.
    pub fn from_argument(argument: &str, base: &Path) -> Result<Self, SpecError> {
        let (kind, mut table) = address::parse_argument(argument)?;
        table.insert("type".into(), kind.into());
        Self::from_table(table, base)
    }
}

impl fmt::Display for OriginSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.kind.place())
    }
}

fn checked_id(id: &str) -> Result<OriginId, SpecError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > ID_MAX || !id.chars().all(legal) {
        let reason = format!("'{id}' has to be up to {ID_MAX} letters, digits, '-', '_' and '.'");
        return Err(keys::wrong("id", reason));
    }
    Ok(OriginId::from(id))
}

/// Makes an id of a name that is known again, and a hash of the place that tells two of a name apart.
pub fn derived_id(name: &str, place: &[u8]) -> OriginId {
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    let slug = slug.trim_end_matches('-');
    let hash = blake3::hash(place).to_hex();
    OriginId::from(format!("{}-{}", if slug.is_empty() { "music" } else { slug }, &hash[..6]))
}
