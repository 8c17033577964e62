//! Folders that the system mounts from a network, as origins of type `local`. A folder mounted through FUSE stands for
//! them: to this crate an NFS or SMB share looks the same, but for its type.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{
    ByteRange, Clock, FsBacking, LocalAccess, Origin, OriginErrorKind, OriginPath, ScanRequest, SystemClock,
};
use musicfs_origins::{Jitter, LayerConfig, Layered, LocalOrigin, layered};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files_utf8};
use musicfs_test_utils::file_servers::RcloneMount;
use musicfs_test_utils::{FaultyFs, origin_conformance};
use rustix::io::Errno;
use tempfile::TempDir;

fn stored(files: &[(OriginPath, Bytes)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path.as_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

/// The suite's files, but for names with control characters, for which rclone shows others.
fn mounted() -> Fixture {
    let plain = |path: &OriginPath| !path.as_bytes().iter().any(u8::is_ascii_control);
    let files: Vec<_> = sample_files_utf8().into_iter().filter(|(path, _)| plain(path)).collect();
    let dir = stored(&files);
    let mount = RcloneMount::new(dir.path());
    Fixture::new(LocalOrigin::new("nas", mount.at()), files).keeping((mount, dir))
}

origin_conformance!(folder_mounted_through_fuse, mounted());

fn patient(origin: LocalOrigin) -> Layered {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut config = LayerConfig::default();
    config.retry.pauses = vec![Duration::from_millis(50); 200];
    layered(Arc::new(origin), &config, &clock, Jitter::steady())
}

fn path(text: &str) -> OriginPath {
    OriginPath::new(text).unwrap()
}

#[tokio::test]
async fn mounted_folder_has_the_deadlines_of_a_network_and_is_not_watched() {
    let dir = stored(&[(path("a/x.flac"), Bytes::from_static(b"music"))]);
    let mount = RcloneMount::new(dir.path());
    let is_remote = |at: &Path| {
        let origin = LocalOrigin::new("nas", at);
        let caps = origin.caps();
        assert_eq!(caps.remote, !caps.watchable);
        assert_eq!(origin.backing() == FsBacking::Remote, caps.remote);
        caps.remote
    };
    assert!(is_remote(mount.at()));
    assert!(is_remote(&mount.at().join("a")));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(mount.at().join("a"), &link).unwrap();
    assert!(is_remote(&link));
    assert!(!is_remote(dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_whose_server_died_is_unavailable_and_served_again_when_it_is_back() {
    let dir = stored(&[(path("a/x.flac"), Bytes::from_static(b"music"))]);
    let mut mount = RcloneMount::new(dir.path());
    let bare = LocalOrigin::new("nas", mount.at());
    let entry = bare.stat(&path("a/x.flac")).await.unwrap();
    let all = ByteRange::new(0, u64::MAX);

    // The mount stays, and answers "transport endpoint is not connected".
    mount.kill();
    let unavailable = OriginErrorKind::Unavailable;
    assert_eq!(bare.read(&entry.path, &entry.version, all).await.unwrap_err().kind, unavailable);
    assert_eq!(bare.stat(&entry.path).await.unwrap_err().kind, unavailable);
    assert_eq!(bare.health().await.unwrap_err().kind, unavailable);
    let listed: Vec<_> = bare.scan(ScanRequest::all()).collect().await;
    assert!(matches!(&listed[..], [Err(error)] if error.kind == unavailable), "{listed:?}");

    // Nor is the empty folder below the mount the library.
    mount.unmount();
    assert_eq!(bare.read(&entry.path, &entry.version, all).await.unwrap_err().kind, unavailable);
    assert_eq!(bare.health().await.unwrap_err().kind, unavailable);
    let listed: Vec<_> = bare.scan(ScanRequest::all()).collect().await;
    assert!(matches!(&listed[..], [Err(error)] if error.kind == unavailable), "{listed:?}");

    let stack = patient(bare);
    let reading = stack.origin.read(&entry.path, &entry.version, all);
    let remounting = tokio::task::spawn_blocking(move || {
        mount.again();
        mount
    });
    let (read, mount) = tokio::join!(reading, remounting);
    assert_eq!(read.unwrap(), "music");
    drop(mount.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_handle_and_lost_connection_are_tried_again() {
    let dir = TempDir::new().unwrap();
    let flaky = FaultyFs::mount(dir.path(), [("x.flac".into(), b"music".into())]).unwrap();
    let bare = LocalOrigin::new("nas", dir.path());
    let entry = bare.stat(&path("x.flac")).await.unwrap();
    let all = ByteRange::new(0, u64::MAX);
    for errno in [Errno::STALE, Errno::NOTCONN] {
        flaky.fail([errno.raw_os_error()]);
        let error = bare.read(&entry.path, &entry.version, all).await.unwrap_err();
        assert!(error.kind.is_transient(), "{error}: {:?}", error.source);
    }
    flaky.fail([Errno::STALE, Errno::NOTCONN, Errno::STALE].map(Errno::raw_os_error));
    let stack = patient(bare);
    assert_eq!(stack.origin.read(&entry.path, &entry.version, all).await.unwrap(), "music");
    assert_eq!(flaky.left(), 0);
    assert_eq!(stack.metrics.snapshot().failures(), 0);
}
