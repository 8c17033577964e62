//! Keeping a catalogue true when the library is large: what an unchanged library costs, and how soon a change is seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_test_utils::library::{Sample, Track, bench_library_of};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use musicfs_tests::request_log::configure_bucket;

use crate::Settings;
use crate::bucket::{Bucket, PAGE};
use crate::library::wait;
use crate::measure::{median, memory, most_memory, pause, seconds};
use crate::table::{Bar, Table};

/// Bytes of a file: all that a scan reads of one, on one block of the disk.
const SIZE: usize = 4096;
/// Time after which a daemon has given back what it no longer needs of memory.
const GIVEN_BACK: Duration = Duration::from_secs(15);
/// Files that are added at once.
const ADDED: usize = 10_000;
/// Times that files come and go.
const CYCLES: usize = 1000;

/// Measures libraries of the two sizes.
pub(crate) fn run(settings: &Settings, table: &mut Table) {
    for count in [settings.files, settings.tracks] {
        local(settings, count, table);
    }
}

/// Makes a library unless an earlier run has.
fn prepare(settings: &Settings, name: &str, count: usize) -> PathBuf {
    let music = settings.dir.join(format!("{name}-{count}"));
    let made = settings.dir.join(format!("{name}-{count}.made"));
    if !made.exists() {
        eprintln!("making {count} files in {}", music.display());
        let _ = fs::remove_dir_all(&music);
        bench_library_of(&music, count, SIZE).unwrap();
        fs::write(made, "").unwrap();
    }
    music
}

/// Makes tracks that are none of the library's.
fn other_tracks(settings: &Settings) -> PathBuf {
    let music = settings.dir.join(format!("scale-other-{ADDED}"));
    if !music.exists() {
        let made = prepare(settings, "scale-plain", ADDED);
        for path in files::files(&made) {
            let mut bytes = fs::read(made.join(&path)).unwrap();
            let at: Vec<_> = (0..bytes.len() - 8).filter(|at| &bytes[*at..at + 8] == b"Artist 0").collect();
            at.into_iter().for_each(|at| bytes[at..at + 8].copy_from_slice(b"Others 0"));
            fs::write(made.join(&path), bytes).unwrap();
        }
        fs::rename(&made, &music).unwrap();
        fs::remove_file(settings.dir.join(format!("scale-plain-{ADDED}.made"))).unwrap();
    }
    music
}

fn local(settings: &Settings, count: usize, table: &mut Table) {
    let music = prepare(settings, "scale", count);
    let new = other_tracks(settings);
    let home = Home::new().watching();
    // By the wall: what watches begins a second scan by itself when the first has ended.
    let (first, mount) = seconds(|| {
        let mount = Mount::start(&home, &music, &[]);
        until(|| tracks(&mount) == count as u64);
        mount
    });
    table.add(format!("first scan of {count} files"), first, "s", Bar::None);
    wait(&mount);
    until(|| mount.status()["search"]["phase"] == "ready");
    std::thread::sleep(GIVEN_BACK);
    let pid = mount.pid().as_raw();
    let most = most_memory(pid);
    table.add(format!("most memory, first scan of {count} files"), most, "MB", Bar::AtMost(250.0));
    table.add("memory after that", memory(pid), "MB", Bar::AtMost(200.0));
    mount.unmount();

    // Mounted again, so that what the first scan took of memory is not counted.
    let mount = Mount::start(&home, &music, &[]);
    wait(&mount);
    let rescan = median(settings.rounds, || mount.rescan(&[])["elapsed_ms"].as_f64().unwrap() / 1000.0);
    let bar = if count <= 100_000 { 0.6 } else { 8.0 };
    table.add(format!("rescan of {count} unchanged files"), rescan, "s", Bar::AtMost(bar));
    let most = most_memory(mount.pid().as_raw());
    table.add(format!("most memory, {count} files"), most, "MB", Bar::AtMost(200.0));

    while mount.status()["origins"][0]["watch"]["how"] == "starting" {
        pause();
    }
    table.add(
        format!("a changed file of {count} is seen after"),
        one_changed(&home, &mount, &music),
        "s",
        Bar::AtMost(1.0),
    );
    let added = music.join("Added");
    let before = tracks(&mount);
    let (time, ()) = seconds(|| {
        fs::rename(&new, &added).unwrap();
        until(|| tracks(&mount) == before + ADDED as u64);
    });
    table.add(format!("{ADDED} files added to {count} are listed after"), time, "s", Bar::AtMost(10.0));
    fs::rename(&added, &new).unwrap();
    mount.unmount();
}

