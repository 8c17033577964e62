//! Origins over HTTP, over real servers that the tests start themselves as ordinary processes: the conformance suite
//! over each, directly and through a network that fails.

#![cfg(all(feature = "azblob", feature = "gcs", feature = "http", feature = "s3", feature = "webdav"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "servers/azblob.rs"]
mod azblob;
#[path = "servers/dav.rs"]
mod dav;
#[path = "servers/gcs.rs"]
mod gcs;
#[path = "servers/index.rs"]
mod index;
#[path = "servers/s3.rs"]
mod s3;
#[path = "servers/scripted.rs"]
mod scripted;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{
    ByteRange, Clock, Origin, OriginEntry, OriginError, OriginErrorKind, OriginPath, ScanRequest, SystemClock,
};
use musicfs_origins::{OriginSpec, build};
use musicfs_test_utils::conformance::origin::Fixture;
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Bucket;
use tempfile::TempDir;

type Files = Vec<(OriginPath, Bytes)>;

/// A folder on this machine for a server to serve.
struct Served {
    dir: TempDir,
}

impl Served {
    fn new(files: &Files) -> Self {
        let served = Self { dir: TempDir::new().unwrap() };
        for (path, bytes) in files {
            served.write(path.as_bytes(), bytes);
        }
        served
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.root().join(OsStr::from_bytes(path))
    }

    /// Writes a file as if it had been there for long: a server calls a version that is seconds old a weak one.
    fn write(&self, path: &[u8], bytes: &[u8]) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, bytes).unwrap();
        self.date(path, 1_600_000_000 + bytes.len() as u64);
    }

    fn date(&self, path: &[u8], secs: u64) {
        let file = fs::File::options().write(true).open(self.place(path)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    }
}

/// Leaves out what rclone, and moto's paths, make something else of: control characters.
fn printable(files: Files) -> Files {
    files.into_iter().filter(|(path, _)| !path.as_bytes().iter().any(u8::is_ascii_control)).collect()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn path(bytes: impl AsRef<[u8]>) -> OriginPath {
    OriginPath::new(bytes).unwrap()
}

fn content(len: usize) -> Bytes {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

async fn list(origin: &impl Origin) -> Result<Vec<OriginEntry>, OriginError> {
    let mut pages = origin.scan(ScanRequest::all());
    let (mut entries, mut complete) = (Vec::new(), false);
    while let Some(page) = pages.next().await {
        let page = page?;
        assert!(page.unlisted.is_empty(), "{:?}", page.unlisted);
        entries.extend(page.entries);
        complete = page.complete;
    }
    assert!(complete);
    Ok(entries)
}

async fn read(origin: &impl Origin, entry: &OriginEntry, from: u64, len: u64) -> Result<Bytes, OriginError> {
    origin.read(&entry.path, &entry.version, ByteRange::at(from, len)).await
}

/// Builds the origin that a table of a configuration file describes.
fn of_table(table: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Arc<dyn Origin> {
    let spec = OriginSpec::from_table(table.parse().unwrap(), Path::new("/")).unwrap();
    build(&spec, &env, &clock()).unwrap().origin
}

fn bucket_with<B: Bucket>(files: &Files) -> B {
    let server = B::with_bucket("music");
    for (path, bytes) in files {
        server.put(path.as_bytes(), bytes);
    }
    server
}

/// Files in a bucket.
fn in_bucket<B, O>(files: Files, origin: fn(SocketAddr) -> O) -> Fixture
where
    B: Bucket,
    O: Origin + 'static,
{
    let server: B = bucket_with(&files);
    Fixture::new(origin(server.addr()), files).keeping(server)
}

/// Files in a bucket that is far away.
async fn in_bucket_in_slices<B, O>(files: Files, origin: fn(SocketAddr) -> O) -> Fixture
where
    B: Bucket,
    O: Origin + 'static,
{
    let server: B = bucket_with(&files);
    let proxy = slicing(server.addr()).await;
    Fixture::new(origin(proxy.addr()), files).keeping((proxy, server))
}

/// A line that is slow to answer and hands on little at once.
async fn slicing(server: SocketAddr) -> FaultProxy {
    let proxy = FaultProxy::start(server).await.unwrap();
    proxy.set([Toxic::Slicer { size: 700, delay: Duration::ZERO }, Toxic::Latency(Duration::from_millis(2))]);
    proxy
}

/// Has the only object of a bucket changed and deleted: a change is seen as one, and what is gone as not found.
async fn changes_and_goes<B: Bucket, O: Origin>(origin: fn(SocketAddr) -> O) {
    let (server, file) = (B::with_bucket("music"), b"a b/x.flac");
    let origin = origin(server.addr());
    server.put(file, &content(1000));
    let entry = list(&origin).await.unwrap().remove(0);
    assert!(entry.version.etag.is_some());
    server.put(file, &[7; 1000]);
    assert_eq!(read(&origin, &entry, 0, 10).await.unwrap_err().kind, OriginErrorKind::Changed);
    let now = origin.stat(&entry.path).await.unwrap();
    assert_eq!(read(&origin, &now, 990, 100).await.unwrap(), vec![7; 10]);
    server.delete(file);
    assert_eq!(read(&origin, &now, 0, 10).await.unwrap_err().kind, OriginErrorKind::NotFound);
    assert!(list(&origin).await.unwrap().is_empty(), "a bucket that is there may be empty");
}

/// Asks an origin in every way for what is in a bucket that is not there: that is said, and nothing is gone.
async fn has_no_root(origin: &impl Origin, step: &str) {
    let error = origin.health().await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::NoRoot, "{}", said(&error));
    assert!(said(&error).contains(step), "{}", said(&error));
    assert_eq!(list(origin).await.unwrap_err().kind, OriginErrorKind::NoRoot);
    assert_eq!(origin.stat(&path("x.flac")).await.unwrap_err().kind, OriginErrorKind::NoRoot);
}

/// A file in the folder `in/my music`, and one beside it.
fn in_and_out() -> Files {
    vec![(path("in/my music/a.flac"), content(10)), (path("b.flac"), content(9))]
}

/// Checks that an origin whose root is that folder, where there is [`in_and_out`], has what is in it.
async fn has_what_is_in(folder: &impl Origin) {
    let entries = list(folder).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].path, path("a.flac"));
    assert_eq!(read(folder, &entries[0], 3, 100).await.unwrap(), content(10).slice(3..));
}

/// Makes an origin with a secret that is wrong, and asks it in every way: that is said with the next step, and the
/// secret is not.
async fn is_denied<O: Origin>(origin: impl FnOnce() -> O, wrong: &str, step: &str) {
    let logs = musicfs_test_utils::captured_logs();
    let origin = origin();
    for error in [list(&origin).await.unwrap_err(), origin.health().await.unwrap_err()] {
        assert_eq!(error.kind, OriginErrorKind::Denied, "{}", said(&error));
        assert!(said(&error).contains(step), "{}", said(&error));
        assert!(!said(&error).contains(wrong));
    }
    assert!(!logs.text().contains(wrong));
}

/// All that an error says, causes included.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} / {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" / {cause} / {cause:?}"));
        source = cause.source();
    }
    text
}
