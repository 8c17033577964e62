//! An origin whose files have URLs.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_MATCH, RANGE};
use http::{HeaderValue, Method, StatusCode};
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError,
    OriginErrorKind, OriginHealth, OriginId, OriginPath, PartSink, ScanRequest, ScanStream,
};
use reqwest::{RequestBuilder, Response};
use url::Url;

use super::client::{self, Refused, failed, failure};
use super::expect::{Expect, size_of, version_of};
use super::place::Place;
use super::{MAX_RANGE, WebError, WebOptions};
use crate::wire::{self, Failure, Folders, Listed, ListedFile, ListedFolder};
use crate::{Progress, Secret};

/// Longest listing of one folder in bytes: some hundred thousand entries.
const MAX_LISTING: usize = 256 << 20;
/// Files of one folder that are looked at one by one at a time, where the listing does not tell enough.
const LOOKS: usize = 8;

/// Who is asking.
#[derive(Clone, Debug, Default)]
pub enum WebAuth {
    /// Anybody.
    #[default]
    Anonymous,
    /// A user with a password (HTTP basic authentication).
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// The bearer of a token.
    Bearer(Secret),
}

/// What a [`WebdavOrigin`](super::WebdavOrigin) or [`HttpOrigin`](super::HttpOrigin) needs to know.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// URL of the root folder, without credentials.
    pub url: String,
    /// Who is asking.
    pub auth: WebAuth,
    /// How the server is reached.
    pub options: WebOptions,
}

impl WebConfig {
    /// Asks for `url` as anybody.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), auth: WebAuth::default(), options: WebOptions::default() }
    }
}

/// Something in a folder, as far as its listing tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) what: What,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Folder,
    File(FileVersion),
    /// A file that has to be looked at.
    Vague,
}

/// How a server's folders are listed.
pub(super) trait Dialect: Send + Sync + Sized + 'static {
    /// Whether the times in listings may be cut to the minute.
    const BY_MINUTE: bool;
    /// Lists a folder.
    fn list(
        web: &Web<Self>,
        folder: &OriginPath,
        progress: &Progress,
    ) -> impl Future<Output = Result<Vec<Found>, Failure>> + Send;
    /// Returns the version of the file at `path`, the same that a listing would tell; `None` for a folder.
    fn look(
        web: &Web<Self>,
        path: &OriginPath,
    ) -> impl Future<Output = Result<Option<FileVersion>, Failure>> + Send;
}

/// A server, seen through a dialect.
pub(super) struct Web<D> {
    pub(super) id: OriginId,
    pub(super) place: Place,
    client: reqwest::Client,
    auth: Option<HeaderValue>,
    clock: Arc<dyn Clock>,
    /// Whether it was said already that something was left out.
    said: AtomicBool,
    dialect: PhantomData<D>,
}

/// Says `missing root` for a chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("the server has no such folder (404 Not Found); look at the address")]
struct RootMissing;

impl<D: Dialect> Web<D> {
    pub(super) fn new(id: OriginId, config: &WebConfig, clock: Arc<dyn Clock>) -> Result<Self, WebError> {
        let place = Place::new(&config.url)?;
        let client = client::client(&config.options, Arc::clone(&clock))?;
        let auth = authorization(&client, place.root(), &config.auth)?;
        Ok(Self { id, place, client, auth, clock, said: AtomicBool::new(false), dialect: PhantomData })
    }

