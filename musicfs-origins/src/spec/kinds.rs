//! The kinds of origins, and the keys of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use musicfs_core::OriginId;
use serde::Deserialize;
use toml::{Table, Value};

use super::secrets::{SecretCommand, SecretSource};
use super::{SpecError, derived_id, keys};

/// Types of origins with keys of their own.
const OWN: [&str; 7] = ["local", "s3", "webdav", "http", "sftp", "smb", "nfs"];
/// Services that opendal reaches, whose keys are opendal's.
pub(super) const SERVICES: [&str; 16] = [
    "azblob",
    "azdls",
    "azfile",
    "b2",
    "cos",
    "dropbox",
    "gcs",
    "gdrive",
    "koofr",
    "obs",
    "onedrive",
    "oss",
    "pcloud",
    "seafile",
    "swift",
    "yandex-disk",
];
/// All types.
pub(super) const TYPES: [&str; OWN.len() + SERVICES.len()] = {
    let mut all = [""; OWN.len() + SERVICES.len()];
    let mut n = 0;
    while n < all.len() {
        all[n] = if n < OWN.len() { OWN[n] } else { SERVICES[n - OWN.len()] };
        n += 1;
    }
    all
};
/// Endings of keys of opendal's services that hold secrets.
const SECRET_ENDINGS: [&str; 6] = ["password", "secret", "secret_id", "token", "key", "credential"];

/// What kind of origin it is, with the keys of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginKind {
    /// A folder of this machine.
    Local(LocalSpec),
    /// A bucket of an S3 service.
    S3(S3Spec),
    /// A WebDAV share.
    Webdav(WebSpec),
    /// Directory indexes of a web server.
    Http(WebSpec),
    /// A folder of an SSH server.
    Sftp(SftpSpec),
    /// A share of an SMB server.
    Smb(SmbSpec),
    /// An export of an NFS server.
    Nfs(NfsSpec),
    /// Another service, through opendal.
    Opendal(OpendalSpec),
}

/// Keys of a `local` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSpec {
    /// The folder.
    pub path: PathBuf,
}

#[derive(Deserialize)]
struct LocalKeys {
    path: Option<String>,
}

/// Keys of an `s3` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Spec {
    /// The bucket.
    pub bucket: String,
    /// The folder in the bucket that is the origin's root.
    pub prefix: String,
    /// URL of the service; Amazon's without.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Whether the bucket is part of the host's name.
    pub virtual_host: bool,
    /// Whether the one who asks pays.
    pub request_payer: bool,
    /// Whether to ask as anybody.
    pub anonymous: bool,
    /// Profile of Amazon's configuration files.
    pub profile: Option<String>,
    /// Id of the key to sign with, which is no secret.
    pub access_key_id: Option<String>,
    /// Where the key is found.
    pub secret_access_key: Option<SecretSource>,
    /// Where the token is found that proves a key lent for a while.
    pub session_token: Option<SecretSource>,
    /// Certificates of authorities (PEM) trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// URL of a proxy.
    pub proxy: Option<String>,
}

#[derive(Deserialize)]
struct S3Keys {
    bucket: Option<String>,
    prefix: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    virtual_host: Option<bool>,
    request_payer: Option<bool>,
    anonymous: Option<bool>,
    profile: Option<String>,
    access_key_id: Option<String>,
    secret_access_key_env: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    secret_access_key_command: Option<SecretCommand>,
    session_token_env: Option<String>,
    session_token_file: Option<PathBuf>,
    session_token_command: Option<SecretCommand>,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
}

/// Keys of a `webdav` or `http` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSpec {
    /// URL of the root folder, of `http` or `https`.
    pub url: String,
    /// The user's name.
    pub username: Option<String>,
    /// Where the user's password is found.
    pub password: Option<SecretSource>,
    /// Where a bearer's token is found, in place of name and password.
    pub token: Option<SecretSource>,
    /// Certificates of authorities (PEM) trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// URL of a proxy.
    pub proxy: Option<String>,
}

