//! Folders on an SSH server, over SFTP.
//!
//! SSH is russh's; SFTP is spoken here (`sftp/packet.rs`), because paths and handles are bytes, and because
//! questions are sent ahead of answers: a read of a file that is not open costs two round trips (open; then all
//! the reads with a look at the file), of one that was read lately a single one, whatever its length.
//!
//! # Invariants
//! * Nothing is sent to a server whose key is not on record; see `sftp/known_hosts.rs`.
//! * A step of a read is handed on only when a look at the open file, and one at what is at the path, both sent
//!   after the last of its questions, find the version asked for. The protocol makes a server answer questions
//!   about a file as if one after the other. Steps are all in flight at once.
//! * A handle is given back when nobody needs it, also when the read that opened it was dropped meanwhile.
//! * The password and the passphrase are in no log, error or `Debug` output.
//!
//! There is no retry and no deadline per call here: layers have them. A connection on which nothing is heard
//! while something is awaited is given up after a while.

mod known_hosts;
mod link;
mod login;
mod packet;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream, SystemClock,
};

use crate::Secret;
use crate::wire::{self, Delivery, Dial, Failure, Folders, Listed, ListedFile, ListedFolder, Pool};
use link::{Coming, Lent, SftpLink};
use packet::{Ask, Kind, Said};

/// Longest range of one read, all of whose questions are in flight at once.
const MAX_RANGE: u64 = 8 << 20;
/// Questions for a folder's entries that are in flight at once.
const LISTING_AHEAD: usize = 3;

/// A way to log in to an SSH server.
#[derive(Clone, Debug)]
pub enum SftpAuth {
    /// By a private key in a file.
    Key {
        /// The file.
        path: PathBuf,
        /// What it is encrypted with.
        passphrase: Option<Secret>,
    },
    /// By the keys that an agent holds.
    Agent {
        /// The agent's socket.
        socket: PathBuf,
    },
    /// By password, also where the server asks for it as a question.
    Password(Secret),
}

/// Where an SFTP server is and how to log in to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct SftpConfig {
    /// Name or address of the server, as in known_hosts.
    pub host: String,
    /// Its port, 22 unless said otherwise.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The folder that is the origin's root, as bytes; a relative one is below the user's own folder.
    pub root: Vec<u8>,
    /// Ways to log in, tried in this order.
    pub auth: Vec<SftpAuth>,
    /// Files of host keys. A line that makes a host known is advised for the first.
    pub known_hosts: Vec<PathBuf>,
    /// Most connections at once.
    pub connections: usize,
    /// How long connecting may take, login included.
    pub connect_timeout: Duration,
    /// How long the server may say nothing while an answer is awaited before the connection is given up.
    pub silence: Duration,
    /// Measures these times.
    pub clock: Arc<dyn Clock>,
}

impl SftpConfig {
    /// Makes a configuration for `user` at `host`, without a way to log in and without known hosts.
    pub fn new(host: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 22,
            user: user.into(),
            root: Vec::new(),
            auth: Vec::new(),
            known_hosts: Vec::new(),
            connections: 2,
            connect_timeout: wire::CONNECT,
            silence: wire::SILENCE,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl std::fmt::Debug for SftpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SftpConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("root", &String::from_utf8_lossy(&self.root))
            .field("auth", &self.auth)
            .field("known_hosts", &self.known_hosts)
            .finish_non_exhaustive()
    }
}

/// A folder on an SSH server.
///
/// Times are whole seconds, so that a file changed twice within one, at equal size, looks unchanged. Symbolic
/// links are followed by the server; those that lead out of the root, or back to a folder they are in, are not
/// listed. The server is connected to when something is asked for.
///
/// ```no_run
/// use musicfs_origins::{SftpAuth, SftpConfig, SftpOrigin};
///
/// let mut config = SftpConfig::new("nas.home", "me");
/// config.root = b"/srv/music".to_vec();
/// config.auth = vec![SftpAuth::Key { path: "/home/me/.ssh/id_ed25519".into(), passphrase: None }];
/// config.known_hosts = vec!["/home/me/.ssh/known_hosts".into()];
/// let origin = SftpOrigin::new("nas", config);
/// ```
#[derive(Clone)]
pub struct SftpOrigin {
    server: Arc<Server>,
}

