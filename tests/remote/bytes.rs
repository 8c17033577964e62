//! Every byte, however it is read: the first time, again, and with the server gone.

use std::fs;
use std::path::PathBuf;

use musicfs_core::AudioMeta;
use musicfs_test_utils::file_servers::{Azurite, Bucket};
use musicfs_test_utils::library::noise_flac;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use musicfs_tests::windows::{assert_same_at_random, assert_same_mapped};

use crate::served::{Kind, Served, original};
use crate::{read_afresh, wait_cached};

/// Size of the one large file in bytes: several windows, many chunks.
const LARGE: usize = 6 << 20;

fn found(mount: &Mount<'_>) -> Vec<PathBuf> {
    files::files(&mount.at()).into_iter().map(|path| mount.join(path)).collect()
}

fn every_byte_arrives(kind: Kind) {
    let (mut served, home) = (Served::library(kind, LARGE), Home::new());
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let paths = found(&mount);
    assert_eq!(paths.len(), files::files(&served.music()).len());
    let mut wanted = Vec::new();
    for (n, path) in paths.iter().enumerate() {
        let bytes = fs::read(original(&served, path)).unwrap();
        // Each way is the first for some files.
        match n % 3 {
            0 => assert_same_at_random(path, &bytes),
            1 => assert_same_mapped(path, &bytes),
            _ => {}
        }
        assert!(fs::read(path).unwrap() == bytes, "{} differs", path.display());
        assert_same_at_random(path, &bytes);
        assert_same_mapped(path, &bytes);
        wait_cached(path, "full");
        wanted.push(bytes);
    }
    let fetched = mount.status()["cache"]["fetched"].as_u64().unwrap();
    for (path, bytes) in paths.iter().zip(&wanted) {
        assert!(read_afresh(path, 0, bytes.len()).unwrap() == *bytes, "{} differs", path.display());
    }
    let cache = mount.status()["cache"].clone();
    assert_eq!(cache["fetched"].as_u64(), Some(fetched), "something was fetched again: {cache}");
    mount.unmount();

    served.kill();
    let mount = home.mount_configured();
    assert_eq!(found(&mount), paths);
    for (path, bytes) in paths.iter().zip(&wanted) {
        assert!(fs::read(path).unwrap() == *bytes, "{} differs with its server gone", path.display());
    }
    let cache = mount.status()["cache"].clone();
    assert_eq!((&cache["fetched"], &cache["repaired"]), (&0.into(), &0.into()), "{cache}");
    mount.unmount();
}

#[test]
fn music_on_s3_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::S3);
}

#[test]
fn music_on_an_ssh_server_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::Sftp);
}

#[test]
fn music_on_an_smb_share_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::Smb);
}

#[test]
fn music_on_an_nfs_export_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::Nfs);
}

#[test]
fn music_on_a_webdav_share_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::Webdav);
}

#[test]
fn music_on_a_web_server_arrives_whole_and_plays_offline() {
    every_byte_arrives(Kind::Http);
}

#[test]
fn music_on_azure_arrives_whole_and_plays_offline() {
    let (server, home) = (Azurite::with_bucket("music"), Home::new());
    let wanted = noise_flac(&AudioMeta { title: Some("Song".into()), ..AudioMeta::default() }, LARGE);
    server.put(b"A & B/100% #1.flac", &wanted);
    let (key, account) = (home.folder("key"), Azurite::ACCOUNT);
    fs::write(&key, Azurite::KEY).unwrap();
    home.configure(&format!(
        "[[origins]]\nid = \"azure\"\ntype = \"azblob\"\ncontainer = \"music\"\n\
         endpoint = \"http://{}/{account}\"\naccount_name = \"{account}\"\naccount_key_file = \"{}\"\n",
        server.addr(),
        key.display(),
    ));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = found(&mount).remove(0);
    assert_same_at_random(&path, &wanted);
    assert!(fs::read(&path).unwrap() == wanted);
    wait_cached(&path, "full");
    assert!(!mount.log().contains(Azurite::KEY));
    mount.unmount();
    drop(server);
    let mount = home.mount_configured();
    assert!(read_afresh(&path, 0, wanted.len()).unwrap() == wanted, "it differs with its server gone");
    mount.unmount();
}
