//! Finding tracks: by the command, and in the mount.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, bench_library, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use serde_json::Value;
use tempfile::TempDir;

/// A small library.
fn music() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tracks = [
        ("a.flac", Sample::Flac, "Björk", "Post", "Army of Me", "1995"),
        ("b.mp3", Sample::Mp3Cbr, "Pink Floyd", "Animals", "Dogs", "1977"),
        ("c.mp3", Sample::Mp3Cbr, "Pink Floyd", "The Dark Side of the Moon", "Time", "1973"),
        ("d.ogg", Sample::Vorbis, "Floyd Cramer", "Last Date", "On: the/Rebound?", "1960"),
    ];
    for (path, sample, artist, album, title, date) in tracks {
        let track = Track::new(sample).artist(artist).album(album).title(title).date(date).track(1, 1);
        write_track(dir.path(), path, &track).unwrap();
    }
    dir
}

/// Asks until the whole library was searched, and returns the paths found.
fn search(home: &Home, query: &str) -> Vec<String> {
    let mut paths = Vec::new();
    eventually_blocking("the whole library to be searched", || {
        let output = home.run(["search", "--json", query]);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let results = answer["results"].as_array().unwrap();
        paths = results.iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        answer["complete"] == true
    });
    paths
}

#[test]
fn search_names_the_tracks_in_the_mount_and_finds_them_without_one() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    eventually_blocking("the index to have all", || search(&home, "year:..2000").len() == 4);
    assert_eq!(search(&home, "BJORK"), ["Björk/Post/01 - Army of Me.flac"]);
    assert_eq!(search(&home, "floyd -pink ").len(), 1);
    let said = home.succeed(["search", "\"dark", "side\"", "year:1970..1979"]);
    let path = PathBuf::from(said.trim_end());
    assert_eq!(path, mount.join("Pink Floyd/The Dark Side of the Moon/01 - Time.mp3"));
    assert!(path.is_file());
    assert_eq!(home.succeed(["search", "--limit", "1", "floyd"]).lines().count(), 1);
    let refused = home.run(["search", &"x".repeat(3000)]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("at most 1024"));
    // What is not UTF-8 is no letter, as in the mount.
    let bytes: &OsStr = OsStrExt::from_bytes(b"animals\xff");
    let found = home.run([OsStr::new("search"), bytes]);
    assert!(found.status.success() && found.stdout.ends_with(b"Animals/01 - Dogs.mp3\n"), "{found:?}");
    let nothing = home.run(["search", "nobody"]);
    assert!(nothing.status.success() && nothing.stdout.is_empty(), "{nothing:?}");
    assert_eq!(nothing.stderr, b"No track was found.\n");
    mount.unmount();
    assert_eq!(search(&home, "floyd").len(), 3, "from the cache directory alone");
}

