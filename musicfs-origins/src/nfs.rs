//! Folders on an NFS server, spoken to directly: version 3, without a mount by the kernel.
//!
//! NFS has no open files: a handle names a file for good, and each answer to a read tells what the file is like
//! after it. That makes each piece of a read prove its own version. Calls are many at once over one connection
//! (`nfs/rpc.rs`); the client crate `nfs3_client` sends one after the other, cannot be cancelled between call and
//! reply, and goes round for ever when the server closes the connection.
//!
//! # Invariants
//! * A handle that has gone stale is looked up again, once; so is a file that is not of the version asked for.
//! * A link is followed by us, inside the export only, and through no more than a few others.
//! * An export that is missing is an origin that is not there, never an empty one.
//!
//! There is no retry and no deadline per call here: layers have them. A connection on which nothing is heard
//! while something is awaited is given up after a while.

mod calls;
mod handles;
mod rpc;
mod xdr;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream, SystemClock,
};
use parking_lot::Mutex;

use crate::wire::{self, Delivery, Dial, Failure, Folders, Link, Listed, ListedFile, ListedFolder, Pool};
use calls::{Attributes, Entry, FileHandle, Kind, MOUNT, NFS, PORTMAP, PORTMAP_PORT, Trouble};
use handles::Handles;
use rpc::{Credentials, Program, RpcLink};

/// Longest range of one read, all of whose calls are in flight at once.
const MAX_RANGE: u64 = 8 << 20;
/// Longest read that is asked of the server in one call.
const MAX_READ: u32 = wire::LONGEST_STEP;
/// Shortest that is believed to be a server's limit.
const MIN_READ: u32 = 4 << 10;
/// Links followed on the way to one file, as the kernel has it.
const MAX_LINKS: usize = 40;
/// Entries looked up at once, where a listing does not tell enough of them.
const LOOKUPS: usize = 16;

/// Where an NFS server is, and as whom to ask.
#[derive(Clone)]
#[non_exhaustive]
pub struct NfsConfig {
    /// Name or address of the server.
    pub host: String,
    /// The exported folder that is the origin's root, as bytes; a folder below an export where the server allows
    /// to mount that.
    pub export: Vec<u8>,
    /// Port of the mount protocol; asked of the server's port mapper when it is not given.
    pub mount_port: Option<u16>,
    /// Port of NFS; asked of the server's port mapper when it is not given.
    pub nfs_port: Option<u16>,
    /// As which user to ask: by default, who runs the process.
    pub uid: u32,
    /// As which group.
    pub gid: u32,
    /// As member of which other groups, 16 at most.
    pub gids: Vec<u32>,
    /// Whether to connect from a port that only root may use, as most servers demand: by default, for root.
    pub privileged_port: bool,
    /// Most connections at once.
    pub connections: usize,
    /// How long connecting may take, mounting included.
    pub connect_timeout: Duration,
    /// How long the server may say nothing while an answer is awaited before the connection is given up.
    pub silence: Duration,
    /// Measures these times.
    pub clock: Arc<dyn Clock>,
}

impl NfsConfig {
    /// Makes a configuration for the folder `export` of `host`.
    pub fn new(host: impl Into<String>, export: impl Into<Vec<u8>>) -> Self {
        Self {
            host: host.into(),
            export: export.into(),
            mount_port: None,
            nfs_port: None,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            gids: Vec::new(),
            privileged_port: rustix::process::geteuid().is_root(),
            connections: 2,
            connect_timeout: wire::CONNECT,
            silence: wire::SILENCE,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl std::fmt::Debug for NfsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NfsConfig")
            .field("host", &self.host)
            .field("export", &String::from_utf8_lossy(&self.export))
            .field("mount_port", &self.mount_port)
            .field("nfs_port", &self.nfs_port)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish_non_exhaustive()
    }
}

/// A folder that an NFS server exports.
///
/// The server is connected to when something is asked for.
///
/// ```
/// use musicfs_core::Origin;
/// use musicfs_origins::{NfsConfig, NfsOrigin};
///
/// let origin = NfsOrigin::new("nas", NfsConfig::new("nas.home", "/export/music"));
/// assert_eq!(origin.id().as_str(), "nas");
/// ```
#[derive(Clone)]
pub struct NfsOrigin {
    server: Arc<Server>,
}

impl std::fmt::Debug for NfsOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NfsOrigin")
            .field("id", &self.server.id)
            .field("config", &self.server.pool.dialler().0)
            .finish()
    }
}

