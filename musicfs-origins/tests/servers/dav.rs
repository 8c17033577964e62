//! WebDAV, over Apache and rclone.

use std::net::SocketAddr;

use musicfs_core::{Origin, OriginErrorKind, ScanRequest};
use musicfs_origins::{Secret, WebAuth, WebConfig, WebdavOrigin};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files, sample_files_utf8};
use musicfs_test_utils::fault_proxy::FaultProxy;
use musicfs_test_utils::file_servers::{Rclone, WebServer};
use musicfs_test_utils::origin_conformance;

use crate::{Files, Served, clock, content, list, path, printable, read, said, slicing};

fn origin(addr: SocketAddr) -> WebdavOrigin {
    WebdavOrigin::new("dav", &WebConfig::new(format!("http://{addr}/")), clock()).unwrap()
}

fn apache(files: Files) -> Fixture {
    let served = Served::new(&files);
    let server = WebServer::apache(served.root());
    Fixture::new(origin(server.addr()), files).keeping((server, served))
}

fn rclone(files: Files) -> Fixture {
    let served = Served::new(&files);
    let server = Rclone::webdav(served.root(), None);
    Fixture::new(origin(server.addr()), files).keeping((server, served))
}

async fn proxied(files: Files) -> Fixture {
    let served = Served::new(&files);
    let server = Rclone::webdav(served.root(), None);
    let proxy = slicing(server.addr()).await;
    Fixture::new(origin(proxy.addr()), files).keeping((proxy, server, served))
}

origin_conformance!(dav_of_apache, apache(sample_files()));
origin_conformance!(dav_of_rclone, rclone(printable(sample_files_utf8())));
origin_conformance!(dav_through_a_network_in_slices, proxied(printable(sample_files_utf8())).await);

#[tokio::test]
async fn apache_versions_are_strong_and_follow_the_file() {
    let served = Served::new(&vec![(path("a b/x.flac"), content(1000))]);
    let server = WebServer::apache(served.root());
    let origin = origin(server.addr());
    let entry = list(&origin).await.unwrap().remove(0);
    assert!(entry.version.etag.is_some() && entry.version.mtime.is_some());

    // Of the same length, so that only the version tells.
    served.write(b"a b/x.flac", &[7; 1000]);
    served.date(b"a b/x.flac", 1_650_000_000);
    assert_eq!(read(&origin, &entry, 0, 10).await.unwrap_err().kind, OriginErrorKind::Changed);
    let now = origin.stat(&entry.path).await.unwrap();
    assert!(!now.version.is_same(&entry.version));
    assert_eq!(read(&origin, &now, 990, 100).await.unwrap(), vec![7; 10]);
}

#[tokio::test]
async fn folder_below_the_servers_root_is_the_origins_root() {
    let served =
        Served::new(&vec![(path("my music #1/sub/a.flac"), content(10)), (path("b.flac"), content(9))]);
    let server = WebServer::apache(served.root());
    let config = WebConfig::new(format!("http://{}/my%20music%20%231", server.addr()));
    let origin = WebdavOrigin::new("dav", &config, clock()).unwrap();
    let entries = list(&origin).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].path, path("sub/a.flac"));
    assert_eq!(read(&origin, &entries[0], 0, 100).await.unwrap(), content(10));
}

#[tokio::test]
async fn listing_costs_a_request_a_folder_and_few_connections() {
    let files: Files = (0..500).map(|n| (path(format!("{}/{n}.flac", n % 5)), content(n))).collect();
    let served = Served::new(&files);
    let server = Rclone::webdav(served.root(), None);
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let origin = origin(proxy.addr());
    let entries = list(&origin).await.unwrap();
    assert_eq!(entries.len(), 500);
    let listing = proxy.traffic();
    assert!(listing.upstream < 6 * 600, "six folders cost {} bytes of requests", listing.upstream);

    for entry in &entries[..50] {
        read(&origin, entry, 0, 100).await.unwrap();
    }
    let reading = proxy.traffic();
    assert_eq!(reading.accepted, listing.accepted, "connections are used again");
}

#[tokio::test]
async fn wrong_password_is_denied_and_never_shown() {
    let served = Served::new(&vec![(path("a.flac"), content(10))]);
    let server = Rclone::webdav(served.root(), Some(("me", "right horse")));
    let logs = musicfs_test_utils::captured_logs();
    let with = |password: &str| {
        let mut config = WebConfig::new(format!("http://{}/", server.addr()));
        config.auth = WebAuth::Basic { username: "me".into(), password: Secret::new(password) };
        let shown = format!("{config:?}");
        let origin = WebdavOrigin::new("dav", &config, clock()).unwrap();
        assert!(!format!("{shown}{origin:?}").contains(password));
        origin
    };
    let error = list(&with("wrong horse")).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Denied);
    assert!(!said(&error).contains("horse"));
    assert_eq!(with("wrong horse").health().await.unwrap_err().kind, OriginErrorKind::Denied);
    assert_eq!(list(&with("right horse")).await.unwrap().len(), 1);
    let logged = logs.text();
    assert!(!logged.contains("horse") && !logged.contains("aG9yc2"), "{logged}");
}

#[tokio::test]
async fn root_that_is_missing_is_unavailable_in_every_way() {
    let served = Served::new(&vec![(path("music/a.flac"), content(10))]);
    let server = WebServer::apache(served.root());
    let config = WebConfig::new(format!("http://{}/music/", server.addr()));
    let origin = WebdavOrigin::new("dav", &config, clock()).unwrap();
    let entry = list(&origin).await.unwrap().remove(0);
    std::fs::rename(served.place(b"music"), served.place(b"gone")).unwrap();

    let no_root = OriginErrorKind::NoRoot;
    assert_eq!(list(&origin).await.unwrap_err().kind, no_root);
    assert_eq!(origin.health().await.unwrap_err().kind, no_root);
    assert_eq!(origin.stat(&entry.path).await.unwrap_err().kind, no_root);
    assert_eq!(read(&origin, &entry, 0, 1).await.unwrap_err().kind, no_root);
    std::fs::create_dir(served.place(b"music")).unwrap();
    assert_eq!(read(&origin, &entry, 0, 1).await.unwrap_err().kind, OriginErrorKind::NotFound);
}

#[tokio::test]
async fn server_that_speaks_no_webdav_is_unsupported() {
    let served = Served::new(&vec![(path("a.flac"), content(10))]);
    let server = WebServer::nginx(served.root(), false);
    let error = origin(server.addr()).health().await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unsupported);
}

#[tokio::test]
async fn listing_dropped_half_way_asks_for_no_more() {
    use futures::StreamExt;
    let files: Files = (0..3000).map(|n| (path(format!("{:04}/a.flac", n)), content(1))).collect();
    let served = Served::new(&files);
    let server = WebServer::apache(served.root());
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let origin = origin(proxy.addr());
    let mut pages = origin.scan(ScanRequest::all());
    assert!(pages.next().await.unwrap().is_ok());
    drop(pages);
    // Questions that were on their way are in when one that was asked after them is answered.
    origin.health().await.unwrap();
    let asked = proxy.traffic().upstream;
    origin.health().await.unwrap();
    let one = proxy.traffic().upstream - asked;
    assert!(asked < 2500 * one, "{asked} bytes for what should have ended");
}
