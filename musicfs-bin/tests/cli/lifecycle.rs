//! From mounting to unmounting, in order and otherwise.

use std::io::Read;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::bench::{Bench, Daemon, Ran, clear, is_mounted};

#[test]
fn mounted_library_is_listed_explained_scanned_and_unmounted() {
    let bench = Bench::new();
    let mut daemon = bench.mount(&[]);
    bench.until_tracks(3);
    let track = bench.some_track();
    assert!(std::fs::read(&track).unwrap().starts_with(b"fLaC"));

    let status = bench.json(["status", "--json"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["health"]["ok"], true);
    assert_eq!(status["origins"][0]["path"], bench.music().to_str().unwrap());
    assert!(bench.ok(["status"]).contains("3 tracks"));

    let explained = bench.json(["explain".as_ref(), "--json".as_ref(), track.as_os_str()]);
    let within = track.strip_prefix(bench.mountpoint()).unwrap();
    assert_eq!(explained["path"], within.to_str().unwrap());
    assert_eq!(explained["file"]["wanted"], within.to_str().unwrap());
    assert_eq!(explained["file"]["cached"], "local");
    let from_root = bench.json(["explain".as_ref(), "--json".as_ref(), within.as_os_str()]);
    assert_eq!(from_root["inode"], explained["inode"]);
    bench.run(["explain", "No/Such.flac"]).failed_with(1, &["nothing is at No/Such.flac"]);

    let scanned = bench.json(["scan", "--json"]);
    let result = scanned.as_object().unwrap().values().next().unwrap();
    assert_eq!((&result["unchanged"], &result["complete"]), (&3.into(), &true.into()));
    bench.run(["scan", "nowhere"]).failed_with(2, &["no origin or path 'nowhere'"]);

    bench.ok(["umount".as_ref(), bench.mountpoint().as_os_str()]);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert!(!is_mounted(&bench.mountpoint()));
    let left: Vec<_> = std::fs::read_dir(bench.path("run")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    bench.run(["status"]).failed_with(1, &["nothing is mounted"]);
}

#[test]
fn second_mount_on_a_cache_is_told_who_holds_it_and_touches_nothing() {
    let bench = Bench::new();
    let daemon = bench.mount(&[]);
    let other = bench.path("other");
    std::fs::create_dir(&other).unwrap();
    let music = bench.music();
    let args = ["mount".as_ref(), "--origin".as_ref(), music.as_os_str(), other.as_os_str()];
    let pid = format!("process {}", daemon.pid());
    let at = bench.mountpoint();
    bench.run(args).failed_with(1, &[&pid, at.to_str().unwrap(), "--cache-dir"]);
    // In the background as well, through the waiting parent.
    let mut background = args.to_vec();
    background.push("--background".as_ref());
    bench.run(background).failed_with(1, &[&pid]);
    assert!(is_mounted(&at) && !is_mounted(&other));
    assert_eq!(bench.json(["status", "--json"])["pid"], daemon.pid());
}

#[test]
fn killed_daemon_is_told_of_and_mounted_over() {
    let bench = Bench::new();
    let mut first = bench.mount(&[]);
    bench.until_tracks(3);
    first.kill();
    assert!(is_mounted(&bench.mountpoint()));
    let listed = bench.json(["mounts", "--json"]);
    let at = bench.mountpoint();
    let here = listed["mounts"].as_array().unwrap().iter().find(|m| m["mountpoint"] == at.to_str().unwrap());
    assert_eq!(here.unwrap()["state"], "dead");
    bench.run(["status"]).failed_with(1, &["no mount is alive"]);
    let mut second = bench.mount(&[]);
    assert!(second.log().contains("cleared the mount of a daemon that was killed"), "{}", second.log());
    // At once, from the catalogue: no scan is waited for.
    bench.some_track();
    second.kill();
    let cleared = bench.ok(["umount".as_ref(), bench.mountpoint().as_os_str()]);
    assert!(cleared.contains("whose daemon was gone"), "{cleared}");
    assert!(!is_mounted(&bench.mountpoint()));
}

#[test]
fn signals_end_the_daemon_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let bench = Bench::new();
        let mut daemon = bench.mount(&[]);
        daemon.signal(signal);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        assert!(!is_mounted(&bench.mountpoint()));
    }
}

