//! Commands beside a mount.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use musicfs_test_utils::library::{Sample, Track, write_track};

use crate::bench::{Bench, is_mounted};

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let bench = Bench::new();
    bench.run(["mount", "--no-such-flag", "/mnt"]).failed_with(2, &["--no-such-flag"]);
    bench.run(["serch", "x"]).failed_with(2, &["serch"]);
    bench.run(["mount"]).failed_with(2, &["MOUNTPOINT"]);
    let at = bench.mountpoint();
    bench.run([OsStr::new("mount"), at.as_os_str()]).failed_with(2, &["--origin PATH|URL"]);
    let music = bench.music();
    let music = music.to_str().unwrap();
    let bad = ["mount", "--origin", music, "--template", "$titel", "--local-deadline", "5", "/mnt"];
    bench
        .run(bad)
        .failed_with(2, &["2 things are wrong", "did you mean 'title'", "--local-deadline: expected a time"]);
    assert_eq!(bench.run(["--help"]).code, Some(0));
    assert!(bench.ok(["--version"]).starts_with("musicfs "));
}

#[test]
fn values_that_make_no_sense_are_refused_with_the_reason_and_the_next_step() {
    let bench = Bench::new();
    let not_utf8 = OsStr::from_bytes(b"b\xffd");
    for args in [&["events", "--type"][..], &["search", "--limit"], &["trash", "list", "--from"]] {
        let args = args.iter().map(OsStr::new).chain([not_utf8]);
        bench.run(args).failed_with(2, &["\"b\\xFFd\" is not UTF-8", "only paths"]);
    }
    let time = ["trash", "list", "--older-than"];
    let long = "x".repeat(70_000);
    for (args, said) in [
        (&[&time[..], &["-1d"]].concat()[..], "--older-than: expected a time such as \"5s\""),
        (&[&time[..], &["7"]].concat(), "\"30d\", found '7'"),
        (
            &[&time[..], &["99999999999999999999d"]].concat(),
            "'99999999999999999999d' is more than can be counted",
        ),
        (&["mount", "--cache-size", "-5GB", "/mnt"], "--cache-size: expected a size such as"),
        (&["umount", "--timeout", "-1", "/"], "--timeout"),
        (&["events", "--limit", "-1"], "invalid value '-1' for '--limit <N>'"),
        (&["events", "--type", ""], "there are no events ''; there are: file_added"),
        (&["events", "--type", &long], "there are no events 'xxx"),
        (&["search", " "], "there is nothing to look for"),
        (&["search", "--limit", "0", "x"], "0 is not in 1..=1000"),
        (&["search", "--limit", "1001", "x"], "1001 is not in 1..=1000"),
        (&["search", &long], "it has 70000 bytes, and at most 1024 are taken; leave out"),
        (&["search", &"a ".repeat(200)], "it has 200 words, and at most 128 are taken; leave out"),
        (&["search", "--config", "/nonexistent", "x"], "cannot read the configuration /nonexistent"),
        (&["mounts", "--runtime-dir", ""], "--runtime-dir: the path is empty"),
        (&["status", "--config", "/nonexistent"], "cannot read the configuration /nonexistent"),
        (&["mount", "--health-interval", "0", "/mnt"], "--health-interval: expected more than 0"),
        (&["mount", "--origin", "gopher://x/", "/mnt"], "no origins of type 'gopher'; there are: "),
        (&["mount", "--origin", "sfpt://x/", "/mnt"], "did you mean 'sftp'?"),
    ] {
        bench.run(args).failed_with(2, &[said]);
    }
    let music = bench.music();
    for (flag, what) in [("--cache-dir", "lock the cache"), ("--state-dir", "make the state")] {
        let args = ["scan", "--origin", music.to_str().unwrap(), flag, "/dev/null"];
        bench
            .run(args)
            .failed_with(1, &[what, &format!("; {flag} names another"), "something that is no directory"]);
    }
}

#[test]
fn mountpoint_inside_an_origin_is_refused() {
    let bench = Bench::new();
    let inside = bench.music().join("mnt");
    std::fs::create_dir(&inside).unwrap();
    let music = bench.music();
    let args = ["mount".as_ref(), "--origin".as_ref(), music.as_os_str(), inside.as_os_str()];
    bench.run(args).failed_with(2, &["inside the origin"]);
    let above = bench.path("");
    let args = ["mount".as_ref(), "--origin".as_ref(), music.as_os_str(), above.as_os_str()];
    assert_eq!(bench.run(args).code, Some(2));
}

