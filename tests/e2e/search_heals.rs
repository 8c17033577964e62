//! A search index that is killed, cut short and damaged: it ends equal to a fresh one, and says so until then.

use std::fs;
use std::path::{Path, PathBuf};

use musicfs_core::{AudioMeta, Batch, MetaDb, Op, Template, UnixNanos};
use musicfs_sync::{Database, arranged_by};
use musicfs_test_utils::damage::{self, Damage};
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_test_utils::{eventually_blocking, tracks};
use musicfs_tests::disk::SmallDisk;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use serde_json::Value;
use tempfile::TempDir;

/// Makes a catalogue of many tracks, with an empty folder for an origin that has nothing to do with them.
fn catalogue_of(home: &Home, count: u64) -> TempDir {
    fs::create_dir_all(home.folder("cache/musicfs")).unwrap();
    let db = database(home);
    tracks::fill(&db, 0..count).unwrap();
    db.apply(&Batch { at: UnixNanos(0), ops: vec![arranged_by(&Template::default())] }).unwrap();
    tempfile::tempdir().unwrap()
}

fn database(home: &Home) -> Database {
    Database::open(&home.folder("cache/musicfs/catalogue.db")).unwrap()
}

fn index_of(home: &Home) -> PathBuf {
    home.folder("cache/musicfs/search")
}

/// Runs `musicfs search`, which must answer, and returns its answer.
fn ask(home: &Home, query: &str) -> Value {
    let output = home.run(["search", "--json", "--limit", "1000", query]);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{query}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Returns what a query finds, sorted: equally fitting tracks may come in any order.
fn found(home: &Home, query: &str) -> Vec<String> {
    let answer = ask(home, query);
    assert_eq!(answer["complete"], true, "{query}");
    let mut ids: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Queries of every form, none of which finds more than are told.
fn queries() -> Vec<String> {
    let word = tracks::word;
    let mut queries: Vec<String> = (0..12).map(|n| format!("{} ", word(40 + n * n * n))).collect();
    queries.extend([
        format!("artist:{} ", word(30)),
        format!("title:{} album:{} ", word(3), word(1)),
        format!("\"{} {}\"", word(2), word(5)),
        format!("{}~1 ", word(700)),
        format!("{} year:1980..1989", word(12)),
        format!("({} OR {}) -genre:rock ", word(50), word(60)),
        format!("{} NOT {} ", word(20), word(0)),
        word(2_000)[..4].to_owned(),
        "composer:nobody".to_owned(),
    ]);
    queries
}

fn answers(home: &Home) -> Vec<(String, Vec<String>)> {
    queries().into_iter().map(|query| (query.clone(), found(home, &query))).collect()
}

fn wait_ready(mount: &Mount<'_>) -> Value {
    let mut status = mount.status();
    // On a busy machine all of it may take longer than any one step.
    while status["search"]["phase"] != "ready" {
        let before = status["search"].clone();
        eventually_blocking("the index to come on", || {
            status = mount.status();
            status["search"] != before
        });
    }
    status
}

#[test]
fn index_killed_while_it_is_built_and_while_it_follows_ends_equal_to_a_fresh_one() {
    const TRACKS: u64 = 12_000;
    let home = Home::new();
    let music = catalogue_of(&home, TRACKS);
    let (mut built, mut partly) = (0, 0);
    // Before anything is committed, after the first commit, and then some.
    for at in [1, 9_000, 10_500] {
        let mount = Mount::start(&home, music.path(), &[]);
        let mut phase = Value::Null;
        eventually_blocking("some of it to be indexed", || {
            let status = mount.status();
            phase = status["search"]["phase"].clone();
            phase == "ready" || (phase == "building" && status["search"]["done"].as_u64() >= Some(at))
        });
        if phase == "building" {
            built += 1;
            let answer = ask(&home, "format:flac");
            partly += u32::from(answer["complete"] == false);
        }
        mount.kill_daemon();
    }
    assert!(built > 0, "no kill met the building of the index");
    assert!(partly > 0, "a search while the index is built says that it is not all");

    let mount = Mount::start(&home, music.path(), &[]);
    wait_ready(&mount);
    mount.kill_daemon();
    change_some(&home, TRACKS);
    for _ in 0..3 {
        Mount::start(&home, music.path(), &[]).kill_daemon();
    }
    let mount = Mount::start(&home, music.path(), &[]);
    let status = wait_ready(&mount);
    assert_eq!(status["search"]["builds"], 0, "the changes are enough: {status}");
    let healed = answers(&home);
    mount.unmount();

    let counts: Vec<_> = healed.iter().map(|(query, found)| (query, found.len())).collect();
    assert!(counts.iter().all(|(_, count)| *count < 1000), "not all is told: {counts:?}");
    assert!(counts.iter().filter(|(_, count)| *count > 0).count() > 15, "{counts:?}");
    fs::remove_dir_all(index_of(&home)).unwrap();
    let mount = Mount::start(&home, music.path(), &[]);
    assert_eq!(wait_ready(&mount)["search"]["builds"], 1);
    assert_eq!(answers(&home), healed);
    mount.unmount();
}

/// Forgets, adds and retags tracks while nothing is mounted.
fn change_some(home: &Home, count: u64) {
    let db = database(home);
    let mut ops = Vec::new();
    for n in (0..count).step_by(40) {
        ops.push(Op::Forget(tracks::track(n).0.id));
        let (mut file, _) = tracks::track(n + 1);
        let audio = file.audio.take().map_or_else(AudioMeta::default, |audio| *audio);
        file.audio = Some(Box::new(AudioMeta { title: Some(format!("{} anew", tracks::word(60))), ..audio }));
        ops.push(Op::PutFile(Box::new(file)));
    }
    db.apply(&Batch { at: UnixNanos(0), ops }).unwrap();
    tracks::fill(&db, count..count + 1_000).unwrap();
}

const DAMAGES: [(&str, Damage); 5] = {
    let [removed, emptied, halved, garbage] = damage::DAMAGES;
    let folder: (&str, Damage) = ("a folder", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("something"), b"in it").unwrap();
    });
    [removed, emptied, halved, garbage, folder]
};

