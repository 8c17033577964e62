//! A file on a server gets other tags: that costs the tags.

use std::fs;
use std::path::PathBuf;

use musicfs_core::AudioMeta;
use musicfs_sync::tags;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, noise_flac, noise_track};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use musicfs_tests::mount::Mount;
use nix::sys::signal::Signal;

use crate::served::{Kind, Served};
use crate::{chunk_files, read_afresh, wait_cached};

const LARGE: usize = 30 << 20;
/// Only what is asked for scans, and what was kept is compared by who reads it.
const KEYS: &str =
    "rescan_interval = \"0\"\nrecheck_after = \"0\"\nhealth_interval = \"1s\"\nremote_deadline = \"4s\"\n";
/// Where the MD5 of the audio is in a FLAC file.
pub(crate) const MD5: std::ops::Range<usize> = 26..42;

/// A FLAC file with these tags and audio that is the same for the same `audio`.
fn flac(title: &str, audio: u8) -> Vec<u8> {
    let meta = AudioMeta { title: Some(title.into()), artists: vec!["Noise".into()], ..AudioMeta::default() };
    let mut bytes = noise_flac(&meta, LARGE);
    bytes[MD5].fill(audio);
    let start = audio_start(&bytes);
    bytes.iter_mut().skip(start + 4096).step_by(997).for_each(|byte| *byte = byte.wrapping_add(audio));
    bytes
}

fn audio_start(bytes: &[u8]) -> usize {
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    let parsed = tags::parse_file(&file, bytes.len() as u64).unwrap();
    parsed.audio.audio_region.unwrap().start() as usize
}

fn fetched(mount: &Mount<'_>) -> u64 {
    mount.status()["origins"][0]["bytes"].as_u64().unwrap()
}

/// Puts a file titled Old on the server, mounts it, and has all of it cached.
fn mounted_with_all_cached<'a>(
    keys: &str,
    served: &Served,
    home: &'a Home,
    name: &str,
    old: &[u8],
) -> Mount<'a> {
    fs::write(served.music().join(name), old).unwrap();
    home.configure(&format!("{keys}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = titled(&mount, "Old");
    assert!(fs::read(&path).unwrap() == old);
    wait_cached(&path, "full");
    mount
}

fn retag_costs_the_tags_and_cached_audio_stays(kind: Kind) {
    let (served, home) = (Served::empty(kind), Home::new());
    let (old, new) = (flac("Old", 1), flac("A new and somewhat longer title", 1));
    assert_ne!(old.len(), new.len());
    let mount = mounted_with_all_cached(KEYS, &served, &home, "song.flac", &old);

    fs::write(served.music().join("song.flac"), &new).unwrap();
    let before = fetched(&mount);
    assert_eq!(mount.rescan(&[])["changed"], 1);
    let renamed = || mount.join(files::files(&mount.at()).remove(0));
    eventually_blocking("the new title", || renamed().to_string_lossy().contains("somewhat longer"));
    let cost = fetched(&mount) - before;
    assert!(cost < 64 << 10, "{cost} bytes were fetched");
    // Who listens compares what was cached, which is all there is to it.
    let path = renamed();
    let chunks = chunk_files(&home).len();
    assert!(fs::read(&path).unwrap() == new);
    wait_cached(&path, "full");
    let status = mount.status();
    let proven = status["cache"]["proven"].as_u64().unwrap();
    assert!(proven > (LARGE as u64) - (2 << 20), "{proven} bytes were found to be right");
    assert_eq!(status["cache"]["mismatched"], 0);
    let more = chunk_files(&home).len() - chunks;
    assert!(more <= 3, "{more} chunks are new");

    // Other audio that says it is the same: what is served is what is there.
    let mut other = flac("Third", 2);
    other[MD5].fill(1);
    fs::write(served.music().join("song.flac"), &other).unwrap();
    mount.rescan(&[]);
    eventually_blocking("the other title", || renamed().to_string_lossy().contains("Third"));
    assert!(fs::read(renamed()).unwrap() == other);
    mount.unmount();
}

/// Files of other formats: MP3, MPEG-4 with its index before and behind the audio, and Ogg.
const OTHERS: [(&str, Sample, usize); 6] = [
    ("song.mp3", Sample::Mp3Cbr, LARGE),
    ("first.m4a", Sample::Aac, 6 << 20),
    ("last.m4a", Sample::Alac, 6 << 20),
    ("song.ogg", Sample::Vorbis, 6 << 20),
    ("song.opus", Sample::Opus, 6 << 20),
    ("song.oga", Sample::OggFlac, 6 << 20),
];

fn track(sample: Sample, title: &str, comment: usize, len: usize) -> Vec<u8> {
    let tags = AudioMeta {
        title: Some(title.into()),
        artists: vec!["Noise".into()],
        comment: (comment > 0).then(|| "x".repeat(comment)),
        ..AudioMeta::default()
    };
    noise_track(sample, &tags, len, sample as u64).unwrap()
}

/// Finds the file with a title, once it is shown.
fn titled(mount: &Mount<'_>, title: &str) -> PathBuf {
    let mut found = None;
    eventually_blocking(title, || {
        let shown = files::files(&mount.at());
        found = shown.into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == title));
        found.is_some()
    });
    mount.join(found.unwrap())
}

