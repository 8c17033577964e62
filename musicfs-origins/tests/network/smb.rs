//! SMB, over Samba.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{ByteRange, Origin, OriginErrorKind, OriginPath};
use musicfs_origins::{Secret, SmbConfig, SmbOrigin};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files_utf8};
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Samba;
use musicfs_test_utils::origin_conformance;

use crate::tree::{self, LONG, Tree, chain, content, path, read, version_of};

pub(crate) fn config(samba: &Samba, addr: SocketAddr) -> SmbConfig {
    let mut config = SmbConfig::new(addr.ip().to_string(), "music");
    config.port = addr.port();
    config.user = samba.user().to_owned();
    config.password = Some(Secret::new(samba.password()));
    config
}

/// Tells whether Windows would have that name; Samba shows another one for those that it would not.
fn is_windows_name(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| {
        let sign = |byte: &u8| byte.is_ascii_control() || b"\\:*?\"<>|".contains(byte);
        !part.iter().any(sign) && !matches!(part.last(), Some(b' ' | b'.'))
    })
}

fn files() -> Vec<(OriginPath, Bytes)> {
    sample_files_utf8().into_iter().filter(|(path, _)| is_windows_name(path.as_bytes())).collect()
}

/// A server with the suite's files, seen directly.
fn conforming(global: &str, share: &str) -> Fixture {
    let files = files();
    let dir = tree::stored(&files);
    let samba = Samba::with(dir.path(), global);
    let mut config = config(&samba, samba.addr());
    config.share = share.to_owned();
    Fixture::new(SmbOrigin::new("smb", config), files).keeping((samba, dir))
}

/// The same, seen through a proxy that delays and cuts up what passes.
async fn conforming_on_a_bad_line() -> Fixture {
    let files = files();
    let dir = tree::stored(&files);
    let samba = Samba::start(dir.path());
    let proxy = FaultProxy::start(samba.addr()).await.unwrap();
    proxy.set(tree::BAD_LINE);
    let origin = SmbOrigin::new("smb", config(&samba, proxy.addr()));
    Fixture::new(origin, files).keeping((samba, dir, proxy))
}

origin_conformance!(samba, conforming("", "music"));
origin_conformance!(samba_encrypted, conforming("", "sealed"));
origin_conformance!(samba_of_version_2, conforming("server max protocol = SMB2_10", "music"));
origin_conformance!(samba_of_version_3_0, conforming("server max protocol = SMB3_02", "music"));
origin_conformance!(samba_on_a_bad_line, conforming_on_a_bad_line().await);

