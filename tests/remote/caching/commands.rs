//! `musicfs cache …`

use std::fs;
use std::path::Path;

use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use musicfs_tests::mount::Mount;

use super::{assert_plays, bytes_on_disk, number, ordered, state};
use crate::served::{Kind, Served};
use crate::{chunk_files, wait_cached};

const TRACK: usize = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn album_that_was_warmed_plays_with_its_server_gone() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let (album, other) = (served.add_album("Kept", 3, TRACK), served.add_album("Other", 1, TRACK));
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let at = mount.join("Noise/Kept");
    let done = ordered(&home, &["warm", text(&at)]);
    let all: usize = album.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(
        (&done["files"], &done["files_done"], &done["files_failed"]),
        (&3.into(), &3.into(), &0.into())
    );
    assert_eq!((&done["bytes"], &done["bytes_done"]), (&all.into(), &all.into()), "{done}");
    assert!(album.iter().all(|(path, _)| state(&mount, path).as_deref() == Some("full")));
    assert_ne!(state(&mount, &other[0].0).as_deref(), Some("full"));
    let again = ordered(&home, &["warm", text(&at)]);
    assert_eq!((&again["files_done"], &again["bytes_fetched"]), (&3.into(), &0.into()), "{again}");

    served.kill();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
    }
    let refused = home.run(["cache", "warm", text(&mount.join(&other[0].0))]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    mount.unmount();
}

#[test]
fn whole_origin_is_warmed_by_its_name_and_progress_is_told_in_words() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    let files = served.add_album("One", 2, TRACK);
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let said = home.run(["cache", "warm", "--origin", "nas"]);
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("2 files in the cache"), "{said}");
    assert!(files.iter().all(|(path, _)| state(&mount, path).as_deref() == Some("full")));
    let stats = ordered(&home, &["stats"]);
    let sum: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(stats["bytes"].as_u64(), Some(bytes_on_disk(&home)));
    assert!(
        stats["bytes"].as_u64() <= Some(sum as u64) && stats["dedup_ratio"].as_f64() >= Some(1.0),
        "{stats}"
    );
    let unknown = home.run(["cache", "warm", "--origin", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there are: nas"), "{unknown:?}");
    mount.unmount();
}

#[test]
fn pinned_album_is_shown_and_survives_eviction_and_restart_until_it_is_unpinned() {
    let (served, home) = (Served::empty(Kind::Sftp), Home::new());
    let (album, other) = (served.add_album("Kept", 3, TRACK), served.add_album("Other", 12, TRACK));
    home.configure(&format!("cache_size = \"8MiB\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let done = ordered(&home, &["pin", text(&mount.join("Noise/Kept"))]);
    assert_eq!(
        (&done["pins"], &done["files_done"], &done["files_failed"]),
        (&1.into(), &3.into(), &0.into())
    );
    let kept = |mount: &_| album.iter().all(|(path, _)| state(mount, path).as_deref() == Some("full"));
    assert!(kept(&mount));
    for (path, bytes) in &other {
        assert_plays(&mount, path, bytes);
    }
    assert!(number(&mount, "evicted") > 0);
    assert!(kept(&mount), "playing others evicted what is pinned");
    ordered(&home, &["evict", "--size", "1GB"]);
    assert!(kept(&mount), "evicting everything evicted what is pinned");
    let stats = ordered(&home, &["stats"]);
    assert_eq!(stats["pins"], serde_json::json!([{ "kind": "directory", "what": "Noise/Kept" }]));
    assert_eq!(stats["pinned_bytes"], stats["bytes"], "{stats}");
    assert_eq!(stats["bytes"].as_u64(), Some(bytes_on_disk(&home)));
    mount.unmount();

    let stats = ordered(&home, &["stats"]);
    assert_eq!((&stats["pins"][0]["what"], &stats["pinned_bytes"]), (&"Noise/Kept".into(), &stats["bytes"]));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let at = mount.join("Noise/Kept");
    let spared = ordered(&home, &["evict", text(&at)]);
    assert_eq!(spared["bytes_freed"], 0, "{spared}");
    assert!(kept(&mount));
    assert_eq!(ordered(&home, &["unpin", text(&at)])["pins"], 1);
    let freed = ordered(&home, &["evict", text(&at)]);
    assert!(freed["bytes_freed"].as_u64() >= Some(3 * TRACK as u64 / 2), "{freed}");
    assert!(!album.iter().any(|(path, _)| state(&mount, path).as_deref() == Some("full")));
    assert_eq!(ordered(&home, &["stats"])["pins"], serde_json::json!([]));
    mount.unmount();
}

#[test]
fn eviction_frees_on_disk_what_it_says_and_the_music_is_fetched_again() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    let album = served.add_album("One", 4, TRACK);
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    ordered(&home, &["warm", "--origin", "nas"]);
    let mut before = bytes_on_disk(&home);
    let first = mount.join(&album[0].0);
    for args in
        [["evict", text(&first)].as_slice(), &["evict", "--size", "1MiB"], &["evict", "--origin", "nas"]]
    {
        let freed = ordered(&home, args)["bytes_freed"].as_u64().unwrap();
        let after = bytes_on_disk(&home);
        assert!(freed > 0, "{args:?} freed nothing");
        assert_eq!(before - after, freed, "{args:?}");
        assert_eq!(number(&mount, "size"), after, "{args:?}");
        before = after;
    }
    assert_eq!(before, 0);
    for (path, bytes) in &album {
        assert_eq!(state(&mount, path).as_deref(), Some("none"));
        assert_plays(&mount, path, bytes);
    }
    assert_eq!(number(&mount, "repaired"), 0, "what was evicted was taken for lost");
    mount.unmount();
}

#[test]
fn verification_says_what_is_damaged_and_mends_it() {
    let (mut served, home) = (Served::empty(Kind::Sftp), Home::new());
    let album = served.add_album("One", 2, TRACK);
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    ordered(&home, &["warm", "--origin", "nas"]);
    let sound = ordered(&home, &["verify"]);
    assert_eq!((&sound["damaged"], &sound["missing"]), (&0.into(), &0.into()), "{sound}");
    let chunks = chunk_files(&home);
    assert_eq!(sound["chunks_done"].as_u64(), Some(chunks.len() as u64));
    let mut bytes = fs::read(&chunks[0]).unwrap();
    bytes[100] ^= 1;
    fs::write(&chunks[0], bytes).unwrap();
    fs::remove_file(&chunks[1]).unwrap();
    let mut listener = Listener::start(&home, &["--json", "--type", "cache_corrupt,cache_evicted"]);
    let found = ordered(&home, &["verify"]);
    assert_eq!((&found["damaged"], &found["missing"]), (&1.into(), &1.into()), "{found}");
    let name = chunks[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(listener.until("cache_corrupt")["chunk"], name);
    let freed = ordered(&home, &["evict", "--size", "100KiB"])["bytes_freed"].clone();
    assert_eq!(listener.until("cache_evicted")["bytes"], freed);
    ordered(&home, &["warm", "--origin", "nas"]);
    assert!(found["repaired"].as_u64() > Some(0) && found["files_failed"] == 0, "{found}");
    served.kill();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
    }
    mount.unmount();
}

#[test]
fn cache_is_looked_at_and_cleared_without_a_mount() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    let album = served.add_album("One", 2, TRACK);
    home.configure(&served.table("nas", ""));
    let mount = home.mount_configured();
    mount.wait_scanned();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
        wait_cached(&mount.join(path), "full");
    }
    mount.unmount();
    let before = bytes_on_disk(&home);
    let chunks = chunk_files(&home);
    assert_eq!(ordered(&home, &["stats"])["bytes"].as_u64(), Some(before));
    fs::write(&chunks[0], "rubbish").unwrap();
    let found = home.run(["cache", "verify"]);
    let said = String::from_utf8_lossy(&found.stderr).into_owned() + &String::from_utf8_lossy(&found.stdout);
    assert!(said.contains("1 damaged"), "{found:?}");
    let mount = home.mount_configured();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
        wait_cached(&mount.join(path), "full");
    }
    mount.unmount();
    let cleared = ordered(&home, &["clear"]);
    assert_eq!((cleared["bytes_freed"].as_u64(), bytes_on_disk(&home)), (Some(before), 0));
    let mount = home.mount_configured();
    for (path, bytes) in &album {
        wait_cached(&mount.join(path), "none");
        assert_plays(&mount, path, bytes);
    }
    let cleared = ordered(&home, &["clear"]);
    assert!(cleared["bytes_freed"].as_u64() > Some(0), "{cleared}");
    assert_eq!(bytes_on_disk(&home), 0);
    mount.unmount();
}

