//! Connecting, knowing the server, and logging in.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::OriginErrorKind;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};
use russh::{ChannelReadHalf, ChannelWriteHalf, MethodKind};

use super::known_hosts::{self, KnownHost, Verdict};
use super::{SftpAuth, SftpConfig};
use crate::wire::{self, Failure};

/// Bytes that the server may send before we say that there is room: enough for 80 MB/s at 200 ms. It is filled
/// only as far as reads are in flight.
const WINDOW: u32 = 16 << 20;
/// Longest SSH packet: russh complains of longer ones.
const PACKET: u32 = (64 << 10) - 1;
/// Packets kept for a reader that is behind, before TCP is held up.
const QUEUE: usize = 64;
/// Silence after which the server is asked whether it is still there; three unanswered end the connection.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Largest key or known_hosts file that is read.
const MAX_FILE: u64 = 4 << 20;

/// The receiving end of a session's channel.
pub(super) type Receiving = ChannelReadHalf;
/// The sending end of a session's channel.
pub(super) type Sending = ChannelWriteHalf<client::Msg>;

/// A session with the SFTP server behind it.
pub(super) struct Session {
    /// Keeps the connection open.
    pub(super) handle: Handle<Guard>,
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    /// The server's key, as `SHA256:…`.
    pub(super) fingerprint: String,
}

/// What may go wrong before there is a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// The server's key is not on record.
    #[error(
        "the host key of {host} is not known, so that it is not trusted. Its fingerprint is {fingerprint}. \
         If that is right, add this line to {file}:\n{line}"
    )]
    UnknownHost { host: String, fingerprint: String, file: String, line: String },
    /// Another key is on record.
    #[error(
        "THE HOST KEY OF {host} HAS CHANGED: it is not the one in {file} line {line}. Someone may be listening in, \
         or the server was installed anew. Its fingerprint is now {fingerprint}. Nothing was sent to it. Only \
         when that fingerprint is right, remove the line and add the new key"
    )]
    ChangedHost { host: String, fingerprint: String, file: String, line: usize },
    /// The key is on record as revoked.
    #[error("THE HOST KEY OF {host} IS REVOKED by {file} line {line}. Nothing was sent to it")]
    RevokedHost { host: String, file: String, line: usize },
    /// SSH itself.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let kind = match &error {
            LoginError::UnknownHost { .. }
            | LoginError::ChangedHost { .. }
            | LoginError::RevokedHost { .. } => OriginErrorKind::Denied,
            LoginError::Ssh(error) => kind_of(error),
        };
        Failure::lost(kind, error)
    }
}

/// Sorts SSH's errors.
fn kind_of(error: &russh::Error) -> OriginErrorKind {
    use russh::Error as E;
    match error {
        E::NoAuthMethod | E::UnsupportedAuthMethod | E::NotAuthenticated | E::WrongServerSig => {
            OriginErrorKind::Denied
        }
        E::NoCommonAlgo { .. } | E::Version => OriginErrorKind::Unsupported,
        E::ConnectionTimeout | E::KeepaliveTimeout | E::InactivityTimeout | E::Elapsed(_) => {
            OriginErrorKind::TimedOut
        }
        E::IO(error) if error.kind() == std::io::ErrorKind::TimedOut => OriginErrorKind::TimedOut,
        E::PacketAuth | E::PacketSize(_) | E::DecryptionError => OriginErrorKind::Corrupt,
        _ => OriginErrorKind::Unavailable,
    }
}

fn ssh(error: russh::Error) -> Failure {
    LoginError::Ssh(error).into()
}

/// Watches over the server's key.
pub(super) struct Guard {
    host: String,
    port: u16,
    file: String,
    known: KnownHost,
    fingerprint: Arc<parking_lot::Mutex<String>>,
}

impl client::Handler for Guard {
    type Error = LoginError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, LoginError> {
        // No certificate is asked for, so that none can come.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let host = self.host.clone();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        match self.known.judge(key) {
            Verdict::Known => {
                *self.fingerprint.lock() = fingerprint;
                Ok(true)
            }
            Verdict::Unknown => {
                let line = known_hosts::line_for(&self.host, self.port, key);
                Err(LoginError::UnknownHost { host, fingerprint, file: self.file.clone(), line })
            }
            Verdict::Changed { file, line } => Err(LoginError::ChangedHost { host, fingerprint, file, line }),
            Verdict::Revoked { file, line } => Err(LoginError::RevokedHost { host, file, line }),
        }
    }
}

/// Connects, checks the server's key, logs in and starts the SFTP server.
///
/// Cancel safe: what was begun is dropped.
pub(super) async fn login(config: &SftpConfig, names: &wire::Names) -> Result<Session, Failure> {
    let known = known_host(config).await?;
    let stream = wire::connect((&config.host, config.port), names, &*config.clock, false).await?;
    let fingerprint = Arc::default();
    let guard = Guard {
        host: config.host.clone(),
        port: config.port,
        file: config.known_hosts.first().map(|file| file.display().to_string()).unwrap_or_default(),
        fingerprint: Arc::clone(&fingerprint),
        known,
    };
    let settings = Arc::new(settings(&guard.known));
    let mut handle = client::connect_stream(settings, stream, guard).await?;
    authenticate(&mut handle, config).await?;
    let channel = handle.channel_open_session().await.map_err(ssh)?;
    channel.request_subsystem(false, "sftp").await.map_err(ssh)?;
    let (receiving, sending) = channel.split();
    let fingerprint = fingerprint.lock().clone();
    Ok(Session { handle, receiving, sending, fingerprint })
}