/// Gives a file another title and returns how long it takes to be seen, in seconds.
fn one_changed(home: &Home, mount: &Mount<'_>, music: &Path) -> f64 {
    let file = music.join("Artist 00001/Album 000001/01 Track 0000001.flac");
    let (kept, next) = (home.folder("kept.flac"), music.join(".next.flac"));
    fs::copy(&file, &kept).unwrap();
    let track = Track::new(Sample::Flac).artist("Changed").album("Changed").title("Changed").track(1, 1);
    fs::write(&next, track.to_bytes().unwrap()).unwrap();
    let shown = mount.join("Changed/Changed/01 - Changed.flac");
    let (time, ()) = seconds(|| {
        fs::rename(&next, &file).unwrap();
        until(|| shown.exists());
    });
    fs::copy(&kept, &next).unwrap();
    fs::rename(&next, &file).unwrap();
    until(|| !shown.exists());
    time
}

fn until(mut is: impl FnMut() -> bool) {
    while !is() {
        pause();
    }
}

fn tracks(mount: &Mount<'_>) -> u64 {
    mount.status()["totals"]["tracks"].as_u64().unwrap()
}

/// Counts what a rescan asks of a server that has as many objects as there are files.
pub(crate) fn listing(settings: &Settings, table: &mut Table) {
    let music = prepare(settings, "scale", settings.files);
    let (home, server) = (Home::new(), Bucket::start(&music));
    configure_bucket(&home, server.addr());
    let mount = home.mount_configured();
    wait(&mount);
    server.asked();
    let report = mount.rescan(&[]);
    assert_eq!(report["unchanged"], settings.files, "{report}");
    let asked = server.asked();
    let most = settings.files.div_ceil(PAGE) as f64;
    table.add(
        format!("pages listed of {} objects on S3", settings.files),
        asked.pages as f64,
        "",
        Bar::AtMost(most),
    );
    let others = asked.probes + asked.others.len();
    table.add("other requests for that", others as f64, "", Bar::AtMost(2.0));
    mount.unmount();
}

/// Has files come, change and go again and again, and compares what is left of it half-way with the end.
pub(crate) fn churn(settings: &Settings, table: &mut Table) {
    let home = Home::new();
    let (music, other) = (home.folder("music"), other_tracks(settings));
    let folders: Vec<PathBuf> = fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::create_dir_all(&music).unwrap();
    fs::write(music.join("cover.jpg"), "x").unwrap();
    let mount = home.mount_with(&music, &["--rescan-interval", "0", "--missing-max-age", "1ms"]);
    let size = |name: &str| {
        let parts = ["", "-wal"]
            .map(|part| fs::metadata(home.folder(&format!("{name}{part}"))).map_or(0, |m| m.len()));
        parts.iter().sum::<u64>() as f64 / f64::from(1 << 20)
    };
    let pid = mount.pid().as_raw();
    let measure = || (size("cache/musicfs/catalogue.db"), size("state/musicfs/library.db"), memory(pid));
    let mut warm = measure();
    for cycle in 0..CYCLES {
        let folder = &folders[cycle % folders.len()];
        for path in files::files(folder) {
            let mut bytes = fs::read(folder.join(&path)).unwrap();
            // Another file each time, which ends with its number.
            bytes.extend(cycle.to_le_bytes());
            let to = music.join(cycle.to_string()).join(&path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        if cycle >= 2 {
            fs::remove_dir_all(music.join((cycle - 2).to_string())).unwrap();
        }
        home.succeed(["scan".into(), "--confirm".into(), "--mount".into(), mount.at(), music.clone()]);
        if cycle == CYCLES / 2 {
            warm = measure();
        }
    }
    let end = measure();
    for (what, warm, end) in
        [("catalogue", warm.0, end.0), ("library", warm.1, end.1), ("memory", warm.2, end.2)]
    {
        let text = format!("{what} after {CYCLES} times 96 files came and went");
        table.compare(text, end, "MB", ("after half of that", warm), Bar::TimesAtMost(1.5));
    }
    mount.unmount();
}
