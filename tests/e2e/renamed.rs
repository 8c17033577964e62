//! Files that are renamed on their origin to names that others have.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use musicfs_tests::mount::Mount;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tempfile::TempDir;

/// Where a file is on its origin, by its name in the mount, with its id and its inode.
type Shown = BTreeMap<PathBuf, (String, String, u64)>;

fn shown(mount: &Mount<'_>) -> Shown {
    let of = |path: &Path, name: &str| files::attribute(path, name).unwrap_or_default();
    let all = files::files(&mount.at()).into_iter();
    all.map(|name| {
        let at = mount.join(&name);
        let ino = fs::metadata(&at).map_or(0, |meta| meta.ino());
        (name, (of(&at, "user.musicfs.path"), of(&at, "user.musicfs.id"), ino))
    })
    .collect()
}

/// Two discs of four tracks, each with audio of its own.
fn music() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for disc in 1..=2 {
        for n in 1..=4 {
            let title = format!("Track {disc}{n}");
            let track = Track::new(Sample::Mp3Cbr)
                .artist("Anna")
                .album("Album")
                .title(&title)
                .disc(disc, 2)
                .track(n, 4);
            let at = format!("Disc {disc}/{n}.mp3");
            write_track(dir.path(), &at, &track).unwrap();
            let mut bytes = fs::read(dir.path().join(&at)).unwrap();
            bytes.extend([disc as u8, n as u8, 7, 7]);
            fs::write(dir.path().join(at), bytes).unwrap();
        }
    }
    dir
}

/// What is shown after renaming: the same, at other paths of the origin.
fn renamed(before: &Shown, to: impl Fn(&str) -> String) -> Shown {
    let now = |(path, id, ino): &(String, String, u64)| (to(path), id.clone(), *ino);
    before.iter().map(|(name, file)| (name.clone(), now(file))).collect()
}

fn next(path: &str) -> String {
    (1..=4)
        .rev()
        .fold(path.to_owned(), |path, n| path.replace(&format!("/{n}.mp3"), &format!("/{}.mp3", n + 1)))
}

fn other_disc(path: &str) -> String {
    match path.strip_prefix("Disc 1/") {
        Some(name) => format!("Disc 2/{name}"),
        None => path.replace("Disc 2/", "Disc 1/"),
    }
}