fn settings(known: &KnownHost) -> client::Config {
    let mut settings = client::Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: QUEUE,
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        ..client::Config::default()
    };
    // The kinds of key on record come first, so that a server with several keys shows one that is known.
    let on_record = known.algorithms();
    let mut kinds = settings.preferred.key.to_vec();
    kinds.sort_by_key(|kind| {
        !on_record.iter().any(|known| {
            known == kind || matches!((known, kind), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
        })
    });
    settings.preferred.key = Cow::Owned(kinds);
    settings
}

async fn known_host(config: &SftpConfig) -> Result<KnownHost, Failure> {
    let mut files = Vec::new();
    for path in &config.known_hosts {
        match read_file(path.clone()).await {
            Ok(text) => files.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned())),
            // Whoever has logged in nowhere has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let why = format!("{} cannot be read: {error}", path.display());
                return Err(Failure::lost(OriginErrorKind::Denied, why));
            }
        }
    }
    Ok(KnownHost::find(&files, &config.host, config.port))
}

/// Reads a small file where blocking is allowed.
async fn read_file(path: PathBuf) -> std::io::Result<Vec<u8>> {
    let read = move || {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

/// Tries the ways to log in one after the other.
async fn authenticate(handle: &mut Handle<Guard>, config: &SftpConfig) -> Result<(), Failure> {
    let mut tried = Vec::new();
    for way in &config.auth {
        let done = match way {
            SftpAuth::Password(password) => {
                tried.push("password".to_owned());
                with_password(handle, &config.user, password.expose()).await?
            }
            SftpAuth::Key { path, passphrase } => {
                let passphrase = passphrase.as_ref().map(|p| p.expose().to_owned());
                match load_key(path, passphrase).await {
                    Ok(key) => {
                        tried.push(format!("key {}", path.display()));
                        with_key(handle, &config.user, key).await?
                    }
                    Err(why) => {
                        tried.push(why);
                        false
                    }
                }
            }
            SftpAuth::Agent { socket } => match AgentClient::connect_uds(socket).await {
                Ok(mut agent) => with_agent(handle, &config.user, &mut agent, &mut tried).await?,
                Err(error) => {
                    tried.push(format!("agent {}, which cannot be asked: {error}", socket.display()));
                    false
                }
            },
        };
        if done {
            return Ok(());
        }
        if handle.is_closed() {
            break;
        }
    }
    let tried = if tried.is_empty() { "nothing".to_owned() } else { tried.join("; ") };
    let next = "look at the user and the password, or have the key added to authorized_keys there";
    let why = format!("{} refuses to log in {}. Tried: {tried}; {next}", config.host, config.user);
    Err(Failure::lost(OriginErrorKind::Denied, why))
}

async fn load_key(path: &Path, passphrase: Option<String>) -> Result<russh::keys::PrivateKey, String> {
    let shown = path.display().to_string();
    let path = path.to_owned();
    // Slow by design where there is a passphrase.
    let load = move || load_secret_key(path, passphrase.as_deref());
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(russh::keys::Error::KeyIsEncrypted)) => Err(format!("key {shown}, which needs a passphrase")),
        Ok(Err(error)) => Err(format!("key {shown}, which cannot be read: {error}")),
        Err(error) => Err(format!("key {shown}, which cannot be read: {error}")),
    }
}

async fn with_key(
    handle: &mut Handle<Guard>,
    user: &str,
    key: russh::keys::PrivateKey,
) -> Result<bool, Failure> {
    let hash = rsa_hash(handle, key.public_key()).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    Ok(handle.authenticate_publickey(user, key).await.map_err(ssh)?.success())
}

/// Returns the hash that the server wants RSA signatures with.
async fn rsa_hash(handle: &Handle<Guard>, key: &PublicKey) -> Result<Option<HashAlg>, Failure> {
    if !key.algorithm().is_rsa() {
        return Ok(None);
    }
    let best = handle.best_supported_rsa_hash().await.map_err(ssh)?;
    Ok(best.unwrap_or(Some(HashAlg::Sha256)))
}

async fn with_agent(
    handle: &mut Handle<Guard>,
    user: &str,
    agent: &mut AgentClient<tokio::net::UnixStream>,
    tried: &mut Vec<String>,
) -> Result<bool, Failure> {
    let identities = match agent.request_identities().await {
        Ok(identities) => identities,
        Err(error) => {
            tried.push(format!("agent, which lists no keys: {error}"));
            return Ok(false);
        }
    };
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let hash = rsa_hash(handle, &key).await?;
        match handle.authenticate_publickey_with(user, key, hash, agent).await {
            Ok(AuthResult::Success) => return Ok(true),
            Ok(AuthResult::Failure { .. }) => tried.push(format!("agent's key {fingerprint}")),
            Err(error) => tried.push(format!("agent's key {fingerprint}, not signed with: {error}")),
        }
        if handle.is_closed() {
            break;
        }
    }
    Ok(false)
}

/// Logs in by password; where the server only asks questions, the password answers the one that is not echoed.
async fn with_password(handle: &mut Handle<Guard>, user: &str, password: &str) -> Result<bool, Failure> {
    let remaining = match handle.authenticate_password(user, password).await.map_err(ssh)? {
        AuthResult::Success => return Ok(true),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !remaining.contains(&MethodKind::KeyboardInteractive) {
        return Ok(false);
    }
    let mut answer = handle.authenticate_keyboard_interactive_start(user, None).await.map_err(ssh)?;
    let mut given = false;
    loop {
        match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                // The second time it is asked for, it was wrong.
                if given && !prompts.is_empty() {
                    return Ok(false);
                }
                given |= !prompts.is_empty();
                let answers = prompts
                    .iter()
                    .map(|prompt| if prompt.echo { String::new() } else { password.to_owned() })
                    .collect();
                let respond = handle.authenticate_keyboard_interactive_respond(answers);
                answer = respond.await.map_err(ssh)?;
            }
        }
    }
}