#[derive(Deserialize)]
struct WebKeys {
    url: Option<String>,
    username: Option<String>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    password_command: Option<SecretCommand>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    token_command: Option<SecretCommand>,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
}

/// Keys of an `sftp` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpSpec {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// Whom to log in as; the user who runs the program without.
    pub user: Option<String>,
    /// The folder; a relative one is below the user's own.
    pub path: String,
    /// The user's private key; without, those in `~/.ssh` of the usual names.
    pub key_file: Option<PathBuf>,
    /// Where the passphrase of the key is found.
    pub passphrase: Option<SecretSource>,
    /// Where the user's password is found.
    pub password: Option<SecretSource>,
    /// Whether to ask the agent for keys; by default when there is one.
    pub agent: Option<bool>,
    /// File of known host keys; without, the user's and the system's.
    pub known_hosts: Option<PathBuf>,
}

#[derive(Deserialize)]
struct SftpKeys {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    path: Option<String>,
    key_file: Option<PathBuf>,
    passphrase_env: Option<String>,
    passphrase_file: Option<PathBuf>,
    passphrase_command: Option<SecretCommand>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    password_command: Option<SecretCommand>,
    agent: Option<bool>,
    known_hosts: Option<PathBuf>,
}

/// Keys of an `smb` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbSpec {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// The share.
    pub share: String,
    /// The folder in the share.
    pub path: String,
    /// The user; a guest without.
    pub user: Option<String>,
    /// The user's domain.
    pub domain: Option<String>,
    /// Where the user's password is found.
    pub password: Option<SecretSource>,
}

#[derive(Deserialize)]
struct SmbKeys {
    host: Option<String>,
    port: Option<u16>,
    share: Option<String>,
    path: Option<String>,
    user: Option<String>,
    domain: Option<String>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    password_command: Option<SecretCommand>,
}

/// Keys of an `nfs` origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsSpec {
    /// Name or address of the server.
    pub host: String,
    /// The exported folder.
    pub export: String,
    /// Port of NFS; the server's port mapper is asked without.
    pub port: Option<u16>,
    /// Port of the mount protocol; `port`, if that is given, or else the port mapper is asked.
    pub mount_port: Option<u16>,
    /// As which user to ask.
    pub uid: Option<u32>,
    /// As which group.
    pub gid: Option<u32>,
}

#[derive(Deserialize)]
struct NfsKeys {
    host: Option<String>,
    export: Option<String>,
    port: Option<u16>,
    mount_port: Option<u16>,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Keys of an origin through opendal, whose names are opendal's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpendalSpec {
    /// The service.
    pub service: &'static str,
    /// Its options that are no secrets.
    pub options: BTreeMap<String, String>,
    /// Where its options that are secrets are found.
    pub secrets: BTreeMap<String, SecretSource>,
}

fn need(kind: &'static str, key: &'static str, value: Option<String>) -> Result<String, SpecError> {
    value.filter(|text| !text.is_empty()).ok_or(SpecError::Missing { kind, key })
}