#[test]
fn open_file_is_waited_for_and_a_second_signal_ends_at_once() {
    let bench = Bench::new();
    let mut daemon = bench.mount(&["--drain-limit", "1h", "--no-passthrough"]);
    bench.until_tracks(3);
    let mut held = std::fs::File::open(bench.some_track()).unwrap();
    let mut byte = [0];
    held.read_exact(&mut byte).unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.until_logged("stopping");
    // It has left the tree, and waits for the reader.
    musicfs_test_utils::eventually_blocking("the mount to go", || !is_mounted(&bench.mountpoint()));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(daemon.log().contains("told a second time"), "{}", daemon.log());
    drop(held);
}

#[test]
fn drain_limit_cuts_off_a_reader_that_stays() {
    let bench = Bench::new();
    let mut daemon = bench.mount(&["--drain-limit", "100ms", "--no-passthrough"]);
    bench.until_tracks(3);
    let held = std::fs::File::open(bench.some_track()).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert!(!is_mounted(&bench.mountpoint()));
    drop(held);
}

#[test]
fn unmount_from_outside_ends_the_daemon_well() {
    let bench = Bench::new();
    let mut daemon = bench.mount(&[]);
    clear(&bench.mountpoint());
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("unmounted from outside"));
}

#[test]
fn hangup_applies_what_can_change_and_names_what_waits() {
    let bench = Bench::new();
    let config = bench.path("config.toml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("");
    let mut daemon = bench.mount(&["--config", config.to_str().unwrap()]);
    bench.until_tracks(3);

    write("template = \"$titel\"\nlog_level = \"debug\"\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until_logged("did you mean 'title'");
    daemon.until_logged("all stays as it was");

    write("template = \"Flat/$title\"\nlog_level = \"debug\"\nallow_other = true\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until_logged("take effect at the next mount: allow_other");
    let flat = bench.mountpoint().join("Flat");
    musicfs_test_utils::eventually_blocking("the tree to be arranged", || {
        std::fs::read_dir(&flat).is_ok_and(|entries| entries.count() == 3)
    });
    let status = bench.json(["status", "--json"]);
    assert_eq!(status["template"], "Flat/$title");
    assert!(status["notices"][0].as_str().unwrap().contains("allow_other"));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn background_mount_returns_once_mounted() {
    let bench = Bench::new();
    let at = bench.mountpoint();
    let music = bench.music();
    let args = ["mount".as_ref(), "-b".as_ref(), "--origin".as_ref(), music.as_os_str(), at.as_os_str()];
    let said = bench.ok(args);
    assert!(is_mounted(&at));
    assert!(said.contains(&format!("musicfs umount {}", at.display())), "{said}");
    bench.until_tracks(3);
    let status = bench.json(["status", "--json"]);
    let pid = status["pid"].as_u64().unwrap();
    // Nothing ties it to who started it: it leads a session, and listens to no terminal.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    assert_eq!(after.split_whitespace().nth(3), Some(pid.to_string().as_str()), "{stat}");
    bench.ok(["umount".as_ref(), at.as_os_str()]);
    let logs: Vec<_> = std::fs::read_dir(bench.path("state/log")).unwrap().collect();
    assert_eq!(logs.len(), 1);
}

#[test]
fn background_mount_that_fails_says_why() {
    let bench = Bench::new();
    let at = bench.path("none");
    let music = bench.music();
    let args = ["mount".as_ref(), "-b".as_ref(), "--origin".as_ref(), music.as_os_str(), at.as_os_str()];
    bench.run(args).failed_with(1, &["does not exist", "mkdir -p"]);
    let none = bench.path("no-music");
    let at = bench.mountpoint();
    let args = ["mount".as_ref(), "-b".as_ref(), "--origin".as_ref(), none.as_os_str(), at.as_os_str()];
    bench.run(args).failed_with(1, &["no-music does not exist"]);
    assert!(!is_mounted(&at));
}

#[test]
fn known_origin_that_is_away_is_mounted_all_the_same() {
    let bench = Bench::new();
    let mut first = bench.mount(&[]);
    bench.until_tracks(3);
    first.signal(Signal::SIGTERM);
    first.ended();
    std::fs::rename(bench.music(), bench.path("away")).unwrap();
    let mut second = bench.mount(&[]);
    bench.until("the origin to be missed", |status| status["state"] == "offline");
    let status = bench.json(["status", "--json"]);
    assert_eq!(status["totals"]["tracks"], 3, "an origin that is away is not an empty one");
    assert!(status["origins"][0]["reason"].as_str().is_some());
    second.signal(Signal::SIGTERM);
    assert_eq!(second.ended().code(), Some(0));
}

#[test]
fn files_of_an_origin_that_is_no_longer_named_are_hidden_and_come_back() {
    let bench = Bench::new();
    let config = bench.path("config.toml");
    musicfs_test_utils::library::demo_library(&bench.path("demo")).unwrap();
    let origins = |names: &[&str]| {
        let table = |name: &&str| format!("[[origins]]\nid = {name:?}\npath = {:?}\n", bench.path(name));
        std::fs::write(&config, names.iter().map(table).collect::<String>()).unwrap();
    };
    origins(&["demo", "music"]);
    let start = || {
        let mut command = bench.command();
        command.args(["mount", "--config", config.to_str().unwrap()]).arg(bench.mountpoint());
        Daemon::start(command, bench.mountpoint(), bench.path("daemon.log"))
    };
    let mut daemon = start();
    let tracks = || bench.json(["status", "--json"])["totals"]["tracks"].as_u64().unwrap();
    bench.until("both to be scanned", |status| {
        status["scan"]["phase"] == "idle" && status["scan"]["last"].as_object().unwrap().len() == 2
    });
    let both = tracks();
    assert!(both > 3);
    origins(&["music"]);
    daemon.signal(Signal::SIGHUP);
    bench.until_tracks(3);
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    // Another mount finds the same: the origin is known, though not named.
    let again = start();
    bench.until_tracks(3);
    drop(again);
    origins(&["demo", "music"]);
    let result = bench.json(["scan", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(result["demo"]["added"], 0, "{result}");
    assert!(result["demo"]["returned"].as_u64().unwrap() >= both - 3, "{result}");
}

#[test]
fn two_mounts_have_nothing_to_do_with_each_other() {
    let (one, two) = (Bench::new(), Bench::new());
    // In one runtime directory, as one user's mounts are.
    let run = one.path("run");
    let mut command = two.command();
    command
        .arg("mount")
        .arg("--origin")
        .arg(two.music())
        .arg("--runtime-dir")
        .arg(&run)
        .arg(two.mountpoint());
    let mut first = one.mount(&[]);
    let second = Daemon::start(command, two.mountpoint(), two.path("daemon.log"));
    let listed = one.json(["mounts", "--json"]);
    let mine: Vec<_> = listed["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["control_socket"].as_str().is_some_and(|s| s.starts_with(run.to_str().unwrap())))
        .collect();
    assert_eq!(mine.len(), 2, "{listed}");
    one.ok(["umount".as_ref(), one.mountpoint().as_os_str()]);
    first.ended();
    assert!(is_mounted(&two.mountpoint()));
    two.ok(["umount".as_ref(), "--runtime-dir".as_ref(), run.as_os_str(), two.mountpoint().as_os_str()]);
    drop(second);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let bench = Bench::new();
    let at = bench.mountpoint();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().unwrap();
    assert!(mounted.success());
    bench.run(["umount".as_ref(), at.as_os_str()]).failed_with(1, &["not MusicFS"]);
    let music = bench.music();
    let args = ["mount".as_ref(), "--origin".as_ref(), music.as_os_str(), at.as_os_str()];
    bench.run(args).failed_with(1, &["not MusicFS"]);
    assert!(is_mounted(&at));
}

#[test]
fn helper_follows_the_convention_of_mount() {
    let bench = Bench::new();
    let helper = bench.path("mount.musicfs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_musicfs"), &helper).unwrap();
    let (music, at) = (bench.music(), bench.mountpoint());
    let call = |args: &[&str]| {
        let mut command = bench.command_as(&helper);
        Ran::of(command.arg(&music).arg(&at).args(args).output().unwrap())
    };
    call(&["-o", "rw"]).failed_with(2, &["read-only"]);
    call(&["-o", "tempalte=x"]).failed_with(2, &["did you mean 'template'"]);
    assert_eq!(call(&["-f"]).code, Some(0));
    assert!(!is_mounted(&at));
    let called = call(&["-n", "-o", "ro,user,noauto,_netdev,x-systemd.automount,template=Flat/$title"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(is_mounted(&at), "it returned before it had mounted");
    bench.until_tracks(3);
    assert_eq!(std::fs::read_dir(at.join("Flat")).unwrap().count(), 3);
    bench.ok(["umount".as_ref(), at.as_os_str()]);
}
