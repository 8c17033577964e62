//! Files that change behind the back of their size and time: found by comparing, and by nothing else.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

const KEYS: &str = "rescan_interval = \"0\"\nrecheck_after = \"0\"\n";

/// Writes over a part of a file, which keeps its time.
fn write_unseen(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.set_modified(time).unwrap();
}

/// Compares everything, and returns the exit code and what is said of the one origin.
fn verify(home: &Home, mount: &Mount<'_>) -> (Option<i32>, Value) {
    let at = mount.at();
    let done = home.run([
        "scan".as_ref(),
        "--verify".as_ref(),
        "--json".as_ref(),
        "--mount".as_ref(),
        at.as_os_str(),
    ]);
    let said: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let result = said.as_object().unwrap().values().next().unwrap().clone();
    (done.status.code(), result)
}

#[test]
fn tags_changed_behind_size_and_time_are_found_by_comparing() {
    let (disk, home) = (tempfile::tempdir().unwrap(), Home::new());
    for (name, title) in [("one.mp3", "Aaaa"), ("two.mp3", "Other"), ("three.flac", "Third")] {
        let sample = if name.ends_with("mp3") { Sample::Mp3Cbr } else { Sample::Flac };
        write_track(disk.path(), name, &Track::new(sample).artist("Artist").title(title)).unwrap();
    }
    home.configure(&format!("{KEYS}[[origins]]\nid = \"disk\"\npath = \"{}\"\n", disk.path().display()));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let (code, result) = verify(&home, &mount);
    assert_eq!(
        (code, &result["verified"], &result["differing"]),
        (Some(0), &3.into(), &0.into()),
        "{result}"
    );

    let one = disk.path().join("one.mp3");
    let bytes = fs::read(&one).unwrap();
    let at = bytes.windows(4).position(|text| text == b"Aaaa").unwrap();
    write_unseen(&one, at as u64, b"Bbbb");
    assert_eq!(mount.rescan(&[])["changed"], 0);
    let shown = |title: &str| {
        files::files(&mount.at()).iter().any(|path| path.file_stem().is_some_and(|stem| stem == title))
    };
    assert!(shown("Aaaa"));
    let (code, result) = verify(&home, &mount);
    assert_eq!(
        (code, &result["verified"], &result["differing"]),
        (Some(0), &2.into(), &1.into()),
        "{result}"
    );
    eventually_blocking("the new title", || shown("Bbbb") && !shown("Aaaa"));
    assert_eq!(verify(&home, &mount).1["differing"], 0);
    mount.unmount();
    // Nor is a mount needed.
    write_unseen(&one, at as u64, b"Cccc");
    let done = home.succeed(["scan", "--verify", "--json", "disk"]);
    assert!(done.contains("\"differing\": 1") || done.contains("\"differing\":1"), "{done}");
}

#[test]
fn audio_changed_behind_size_and_time_is_found_by_comparing_and_replaced() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let mut bytes = served.add("song.flac", "Song", 8 << 20);
    served.add("other.flac", "Other", 3 << 20);
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let all = files::files(&mount.at());
    let find =
        |title: &str| mount.join(all.iter().find(|path| path.to_string_lossy().contains(title)).unwrap());
    let (song, other) = (find("Song"), find("Other"));
    for path in [&song, &other] {
        fs::read(path).unwrap();
        wait_cached(path, "full");
    }
    let (code, result) = verify(&home, &mount);
    assert_eq!(
        (code, &result["verified"], &result["differing"]),
        (Some(0), &2.into(), &0.into()),
        "{result}"
    );
    assert!(result["compared_bytes"].as_u64().unwrap() > 10 << 20, "{result}");
    wait_cached(&song, "full");

    let at = 5_000_000;
    bytes[at..at + 64].fill(b'!');
    write_unseen(&served.music().join("song.flac"), at as u64, &[b'!'; 64]);
    assert_eq!(mount.rescan(&[])["changed"], 0);
    assert!(
        read_afresh(&song, at as u64, 64).unwrap() != bytes[at..at + 64],
        "nothing tells that it changed"
    );
    let (code, result) = verify(&home, &mount);
    assert_eq!(
        (code, &result["verified"], &result["differing"]),
        (Some(0), &1.into(), &1.into()),
        "{result}"
    );
    // The kernel was told to forget what it had.
    eventually_blocking("the new bytes", || fs::read(&song).unwrap() == bytes);
    assert_eq!(mount.status()["cache"]["mismatched"], 1);
    wait_cached(&song, "full");
    served.kill();
    assert!(read_afresh(&song, at as u64, 64).unwrap() == bytes[at..at + 64]);
    mount.unmount();
}

