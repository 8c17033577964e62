//! Where music comes from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{ByteRange, FileVersion, OriginId, OriginPath, PartSink};

/// What an origin can do, fixed for its lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OriginCaps {
    /// Longest range that one [`Origin::read`] may ask for, in bytes; callers split longer ones.
    pub max_range: u64,
    /// How many reads at once serve this origin best.
    pub concurrency: usize,
    /// Whether versions carry an etag, so that equal versions prove equal bytes.
    pub strong_versions: bool,
    /// Whether changes can be watched for, rather than polled.
    pub watchable: bool,
    /// Whether reaching the origin crosses a network, which decides deadlines and what is worth caching.
    pub remote: bool,
}

impl OriginCaps {
    /// Capabilities of a disk of this machine.
    pub const fn local() -> Self {
        Self { max_range: u64::MAX, concurrency: 64, strong_versions: false, watchable: true, remote: false }
    }

    /// Capabilities that any server on a network may be expected to have.
    pub const fn remote() -> Self {
        Self { max_range: u64::MAX, concurrency: 8, strong_versions: false, watchable: false, remote: true }
    }

    /// Sets [`OriginCaps::max_range`].
    pub const fn with_max_range(mut self, bytes: u64) -> Self {
        self.max_range = bytes;
        self
    }

    /// Sets [`OriginCaps::concurrency`].
    pub const fn with_concurrency(mut self, reads: usize) -> Self {
        self.concurrency = reads;
        self
    }

    /// Says that versions carry etags.
    pub const fn with_strong_versions(mut self) -> Self {
        self.strong_versions = true;
        self
    }

    /// Says that changes cannot be watched for.
    pub const fn without_watching(mut self) -> Self {
        self.watchable = false;
        self
    }

    /// Says that reaching the origin crosses a network.
    pub const fn over_network(mut self) -> Self {
        self.remote = true;
        self
    }
}

/// One file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginEntry {
    /// Its path.
    pub path: OriginPath,
    /// Its version.
    pub version: FileVersion,
}

/// Where to go on with a scan that was interrupted: opaque to all but the origin that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor(pub Arc<str>);

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// The folder to list, with everything below; the root for all.
    pub under: OriginPath,
    /// Where to go on; `None` from the beginning.
    pub resume: Option<ScanCursor>,
}

impl ScanRequest {
    /// Asks for everything, from the beginning.
    pub fn all() -> Self {
        Self { under: OriginPath::root(), resume: None }
    }
}

/// A folder that could not be listed: nothing may be concluded of what is below it.
#[derive(Debug)]
pub struct UnlistedFolder {
    /// The folder.
    pub path: OriginPath,
    /// Why.
    pub error: OriginError,
}

/// A part of a listing.
#[derive(Debug, Default)]
pub struct ScanPage {
    /// Files, those of one folder together, no path twice in a scan.
    pub entries: Vec<OriginEntry>,
    /// Folders that could not be listed and are left out, with all below.
    pub unlisted: Vec<UnlistedFolder>,
    /// Resumes after this page; `None` where the origin cannot.
    pub cursor: Option<ScanCursor>,
    /// Whether the listing is complete with this page. Only the last page may say so.
    pub complete: bool,
}

/// A listing in the making. Dropping it stops the listing.
pub type ScanStream = BoxStream<'static, Result<ScanPage, OriginError>>;

/// What an origin says of its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginHealth {
    /// What identifies the storage behind the origin (a filesystem id, a bucket, a host key), so that another
    /// disk mounted in the same place is not taken for this one. `None` where there is no such thing.
    pub identity: Option<String>,
}

/// Kind of filesystem below a file that the operating system can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsBacking {
    /// On a disk or in memory of this machine: the kernel may read it without us.
    Local,
    /// Behind a network or another daemon: a read may hang, so that it must go through our deadlines.
    Remote,
}

/// Files that the operating system can open by path.
///
/// All methods block; call them where blocking is allowed.
pub trait LocalAccess: Send + Sync {
    /// Opens `path` for reading. Symbolic links are followed only inside the origin.
    ///
    /// # Errors
    /// As [`Origin::read`].
    fn open(&self, path: &OriginPath) -> Result<std::fs::File, OriginError>;
    /// Tells what filesystem the origin is on.
    fn backing(&self) -> FsBacking;
    /// Returns the version of an open file, as a listing would.
    ///
    /// # Errors
    /// As [`Origin::stat`].
    fn version(&self, file: &std::fs::File) -> Result<FileVersion, OriginError>;
}

