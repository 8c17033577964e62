//! Files of this machine that are replaced while they are read.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;

use musicfs_core::AudioMeta;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::noise_flac;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::replacing::{Old, read_while_overwritten, read_while_replaced, versions};

/// Versions of the file.
const VERSIONS: usize = 12;
/// Bytes of a file that takes a while to read.
const LONG: usize = 24 << 20;
/// How often that file is overwritten.
const ROUNDS: usize = 6;

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
fn size_of_a_file_that_is_rewritten_in_place_while_the_kernel_reads_it_is_that_of_what_is_read() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let versions = versions(VERSIONS);
    let file = music.path().join("song.flac");
    fs::write(&file, &versions[0]).unwrap();
    let mount = home.mount(music.path());
    let path = mount.join("Anna/News/01 - Song.flac");
    eventually_blocking("the file", || path.exists());
    let inode = fs::metadata(&path).unwrap().ino();
    let mut open = vec![File::open(&path).unwrap()];
    // Nothing is to be shown by this where the kernel does not read files by itself.
    let by_kernel = mount.status()["fuse"]["passthrough_opens"].as_u64().unwrap() > 0;
    for version in &versions[1..4] {
        fs::write(&file, version).unwrap();
        for mut handle in open.iter().filter(|_| by_kernel) {
            let mut bytes = Vec::new();
            handle.rewind().unwrap();
            handle.read_to_end(&mut bytes).unwrap();
            assert!(bytes == *version, "it is read as it lies there");
            let size = || handle.metadata().unwrap().len();
            eventually_blocking("its size", || size() == version.len() as u64);
        }
        eventually_blocking("the new version", || fs::read(&path).is_ok_and(|read| read == *version));
        open.push(File::open(&path).unwrap());
        for handle in open.iter().skip(if by_kernel { 0 } else { open.len() - 1 }) {
            let meta = handle.metadata().unwrap();
            assert_eq!((meta.len(), meta.ino()), (version.len() as u64, inode));
        }
    }
    drop(open);
    mount.unmount();
}

#[test]
fn replaced_file_is_read_as_one_version_through_the_daemon_too() {
    readers_of_a_replaced_file_get_whole_versions(&["--no-passthrough"], Old::MayFail);
}

#[test]
fn file_overwritten_while_it_streams_through_the_daemon_is_stale_and_never_a_mix() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let audio = AudioMeta { title: Some("Song".into()), ..AudioMeta::default() };
    let mut bytes = noise_flac(&audio, LONG);
    let file = music.path().join("song.flac");
    fs::write(&file, &bytes).unwrap();
    let mount = home.mount_with(music.path(), &["--no-passthrough"]);
    let path = mount.join(files::files(&mount.at()).remove(0));
    let mut stale = 0;
    for _ in 0..ROUNDS {
        let old = bytes.clone();
        bytes[LONG / 16..].iter_mut().for_each(|byte| *byte ^= 0x55);
        stale += usize::from(read_while_overwritten(&path, &old, || fs::write(&file, &bytes).unwrap()));
        eventually_blocking("the new version", || fs::read(&path).is_ok_and(|read| read == bytes));
    }
    assert!(stale > 0, "each time it was read before it was overwritten");
    mount.unmount();
}
