//! Beginning, dying, beginning again.

use std::fs;
use std::os::unix::fs::symlink;

use musicfs_test_utils::library::bench_library;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::{Mount, is_mounted, mounts_at};
use musicfs_tests::run;
use nix::sys::signal::Signal;

use crate::demo;

#[test]
fn killed_daemon_is_mounted_again_over_its_dead_mount() {
    let (music, home) = (demo(), Home::new());
    let first = home.mount(music.path());
    let before = files::files(&first.at());
    first.kill_daemon();
    assert!(is_mounted(&home.mountpoint()), "the dead mount is gone, so that nothing is tested");
    let second = home.mount(music.path());
    assert_eq!(mounts_at(&second.at()), 1);
    assert_eq!(files::files(&second.at()), before);
    fs::read(second.join("The Doubles/Alike/01 - Twin.mp3")).unwrap();
    second.unmount();
}

#[test]
fn killed_again_and_again_the_library_stays_whole() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    bench_library(music.path(), 600).unwrap();
    for _ in 0..4 {
        // Killed as soon as it answers, in the midst of the scan.
        Mount::start(&home, music.path(), &[]).kill_daemon();
    }
    let mount = home.mount(music.path());
    let found = files::files(&mount.at());
    assert_eq!(found.len(), 600);
    for path in found {
        let path = mount.join(path);
        let origin = files::attribute(&path, "user.musicfs.path").unwrap();
        assert_eq!(files::hash(&path), files::hash(&music.path().join(origin)));
    }
    mount.unmount();
}

#[test]
fn two_libraries_are_mounted_at_once() {
    let (one, two) = (demo(), tempfile::tempdir().unwrap());
    bench_library(two.path(), 24).unwrap();
    let (home_one, home_two) = (Home::new(), Home::new());
    let (mount_one, mount_two) = (home_one.mount(one.path()), home_two.mount(two.path()));
    assert_eq!(files::files(&mount_one.at()).len(), 41);
    assert_eq!(files::files(&mount_two.at()).len(), 24);
    mount_one.unmount();
    assert_eq!(files::files(&mount_two.at()).len(), 24);
    mount_two.unmount();
}

#[test]
fn second_mount_with_the_same_cache_says_who_holds_it_and_harms_nothing() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let other = home.folder("other");
    fs::create_dir(&other).unwrap();
    let output =
        home.run(["mount".as_ref(), "--origin".as_ref(), music.path().as_os_str(), other.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&mount.pid().to_string()), "{error}");
    assert!(!is_mounted(&other));
    assert_eq!(files::files(&mount.at()).len(), 41);
    mount.unmount();
}

#[test]
fn live_mount_is_not_mounted_over_by_another_home() {
    let (music, home, stranger) = (demo(), Home::new(), Home::new());
    let mount = home.mount(music.path());
    let output = stranger.run([
        "mount".as_ref(),
        "--origin".as_ref(),
        music.path().as_os_str(),
        mount.at().as_os_str(),
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(mounts_at(&mount.at()), 1);
    assert_eq!(files::files(&mount.at()).len(), 41);
    mount.unmount();
}

#[test]
fn terminated_daemon_unmounts_and_ends_well() {
    let (music, home) = (demo(), Home::new());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mount = home.mount(music.path());
        mount.signal(signal);
        assert_eq!(mount.wait_ended(), Some(0), "{signal}");
        assert!(!is_mounted(&home.mountpoint()), "{signal}");
    }
}

#[test]
fn mount_unmounted_from_outside_ends_its_daemon() {
    let (music, home) = (demo(), Home::new());
    let mut mount = home.mount(music.path());
    let mut unmount = home.prepare("fusermount3");
    unmount.arg("-u").arg(mount.at());
    run::succeed(unmount);
    assert_eq!(mount.wait_ended(), Some(0), "{}", mount.log());
}

#[test]
fn helper_called_as_mount_does_mounts_and_returns() {
    let (music, home) = (demo(), Home::new());
    let helper = home.folder("mount.musicfs");
    symlink(home.binary(), &helper).unwrap();
    let dir = |name: &str| home.folder(name).display().to_string();
    let options = format!(
        "ro,noauto,nofail,_netdev,x-systemd.automount,cache_dir={},state_dir={},runtime_dir={}",
        dir("c"),
        dir("s"),
        dir("run/musicfs")
    );
    // As mount(8) calls it for a line of fstab: source, directory, options.
    let mut call = home.prepare(&helper);
    call.arg(music.path()).arg(home.mountpoint()).args(["-o", &options]);
    run::succeed(call);
    assert!(is_mounted(&home.mountpoint()), "it returned before it had mounted");
    home.succeed(["scan".as_ref(), "--quiet".as_ref(), "--mount".as_ref(), home.mountpoint().as_os_str()]);
    assert_eq!(files::files(&home.mountpoint()).len(), 41);
    home.succeed(["umount".as_ref(), home.mountpoint().as_os_str()]);
    assert!(!is_mounted(&home.mountpoint()));
}

#[test]
fn background_mount_returns_when_mounted_and_says_how_to_unmount() {
    let (music, home) = (demo(), Home::new());
    let at = home.mountpoint();
    let said = home.succeed([
        "mount".as_ref(),
        "--background".as_ref(),
        "--origin".as_ref(),
        music.path().as_os_str(),
        at.as_os_str(),
    ]);
    assert!(is_mounted(&at));
    assert!(said.contains(at.to_str().unwrap()) && said.contains("umount"), "{said}");
    home.succeed(["umount".as_ref(), at.as_os_str()]);
    assert!(!is_mounted(&at));
}
