//! Scans of several origins at once, of which one takes long.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use musicfs_core::AudioMeta;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::fault_proxy::Toxic;
use musicfs_test_utils::library::{Sample, Track, noise_flac, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::served::{Kind, Served};

/// Tracks on the server: at the delay below, reading the tags of all takes far longer than the tests do.
const TRACKS: usize = 400;
const DELAY: Duration = Duration::from_millis(300);

fn track(artist: &str, title: &str) -> Track {
    Track::new(Sample::Mp3Vbr).artist(artist).album("News").title(title).track(1, 1)
}

fn shown(mount: &Mount<'_>, artist: &str) -> usize {
    let dir = mount.join(artist);
    if dir.exists() { files::files(&dir).len() } else { 0 }
}

/// A server that is far away, and a directory of this machine.
struct Both {
    served: Served,
    disk: tempfile::TempDir,
    home: Home,
}

impl Both {
    fn new() -> Self {
        let both = Self {
            served: Served::empty(Kind::Sftp).behind_proxy(),
            disk: tempfile::tempdir().unwrap(),
            home: Home::new().watching(),
        };
        write_track(both.disk.path(), "old/first.mp3", &track("Near", "First")).unwrap();
        let local = format!("[[origins]]\nid = \"disk\"\npath = \"{}\"\n", both.disk.path().display());
        both.home.configure(&format!("rescan_interval = \"0\"\n{}{local}", both.served.table("nas", "")));
        both
    }

    /// Mounts both, fills the server, and has somebody scan it, which takes long.
    fn scan(&self) -> (Mount<'_>, Child) {
        let mount = self.home.mount_configured();
        mount.wait_scanned();
        let watched = |status: &serde_json::Value| status["origins"][1]["watch"]["how"] == "watching";
        eventually_blocking("the directory to be watched", || watched(&mount.status()));
        for n in 0..TRACKS {
            write_track(&self.served.music(), format!("{n:03}.mp3"), &track("Far", &format!("{n:03}")))
                .unwrap();
        }
        self.served.proxy().set([Toxic::Latency(DELAY)]);
        let mut scan = self.home.prepare(self.home.binary());
        scan.args(["scan", "--mount"]).arg(mount.at()).arg("nas");
        let scan = scan.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually_blocking("the scan to find something", || {
            mount.status()["scan"]["passes"]["nas"]["listed"] == TRACKS
        });
        (mount, scan)
    }
}

#[test]
fn change_here_is_seen_while_a_server_far_away_is_scanned() {
    let both = Both::new();
    let (mount, mut scan) = both.scan();
    write_track(both.disk.path(), "new/second.mp3", &track("Near", "Second")).unwrap();
    eventually_blocking("the new file", || mount.join("Near/News/01 - Second.mp3").exists());
    fs::remove_dir_all(both.disk.path().join("old")).unwrap();
    eventually_blocking("the old one to go", || !mount.join("Near/News/01 - First.mp3").exists());
    assert!(scan.try_wait().unwrap().is_none(), "the server was scanned all along");
    assert!(mount.status()["scan"]["passes"]["nas"]["phase"] == "scanning");
    assert!(shown(&mount, "Far") < TRACKS);
    both.served.proxy().heal();
    assert!(scan.wait().unwrap().success());
    assert_eq!(shown(&mount, "Far"), TRACKS);
    mount.unmount();
}

#[test]
fn what_is_asked_for_comes_before_the_rest_of_a_long_scan() {
    let both = Both::new();
    let (mount, mut scan) = both.scan();
    // Last in any order.
    write_track(&both.served.music(), "zz/wanted.mp3", &track("Wanted", "Song")).unwrap();
    let asked = ["scan".into(), "--mount".into(), mount.at(), "nas:zz".into()];
    both.home.succeed(asked);
    assert!(mount.join("Wanted/News/01 - Song.mp3").exists());
    assert!(scan.try_wait().unwrap().is_none(), "the long scan goes on");
    assert!(shown(&mount, "Far") < TRACKS);
    both.served.proxy().heal();
    let output = scan.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(shown(&mount, "Far"), TRACKS);
    mount.unmount();
}

#[test]
fn scan_that_is_interrupted_ends_and_keeps_what_it_found() {
    let both = Both::new();
    let (mount, scan) = both.scan();
    eventually_blocking("some tracks", || shown(&mount, "Far") > 0);
    // The shell's limit passes it on.
    kill(Pid::from_raw(scan.id() as i32), Signal::SIGINT).unwrap();
    let output = scan.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the scan was cancelled"), "{output:?}");
    let status = mount.status();
    assert_eq!(status["scan"]["phase"], "idle", "{status}");
    assert_eq!(status["origins"][0]["state"], "ok", "that is no failure of the origin: {status}");
    let found = shown(&mount, "Far");
    assert!(0 < found && found < TRACKS);
    both.served.proxy().heal();
    both.home.succeed(["scan".into(), "--mount".into(), mount.at(), "nas".into()]);
    assert_eq!(shown(&mount, "Far"), TRACKS);
    mount.unmount();
}

#[test]
fn preferred_origin_keeps_its_names_however_slow_its_first_scan_is() {
    let served = Served::empty(Kind::Sftp).behind_proxy();
    served.add("song.flac", "Song", 100_000);
    let disk = tempfile::tempdir().unwrap();
    let song =
        AudioMeta { artists: vec!["Noise".into()], title: Some("Song".into()), ..AudioMeta::default() };
    fs::write(disk.path().join("song.flac"), noise_flac(&song, 300_000)).unwrap();
    let home = Home::new();
    let local = format!("[[origins]]\nid = \"disk\"\npath = \"{}\"\n", disk.path().display());
    home.configure(&format!("{}{local}", served.table("nas", "")));
    served.proxy().set([Toxic::Latency(DELAY / 2)]);
    let mount = home.mount_configured();
    let plain = mount.join("Noise/Unknown Album/Song.flac");
    let of = |path: &Path| files::attribute(path, "user.musicfs.origin");
    eventually_blocking("the fast one to be there first", || plain.exists());
    assert_eq!(of(&plain).as_deref(), Some("disk"));
    mount.wait_scanned();
    let second = mount.join("Noise/Unknown Album/Song (2).flac");
    eventually_blocking("both", || plain.exists() && second.exists());
    let origins = || (of(&plain), of(&second));
    eventually_blocking("the preferred to have the name", || {
        origins() == (Some("nas".into()), Some("disk".into()))
    });
    mount.unmount();
}
