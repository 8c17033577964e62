//! Files that are replaced on their server while they are read: the old version or the new one, never a mix.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::replacing::{Old, read_while_replaced, versions};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::served::{Kind, Served};
use crate::wait_cached;

const LARGE: usize = 8 << 20;

fn replaced_file_is_never_a_mix(kind: Kind, whole: bool) {
    let (served, home) = (Served::empty(kind), Home::new());
    let old = served.add("song.flac", "Song", LARGE);
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    if whole {
        assert!(fs::read(&path).unwrap() == old);
        wait_cached(&path, "full");
    }
    let open = File::open(&path).unwrap();
    let mut start = vec![0; 64 << 10];
    open.read_exact_at(&mut start, 0).unwrap();
    assert!(start == old[..64 << 10]);

    // Its size stays: the time alone tells.
    let new = served.add("song.flac", "Song", LARGE + 4321);
    assert_eq!(old.len(), new.len());
    assert!(old[LARGE / 2..LARGE] != new[LARGE / 2..LARGE]);
    let seconds = |path: &Path| fs::metadata(path).unwrap().mtime();
    let written = seconds(&served.music().join("song.flac"));
    mount.rescan(&[]);
    eventually_blocking("the new time", || seconds(&path) == written);
    assert!(fs::read(&path).unwrap() == new);

    // The handle of old: all of it is the old version, or it says that it is stale.
    let _ = posix_fadvise(open.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut stale = 0;
    for offset in (0..old.len() - 4096).step_by(500_000) {
        let mut bytes = vec![0; 4096];
        match open.read_exact_at(&mut bytes, offset as u64) {
            Ok(()) => assert!(bytes == old[offset..offset + 4096], "neither old nor an error at {offset}"),
            Err(error) if error.kind() == ErrorKind::StaleNetworkFileHandle => stale += 1,
            Err(error) => panic!("{error} at {offset}"),
        }
    }
    assert_eq!(stale == 0, whole, "{stale} reads failed");
    drop(open);
    assert!(fs::read(&path).unwrap() == new);
    mount.unmount();
}

#[test]
fn cached_file_replaced_on_s3_stays_the_old_one_for_who_has_it_open() {
    replaced_file_is_never_a_mix(Kind::S3, true);
}

#[test]
fn cached_file_replaced_on_an_ssh_server_stays_the_old_one_for_who_has_it_open() {
    replaced_file_is_never_a_mix(Kind::Sftp, true);
}

#[test]
fn file_replaced_on_s3_is_stale_where_it_was_not_cached() {
    replaced_file_is_never_a_mix(Kind::S3, false);
}

#[test]
fn file_replaced_on_an_nfs_export_is_stale_where_it_was_not_cached() {
    replaced_file_is_never_a_mix(Kind::Nfs, false);
}

#[test]
fn file_replaced_on_an_ssh_server_while_it_is_read_is_one_version_for_each() {
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let versions = versions(4);
    let file = served.music().join("song.flac");
    fs::write(&file, &versions[0]).unwrap();
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join("Anna/News/01 - Song.flac");
    let next = home.folder("next.flac");
    read_while_replaced(&path, &versions, Old::PlaysOn, |new| {
        wait_cached(&path, "full");
        fs::write(&next, new).unwrap();
        fs::rename(&next, &file).unwrap();
        mount.rescan(&[]);
    });
    mount.unmount();
}
