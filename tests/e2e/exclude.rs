//! Files that the user does not want to see.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use serde_json::Value;
use tempfile::TempDir;

fn write(dir: &Path, folder: &str, n: u32, title: &str) {
    let album = format!("Album {folder}");
    let track = Track::new(Sample::Flac).artist("Anna").album(album).title(title).track(n, 3);
    write_track(dir, format!("{folder}/{n}.flac"), &track).unwrap();
}

/// Two albums of three tracks, the first with a cover.
fn music() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        (1..=3).for_each(|n| write(dir.path(), folder, n, &format!("Track {n}")));
    }
    fs::write(dir.path().join("a/cover.jpg"), "picture").unwrap();
    dir
}

fn excluded(home: &Home, args: &[&str]) -> Vec<String> {
    let mut all = vec!["exclude", "--list", "--json"];
    all.extend(args);
    let answer: Value = serde_json::from_str(&home.succeed(all)).unwrap();
    let name = |one: &Value| format!("{} {}", one["path"].as_str().unwrap(), one["files"]);
    answer["excluded"].as_array().unwrap().iter().map(name).collect()
}

fn refused(home: &Home, code: i32, args: &[&str]) -> String {
    let output = home.run(args);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The kernel is told a moment after the catalogue.
fn is_gone(path: &Path) {
    eventually_blocking(&format!("{} to be gone", path.display()), || !path.exists());
}

#[test]
fn excluded_file_is_invented_by_no_scan_and_comes_back_as_itself() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    let shown = mount.join("Anna/Album a/01 - Track 1.flac");
    let inode = fs::metadata(&shown).unwrap().ino();
    home.succeed(["exclude".as_ref(), shown.as_os_str()]);
    let gone = |mount: &musicfs_tests::mount::Mount<'_>| {
        is_gone(&mount.join("Anna/Album a/01 - Track 1.flac"));
        let all = files::files(&mount.at());
        assert_eq!(all.len(), 6, "{all:?}");
        eventually_blocking("all that is left to be found", || {
            let found = home.run(["search", "--json", "title:track"]);
            let found: Value = serde_json::from_slice(&found.stdout).unwrap();
            found["complete"] == true && found["results"].as_array().map(Vec::len) == Some(5)
        });
        assert_eq!(mount.status()["totals"]["missing"], 0);
    };
    gone(&mount);
    assert_eq!(excluded(&home, &[]), ["a/1.flac 1"]);
    // It is listed, changes, and is there all the time.
    mount.rescan(&["--full"]);
    gone(&mount);
    write(music.path(), "a", 1, "Changed");
    let report = mount.rescan(&[]);
    assert_eq!(
        (&report["listed"], &report["missing"], &report["changed"]),
        (&6.into(), &0.into(), &0.into())
    );
    gone(&mount);
    mount.unmount();
    // Through a restart, and a catalogue that is made anew.
    let mount = home.mount(music.path());
    gone(&mount);
    mount.unmount();
    fs::remove_dir_all(home.folder("cache")).unwrap();
    let mount = home.mount(music.path());
    gone(&mount);
    let origin = mount.status()["origins"][0]["id"].as_str().unwrap().to_owned();
    home.succeed(["exclude", "--remove", &format!("{origin}:a/1.flac")]);
    let back = mount.join("Anna/Album a/01 - Changed.flac");
    assert_eq!(fs::metadata(&back).unwrap().ino(), inode, "it is the same file, as it is now");
    assert_eq!(files::files(&mount.at()).len(), 7);
    assert_eq!(excluded(&home, &[]), [""; 0]);
    mount.unmount();
}

