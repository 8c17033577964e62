//! Files that are replaced while the kernel has them cached or open.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;

use musicfs_test_utils::eventually_blocking;

use crate::support::{Content, Library, noise};

#[test]
fn file_replaced_behind_our_back_is_read_anew_by_the_next_opener() {
    let library = Library::new();
    library.put_bytes("A/x.flac", &noise(1, 300_000));
    let mounted = library.mount();
    let path = mounted.at("A/x.flac");
    assert!(fs::read(&path).unwrap() == noise(1, 300_000));
    for (seed, len) in [(2, 500_000), (3, 100), (4, 100), (5, 900_001)] {
        library.replace("A/x.flac", Content::Bytes(noise(seed, len).into()));
        // The size that the kernel has cached is the old one's; cat goes by what it reads.
        let read = Command::new("cat").arg(&path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        assert!(read.stdout == noise(seed, len), "{} bytes instead of {len}", read.stdout.len());
        assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
    }
}

#[test]
fn file_removed_behind_our_back_is_not_found_by_the_next_opener() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"music");
    library.put_bytes("A/y.flac", b"music");
    let mounted = library.mount();
    fs::read(mounted.at("A/x.flac")).unwrap();
    library.lose("A/x.flac");
    let error = fs::read(mounted.at("A/x.flac")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn handle_on_a_replaced_file_gets_its_version_or_an_error_and_never_a_mix() {
    let library = Library::new();
    library.put_bytes("x.flac", &noise(1, 2_000_000));
    let mounted = library.mount();
    let old = File::open(mounted.at("x.flac")).unwrap();
    let mut head = [0; 1000];
    old.read_exact_at(&mut head, 0).unwrap();
    library.put_bytes("x.flac", &noise(2, 2_000_000));
    // The new version is opened and read while the old handle is open.
    eventually_blocking("the new version is read", || {
        fs::read(mounted.at("x.flac")).is_ok_and(|bytes| bytes == noise(2, 2_000_000))
    });
    let expected = noise(1, 2_000_000);
    let mut piece = vec![0; 50_000];
    for at in (0..2_000_000).step_by(50_000) {
        match old.read_exact_at(&mut piece, at) {
            Ok(()) => assert!(piece == expected[at as usize..at as usize + 50_000], "a mix at {at}"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ESTALE)),
        }
    }
    drop(old);
    let mut new = Vec::new();
    File::open(mounted.at("x.flac")).unwrap().read_to_end(&mut new).unwrap();
    assert!(new == noise(2, 2_000_000));
}

#[test]
fn changed_file_has_its_new_size_and_bytes_once_the_catalogue_knows() {
    let library = Library::new();
    library.put_bytes("A/x.flac", &noise(1, 10_000));
    let mounted = library.mount();
    let path = mounted.at("A/x.flac");
    fs::read(&path).unwrap();
    library.put_bytes("A/x.flac", &noise(2, 20_000));
    eventually_blocking("the new size is seen", || fs::metadata(&path).unwrap().len() == 20_000);
    assert!(fs::read(&path).unwrap() == noise(2, 20_000));
    // Same size, other bytes.
    library.put_bytes("A/x.flac", &noise(3, 20_000));
    eventually_blocking("the new bytes are read", || fs::read(&path).unwrap() == noise(3, 20_000));
}
