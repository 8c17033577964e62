//! What stays the same: ids, inodes, and files that nobody opens without need.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use musicfs_core::UnixNanos;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::demo;

/// Id and inode of every file, by its path on the origin.
fn identities(mount: &Mount<'_>) -> BTreeMap<String, (String, u64)> {
    let of = |path: &Path, name: &str| files::attribute(path, name).unwrap();
    files::files(&mount.at())
        .iter()
        .map(|path| mount.join(path))
        .map(|path| {
            let ino = fs::metadata(&path).unwrap().ino();
            (of(&path, "user.musicfs.path"), (of(&path, "user.musicfs.id"), ino))
        })
        .collect()
}

/// Sees who opens files in the folders below `dir`.
struct Watch(Inotify);

impl Watch {
    fn on(dir: &Path) -> Self {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let folders = files::snapshot(dir).into_iter().filter(|(_, entry)| !entry.is_file());
        for folder in folders.map(|(path, _)| dir.join(path)).chain([dir.to_owned()]) {
            watch.add_watch(&folder, AddWatchFlags::IN_OPEN).unwrap();
        }
        Self(watch)
    }

    /// The names of the files that have been opened since the last call.
    fn opened(&self) -> BTreeSet<OsString> {
        let mut names = BTreeSet::new();
        while let Ok(events) = self.0.read_events() {
            let files = events.into_iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_ISDIR));
            names.extend(files.filter_map(|event| event.name));
        }
        names
    }
}

#[test]
fn rescan_opens_no_unchanged_file() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let watch = Watch::on(music.path());
    let result = mount.rescan(&[]);
    assert_eq!(watch.opened(), BTreeSet::new());
    assert_eq!(result["unchanged"], result["listed"]);
    assert_eq!(result["listed"], 41);
    // The watch would have seen it: a file that has changed is opened, and it alone.
    fs::write(music.path().join("voice memo.wav"), Track::new(Sample::Wav).title("Memo").to_bytes().unwrap())
        .unwrap();
    watch.opened();
    mount.rescan(&[]);
    assert_eq!(watch.opened(), BTreeSet::from([OsString::from("voice memo.wav")]));
    assert!(mount.join("Unknown Artist/Unknown Album/Memo.wav").exists());
}

#[test]
fn mounting_again_opens_no_unchanged_file_either() {
    let (music, home) = (demo(), Home::new());
    home.mount(music.path()).unmount();
    let watch = Watch::on(music.path());
    let mount = home.mount(music.path());
    assert_eq!(files::files(&mount.at()).len(), 41);
    assert_eq!(watch.opened(), BTreeSet::new());
}

#[test]
fn broken_file_is_not_parsed_again_until_it_changes() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    fs::write(music.path().join("x.flac"), b"not yet").unwrap();
    let mount = home.mount(music.path());
    let watch = Watch::on(music.path());
    mount.rescan(&[]);
    assert_eq!(watch.opened(), BTreeSet::new());
    let whole = Track::new(Sample::Flac).title("T").artist("A").album("L");
    write_track(music.path(), "x.flac", &whole).unwrap();
    mount.rescan(&[]);
    let found = files::files(&mount.at());
    assert_eq!(found, [Path::new("A/L/T.flac")]);
    assert!(mount.status()["problems"].as_array().unwrap().is_empty());
}

#[test]
fn other_template_rearranges_the_tree_and_keeps_ids_and_inodes() {
    let (music, home) = (demo(), Home::new());
    let first = home.mount(music.path());
    let before = identities(&first);
    first.unmount();
    let watch = Watch::on(music.path());
    let second = home.mount_with(music.path(), &["--template", "$artist/$title.$ext"]);
    eventually_blocking("the new arrangement", || second.join("高原/朝.m4a").exists());
    assert_eq!(watch.opened(), BTreeSet::new());
    assert!(second.join("Ana Ferreira/Kettle.m4a").exists());
    assert!(!second.join("Various Artists").exists());
    assert_eq!(identities(&second), before);
    second.unmount();
}

#[test]
fn ids_and_inodes_survive_a_lost_catalogue() {
    let (music, home) = (demo(), Home::new());
    let first = home.mount(music.path());
    let before = identities(&first);
    first.unmount();
    fs::remove_dir_all(home.folder("cache")).unwrap();
    let second = home.mount(music.path());
    assert_eq!(identities(&second), before);
}

#[test]
fn twins_keep_their_names_whatever_comes_between() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let twin = |sample| Track::new(sample).title("Twin").artist("A").album("L").track(1, 1);
    write_track(music.path(), "m.mp3", &twin(Sample::Mp3Vbr)).unwrap();
    let mount = home.mount(music.path());
    let shown = |name: &str| files::attribute(&mount.join("A/L").join(name), "user.musicfs.path").unwrap();
    assert_eq!(shown("01 - Twin.mp3"), "m.mp3");
    // Sorted before the first, and older than it: the name is taken all the same.
    let older = twin(Sample::Mp3Cbr).mtime(UnixNanos::from_parts(1_000_000_000, 0));
    write_track(music.path(), "a.mp3", &older).unwrap();
    mount.rescan(&[]);
    eventually_blocking("the twin to appear", || mount.join("A/L/01 - Twin (2).mp3").exists());
    assert_eq!((shown("01 - Twin.mp3"), shown("01 - Twin (2).mp3")), ("m.mp3".into(), "a.mp3".into()));
    mount.unmount();
    let again = home.mount(music.path());
    assert_eq!(
        files::attribute(&again.join("A/L/01 - Twin.mp3"), "user.musicfs.path").as_deref(),
        Some("m.mp3")
    );
}