/// A place that holds music. It is only ever read.
///
/// # Contract
/// * **Paths** are relative to the origin's root, as bytes; what a listing gives, every other method takes.
/// * **Ranges** are half-open offsets, as in a filesystem: a range past the end reads as empty, one that crosses
///   the end is cut there, and otherwise the answer has exactly the length asked for. It is never short.
/// * **Versions**: bytes belong to exactly the version asked for, or the call fails with
///   [`Changed`](OriginErrorKind::Changed). Two versions are never mixed in an answer. Where the origin has no
///   strong versions this holds as far as size and modification time can tell.
/// * **Listing**: each file once; hidden files and files of any type are listed, folders and special files are
///   not. Deletion may be concluded only from a stream whose last page says `complete`, and not below a folder
///   that it names as unlisted. A stream that fails yields one error and ends.
/// * **Errors** carry a kind that says whether to try again ([`OriginErrorKind::retry`]). An origin does not
///   retry by itself; one layer above does. A wrapper hands the kind on unchanged.
/// * **Cancel safety**: dropping any future or stream is safe, at any point; nothing is left half done.
/// * **Concurrency**: all methods may be called at the same time, from any task. No method blocks its thread.
/// * **Nothing is written**, ever, nor are access times changed where that can be avoided.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// Returns the origin's id.
    fn id(&self) -> &OriginId;

    /// Returns what the origin can do.
    fn caps(&self) -> OriginCaps;

    /// Lists files in pages. Nothing is asked of the origin before the stream is polled.
    fn scan(&self, request: ScanRequest) -> ScanStream;

    /// Returns what is at `path` now.
    ///
    /// # Errors
    /// [`NotFound`](OriginErrorKind::NotFound) when nothing is there,
    /// [`Invalid`](OriginErrorKind::Invalid) when it is not a file; transient kinds as they occur.
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError>;

    /// Reads `range` of `version` of the file at `path`.
    ///
    /// # Errors
    /// [`Changed`](OriginErrorKind::Changed) when the file is no longer of that version,
    /// [`NotFound`](OriginErrorKind::NotFound) when it is gone, [`Denied`](OriginErrorKind::Denied) when it may
    /// not be read; transient kinds as they occur.
    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError>;

    /// Reads a range as [`read`](Self::read) does, and hands its bytes on as they come: `parts` is given them in order,
    /// and when this returns, all of the range. What it is given is of the version asked for, also when this fails
    /// later on; a call that is dropped may have given any part.
    ///
    /// By default, the range is read by `read` piece after piece (see [`read_in_steps`]). An origin that sees its bytes
    /// come one by one, after it was told which version they are of, does better.
    ///
    /// # Errors
    /// As `read`.
    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        read_in_steps(self, path, version, range, parts).await
    }

    /// Asks whether the origin is there, as cheaply as can be.
    ///
    /// # Errors
    /// The reason why it is not.
    async fn health(&self) -> Result<OriginHealth, OriginError>;

    /// Returns access by the operating system's paths, for origins whose files are files of this machine. A
    /// wrapper that changes what is read must return `None`.
    fn local(&self) -> Option<&dyn LocalAccess>;
}

/// Longest first piece of [`read_in_steps`], in bytes: with shorter ones, more of the time goes into asking.
const FIRST_STEP: u64 = 1 << 20;

/// Reads a range as [`Origin::read_parts`] does, by calling [`Origin::read`] for one piece after the other.
///
/// The first piece is of 1 MiB, and each as long as all before it, so that the first bytes come soon and a long range
/// costs few calls.
///
/// # Errors
/// As [`Origin::read`].
pub async fn read_in_steps<O: Origin + ?Sized>(
    origin: &O,
    path: &OriginPath,
    version: &FileVersion,
    range: ByteRange,
    parts: &PartSink,
) -> Result<(), OriginError> {
    let range = range.clamp_to(version.size);
    let (mut at, mut len) = (range.start(), FIRST_STEP);
    loop {
        let step = ByteRange::new(at, at.saturating_add(len).min(range.end()));
        parts.push(origin.read(path, version, step).await?);
        if step.end() == range.end() {
            return Ok(());
        }
        (at, len) = (step.end(), step.end() - range.start());
    }
}