    /// Begins a request.
    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        // A body that was packed on the way would have other lengths and another tag.
        let request = self.client.request(method, url).header(ACCEPT_ENCODING, "identity");
        match &self.auth {
            Some(auth) => request.header(AUTHORIZATION, auth.clone()),
            None => request,
        }
    }

    /// Sends a request; an answer that refuses is a failure.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = client::send(request).await.map_err(failed)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let kind = client::kind_of_status(status, answer.headers(), self.clock.unix());
        Err(failure(kind, Refused(status)))
    }

    /// Takes in the whole of a listing.
    pub(super) async fn body(mut answer: Response, progress: &Progress) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            progress.add(piece.len());
            body.extend_from_slice(&piece);
            if body.len() > MAX_LISTING {
                return Err(failure(OriginErrorKind::Corrupt, "the listing of one folder is too long"));
            }
        }
        Ok(body.freeze())
    }

    /// Asks for the head of a file. `None` where it leads to a folder.
    pub(super) async fn head(&self, path: &OriginPath) -> Result<Option<FileVersion>, Failure> {
        let url = self.place.file(path);
        let answer = match self.send(self.request(Method::HEAD, url.clone())).await {
            Err(failure) if failure.kind() != OriginErrorKind::Unsupported => return Err(failure),
            Ok(answer) if size_of_head(&answer).is_some() || is_folder(&answer) => answer,
            // It does not take the question, or does not tell the size: a byte of the file tells.
            _ => match self.send(self.request(Method::GET, url).header(RANGE, "bytes=0-0")).await {
                Err(failure) if failure.kind() == OriginErrorKind::Changed => {
                    // No first byte: an empty file.
                    return Ok(Some(FileVersion::default()));
                }
                answer => answer?,
            },
        };
        if is_folder(&answer) {
            return Ok(None);
        }
        let size = size_of_head(&answer).ok_or_else(|| {
            failure(OriginErrorKind::Unsupported, "the server does not tell the file's size")
        })?;
        Ok(Some(version_of(answer.headers(), size)))
    }

    async fn fetch(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        mut take: impl FnMut(Bytes) + Send,
    ) -> Result<(), Failure> {
        let progress = Progress::current();
        let range = range.clamp_to(version.size);
        if range.is_empty() {
            return match D::look(self, path).await? {
                Some(now) if now.is_same(version) => Ok(()),
                Some(_) => Err(failure(OriginErrorKind::Changed, "another version is there")),
                None => Err(not_a_file()),
            };
        }
        let len = usize::try_from(range.len())
            .ok()
            .filter(|_| range.len() <= MAX_RANGE)
            .ok_or_else(|| failure(OriginErrorKind::Invalid, "the range is too long"))?;
        let expect = Expect { version: version.clone(), range, by_minute: D::BY_MINUTE };
        let mut request =
            self.request(Method::GET, self.place.file(path)).header(RANGE, expect.range_header());
        if let Some(etag) = &version.etag {
            request = request.header(IF_MATCH, &**etag);
        }
        let mut answer = self.send(request).await?;
        if is_folder(&answer) {
            return Err(not_a_file());
        }
        let mut skip = expect
            .check(answer.status(), answer.headers())
            .map_err(|kind| failure(kind, "the answer is not of the version asked for"))?;
        if answer.status() == StatusCode::OK && skip > 0 && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                origin = %self.id,
                "the server ignores ranges: each read fetches all of the file before it"
            );
        }
        let mut left = len;
        while left > 0 {
            let Some(mut piece) = answer.chunk().await.map_err(failed)? else {
                return Err(failure(OriginErrorKind::Unavailable, "the answer ended early"));
            };
            progress.add(piece.len());
            let before = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= before as u64;
            let _ = piece.split_to(before);
            piece.truncate(left);
            left -= piece.len();
            take(piece);
        }
        Ok(())
    }

    /// Tells why a read failed that a folder may have failed in its own way: by its own tag, by taking no such
    /// question.
    async fn unless_folder<T>(&self, path: &OriginPath, read: Result<T, Failure>) -> Result<T, Failure> {
        use OriginErrorKind::{Changed, Invalid, Unsupported};
        match read {
            Err(failed) if matches!(failed.kind(), Changed | Invalid | Unsupported) => {
                match D::look(self, path).await {
                    Ok(None) => Err(not_a_file()),
                    Err(gone) if gone.kind() == OriginErrorKind::NotFound => Err(gone),
                    _ => Err(failed),
                }
            }
            other => other,
        }
    }

    /// Tells a file that is gone from a root that is: a server that lost its disk has not lost the music.
    async fn unless_root_is_gone<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        match result {
            Err(missing) if missing.kind() == OriginErrorKind::NotFound => {
                self.check_root().await?;
                Err(missing)
            }
            other => other,
        }
    }

    async fn check_root(&self) -> Result<(), Failure> {
        match D::look(self, &OriginPath::root()).await {
            Ok(_) => Ok(()),
            Err(gone) if gone.kind() == OriginErrorKind::NotFound => {
                Err(failure(OriginErrorKind::NoRoot, RootMissing))
            }
            Err(other) => Err(other),
        }
    }

    /// Looks at the files of which the listing told too little.
    async fn complete(&self, folder: &OriginPath, found: Vec<Found>) -> Result<Listed, Failure> {
        let mut listed = Listed::default();
        let mut vague = Vec::new();
        let mut left_out = 0;
        for Found { name, what } in found {
            match what {
                _ if folder.join(&name).is_err() => left_out += 1,
                What::Folder => listed.folders.push(ListedFolder { name, id: None }),
                What::File(version) => listed.files.push(ListedFile { name, version }),
                What::Vague => vague.push(name),
            }
        }
        if left_out > 0 && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                origin = %self.id, %folder, left_out,
                "left out what has a name that no file can have; said only once"
            );
        }
        let looks = vague.into_iter().filter_map(|name| {
            let path = folder.join(&name).ok()?;
            Some(async move { (name, self.head(&path).await) })
        });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS);
        while let Some((name, look)) = looks.next().await {
            match look {
                Ok(Some(version)) => listed.files.push(ListedFile { name, version }),
                Ok(None) => listed.folders.push(ListedFolder { name, id: None }),
                // Gone since it was listed, or a link to nothing.
                Err(gone) if gone.kind() == OriginErrorKind::NotFound => {}
                Err(lost) if lost.kind().is_transient() => return Err(lost),
                Err(failure) => listed.unknown.push((name, failure)),
            }
        }
        Ok(listed)
    }
}

