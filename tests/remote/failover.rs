//! The same music on several servers, of which some go away while it is read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::{Direction, Toxic};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use musicfs_tests::mount::Mount;

use crate::caching::number;
use crate::served::{Kind, Served};
use crate::{chunk_files, read_afresh, wait_cached};

const LARGE: usize = 24 << 20;
/// Slower than what reads ahead, so that the file is never whole before its server goes.
const SLOW: Toxic = Toxic::Bandwidth(4 << 20);
const KEYS: &str =
    "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"60s\"\nfailback_delay = \"0\"\n";

/// Two places with the same track, the first of them preferred and slow.
struct Pair {
    first: Served,
    wanted: Vec<u8>,
}

impl Pair {
    /// `second` is the `[[origins]]` table of the other place, which is given the track's bytes.
    fn new(first: Kind, second: impl FnOnce(&[u8]) -> String) -> (Self, Home) {
        let first = Served::empty(first);
        let wanted = first.add("long.flac", "Long", LARGE);
        let first = first.behind_proxy();
        let home = Home::new();
        home.configure(&format!("{KEYS}{}{}", first.table("first", "priority = 1"), second(&wanted)));
        (Self { first, wanted }, home)
    }
}

/// Mounts the two, which must be one file.
fn mounted(home: &Home) -> (Mount<'_>, PathBuf) {
    let mount = home.mount_configured();
    mount.wait_scanned();
    let all = files::files(&mount.at());
    assert_eq!(all.len(), 1, "the copies are not one: {all:?}");
    let path = mount.join(&all[0]);
    let copies = files::attribute(&path, "user.musicfs.copies").unwrap_or_default();
    assert!(copies.starts_with("first:") && copies.lines().count() == 2, "{copies}");
    eventually_blocking("all to be well", || mount.status()["state"] == "ready");
    (mount, path)
}

fn reader_goes_on_when_its_server_is_killed((mut pair, home): (Pair, Home), wanted_backup: &str) {
    let (mount, path) = mounted(&home);
    let mut listener = Listener::start(&home, &["--json", "--type", "origin_failover"]);
    pair.first.proxy().set([SLOW]);
    let mut file = File::open(&path).unwrap();
    let mut bytes = vec![0; 2 << 20];
    file.read_exact(&mut bytes).unwrap();
    // However long the next steps take, nothing more is read ahead.
    pair.first.proxy().add(Direction::Downstream, Toxic::StallAfter(0));
    assert_eq!(files::attribute(&path, "user.musicfs.backup"), None);
    pair.first.kill();
    // What is on its way from a machine that dies is lost with it.
    pair.first.proxy().cut();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == pair.wanted, "the reader got other bytes");
    let told = listener.event();
    let to = wanted_backup.split_once(':').map(|(origin, _)| origin);
    assert_eq!((told["origin"].as_str(), told["to"].as_str()), (Some("first"), to), "{told}");
    assert_eq!(files::attribute(&path, "user.musicfs.backup").as_deref(), Some(wanted_backup));
    let shown = path.to_string_lossy();
    let told = home.succeed(["explain", &*shown]);
    assert!(told.contains(&format!("{wanted_backup} is read in its place")), "{told}");
    assert!(fs::read(&path).unwrap() == pair.wanted);
    drop(file);
    mount.unmount();
}

#[test]
fn reader_of_an_ssh_server_that_is_killed_goes_on_with_a_copy_on_webdav() {
    let second = Served::empty(Kind::Webdav);
    let pair = Pair::new(Kind::Sftp, |bytes| {
        fs::write(second.music().join("copy.flac"), bytes).unwrap();
        second.table("second", "priority = 2")
    });
    reader_goes_on_when_its_server_is_killed(pair, "second:copy.flac");
}

#[test]
fn reader_of_s3_that_is_killed_goes_on_with_a_copy_on_this_machine() {
    let disk = tempfile::tempdir().unwrap();
    let pair = Pair::new(Kind::S3, |bytes| {
        fs::write(disk.path().join("copy.flac"), bytes).unwrap();
        format!("[[origins]]\nid = \"disk\"\npath = \"{}\"\npriority = 2\n", disk.path().display())
    });
    reader_goes_on_when_its_server_is_killed(pair, "disk:copy.flac");
}

/// Changes the name of the encoder, which says nothing of the music and leaves the length as it is.
fn with_other_vendor(bytes: &[u8]) -> Vec<u8> {
    let mut other = bytes.to_vec();
    // "fLaC", a header and STREAMINFO of 34 bytes, a header and the vendor's length; then the vendor.
    let vendor = 4 + 4 + 34 + 4 + 4;
    other[vendor] ^= 1;
    other
}

#[test]
fn reader_never_gets_bytes_of_two_copies_that_differ() {
    let disk = tempfile::tempdir().unwrap();
    let (pair, home) = Pair::new(Kind::Webdav, |bytes| {
        fs::write(disk.path().join("copy.flac"), with_other_vendor(bytes)).unwrap();
        format!("[[origins]]\nid = \"disk\"\npath = \"{}\"\npriority = 2\n", disk.path().display())
    });
    let (mount, path) = mounted(&home);
    pair.first.proxy().set([SLOW]);
    let file = File::open(&path).unwrap();
    let mut bytes = vec![0; 1 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == pair.wanted[..1 << 20]);
    pair.first.proxy().down();
    let far = LARGE as u64 - (1 << 20);
    assert!(file.read_exact_at(&mut bytes, far).is_err(), "the reader was handed over to another file");
    drop(file);
    // Who opens it now reads the other, as a whole.
    eventually_blocking("the copy to be read as a whole", || {
        fs::read(&path).is_ok_and(|read| read == with_other_vendor(&pair.wanted))
    });
    assert_eq!(files::attribute(&path, "user.musicfs.backup").as_deref(), Some("disk:copy.flac"));
    pair.first.proxy().heal();
    eventually_blocking("its own server to be read again", || {
        fs::read(&path).is_ok_and(|read| read == pair.wanted)
    });
    assert_eq!(files::attribute(&path, "user.musicfs.backup"), None);
    mount.unmount();
}