/// The index's files by what they hold: names of parts are given anew with each index.
fn parts(index: &Path) -> Vec<(String, PathBuf)> {
    let mut parts: Vec<_> = fs::read_dir(index)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|end| end != "lock"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let kind =
                if name.ends_with(".json") { name } else { name[name.rfind('.').unwrap()..].to_owned() };
            (kind, path)
        })
        .collect();
    parts.sort();
    parts.dedup_by(|(one, _), (other, _)| one == other);
    parts
}

#[test]
fn index_with_each_of_its_files_damaged_in_turn_ends_equal_to_a_fresh_one() {
    let home = Home::new();
    let music = catalogue_of(&home, 600);
    let query = format!("{} -year:1980..1989 ", tracks::word(2));
    let sound = found(&home, &query);
    assert!(sound.len() > 10, "{sound:?}");
    let index = index_of(&home);
    let kinds: Vec<String> = parts(&index).into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    for (n, kind) in kinds.iter().enumerate() {
        for (m, (damage, apply)) in DAMAGES.into_iter().enumerate() {
            let now = parts(&index);
            let (_, path) =
                now.iter().find(|(one, _)| one == kind).unwrap_or_else(|| panic!("{kind}: {now:?}"));
            apply(path);
            // Each of the files, and each damage, is met by a mount too.
            if (n + m) % DAMAGES.len() == 0 {
                let mount = Mount::start(&home, music.path(), &[]);
                wait_ready(&mount);
                assert_eq!(found(&home, &query), sound, "{kind} {damage}, mounted");
                mount.unmount();
            } else {
                assert_eq!(found(&home, &query), sound, "{kind} {damage}");
            }
        }
    }
}

#[test]
fn index_damaged_under_a_running_mount_is_built_again_beside_it() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let put = |n: usize| {
        let track = Track::new(Sample::Mp3Cbr).artist("Anna").album("Again").title(format!("Song {n}"));
        write_track(music.path(), format!("{n}.mp3"), &track.track(n as u32, 9)).unwrap();
    };
    put(0);
    let mount = home.mount(music.path());
    wait_ready(&mount);
    let index = index_of(&home);
    let whole: Damage = |dir| fs::remove_dir_all(dir).unwrap();
    let replaced: Damage = |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, b"no index").unwrap();
    };
    let damages = DAMAGES.map(|(damage, apply)| (damage, Some(apply))).into_iter();
    for (n, (damage, each)) in damages.chain([("all removed", None), ("a file", None)]).enumerate() {
        match each {
            Some(each) => parts(&index).iter().for_each(|(_, path)| each(path)),
            None if damage == "a file" => replaced(&index),
            None => whole(&index),
        }
        put(n + 1);
        mount.rescan(&[]);
        eventually_blocking(&format!("all tracks to be found with the index {damage}"), || {
            let answer = ask(&home, "anna");
            answer["complete"] == true && answer["results"].as_array().unwrap().len() == n + 2
        });
    }
    let shown = mount.join(".search/anna again");
    eventually_blocking("all to be shown in the mount", || fs::read_dir(&shown).unwrap().count() == 8);
    mount.unmount();
}

#[test]
fn index_on_a_full_disk_answers_with_what_it_has_and_goes_on_when_there_is_room() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let put = |name: &str| {
        let track = Track::new(Sample::Mp3Cbr).artist("Anna").album("Again").title(name).track(1, 1);
        write_track(music.path(), format!("{name}.mp3"), &track).unwrap();
    };
    put("Early");
    let index = index_of(&home);
    let _disk = SmallDisk::over(&index, "size=1m");
    let mount = home.mount(music.path());
    // The index may have been ready before the track was there, and follows.
    eventually_blocking("the early track to be found", || {
        let answer = ask(&home, "anna");
        answer["complete"] == true && answer["results"].as_array().unwrap().len() == 1
    });
    let rest = index.join("something.else");
    // As much as there is room for.
    let _ = fs::write(&rest, vec![7; 2 << 20]);
    put("Late");
    mount.rescan(&[]);
    eventually_blocking("the index to fail", || mount.status()["search"]["phase"] == "failed");
    let reason = mount.status()["search"]["reason"].to_string();
    assert!(reason.contains("No space left on device"), "{reason}");
    let answer = ask(&home, "anna");
    assert!(answer["complete"] == false && answer["results"].as_array().unwrap().len() == 1, "{answer}");
    fs::remove_file(&rest).unwrap();
    eventually_blocking("the late track to be found", || {
        let answer = ask(&home, "anna");
        answer["complete"] == true && answer["results"].as_array().unwrap().len() == 2
    });
    assert_eq!(mount.status()["search"]["builds"], 1, "the index was kept");
    mount.unmount();
}
