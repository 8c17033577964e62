//! Servers that go and come back: what is said of them, and what follows.

use std::fs;

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use crate::served::{Kind, Served};

/// Only what is asked for scans, and checks come quickly.
const KEYS: &str = "rescan_interval = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\n";

pub(crate) fn state_of(mount: &Mount<'_>, origin: &str) -> String {
    let status = mount.status();
    let all = status["origins"].as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == origin).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

#[test]
fn server_that_went_is_said_once_and_scanned_at_once_when_it_is_back() {
    let served = Served::empty(Kind::Webdav);
    served.add("one.flac", "One", 1 << 20);
    let served = served.behind_proxy();
    let disk = tempfile::tempdir().unwrap();
    fs::write(disk.path().join("cover.jpg"), "x").unwrap();
    let home = Home::new();
    let local = format!("[[origins]]\nid = \"disk\"\npath = \"{}\"\n", disk.path().display());
    home.configure(&format!("{KEYS}{}{local}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    eventually_blocking("all to be well", || mount.status()["state"] == "ready");

    served.proxy().down();
    eventually_blocking("the server to be lost", || state_of(&mount, "nas") == "unreachable");
    assert_eq!(mount.status()["state"], "degraded");
    assert_eq!(state_of(&mount, "disk"), "ok");
    let checked = home.run(["origin", "check", "--json"]);
    assert_eq!(checked.status.code(), Some(3), "{checked:?}");
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(
        (&checked[0]["state"], &checked[1]["state"]),
        (&"unreachable".into(), &"ok".into()),
        "{checked}"
    );

    served.add("two.flac", "Two", 1 << 20);
    assert!(!files::files(&mount.at()).iter().any(|path| path.to_string_lossy().contains("Two")));
    served.proxy().heal();
    eventually_blocking("what came meanwhile to be shown", || {
        files::files(&mount.at()).iter().any(|path| path.to_string_lossy().contains("Two"))
    });
    eventually_blocking("all to be well again", || mount.status()["state"] == "ready");
    let log = mount.log();
    assert_eq!(log.matches("the origin does not answer; its files stay listed").count(), 1, "{log}");
    assert_eq!(log.matches("the origin answers again").count(), 1, "{log}");
    mount.unmount();
}

#[test]
fn mount_without_any_server_is_offline_and_origin_check_needs_no_mount() {
    let served = Served::empty(Kind::Sftp);
    served.add("one.flac", "One", 1 << 20);
    let served = served.behind_proxy();
    let home = Home::new();
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    assert!(home.succeed(["origin", "check"]).contains("ok"));
    let mount = home.mount_configured();
    mount.wait_scanned();
    served.proxy().down();
    eventually_blocking("the mount to be offline", || mount.status()["state"] == "offline");
    let listed = home.succeed(["origin", "list"]);
    assert!(listed.contains("nas") && listed.contains("unreachable"), "{listed}");
    assert!(mount.log().contains("offline: no origin answers"), "{}", mount.log());
    mount.unmount();
    let checked = home.run(["origin", "check", "nas"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("unreachable"), "{checked:?}");
    let unknown = home.run(["origin", "check", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}
