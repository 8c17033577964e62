//! S3, over moto and rclone.

use std::net::SocketAddr;

use futures::StreamExt;
use musicfs_core::{Origin, ScanRequest};
use musicfs_origins::{S3Config, S3Credentials, S3Origin, Secret};
use musicfs_test_utils::conformance::origin::{Fixture, sample_files_utf8};
use musicfs_test_utils::fault_proxy::FaultProxy;
use musicfs_test_utils::file_servers::{Bucket, Moto, Rclone};
use musicfs_test_utils::origin_conformance;

use crate::{
    Files, Served, changes_and_goes, clock, content, has_no_root, has_what_is_in, in_and_out, in_bucket,
    is_denied, list, path, printable, slicing,
};

const ID: &str = "ACCESSKEY12345";
const SECRET: &str = "SECRETKEY1234567890";

fn config(addr: SocketAddr) -> S3Config {
    S3Config {
        bucket: "music".into(),
        endpoint: Some(format!("http://{addr}")),
        credentials: S3Credentials::Keys { id: ID.into(), secret: Secret::new(SECRET), session_token: None },
        ..S3Config::default()
    }
}

fn origin(addr: SocketAddr) -> S3Origin {
    S3Origin::new("s3", &config(addr), clock()).unwrap()
}

/// A folder that rclone makes a bucket of.
fn folder(files: &Files) -> Served {
    let within = |(file, bytes): &(_, _)| (path(format!("music/{file}")), bytes::Bytes::clone(bytes));
    Served::new(&files.iter().map(within).collect())
}

fn rclone(files: Files) -> Fixture {
    let served = folder(&files);
    let server = Rclone::s3(served.root(), ID, SECRET);
    Fixture::new(origin(server.addr()), files).keeping((server, served))
}

async fn proxied(files: Files) -> Fixture {
    let served = folder(&files);
    let server = Rclone::s3(served.root(), ID, SECRET);
    let proxy = slicing(server.addr()).await;
    Fixture::new(origin(proxy.addr()), files).keeping((proxy, server, served))
}

origin_conformance!(s3_of_moto, in_bucket::<Moto, _>(printable(sample_files_utf8()), origin));
origin_conformance!(s3_of_rclone, rclone(printable(sample_files_utf8())));
origin_conformance!(s3_through_a_network_in_slices, proxied(printable(sample_files_utf8())).await);

#[tokio::test]
async fn moto_object_that_changes_is_changed_and_one_that_goes_not_found() {
    changes_and_goes::<Moto, _>(origin).await;
}

#[tokio::test]
async fn moto_keys_that_no_file_can_have_are_left_out_and_said_once() {
    let server = Moto::with_bucket("music");
    for key in ["ok.flac", "folder/", "folder/ok.flac", "a//b.flac", "x/../y.flac", "blank at end "] {
        server.put(key.as_bytes(), b"some bytes");
    }
    let logs = musicfs_test_utils::captured_logs();
    let origin = origin(server.addr());
    for _ in 0..2 {
        let listed: Vec<_> = list(&origin).await.unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(listed, [path("folder/ok.flac"), path("ok.flac")]);
    }
    assert_eq!(logs.count(&["left out"]), 1, "{}", logs.text());
}

#[tokio::test]
async fn moto_listing_of_many_keys_comes_in_pages_and_goes_on_from_each() {
    let server = Moto::with_bucket("music");
    let mut keys: Vec<String> = (0..1100).map(|n| format!("{:02}/{n:04}.flac", n % 50)).collect();
    keys.extend((0..10).map(|n| format!("{n:02}/Z/{n}.flac")));
    for key in &keys {
        server.put(key.as_bytes(), b"x");
    }
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let origin = origin(proxy.addr());
    let pages: Vec<_> = origin.scan(ScanRequest::all()).map(Result::unwrap).collect().await;
    assert!(pages.len() > 1);
    let listed: Vec<_> = pages.iter().flat_map(|page| &page.entries).collect();
    assert_eq!(listed.len(), keys.len());
    assert!(proxy.traffic().upstream < 3000, "two requests, not one a file");
    for (n, page) in pages.iter().enumerate().take(pages.len() - 1) {
        let request = ScanRequest { resume: page.cursor.clone(), ..ScanRequest::all() };
        assert!(request.resume.is_some());
        let rest: Vec<_> = origin.scan(request).map(|page| page.unwrap().entries).collect().await;
        let expected: Vec<_> = pages[n + 1..].iter().flat_map(|page| page.entries.clone()).collect();
        assert_eq!(rest.concat(), expected);
    }
}

#[tokio::test]
async fn folder_of_a_bucket_is_the_origins_root() {
    let served = folder(&in_and_out());
    let server = Rclone::s3(served.root(), ID, SECRET);
    let config = S3Config { prefix: "in/my music".into(), ..config(server.addr()) };
    has_what_is_in(&S3Origin::new("s3", &config, clock()).unwrap()).await;
}

#[tokio::test]
async fn wrong_key_is_denied_and_never_shown() {
    let served = folder(&vec![(path("a.flac"), content(10))]);
    let server = Rclone::s3(served.root(), ID, SECRET);
    let wrong = "WRONGKEY1234567890";
    let credentials = S3Credentials::Keys { id: ID.into(), secret: Secret::new(wrong), session_token: None };
    let config = S3Config { credentials, ..config(server.addr()) };
    let origin = || {
        let origin = S3Origin::new("s3", &config, clock()).unwrap();
        assert!(!format!("{config:?}{origin:?}").contains(wrong));
        origin
    };
    is_denied(origin, wrong, "look at secret_access_key_file").await;
}

#[tokio::test]
async fn bucket_that_is_missing_is_said_and_nothing_is_gone() {
    let server = Moto::with_bucket("other");
    has_no_root(&origin(server.addr()), "look at bucket and endpoint").await;
}

#[tokio::test]
async fn identity_is_the_bucket() {
    let server = Moto::with_bucket("music");
    let identity = origin(server.addr()).health().await.unwrap().identity.unwrap();
    assert!(identity.contains("music") && identity.contains(&server.addr().to_string()), "{identity}");
}
