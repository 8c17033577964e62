//! Services through opendal: S3 above all.
//!
//! opendal knows the services' protocols; below it is our own HTTP client (`transport.rs`), which sorts errors,
//! checks each answer against the version asked for, and counts bytes as they come. opendal's retry, timeout and
//! logging layers are not used.
//!
//! # What is not told apart
//! * A key that is no path (`a//b`, `../x`, a leading slash) or that ends in white space, which opendal trims, is
//!   left out of listings; it is said once. A key that ends in a slash is a folder's mark and no file.
//! * opendal takes names as UTF-8.

mod group;
#[cfg(feature = "s3")]
mod s3;
mod sort;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanPage, ScanRequest, ScanStream,
    UnixNanos, read_in_steps,
};
use opendal::options::{ListOptions, ReaderOptions};
use opendal::{HttpTransporter, Lister, Metadata, Operator};

use super::client::{self, failure};
use super::expect::{Expect, strong_etag};
use super::{MAX_RANGE, WebError, WebOptions};
use crate::Progress;
use crate::wire::{self, Failure, Folders, Listed, ListedFile, ListedFolder};
use group::{Groups, Place};
#[cfg(feature = "s3")]
pub use s3::{S3Config, S3Credentials, S3Origin};
use sort::sort;
use transport::Transport;

/// Entries of a page: what S3 gives in one answer.
const PAGE_ENTRIES: usize = 1000;
/// Keys after which a page is handed over, whatever is ready.
const PAGE_KEYS: usize = 10 * PAGE_ENTRIES;

/// How it is known that bytes are of the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The heads of the service's answers tell the same versions as its listings.
    Heads,
    /// Nothing is known of them: the file is looked at again after each read.
    Look,
}

/// An origin behind an opendal service.
///
/// Any service will do that can list, look at and read files. Each read costs a look at the file beside the read
/// itself, except for [`S3Origin`], whose answers prove their version. Versions are size, modification time and
/// entity tag, as far as the service tells; one whose listings leave out the size is of no use here, and its files
/// appear as empty.
#[derive(Clone)]
pub struct OpendalOrigin {
    object: Arc<Object>,
}

struct Object {
    id: OriginId,
    operator: Operator,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    proof: Proof,
    identity: Option<String>,
    /// Whether it was said already that something was left out.
    said: AtomicBool,
}

impl fmt::Debug for OpendalOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.object.operator.info();
        f.debug_struct("OpendalOrigin")
            .field("id", &self.object.id)
            .field("service", &info.scheme())
            .field("name", &info.name())
            .field("root", &info.root())
            .finish_non_exhaustive()
    }
}

