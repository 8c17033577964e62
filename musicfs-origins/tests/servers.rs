//! Origins over HTTP, over real servers that the tests start themselves as ordinary processes: the conformance suite
//! over each, directly and through a network that fails.

#![cfg(all(feature = "gcs", feature = "http", feature = "s3", feature = "webdav"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{
    ByteRange, Clock, Origin, OriginEntry, OriginError, OriginErrorKind, OriginPath, ScanRequest, SystemClock,
};
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

/// Has the only object of a bucket, `a b/x.flac`, changed and deleted: a change is seen as one, and what is gone as not
/// found.
async fn changes_and_goes(origin: &impl Origin, put: impl Fn(&[u8]), delete: impl FnOnce()) {
    put(&content(1000));
    let entry = list(origin).await.unwrap().remove(0);
    assert!(entry.version.etag.is_some());
    put(&[7; 1000]);
    assert_eq!(read(origin, &entry, 0, 10).await.unwrap_err().kind, OriginErrorKind::Changed);
    let now = origin.stat(&entry.path).await.unwrap();
    assert_eq!(read(origin, &now, 990, 100).await.unwrap(), vec![7; 10]);
    delete();
    assert_eq!(read(origin, &now, 0, 10).await.unwrap_err().kind, OriginErrorKind::NotFound);
    assert!(list(origin).await.unwrap().is_empty(), "a bucket that is there may be empty");
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