impl std::fmt::Debug for SftpOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SftpOrigin")
            .field("id", &self.server.id)
            .field("config", &self.server.pool.dialler().0)
            .finish()
    }
}

impl SftpOrigin {
    /// Makes an origin. Nothing is connected to before something is asked for.
    pub fn new(id: impl Into<OriginId>, config: SftpConfig) -> Self {
        let limit = config.connections;
        let pool = Pool::new(Dialler(config, wire::Names::default()), limit);
        Self { server: Arc::new(Server { id: id.into(), pool }) }
    }
}

struct Dialler(SftpConfig, wire::Names);

impl Dial for Dialler {
    type Link = SftpLink;

    fn dial(&self) -> BoxFuture<'_, Result<SftpLink, Failure>> {
        let config = &self.0;
        Box::pin(wire::within(&*config.clock, config.connect_timeout, "connecting", async {
            let session = login::login(config, &self.1).await?;
            SftpLink::begin(session, Arc::clone(&config.clock), config.silence).await
        }))
    }
}

struct Server {
    id: OriginId,
    pool: Arc<Pool<Dialler>>,
}

impl Server {
    fn config(&self) -> &SftpConfig {
        &self.pool.dialler().0
    }

    /// Returns the path as the server knows it.
    fn full(&self, path: &OriginPath) -> Vec<u8> {
        let root = &self.config().root;
        let mut full = if root.is_empty() { b".".to_vec() } else { root.clone() };
        if !path.is_root() {
            if !full.ends_with(b"/") {
                full.push(b'/');
            }
            full.extend_from_slice(path.as_bytes());
        }
        full
    }

    async fn stat_on(&self, link: &SftpLink, path: &OriginPath) -> Result<Option<FileVersion>, Failure> {
        let attrs = link.stat(&self.full(path)).await?;
        match attrs.kind {
            Some(Kind::Folder) => Ok(None),
            Some(Kind::File) | None => attrs.version().map(Some).ok_or_else(|| {
                Failure::new(OriginErrorKind::Unsupported, "the server does not tell the file's size")
            }),
            Some(Kind::Link | Kind::Special) => {
                Err(Failure::new(OriginErrorKind::Invalid, "it is neither a file nor a folder"))
            }
        }
    }

    /// Makes of "no such file" that the whole root is missing, where it is: then no file is gone.
    async fn doubt(&self, failure: Failure) -> Failure {
        if failure.kind() != OriginErrorKind::NotFound {
            return failure;
        }
        let root = self.full(&OriginPath::root());
        let found = self.pool.run(|link| {
            let root = root.clone();
            async move { link.stat(&root).await }
        });
        match found.await {
            Ok(_) => failure,
            Err(error) if error.kind() == OriginErrorKind::NotFound => Failure::new(
                OriginErrorKind::NoRoot,
                format!("there is no folder {}; look at the path", String::from_utf8_lossy(&root)),
            ),
            Err(error) => error,
        }
    }

