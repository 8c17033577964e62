//! Files on a server are renamed to names that others have: each stays itself, and nothing of its audio is fetched again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use crate::retag::MD5;
use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

/// Bytes of each track.
const LARGE: usize = 4 << 20;
/// Only what is asked for scans, and nothing is compared meanwhile.
const KEYS: &str =
    "rescan_interval = \"0\"\nrecheck_after = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\n";

fn fetched(mount: &Mount<'_>) -> u64 {
    mount.status()["origins"][0]["bytes"].as_u64().unwrap()
}

fn on_origin(path: &Path) -> String {
    files::attribute(path, "user.musicfs.path").unwrap()
}

/// Renames the tracks of an album that is cached whole around a cycle, and on to a free name.
fn renumbered_album_is_followed(kind: Kind) {
    let (served, home) = (Served::empty(kind), Home::new());
    let mut album = served.add_album("Album", 4, LARGE);
    for (n, (_, bytes)) in (1u8..).zip(&mut album) {
        // Audio of another length for each, and what identifies it.
        bytes[MD5].fill(n);
        bytes.extend(std::iter::repeat_n(n, usize::from(n) << 10));
        fs::write(served.music().join(format!("Album {n}.flac")), bytes).unwrap();
    }
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let shown: Vec<PathBuf> = album.iter().map(|(path, _)| mount.join(path)).collect();
    for (path, (_, bytes)) in shown.iter().zip(&album) {
        assert!(fs::read(path).unwrap() == *bytes);
        wait_cached(path, "full");
    }
    home.succeed(["cache".as_ref(), "pin".as_ref(), shown[1].as_os_str()]);
    let inodes: Vec<u64> = shown.iter().map(|path| fs::metadata(path).unwrap().ino()).collect();

    let at = |n: u32| served.music().join(format!("Album {n}.flac"));
    for (from, to) in [(4, 5), (3, 4), (1, 9), (2, 1), (9, 3)] {
        fs::rename(at(from), at(to)).unwrap();
    }
    let before = fetched(&mount);
    let report = mount.rescan(&[]);
    assert_eq!((&report["moved"], &report["changed"], &report["missing"]), (&4.into(), &0.into(), &0.into()));
    for (n, now) in [(0, 3), (1, 1), (2, 4), (3, 5)] {
        let path = &shown[n];
        eventually_blocking("the new path", || on_origin(path) == format!("Album {now}.flac"));
        assert_eq!(fs::metadata(path).unwrap().ino(), inodes[n]);
        assert_eq!(files::attribute(path, "user.musicfs.cached").as_deref(), Some("full"));
        assert!(read_afresh(path, 0, album[n].1.len()).unwrap() == album[n].1);
    }
    let cost = fetched(&mount) - before;
    assert!(cost < 4 * (128 << 10), "{cost} bytes were fetched");
    let stats: serde_json::Value = serde_json::from_str(&home.succeed(["cache", "stats", "--json"])).unwrap();
    assert_eq!(stats["pins"][0]["what"], album[1].0.to_str().unwrap(), "{stats}");
    assert!(stats["pinned_bytes"].as_u64().unwrap() >= LARGE as u64, "{stats}");
    assert_eq!(mount.rescan(&[])["unchanged"], 4);
    mount.unmount();
}

#[test]
fn album_renumbered_on_an_ssh_server_is_followed_and_nothing_of_it_fetched_again() {
    renumbered_album_is_followed(Kind::Sftp);
}

#[test]
fn album_renumbered_on_webdav_is_followed_and_nothing_of_it_fetched_again() {
    renumbered_album_is_followed(Kind::Webdav);
}

#[test]
fn album_renumbered_on_s3_is_followed_and_nothing_of_it_fetched_again() {
    renumbered_album_is_followed(Kind::S3);
}
