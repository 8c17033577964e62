//! Changes on an origin that are seen without anybody asking for a scan.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use tempfile::TempDir;

/// Files that are added at once.
const MANY: usize = 10_000;

fn track(title: &str) -> Track {
    Track::new(Sample::Mp3Vbr).artist("Anna").album("News").title(title).track(1, 1)
}

/// Mounts a library of one track, watched.
fn watched<'a>(home: &'a Home, music: &TempDir) -> Mount<'a> {
    write_track(music.path(), "old/first.mp3", &track("First")).unwrap();
    let mount = home.mount(music.path());
    eventually_blocking("the origin to be watched", || how(&mount) == "watching");
    mount
}

fn how(mount: &Mount<'_>) -> String {
    mount.status()["origins"][0]["watch"]["how"].as_str().unwrap_or_default().to_owned()
}

fn there(mount: &Mount<'_>, path: &str) -> bool {
    mount.join(path).exists()
}

#[test]
fn change_on_an_origin_is_seen_by_itself() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let mount = watched(&home, &music);
    let at = |name: &str| format!("Anna/News/01 - {name}.mp3");
    // A file is copied.
    write_track(music.path(), "new/one.mp3", &track("One")).unwrap();
    eventually_blocking("the copied file", || there(&mount, &at("One")));
    let inode = fs::metadata(mount.join(at("One"))).unwrap().ino();
    // It gets other tags.
    write_track(music.path(), "new/one.mp3", &track("Other")).unwrap();
    eventually_blocking("the new title", || there(&mount, &at("Other")) && !there(&mount, &at("One")));
    // It is renamed, then its folder.
    fs::rename(music.path().join("new/one.mp3"), music.path().join("old/two.mp3")).unwrap();
    let from = || files::attribute(&mount.join(at("Other")), "user.musicfs.path");
    eventually_blocking("the new name", || from().as_deref() == Some("old/two.mp3"));
    fs::rename(music.path().join("old"), music.path().join("moved")).unwrap();
    eventually_blocking("the new folder", || from().as_deref() == Some("moved/two.mp3"));
    assert_eq!(fs::metadata(mount.join(at("Other"))).unwrap().ino(), inode, "it is the same file");
    assert_eq!(files::files(&mount.at()).len(), 2);
    // It goes, and then all that is left.
    fs::remove_file(music.path().join("moved/two.mp3")).unwrap();
    eventually_blocking("the file to go", || !there(&mount, &at("Other")));
    assert!(there(&mount, &at("First")));
    fs::remove_dir_all(music.path().join("moved")).unwrap();
    eventually_blocking("the folder to go", || files::files(&mount.at()).is_empty());
    mount.unmount();
}

#[test]
fn change_is_seen_by_every_link_that_leads_to_it() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let at = |name: &str| format!("Anna/News/01 - {name}.mp3");
    let copies =
        |mount: &Mount<'_>, name: &str| files::attribute(&mount.join(at(name)), "user.musicfs.copies");
    write_track(music.path(), "real/one.mp3", &track("One")).unwrap();
    write_track(music.path(), "real/two.mp3", &track("Two")).unwrap();
    symlink("real", music.path().join("link")).unwrap();
    let mount = watched(&home, &music);
    symlink("real/two.mp3", music.path().join("favourite.mp3")).unwrap();
    let three = |mount: &Mount<'_>| copies(mount, "Two").is_some_and(|all| all.lines().count() == 3);
    eventually_blocking("all three ways to be seen", || three(&mount));
    // What goes, goes by every way; so does what gets other tags.
    fs::remove_file(music.path().join("real/one.mp3")).unwrap();
    write_track(music.path(), "real/two.mp3", &track("Other")).unwrap();
    eventually_blocking("the deletion", || !there(&mount, &at("One")));
    eventually_blocking("the tags", || !there(&mount, &at("Two")) && there(&mount, &at("Other")));
    assert_eq!(copies(&mount, "Other").unwrap().lines().count(), 3);
    mount.unmount();
}

#[test]
fn link_that_leads_on_through_another_or_to_what_comes_later_is_followed() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let ways = |mount: &Mount<'_>, name: &str| {
        let at = format!("Anna/News/01 - {name}.mp3");
        let copies = there(mount, &at).then(|| files::attribute(&mount.join(&at), "user.musicfs.copies"));
        copies.flatten().map_or(0, |all| all.lines().count())
    };
    write_track(music.path(), "one/1.mp3", &track("One")).unwrap();
    write_track(music.path(), "two/2.mp3", &track("Two")).unwrap();
    for (to, at) in [("one", "middle"), ("middle", "chain"), ("late", "early")] {
        symlink(to, music.path().join(at)).unwrap();
    }
    let mount = watched(&home, &music);
    assert_eq!((ways(&mount, "One"), ways(&mount, "Two")), (3, 1));
    fs::remove_file(music.path().join("middle")).unwrap();
    symlink("two", music.path().join("middle")).unwrap();
    eventually_blocking("both links to lead elsewhere", || {
        (ways(&mount, "One"), ways(&mount, "Two")) == (1, 3)
    });
    write_track(music.path(), "late/3.mp3", &track("Three")).unwrap();
    eventually_blocking("both ways to what came", || ways(&mount, "Three") == 2);
    mount.unmount();
}

