//! Files that are gone from their origin: listed, shown again, forgotten.

use std::fs;

use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use serde_json::Value;

#[test]
fn missing_files_are_listed_filtered_and_purged() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    for n in 1..=4 {
        let track = Track::new(Sample::Flac).artist("A").album("L").title(format!("T{n}")).track(n, 4);
        write_track(music.path(), format!("{}/{n}.flac", if n < 3 { "x" } else { "y" }), &track).unwrap();
    }
    let mount = home.mount(music.path());
    let trash = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["trash", args[0], "--json"];
        all.extend(&args[1..]);
        let answer: Value = serde_json::from_str(&home.succeed(all)).unwrap();
        assert_eq!(answer["waits"], false);
        let paths = answer["files"].as_array().unwrap().iter();
        paths.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(trash(&["list"]), [""; 0]);
    for n in ["x/1", "x/2", "y/3"] {
        fs::remove_file(music.path().join(format!("{n}.flac"))).unwrap();
    }
    assert_eq!(mount.rescan(&[])["missing"], 3);
    assert_eq!(files::files(&mount.at()).len(), 1);
    assert_eq!(trash(&["list"]), ["x/1.flac", "x/2.flac", "y/3.flac"]);
    assert_eq!(trash(&["list", "--path", "x"]), ["x/1.flac", "x/2.flac"]);
    assert_eq!(trash(&["list", "--older-than", "1h"]), [""; 0]);
    assert_eq!(trash(&["list", "--newer-than", "1h", "--path", "y/3.flac"]), ["y/3.flac"]);
    let origin = mount.status()["origins"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(trash(&["list", "--from", &origin]).len(), 3);
    let failed = |args: &[&str], code: i32, said: &str| {
        let output = home.run([&["trash"], args].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && told.contains(said), "{args:?}: {output:?}");
    };
    // A local file is in no cache: there is nothing to show.
    failed(&["restore"], 1, "3 files are not cached whole");
    failed(&["restore", "--path", "nowhere"], 1, "nothing that is gone was at nowhere");
    failed(&["purge", "--path", "nowhere"], 1, "nothing that is gone was at nowhere");
    // A list may be empty, of what is there or was not gone for long enough; a path that names nothing is a mistake.
    assert_eq!(trash(&["list", "--path", "y/4.flac"]), [""; 0]);
    assert_eq!(trash(&["list", "--path", "x", "--older-than", "1h"]), [""; 0]);
    failed(&["list", "--path", "nowhere"], 1, "nothing is at nowhere of an origin, and nothing was");
    failed(&["list", "--path", "x/1"], 1, "nothing is at x/1 of an origin, and nothing was");
    failed(&["purge"], 2, "say --all");
    // As a script has it whose variable is empty.
    failed(&["purge", "--path", ""], 2, "names nothing below an origin");
    failed(&["purge", "--path", "/"], 2, "names nothing below an origin");
    failed(&["list", "--from", "nowhere"], 2, "'nowhere'");
    failed(&["purge", "--older-than", "-1d"], 2, "expected a time");
    assert_eq!(trash(&["list"]).len(), 3, "all are still there");
    assert_eq!(trash(&["purge", "--path", "x/1.flac"]), ["x/1.flac"]);
    assert_eq!(trash(&["list"]), ["x/2.flac", "y/3.flac"]);
    mount.unmount();
    // Without a mount as well.
    let origin = music.path().to_str().unwrap();
    assert_eq!(trash(&["purge", "--origin", origin, "--all"]).len(), 2);
    assert_eq!(trash(&["list", "--origin", origin]), [""; 0]);
    assert_eq!(trash(&["list", "--origin", origin, "--path", "y"]), [""; 0], "where one is left");
    failed(&["list", "--origin", origin, "--path", "x"], 1, "nothing is at x of an origin");
}

#[test]
fn what_makes_no_sense_is_refused_alike_by_a_daemon_and_without_one() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    write_track(music.path(), "a.mp3", &Track::new(Sample::Mp3Cbr).artist("Anna")).unwrap();
    let mount = home.mount(music.path());
    let senseless: [&[&str]; 10] = [
        &["trash", "list", "--path", ""],
        &["trash", "list", "--path", "."],
        &["trash", "list", "--path", "../x"],
        &["trash", "list", "--path", "/"],
        &["trash", "list", "--from", ""],
        &["trash", "list", "--from", "nope"],
        &["scan", "--verify", "nope"],
        &["scan", "nope:x"],
        &["exclude", "nope:x"],
        &["origin", "check", "nope"],
    ];
    let refused = || {
        senseless.map(|args| {
            let output = home.run(args.iter().chain(&["--origin", music.path().to_str().unwrap()]));
            assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
            String::from_utf8(output.stderr).unwrap()
        })
    };
    let by_daemon = refused();
    mount.unmount();
    assert_eq!(refused(), by_daemon);
}
