//! Directory indexes, over nginx, Apache and Python's server.

use std::net::SocketAddr;

use musicfs_core::{Origin, OriginErrorKind};
use musicfs_origins::{HttpOrigin, WebConfig};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files, sample_files_utf8};
use musicfs_test_utils::fault_proxy::FaultProxy;
use musicfs_test_utils::file_servers::WebServer;
use musicfs_test_utils::origin_conformance;

use crate::{Files, Served, clock, content, list, path, read, slicing};

fn origin(addr: SocketAddr) -> HttpOrigin {
    HttpOrigin::new("web", &WebConfig::new(format!("http://{addr}/")), clock()).unwrap()
}

fn fixture(files: Files, start: impl FnOnce(&Served) -> WebServer) -> Fixture {
    let served = Served::new(&files);
    let server = start(&served);
    Fixture::new(origin(server.addr()), files).keeping((server, served))
}

/// nginx shows nothing that begins with a dot.
fn not_hidden(files: Files) -> Files {
    let hidden = |name: &[u8]| name.first() == Some(&b'.');
    files.into_iter().filter(|(path, _)| !path.components().any(hidden)).collect()
}

fn nginx_html(files: Files) -> Fixture {
    fixture(not_hidden(files), |served| WebServer::nginx(served.root(), false))
}

fn nginx_json(files: Files) -> Fixture {
    fixture(not_hidden(files), |served| WebServer::nginx(served.root(), true))
}

async fn proxied(files: Files) -> Fixture {
    let served = Served::new(&files);
    let server = WebServer::nginx(served.root(), false);
    let proxy = slicing(server.addr()).await;
    Fixture::new(origin(proxy.addr()), files).keeping((proxy, server, served))
}

origin_conformance!(index_of_nginx, nginx_html(sample_files()));
origin_conformance!(index_of_nginx_in_json, nginx_json(sample_files_utf8()));
origin_conformance!(index_of_apache, fixture(sample_files(), |served| WebServer::apache(served.root())));
origin_conformance!(index_through_a_network_in_slices, proxied(not_hidden(sample_files())).await);
// Python's server has other names for what is not UTF-8.
origin_conformance!(index_of_python, fixture(sample_files_utf8(), |served| WebServer::python(served.root())));

#[tokio::test]
async fn nginx_listing_costs_a_request_a_folder() {
    let files: Files = (0..500).map(|n| (path(format!("{}/{n}.flac", n % 5)), content(n))).collect();
    let served = Served::new(&files);
    for json in [false, true] {
        let server = WebServer::nginx(served.root(), json);
        let proxy = FaultProxy::start(server.addr()).await.unwrap();
        let entries = list(&origin(proxy.addr())).await.unwrap();
        assert_eq!(entries.len(), 500);
        let asked = proxy.traffic().upstream;
        assert!(asked < 6 * 400, "six folders cost {asked} bytes of requests");
    }
}

#[tokio::test]
async fn file_that_changes_is_changed_whatever_the_index_tells() {
    for start in [
        (|root| WebServer::nginx(root, false)) as fn(&std::path::Path) -> WebServer,
        |root| WebServer::nginx(root, true),
        WebServer::apache,
        WebServer::python,
    ] {
        let served = Served::new(&vec![(path("a/x.flac"), content(1000))]);
        let server = start(served.root());
        let origin = origin(server.addr());
        let entry = list(&origin).await.unwrap().remove(0);
        assert_eq!(read(&origin, &entry, 500, 10).await.unwrap(), content(1000).slice(500..510));
        served.write(b"a/x.flac", &[7; 1000]);
        served.date(b"a/x.flac", 1_650_000_000);
        assert_eq!(read(&origin, &entry, 500, 10).await.unwrap_err().kind, OriginErrorKind::Changed);
        let now = origin.stat(&entry.path).await.unwrap();
        assert_eq!(list(&origin).await.unwrap(), std::slice::from_ref(&now));
        assert_eq!(read(&origin, &now, 500, 10).await.unwrap(), vec![7; 10]);
    }
}

#[tokio::test]
async fn hidden_file_is_not_listed_by_nginx_but_can_be_read() {
    let served = Served::new(&vec![(path("a.flac"), content(5)), (path(".b.flac"), content(6))]);
    let server = WebServer::nginx(served.root(), false);
    let origin = origin(server.addr());
    assert_eq!(list(&origin).await.unwrap().len(), 1);
    let hidden = origin.stat(&path(".b.flac")).await.unwrap();
    assert_eq!(read(&origin, &hidden, 0, 100).await.unwrap(), content(6));
}