#[test]
fn cover_far_above_what_changed_follows_it() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let write = |album: &str| write_track(music.path(), "far/x/y/1.mp3", &track("One").album(album)).unwrap();
    write("Before");
    fs::write(music.path().join("far/cover.jpg"), "picture").unwrap();
    let mount = watched(&home, &music);
    eventually_blocking("the cover", || there(&mount, "Anna/Before/cover.jpg"));
    write("After");
    eventually_blocking("the cover to follow", || there(&mount, "Anna/After/cover.jpg"));
    eventually_blocking("the old place to go", || !there(&mount, "Anna/Before"));
    mount.unmount();
}

#[test]
fn file_that_is_written_bit_by_bit_is_shown_as_it_ended() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let mount = watched(&home, &music);
    let bytes = track("Slow").to_bytes().unwrap();
    let path = music.path().join("slow.mp3");
    let mut file = fs::File::create(&path).unwrap();
    for part in bytes.chunks(bytes.len() / 5 + 1) {
        file.write_all(part).unwrap();
        file.sync_all().unwrap();
    }
    drop(file);
    let shown = mount.join("Anna/News/01 - Slow.mp3");
    eventually_blocking("all of the file", || fs::read(&shown).is_ok_and(|read| read == bytes));
    mount.unmount();
}

#[test]
fn ten_thousand_files_added_at_once_are_all_listed() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let mount = watched(&home, &music);
    // One is made, and the others from it: only their numbers differ.
    let number = |n: usize| format!("{n:05}").into_bytes();
    let one = Track::new(Sample::Mp3Vbr).artist("Many").album("Album 00000").title("Title 00000");
    let one = one.to_bytes().unwrap();
    let places: Vec<usize> = (0..one.len() - 5).filter(|at| &one[*at..at + 5] == b"00000").collect();
    // They appear while the folder is still being filled, as when a collection is copied.
    for n in 0..MANY {
        let mut bytes = one.clone();
        let label = |at: usize| if bytes[..at].ends_with(b"Album ") { number(n / 20) } else { number(n) };
        let labels: Vec<_> = places.iter().map(|at| (*at, label(*at))).collect();
        labels.iter().for_each(|(at, label)| bytes[*at..at + 5].copy_from_slice(label));
        bytes.extend(number(n));
        let folder = music.path().join(format!("all/{:03}", n / 20));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{n:05}.mp3")), bytes).unwrap();
    }
    let tracks = || mount.status()["totals"]["tracks"].as_u64().unwrap();
    let mut before = tracks();
    while before < MANY as u64 + 1 {
        eventually_blocking("more to be listed", || tracks() > before);
        before = tracks();
    }
    assert_eq!(files::files(&mount.join("Many")).len(), MANY);
    mount.unmount();
}