fn not_a_file() -> Failure {
    failure(OriginErrorKind::Invalid, "that is a folder")
}

fn size_of_head(answer: &Response) -> Option<u64> {
    size_of(answer.status(), answer.headers())
}

/// Tells whether the request was led on to a folder.
fn is_folder(answer: &Response) -> bool {
    answer.url().path().ends_with('/')
}

/// Makes the header that says who is asking, and marks it as not to be shown.
fn authorization(
    client: &reqwest::Client,
    url: &Url,
    auth: &WebAuth,
) -> Result<Option<HeaderValue>, WebError> {
    let request = client.get(url.clone());
    let request = match auth {
        WebAuth::Anonymous => return Ok(None),
        WebAuth::Basic { username, .. } if username.contains(':') => {
            return Err(WebError::Credentials("the user name has a ':'"));
        }
        WebAuth::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
        WebAuth::Bearer(token) => request.bearer_auth(token.expose()),
    };
    let bad = || WebError::Credentials("the token has characters that a header cannot have");
    let request = request.build().map_err(|_| bad())?;
    let mut header = request.headers().get(AUTHORIZATION).cloned().ok_or_else(bad)?;
    header.set_sensitive(true);
    Ok(Some(header))
}

impl<D: Dialect> Folders for Web<D> {
    fn origin(&self) -> &OriginId {
        &self.id
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn list(self: Arc<Self>, folder: OriginPath) -> BoxFuture<'static, Result<Listed, Failure>> {
        // Taken here: the listing runs in a task of its own.
        let progress = Progress::current();
        async move {
            let found = match D::list(&self, &folder, &progress).await {
                Err(gone) if folder.is_root() && gone.kind() == OriginErrorKind::NotFound => {
                    return Err(failure(OriginErrorKind::NoRoot, RootMissing));
                }
                found => found?,
            };
            self.complete(&folder, found).await
        }
        .boxed()
    }

    fn look(self: Arc<Self>, path: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>> {
        async move { self.unless_root_is_gone(D::look(&self, &path).await).await }.boxed()
    }
}

/// The half that is the same for both kinds of origin.
pub(super) struct WebOrigin<D>(pub(super) Arc<Web<D>>);

impl<D> fmt::Debug for WebOrigin<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebOrigin")
            .field("id", &self.0.id)
            .field("url", &self.0.place.root().as_str())
            .finish_non_exhaustive()
    }
}

