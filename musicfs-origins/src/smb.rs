//! Folders on an SMB server, spoken to directly: versions 2.1 to 3.1.1, without a mount by the kernel.
//!
//! The protocol is spoken here because its crate cannot be had beside a current russh (both nail down
//! pre-releases of the same cryptography), and because requests that travel in one frame are worth a lot on a
//! long line: a short read is one round trip, opening and closing included.
//!
//! # Invariants
//! * What is read is handed on only when the file is of the version asked for when it is opened, and still is
//!   after it was read: a short read looks when it closes the file, a step of a long one in the same frame.
//! * Messages are signed, and verified, in every session but a guest's; encrypted where the server wants it. Who
//!   gives a user name is never let in as a guest.
//! * A file that we opened is closed when nobody needs it, also when the read that opened it was dropped.
//! * Others may go on writing, renaming and deleting what we have open.
//! * The password is in no log, error or `Debug` output.
//!
//! There is no retry and no deadline per call here: layers have them. A connection on which nothing is heard
//! while something is awaited is given up after a while.

mod crypto;
mod link;
mod login;
mod message;
mod ntlm;
mod utf16;

use std::collections::VecDeque;
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
use link::SmbLink;
use message::{Facts, HandleId, Request, Want};

/// Longest range of one read, all of whose requests are in flight at once. A long one costs two round trips
/// whatever its length, so that 16 MiB come at 25 MB/s over 200 ms.
const MAX_RANGE: u64 = 16 << 20;

/// Where an SMB server is, and as whom to log in to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct SmbConfig {
    /// Name or address of the server.
    pub host: String,
    /// Its port, 445 unless said otherwise.
    pub port: u16,
    /// The share.
    pub share: String,
    /// The folder in the share that is the origin's root; empty for the share itself.
    pub root: OriginPath,
    /// The user; empty for a guest.
    pub user: String,
    /// The user's domain, where there is one.
    pub domain: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// Most connections at once.
    pub connections: usize,
    /// How long connecting may take, login included.
    pub connect_timeout: Duration,
    /// How long the server may say nothing while an answer is awaited before the connection is given up.
    pub silence: Duration,
    /// Measures these times.
    pub clock: Arc<dyn Clock>,
}

impl SmbConfig {
    /// Makes a configuration for `share` of `host`, as a guest.
    pub fn new(host: impl Into<String>, share: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 445,
            share: share.into(),
            root: OriginPath::root(),
            user: String::new(),
            domain: String::new(),
            password: None,
            connections: 2,
            connect_timeout: wire::CONNECT,
            silence: wire::SILENCE,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl std::fmt::Debug for SmbConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmbConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("share", &self.share)
            .field("root", &self.root)
            .field("user", &self.user)
            .field("domain", &self.domain)
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}

/// A folder on an SMB server.
///
/// Names are the server's: one that Windows would not have (with `?` or a quote in it) comes under the name that
/// the server shows instead of it. The server is connected to when something is asked for.
///
/// ```
/// use musicfs_core::Origin;
/// use musicfs_origins::{Secret, SmbConfig, SmbOrigin};
///
/// let mut config = SmbConfig::new("nas.home", "music");
/// config.user = "me".to_owned();
/// config.password = Some(Secret::new("open sesame"));
/// let origin = SmbOrigin::new("nas", config);
/// assert_eq!(origin.id().as_str(), "nas");
/// ```
#[derive(Clone)]
pub struct SmbOrigin {
    server: Arc<Server>,
}

impl std::fmt::Debug for SmbOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmbOrigin")
            .field("id", &self.server.id)
            .field("config", &self.server.pool.dialler().0)
            .finish()
    }
}

impl SmbOrigin {
    /// Makes an origin. Nothing is connected to before something is asked for.
    pub fn new(id: impl Into<OriginId>, config: SmbConfig) -> Self {
        let limit = config.connections;
        let pool = Pool::new(Dialler(config, wire::Names::default()), limit);
        Self { server: Arc::new(Server { id: id.into(), pool }) }
    }
}

struct Dialler(SmbConfig, wire::Names);

impl Dial for Dialler {
    type Link = SmbLink;