#[test]
fn origin_that_is_back_in_its_place_is_watched_again() {
    let (dir, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let music = dir.path().join("music");
    write_track(&music, "first.mp3", &track("First")).unwrap();
    let mount = home.mount(&music);
    eventually_blocking("the origin to be watched", || how(&mount) == "watching");
    fs::rename(&music, dir.path().join("away")).unwrap();
    eventually_blocking("the loss to be said", || how(&mount) == "lost");
    assert!(there(&mount, "Anna/News/01 - First.mp3"), "what cannot be seen is not gone");
    fs::rename(dir.path().join("away"), &music).unwrap();
    eventually_blocking("it to be watched again", || how(&mount) == "watching");
    write_track(&music, "second.mp3", &track("Second")).unwrap();
    eventually_blocking("a new file", || there(&mount, "Anna/News/01 - Second.mp3"));
    mount.unmount();
}

#[test]
fn part_of_an_origin_is_scanned_when_it_is_named() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    for name in ["a/one", "b/two", "c/three"] {
        write_track(music.path(), format!("{name}.mp3"), &track(name)).unwrap();
    }
    let mount = home.mount(music.path());
    for name in ["a/new1", "b/new2", "c/new3"] {
        write_track(music.path(), format!("{name}.mp3"), &track(name)).unwrap();
    }
    let scan = |what: &str| {
        let out = home.succeed(["scan".into(), "--json".into(), "--mount".into(), mount.at(), what.into()]);
        let results: serde_json::Value = serde_json::from_str(&out).unwrap();
        let all = results.as_object().unwrap();
        assert_eq!(all.len(), 1, "{out}");
        (all.values().next().unwrap()["listed"].as_u64(), all.values().next().unwrap()["added"].as_u64())
    };
    let shown = |name: &str| there(&mount, &format!("Anna/News/01 - {name}.mp3"));
    // In the origin's directory, as ORIGIN:PATH, a single file, and as the mount shows it.
    assert_eq!(scan(music.path().join("a").to_str().unwrap()), (Some(2), Some(1)));
    assert!(shown("a_new1") && !shown("b_new2") && !shown("c_new3"));
    let origin = mount.status()["origins"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(scan(&format!("{origin}:b/new2.mp3")), (Some(1), Some(1)));
    assert!(shown("b_new2") && !shown("c_new3"));
    write_track(music.path(), "c/three.mp3", &track("third")).unwrap();
    assert_eq!(scan(mount.join("Anna/News/01 - c_three.mp3").to_str().unwrap()), (Some(1), Some(0)));
    assert!(shown("third") && !shown("c_three") && !shown("c_new3"));
    let wrong = home.run(["scan".into(), "--mount".into(), mount.at(), "nowhere:x".into()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("'nowhere:x'"));
    // A name that is not UTF-8, one that is there no more, and one that never was.
    let odd = music.path().join("d").join(std::ffi::OsStr::from_bytes(b"caf\xe9.mp3"));
    write_track(music.path(), "d/odd.mp3", &track("d/odd")).unwrap();
    std::fs::rename(music.path().join("d/odd.mp3"), &odd).unwrap();
    home.succeed(["scan".into(), "--mount".into(), mount.at(), odd]);
    assert!(shown("d_odd"));
    std::fs::remove_file(music.path().join("b/new2.mp3")).unwrap();
    home.succeed(["scan".into(), "--mount".into(), mount.at(), music.path().join("b/new2.mp3")]);
    for command in ["scan", "exclude"] {
        let nothing = music.path().join("b/never.mp3");
        let wrong = home.run([command.into(), "--mount".into(), mount.at(), nothing]);
        assert_eq!(wrong.status.code(), Some(1), "{command}");
        let why = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(why.contains(&format!("nothing is at {origin}:b/never.mp3")), "{why}");
    }
    mount.unmount();
    // Without a mount as well.
    for command in ["scan", "exclude"] {
        let args = |path: &str| {
            let root = music.path().to_owned();
            [command.into(), "--origin".into(), root.clone(), root.join(path)]
        };
        assert_eq!(home.run(args("b/never.mp3")).status.code(), Some(1), "{command}");
        home.succeed(args("b/two.mp3"));
    }
}

/// Runs in namespaces of its own, where there are few watches: mounts, says how that is, and waits for a file that is
/// added where nobody watches.
const WITH_FEW_WATCHES: &str = r#"
set -e
echo 8 > /proc/sys/user/max_inotify_watches
"$BINARY" mount --background --origin "$MUSIC" --rescan-interval 1s "$AT"
trap '"$BINARY" umount "$AT" > /dev/null' EXIT
until "$BINARY" status --json "$AT" | grep -q '"how": *"partly"'; do sleep 0.1; done
"$BINARY" status "$AT"
"$BINARY" doctor || true
for folder in "$MUSIC"/*; do cp "$NEW/${folder##*/}.mp3" "$folder/new.mp3"; done
until test "$(ls "$AT/Anna/News" | wc -l)" = 60; do sleep 0.1; done
"#;

#[test]
fn folders_beyond_the_limit_of_watches_are_polled_and_that_is_said() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new().watching());
    let new = home.folder("new");
    for n in 0..30 {
        write_track(music.path(), format!("{n:02}/old.mp3"), &track(&format!("Old {n:02}"))).unwrap();
        write_track(&new, format!("{n:02}.mp3"), &track(&format!("New {n:02}"))).unwrap();
    }
    let mut shell = home.prepare("unshare");
    shell.args(["--user", "--mount", "--map-root-user", "bash", "-c", WITH_FEW_WATCHES]);
    shell.env("BINARY", home.binary()).env("MUSIC", music.path()).env("AT", home.mountpoint());
    shell.env("NEW", &new);
    let said = musicfs_tests::run::succeed(shell);
    assert!(said.contains("not all directories of"), "doctor does not say it: {said}");
    assert!(said.contains("max_user_watches"), "nor what to do: {said}");
    assert!(said.contains("polled"), "{said}");
}
