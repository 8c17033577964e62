//! Origins that are not asked, or not preferred, for a while.

use std::fs;
use std::time::Duration;

use musicfs_core::{Clock, SystemClock};
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_tests::files;
use musicfs_tests::home::Home;

use crate::caching::{asked, number};
use crate::health::state_of;
use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

const LARGE: usize = 24 << 20;
/// Seconds between two reads for which an origin is asked that is left alone, at the least.
const PROBED_EVERY: u64 = 10;

#[test]
fn reads_of_a_server_that_hangs_fail_without_asking_it_and_cached_ones_go_on() {
    let served = Served::empty(Kind::Sftp);
    let wanted = served.add("long.flac", "Long", LARGE);
    let served = served.behind_proxy();
    let home = Home::new();
    let keys =
        "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\nprefetch = false\n";
    home.configure(&format!("{keys}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    assert!(read_afresh(&path, 0, 1 << 20).unwrap() == wanted[..1 << 20]);
    eventually_blocking("what was read to be cached", || number(&mount, "size") >= 1 << 20);

    served.proxy().set([Toxic::Timeout(Duration::MAX)]);
    assert!(read_afresh(&path, 12 << 20, 4096).is_err());
    eventually_blocking("a check to fail", || mount.status()["state"] == "offline");
    let (before, clock) = (asked(&mount).0, SystemClock::new());
    for n in 0..30 {
        let error = read_afresh(&path, (14 << 20) + (n << 17), 4096).unwrap_err();
        let code = error.raw_os_error();
        assert!(code == Some(nix::libc::EIO) || code == Some(nix::libc::ETIMEDOUT), "{error}");
        let cached = read_afresh(&path, n << 14, 4096);
        assert!(
            cached.unwrap_or_else(|error| panic!("{n}: {error}")) == wanted[(n as usize) << 14..][..4096]
        );
    }
    // A read now and then finds out how it is; one that was under way may be counted as well.
    let (probes, most) = (asked(&mount).0 - before, 2 + clock.now().0.as_secs() / PROBED_EVERY);
    assert!(probes <= most, "it was asked {probes} times");

    served.proxy().heal();
    // What has just failed slowly is the answer for a moment.
    eventually_blocking("the server to be used again", || {
        fs::read(&path).is_ok_and(|read| {
            assert!(read == wanted);
            true
        })
    });
    mount.unmount();
}

#[test]
fn lost_server_is_told_once_though_some_of_its_files_are_cached_and_read_in_their_own_place() {
    let first = Served::empty(Kind::Webdav);
    let disk = tempfile::tempdir().unwrap();
    for (name, title) in [("a.flac", "Cached"), ("b.flac", "Not")] {
        fs::write(disk.path().join(name), first.add(name, title, 1 << 20)).unwrap();
    }
    let first = first.behind_proxy();
    let home = Home::new();
    home.configure(&format!(
        "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nprefetch = false\n{}[[origins]]\nid = \"disk\"\npath = \"{}\"\npriority = 2\n",
        first.table("first", "priority = 1"),
        disk.path().display()
    ));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let named = |title: &str| {
        let all = files::files(&mount.at());
        mount.join(all.iter().find(|path| path.to_string_lossy().contains(title)).unwrap())
    };
    let (cached, other) = (named("Cached"), named("Not"));
    fs::read(&cached).unwrap();
    wait_cached(&cached, "full");
    first.proxy().down();
    eventually_blocking("the server to be lost", || state_of(&mount, "first") == "unreachable");
    for _ in 0..3 {
        read_afresh(&cached, 0, 4096).unwrap();
        assert_eq!(files::attribute(&cached, "user.musicfs.backup"), None);
        read_afresh(&other, 0, 4096).unwrap();
        assert_eq!(files::attribute(&other, "user.musicfs.backup").as_deref(), Some("disk:b.flac"));
    }
    assert!(mount.log().matches("read from copies").count() == 1, "{}", mount.log());
    mount.unmount();
}

#[test]
fn server_that_was_lost_is_read_again_when_it_was_well_for_a_while() {
    let first = Served::empty(Kind::Webdav);
    let wanted = first.add("long.flac", "Long", 4 << 20);
    let first = first.behind_proxy();
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("copy.flac"), &wanted).unwrap();
    let home = Home::new();
    let configure = |delay: &str| {
        let keys = "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\n";
        home.configure(&format!(
            "{keys}failback_delay = \"{delay}\"\n{}[[origins]]\nid = \"disk\"\npath = \"{}\"\npriority = 2\n",
            first.table("first", "priority = 1"),
            disk.path().display()
        ));
    };
    configure("1h");
    let mount = home.mount_configured();
    mount.wait_scanned();
    eventually_blocking("all to be well", || mount.status()["state"] == "ready");
    let path = mount.join(files::files(&mount.at()).remove(0));
    let backup = || {
        read_afresh(&path, 0, 4096).unwrap();
        files::attribute(&path, "user.musicfs.backup")
    };
    assert_eq!(backup(), None);
    first.proxy().down();
    eventually_blocking("the server to be lost", || state_of(&mount, "first") == "unreachable");
    eventually_blocking("the copy to be read", || backup().as_deref() == Some("disk:copy.flac"));
    first.proxy().heal();
    eventually_blocking("all to be well again", || mount.status()["state"] == "ready");
    assert_eq!(backup().as_deref(), Some("disk:copy.flac"), "it was preferred at once");
    assert!(mount.log().matches("read from copies").count() == 1, "{}", mount.log());
    // Shortened while mounted, that time is over.
    configure("1ms");
    mount.signal(nix::sys::signal::Signal::SIGHUP);
    eventually_blocking("the server to be read again", || backup().is_none());
    mount.unmount();
}