impl NfsOrigin {
    /// Makes an origin. Nothing is connected to before something is asked for.
    pub fn new(id: impl Into<OriginId>, config: NfsConfig) -> Self {
        let limit = config.connections;
        let pool = Pool::new(Dialler(config, wire::Names::default()), limit);
        Self { server: Arc::new(Server { id: id.into(), pool, handles: Mutex::default() }) }
    }
}

/// A connection, with the export mounted.
struct NfsLink {
    rpc: RpcLink,
    root: FileHandle,
    max_read: u32,
}

impl Link for NfsLink {
    fn is_dead(&self) -> bool {
        self.rpc.is_dead()
    }

    fn load(&self) -> usize {
        self.rpc.load()
    }
}

struct Dialler(NfsConfig, wire::Names);

impl Dialler {
    async fn connect(&self, program: Program, port: u16) -> Result<RpcLink, Failure> {
        let config = &self.0;
        let privileged = config.privileged_port && program != PORTMAP;
        let stream = wire::connect((&config.host, port), &self.1, &*config.clock, privileged).await?;
        let credentials = Credentials { uid: config.uid, gid: config.gid, gids: config.gids.clone() };
        Ok(RpcLink::new(stream, program, &credentials, Arc::clone(&config.clock), config.silence))
    }

    async fn find(&self, program: Program, known: Option<u16>) -> Result<RpcLink, Failure> {
        let port = match known {
            Some(port) => port,
            None => {
                let mapper = self.connect(PORTMAP, PORTMAP_PORT).await?;
                calls::port_of(&mapper, program).await?
            }
        };
        self.connect(program, port).await
    }
}

impl Dial for Dialler {
    type Link = NfsLink;

    fn dial(&self) -> BoxFuture<'_, Result<NfsLink, Failure>> {
        let config = &self.0;
        Box::pin(wire::within(&*config.clock, config.connect_timeout, "connecting", async {
            let mount = self.find(MOUNT, config.mount_port).await?;
            let root = calls::mount(&mount, &config.export).await?;
            drop(mount);
            let rpc = self.find(NFS, config.nfs_port).await?;
            let limit = calls::read_limit(&rpc, &root).await?;
            Ok(NfsLink { rpc, root, max_read: limit.clamp(MIN_READ, MAX_READ) })
        }))
    }
}

struct Server {
    id: OriginId,
    pool: Arc<Pool<Dialler>>,
    handles: Mutex<Handles>,
}

impl Server {
    fn config(&self) -> &NfsConfig {
        &self.pool.dialler().0
    }

    fn known(&self, path: &OriginPath) -> Option<FileHandle> {
        self.handles.lock().get(path, self.config().clock.now())
    }

    fn learn(&self, path: OriginPath, handle: &FileHandle) {
        self.handles.lock().put(path, handle.clone(), self.config().clock.now());
    }

    /// Finds what is at `path` now. Where a handle on the way has gone stale, once more from the root.
    async fn find(&self, link: &NfsLink, path: &OriginPath) -> Result<(FileHandle, Attributes), Failure> {
        match self.walk_to(link, path).await {
            Err(Trouble::Stale) => {}
            found => return Ok(found?),
        }
        self.handles.lock().forget(path);
        match self.walk_to(link, path).await {
            // Even the root is not what was mounted: mounting anew may help.
            Err(Trouble::Stale) => {
                let stale = Failure::lost(OriginErrorKind::Unavailable, "the export is not what was mounted");
                link.rpc.give_up(stale.clone());
                Err(stale)
            }
            found => Ok(found?),
        }
    }