impl OpendalOrigin {
    /// Makes an origin of what `operator` reaches. The operator's own HTTP client is replaced.
    ///
    /// # Errors
    /// [`WebError`] when the client cannot be made.
    pub fn new(
        id: impl Into<OriginId>,
        operator: Operator,
        options: &WebOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WebError> {
        Self::with_proof(id.into(), operator, options, clock, Proof::Look, None)
    }

    /// Makes an origin of a service by opendal's name for it, with opendal's names of its options; `None` when
    /// the service is not built in.
    ///
    /// # Errors
    /// [`WebError`] when the options or the client cannot be used.
    pub fn of_service(
        id: impl Into<OriginId>,
        service: &str,
        options: impl IntoIterator<Item = (String, String)>,
        web: &WebOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, WebError> {
        opendal::init_default_registry();
        match Operator::via_iter(service, options) {
            Ok(operator) => Self::new(id, operator, web, clock).map(Some),
            Err(error) if error.kind() == opendal::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(WebError::Service(error.into())),
        }
    }

    fn with_proof(
        id: OriginId,
        operator: Operator,
        options: &WebOptions,
        clock: Arc<dyn Clock>,
        proof: Proof,
        identity: Option<String>,
    ) -> Result<Self, WebError> {
        let client = client::client(options, Arc::clone(&clock))?;
        let transport = Transport::new(client.clone(), Arc::clone(&clock));
        let operator = with_transport(operator, transport);
        let said = AtomicBool::new(false);
        Ok(Self { object: Arc::new(Object { id, operator, client, clock, proof, identity, said }) })
    }
}

fn with_transport(operator: Operator, transport: Transport) -> Operator {
    let context = operator.base_context().with_http_transport(HttpTransporter::new(transport));
    operator.with_context(context)
}

/// Returns the key of a file, for opendal.
fn key(path: &OriginPath) -> Result<String, Failure> {
    let key = text(path)?;
    if can_be_asked_for(key) {
        // The slash, which opendal takes off, keeps it from taking blanks off as well.
        Ok(format!("/{key}"))
    } else {
        Err(failure(OriginErrorKind::Invalid, "opendal cannot ask for a name with a blank at its end"))
    }
}

fn can_be_asked_for(key: &str) -> bool {
    key.trim_end() == key
}

/// Returns what the keys of all below a folder begin with, for opendal.
fn prefix(folder: &OriginPath) -> Result<String, Failure> {
    if folder.is_root() { Ok("/".into()) } else { Ok(format!("/{}/", text(folder)?)) }
}

fn text(path: &OriginPath) -> Result<&str, Failure> {
    std::str::from_utf8(path.as_bytes())
        .map_err(|_| failure(OriginErrorKind::Invalid, "the service has names of UTF-8 only"))
}

fn version(metadata: &Metadata) -> FileVersion {
    // Listings may tell fractions of a second that answers do not.
    let seconds = |time: opendal::raw::Timestamp| UnixNanos::from_parts(time.into_inner().as_second(), 0);
    FileVersion {
        size: metadata.content_length(),
        mtime: metadata.last_modified().map(seconds),
        etag: metadata.etag().and_then(strong_etag),
    }
}

impl Object {
    async fn find(&self, path: &OriginPath) -> Result<Option<FileVersion>, Failure> {
        if path.is_root() {
            return self.list_one(path).await.map(|_| None);
        }
        let looked = match key(path) {
            Ok(key) => self.operator.stat(&key).await.map_err(|e| self.sorted(e)),
            Err(_) if self.list_one(path).await? => return Ok(None),
            Err(invalid) => Err(invalid),
        };
        match looked {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(metadata) => Ok(Some(version(&metadata))),
            // A folder is nothing but the keys in it; and asking for them tells a missing bucket, too.
            Err(gone) if gone.kind() == OriginErrorKind::NotFound => {
                if self.list_one(path).await? {
                    Ok(None)
                } else {
                    Err(gone)
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Tells whether there is anything in a folder. A root that is not there is a failure.
    async fn list_one(&self, folder: &OriginPath) -> Result<bool, Failure> {
        let options = ListOptions { limit: Some(2), ..ListOptions::default() };
        let mark = prefix(folder)?;
        let mut lister = self.operator.lister_options(&mark, options).await.map_err(|e| self.root_lost(e))?;
        while let Some(entry) = lister.next().await {
            if entry.map_err(|e| self.root_lost(e))?.path() != mark.trim_start_matches('/') {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn fetch(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        mut take: impl FnMut(Bytes) + Send,
    ) -> Result<(), Failure> {
        let key = key(path)?;
        let range = range.clamp_to(version.size);
        if range.is_empty() {
            return self.must_be(path, version).await;
        }
        if range.len() > MAX_RANGE {
            return Err(failure(OriginErrorKind::Invalid, "the range is too long"));
        }
        let mut transport = Transport::new(self.client.clone(), Arc::clone(&self.clock));
        transport.progress = Progress::current();
        let mut options = ReaderOptions::default();
        if self.proof == Proof::Heads {
            options.if_match = version.etag.as_deref().map(str::to_owned);
            transport.expect = Some(Expect { version: version.clone(), range, by_minute: false });
        }
        let operator = with_transport(self.operator.clone(), transport);
        let mut got = 0;
        let read = async {
            let reader = operator.reader_options(&key, options).await?;
            let mut pieces = reader.into_stream(range.start()..range.end()).await?;
            while let Some(piece) = pieces.try_next().await? {
                got += piece.len() as u64;
                Iterator::for_each(piece, &mut take);
            }
            Ok(())
        };
        match read.await.map_err(|e| self.sorted(e)) {
            Ok(()) if got == range.len() => {}
            Ok(()) => return Err(failure(OriginErrorKind::Unavailable, "the answer ended early")),
            Err(gone) if gone.kind() == OriginErrorKind::NotFound => {
                // A folder, a file that is gone, or a bucket that is: it is the look that knows.
                self.must_be(path, version).await?;
                return Err(gone);
            }
            Err(other) => return Err(other),
        }
        match self.proof {
            Proof::Heads => Ok(()),
            Proof::Look => self.must_be(path, version).await,
        }
    }

    async fn must_be(&self, path: &OriginPath, version: &FileVersion) -> Result<(), Failure> {
        match self.find(path).await? {
            Some(now) if now.is_same(version) => Ok(()),
            Some(_) => Err(failure(OriginErrorKind::Changed, "another version is there")),
            None => Err(failure(OriginErrorKind::Invalid, "that is a folder")),
        }
    }

    fn sorted(&self, error: opendal::Error) -> Failure {
        sort(error, self.identity.as_deref().unwrap_or("the service"))
    }

    /// Sorts an error of a listing: a listing that finds nothing has no root.
    fn root_lost(&self, error: opendal::Error) -> Failure {
        let sorted = self.sorted(error);
        if sorted.kind() == OriginErrorKind::NotFound {
            failure(OriginErrorKind::NoRoot, "the service has no such bucket or folder; look at its name")
        } else {
            sorted
        }
    }

    /// Returns an entry's path, unless no file can have it. A folder's key ends in a slash.
    fn path(&self, key: &str) -> Option<OriginPath> {
        let path = OriginPath::new(key.strip_suffix('/').unwrap_or(key)).ok();
        let path = path.filter(|path| !path.is_root() && can_be_asked_for(key));
        if path.is_none() && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(origin = %self.id, key, "left out what has a name that no file can have; said only once");
        }
        path
    }
}

/// A listing of all keys, in pages.
struct Keys {
    object: Arc<Object>,
    under: OriginPath,
    lister: Lister,
    resumable: bool,
    resume: Option<Place>,
    groups: Groups,
    /// Whether anything has come.
    any: bool,
}

impl Keys {
    async fn start(object: Arc<Object>, request: ScanRequest) -> Result<Self, Failure> {
        let able = object.operator.info().capability();
        let resumable = able.list_with_start_after;
        let mut options =
            ListOptions { recursive: true, limit: Some(PAGE_ENTRIES), ..ListOptions::default() };
        let mut resume = None;
        if let Some(cursor) = &request.resume {
            let place = Place::parse(cursor).filter(|_| resumable);
            let invalid = || failure(OriginErrorKind::Invalid, "that is no place in this listing");
            let place = place.ok_or_else(invalid)?;
            options.start_after = place.start().map(str::to_owned);
            resume = Some(place);
        }
        let prefix = prefix(&request.under)?;
        let lister =
            object.operator.lister_options(&prefix, options).await.map_err(|e| object.root_lost(e))?;
        let any = resume.is_some();
        Ok(Self { object, under: request.under, lister, resumable, resume, groups: Groups::default(), any })
    }

    async fn page(&mut self) -> Result<ScanPage, Failure> {
        let mut page = ScanPage::default();
        let mut keys = 0;
        while keys < PAGE_KEYS && self.groups.ready() < PAGE_ENTRIES {
            let Some(entry) = self.lister.next().await else {
                self.groups.finish();
                page.complete = true;
                break;
            };
            let entry = entry.map_err(|e| self.object.root_lost(e))?;
            let key = entry.path();
            keys += 1;
            self.any = true;
            let past = self.resume.as_ref().is_some_and(|place| place.is_past(key));
            let path = if past || !entry.metadata().is_file() { None } else { self.object.path(key) };
            let found = path.map(|path| OriginEntry { path, version: version(entry.metadata()) });
            self.groups.push(key, found);
        }
        let (entries, place) = self.groups.take();
        page.entries = entries;
        if self.resumable && !page.complete {
            page.cursor = place.map(|place| place.to_cursor());
        }
        if page.complete && !self.any && !self.under.is_root() {
            // Nothing is below it: a file, or nothing at all.
            match self.object.find(&self.under).await? {
                Some(version) => page.entries.push(OriginEntry { path: self.under.clone(), version }),
                None => return Err(failure(OriginErrorKind::NotFound, "nothing is there")),
            }
        }
        Ok(page)
    }
}

fn keys(object: Arc<Object>, request: ScanRequest) -> ScanStream {
    let at = (object.id.clone(), request.under.clone());
    let walk = stream::once(async move {
        let fail = move |failure: Failure| failure.at(&at.0, &at.1);
        match Keys::start(object, request).await {
            Ok(keys) => stream::unfold(Some((keys, fail)), |state| async {
                let (mut keys, fail) = state?;
                match keys.page().await {
                    Ok(page) if page.complete => Some((Ok(page), None)),
                    Ok(page) => Some((Ok(page), Some((keys, fail)))),
                    Err(failure) => Some((Err(fail(failure)), None)),
                }
            })
            .boxed(),
            Err(failure) => stream::iter([Err(fail(failure))]).boxed(),
        }
    });
    walk.flatten().boxed()
}

impl Folders for Object {
    fn origin(&self) -> &OriginId {
        &self.id
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn list(self: Arc<Self>, folder: OriginPath) -> BoxFuture<'static, Result<Listed, Failure>> {
        async move {
            let prefix = prefix(&folder)?;
            let mut lister = self.operator.lister(&prefix).await.map_err(|e| self.root_lost(e))?;
            let mut listed = Listed::default();
            while let Some(entry) = lister.next().await {
                let entry = entry.map_err(|e| self.root_lost(e))?;
                if entry.path() == prefix.trim_start_matches('/') {
                    continue;
                }
                let path = self.path(entry.path());
                let Some(name) = path.map(|path| path.file_name().to_vec()) else { continue };
                if entry.metadata().is_file() {
                    listed.files.push(ListedFile { name, version: version(entry.metadata()) });
                } else {
                    listed.folders.push(ListedFolder { name, id: None });
                }
            }
            Ok(listed)
        }
        .boxed()
    }

    fn look(self: Arc<Self>, path: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>> {
        async move { Object::find(&self, &path).await }.boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Origin for OpendalOrigin {
    fn id(&self) -> &OriginId {
        &self.object.id
    }

    fn caps(&self) -> OriginCaps {
        let caps = OriginCaps::remote().with_max_range(MAX_RANGE);
        match self.object.proof {
            Proof::Heads => caps.with_strong_versions().with_concurrency(16),
            Proof::Look => caps,
        }
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        let object = Arc::clone(&self.object);
        // opendal would walk the folders of other services one after the other.
        if object.proof == Proof::Heads { keys(object, request) } else { wire::scan(object, request) }
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let folder = || failure(OriginErrorKind::Invalid, "that is a folder");
        let looked = self.object.find(path).await.and_then(|found| found.ok_or_else(folder));
        let version = looked.map_err(|failure| failure.at(&self.object.id, path))?;
        Ok(OriginEntry { path: path.clone(), version })
    }

    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        let (parts, gathered) = PartSink::gathering();
        let read = self.object.fetch(path, version, range, |piece| parts.push(piece)).await;
        read.map_err(|failure| failure.at(&self.object.id, path))?;
        Ok(gathered.finish())
    }

    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        if self.object.proof == Proof::Look {
            // What it is of is known at the end of each step.
            return read_in_steps(self, path, version, range, parts).await;
        }
        let read = self.object.fetch(path, version, range, |piece| parts.push(piece)).await;
        read.map_err(|failure| failure.at(&self.object.id, path))
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let root = OriginPath::root();
        self.object.list_one(&root).await.map_err(|failure| failure.at(&self.object.id, &root))?;
        Ok(OriginHealth { identity: self.object.identity.clone() })
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}