impl<D: Dialect> WebOrigin<D> {
    /// Reads a range, of the version asked for as the head of the answer says, piece by piece.
    async fn read_pieces(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        take: impl FnMut(Bytes) + Send,
    ) -> Result<(), OriginError> {
        let read = self.0.fetch(path, version, range, take).await;
        let read = self.0.unless_folder(path, read).await;
        self.0.unless_root_is_gone(read).await.map_err(|failure| failure.at(&self.0.id, path))
    }
}

#[async_trait]
impl<D: Dialect> Origin for WebOrigin<D> {
    fn id(&self) -> &OriginId {
        &self.0.id
    }

    fn caps(&self) -> OriginCaps {
        // Etags are used where there are, but no server is bound to give one.
        OriginCaps::remote().with_max_range(MAX_RANGE)
    }

    fn scan(&self, request: ScanRequest) -> ScanStream {
        wire::scan(Arc::clone(&self.0), request)
    }

    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        let looked = self.0.unless_root_is_gone(D::look(&self.0, path).await).await;
        let version = looked.and_then(|found| found.ok_or_else(not_a_file));
        let version = version.map_err(|failure| failure.at(&self.0.id, path))?;
        Ok(OriginEntry { path: path.clone(), version })
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
        self.read_pieces(path, version, range, |piece| parts.push(piece)).await
    }

    async fn health(&self) -> Result<OriginHealth, OriginError> {
        let root = OriginPath::root();
        self.0.check_root().await.map_err(|failure| failure.at(&self.0.id, &root))?;
        // The address is not the storage behind it, and HTTP tells nothing of that.
        Ok(OriginHealth { identity: None })
    }

    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

/// Makes a public origin of a [`WebOrigin`].
macro_rules! web_origin {
    ($name:ident, $dialect:ty) => {
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl $name {
            /// Makes an origin. Nothing is asked of the server before something is asked of the origin.
            ///
            /// # Errors
            /// [`WebError`](crate::WebError) when the address, the credentials or the certificates cannot be used.
            pub fn new(
                id: impl Into<::musicfs_core::OriginId>,
                config: &$crate::remote::WebConfig,
                clock: ::std::sync::Arc<dyn ::musicfs_core::Clock>,
            ) -> Result<Self, $crate::remote::WebError> {
                let web = $crate::remote::web::Web::<$dialect>::new(id.into(), config, clock)?;
                Ok(Self($crate::remote::web::WebOrigin(::std::sync::Arc::new(web))))
            }
        }

        #[::async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl ::musicfs_core::Origin for $name {
            fn id(&self) -> &::musicfs_core::OriginId {
                self.0.id()
            }
            fn caps(&self) -> ::musicfs_core::OriginCaps {
                self.0.caps()
            }
            fn scan(&self, request: ::musicfs_core::ScanRequest) -> ::musicfs_core::ScanStream {
                self.0.scan(request)
            }
            async fn stat(
                &self,
                path: &::musicfs_core::OriginPath,
            ) -> Result<::musicfs_core::OriginEntry, ::musicfs_core::OriginError> {
                self.0.stat(path).await
            }
            async fn read(
                &self,
                path: &::musicfs_core::OriginPath,
                version: &::musicfs_core::FileVersion,
                range: ::musicfs_core::ByteRange,
            ) -> Result<::bytes::Bytes, ::musicfs_core::OriginError> {
                self.0.read(path, version, range).await
            }
            async fn read_parts(
                &self,
                path: &::musicfs_core::OriginPath,
                version: &::musicfs_core::FileVersion,
                range: ::musicfs_core::ByteRange,
                parts: &::musicfs_core::PartSink,
            ) -> Result<(), ::musicfs_core::OriginError> {
                self.0.read_parts(path, version, range, parts).await
            }
            async fn health(&self) -> Result<::musicfs_core::OriginHealth, ::musicfs_core::OriginError> {
                self.0.health().await
            }
            fn local(&self) -> Option<&dyn ::musicfs_core::LocalAccess> {
                self.0.local()
            }
        }
    };
}
pub(super) use web_origin;