    /// Looks up one component after the other, from the nearest folder that is known, following links.
    async fn walk_to(&self, link: &NfsLink, path: &OriginPath) -> Result<(FileHandle, Attributes), Trouble> {
        let mut path = path.clone();
        'resolve: for _ in 0..MAX_LINKS {
            let (mut at, mut handle) = self.nearest(link, &path);
            let mut found = None;
            let ahead: Vec<&[u8]> = path.components().skip(at.components().count()).collect();
            for (n, name) in ahead.iter().enumerate() {
                let (next, attributes) = calls::lookup(&link.rpc, &handle, name).await?;
                if attributes.kind == Kind::Link {
                    let text = calls::read_link(&link.rpc, &next).await?;
                    path = self.target(&at, &text, &ahead[n + 1..])?;
                    continue 'resolve;
                }
                let last = n + 1 == ahead.len();
                if !last && attributes.kind != Kind::Folder {
                    return Err(nothing("there is a file where a folder should be").into());
                }
                at = at.join(name).map_err(|e| Failure::new(OriginErrorKind::Invalid, e))?;
                if attributes.kind == Kind::Folder {
                    self.learn(at.clone(), &next);
                }
                (handle, found) = (next, Some(attributes));
            }
            let attributes = match found {
                Some(attributes) => attributes,
                None => calls::attributes(&link.rpc, &handle).await?,
            };
            return Ok((handle, attributes));
        }
        Err(nothing("it is a link that leads round in a circle").into())
    }

    /// Returns the nearest folder above `path` that is known.
    fn nearest(&self, link: &NfsLink, path: &OriginPath) -> (OriginPath, FileHandle) {
        let mut above = path.parent();
        while !above.is_root() {
            if let Some(handle) = self.known(&above) {
                return (above, handle);
            }
            above = above.parent();
        }
        (above, link.root.clone())
    }

    /// Returns the path that a link in `folder` with this text leads to, and on from there.
    fn target(&self, folder: &OriginPath, text: &[u8], rest: &[&[u8]]) -> Result<OriginPath, Failure> {
        let outside = || nothing("it is a link that leads out of the export");
        let export = self.config().export.strip_suffix(b"/").unwrap_or(&self.config().export);
        let (mut parts, text): (Vec<&[u8]>, &[u8]) = if text.starts_with(b"/") {
            let inside = text.strip_prefix(export).filter(|rest| rest.is_empty() || rest[0] == b'/');
            (Vec::new(), inside.ok_or_else(outside)?)
        } else {
            (folder.components().collect(), text)
        };
        for part in text.split(|byte| *byte == b'/').chain(rest.iter().copied()) {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or_else(outside)?;
                }
                part => parts.push(part),
            }
        }
        OriginPath::new(parts.join(&b'/')).map_err(|e| Failure::new(OriginErrorKind::NotFound, e))
    }

    async fn read_on(
        &self,
        link: &NfsLink,
        path: &OriginPath,
        version: &FileVersion,
        delivery: &Delivery<'_>,
    ) -> Result<(), Failure> {
        if let Some(handle) = self.known(path) {
            match read_handle(link, &handle, version, delivery).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Failed(failure)) if failure.is_lost() => return Err(failure),
                // What is there now may be another file, or none.
                Err(Trouble::Stale | Trouble::Failed(_)) => {}
            }
            self.handles.lock().forget(path);
        }
        let (handle, attributes) = self.find(link, path).await?;
        same(&attributes, version)?;
        read_handle(link, &handle, version, delivery).await?;
        self.learn(path.clone(), &handle);
        Ok(())
    }

    async fn list_on(&self, link: &NfsLink, folder: &OriginPath) -> Result<Listed, Failure> {
        if !folder.is_root()
            && let Some(handle) = self.known(folder)
        {
            match self.list_handle(link, folder, &handle, None).await {
                Err(Trouble::Stale) => self.handles.lock().forget(folder),
                listed => return Ok(listed?),
            }
        }
        let (handle, attributes) = self.find(link, folder).await?;
        if attributes.kind != Kind::Folder {
            return Err(Failure::new(OriginErrorKind::Invalid, "it is not a folder"));
        }
        Ok(self.list_handle(link, folder, &handle, Some(attributes.id())).await?)
    }

    async fn list_handle(
        &self,
        link: &NfsLink,
        folder: &OriginPath,
        handle: &FileHandle,
        id: Option<u64>,
    ) -> Result<Listed, Trouble> {
        let mut listed = Listed { id, ..Listed::default() };
        let mut unclear = Vec::new();
        let mut from = None;
        loop {
            let part = calls::list(&link.rpc, handle, from).await?;
            for Entry { name, attributes, handle } in part.entries {
                let name = name.to_vec();
                let Ok(path) = folder.join(&name) else { continue };
                match attributes {
                    Some(attributes) if attributes.kind != Kind::Link => {
                        if let (Kind::Folder, Some(handle)) = (attributes.kind, &handle) {
                            self.learn(path, handle);
                        }
                        sort(&mut listed, name, attributes);
                    }
                    // Links, and entries of which the listing does not tell enough.
                    _ => unclear.push((name, path)),
                }
            }
            from = part.next;
            if from.is_none() {
                break;
            }
        }
        let looked = stream::iter(unclear)
            .map(|(name, path)| async move { (name, self.find(link, &path).await) })
            .buffered(LOOKUPS);
        let looked: Vec<_> = looked.collect().await;
        for (name, found) in looked {
            match found {
                Ok((_, attributes)) => sort(&mut listed, name, attributes),
                // A link to nothing is nothing.
                Err(failure) if failure.kind() == OriginErrorKind::NotFound => {}
                Err(failure) if failure.is_lost() => return Err(failure.into()),
                Err(failure) => listed.unknown.push((name, failure)),
            }
        }
        Ok(listed)
    }
}