fn retag_of_other_formats_costs_the_tags(kind: Kind) {
    let (mut served, home) = (Served::empty(kind), Home::new());
    let put =
        |served: &Served, name: &str, bytes: &[u8]| fs::write(served.music().join(name), bytes).unwrap();
    for (name, sample, len) in OTHERS {
        put(&served, name, &track(sample, &format!("Old {name}"), 0, len));
    }
    home.configure(&format!("{KEYS}{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    for (name, sample, len) in OTHERS {
        let path = titled(&mount, &format!("Old {name}"));
        assert!(fs::read(&path).unwrap() == track(sample, &format!("Old {name}"), 0, len), "{name}");
        wait_cached(&path, "full");
    }
    for (name, sample, len) in OTHERS {
        let title = format!("A longer title for {name}");
        put(&served, name, &track(sample, &title, 0, len));
        let before = fetched(&mount);
        mount.rescan(&[]);
        let path = titled(&mount, &title);
        let cost = fetched(&mount) - before;
        assert!(cost < 64 << 10, "{name}: {cost} bytes were fetched");
        assert_eq!(files::attribute(&path, "user.musicfs.cached").as_deref(), Some("partial"), "{name}");
    }
    // The audio is there though the server is not.
    served.kill();
    for (name, sample, len) in OTHERS {
        let title = format!("A longer title for {name}");
        let (path, new) = (titled(&mount, &title), track(sample, &title, 0, len));
        let far = len / 2;
        let read = read_afresh(&path, far as u64, 256 << 10).unwrap();
        assert!(read == new[far..far + (256 << 10)], "{name}");
    }
    mount.unmount();
}

#[test]
fn retag_of_mp3_m4a_and_ogg_on_an_ssh_server_costs_the_tags() {
    retag_of_other_formats_costs_the_tags(Kind::Sftp);
}

#[test]
fn retag_of_mp3_m4a_and_ogg_on_webdav_costs_the_tags() {
    retag_of_other_formats_costs_the_tags(Kind::Webdav);
}

#[test]
fn ogg_whose_pages_are_numbered_anew_is_fetched_anew() {
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let (old, new) = (track(Sample::Opus, "Old", 0, 3 << 20), track(Sample::Opus, "New", 200_000, 3 << 20));
    let mount = mounted_with_all_cached(KEYS, &served, &home, "song.opus", &old);
    fs::write(served.music().join("song.opus"), &new).unwrap();
    mount.rescan(&[]);
    let path = titled(&mount, "New");
    assert!(fs::read(&path).unwrap() == new);
    wait_cached(&path, "full");
    // Nothing had stayed that was to be compared.
    let cache = &mount.status()["cache"];
    assert_eq!((&cache["proven"], &cache["mismatched"]), (&0.into(), &0.into()));
    mount.unmount();
}

#[test]
fn retag_on_an_ssh_server_costs_the_tags_and_cached_audio_stays() {
    retag_costs_the_tags_and_cached_audio_stays(Kind::Sftp);
}

#[test]
fn retag_on_s3_costs_the_tags_and_cached_audio_stays() {
    retag_costs_the_tags_and_cached_audio_stays(Kind::S3);
}

/// Where the audio of [`fooling`] is other audio, in few bytes that no sample looks at.
const OTHER: std::ops::Range<usize> = 9_000_123..9_000_160;

/// As [`flac`] with audio 1, by all that identifies it, and with other bytes in one place.
fn fooling(title: &str) -> Vec<u8> {
    let mut bytes = flac(title, 1);
    bytes[OTHER].iter_mut().for_each(|byte| *byte ^= 0x55);
    bytes
}

/// Has a file cached and replaces it by one that fools the scan.
fn fooled<'a>(keys: &str, served: &Served, home: &'a Home) -> (Mount<'a>, PathBuf, Vec<u8>, Vec<u8>) {
    let (old, new) = (flac("Old", 1), fooling("New"));
    assert_eq!(old.len(), new.len());
    let mount = mounted_with_all_cached(keys, served, home, "song.flac", &old);
    fs::write(served.music().join("song.flac"), &new).unwrap();
    let before = fetched(&mount);
    mount.rescan(&[]);
    let path = titled(&mount, "New");
    let cost = fetched(&mount) - before;
    assert!(cost < 64 << 10, "{cost} bytes were fetched");
    (mount, path, old, new)
}

