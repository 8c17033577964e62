//! What is fetched before it is asked for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::sys::signal::Signal;

use super::{asked, assert_plays, cache, number, state};
use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

const TRACK: usize = 5 << 20;
const KEYS: &str = "remote_deadline = \"4s\"\n";

/// Waits until nothing is fetched any more.
fn wait_quiet(mount: &Mount<'_>) {
    let mut before = asked(mount);
    let mut same = 0;
    eventually_blocking("fetching to end", || {
        let now = asked(mount);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        same == 20
    });
}

/// Tells, while its server is away, whether more is cached of a track than the head that the scan for tags has left.
fn is_begun(mount: &Mount<'_>, path: &Path) -> bool {
    read_afresh(&mount.join(path), 256 << 10, 4096).is_ok()
}

#[test]
fn track_that_is_played_brings_the_next_of_its_album_and_no_more() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let album = served.add_album("One", 3, TRACK);
    let other = served.add_album("Other", 1, TRACK);
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    // No more than the beginning: the rest is fetched while it plays.
    assert_plays(&mount, &album[0].0, &album[0].1[..2 << 20]);
    wait_cached(&mount.join(&album[0].0), "full");
    wait_cached(&mount.join(&album[1].0), "full");
    let prefetched = number(&mount, "prefetched");
    assert!((TRACK as u64 / 2..2 * TRACK as u64).contains(&prefetched), "{prefetched}");
    wait_quiet(&mount);
    served.kill();
    assert!(!is_begun(&mount, &album[2].0), "the one after the next was fetched");
    assert!(!is_begun(&mount, &other[0].0), "another album was fetched");
    for (path, bytes) in &album[..2] {
        assert_plays(&mount, path, bytes);
    }
    mount.unmount();
}

#[test]
fn seek_drops_what_was_being_fetched_ahead() {
    let (served, home) = (Served::empty(Kind::Webdav).behind_proxy(), Home::new());
    let album = served.add_album("One", 2, 4 * TRACK);
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    // Slow enough that the rest takes a while.
    served.proxy().set([Toxic::Bandwidth(4 << 20)]);
    let file = File::open(mount.join(&album[0].0)).unwrap();
    let mut bytes = vec![0; 3 << 19];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == album[0].1[..3 << 19]);
    eventually_blocking("something to be fetched ahead", || number(&mount, "prefetched") > 0);
    let mut few = vec![0; 4096];
    file.read_exact_at(&mut few, 3 * TRACK as u64).unwrap();
    served.proxy().heal();
    // What was under way ends, and nothing is begun after it.
    wait_quiet(&mount);
    assert_eq!(state(&mount, &album[0].0).as_deref(), Some("partial"), "all was fetched: {}", cache(&mount));
    served.proxy().down();
    assert!(!is_begun(&mount, &album[1].0), "the next was fetched");
    mount.unmount();
}

#[test]
fn nothing_is_fetched_ahead_when_that_is_switched_off_while_mounted() {
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let album = served.add_album("One", 4, TRACK);
    let table = served.table("nas", "");
    home.configure(&table);
    let mount = home.mount_configured();
    mount.wait_scanned();
    home.configure(&format!("prefetch = false\n{table}"));
    mount.signal(Signal::SIGHUP);
    eventually_blocking("the setting to be applied", || cache(&mount)["prefetch"] == false);
    assert_plays(&mount, &album[0].0, &album[0].1);
    assert_plays(&mount, &album[2].0, &album[2].1[..2 << 20]);
    wait_cached(&mount.join(&album[0].0), "full");
    assert_ne!(state(&mount, &album[1].0).as_deref(), Some("full"));
    assert_ne!(state(&mount, &album[3].0).as_deref(), Some("full"));
    assert_eq!(number(&mount, "prefetched"), 0);
    home.configure(&table);
    mount.signal(Signal::SIGHUP);
    eventually_blocking("the setting to be applied", || cache(&mount)["prefetch"] == true);
    assert_plays(&mount, &album[0].0, &album[0].1);
    wait_cached(&mount.join(&album[1].0), "full");
    mount.unmount();
}
