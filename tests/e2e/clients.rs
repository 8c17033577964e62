//! Players, decoders and file tools on the mount.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use musicfs_tests::run;

use crate::demo;

/// All that should play.
fn tracks(mount: &Mount<'_>) -> Vec<PathBuf> {
    let sidecars = ["jpg", "cue", "log", "lrc"];
    let mut found = files::files(&mount.at());
    found.retain(|path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        !path.starts_with("Unsorted") && !sidecars.contains(&extension)
    });
    assert_eq!(found.len(), 35);
    found
}

#[test]
fn ffmpeg_decodes_every_track() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    for path in tracks(&mount) {
        let mut decode = home.prepare("ffmpeg");
        decode
            .args(["-nostdin", "-v", "error", "-xerror", "-i"])
            .arg(mount.join(&path))
            .args(["-f", "null", "-"]);
        let output = run::output(decode);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", path.display());
    }
}

#[test]
fn flac_verifies_every_flac() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let flacs: Vec<_> =
        tracks(&mount).into_iter().filter(|path| path.extension().unwrap() == "flac").collect();
    assert_eq!(flacs.len(), 5);
    let mut verify = home.prepare("flac");
    verify
        .args(["--test", "--silent", "--warnings-as-errors"])
        .args(flacs.iter().map(|path| mount.join(path)));
    run::succeed(verify);
}

/// A music player daemon of the test's own, which ends with it.
struct Mpd<'a> {
    home: &'a Home,
    daemon: std::process::Child,
}

impl<'a> Mpd<'a> {
    fn start(home: &'a Home, music: &Path) -> Self {
        let dir = home.folder("mpd");
        fs::create_dir(&dir).unwrap();
        let config = format!(
            "music_directory \"{}\"\ndb_file \"{dir}/db\"\nbind_to_address \"{dir}/socket\"\n\
             auto_update \"no\"\naudio_output {{\n type \"null\"\n name \"n\"\n}}\n",
            music.display(),
            dir = dir.display()
        );
        fs::write(dir.join("conf"), config).unwrap();
        let mut command = home.prepare("mpd");
        command.arg("--no-daemon").arg(dir.join("conf"));
        command.stderr(fs::File::create(dir.join("log")).unwrap());
        let mpd = Self { home, daemon: command.spawn().unwrap() };
        eventually_blocking("mpd to listen", || dir.join("socket").exists());
        mpd
    }

    fn ask(&self, args: &[&str]) -> String {
        let mut command = self.home.prepare("mpc");
        command.arg("--host").arg(self.home.folder("mpd/socket")).args(args);
        run::succeed(command)
    }
}

impl Drop for Mpd<'_> {
    fn drop(&mut self) {
        // The limit's own process; it hands the signal on.
        let pid = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn mpd_finds_every_track_and_plays_one() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let mpd = Mpd::start(&home, &mount.at());
    mpd.ask(&["--wait", "update"]);
    let found: BTreeSet<PathBuf> = mpd.ask(&["listall"]).lines().map(PathBuf::from).collect();
    let wanted: BTreeSet<PathBuf> = tracks(&mount).into_iter().collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(mpd.ask(&["find", "album", "Night Trains"]).lines().count(), 6);
    let song = "The Harbour Lights/Low Water/02 - Tide Table.flac";
    mpd.ask(&["add", song]);
    mpd.ask(&["play"]);
    eventually_blocking("the song to have been played to its end", || {
        let status = mpd.ask(&["status"]);
        assert!(!status.contains("ERROR"), "{status}");
        !status.contains("[playing]")
    });
    drop(mpd);
    mount.unmount();
}

#[test]
fn rsync_copies_the_tree_and_finds_nothing_to_do_the_second_time() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let copy = home.folder("copy");
    let rsync = |args: &[&str]| {
        let mut command = home.prepare("rsync");
        command.args(args).arg(format!("{}/", mount.at().display())).arg(&copy);
        run::succeed(command)
    };
    rsync(&["-a"]);
    let copied = files::snapshot(&copy);
    for (path, entry) in files::snapshot(&mount.at()).into_iter().filter(|(_, entry)| entry.is_file()) {
        assert_eq!((copied[&path].hash, copied[&path].size), (entry.hash, entry.size), "{}", path.display());
    }
    assert_eq!(rsync(&["-ai", "--checksum"]), "");
}

#[test]
fn find_walks_the_tree_twice_the_same() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let find = || {
        let mut command = home.prepare("find");
        command.arg(mount.at()).args(["-printf", "%i %y %s %T@ %n %P\\n"]);
        run::succeed(command)
    };
    let first = find();
    assert_eq!(first.lines().filter(|line| line.split(' ').nth(1) == Some("f")).count(), 41);
    assert_eq!(find(), first);
}