#[async_trait]
impl<T: Origin + ?Sized> Origin for Arc<T> {
    fn id(&self) -> &OriginId {
        (**self).id()
    }
    fn caps(&self) -> OriginCaps {
        (**self).caps()
    }
    fn scan(&self, request: ScanRequest) -> ScanStream {
        (**self).scan(request)
    }
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        (**self).stat(path).await
    }
    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        (**self).read(path, version, range).await
    }
    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        (**self).read_parts(path, version, range, parts).await
    }
    async fn health(&self) -> Result<OriginHealth, OriginError> {
        (**self).health().await
    }
    fn local(&self) -> Option<&dyn LocalAccess> {
        (**self).local()
    }
}

/// Whether, and when, a failed call is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The answer will be the same.
    Never,
    /// After a back-off.
    Backoff,
    /// Not before this long from now.
    After(Duration),
}

/// What went wrong at an origin, by what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginErrorKind {
    /// There is nothing at that path.
    NotFound,
    /// Not allowed, by permissions or for want of credentials.
    Denied,
    /// The file is not of the version asked for.
    Changed,
    /// The request makes no sense there (a path that the origin cannot have, a folder read as a file).
    Invalid,
    /// The origin cannot do this.
    Unsupported,
    /// What came was not what was asked for, as far as can be told.
    Corrupt,
    /// Not reachable or out of order; it may be well again.
    Unavailable,
    /// It answers, but has no such root (bucket, share, export, folder): the name is wrong, or a disk is not mounted.
    /// It may appear, so that nothing below is gone.
    NoRoot,
    /// Asked to slow down.
    Throttled {
        /// The wait that the origin asks for, when it says.
        after: Option<Duration>,
    },
    /// No answer in time.
    TimedOut,
    /// Its name could not be resolved.
    Dns,
}

impl OriginErrorKind {
    /// Tells whether the call is worth repeating.
    pub const fn retry(self) -> Retry {
        match self {
            Self::NotFound
            | Self::Denied
            | Self::Changed
            | Self::Invalid
            | Self::Unsupported
            | Self::Corrupt => Retry::Never,
            Self::Unavailable
            | Self::NoRoot
            | Self::TimedOut
            | Self::Dns
            | Self::Throttled { after: None } => Retry::Backoff,
            Self::Throttled { after: Some(wait) } => Retry::After(wait),
        }
    }

    /// Tells whether the failure may pass by itself.
    pub const fn is_transient(self) -> bool {
        !matches!(self.retry(), Retry::Never)
    }

    /// Sorts an operating system's error.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory => Self::NotFound,
            Io::PermissionDenied => Self::Denied,
            Io::InvalidInput | Io::InvalidFilename | Io::IsADirectory => Self::Invalid,
            Io::Unsupported => Self::Unsupported,
            Io::InvalidData | Io::UnexpectedEof => Self::Corrupt,
            Io::TimedOut => Self::TimedOut,
            _ => Self::Unavailable,
        }
    }
}

impl fmt::Display for OriginErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Denied => "permission denied",
            Self::Changed => "changed meanwhile",
            Self::Invalid => "invalid request",
            Self::Unsupported => "not supported",
            Self::Corrupt => "corrupt answer",
            Self::Unavailable => "unavailable",
            Self::NoRoot => "its root is not there",
            Self::Throttled { .. } => "asked to slow down",
            Self::TimedOut => "timed out",
            Self::Dns => "name not resolved",
        })
    }
}

/// A failure at an origin: where, what kind, and what caused it.
#[derive(Debug, thiserror::Error)]
#[error("{origin}{}{path}: {kind}", if path.is_root() { "" } else { ":" })]
pub struct OriginError {
    /// The origin.
    pub origin: OriginId,
    /// What was asked for; the root where it was nothing in particular.
    pub path: OriginPath,
    /// What kind of failure.
    pub kind: OriginErrorKind,
    /// What the origin's library said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl OriginError {
    /// Makes an error without a cause.
    pub fn new(origin: &OriginId, path: &OriginPath, kind: OriginErrorKind) -> Self {
        Self { origin: origin.clone(), path: path.clone(), kind, source: None }
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Makes an error of the kind that [`OriginErrorKind::of_io`] sorts `error` into.
    pub fn from_io(origin: &OriginId, path: &OriginPath, error: std::io::Error) -> Self {
        Self::new(origin, path, OriginErrorKind::of_io(&error)).with_source(error)
    }
}