/// Begins to compare everything, as a user does who may interrupt it.
fn verifying(home: &Home, mount: &Mount<'_>) -> Child {
    let mut command = home.prepare(home.binary());
    command.args(["scan", "--verify", "--json", "--mount"]).arg(mount.at());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn result_of(child: Child) -> (Option<i32>, Value) {
    let done = child.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    (done.status.code(), said["nas"].clone())
}

#[test]
fn comparison_keeps_what_it_found_while_others_scan_and_ends_when_it_is_cancelled() {
    let (served, home) = (Served::empty(Kind::Sftp).behind_proxy(), Home::new());
    served.add("short.flac", "Short", 1 << 20);
    served.add("long.flac", "Long", 24 << 20);
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    for path in files::files(&mount.at()) {
        fs::read(mount.join(&path)).unwrap();
        wait_cached(&mount.join(&path), "full");
    }
    write_unseen(&served.music().join("short.flac"), 600_000, &[b'!'; 64]);
    let now = || mount.status()["scan"]["verifying"].clone();

    // Slow enough that the long one is being compared meanwhile.
    served.proxy().set([Toxic::Bandwidth(1 << 20)]);
    let comparing = verifying(&home, &mount);
    eventually_blocking("the short one to be compared", || now()["differing"] == 1);
    served.add("new.flac", "New", 10 << 10);
    home.succeed(["scan", "nas:new.flac"]);
    assert_eq!(now()["differing"], 1, "it began anew");
    served.proxy().heal();
    let (code, result) = result_of(comparing);
    assert_eq!(
        (code, &result["differing"], &result["error"]),
        (Some(0), &1.into(), &Value::Null),
        "{result}"
    );

    served.proxy().set([Toxic::Bandwidth(1 << 20)]);
    let comparing = verifying(&home, &mount);
    eventually_blocking("one to be compared", || now()["files"].as_u64() >= Some(1));
    kill(Pid::from_raw(comparing.id() as i32), Signal::SIGINT).unwrap();
    let (code, result) = result_of(comparing);
    assert_eq!(code, Some(1), "{result}");
    assert!(result["error"].as_str().unwrap().contains("cancelled"), "{result}");
    assert!(result["verified"].as_u64() >= Some(1), "{result}");
    assert_eq!(now(), Value::Null);
    served.proxy().heal();
    mount.unmount();
}

#[test]
fn file_that_cannot_be_compared_is_counted_and_makes_the_comparison_partial() {
    let disk = tempfile::tempdir().unwrap();
    // Root reads everything.
    let home = if nix::unistd::geteuid().is_root() { Home::of_user(65_534) } else { Home::new() };
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(disk.path(), 0o755);
    for (name, title) in [("one.mp3", "One"), ("two.mp3", "Two")] {
        let track = Track::new(Sample::Mp3Cbr).artist("Artist").title(title);
        mode(&write_track(disk.path(), name, &track).unwrap(), 0o644);
    }
    let origin = disk.path().to_str().unwrap();
    let verify = || {
        let done = home.run(["scan", "--verify", "--json", "--origin", origin]);
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        let result = said.as_object().unwrap().values().next().unwrap().clone();
        (done.status.code(), result["verified"].clone(), result["unread"].clone())
    };
    assert_eq!(verify(), (Some(0), 2.into(), 0.into()));
    // That is no change of what it holds.
    mode(&disk.path().join("one.mp3"), 0o000);
    assert_eq!(verify(), (Some(3), 1.into(), 1.into()));
    mode(&disk.path().join("one.mp3"), 0o644);
    assert_eq!(verify(), (Some(0), 2.into(), 0.into()));
}
