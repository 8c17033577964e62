//! SFTP, over OpenSSH and rclone.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use musicfs_core::{ByteRange, Origin, OriginErrorKind, OriginPath};
use musicfs_origins::{Secret, SftpAuth, SftpConfig, SftpOrigin};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files};
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::{Rclone, Sshd};
use musicfs_test_utils::origin_conformance;

use crate::tree::{self, LONG, Tree, chain, content, path, read, version_of};

/// Makes a configuration for the server as seen at `addr`.
fn config(sshd: &Sshd, addr: SocketAddr, tree: &Tree) -> SftpConfig {
    at(sshd, addr, tree.root())
}

pub(crate) fn at(sshd: &Sshd, addr: SocketAddr, root: &Path) -> SftpConfig {
    let mut config = SftpConfig::new(addr.ip().to_string(), sshd.user());
    config.port = addr.port();
    config.root = root.as_os_str().as_encoded_bytes().to_vec();
    config.auth = vec![SftpAuth::Key { path: sshd.key(), passphrase: None }];
    config.known_hosts = vec![sshd.known_hosts(addr, false)];
    config
}

fn origin(sshd: &Sshd, tree: &Tree) -> SftpOrigin {
    SftpOrigin::new("ssh", config(sshd, sshd.addr(), tree))
}

/// An OpenSSH server with the suite's files, seen directly.
fn conforming() -> Fixture {
    let (sshd, files) = (Sshd::start(), sample_files());
    let dir = tree::stored(&files);
    let origin = SftpOrigin::new("ssh", at(&sshd, sshd.addr(), dir.path()));
    Fixture::new(origin, files).keeping((sshd, dir))
}

/// The same, seen through a proxy that delays and cuts up what passes.
async fn conforming_on_a_bad_line() -> Fixture {
    let (sshd, files) = (Sshd::start(), sample_files());
    let dir = tree::stored(&files);
    let proxy = FaultProxy::start(sshd.addr()).await.unwrap();
    proxy.set(tree::BAD_LINE);
    let origin = SftpOrigin::new("ssh", at(&sshd, proxy.addr(), dir.path()));
    Fixture::new(origin, files).keeping((sshd, dir, proxy))
}

origin_conformance!(openssh, conforming());
origin_conformance!(openssh_on_a_bad_line, conforming_on_a_bad_line().await);

