//! Servers that go away, or answer with less than there is: nothing in the library is lost by it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use serde_json::Value;

use crate::served::{Kind, Served};

/// Files of a library: so many that the loss of nearly all is not believed.
const FILES: usize = 60;

/// Fills a served folder.
fn fill(served: &Served) {
    for n in 0..FILES {
        let album = n / 6;
        let track = Track::new(Sample::Mp3Vbr).artist("A").album(format!("L{album}")).title(format!("T{n}"));
        write_track(&served.music(), format!("{album}/{n}.mp3"), &track.track(n as u32 % 6 + 1, 6)).unwrap();
    }
}

fn mounted(home: &Home, table: &str) -> (Vec<PathBuf>, Value) {
    // Scans only when the test says so; a server that is away is given up soon.
    home.configure(&format!("rescan_interval = \"0\"\nremote_deadline = \"3s\"\n{table}"));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let all = files::files(&mount.at());
    assert_eq!(all.len(), FILES);
    let totals = mount.status()["totals"].clone();
    mount.unmount();
    (all, totals)
}

fn scan(home: &Home, mount: &Mount<'_>) -> (Option<i32>, Value) {
    let ran = home.run(["scan".into(), "--json".into(), "--mount".into(), mount.at()]);
    let results: Value = serde_json::from_slice(&ran.stdout).unwrap();
    (ran.status.code(), results["nas"].clone())
}

fn assert_whole(mount: &Mount<'_>, all: &[PathBuf], totals: &Value) {
    assert_eq!(files::files(&mount.at()), all);
    assert_eq!(mount.status()["totals"], *totals);
}

fn server_that_dies_loses_nothing(kind: Kind) {
    let mut served = Served::empty(kind);
    fill(&served);
    served = served.behind_proxy();
    let home = Home::new();
    let (all, totals) = mounted(&home, &served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    // It is out of reach, then it answers again.
    served.proxy().down();
    let (code, result) = scan(&home, &mount);
    assert!(code == Some(1) && result["error"].is_string(), "{result}");
    assert_whole(&mount, &all, &totals);
    served.proxy().heal();
    eventually_blocking("the server to be scanned again", || {
        let (code, result) = scan(&home, &mount);
        code == Some(0) && result["unchanged"] == FILES
    });
    // It is killed, and MusicFS is mounted anew without it.
    served.kill();
    assert_eq!(scan(&home, &mount).0, Some(1));
    mount.unmount();
    let mount = home.mount_configured();
    let failed = || mount.status()["scan"]["last"]["nas"]["error"].is_string();
    eventually_blocking("the first scan to fail", failed);
    assert_whole(&mount, &all, &totals);
    assert_eq!(mount.status()["totals"]["missing"], 0);
    mount.unmount();
}

#[test]
fn ssh_server_that_dies_loses_nothing() {
    server_that_dies_loses_nothing(Kind::Sftp);
}

#[test]
fn s3_that_dies_loses_nothing() {
    server_that_dies_loses_nothing(Kind::S3);
}

#[test]
fn webdav_server_that_dies_loses_nothing() {
    server_that_dies_loses_nothing(Kind::Webdav);
}

fn listing_that_is_cut_anywhere_loses_nothing(kind: Kind) {
    let served = Served::empty(kind);
    fill(&served);
    let served = served.behind_proxy();
    let home = Home::new();
    let (all, totals) = mounted(&home, &served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let mut cut = 0;
    for bytes in [0u64, 100, 1_000, 2_500, 5_000, 8_000, 12_000, 20_000, 40_000] {
        // Each connection ends after so many bytes.
        served.proxy().set([Toxic::ResetAfter(bytes)]);
        served.proxy().cut();
        let (code, result) = scan(&home, &mount);
        cut += u32::from(code != Some(0));
        assert_eq!(result["missing"], 0, "{result}");
        assert_whole(&mount, &all, &totals);
    }
    assert!(cut > 0, "no listing was cut");
    served.proxy().heal();
    eventually_blocking("a whole scan", || scan(&home, &mount).1["unchanged"] == FILES);
    assert_whole(&mount, &all, &totals);
    mount.unmount();
}

#[test]
fn s3_listing_that_is_cut_anywhere_loses_nothing() {
    listing_that_is_cut_anywhere_loses_nothing(Kind::S3);
}

#[test]
fn ssh_listing_that_is_cut_anywhere_loses_nothing() {
    listing_that_is_cut_anywhere_loses_nothing(Kind::Sftp);
}

fn server_that_is_emptied_is_not_believed_until_confirmed(kind: Kind) {
    let served = Served::empty(kind);
    fill(&served);
    let home = Home::new();
    let (all, totals) = mounted(&home, &served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let aside = home.folder("aside");
    fs::create_dir(&aside).unwrap();
    // All is gone, and then nearly all.
    for stays in [0, 1] {
        move_albums(&served.music(), &aside, stays);
        let (code, result) = scan(&home, &mount);
        assert_eq!(code, Some(3), "{result}");
        assert!(result["needs_confirmation"] == true && result["held_back"].is_string(), "{result}");
        assert_whole(&mount, &all, &totals);
        let status = home.succeed(["status".into(), mount.at()]);
        assert!(status.contains("musicfs scan --confirm nas"), "{status}");
        move_albums(&aside, &served.music(), 0);
        let (code, result) = scan(&home, &mount);
        assert_eq!((code, &result["unchanged"]), (Some(0), &Value::from(FILES)), "{result}");
        assert!(!home.succeed(["status".into(), mount.at()]).contains("--confirm"));
    }
    // The user says that it is so, and changes their mind: the files are those that they were.
    let inode = |path: &Path| fs::metadata(mount.join(path)).unwrap().ino();
    let before: Vec<u64> = all.iter().map(|path| inode(path)).collect();
    move_albums(&served.music(), &aside, 1);
    home.succeed([
        "scan".as_ref(),
        "--mount".as_ref(),
        mount.at().as_os_str(),
        "--confirm".as_ref(),
        "nas".as_ref(),
    ]);
    assert_eq!(files::files(&mount.at()).len(), FILES / 10);
    assert_eq!(mount.status()["totals"]["missing"], FILES - FILES / 10);
    move_albums(&aside, &served.music(), 0);
    assert_eq!(scan(&home, &mount).1["returned"], FILES - FILES / 10);
    assert_whole(&mount, &all, &totals);
    assert_eq!(all.iter().map(|path| inode(path)).collect::<Vec<_>>(), before);
    mount.unmount();
}

/// Moves the folders of albums, but for some.
fn move_albums(from: &Path, to: &Path, stay: usize) {
    let mut albums: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    albums.sort();
    for album in albums.into_iter().skip(stay) {
        let target = to.join(album.file_name().unwrap());
        assert!(std::process::Command::new("mv").arg(&album).arg(&target).status().unwrap().success());
    }
}

#[test]
fn s3_bucket_that_is_emptied_is_not_believed_until_confirmed() {
    server_that_is_emptied_is_not_believed_until_confirmed(Kind::S3);
}

#[test]
fn ssh_folder_that_is_emptied_is_not_believed_until_confirmed() {
    server_that_is_emptied_is_not_believed_until_confirmed(Kind::Sftp);
}