#[test]
fn renumbered_album_and_exchanged_folders_are_followed_while_they_are_watched() {
    let (music, home) = (music(), Home::new().watching());
    let mount = home.mount(music.path());
    let before = shown(&mount);
    assert_eq!(before.len(), 8);
    for disc in ["Disc 1", "Disc 2"] {
        for n in (1..=4).rev() {
            let at = |n: u32| music.path().join(disc).join(format!("{n}.mp3"));
            fs::rename(at(n), at(n + 1)).unwrap();
        }
    }
    let renumbered = renamed(&before, next);
    eventually_blocking("the album to be followed", || shown(&mount) == renumbered);
    // Folders, by a name in between, and at once.
    let at = |name: &str| music.path().join(name);
    for (from, to) in [("Disc 1", "between"), ("Disc 2", "Disc 1"), ("between", "Disc 2")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    let exchanged = renamed(&renumbered, other_disc);
    eventually_blocking("the folders to be followed", || shown(&mount) == exchanged);
    renameat2(AT_FDCWD, &at("Disc 1"), AT_FDCWD, &at("Disc 2"), RenameFlags::RENAME_EXCHANGE).unwrap();
    eventually_blocking("the folders to be followed back", || shown(&mount) == renumbered);
    mount.unmount();
    // What happened while nobody looked is followed, too.
    fs::rename(at("Disc 1/2.mp3"), at("x")).unwrap();
    fs::rename(at("Disc 1/3.mp3"), at("Disc 1/2.mp3")).unwrap();
    fs::rename(at("x"), at("Disc 1/3.mp3")).unwrap();
    let mount = home.mount(music.path());
    let swapped = renamed(&renumbered, |path| match path {
        "Disc 1/2.mp3" => "Disc 1/3.mp3".to_owned(),
        "Disc 1/3.mp3" => "Disc 1/2.mp3".to_owned(),
        path => path.to_owned(),
    });
    eventually_blocking("the exchange to be followed", || shown(&mount) == swapped);
    mount.unmount();
}

#[test]
fn album_that_is_renumbered_with_its_tags_is_told_as_moves_and_changes() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let write = |audio: u8, n: u32| {
        let track = Track::new(Sample::Mp3Cbr).artist("Anna").album("Album").title("Part").track(n, 4);
        let mut bytes = track.to_bytes().unwrap();
        bytes.extend([audio, 1, 2, 3]);
        fs::write(music.path().join(format!("{n}.mp3")), bytes).unwrap();
    };
    (1..=3).for_each(|n| write(n as u8, n));
    let mount = home.mount(music.path());
    let before = shown(&mount);
    let mut events = Listener::start(&home, &["--json"]);
    // One is put before the others: names and tags go up by one.
    (1..=3).for_each(|n| write(n as u8, n + 1));
    write(9, 1);
    let report = mount.rescan(&[]);
    assert_eq!((&report["moved"], &report["changed"], &report["added"]), (&3.into(), &3.into(), &1.into()));
    let after = |after: Shown| {
        let file = |name: &str| after.get(Path::new(name)).cloned();
        (1..=3u32).all(|n| {
            let was = &before[Path::new(&format!("Anna/Album/{n:02} - Part.mp3"))];
            file(&format!("Anna/Album/{:02} - Part.mp3", n + 1))
                == Some((format!("{}.mp3", n + 1), was.1.clone(), was.2))
        }) && after.len() == 4
    };
    eventually_blocking("the tracks under their new names", || after(shown(&mount)));
    // What comes after tells that all of it was told.
    fs::remove_file(music.path().join("4.mp3")).unwrap();
    mount.rescan(&[]);
    let mut told = Vec::new();
    while told.last().is_none_or(|(kind, _)| kind != "file_removed") {
        let event = events.event();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        if text("type").starts_with("file_") {
            told.push((text("type"), text("path")));
        }
    }
    let removed = told.pop();
    told.sort();
    let at = |kind: &str, n: u32| (kind.to_owned(), format!("Anna/Album/{n:02} - Part.mp3"));
    let mut expected = vec![at("file_added", 1)];
    for kind in ["file_modified", "file_moved"] {
        expected.extend((2..=4).map(|n| at(kind, n)));
    }
    assert_eq!((told, removed), (expected, Some(at("file_removed", 4))));
    mount.unmount();
}

/// The events about files and what they hold, up to one for a file that is added for this, each as its type with its
/// path.
fn told_until_now(events: &mut Listener, music: &Path, mount: &Mount<'_>) -> Vec<(String, String)> {
    write_track(music, "end.mp3", &Track::new(Sample::Mp3Cbr).artist("End").title("End")).unwrap();
    mount.rescan(&[music.join("end.mp3").to_str().unwrap()]);
    let mut told = Vec::new();
    loop {
        let event = events.event();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        if text("path").starts_with("End/") {
            return told;
        }
        // That another path of the origin is known of a file is no change of what it holds.
        if text("type").starts_with("file_") && event["content"] != false {
            told.push((text("type"), text("path")));
        }
    }
}