/// What a query finds: by the command, and the same in the mount, under the same inode numbers and with the same bytes.
fn found_twice(home: &Home, mount: &Mount<'_>, query: &str) -> Vec<String> {
    let output = home.run(["search", "--json", "--", query]);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{query}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(answer["complete"], true);
    let hits = answer["results"].as_array().unwrap();
    let paths: Vec<PathBuf> = hits.iter().map(|hit| mount.join(hit["path"].as_str().unwrap())).collect();
    let mut shown: Vec<PathBuf> =
        fs::read_dir(mount.join(".search").join(query)).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Names begin with the rank.
    shown.sort();
    assert_eq!(shown.len(), paths.len(), "{query}: {shown:?}");
    for (shown, path) in shown.iter().zip(&paths) {
        let (one, other) = (fs::metadata(shown).unwrap(), fs::metadata(path).unwrap());
        assert_eq!((one.ino(), one.len()), (other.ino(), other.len()), "{query}: {shown:?} is {path:?}");
        assert_eq!(files::hash(shown), files::hash(path));
        assert_eq!(shown.extension(), path.extension());
    }
    let mut titles: Vec<String> = hits.iter().map(|hit| hit["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

#[test]
fn every_form_of_query_finds_the_same_by_command_and_in_the_mount() {
    let (music, home) = (music(), Home::new());
    let more = [
        ("e.mp3", Sample::Mp3Vbr, "Sigur Rós", "Ágætis byrjun", "Svefn-g-englar", "1999"),
        ("f.m4a", Sample::Aac, "サカナクション", "新宝島", "多分、風。", "2016"),
        ("g.mp3", Sample::Mp3Cbr, "!!!", "Strange Weather", "One Boy", "2013"),
        ("h.flac", Sample::Flac, "Moonface", "Julia", "Moonlight Mile", "1985"),
        ("i.flac", Sample::Flac, "한영애", "불어오라 바람아", "누구 없소", "2018"),
    ];
    for (path, sample, artist, album, title, date) in more {
        let track = Track::new(sample).artist(artist).album(album).title(title).date(date).track(1, 1);
        write_track(music.path(), path, &track.genre("Rock, more or less")).unwrap();
    }
    let mount = home.mount(music.path());
    eventually_blocking("the index to have all", || search(&home, "year:..2020").len() == 9);
    let (army, dogs, time, rebound) = ("Army of Me", "Dogs", "Time", "On: the/Rebound?");
    let (svefn, wind, boy, mile) = ("Svefn-g-englar", "多分、風。", "One Boy", "Moonlight Mile");
    let anybody = "누구 없소";
    for (query, expected) in [
        // Terms: all of them, wherever in a track's tags.
        ("floyd", &[dogs, rebound, time][..]),
        ("pink dogs", &[dogs]),
        ("pink nobody", &[]),
        // Fields.
        ("artist:floyd", &[dogs, rebound, time]),
        ("title:floyd", &[]),
        ("album:animals artist:pink", &[dogs]),
        ("genre:rock", &[boy, mile, svefn, anybody, wind]),
        ("ARTIST:(cramer OR bjork)", &[army, rebound]),
        ("format:m4a", &[wind]),
        // Phrases.
        ("\"dark side of the moon\"", &[time]),
        ("\"side dark\"", &[]),
        ("album:\"the dark side\"", &[time]),
        // Misspellings.
        ("animols~1", &[dogs]),
        ("animols", &[]),
        ("strnge~ weathr~2", &[boy]),
        // Years.
        ("year:1980..1989", &[mile]),
        ("year:1973", &[time]),
        ("year:..1973", &[rebound, time]),
        ("year:2000..", &[boy, anybody, wind]),
        // Operators and brackets.
        ("dogs OR time", &[dogs, time]),
        ("floyd AND cramer", &[rebound]),
        ("floyd NOT pink", &[rebound]),
        ("floyd -artist:cramer", &[dogs, time]),
        ("(dogs OR rebound) AND (pink OR nobody)", &[dogs]),
        ("floyd NOT (animals OR cramer)", &[time]),
        ("NOT floyd year:..1999", &[army, mile, svefn]),
        // Case and diacritics, in the query and in the tags.
        ("BJORK", &[army]),
        ("björk", &[army]),
        ("bjo\u{308}rk", &[army]),
        ("agaetis BYRJUN", &[svefn]),
        ("sigur ros", &[svefn]),
        // The last word may be a beginning, no other, and not before a blank.
        ("moon", &[mile, time]),
        ("moon ", &[time]),
        ("moonl mile", &[]),
        ("moonl* mile", &[mile]),
        ("pink anim", &[dogs]),
        // One letter is a beginning as well.
        ("c", &[rebound]),
        ("floyd c", &[rebound]),
        ("c ", &[]),
        ("artist:m", &[mile]),
        ("title:a", &[army]),
        ("path:o", &[boy, army, rebound, time]),
        // The last word of several without a blank between them, too, wherever it stands among all that begin so.
        ("pink-f", &[dogs, time]),
        ("svefn-g-en", &[svefn]),
        ("pink-d", &[]),
        ("\"dark side of the m", &[time]),
        ("floyd NOT a", &[rebound, time]),
        ("한", &[anybody]),
        ("album:불", &[anybody]),
        ("바람아 누", &[anybody]),
        ("新", &[wind]),
        ("サ", &[wind]),
        ("!", &[boy]),
        // Scripts without blanks, and signs.
        ("新宝島", &[wind]),
        ("宝島", &[wind]),
        ("!!!", &[boy]),
        // What is no query is taken as words.
        ("on: the/rebound?", &[rebound]),
        ("(floyd", &[dogs, rebound, time]),
        ("AND dogs", &[dogs]),
    ] {
        if query.contains('/') {
            // Not a name that a directory can have.
            assert_eq!(search(&home, query), ["Floyd Cramer/Last Date/01 - On: the_Rebound?.ogg"]);
            continue;
        }
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found_twice(&home, &mount, query), expected, "{query}");
    }
    mount.unmount();
}

#[test]
fn search_in_the_mount_lists_the_same_inodes_and_is_in_no_listing() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    let before = files::files(&mount.at());
    let found = mount.join(".search/floyd year:1970..1979");
    eventually_blocking("both tracks to be found", || fs::read_dir(&found).unwrap().count() == 2);
    let tree: Vec<u64> =
        ["Pink Floyd/Animals/01 - Dogs.mp3", "Pink Floyd/The Dark Side of the Moon/01 - Time.mp3"]
            .map(|path| fs::metadata(mount.join(path)).unwrap().ino())
            .into();
    let mut names = Vec::new();
    for entry in fs::read_dir(&found).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name().into_string().unwrap());
        let meta = fs::metadata(entry.path()).unwrap();
        assert!(tree.contains(&meta.ino()) && meta.is_file());
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), meta.ino(), "listing and lookup agree");
        let origin = files::attribute(&entry.path(), "user.musicfs.path").unwrap();
        assert_eq!(files::hash(&entry.path()), files::hash(&music.path().join(origin)));
    }
    names.sort();
    assert!(
        names[0].starts_with("01 Pink Floyd - ") && names[1].starts_with("02 Pink Floyd - "),
        "{names:?}"
    );
    assert_eq!(files::files(&mount.at()), before, "a walk does not meet it");
    assert_eq!(fs::read_dir(mount.join(".search")).unwrap().count(), 0);
    let gone = fs::metadata(found.join("03 nobody")).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    mount.unmount();
}