    async fn read_on(
        &self,
        link: &SftpLink,
        path: &OriginPath,
        version: &FileVersion,
        delivery: &Delivery<'_>,
    ) -> Result<(), Failure> {
        let full = self.full(path);
        if let Some(lent) = link.kept(path, version) {
            match read_open(link, &full, &lent, version, delivery).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    link.forget(path);
                    if failure.is_lost() || failure.kind() != OriginErrorKind::Changed {
                        return Err(failure);
                    }
                    // The open file may be an old one, while what is at the path now is what is asked for.
                }
            }
        }
        let lent = Arc::new(link.open(&full).await?);
        read_open(link, &full, &lent, version, delivery).await?;
        link.keep(path, version, lent);
        Ok(())
    }

    async fn list_on(&self, link: &SftpLink, folder: &OriginPath) -> Result<Listed, Failure> {
        let full = self.full(folder);
        let lent = link.open_folder(&full).await?;
        let mut listed = Listed::default();
        let mut links = Vec::new();
        let mut coming = VecDeque::new();
        loop {
            while coming.len() < LISTING_AHEAD {
                coming.push_back(link.ask(Ask::ReadDir(lent.bytes())).await?);
            }
            let Some(answer) = coming.pop_front() else { break };
            let said = answer.await?;
            if said.is_end() {
                break;
            }
            let Said::Names(names) = said else { return Err(said.failure()) };
            for (name, attrs) in names {
                if matches!(&name[..], b"." | b"..") {
                    continue;
                }
                let name = name.to_vec();
                match attrs.kind {
                    Some(Kind::Folder) => listed.folders.push(ListedFolder { name, id: None }),
                    Some(Kind::File) if let Some(version) = attrs.version() => {
                        listed.files.push(ListedFile { name, version });
                    }
                    Some(Kind::Special) => {}
                    // Links, and names of which the server says too little.
                    _ => links.push(name),
                }
            }
        }
        drop(lent);
        if !links.is_empty() {
            self.follow(link, folder, links, &mut listed).await?;
        }
        Ok(listed)
    }

    /// Finds out where links lead.
    async fn follow(
        &self,
        link: &SftpLink,
        folder: &OriginPath,
        links: Vec<Vec<u8>>,
        listed: &mut Listed,
    ) -> Result<(), Failure> {
        let root = link.ask(Ask::RealPath(&self.full(&OriginPath::root()))).await?;
        let here = link.ask(Ask::RealPath(&self.full(folder))).await?;
        let mut coming = Vec::new();
        for name in links {
            let Ok(path) = folder.join(&name) else { continue };
            let full = self.full(&path);
            let stat = link.ask(Ask::Stat(&full)).await?;
            coming.push((name, stat, link.ask(Ask::RealPath(&full)).await?));
        }
        let (root, here) = (real(root.await?)?, real(here.await?)?);
        for (name, stat, target) in coming {
            let (stat, target) = (stat.await?, target.await?);
            let (Ok(attrs), Ok(target)) = (link::attrs(stat), real(target)) else {
                // A link to nothing is nothing.
                continue;
            };
            if !is_below(&target, &root) {
                continue;
            }
            match attrs.kind {
                Some(Kind::Folder) if !is_below(&here, &target) => {
                    listed.folders.push(ListedFolder { name, id: None });
                }
                Some(Kind::File) | None if let Some(version) = attrs.version() => {
                    listed.files.push(ListedFile { name, version });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads from an open file, which must be, and stay, of the version asked for.
async fn read_open(
    link: &SftpLink,
    full: &[u8],
    lent: &Lent,
    version: &FileVersion,
    delivery: &Delivery<'_>,
) -> Result<(), Failure> {
    let longest = link.max_read.saturating_mul((wire::LONGEST_STEP / link.max_read).max(1));
    let steps = wire::steps(delivery.rest(), link.max_read, longest);
    delivery.take(steps.map(|step| read_step(link, full, lent, version, step))).await
}

/// Reads a part of an open file, and looks whether it is of that version after it was read.
async fn read_step(
    link: &SftpLink,
    full: &[u8],
    lent: &Lent,
    version: &FileVersion,
    step: ByteRange,
) -> Result<Vec<Bytes>, Failure> {
    let reads: Vec<_> = match step.is_empty() {
        true => Vec::new(),
        false => wire::steps(step, link.max_read, link.max_read).collect(),
    };
    let read = |range: &ByteRange| Ask::Read {
        handle: lent.bytes(),
        offset: range.start(),
        len: range.len() as u32,
    };
    let look = || [Ask::FStat(lent.bytes()), Ask::Stat(full)];
    let asks: Vec<_> = reads.iter().map(read).chain(look()).collect();
    let mut answers = link.ask_all(&asks).await?;
    let looks = answers.split_off(reads.len());
    let read = take(link, lent, reads.into_iter().zip(answers).collect()).await;
    if let Err(failure) = &read
        && (failure.is_lost() || failure.kind() == OriginErrorKind::Changed)
    {
        return Err(failure.clone());
    }
    // What the look says goes before what the reads say: a folder cannot be read either.
    all_same(looks, version).await?;
    let (pieces, asked_again) = read?;
    if asked_again {
        all_same(link.ask_all(&look()).await?, version).await?;
    }
    Ok(pieces)
}

/// Waits for the pieces in their order; asks again for what a short answer left out, and says whether it did.
async fn take(
    link: &SftpLink,
    lent: &Lent,
    mut coming: VecDeque<(ByteRange, Coming<Said>)>,
) -> Result<(Vec<Bytes>, bool), Failure> {
    let (mut pieces, mut asked_again) = (Vec::new(), false);
    while let Some((range, answer)) = coming.pop_front() {
        let said = answer.await?;
        if said.is_end() {
            return Err(Failure::new(OriginErrorKind::Changed, "the file has become shorter"));
        }
        let Said::Data(data) = said else { return Err(said.failure()) };
        let got = data.len() as u64;
        if got == 0 || got > range.len() {
            return Err(Failure::garbled(format!("{got} bytes came where {} were asked for", range.len())));
        }
        pieces.push(data);
        if got < range.len() {
            let left = ByteRange::new(range.start() + got, range.end());
            let ask = Ask::Read { handle: lent.bytes(), offset: left.start(), len: left.len() as u32 };
            coming.push_front((left, link.ask(ask).await?));
            asked_again = true;
        }
    }
    Ok((pieces, asked_again))
}

/// Waits for looks at a file and fails unless all find that version.
async fn all_same(looks: Vec<Coming<Said>>, version: &FileVersion) -> Result<(), Failure> {
    for look in looks {
        same(look, version).await?;
    }
    Ok(())
}

/// Waits for a look at a file and fails unless it finds that version.
async fn same(look: Coming<Said>, version: &FileVersion) -> Result<(), Failure> {
    let attrs = link::attrs(look.await?)?;
    if matches!(attrs.kind, Some(Kind::Folder | Kind::Special)) {
        return Err(Failure::new(OriginErrorKind::Invalid, "it is not a file"));
    }
    match attrs.version() {
        Some(now) if now.is_same(version) => Ok(()),
        Some(now) => Err(Failure::new(OriginErrorKind::Changed, format!("it is now {now}"))),
        None => Err(Failure::new(OriginErrorKind::Unsupported, "the server does not tell the file's size")),
    }
}

/// Takes the path out of the answer to a question for one.
fn real(said: Said) -> Result<Bytes, Failure> {
    match said {
        Said::Names(mut names) if names.len() == 1 => Ok(names.remove(0).0),
        other => Err(other.failure()),
    }
}

/// Tells whether `path` is `folder` or below it.
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl Folders for Server {
    fn origin(&self) -> &OriginId {
        &self.id
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.config().clock
    }

    fn list(self: Arc<Self>, folder: OriginPath) -> BoxFuture<'static, Result<Listed, Failure>> {
        Box::pin(async move {
            let listed = self.pool.run(|link| {
                let (server, folder) = (&self, &folder);
                async move { server.list_on(&link, folder).await }
            });
            match listed.await {
                Err(failure) => Err(self.doubt(failure).await),
                listed => listed,
            }
        })
    }

    fn look(self: Arc<Self>, path: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>> {
        Box::pin(async move {
            let found = self.pool.run(|link| {
                let (server, path) = (&self, &path);
                async move { server.stat_on(&link, path).await }
            });
            match found.await {
                Err(failure) => Err(self.doubt(failure).await),
                found => found,
            }
        })
    }
}

#[async_trait]
impl Origin for SftpOrigin {
    fn id(&self) -> &OriginId {
        &self.server.id
    }

    fn caps(&self) -> OriginCaps {
        OriginCaps::remote().with_max_range(MAX_RANGE)
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        wire::scan(Arc::clone(&self.server), request)
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        wire::stat(&self.server, path).await
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        wire::read(self, path, version, range).await
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        let server = &self.server;
        let delivery = Delivery::bounded(range, version, MAX_RANGE, parts);
        let delivery = &delivery.map_err(|failure| failure.at(&server.id, path))?;
        let read = server.pool.run(|link| async move {
            let read = server.read_on(&link, path, version, delivery).await;
            read.map_err(|failure| delivery.judge(failure))
        });
        match read.await {
            Ok(()) => Ok(()),
            Err(failure) => Err(server.doubt(failure).await.at(&server.id, path)),
        }
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let server = &self.server;
        let root = server.full(&OriginPath::root());
        let checked = server.pool.run(|link| {
            let root = &root;
            async move {
                let attrs = link.stat(root).await?;
                if matches!(attrs.kind, Some(Kind::Folder) | None) {
                    Ok(link.fingerprint.clone())
                } else {
                    Err(Failure::new(OriginErrorKind::Invalid, "the origin's root is not a folder"))
                }
            }
        });
        match checked.await {
            Ok(key) => {
                let root = String::from_utf8_lossy(&root);
                Ok(OriginHealth { identity: Some(format!("sftp {key} {root}")) })
            }
            Err(failure) => Err(server.doubt(failure).await.at(&server.id, &OriginPath::root())),
        }
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}
