//! NFS, over rclone.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{ByteRange, Origin, OriginErrorKind, OriginPath};
use musicfs_origins::{NfsConfig, NfsOrigin};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files};
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Rclone;
use musicfs_test_utils::origin_conformance;

use crate::tree::{self, LONG, Tree, chain, content, path, read, version_of};

pub(crate) fn config(addr: SocketAddr) -> NfsConfig {
    let mut config = NfsConfig::new(addr.ip().to_string(), "/");
    config.mount_port = Some(addr.port());
    config.nfs_port = Some(addr.port());
    config
}

/// The suite's files, but for names with control characters, for which rclone shows others.
fn files() -> Vec<(OriginPath, Bytes)> {
    let plain = |path: &OriginPath| !path.as_bytes().iter().any(u8::is_ascii_control);
    sample_files().into_iter().filter(|(path, _)| plain(path)).collect()
}

/// A server with the suite's files, seen directly.
fn conforming() -> Fixture {
    let files = files();
    let dir = tree::stored(&files);
    let server = Rclone::nfs(dir.path());
    let origin = NfsOrigin::new("nfs", config(server.addr()));
    Fixture::new(origin, files).keeping((server, dir))
}

/// The same, seen through a proxy that delays and cuts up what passes.
async fn conforming_on_a_bad_line() -> Fixture {
    let files = files();
    let dir = tree::stored(&files);
    let server = Rclone::nfs(dir.path());
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    proxy.set(tree::BAD_LINE);
    let origin = NfsOrigin::new("nfs", config(proxy.addr()));
    Fixture::new(origin, files).keeping((server, dir, proxy))
}

origin_conformance!(rclone, conforming());
origin_conformance!(rclone_on_a_bad_line, conforming_on_a_bad_line().await);

#[tokio::test(flavor = "multi_thread")]
async fn served_tree_keeps_the_contract() {
    let tree = Tree::new(true);
    let server = Rclone::nfs(tree.root());
    tree::keeps_the_contract(&NfsOrigin::new("nfs", config(server.addr())), &tree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_killed_is_unavailable_and_serves_again_when_back() {
    let tree = Tree::new(false);
    let mut server = Rclone::nfs(tree.root());
    let origin = NfsOrigin::new("nfs", config(server.addr()));
    let file = path("no files dir/x.flac");
    tree.write(file.as_bytes(), b"x");
    let version = version_of(&origin, &file).await;
    server.process().kill();
    let error = origin.read(&file, &version, ByteRange::new(0, 9)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{}", chain(&error));
    // It comes back without any of the handles that it gave us.
    server.process().restart();
    assert_eq!(&read(&origin, &file, &version, ByteRange::new(0, 9)).await[..], b"x");
    server.process().restart();
    assert_eq!(&read(&origin, &file, &version, ByteRange::new(0, 9)).await[..], b"x");
    tree::serves_all(&origin, &tree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_lost_or_stalled_midway_is_said_and_replaced() {
    let tree = Tree::new(false);
    let server = Rclone::nfs(tree.root());
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let mut config = config(proxy.addr());
    config.silence = Duration::from_millis(700);
    let origin = NfsOrigin::new("nfs", config);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let all = ByteRange::new(0, u64::MAX);
    for (toxic, kind) in [
        (Toxic::ResetAfter(1_000_000), OriginErrorKind::Unavailable),
        (Toxic::LimitData(1_000_000), OriginErrorKind::Unavailable),
        (Toxic::StallAfter(1_000_000), OriginErrorKind::TimedOut),
    ] {
        proxy.set([toxic]);
        let error = origin.read(&file, &version, all).await.unwrap_err();
        assert_eq!(error.kind, kind, "{toxic:?}: {}", chain(&error));
        proxy.set([]);
        assert!(read(&origin, &file, &version, all).await == content(5, LONG), "after {toxic:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_poison_nothing() {
    let tree = Tree::new(false);
    let server = Rclone::nfs(tree.root());
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let mut config = config(proxy.addr());
    config.connections = 1;
    let origin = NfsOrigin::new("nfs", config);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let connections = proxy.traffic().accepted;
    proxy.set([Toxic::Latency(Duration::from_millis(5))]);
    for n in 0..100u64 {
        let read = origin.read(&file, &version, ByteRange::at(n * 1000, 500_000));
        drop(tokio::time::timeout(Duration::from_millis(n % 25), read).await);
    }
    proxy.set([]);
    assert!(read(&origin, &file, &version, ByteRange::new(0, u64::MAX)).await == content(5, LONG));
    assert_eq!(proxy.traffic().accepted, connections, "a dropped call cost the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_nfs_server_is_said_by_kind() {
    let tree = Tree::filtered(|_| false);
    let mut server = Rclone::nfs(tree.root());
    let mut config = config(server.addr());
    server.process().kill();
    let refused = NfsOrigin::new("nfs", config.clone()).health().await.unwrap_err();
    assert_eq!(refused.kind, OriginErrorKind::Unavailable, "{}", chain(&refused));
    config.host = "no-such-host.invalid".to_owned();
    let unresolved = NfsOrigin::new("nfs", config.clone()).health().await.unwrap_err();
    assert_eq!(unresolved.kind, OriginErrorKind::Dns, "{}", chain(&unresolved));

    // Somebody who accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.host = "127.0.0.1".to_owned();
    config.mount_port = Some(silent.local_addr().unwrap().port());
    config.connect_timeout = Duration::from_millis(300);
    let nobody = NfsOrigin::new("nfs", config).health().await.unwrap_err();
    assert_eq!(nobody.kind, OriginErrorKind::TimedOut, "{}", chain(&nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_read_of_a_listed_file_costs_two_round_trips_and_the_next_one() {
    let tree = Tree::new(false);
    let server = Rclone::nfs(tree.root());
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let origin = NfsOrigin::new("nfs", config(proxy.addr()));
    tree::listing(&origin).await;
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let costs = tree::Costs { first: 2, next: 1, long: 1 };
    tree::reads_in_few_round_trips(&origin, &proxy, &file, &version, costs).await;
}