    fn dial(&self) -> BoxFuture<'_, Result<SmbLink, Failure>> {
        let config = &self.0;
        Box::pin(wire::within(&*config.clock, config.connect_timeout, "connecting", async {
            let session = login::login(config, &self.1).await?;
            Ok(SmbLink::begin(session, Arc::clone(&config.clock), config.silence))
        }))
    }
}

struct Server {
    id: OriginId,
    pool: Arc<Pool<Dialler>>,
}

impl Server {
    fn config(&self) -> &SmbConfig {
        &self.pool.dialler().0
    }

    /// Returns the path as the server knows it.
    fn full(&self, path: &OriginPath) -> Result<Vec<u8>, Failure> {
        let mut full = Vec::new();
        for part in self.config().root.components().chain(path.components()) {
            let name = utf16::encode_name(part).filter(|_| !part.contains(&b'\\'));
            let Some(name) = name else {
                return Err(Failure::new(OriginErrorKind::NotFound, "no file can have that name there"));
            };
            if !full.is_empty() {
                full.extend(utf16::encode("\\"));
            }
            full.extend(name);
        }
        if full.len() > usize::from(u16::MAX) {
            return Err(Failure::new(OriginErrorKind::NotFound, "no file can have so long a path there"));
        }
        Ok(full)
    }

    async fn stat_on(&self, link: &SmbLink, path: &OriginPath) -> Result<Facts, Failure> {
        self.stat_named(link, &self.full(path)?).await
    }

    /// Makes of "no such file" that the whole root is missing, where it is: then no file is gone.
    async fn doubt(&self, failure: Failure) -> Failure {
        if failure.kind() != OriginErrorKind::NotFound {
            return failure;
        }
        let root = OriginPath::root();
        let looked = self.pool.run(|link| {
            let root = &root;
            async move { self.stat_on(&link, root).await }
        });
        match looked.await {
            Ok(_) => failure,
            Err(error) if error.kind() == OriginErrorKind::NotFound => {
                let config = self.config();
                let why =
                    format!("the share {} has no folder {}; look at the path", config.share, config.root);
                Failure::new(OriginErrorKind::NoRoot, why)
            }
            Err(error) => error,
        }
    }

    async fn read_on(
        &self,
        link: &SmbLink,
        path: &OriginPath,
        version: &FileVersion,
        delivery: &Delivery<'_>,
    ) -> Result<(), Failure> {
        let name = self.full(path)?;
        let range = delivery.rest();
        if range.len() <= u64::from(link.max_read) {
            let bytes = self.read_short(link, &name, version, range).await?;
            let got = bytes.len() as u64;
            delivery.push(bytes);
            // The server may give less than was asked for, if only for a reason that does not last.
            if got == range.len() {
                return Ok(());
            }
        }
        let open = link.open(&name, Want::File).await?;
        same(&open.facts, version)?;
        let steps = wire::steps(delivery.rest(), wire::FIRST_STEP, link.max_read);
        delivery.take(steps.map(|step| read_step(link, open.id(), version, step))).await
    }

