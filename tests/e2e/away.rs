//! Disks of this machine that are unmounted, exchanged, or may not be read: nothing in the library is lost by it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use musicfs_core::AudioMeta;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, noise_flac, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::mount::{MntFlags, MsFlags, mount as system_mount, umount2};
use serde_json::Value;

use crate::demo;

/// A place where disks are mounted.
struct Slot(PathBuf);

impl Slot {
    /// Mounts what is in `disk`, as it is.
    fn insert(&self, disk: &Path) {
        system_mount(Some(disk), &self.0, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }

    fn eject(&self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Nothing need be mounted there.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn scan(home: &Home, mount: &Mount<'_>) -> (Option<i32>, Value) {
    let ran = home.run(["scan".into(), "--json".into(), "--mount".into(), mount.at()]);
    let results: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let result = results.as_object().unwrap().values().next().unwrap().clone();
    (ran.status.code(), result)
}

#[test]
fn disk_that_is_unmounted_or_exchanged_loses_nothing() {
    for home in [Home::new(), Home::new().watching()] {
        let (disk, other) = (demo(), tempfile::tempdir().unwrap());
        write_track(other.path(), "x.flac", &Track::new(Sample::Flac).title("X")).unwrap();
        let slot = Slot(home.folder("disk"));
        fs::create_dir(&slot.0).unwrap();
        slot.insert(disk.path());
        let mount = home.mount(&slot.0);
        let all = files::files(&mount.at());
        // What is left is the empty directory that it was mounted on; then another disk is there.
        for exchanged in [false, true] {
            slot.eject();
            if exchanged {
                slot.insert(other.path());
            }
            let (code, result) = scan(&home, &mount);
            assert_eq!(code, Some(3), "{result}");
            assert!(result["needs_confirmation"] == true && result["missing"] == 0, "{result}");
            assert!(result["held_back"].as_str().unwrap().contains("another storage"), "{result}");
            assert_eq!(files::files(&mount.at()), all);
            if exchanged {
                slot.eject();
            }
            slot.insert(disk.path());
            let (code, result) = scan(&home, &mount);
            assert_eq!((code, &result["unchanged"]), (Some(0), &Value::from(all.len())), "{result}");
            assert_eq!(files::files(&mount.at()), all);
        }
        assert_eq!(mount.status()["totals"]["missing"], 0);
        mount.unmount();
    }
}

#[test]
fn what_may_not_be_read_any_more_is_not_gone() {
    if !nix::unistd::geteuid().is_root() {
        // Who is not root reads as the user that the test would otherwise become.
        return forbidden(&Home::new());
    }
    forbidden(&Home::of_user(65_534));
}

fn forbidden(home: &Home) {
    let music = demo();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(music.path(), 0o755);
    let origin = music.path().to_str().unwrap();
    let scan = || -> (Option<i32>, Value) {
        let ran = home.run(["scan", "--json", "--origin", origin]);
        let results: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let result = results.as_object().unwrap().values().next().unwrap().clone();
        (ran.status.code(), result)
    };
    let listed = scan().1["listed"].as_u64().unwrap();
    assert_eq!(listed, 41);
    let folders: Vec<PathBuf> =
        fs::read_dir(music.path()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    for folder in &folders {
        mode(folder, 0);
    }
    let (code, result) = scan();
    assert_eq!((code, &result["unlisted"]), (Some(3), &folders.len().into()), "{result}");
    let named = result["unlisted_folders"].as_array().unwrap();
    assert!(named.iter().all(|folder| folder["reason"] == "permission denied"), "{result}");
    let said = home.run(["scan", "--origin", origin]);
    let (line, why) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(line.contains("folders could not be listed, and are kept as they were"), "{line}");
    for folder in &folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(why.contains(&format!(":{name} could not be listed: permission denied")), "{why}");
    }
    assert!(result["missing"] == 0 && result["listed"].as_u64() < Some(listed), "{result}");
    mode(music.path(), 0);
    let (code, result) = scan();
    assert!(code == Some(1) && result["error"].as_str().unwrap().contains("denied"), "{result}");
    mode(music.path(), 0o755);
    folders.iter().for_each(|folder| mode(folder, 0o755));
    let (code, result) = scan();
    assert_eq!((code, &result["unchanged"]), (Some(0), &Value::from(listed)), "{result}");
}

#[test]
fn folder_that_goes_while_it_is_watched_is_kept_when_it_is_most_of_all() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    for n in 0..80 {
        let track =
            Track::new(Sample::Mp3Vbr).artist("A").album(format!("L{}", n / 8)).title(format!("T{n}"));
        write_track(music.path(), format!("all/{}/{n}.mp3", n / 8), &track.track(n % 8 + 1, 8)).unwrap();
    }
    write_track(music.path(), "one.mp3", &Track::new(Sample::Mp3Vbr).title("One")).unwrap();
    let mount = home.mount(music.path());
    eventually_blocking("the origin to be watched", || {
        mount.status()["origins"][0]["watch"]["how"] == "watching"
            && mount.status()["scan"]["phase"] == "idle"
    });
    let all = files::files(&mount.at());
    let held = || {
        let last = mount.status()["scan"]["last"].clone();
        last.as_object().unwrap().values().all(|last| last["needs_confirmation"] == true)
    };
    let aside = tempfile::tempdir_in(music.path().parent().unwrap()).unwrap();
    fs::rename(music.path().join("all"), aside.path().join("all")).unwrap();
    eventually_blocking("the brake", held);
    assert_eq!(files::files(&mount.at()), all);
    fs::rename(aside.path().join("all"), music.path().join("all")).unwrap();
    eventually_blocking("the brake to be let go", || !held());
    assert_eq!(files::files(&mount.at()), all);
    assert_eq!(mount.status()["totals"]["missing"], 0);
    mount.unmount();
}

/// The same music with another length: there is room for other tags.
fn with_padding(flac: &[u8]) -> Vec<u8> {
    // "fLaC", a header and STREAMINFO of 34 bytes.
    let (info, rest) = flac.split_at(4 + 4 + 34);
    let padding: [&[u8]; 2] = [&[1, 0, 0x10, 0], &[0; 0x1000]];
    [info, padding[0], padding[1], rest].concat()
}

#[test]
fn copy_of_another_length_is_read_while_a_program_still_reads_from_the_disk_that_is_gone() {
    let home = Home::new();
    let (disk, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let audio = AudioMeta { title: Some("Song".into()), ..AudioMeta::default() };
    let bytes = noise_flac(&audio, 2 << 20);
    fs::write(disk.path().join("a.flac"), &bytes).unwrap();
    fs::write(other.path().join("b.flac"), with_padding(&bytes)).unwrap();
    let slot = Slot(home.folder("disk"));
    fs::create_dir(&slot.0).unwrap();
    slot.insert(disk.path());
    let origins: String = [("disk", &*slot.0, 1), ("other", other.path(), 2)]
        .map(|(id, path, n)| {
            format!("[[origins]]\nid = \"{id}\"\npath = \"{}\"\npriority = {n}\n", path.display())
        })
        .concat();
    home.configure(&format!("rescan_interval = \"0\"\nwatch = false\nhealth_interval = \"1s\"\n{origins}"));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let all = files::files(&mount.at());
    assert_eq!(all.len(), 1, "the copies are not one: {all:?}");
    let path = mount.join(&all[0]);
    let mut playing = File::open(&path).unwrap();
    let mut read = vec![0; 1 << 20];
    playing.read_exact(&mut read).unwrap();
    assert!(read == bytes[..1 << 20]);
    slot.eject();
    eventually_blocking("the copy to be read", || {
        fs::read(&path).is_ok_and(|read| read == with_padding(&bytes))
    });
    playing.read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    // The disk is back; who plays from the copy goes on.
    let copy = File::open(&path).unwrap();
    slot.insert(disk.path());
    eventually_blocking("the disk to be read", || fs::read(&path).is_ok_and(|read| read == bytes));
    let mut read = vec![0; 5000];
    copy.read_exact_at(&mut read, 3000).unwrap();
    assert!(read == with_padding(&bytes)[3000..8000]);
    mount.unmount();
}