/// A tree of names that Windows has.
fn plain_tree() -> Tree {
    Tree::filtered(|name| is_windows_name(name.trim_end_matches(".flac").as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn served_tree_keeps_the_contract() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    tree::keeps_the_contract(&SmbOrigin::new("smb", config(&samba, samba.addr())), &tree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_share_keeps_the_contract() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let mut config = config(&samba, samba.addr());
    config.share = "sealed".to_owned();
    tree::keeps_the_contract(&SmbOrigin::new("smb", config.clone()), &tree).await;

    // Where it cannot be had, that is said.
    let old = Samba::with(tree.root(), "server max protocol = SMB3_02");
    config.port = old.addr().port();
    let error = SmbOrigin::new("smb", config).health().await.unwrap_err();
    assert!(
        matches!(error.kind, OriginErrorKind::Unsupported | OriginErrorKind::Denied),
        "{}",
        chain(&error)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn session_encrypted_or_signed_by_force_serves() {
    let tree = plain_tree();
    for global in ["smb encrypt = required", "server signing = mandatory", "server signing = disabled"] {
        let samba = Samba::with(tree.root(), global);
        let origin = SmbOrigin::new("smb", config(&samba, samba.addr()));
        tree::serves_ranges(&origin).await;
        tree::serves_all(&origin, &tree).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_windows_has_not_are_served_under_others() {
    let tree = Tree::new(false);
    let samba = Samba::start(tree.root());
    let origin = SmbOrigin::new("smb", config(&samba, samba.addr()));
    let mut contents = BTreeSet::new();
    let listed = tree::listing(&origin).await;
    let files = tree.files();
    assert_eq!(listed.len(), files.len());
    for entry in listed {
        contents
            .insert(read(&origin, &entry.path, &entry.version, ByteRange::new(0, u64::MAX)).await.to_vec());
    }
    assert!(contents == files.into_values().collect(), "some file's bytes did not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_of_a_share_is_a_root_and_a_missing_one_is_said() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let mut config = config(&samba, samba.addr());
    config.root = path("plain dir/cd 1");
    let origin = SmbOrigin::new("smb", config.clone());
    let listed = tree::listing(&origin).await;
    assert_eq!(listed.len(), 1);
    let bytes = read(&origin, &path("plain.flac"), &listed[0].version, ByteRange::new(0, 99)).await;
    assert!(bytes == tree.files()[&b"plain dir/cd 1/plain.flac"[..]]);

    config.root = path("not mounted");
    let missing = SmbOrigin::new("smb", config.clone());
    assert_eq!(missing.health().await.unwrap_err().kind, OriginErrorKind::NoRoot);
    assert_eq!(missing.stat(&path("x")).await.unwrap_err().kind, OriginErrorKind::NoRoot);
    config.root = OriginPath::root();
    config.share = "no such share".to_owned();
    let missing = SmbOrigin::new("smb", config).health().await.unwrap_err();
    assert_eq!(missing.kind, OriginErrorKind::NoRoot, "{}", chain(&missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_logs_in_by_password_and_nobody_becomes_a_guest_unasked() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let mut config = config(&samba, samba.addr());
    config.password = Some(Secret::new("hunter2"));
    let origin = SmbOrigin::new("smb", config.clone());
    let wrong = origin.health().await.unwrap_err();
    assert_eq!(wrong.kind, OriginErrorKind::Denied, "{}", chain(&wrong));
    assert!(!format!("{origin:?}{wrong:?}{}", chain(&wrong)).contains("hunter2"));

    // This server lets in whom it does not know, as a guest.
    config.user = "nobody we know".to_owned();
    let unknown = SmbOrigin::new("smb", config.clone()).health().await.unwrap_err();
    assert_eq!(unknown.kind, OriginErrorKind::Denied, "{}", chain(&unknown));

    config.user = String::new();
    config.password = None;
    tree::serves_all(&SmbOrigin::new("smb", config.clone()), &tree).await;
    config.share = "sealed".to_owned();
    let refused = SmbOrigin::new("smb", config).health().await.unwrap_err();
    assert!(!refused.kind.is_transient(), "{}", chain(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_cannot_be_reached_is_said_by_kind() {
    let tree = plain_tree();
    let mut samba = Samba::start(tree.root());
    let mut config = config(&samba, samba.addr());
    samba.process().kill();
    let refused = SmbOrigin::new("smb", config.clone()).health().await.unwrap_err();
    assert_eq!(refused.kind, OriginErrorKind::Unavailable, "{}", chain(&refused));
    config.host = "no-such-host.invalid".to_owned();
    let unresolved = SmbOrigin::new("smb", config).health().await.unwrap_err();
    assert_eq!(unresolved.kind, OriginErrorKind::Dns, "{}", chain(&unresolved));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_killed_is_unavailable_and_serves_again_when_back() {
    let tree = plain_tree();
    let mut samba = Samba::start(tree.root());
    let origin = SmbOrigin::new("smb", config(&samba, samba.addr()));
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    samba.process().kill();
    let error = origin.read(&file, &version, ByteRange::new(0, 9)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{}", chain(&error));
    samba.process().restart();
    assert!(read(&origin, &file, &version, ByteRange::new(0, 9)).await == content(5, LONG)[..9]);
    samba.process().restart();
    assert!(read(&origin, &file, &version, ByteRange::new(9, 19)).await == content(5, LONG)[9..19]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_lost_or_stalled_midway_is_said_and_replaced() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let proxy = FaultProxy::start(samba.addr()).await.unwrap();
    let mut config = config(&samba, proxy.addr());
    config.silence = Duration::from_millis(700);
    let origin = SmbOrigin::new("smb", config);
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
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let proxy = FaultProxy::start(samba.addr()).await.unwrap();
    let mut config = config(&samba, proxy.addr());
    config.connections = 1;
    let origin = SmbOrigin::new("smb", config);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    proxy.set([Toxic::Latency(Duration::from_millis(5))]);
    for n in 0..300u64 {
        let read = origin.read(&file, &version, ByteRange::at(n * 1000, 5_000 + n % 2 * 2_000_000));
        drop(tokio::time::timeout(Duration::from_millis(n % 25), read).await);
    }
    proxy.set([]);
    assert!(read(&origin, &file, &version, ByteRange::new(0, u64::MAX)).await == content(5, LONG));
    assert_eq!(proxy.traffic().accepted, 1, "a dropped call cost the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_at_once_are_right_and_each_other_s_neighbours() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let origin = SmbOrigin::new("smb", config(&samba, samba.addr()));
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let bytes = content(5, LONG);
    let reads = (0..64u64).map(|n| {
        let (origin, file, version, bytes) = (&origin, &file, &version, &bytes);
        async move {
            let range = ByteRange::at(n * 40_000, 100_000 + n % 3 * 1_000_000).clamp_to(LONG as u64);
            let got = read(origin, file, version, range).await;
            assert!(got == bytes[range.start() as usize..range.end() as usize], "{range}");
        }
    });
    futures::future::join_all(reads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_costs_one_round_trip_and_a_long_one_two() {
    let tree = plain_tree();
    let samba = Samba::start(tree.root());
    let proxy = FaultProxy::start(samba.addr()).await.unwrap();
    let origin = SmbOrigin::new("smb", config(&samba, proxy.addr()));
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let costs = tree::Costs { first: 1, next: 1, long: 2 };
    tree::reads_in_few_round_trips(&origin, &proxy, &file, &version, costs).await;
}