#[test]
fn search_in_the_mount_takes_any_query_that_the_command_takes() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    eventually_blocking("the index to have all", || search(&home, "year:..2000").len() == 4);
    let place = mount.join(".search");
    let listed = |query: &[u8]| {
        let at = place.join(OsStr::from_bytes(query));
        fs::read_dir(&at).unwrap_or_else(|error| panic!("{at:?}: {error}")).count()
    };
    // What asks for nothing, or for what is not there.
    for query in [
        "\"",
        "((((",
        ")(",
        "a:b:c",
        "%s $HOME `",
        "..x",
        "...",
        ". .",
        "~",
        "~1",
        "*",
        "**",
        "a*b?[c]",
        "year:9..1",
        "year:",
        "title:",
        "artist:(",
        "-",
        "--help",
        "-\"",
        "日本",
        "NOT",
        "NOT NOT",
        "AND OR",
        "OR",
        "\u{1}\n",
        "\t",
        " ",
        "   ",
        "\u{7f}\u{1b}[2J",
        "\u{feff}\u{202e}",
        "\u{e000}",
        "🎸",
        "👩🏽\u{200d}🎤~2",
        "\\",
        "\\\\x",
        "'",
        "''",
        "floyd -🎸 \u{301}\u{301}zz",
        "(\"zz) OR floyd",
    ] {
        assert_eq!(listed(query.as_bytes()), 0, "{query:?}");
    }
    // What is not UTF-8 is no letter.
    for query in [&b"\xff"[..], b"\xff\xfe\x80", b"\xc3", b"\xed\xa0\x80*", b"title:\xf0\x9f"] {
        assert_eq!(listed(query), 0, "{query:?}");
    }
    assert_eq!(listed(b"pink\xfffloyd "), 2);
    // Longer than the name of a file can be, by any of the limits on the way.
    for length in [254, 255, 256, 257, 1023, 1024] {
        let query = format!("floyd -{}", "x".repeat(length - "floyd -".len()));
        assert_eq!(query.len(), length);
        assert_eq!(found_twice(&home, &mount, &query), ["Dogs", "On: the/Rebound?", "Time"]);
    }
    assert_eq!(listed("ö".repeat(512).as_bytes()), 0);
    assert_eq!(listed("dogs ".repeat(128).as_bytes()), 1);
    let too_long = |at: PathBuf| {
        let error = fs::metadata(&at).expect_err("a name that is too long");
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENAMETOOLONG), "{} bytes", at.as_os_str().len());
    };
    // More than the command takes: of bytes, of words, or of what bytes that are no letters become.
    for query in [vec![b'x'; 1025], vec![b'x'; 3500], b"dogs ".repeat(129), vec![0xff; 1024]] {
        let query = OsStr::from_bytes(&query);
        too_long(place.join(query));
        assert_eq!(home.run([OsStr::new("search"), query]).status.code(), Some(2));
    }
    // All other names are as long as names are.
    let longer = "x".repeat(256);
    for dir in ["", "Pink Floyd", ".search/floyd"] {
        too_long(mount.join(dir).join(&longer));
        let missing = fs::metadata(mount.join(dir).join(&longer[1..])).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    }
    assert!(!mount.log().contains("panic"), "{}", mount.log());
    mount.unmount();
}