#[tokio::test(flavor = "multi_thread")]
async fn openssh_served_tree_keeps_the_contract() {
    let (sshd, tree) = (Sshd::start(), Tree::new(true));
    tree::keeps_the_contract(&origin(&sshd, &tree), &tree).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_served_tree_keeps_the_contract_by_password() {
    let tree = Tree::new(false);
    let server = Rclone::sftp(tree.root(), "me", "pass word");
    let addr = server.addr();
    let mut config = SftpConfig::new("127.0.0.1", "me");
    config.port = addr.port();
    config.auth = vec![SftpAuth::Password(Secret::new("pass word"))];
    // Its key is made anew for each server: it is taken from what the refusal advises.
    let dir = tempfile::tempdir().unwrap();
    config.known_hosts = vec![dir.path().join("known_hosts")];
    let refused = SftpOrigin::new("ssh", config.clone()).health().await.unwrap_err();
    assert_eq!(refused.kind, OriginErrorKind::Denied);
    let advice = chain(&refused);
    let line = advice.lines().last().unwrap();
    std::fs::write(&config.known_hosts[0], format!("{line}\n")).unwrap();
    tree::keeps_the_contract(&SftpOrigin::new("ssh", config.clone()), &tree).await;

    config.auth = vec![SftpAuth::Password(Secret::new("wrong one"))];
    let refused = SftpOrigin::new("ssh", config).health().await.unwrap_err();
    assert_eq!(refused.kind, OriginErrorKind::Denied, "{}", chain(&refused));
    assert!(!format!("{refused:?}").contains("wrong one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_agents_log_in_and_strangers_do_not() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let agent = sshd.agent();
    let (locked, passphrase) = sshd.locked_key();
    let good = [
        SftpAuth::Key { path: locked.clone(), passphrase: Some(Secret::new(passphrase)) },
        SftpAuth::Key { path: sshd.rsa_key(), passphrase: None },
        SftpAuth::Agent { socket: agent.socket().to_owned() },
    ];
    let bad = [
        SftpAuth::Key { path: locked.clone(), passphrase: None },
        SftpAuth::Key { path: locked, passphrase: Some(Secret::new("sesame, close")) },
        SftpAuth::Key { path: sshd.strange_key(), passphrase: None },
        SftpAuth::Key { path: "/no/such/key".into(), passphrase: None },
        SftpAuth::Agent { socket: "/no/such/socket".into() },
        SftpAuth::Password(Secret::new("sesame, close")),
    ];
    for way in good {
        let mut config = config(&sshd, sshd.addr(), &tree);
        // A way that fails does not keep the next from being tried.
        config.auth = vec![bad[2].clone(), way.clone()];
        let health = SftpOrigin::new("ssh", config).health().await;
        assert!(health.is_ok(), "{way:?}: {}", chain(&health.unwrap_err()));
    }
    for way in bad {
        let mut config = config(&sshd, sshd.addr(), &tree);
        config.auth = vec![way.clone()];
        let origin = SftpOrigin::new("ssh", config);
        let error = origin.health().await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::Denied, "{way:?}: {}", chain(&error));
        assert!(
            !chain(&error).contains("sesame, close") && !format!("{error:?}{origin:?}").contains("sesame")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_key_decides_whether_anything_is_sent() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let mut config = config(&sshd, sshd.addr(), &tree);
    config.known_hosts = vec![sshd.known_hosts(sshd.addr(), true)];
    assert!(SftpOrigin::new("ssh", config.clone()).health().await.is_ok(), "a hashed name is not found");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    config.known_hosts = vec![file.clone()];
    let origin = SftpOrigin::new("ssh", config.clone());
    let unknown = origin.health().await.unwrap_err();
    assert_eq!(unknown.kind, OriginErrorKind::Denied);
    let advice = chain(&unknown);
    let line = advice.lines().last().unwrap().to_owned();
    assert!(line.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", sshd.addr().port())), "{advice}");

    // The same origin goes on once the advice is followed.
    std::fs::write(&file, format!("{line}\n")).unwrap();
    assert!(origin.health().await.is_ok());

    let other = std::fs::read_to_string(sshd.key().with_extension("pub")).unwrap();
    std::fs::write(&file, format!("[127.0.0.1]:{} {other}", sshd.addr().port())).unwrap();
    let changed = SftpOrigin::new("ssh", config).health().await.unwrap_err();
    assert_eq!(changed.kind, OriginErrorKind::Denied);
    assert!(chain(&changed).contains("HAS CHANGED"), "{}", chain(&changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_cannot_be_reached_is_said_by_kind() {
    let (mut sshd, tree) = (Sshd::start(), Tree::new(false));
    let mut config = config(&sshd, sshd.addr(), &tree);
    sshd.process().kill();
    let refused = SftpOrigin::new("ssh", config.clone()).health().await.unwrap_err();
    assert_eq!(refused.kind, OriginErrorKind::Unavailable, "{}", chain(&refused));
    config.host = "no-such-host.invalid".to_owned();
    let unresolved = SftpOrigin::new("ssh", config).health().await.unwrap_err();
    assert_eq!(unresolved.kind, OriginErrorKind::Dns, "{}", chain(&unresolved));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_that_is_missing_is_said_and_no_file_is_gone() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let mut config = config(&sshd, sshd.addr(), &tree);
    config.root.extend_from_slice(b"/not mounted");
    let origin = SftpOrigin::new("ssh", config);
    assert_eq!(origin.health().await.unwrap_err().kind, OriginErrorKind::NoRoot);
    assert_eq!(origin.stat(&path("plain.flac")).await.unwrap_err().kind, OriginErrorKind::NoRoot);
    use futures::StreamExt;
    let first = origin.scan(musicfs_core::ScanRequest::all()).next().await.unwrap();
    assert_eq!(first.unwrap_err().kind, OriginErrorKind::NoRoot);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_inside_the_root_only() {
    use std::os::unix::fs::symlink;
    let (sshd, tree) = (Sshd::start(), Tree::filtered(|name| name == "plain.flac"));
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    symlink(outside.path().join("secret"), tree.on_disk(b"out.flac")).unwrap();
    symlink(outside.path(), tree.on_disk(b"outside")).unwrap();
    symlink("plain.flac", tree.on_disk(b"link.flac")).unwrap();
    symlink("no files", tree.on_disk(b"linked folder")).unwrap();
    symlink("..", tree.on_disk(b"no files/up")).unwrap();
    symlink("nowhere", tree.on_disk(b"broken.flac")).unwrap();
    tree.write(b"no files/x.flac", b"x");
    let origin = origin(&sshd, &tree);
    let listed = tree::listing(&origin).await;
    let names: Vec<String> = listed.iter().map(|entry| entry.path.to_string()).collect();
    for name in ["link.flac", "linked folder/x.flac", "no files/x.flac", "plain.flac"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is missing from {names:?}");
    }
    for part in ["out.flac", "outside", "broken", "up/"] {
        assert!(!names.iter().any(|listed| listed.contains(part)), "{part} is in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_killed_is_unavailable_and_serves_again_when_back() {
    let (mut sshd, tree) = (Sshd::start(), Tree::new(false));
    let origin = origin(&sshd, &tree);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    sshd.process().kill();
    let error = origin.read(&file, &version, ByteRange::new(0, 9)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{}", chain(&error));
    sshd.process().restart();
    assert!(read(&origin, &file, &version, ByteRange::new(0, 9)).await == content(5, LONG)[..9]);

    // Restarted while nobody looked: the call that finds its connection lost makes another.
    sshd.process().restart();
    assert!(read(&origin, &file, &version, ByteRange::new(9, 19)).await == content(5, LONG)[9..19]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_lost_or_stalled_midway_is_said_and_replaced() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let proxy = FaultProxy::start(sshd.addr()).await.unwrap();
    let mut config = config(&sshd, proxy.addr(), &tree);
    config.silence = Duration::from_millis(700);
    let origin = SftpOrigin::new("ssh", config);
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
async fn dropped_calls_poison_nothing_and_leave_no_handle_open() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let proxy = FaultProxy::start(sshd.addr()).await.unwrap();
    let mut config = config(&sshd, proxy.addr(), &tree);
    config.connections = 1;
    let origin = SftpOrigin::new("ssh", config);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    proxy.set([Toxic::Latency(Duration::from_millis(5))]);
    // More than the server would let us have open at once (OpenSSH: 100 handles).
    for n in 0..250u64 {
        let name = path(format!("many/{n:04}.flac"));
        let small = musicfs_core::FileVersion { size: 3, ..version.clone() };
        let read = origin.read(&name, &small, ByteRange::new(0, 3));
        let gone = tokio::time::timeout(Duration::from_millis(n % 25), read).await;
        drop(gone);
    }
    proxy.set([]);
    assert!(read(&origin, &file, &version, ByteRange::new(0, u64::MAX)).await == content(5, LONG));
    tree::serves_ranges(&origin).await;
    assert_eq!(proxy.traffic().accepted, 1, "a dropped call cost the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_at_once_are_right_and_each_other_s_neighbours() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let origin = origin(&sshd, &tree);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let bytes = content(5, LONG);
    let reads = (0..64u64).map(|n| {
        let (origin, file, version, bytes) = (&origin, &file, &version, &bytes);
        async move {
            let range = ByteRange::at(n * 40_000, 100_000).clamp_to(LONG as u64);
            let got = read(origin, file, version, range).await;
            assert!(got == bytes[range.start() as usize..range.end() as usize], "{range}");
        }
    });
    futures::future::join_all(reads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_read_costs_two_round_trips_and_the_next_one() {
    let (sshd, tree) = (Sshd::start(), Tree::new(false));
    let proxy = FaultProxy::start(sshd.addr()).await.unwrap();
    let origin = SftpOrigin::new("ssh", config(&sshd, proxy.addr(), &tree));
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let costs = tree::Costs { first: 2, next: 1, long: 1 };
    tree::reads_in_few_round_trips(&origin, &proxy, &file, &version, costs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_folder_is_named_and_the_rest_listed() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::filtered(|name| name == "plain.flac");
    let folder = tree.on_disk(b"many");
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(tree.root(), 0o755);
    allow(&folder, 0o700);
    allow(&tree.on_disk(b"long.flac"), 0o000);
    let sshd = Sshd::start_without_rights();
    if sshd.user() != "root" {
        allow(&folder, 0o000);
    }
    let origin = origin(&sshd, &tree);
    let pages = tree::pages(&origin, musicfs_core::ScanRequest::all()).await;
    let unlisted: Vec<(&OriginPath, OriginErrorKind)> =
        pages.iter().flat_map(|page| &page.unlisted).map(|u| (&u.path, u.error.kind)).collect();
    assert_eq!(unlisted, [(&path("many"), OriginErrorKind::Denied)]);
    let listed = pages.iter().map(|page| page.entries.len()).sum::<usize>();
    assert!(listed > 3 && listed < 300 && pages.last().unwrap().complete);
    let file = path("long.flac");
    let version = version_of(&origin, &file).await;
    let denied = origin.read(&file, &version, ByteRange::new(0, 9)).await.unwrap_err();
    assert_eq!(denied.kind, OriginErrorKind::Denied, "{}", chain(&denied));
    allow(&folder, 0o755);
}