impl OriginKind {
    /// Reads the keys of one kind.
    pub(super) fn read(kind: &str, table: Table) -> Result<Self, SpecError> {
        use SecretSource as Secret;
        Ok(match kind {
            "local" => {
                let k: LocalKeys = keys::read(table, kind)?;
                Self::Local(LocalSpec { path: need("local", "path", k.path)?.into() })
            }
            "s3" => {
                let k: S3Keys = keys::read(table, kind)?;
                Self::S3(S3Spec {
                    bucket: need("s3", "bucket", k.bucket)?,
                    prefix: k.prefix.unwrap_or_default(),
                    endpoint: k.endpoint,
                    region: k.region,
                    virtual_host: k.virtual_host.unwrap_or_default(),
                    request_payer: k.request_payer.unwrap_or_default(),
                    anonymous: k.anonymous.unwrap_or_default(),
                    profile: k.profile,
                    access_key_id: k.access_key_id,
                    secret_access_key: Secret::one_of(
                        "secret_access_key",
                        k.secret_access_key_env,
                        k.secret_access_key_file,
                        k.secret_access_key_command,
                    )?,
                    session_token: Secret::one_of(
                        "session_token",
                        k.session_token_env,
                        k.session_token_file,
                        k.session_token_command,
                    )?,
                    ca_file: k.ca_file,
                    proxy: k.proxy,
                })
            }
            "webdav" | "http" => {
                let named = if kind == "http" { "http" } else { "webdav" };
                let k: WebKeys = keys::read(table, kind)?;
                let spec = WebSpec {
                    url: need(named, "url", k.url)?,
                    username: k.username,
                    password: Secret::one_of(
                        "password",
                        k.password_env,
                        k.password_file,
                        k.password_command,
                    )?,
                    token: Secret::one_of("token", k.token_env, k.token_file, k.token_command)?,
                    ca_file: k.ca_file,
                    proxy: k.proxy,
                };
                if kind == "http" { Self::Http(spec) } else { Self::Webdav(spec) }
            }
            "sftp" => {
                let k: SftpKeys = keys::read(table, kind)?;
                Self::Sftp(SftpSpec {
                    host: need("sftp", "host", k.host)?,
                    port: k.port,
                    user: k.user,
                    path: k.path.unwrap_or_default(),
                    key_file: k.key_file,
                    passphrase: Secret::one_of(
                        "passphrase",
                        k.passphrase_env,
                        k.passphrase_file,
                        k.passphrase_command,
                    )?,
                    password: Secret::one_of(
                        "password",
                        k.password_env,
                        k.password_file,
                        k.password_command,
                    )?,
                    agent: k.agent,
                    known_hosts: k.known_hosts,
                })
            }
            "smb" => {
                let k: SmbKeys = keys::read(table, kind)?;
                Self::Smb(SmbSpec {
                    host: need("smb", "host", k.host)?,
                    port: k.port,
                    share: need("smb", "share", k.share)?,
                    path: k.path.unwrap_or_default(),
                    user: k.user,
                    domain: k.domain,
                    password: Secret::one_of(
                        "password",
                        k.password_env,
                        k.password_file,
                        k.password_command,
                    )?,
                })
            }
            "nfs" => {
                let k: NfsKeys = keys::read(table, kind)?;
                Self::Nfs(NfsSpec {
                    host: need("nfs", "host", k.host)?,
                    export: need("nfs", "export", k.export)?,
                    port: k.port,
                    mount_port: k.mount_port,
                    uid: k.uid,
                    gid: k.gid,
                })
            }
            other => match SERVICES.iter().find(|service| **service == other) {
                Some(service) => Self::Opendal(opendal(service, table)?),
                None => return Err(keys::unknown_type(other, &TYPES)),
            },
        })
    }

    /// Makes relative paths of files of this machine ones below `base`.
    pub(super) fn below(&mut self, base: &Path) {
        let (paths, secrets): (Vec<&mut PathBuf>, Vec<&mut SecretSource>) = match self {
            Self::Local(spec) => (vec![&mut spec.path], Vec::new()),
            Self::S3(spec) => (
                spec.ca_file.iter_mut().collect(),
                spec.secret_access_key.iter_mut().chain(&mut spec.session_token).collect(),
            ),
            Self::Webdav(spec) | Self::Http(spec) => {
                (spec.ca_file.iter_mut().collect(), spec.password.iter_mut().chain(&mut spec.token).collect())
            }
            Self::Sftp(spec) => (
                spec.key_file.iter_mut().chain(&mut spec.known_hosts).collect(),
                spec.passphrase.iter_mut().chain(&mut spec.password).collect(),
            ),
            Self::Smb(spec) => (Vec::new(), spec.password.iter_mut().collect()),
            Self::Nfs(_) => (Vec::new(), Vec::new()),
            Self::Opendal(spec) => (Vec::new(), spec.secrets.values_mut().collect()),
        };
        for path in paths {
            *path = base.join(&*path);
        }
        for secret in secrets {
            secret.below(base);
        }
    }