#[test]
fn cache_commands_mean_the_mount_that_runs_though_its_directory_is_its_own() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    let album = served.add_album("One", 2, TRACK);
    home.configure(&served.table("nas", ""));
    let own = home.folder("own");
    let mount = Mount::start_configured(&home, &["--cache-dir".into(), own.into()]);
    mount.wait_scanned();
    for (path, bytes) in &album {
        assert_plays(&mount, path, bytes);
        wait_cached(&mount.join(path), "full");
    }
    let there = ordered(&home, &["stats"])["bytes"].as_u64();
    assert!(there > Some(TRACK as u64), "{there:?}");
    assert_eq!(ordered(&home, &["verify"])["chunks"], ordered(&home, &["stats"])["chunks"]);
    assert_eq!(ordered(&home, &["clear"])["bytes_freed"].as_u64(), there);
    assert_eq!(ordered(&home, &["stats"])["bytes"], 0);
    mount.unmount();
}

#[test]
fn cache_command_without_a_meaning_says_what_is_missing() {
    let (served, home) = (Served::empty(Kind::Webdav), Home::new());
    served.add_album("One", 1, TRACK);
    home.configure(&served.table("nas", ""));
    let said = |args: &[&str]| {
        let output = home.run(["cache"].iter().chain(args));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, why) = said(&["warm", "--origin", "nas"]);
    assert!(code == Some(1) && why.contains("mount"), "{why}");
    let mount = home.mount_configured();
    mount.wait_scanned();
    let (code, why) = said(&["warm"]);
    assert!(code == Some(2) && why.contains("--origin"), "{why}");
    let (code, why) = said(&["evict", text(&mount.join("Noise/Nowhere"))]);
    assert!(code == Some(1) && why.contains("Noise/Nowhere"), "{why}");
    // Names are taken as a shell takes them, from the root of the tree and in it.
    let (code, why) = said(&["pin", "Noise/../Nowhere"]);
    assert!(code == Some(1) && why.contains("nothing is at Nowhere"), "{why}");
    let inside = mount.join("Noise/../Noise/One/../One");
    assert_eq!(ordered(&home, &["pin", text(&inside)])["pins"], 1);
    assert_eq!(ordered(&home, &["unpin", "Noise/One"])["pins"], 1);
    let (code, why) = said(&["evict", "--size", "much"]);
    assert!(code == Some(2) && why.contains("50GB"), "{why}");
    let (code, why) = said(&["pin", text(&mount.at())]);
    assert!(code == Some(1) && why.contains("--origin"), "{why}");
    mount.unmount();
}