#[test]
fn album_and_track_that_are_scanned_where_they_came_first_are_followed_there() {
    let (music, home) = (music(), Home::new());
    fs::create_dir(music.path().join("Other")).unwrap();
    let at = |name: &str| music.path().join(name);
    // What is no music is shown by its name on the origin.
    fs::write(at("Disc 2/broken.mp3"), b"nothing that could be played").unwrap();
    let mount = home.mount(music.path());
    let mut before = shown(&mount);
    let broken = PathBuf::from("Unsorted/Disc 2/broken.mp3");
    let (_, id, ino) = before.remove(&broken).unwrap();
    let mut events = Listener::start(&home, &["--json"]);
    let scan = |folder: &str| drop(mount.rescan(&[at(folder).to_str().unwrap()]));
    fs::rename(at("Disc 1/2.mp3"), at("Other/2.mp3")).unwrap();
    fs::rename(at("Disc 2"), at("Other/Second")).unwrap();
    let to = |path: &str| path.replace("Disc 1/2", "Other/2").replace("Disc 2/", "Other/Second/");
    let mut after = renamed(&before, to);
    let moved = "Unsorted/Other/Second/broken.mp3";
    after.insert(moved.into(), (to("Disc 2/broken.mp3"), id, ino));
    // What is gone from where it was known is no mistake to name.
    for folder in ["Other", "Disc 1", "Disc 2", "Disc 2/1.mp3"] {
        scan(folder);
        eventually_blocking("the files to be followed", || shown(&mount) == after);
    }
    let told = told_until_now(&mut events, music.path(), &mount);
    assert_eq!(told, [("file_moved".to_owned(), moved.to_owned())], "what is shown where it was is no news");
    mount.unmount();
}

#[test]
fn files_of_one_size_and_time_that_exchange_names_are_followed_when_they_are_compared() {
    let (music, home) = (music(), Home::new());
    let at = |name: &str| music.path().join(name);
    for n in 1..=4 {
        let file = fs::File::options().append(true).open(at(&format!("Disc 1/{n}.mp3"))).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }
    let mount = home.mount(music.path());
    let before = shown(&mount);
    let third = at("Disc 1/3.mp3");
    home.succeed(["exclude".into(), "--mount".into(), mount.at(), third]);
    let hidden = PathBuf::from("Anna/Album/1-03 - Track 13.mp3");
    eventually_blocking("the file to be hidden", || !mount.join(&hidden).exists());
    let mut events = Listener::start(&home, &["--json"]);
    let exchange = |one: &str, other: &str| {
        renameat2(AT_FDCWD, &at(one), AT_FDCWD, &at(other), RenameFlags::RENAME_EXCHANGE).unwrap();
    };
    exchange("Disc 1/1.mp3", "Disc 1/2.mp3");
    exchange("Disc 1/3.mp3", "Disc 1/4.mp3");
    let report = mount.rescan(&["--verify"]);
    assert_eq!(report["differing"], 3, "{report}");
    let mut after = renamed(&before, |path| match path {
        "Disc 1/1.mp3" => "Disc 1/2.mp3".to_owned(),
        "Disc 1/2.mp3" => "Disc 1/1.mp3".to_owned(),
        "Disc 1/4.mp3" => "Disc 1/3.mp3".to_owned(),
        path => path.to_owned(),
    });
    after.remove(&hidden);
    eventually_blocking("the files to be followed", || shown(&mount) == after);
    let told = told_until_now(&mut events, music.path(), &mount);
    assert_eq!(told, [], "all is shown where it was");
    mount.unmount();
}

#[test]
fn track_of_an_album_that_was_renumbered_unseen_is_itself_when_it_is_opened() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    let before = shown(&mount);
    let at = |n: u32| music.path().join(format!("Disc 1/{n}.mp3"));
    let bytes: Vec<Vec<u8>> = (1..=4).map(|n| fs::read(at(n)).unwrap()).collect();
    (1..=4).rev().for_each(|n| fs::rename(at(n), at(n + 1)).unwrap());
    // At the path of each but the first there is another track of the album now.
    for n in [2, 1, 3, 4] {
        let shown = mount.join(format!("Anna/Album/1-{n:02} - Track 1{n}.mp3"));
        assert!(fs::read(shown).unwrap() == bytes[n - 1], "track {n}");
    }
    let after =
        renamed(&before, |path| if path.starts_with("Disc 1") { next(path) } else { path.to_owned() });
    assert_eq!(shown(&mount), after);
    assert_eq!(mount.rescan(&[])["unchanged"], 8);
    assert_eq!(shown(&mount), after);
    mount.unmount();
}