/// Reads from a file, which must be, and stay, of the version asked for.
async fn read_handle(
    link: &NfsLink,
    handle: &FileHandle,
    version: &FileVersion,
    delivery: &Delivery<'_>,
) -> Result<(), Trouble> {
    let steps = wire::steps(delivery.rest(), wire::FIRST_STEP, link.max_read);
    delivery.take(steps.map(|step| read_step(link, handle, version, step))).await
}

/// Reads a part of a file, and sees from what comes with it which version it is of.
async fn read_step(
    link: &NfsLink,
    handle: &FileHandle,
    version: &FileVersion,
    step: ByteRange,
) -> Result<Vec<Bytes>, Trouble> {
    if step.is_empty() {
        same(&calls::attributes(&link.rpc, handle).await?, version)?;
    }
    let (mut pieces, mut rest) = (Vec::new(), step);
    while !rest.is_empty() {
        let answer = calls::ask_read(&link.rpc, handle, rest.start(), rest.len() as u32).await?;
        let piece = calls::piece(answer.await?)?;
        // Where the server tells nothing of the file, it is asked.
        let now = match piece.attributes {
            Some(attributes) => attributes,
            None => calls::attributes(&link.rpc, handle).await?,
        };
        same(&now, version)?;
        let got = piece.data.len() as u64;
        if got > rest.len() {
            return Err(Failure::garbled("more came than was asked for").into());
        }
        if got == 0 {
            return Err(Failure::new(OriginErrorKind::Corrupt, "the file ends before its end").into());
        }
        rest = ByteRange::new(rest.start() + got, rest.end());
        pieces.push(piece.data);
    }
    Ok(pieces)
}

fn nothing(why: &'static str) -> Failure {
    Failure::new(OriginErrorKind::NotFound, why)
}

fn sort(listed: &mut Listed, name: Vec<u8>, attributes: Attributes) {
    match attributes.kind {
        Kind::File => listed.files.push(ListedFile { name, version: attributes.version }),
        Kind::Folder => listed.folders.push(ListedFolder { name, id: Some(attributes.id()) }),
        Kind::Link | Kind::Special => {}
    }
}

/// Fails unless the file is of that version.
fn same(attributes: &Attributes, version: &FileVersion) -> Result<(), Failure> {
    if attributes.kind != Kind::File {
        return Err(Failure::new(OriginErrorKind::Invalid, "it is not a file"));
    }
    if attributes.version.is_same(version) {
        return Ok(());
    }
    let why = format!("it is now {}", attributes.version);
    Err(Failure::new(OriginErrorKind::Changed, why))
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
            listed.await
        })
    }

    fn look(self: Arc<Self>, path: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>> {
        Box::pin(async move {
            let found = self.pool.run(|link| {
                let (server, path) = (&self, &path);
                async move { server.find(&link, path).await }
            });
            let (_, attributes) = found.await?;
            match attributes.kind {
                Kind::File => Ok(Some(attributes.version)),
                Kind::Folder => Ok(None),
                Kind::Link | Kind::Special => {
                    Err(Failure::new(OriginErrorKind::Invalid, "it is neither a file nor a folder"))
                }
            }
        })
    }
}

#[async_trait]
impl Origin for NfsOrigin {
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
        read.await.map_err(|failure| failure.at(&server.id, path))
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let server = &self.server;
        let root = OriginPath::root();
        let checked = server.pool.run(|link| {
            let root = &root;
            async move { server.find(&link, root).await }
        });
        let (_, attributes) = checked.await.map_err(|failure| failure.at(&server.id, &root))?;
        let identity = format!("nfs fs {:016x} inode {}", attributes.filesystem, attributes.number);
        Ok(OriginHealth { identity: Some(identity) })
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}
