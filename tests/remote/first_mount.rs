//! Servers that are new, and do not answer when they are mounted first.

use std::fs;
use std::time::Duration;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_tests::files;
use musicfs_tests::home::Home;

use crate::served::{Kind, Served};

fn server_that_hangs_at_its_first_mount_holds_nothing_up(kind: Kind) {
    let (local, served) = (Served::empty(Kind::S3), Served::empty(kind));
    local.add("here.flac", "Here", 200_000);
    let wanted = served.add("there.flac", "There", 200_000);
    let served = served.behind_proxy();
    served.proxy().set([Toxic::Timeout(Duration::MAX)]);
    let home = Home::new();
    let here = format!("[[origins]]\nid = \"here\"\npath = \"{}\"\n", local.music().display());
    // It is preferred, and yet nobody waits for it.
    home.configure(&format!("{}{here}", served.table("nas", "")));
    let mount = home.mount_configured();
    let shown = |title: &str| {
        files::files(&mount.at()).into_iter().find(|path| path.to_string_lossy().contains(title))
    };
    eventually_blocking("the other's music", || shown("Here").is_some());

    // The tree was there before the server was given up.
    let log = mount.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no '{what}' in {log}"));
    assert!(at("INFO mounted") < at("mounted without it"), "{log}");
    assert!(shown("There").is_none());

    served.proxy().heal();
    eventually_blocking("the server to be scanned", || {
        home.run(["scan", "nas"]).status.success() && shown("There").is_some()
    });
    assert!(fs::read(mount.join(shown("There").unwrap())).unwrap() == wanted);
    mount.unmount();
}

#[test]
fn ssh_server_that_hangs_at_its_first_mount_holds_nothing_up() {
    server_that_hangs_at_its_first_mount_holds_nothing_up(Kind::Sftp);
}

#[test]
fn s3_that_hangs_at_its_first_mount_holds_nothing_up() {
    server_that_hangs_at_its_first_mount_holds_nothing_up(Kind::S3);
}