    /// Opens, reads and closes in one frame, which the server does in this order. What is read may be short.
    async fn read_short(
        &self,
        link: &SmbLink,
        name: &[u8],
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, Failure> {
        let mut requests = vec![Request::open(name, Want::File)];
        if !range.is_empty() {
            requests.push(Request::read(None, range.start(), range.len() as u32));
        }
        requests.push(Request::close(None));
        let mut answers: VecDeque<_> = link.ask_related(&requests).await?.into();
        let (Some(opening), Some(closing)) = (answers.pop_front(), answers.pop_back()) else {
            return Err(Failure::garbled("there is no answer"));
        };
        let (_, facts) = message::opened(opening.await?)?;
        same(&facts, version)?;
        let data = match answers.pop_front() {
            Some(reading) => message::data(reading.await?)?,
            None => Bytes::new(),
        };
        self.still(link, name, message::closed(closing.await?)?, version).await?;
        if data.len() as u64 > range.len() {
            return Err(Failure::garbled("more came than was asked for"));
        }
        Ok(data)
    }

    /// Fails unless the file was still of that version when it was closed. Where the server does not say, what is
    /// at the path is looked at.
    async fn still(
        &self,
        link: &SmbLink,
        name: &[u8],
        now: Option<FileVersion>,
        version: &FileVersion,
    ) -> Result<(), Failure> {
        match now {
            Some(now) => same_version(&now, version),
            None => same(&self.stat_named(link, name).await?, version),
        }
    }

    /// Looks at what is there, in one frame.
    async fn stat_named(&self, link: &SmbLink, name: &[u8]) -> Result<Facts, Failure> {
        let requests = [Request::open(name, Want::Look), Request::close(None)];
        match link.ask_related(&requests).await?.into_iter().next() {
            Some(opening) => Ok(message::opened(opening.await?)?.1),
            None => Err(Failure::garbled("there is no answer")),
        }
    }

    async fn list_on(&self, link: &SmbLink, folder: &OriginPath) -> Result<Listed, Failure> {
        let open = link.open(&self.full(folder)?, Want::Folder).await?;
        let mut listed = Listed::default();
        loop {
            let request = Request::list(open.id(), link.max_list);
            let Some(entries) = message::entries(link.ask(request).await?.await?)? else { break };
            for entry in entries {
                if entry.facts.is_folder() {
                    listed.folders.push(ListedFolder { name: entry.name, id: entry.id });
                } else if !entry.facts.is_special() {
                    listed.files.push(ListedFile { name: entry.name, version: entry.facts.version });
                }
            }
        }
        Ok(listed)
    }
}

/// Reads a part of an open file, and looks in the same frame whether it is of that version after it was read.
async fn read_step(
    link: &SmbLink,
    handle: &HandleId,
    version: &FileVersion,
    step: ByteRange,
) -> Result<Vec<Bytes>, Failure> {
    let (mut pieces, mut rest) = (Vec::new(), step);
    while !rest.is_empty() {
        let read = Request::read(Some(handle), rest.start(), rest.len() as u32);
        let mut answers = link.ask_related(&[read, Request::look(None)]).await?.into_iter();
        let (Some(reading), Some(looking)) = (answers.next(), answers.next()) else {
            return Err(Failure::garbled("there is no answer"));
        };
        let data = message::data(reading.await?)?;
        if data.is_empty() {
            return Err(Failure::new(OriginErrorKind::Changed, "the file has become shorter"));
        }
        let got = data.len() as u64;
        if got > rest.len() {
            return Err(Failure::garbled("more came than was asked for"));
        }
        same(&message::looked(looking.await?)?, version)?;
        rest = ByteRange::new(rest.start() + got, rest.end());
        pieces.push(data);
    }
    Ok(pieces)
}

/// Fails unless it is a file of that version.
fn same(facts: &Facts, version: &FileVersion) -> Result<(), Failure> {
    if facts.is_folder() || facts.is_special() {
        return Err(Failure::new(OriginErrorKind::Invalid, "it is not a file"));
    }
    same_version(&facts.version, version)
}

fn same_version(now: &FileVersion, version: &FileVersion) -> Result<(), Failure> {
    if now.is_same(version) {
        return Ok(());
    }
    Err(Failure::new(OriginErrorKind::Changed, format!("it is now {now}")))
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
            let looked = self.pool.run(|link| {
                let (server, path) = (&self, &path);
                async move { server.stat_on(&link, path).await }
            });
            match looked.await {
                Ok(facts) if facts.is_folder() => Ok(None),
                Ok(facts) if facts.is_special() => {
                    Err(Failure::new(OriginErrorKind::Invalid, "it is neither a file nor a folder"))
                }
                Ok(facts) => Ok(Some(facts.version)),
                Err(failure) => Err(self.doubt(failure).await),
            }
        })
    }
}

#[async_trait]
impl Origin for SmbOrigin {
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
        let root = OriginPath::root();
        let checked = server.pool.run(|link| {
            let root = &root;
            async move { Ok((server.stat_on(&link, root).await?, link.server)) }
        });
        let failure = match checked.await {
            Ok((facts, name)) if facts.is_folder() => {
                let config = server.config();
                let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
                let identity = format!("smb {name} {}/{}", config.share, config.root);
                return Ok(OriginHealth { identity: Some(identity) });
            }
            Ok(_) => Failure::new(OriginErrorKind::Invalid, "the origin's root is not a folder"),
            Err(failure) => server.doubt(failure).await,
        };
        Err(failure.at(&server.id, &root))
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}