fn other(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    read_afresh(path, OTHER.start as u64, OTHER.len())
}

#[test]
fn what_is_served_after_a_retag_is_the_new_version_though_the_scan_was_fooled() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let (mount, path, _, new) = fooled(KEYS, &served, &home);
    assert!(other(&path).unwrap() == new[OTHER]);
    assert!(fs::read(&path).unwrap() == new);
    eventually_blocking("it to be counted", || mount.status()["cache"]["mismatched"] == 1);
    wait_cached(&path, "full");
    served.kill();
    assert!(other(&path).unwrap() == new[OTHER]);
    mount.unmount();
}

#[test]
fn wrong_guess_that_was_served_without_the_server_is_corrected_once_it_is_back() {
    let (served, home) = (Served::empty(Kind::Webdav).behind_proxy(), Home::new());
    let (mount, path, old, new) = fooled(KEYS, &served, &home);
    // Nobody can tell now, and what was kept plays on.
    served.proxy().down();
    assert!(other(&path).unwrap() == old[OTHER]);
    served.proxy().heal();
    eventually_blocking("the server to be back", || mount.status()["state"] == "ready");
    let mut listener = Listener::start(&home, &["--type", "cache_mismatch"]);
    home.configure(&format!(
        "{}{}",
        KEYS.replace("recheck_after = \"0\"", "recheck_after = \"1s\""),
        served.table("nas", "")
    ));
    mount.signal(Signal::SIGHUP);
    let told = listener.line().unwrap();
    assert!(told.contains("song.flac"), "{told}");
    // Nobody asks for bytes past the kernel's cache here: it was told to forget them.
    eventually_blocking("the right bytes", || {
        let mut bytes = vec![0; OTHER.len()];
        std::os::unix::fs::FileExt::read_exact_at(
            &fs::File::open(&path).unwrap(),
            &mut bytes,
            OTHER.start as u64,
        )
        .unwrap();
        bytes == new[OTHER]
    });
    assert!(fs::read(&path).unwrap() == new);
    let log = mount.log();
    assert!(log.contains("what was cached of the file is not what it holds"), "{log}");
    let status = home.succeed(["status".as_ref(), mount.at().as_os_str()]);
    assert!(status.contains("cached as they are not"), "{status}");
    mount.unmount();
}

#[test]
fn server_that_is_lost_is_found_out_by_reads_that_end_well_without_it() {
    let (served, home) = (Served::empty(Kind::Webdav).behind_proxy(), Home::new());
    // Nobody checks unasked.
    let keys = KEYS.replace("health_interval = \"1s\"", "health_interval = \"1h\"");
    let (mount, path, old, _) = fooled(&keys, &served, &home);
    eventually_blocking("the server to be well", || mount.status()["state"] == "ready");
    served.proxy().down();
    assert!(other(&path).unwrap() == old[OTHER]);
    eventually_blocking("the server to be suspected", || mount.status()["state"] != "ready");
    mount.unmount();
}

#[test]
fn kept_audio_is_compared_after_a_restart_too() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let (mount, ..) = fooled(KEYS, &served, &home);
    mount.unmount();
    home.configure(&format!(
        "{}{}",
        KEYS.replace("recheck_after = \"0\"", "recheck_after = \"1s\""),
        served.table("nas", "")
    ));
    let mount = home.mount_configured();
    eventually_blocking("the wrong chunk to be found", || mount.status()["cache"]["mismatched"] == 1);
    let path = titled(&mount, "New");
    eventually_blocking("the right one to be stored", || {
        files::attribute(&path, "user.musicfs.cached").as_deref() == Some("partial")
    });
    served.kill();
    assert!(other(&path).unwrap() == fooling("New")[OTHER]);
    mount.unmount();
}
