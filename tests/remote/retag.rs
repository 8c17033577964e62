//! A file on a server gets other tags: that costs the tags.

use std::fs;

use musicfs_core::AudioMeta;
use musicfs_sync::tags;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::noise_flac;
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use crate::served::{Kind, Served};
use crate::{read_afresh, wait_cached};

const LARGE: usize = 30 << 20;
/// Where the MD5 of the audio is in a FLAC file.
const MD5: std::ops::Range<usize> = 26..42;

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

fn retag_costs_the_tags_and_cached_audio_stays(kind: Kind) {
    let (served, home) = (Served::empty(kind), Home::new());
    let (old, new) = (flac("Old", 1), flac("A new and somewhat longer title", 1));
    assert_ne!(old.len(), new.len());
    fs::write(served.music().join("song.flac"), &old).unwrap();
    home.configure(&format!("rescan_interval = \"0\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let path = mount.join(files::files(&mount.at()).remove(0));
    assert!(fs::read(&path).unwrap() == old);
    wait_cached(&path, "full");

    fs::write(served.music().join("song.flac"), &new).unwrap();
    let before = fetched(&mount);
    assert_eq!(mount.rescan(&[])["changed"], 1);
    let renamed = || mount.join(files::files(&mount.at()).remove(0));
    eventually_blocking("the new title", || renamed().to_string_lossy().contains("somewhat longer"));
    let cost = fetched(&mount) - before;
    assert!(cost < 64 << 10, "{cost} bytes were fetched");
    // The audio plays from what was cached, and the head is the new one.
    let path = renamed();
    assert_eq!(files::attribute(&path, "user.musicfs.cached").as_deref(), Some("partial"));
    let far = LARGE / 2;
    assert!(read_afresh(&path, far as u64, 256 << 10).unwrap() == new[far..far + (256 << 10)]);
    assert!(fs::read(&path).unwrap() == new);
    let cost = fetched(&mount) - before;
    assert!(cost < 1 << 20, "{cost} bytes were fetched to read what is cached");

    // Other audio that says it is the same: what is served is what is there.
    let mut other = flac("Third", 2);
    other[MD5].fill(1);
    fs::write(served.music().join("song.flac"), &other).unwrap();
    mount.rescan(&[]);
    eventually_blocking("the other title", || renamed().to_string_lossy().contains("Third"));
    assert!(fs::read(renamed()).unwrap() == other);
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