#[test]
fn excluded_name_that_is_not_utf8_can_be_shown_again_when_the_catalogue_was_made_anew() {
    let (music, home) = (music(), Home::new());
    let name = OsStr::from_bytes(b"caf\xe9.flac");
    fs::rename(music.path().join("b/2.flac"), music.path().join("b").join(name)).unwrap();
    let mount = home.mount(music.path());
    let all = files::files(&mount.at()).len();
    let odd = music.path().join("b").join(name);
    home.succeed(["exclude".as_ref(), odd.as_os_str()]);
    is_gone(&mount.join("Anna/Album b/02 - Track 2.flac"));
    mount.unmount();
    fs::remove_dir_all(home.folder("cache")).unwrap();
    let origin = music.path().as_os_str();
    home.succeed(["exclude".as_ref(), "--remove".as_ref(), "--origin".as_ref(), origin, odd.as_os_str()]);
    home.succeed(["exclude".as_ref(), "--origin".as_ref(), origin, odd.as_os_str()]);
    let mount = home.mount(music.path());
    assert_eq!(files::files(&mount.at()).len(), all - 1);
    home.succeed(["exclude".as_ref(), "--remove".as_ref(), odd.as_os_str()]);
    assert_eq!(files::files(&mount.at()).len(), all);
    assert_eq!(excluded(&home, &[]), [""; 0]);
    mount.unmount();
}

#[test]
fn excluded_directory_takes_all_below_it_now_and_later() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    let folder = music.path().join("a");
    let inode = fs::metadata(mount.join("Anna/Album a/02 - Track 2.flac")).unwrap().ino();
    home.succeed(["exclude".as_ref(), folder.as_os_str()]);
    // The cover goes with the tracks.
    is_gone(&mount.join("Anna/Album a"));
    write(music.path(), "a", 4, "Track 4");
    write(music.path(), "ab", 1, "Not below it");
    assert_eq!(mount.rescan(&[])["added"], 1);
    assert!(!mount.join("Anna/Album a").exists() && mount.join("Anna/Album ab").exists());
    assert_eq!(excluded(&home, &[]), ["a 4"]);

    let one = folder.join("2.flac");
    let why = refused(&home, 1, &["exclude", "--remove", one.to_str().unwrap()]);
    assert!(why.contains(":a; remove that"), "{why}");
    let why = refused(&home, 1, &["exclude", "--remove", music.path().join("b").to_str().unwrap()]);
    assert!(why.contains(":b is not excluded"), "{why}");
    let why = refused(&home, 2, &["exclude", "nowhere:x"]);
    assert!(why.contains("'nowhere:x'"), "{why}");
    let why = refused(&home, 2, &["exclude", music.path().to_str().unwrap()]);
    assert!(why.contains("take it out of the configuration"), "{why}");
    let missing = mount.join("Anna/Nothing");
    let why = refused(&home, 1, &["exclude", "--remove", missing.to_str().unwrap()]);
    assert!(why.contains("nothing that is excluded would be at"), "{why}");
    assert_eq!(home.run(["exclude"]).status.code(), Some(2));

    // By where it would be in the mount.
    let would_be = mount.join("Anna/Album a");
    home.succeed(["exclude".as_ref(), "--remove".as_ref(), would_be.as_os_str()]);
    assert_eq!(files::files(&would_be).len(), 5, "four tracks and the cover");
    assert_eq!(fs::metadata(would_be.join("02 - Track 2.flac")).unwrap().ino(), inode);
    mount.unmount();
    // Without a mount as well.
    let origin = music.path().to_str().unwrap();
    home.succeed(["exclude", "--origin", origin, folder.to_str().unwrap()]);
    assert_eq!(excluded(&home, &["--origin", origin]), ["a 5"]);
    let mount = home.mount(music.path());
    assert!(!mount.join("Anna/Album a").exists() && mount.join("Anna/Album b").exists());
    mount.unmount();
}

