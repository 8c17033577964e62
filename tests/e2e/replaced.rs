//! Files of this machine that are replaced while they are read.

use std::fs;

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::home::Home;
use musicfs_tests::replacing::{Old, read_while_replaced, versions};

/// Versions of the file.
const VERSIONS: usize = 12;

fn readers_of_a_replaced_file_get_whole_versions(args: &[&str], fate: Old) {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let versions = versions(VERSIONS);
    let file = music.path().join("song.flac");
    fs::write(&file, &versions[0]).unwrap();
    let mount = home.mount_with(music.path(), args);
    let path = mount.join("Anna/News/01 - Song.flac");
    eventually_blocking("the file", || path.exists());
    let next = home.folder("next.flac");
    read_while_replaced(&path, &versions, fate, |new| {
        fs::write(&next, new).unwrap();
        fs::rename(&next, &file).unwrap();
    });
    mount.unmount();
}

#[test]
fn replaced_file_is_read_as_one_version_and_opened_as_the_new_one() {
    readers_of_a_replaced_file_get_whole_versions(&[], Old::PlaysOn);
}

#[test]
fn replaced_file_is_read_as_one_version_through_the_daemon_too() {
    readers_of_a_replaced_file_get_whole_versions(&["--no-passthrough"], Old::MayFail);
}
