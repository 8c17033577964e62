//! Files that are replaced on their server while they are read: the old version or the new one, never a mix.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::replacing::{Old, read_while_overwritten, read_while_replaced, versions};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::served::{Kind, Served};
use crate::wait_cached;

const LARGE: usize = 8 << 20;
/// Bytes of a file that is longer than what a line holds: see [`IN_FLIGHT`](musicfs_test_utils::fault_proxy::IN_FLIGHT).
const LONG: usize = 48 << 20;
/// Bytes a second of a line on which that lasts.
const SLOW: u64 = 8 << 20;

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
fn file_that_a_reader_found_replaced_is_opened_as_the_new_one_by_the_next() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    served.add("song.flac", "Song", LARGE);
    home.configure(&format!("rescan_interval = \"0\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    // So new that it is read a moment later only: whoever comes next waits for that.
    let new = served.add("song.flac", "Song", LARGE + (1 << 20));
    let stale = fs::read(&path).map(|bytes| bytes.len()).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleNetworkFileHandle, "{stale}");
    assert!(fs::read(&path).unwrap() == new);
    mount.unmount();
}

/// Overwrites a file on its server, in place, while one long read of it is on its way over a slow line.
fn file_overwritten_while_it_streams_is_never_a_mix(kind: Kind) {
    let served = Served::empty(kind);
    let old = served.add("song.flac", "Song", LONG);
    let (served, home) = (served.behind_proxy(), Home::new());
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    served.proxy().set([Toxic::Bandwidth(SLOW)]);
    let mut new = old.clone();
    new[LARGE..].iter_mut().for_each(|byte| *byte ^= 0x55);
    let file = served.music().join("song.flac");
    let stale = read_while_overwritten(&path, &old, || fs::write(&file, &new).unwrap());
    assert!(stale, "what was not on its way yet is nowhere any more");
    served.proxy().heal();
    mount.rescan(&[]);
    eventually_blocking("the new version", || fs::read(&path).is_ok_and(|read| read == new));
    mount.unmount();
}

#[test]
fn file_overwritten_on_s3_while_it_streams_is_stale_and_never_a_mix() {
    file_overwritten_while_it_streams_is_never_a_mix(Kind::S3);
}

#[test]
fn file_overwritten_on_a_webdav_share_while_it_streams_is_stale_and_never_a_mix() {
    file_overwritten_while_it_streams_is_never_a_mix(Kind::Webdav);
}

#[test]
fn file_overwritten_on_an_ssh_server_while_it_streams_is_stale_and_never_a_mix() {
    file_overwritten_while_it_streams_is_never_a_mix(Kind::Sftp);
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
