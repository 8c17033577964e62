//! Downloading without a mount and without a cache.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musicfs_core::{ByteRange, Clock, Origin, OriginPath, SystemClock};
use musicfs_origins::{OriginSpec, build};

use crate::measure::now;

/// Bytes asked for at once.
const RANGE: u64 = 8 << 20;

/// Reads files by ranges, one after the other, through the library; returns the megabytes per second.
pub(crate) async fn throughput(server: SocketAddr, names: &[PathBuf]) -> f64 {
    let spec = OriginSpec::from_argument(&format!("webdav+http://{server}/"), Path::new("/")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let origin = build(&spec, &|_: &str| None, &clock).unwrap().origin;
    let mut files = Vec::new();
    for name in names {
        let path = OriginPath::new(name.to_str().unwrap()).unwrap();
        files.push((origin.stat(&path).await.unwrap().version, path));
    }
    let (before, mut bytes) = (now(), 0);
    for (version, path) in &files {
        let mut at = 0;
        while at < version.size {
            let part = origin.read(path, version, ByteRange::at(at, RANGE)).await.unwrap();
            at += part.len() as u64;
            bytes += part.len();
        }
    }
    bytes as f64 / (now() - before) / 1e6
}