#[test]
fn damaged_chunks_come_from_a_copy_when_their_own_server_is_gone() {
    let second = Served::empty(Kind::Webdav);
    let (mut pair, home) = Pair::new(Kind::Sftp, |bytes| {
        fs::write(second.music().join("copy.flac"), bytes).unwrap();
        second.table("second", "priority = 2")
    });
    let (mount, path) = mounted(&home);
    assert!(fs::read(&path).unwrap() == pair.wanted);
    wait_cached(&path, "full");
    mount.unmount();
    pair.first.kill();
    let chunks = home.folder("cache/musicfs/chunks");
    let mut damaged = 0;
    for name in files::files(&chunks) {
        let chunk = chunks.join(name);
        if chunk.file_name().is_some_and(|name| name.len() == 64) {
            let mut bytes = fs::read(&chunk).unwrap();
            bytes[0] ^= 1;
            fs::write(&chunk, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 10, "{damaged} chunks");
    let mount = home.mount_configured();
    assert!(read_afresh(&path, 0, LARGE / 2).unwrap() == pair.wanted[..LARGE / 2]);
    assert!(fs::read(&path).unwrap() == pair.wanted);
    mount.unmount();
}

fn damaged_chunk_comes_from_any_server_that_has_it(lose: impl FnOnce(&mut Pair)) {
    let second = Served::empty(Kind::Webdav);
    // They are not the same throughout: no reader could go on with the other.
    let (mut pair, home) = Pair::new(Kind::Sftp, |bytes| {
        fs::write(second.music().join("copy.flac"), with_other_vendor(bytes)).unwrap();
        second.table("second", "priority = 2")
    });
    let (mount, path) = mounted(&home);
    assert!(fs::read(&path).unwrap() == pair.wanted);
    wait_cached(&path, "full");
    mount.unmount();
    let middle = &pair.wanted[LARGE / 2..][..32];
    let holds_middle = |chunk: &PathBuf| fs::read(chunk).unwrap().windows(32).any(|bytes| bytes == middle);
    let chunk = chunk_files(&home).into_iter().find(holds_middle).unwrap();
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[0] ^= 1;
    fs::write(&chunk, &bytes).unwrap();

    lose(&mut pair);
    let mount = home.mount_configured();
    assert!(read_afresh(&path, 0, pair.wanted.len()).unwrap() == pair.wanted);
    assert_eq!(number(&mount, "repaired"), 1);
    assert!(number(&mount, "fetched") <= bytes.len() as u64, "more was fetched than the chunk");
    wait_cached(&path, "full");
    assert_eq!(files::attribute(&path, "user.musicfs.backup"), None);
    mount.unmount();
}

#[test]
fn damaged_chunk_comes_from_any_server_that_has_it_while_its_own_is_gone() {
    damaged_chunk_comes_from_any_server_that_has_it(|pair| pair.first.kill());
}

#[test]
fn damaged_chunk_comes_from_any_server_that_has_it_while_its_own_hangs() {
    damaged_chunk_comes_from_any_server_that_has_it(|pair| pair.first.proxy().set([Toxic::StallAfter(0)]));
}

#[test]
fn library_whose_servers_are_all_away_from_the_start_is_listed_and_plays_what_is_cached() {
    let mut second = Served::empty(Kind::Webdav);
    let whole = second.add("whole.flac", "Whole", 2 << 20);
    let mut first = Served::empty(Kind::Sftp);
    let part = first.add("part.flac", "Part", LARGE);
    first.add("never.flac", "Never", 2 << 20);
    let home = Home::new();
    let keys = "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\n";
    home.configure(&format!("{keys}{}{}", first.table("first", ""), second.table("second", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let listed = files::files(&mount.at());
    let named =
        |title: &str| mount.join(listed.iter().find(|path| path.to_string_lossy().contains(title)).unwrap());
    let (cached, partly, never) = (named("Whole"), named("Part"), named("Never"));
    assert!(fs::read(&cached).unwrap() == whole);
    wait_cached(&cached, "full");
    assert!(read_afresh(&partly, 0, 256 << 10).unwrap() == part[..256 << 10]);
    wait_cached(&partly, "partial");
    mount.unmount();
    first.kill();
    second.kill();

    let mount = home.mount_configured();
    assert_eq!(files::files(&mount.at()), listed);
    let cached_word = |path: &PathBuf| files::attribute(path, "user.musicfs.cached").unwrap();
    assert_eq!([&cached, &partly, &never].map(cached_word), ["full", "partial", "partial"]);
    assert!(fs::read(&cached).unwrap() == whole);
    let file = File::open(&partly).unwrap();
    let mut bytes = vec![0; 128 << 10];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == part[..128 << 10]);
    let far = LARGE as u64 - (1 << 20);
    let error = file.read_exact_at(&mut bytes, far).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::ETIMEDOUT)), "{error}");
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == part[..128 << 10], "the range that is cached is lost with the other");
    assert!(fs::read(&never).is_err());
    eventually_blocking("the mount to be offline", || mount.status()["state"] == "offline");
    drop(file);
    mount.unmount();
}