#[test]
fn configuration_is_checked_and_shown() {
    let bench = Bench::new();
    let config = bench.path("c.toml");
    std::fs::write(&config, format!("[[origins]]\npath = {:?}\nid = \"m\"\n", bench.music())).unwrap();
    let with = |command: &str, more: &[&str]| {
        let mut args = vec!["config", command, "--config", config.to_str().unwrap()];
        args.extend_from_slice(more);
        bench.run(args)
    };
    assert_eq!(with("check", &[]).code, Some(0));
    let shown = with("show", &["--template", "$title"]);
    assert!(shown.out.contains("template = \"$title\""), "{}", shown.out);
    assert!(shown.out.contains("# flag --template") && shown.out.contains("# env MUSICFS_CACHE_DIR"));
    let json: serde_json::Value = serde_json::from_str(&with("show", &["--json"]).out).unwrap();
    assert_eq!(json["keys"][1]["value"][0]["id"], "m");

    std::fs::write(
        &config,
        "template = '$artist/$titel'\ncache = \"x\"\n[[origins]]\npath = \"/nonexistent\"\n",
    )
    .unwrap();
    let checked = with("check", &[]);
    assert_eq!(checked.code, Some(1));
    for part in [
        "c.toml:1:12: template:",
        "did you mean 'title'",
        "^",
        "c.toml:2:1: unknown key 'cache'",
        "does not exist",
    ] {
        assert!(checked.out.contains(part), "{part}: {}", checked.out);
    }
}

#[test]
fn scan_without_a_mount_fills_the_catalogue_of_the_next() {
    let bench = Bench::new();
    let music = bench.music();
    let scan = |more: &[&str]| {
        let mut args = vec!["scan", "--json", "--origin", music.to_str().unwrap()];
        args.extend_from_slice(more);
        bench.json(args).as_object().unwrap().values().next().unwrap().clone()
    };
    assert_eq!(scan(&[])["added"], 3);
    assert_eq!(scan(&[])["unchanged"], 3);
    assert_eq!(scan(&["--full"])["unchanged"], 0);
    // What came of several paths of one origin is told together.
    let folders = ["one", "other"].map(|name| {
        write_track(&music, format!("{name}/1.mp3"), &Track::new(Sample::Mp3Cbr).title(name)).unwrap();
        music.join(name).to_str().unwrap().to_owned()
    });
    assert_eq!(scan(&[&folders[0], &folders[1]])["added"], 2);
    let daemon = bench.mount(&[]);
    // Before its own scan has begun, or while it runs: nothing has to be found first.
    assert!(bench.some_track().is_file());
    drop(daemon);
}

#[test]
fn doctor_finds_a_dead_mount_and_clears_it_when_asked() {
    let bench = Bench::new();
    let mut daemon = bench.mount(&[]);
    bench.until_tracks(3);
    let music = bench.music();
    let doctor = |more: &[&str]| {
        let mut args = vec!["doctor", "--json", "--origin", music.to_str().unwrap()];
        args.extend_from_slice(more);
        let ran = bench.run(args);
        let report: serde_json::Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        (ran.code, report)
    };
    let at = bench.mountpoint();
    let of_mount = |report: &serde_json::Value| {
        let findings = report["findings"].as_array().unwrap();
        findings
            .iter()
            .find(|f| f["message"].as_str().unwrap().contains(at.to_str().unwrap()) && f["check"] == "mounts")
            .cloned()
    };
    let (_, report) = doctor(&[]);
    assert_eq!(of_mount(&report).unwrap()["level"], "ok");
    let catalogue =
        report["findings"].as_array().unwrap().iter().find(|f| f["check"] == "catalogue").unwrap();
    assert!(catalogue["message"].as_str().unwrap().contains("and well"), "{catalogue}");
    daemon.kill();
    let (code, report) = doctor(&[]);
    assert_eq!(code, Some(1));
    let finding = of_mount(&report).unwrap();
    assert_eq!(finding["level"], "fail");
    assert!(finding["advice"].as_str().unwrap().contains("--repair"));
    assert!(is_mounted(&at), "only --repair changes anything");
    let (_, report) = doctor(&["--repair"]);
    assert_eq!(of_mount(&report).unwrap()["level"], "ok");
    assert!(!is_mounted(&at));
    assert_eq!(std::fs::read_dir(bench.path("run")).unwrap().count(), 0);
}

#[test]
fn damaged_catalogue_is_rebuilt_and_said() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("cache")).unwrap();
    std::fs::write(bench.path("cache/catalogue.db"), "garbage".repeat(5000)).unwrap();
    let daemon = bench.mount(&[]);
    bench.until_tracks(3);
    let status = bench.json(["status", "--json"]);
    assert!(status["notices"][0].as_str().unwrap().contains("the catalogue was damaged"), "{status}");
    drop(daemon);
}

#[test]
fn completions_and_manual_are_made_from_the_command_line() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(bench.ok(["completions", shell]).contains("explain"), "{shell}");
    }
    assert!(bench.ok(["man"]).contains(".TH musicfs 1"));
    let dir = bench.path("man");
    bench.ok(["man".as_ref(), "--dir".as_ref(), dir.as_os_str()]);
    for page in ["musicfs.1", "musicfs-mount.1", "musicfs-config-check.1"] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(&format!(".TH {}", page.trim_end_matches(".1"))), "{page}");
    }
}
