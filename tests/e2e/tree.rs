//! What is where.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;

use crate::demo;

/// The demo library in the default arrangement.
const DEMO: &str = "\
Ana Ferreira/Night Trains/1-01 - Night Train 1.mp3
Ana Ferreira/Night Trains/1-02 - Night Train 2.mp3
Ana Ferreira/Night Trains/1-03 - Night Train 3.mp3
Ana Ferreira/Night Trains/2-01 - Night Train 4.mp3
Ana Ferreira/Night Trains/2-02 - Night Train 5.mp3
Ana Ferreira/Night Trains/2-03 - Night Train 6.mp3
Ana Ferreira/Night Trains/cover.jpg
Sigrún Ólafsdóttir/Vetur/01 - Ljós.wv
Test Tones/One of Each/01 - Flac.flac
Test Tones/One of Each/02 - Mp3Cbr.mp3
Test Tones/One of Each/03 - Mp3Vbr.mp3
Test Tones/One of Each/04 - Aac.m4a
Test Tones/One of Each/05 - Alac.m4a
Test Tones/One of Each/06 - Adts.aac
Test Tones/One of Each/07 - Vorbis.ogg
Test Tones/One of Each/08 - Opus.opus
Test Tones/One of Each/09 - OggFlac.oga
Test Tones/One of Each/10 - Speex.spx
Test Tones/One of Each/11 - Wav.wav
Test Tones/One of Each/12 - Aiff.aiff
Test Tones/One of Each/13 - WavPack.wv
Test Tones/One of Each/14 - Musepack.mpc
Test Tones/One of Each/15 - Ape.ape
Test Tones/One of Each/16 - Dsf.dsf
The Doubles/Alike/01 - Twin (2).mp3
The Doubles/Alike/01 - Twin.mp3
The Harbour Lights/Low Water/01 - Low Water.flac
The Harbour Lights/Low Water/02 - Tide Table.flac
The Harbour Lights/Low Water/02 - Tide Table.lrc
The Harbour Lights/Low Water/03 - Slack.flac
The Harbour Lights/Low Water/04 - Half Past the Buoy.flac
The Harbour Lights/Low Water/Low Water.cue
The Harbour Lights/Low Water/cover.jpg
The Harbour Lights/Low Water/rip.log
Unknown Artist/Unknown Album/voice memo.wav
Unsorted/downloads/interrupted.flac
Various Artists/Kitchen Radio/01 - Kettle.m4a
Various Artists/Kitchen Radio/02 - Toast & $marmalade.ogg
Various Artists/Kitchen Radio/03 - Skeið.opus
高原/春の音/01 - 朝.m4a
高原/春の音/02 - 夕方.m4a";

fn shown(at: &Path) -> String {
    files::files(at).iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn demo_library_is_arranged_by_its_tags() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    assert_eq!(shown(&mount.at()), DEMO);
}

#[test]
fn every_file_has_the_size_and_time_of_its_origin_and_says_where_it_is_from() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    for path in files::files(&mount.at()) {
        let path = mount.join(path);
        let of = |name: &str| files::attribute(&path, &format!("user.musicfs.{name}"));
        let origin = fs::metadata(music.path().join(of("path").unwrap())).unwrap();
        let seen = fs::metadata(&path).unwrap();
        assert_eq!(
            (seen.size(), seen.mtime(), seen.mtime_nsec()),
            (origin.size(), origin.mtime(), origin.mtime_nsec())
        );
        assert!(of("id").is_some_and(|id| id.len() > 8), "{}", path.display());
        assert!(of("origin").is_some_and(|id| !id.is_empty()), "{}", path.display());
        let listed = xattr::list(&path).unwrap().any(|name| name == "user.musicfs.id");
        assert!(listed, "{}", path.display());
    }
    let tone = mount.join("Test Tones/One of Each/01 - Flac.flac");
    assert_eq!(files::attribute(&tone, "user.musicfs.format").as_deref(), Some("FLAC"));
    assert_eq!(files::attribute(&tone, "user.other"), None);
}

#[test]
fn broken_file_is_listed_in_unsorted_with_its_reason() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let path = mount.join("Unsorted/downloads/interrupted.flac");
    let reason = files::attribute(&path, "user.musicfs.error").unwrap();
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
    assert!(fs::read(&path).unwrap().starts_with(b"This download stopped"));
    let problems = mount.status()["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    assert_eq!(problems[0]["path"], "downloads/interrupted.flac");
    assert_eq!(problems[0]["reason"], reason);
    assert_eq!(files::attribute(&mount.join("The Doubles/Alike/01 - Twin.mp3"), "user.musicfs.error"), None);
}

#[test]
fn names_that_are_not_utf8_are_listed_and_read() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let folder = OsStr::from_bytes(b"caf\xe9");
    let broken = Path::new(folder).join(OsStr::from_bytes(b"bro\xffken.mp3"));
    write_track(
        music.path(),
        Path::new(folder).join("01.flac"),
        &Track::new(Sample::Flac).title("T").artist("A"),
    )
    .unwrap();
    fs::write(music.path().join(&broken), b"nothing of the kind").unwrap();
    let mount = home.mount(music.path());
    let found = files::files(&mount.at());
    let unsorted = Path::new("Unsorted").join(&broken);
    assert_eq!(found, [PathBuf::from("A/Unknown Album/T.flac"), unsorted.clone()]);
    assert_eq!(fs::read(mount.join(unsorted)).unwrap(), b"nothing of the kind");
    let track = mount.join("A/Unknown Album/T.flac");
    let origin = music.path().join(folder).join("01.flac");
    assert_eq!(files::hash(&track), files::hash(&origin));
}

#[test]
fn tags_that_are_no_names_become_names() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let long = "ü".repeat(300);
    let tags =
        [("AC/DC", "T"), ("..", "."), ("   ", "  "), ("$artist", "${title}"), (long.as_str(), long.as_str())];
    for (n, (artist, title)) in tags.into_iter().enumerate() {
        let track = Track::new(Sample::Flac).artist(artist).title(title).album("A\0B\nC");
        write_track(music.path(), format!("{n}.flac"), &track).unwrap();
    }
    let mount = home.mount(music.path());
    let found = files::files(&mount.at());
    assert_eq!(found.len(), tags.len(), "{found:?}");
    for path in &found {
        assert_eq!(path.components().count(), 3, "{}", path.display());
        assert!(path.components().all(|part| part.as_os_str().len() <= 255), "{}", path.display());
        assert!(fs::read(mount.join(path)).is_ok());
    }
    assert!(mount.join("AC_DC").is_dir());
    assert!(mount.join("$artist").is_dir());
    assert!(mount.join("Unknown Artist").is_dir());
}