#[test]
fn search_in_the_mount_keeps_some_queries_and_shows_what_came_later() {
    let (music, home) = (music(), Home::new());
    let mount = home.mount(music.path());
    let place = mount.join(".search");
    // More queries than are kept.
    for n in 0..200 {
        fs::read_dir(place.join(format!("floyd -{n}"))).unwrap().count();
    }
    let found = place.join("rebound");
    eventually_blocking("the track to be found", || fs::read_dir(&found).unwrap().count() == 1);
    let name = fs::read_dir(&found).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    assert!(!name.contains('/') && name.ends_with(".ogg"), "{name}");
    let later = Track::new(Sample::Mp3Cbr).artist("Late").album("Later").title("Rebound Again").track(1, 1);
    write_track(music.path(), "later.mp3", &later).unwrap();
    mount.rescan(&[]);
    eventually_blocking("the new track to be found", || fs::read_dir(&found).unwrap().count() == 2);
    mount.unmount();
}

#[test]
fn index_killed_and_damaged_again_and_again_finds_all_in_the_end() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    bench_library(music.path(), 600).unwrap();
    for _ in 0..3 {
        // Killed as soon as it answers, in the midst of scan and indexing.
        Mount::start(&home, music.path(), &[]).kill_daemon();
    }
    let index = home.folder("cache/musicfs/search");
    for round in 0..4 {
        let mount = home.mount(music.path());
        eventually_blocking("all tracks to be found", || search_count(&home) == 600);
        let status = mount.status();
        assert_eq!(status["search"]["phase"], "ready", "{status}");
        if round == 0 {
            mount.kill_daemon();
        } else {
            mount.unmount();
        }
        damage(&index, round);
    }
}

fn search_count(home: &Home) -> usize {
    let output = home.run(["search", "--json", "--limit", "1000", "format:flac"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["results"].as_array().unwrap().len()
}

fn damage(index: &Path, round: u32) {
    for entry in fs::read_dir(index).unwrap() {
        let path = entry.unwrap().path();
        match round {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, "").unwrap(),
            _ => fs::write(path, [0xa5; 300]).unwrap(),
        }
    }
}
