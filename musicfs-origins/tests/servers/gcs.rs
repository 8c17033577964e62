//! A service that opendal reaches, made as a configuration names it: Google Cloud Storage, over an emulator.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Origin, OriginErrorKind};
use musicfs_origins::{OriginSpec, build};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files_utf8};
use musicfs_test_utils::fault_proxy::{FaultProxy, Toxic};
use musicfs_test_utils::file_servers::Gcs;
use musicfs_test_utils::origin_conformance;

use crate::{Files, changes_and_goes, clock, list, path, printable, said};

/// Builds the origin that a table of a configuration file describes.
fn origin(addr: SocketAddr, bucket: &str) -> Arc<dyn Origin> {
    let table = format!(
        "type = 'gcs'\nid = 'google'\nbucket = '{bucket}'\nendpoint = 'http://{addr}'\nskip_signature = true\n"
    );
    let spec = OriginSpec::from_table(table.parse().unwrap(), Path::new("/")).unwrap();
    build(&spec, &|_: &str| None, &clock()).unwrap().origin
}

fn filled(files: &Files) -> Gcs {
    let server = Gcs::with_bucket("music");
    for (path, bytes) in files {
        server.put("music", path.as_bytes(), bytes);
    }
    server
}

fn emulator(files: Files) -> Fixture {
    let server = filled(&files);
    Fixture::new(origin(server.addr(), "music"), files).keeping(server)
}

async fn proxied(files: Files) -> Fixture {
    let server = filled(&files);
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    proxy.set([Toxic::Slicer { size: 700, delay: Duration::ZERO }, Toxic::Latency(Duration::from_millis(2))]);
    Fixture::new(origin(proxy.addr(), "music"), files).keeping((proxy, server))
}

origin_conformance!(gcs_of_an_emulator, emulator(printable(sample_files_utf8())));
origin_conformance!(gcs_through_a_network_in_slices, proxied(printable(sample_files_utf8())).await);

#[tokio::test]
async fn gcs_object_that_changes_is_changed_and_one_that_goes_not_found() {
    let server = Gcs::with_bucket("music");
    let put = |bytes: &[u8]| server.put("music", b"a b/x.flac", bytes);
    changes_and_goes(&origin(server.addr(), "music"), put, || server.delete("music", b"a b/x.flac")).await;
}

#[tokio::test]
async fn gcs_bucket_that_is_missing_is_said_and_nothing_is_gone() {
    let server = Gcs::with_bucket("music");
    let missing = origin(server.addr(), "musik");
    let error = missing.health().await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::NoRoot, "{}", said(&error));
    assert!(said(&error).contains("look at its name"), "{}", said(&error));
    assert_eq!(list(&missing).await.unwrap_err().kind, OriginErrorKind::NoRoot);
    assert_eq!(missing.stat(&path("x.flac")).await.unwrap_err().kind, OriginErrorKind::NoRoot);
}
