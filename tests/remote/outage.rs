//! Servers that go away while music is read.

use std::fs;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_tests::files;
use musicfs_tests::home::Home;

use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

const LARGE: usize = 24 << 20;

fn server_lost_while_reading_costs_what_is_not_cached(kind: Kind) {
    let served = Served::empty(kind);
    let wanted = served.add("long.flac", "Long", LARGE);
    let served = served.behind_proxy();
    let home = Home::new();
    home.configure(&format!("remote_deadline = \"4s\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    assert!(read_afresh(&path, 0, 1 << 20).unwrap() == wanted[..1 << 20]);
    wait_cached(&path, "partial");

    served.proxy().down();
    let far = LARGE - (2 << 20);
    let error = read_afresh(&path, far as u64, 64 << 10).unwrap_err();
    let code = error.raw_os_error();
    assert!(code == Some(nix::libc::EIO) || code == Some(nix::libc::ETIMEDOUT), "{error}");
    assert!(read_afresh(&path, 0, 1 << 20).unwrap() == wanted[..1 << 20], "what was cached is gone as well");

    served.proxy().heal();
    eventually_blocking("the server to be used again", || read_afresh(&path, far as u64, 64 << 10).is_ok());
    // What failed a moment ago is remembered for a moment.
    eventually_blocking("all of it to be read", || fs::read(&path).is_ok_and(|bytes| bytes == wanted));
    mount.unmount();
}

#[test]
fn ssh_server_lost_while_reading_costs_what_is_not_cached() {
    server_lost_while_reading_costs_what_is_not_cached(Kind::Sftp);
}

#[test]
fn s3_lost_while_reading_costs_what_is_not_cached() {
    server_lost_while_reading_costs_what_is_not_cached(Kind::S3);
}

#[test]
fn smb_server_lost_while_reading_costs_what_is_not_cached() {
    server_lost_while_reading_costs_what_is_not_cached(Kind::Smb);
}

#[test]
fn connection_that_breaks_now_and_then_is_not_noticed() {
    let served = Served::empty(Kind::Webdav);
    let wanted = served.add("long.flac", "Long", LARGE);
    let served = served.behind_proxy();
    let home = Home::new();
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    // Each connection dies in the midst of an answer, later than any answer needs to be of use.
    served.proxy().set([Toxic::ResetAfter(5 << 20)]);
    assert!(fs::read(&path).unwrap() == wanted);
    assert!(served.proxy().traffic().accepted > 3, "no connection broke: {:?}", served.proxy().traffic());
    mount.unmount();
}

#[test]
fn server_that_hangs_harms_its_own_files_only() {
    let hung = Served::empty(Kind::Sftp);
    hung.add("hung.flac", "Hung", LARGE);
    let hung = hung.behind_proxy();
    let well = Served::empty(Kind::Webdav);
    let wanted = well.add("well.flac", "Well", LARGE);
    let home = Home::new();
    home.configure(&format!(
        "remote_deadline = \"5s\"\n{}{}",
        hung.table("hung", ""),
        well.table("well", "")
    ));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let named = |name: &str| {
        let of = |path: &std::path::PathBuf| path.to_string_lossy().contains(name);
        mount.join(files::files(&mount.at()).into_iter().find(of).unwrap())
    };
    let (stuck, path) = (named("Hung"), named("Well"));
    hung.proxy().set([Toxic::Timeout(std::time::Duration::MAX)]);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn({
                    let stuck = &stuck;
                    move || read_afresh(stuck, 8 << 20 | n << 16, 4096)
                })
            })
            .collect();
        assert!(fs::read(&path).unwrap() == wanted);
        for reader in waiting {
            assert!(reader.join().unwrap().is_err());
        }
    });
    mount.unmount();
}