#[test]
fn one_of_two_copies_is_excluded_and_the_other_stays() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    for origin in ["x", "y"] {
        write(&dir.path().join(origin), "a", 1, "Same");
    }
    let table =
        |id: &str| format!("[[origins]]\nid = \"{id}\"\npath = \"{}\"\n", dir.path().join(id).display());
    home.configure(&format!("{}{}", table("x"), table("y")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let shown = mount.join("Anna/Album a/01 - Same.flac");
    let copies = || files::attribute(&shown, "user.musicfs.copies");
    assert_eq!(files::files(&mount.at()).len(), 1, "{:?}", copies());
    home.succeed(["exclude", "x:a/1.flac"]);
    let origin = |is: &str| {
        eventually_blocking("the other copy", || {
            shown.exists() && files::attribute(&shown, "user.musicfs.origin").as_deref() == Some(is)
        });
    };
    origin("y");
    home.succeed(["exclude", "y:a"]);
    is_gone(&shown);
    home.succeed(["exclude", "--remove", "x:a/1.flac", "y:a"]);
    origin("x");
    assert_eq!(files::files(&mount.at()).len(), 1);
    mount.unmount();
}

#[test]
fn excluded_file_stays_excluded_under_its_new_name_and_is_included_there() {
    let (music, home, away) = (music(), Home::new().watching(), tempfile::tempdir().unwrap());
    let away = away.path().join("away.flac");
    let mount = home.mount(music.path());
    let (first, second) = (mount.join("Anna/Album a/01 - Track 1.flac"), mount.join("Anna/Album b"));
    let inode = fs::metadata(&first).unwrap().ino();
    // One through the mount, and a directory of the origin.
    home.succeed(["exclude".as_ref(), first.as_os_str()]);
    home.succeed(["exclude".as_ref(), music.path().join("b").as_os_str()]);
    is_gone(&first);
    is_gone(&second);
    let shown = || files::files(&mount.at());
    let before = shown();
    assert_eq!(before.len(), 3, "{before:?}");
    let at = |name: &str| music.path().join(name);
    fs::rename(at("a/1.flac"), at("a/5.flac")).unwrap();
    eventually_blocking("the file to be followed", || {
        excluded(&home, &[]).contains(&"a/5.flac 1".to_owned())
    });
    fs::rename(at("b"), at("c")).unwrap();
    eventually_blocking("the folder to be followed", || excluded(&home, &[]).contains(&"c 3".to_owned()));
    assert_eq!(shown(), before);
    // Away, and back under another name; something else is where it was at first.
    fs::rename(at("a/5.flac"), &away).unwrap();
    mount.rescan(&[]);
    fs::rename(&away, at("a/9.flac")).unwrap();
    write(music.path(), "a", 1, "Another");
    eventually_blocking("what is new to be shown", || mount.join("Anna/Album a/01 - Another.flac").exists());
    eventually_blocking("the file to be followed", || {
        excluded(&home, &[]).contains(&"a/9.flac 1".to_owned())
    });
    assert_eq!((shown().len(), first.exists()), (4, false));
    mount.unmount();
    let mount = home.mount(music.path());
    assert_eq!(files::files(&mount.at()).len(), 4);
    home.succeed(["exclude".as_ref(), "--remove".as_ref(), at("a/9.flac").as_os_str()]);
    let back = mount.join("Anna/Album a/01 - Track 1.flac");
    eventually_blocking("the file to be shown again", || back.exists());
    assert_eq!(fs::metadata(back).unwrap().ino(), inode);
    mount.unmount();
}

#[test]
fn excluded_directory_whose_name_another_takes_stays_excluded_and_the_other_is_shown() {
    for watched in [true, false] {
        let (music, home) = (music(), if watched { Home::new().watching() } else { Home::new() });
        let at = |name: &str| music.path().join(name);
        let mount = home.mount(music.path());
        let albums = |album: &str| files::files(&mount.join("Anna").join(album)).len();
        home.succeed(["exclude".as_ref(), at("a").as_os_str()]);
        is_gone(&mount.join("Anna/Album a"));
        let settled = |excluded_now: &[&str], shown: &[(&str, usize)]| {
            if !watched {
                mount.rescan(&[]);
            }
            eventually_blocking(&format!("{excluded_now:?} {shown:?} {watched}"), || {
                excluded(&home, &[]) == excluded_now
                    && shown.iter().all(|(album, files)| albums(album) == *files)
            });
            assert!(!mount.join("Anna/Album a").exists());
        };
        // Exchanged, by a name in between.
        for (from, to) in [("a", "between"), ("b", "a"), ("between", "b")] {
            fs::rename(at(from), at(to)).unwrap();
        }
        settled(&["b 4"], &[("Album b", 3)]);
        // Gone to another name, with another album and one more track where it was.
        fs::rename(at("b"), at("x")).unwrap();
        write(music.path(), "b", 1, "New");
        write(music.path(), "c", 1, "Other");
        settled(&["x 4"], &[("Album b", 4), ("Album c", 1)]);
        home.succeed(["exclude".as_ref(), "--remove".as_ref(), at("x").as_os_str()]);
        eventually_blocking("all to be shown", || albums("Album a") == 4);
        mount.unmount();
    }
}