    /// Returns the type's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::S3(_) => "s3",
            Self::Webdav(_) => "webdav",
            Self::Http(_) => "http",
            Self::Sftp(_) => "sftp",
            Self::Smb(_) => "smb",
            Self::Nfs(_) => "nfs",
            Self::Opendal(spec) => spec.service,
        }
    }

    /// Returns where the origin is, in words that are the same for the same place.
    pub fn place(&self) -> String {
        let port = |port: Option<u16>| port.map_or(String::new(), |port| format!(":{port}"));
        match self {
            Self::Local(spec) => spec.path.display().to_string(),
            Self::S3(spec) => {
                let at = spec.endpoint.as_ref().map_or(String::new(), |url| format!(" at {url}"));
                format!("s3://{}/{}{at}", spec.bucket, spec.prefix)
            }
            Self::Webdav(spec) => format!("webdav+{}", spec.url),
            Self::Http(spec) => spec.url.clone(),
            Self::Sftp(spec) => {
                let user = spec.user.as_ref().map_or(String::new(), |user| format!("{user}@"));
                let path =
                    if spec.path.starts_with('/') { spec.path.clone() } else { format!("/~/{}", spec.path) };
                format!("sftp://{user}{}{}{path}", spec.host, port(spec.port))
            }
            Self::Smb(spec) => {
                format!("smb://{}{}/{}/{}", spec.host, port(spec.port), spec.share, spec.path)
            }
            Self::Nfs(spec) => format!("nfs://{}{}{}", spec.host, port(spec.port), spec.export),
            Self::Opendal(spec) => {
                let options: Vec<_> =
                    spec.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{}:{}", spec.service, options.join(","))
            }
        }
    }

    /// Makes an id of the place.
    pub(super) fn derived_id(&self) -> OriginId {
        let last = |text: &str| text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let name = match self {
            Self::Local(spec) => spec.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::S3(spec) => spec.bucket.clone(),
            Self::Webdav(spec) | Self::Http(spec) => last(&spec.url),
            Self::Sftp(spec) => spec.host.clone(),
            Self::Smb(spec) => spec.share.clone(),
            Self::Nfs(spec) => last(&spec.export),
            Self::Opendal(spec) => spec.service.to_owned(),
        };
        derived_id(&name, self.place().as_bytes())
    }
}

fn opendal(service: &'static str, table: Table) -> Result<OpendalSpec, SpecError> {
    let mut spec = OpendalSpec { service, options: BTreeMap::new(), secrets: BTreeMap::new() };
    for (key, value) in table {
        let text = match value {
            Value::String(text) => text,
            Value::Boolean(b) => b.to_string(),
            Value::Integer(n) => n.to_string(),
            _ => return Err(keys::wrong(&key, "it has to be text")),
        };
        let source = if let Some(what) = key.strip_suffix("_env") {
            Some((what, SecretSource::Env(text.clone())))
        } else if let Some(what) = key.strip_suffix("_file") {
            Some((what, SecretSource::File(text.clone().into())))
        } else {
            key.strip_suffix("_command")
                .map(|what| (what, SecretSource::Command(SecretCommand::Line(text.clone()))))
        };
        match source {
            Some((what, source)) => {
                if spec.secrets.insert(what.to_owned(), source).is_some() {
                    return Err(keys::wrong(what, "it is to come from one place: _env, _file or _command"));
                }
            }
            None if SECRET_ENDINGS.iter().any(|ending| key.ends_with(ending)) => {
                return Err(SpecError::SecretInPlace { key });
            }
            None => {
                spec.options.insert(key, text);
            }
        }
    }
    Ok(spec)
}
