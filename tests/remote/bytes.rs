//! Every byte, however it is read: the first time, again, and with the server gone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use crate::served::{Kind, Served, original};
use crate::{read_afresh, wait_cached};

/// Size of the one large file in bytes: several windows, many chunks.
const LARGE: usize = 6 << 20;

/// Windows in an order that jumps about, some across the end.
fn assert_same_in_leaps(seen: &Path, wanted: &[u8]) {
    let file = File::open(seen).unwrap();
    let len = wanted.len() as u64;
    for step in 0..24 {
        let offset = (step * 7919 + 13) * 104_729 % (len + 1000);
        let mut window = vec![0; 40_000 + step as usize * 911];
        let mut got = 0;
        while got < window.len() {
            match file.read_at(&mut window[got..], offset + got as u64).unwrap() {
                0 => break,
                n => got += n,
            }
        }
        let start = (offset as usize).min(wanted.len());
        let end = (start + window.len()).min(wanted.len());
        assert!(window[..got] == wanted[start..end], "{} differs at {offset}", seen.display());
    }
}

#[expect(unsafe_code, reason = "a file is mapped as players do")]
fn assert_same_mapped(seen: &Path, wanted: &[u8]) {
    let file = File::open(seen).unwrap();
    // SAFETY: nothing changes the file or its origin while it is mapped.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    assert!(map[..] == *wanted, "{} differs when mapped", seen.display());
}

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
            0 => assert_same_in_leaps(path, &bytes),
            1 => assert_same_mapped(path, &bytes),
            _ => {}
        }
        assert!(fs::read(path).unwrap() == bytes, "{} differs", path.display());
        assert_same_in_leaps(path, &bytes);
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
