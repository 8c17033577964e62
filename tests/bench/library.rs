//! Many small files: scanning and walking.

use std::fs;
use std::path::{Path, PathBuf};

use musicfs_test_utils::library::bench_library;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;

use crate::Settings;
use crate::measure::{median, memory, most_memory, pause, seconds, walk};
use crate::table::{Bar, Table};

/// Walks of the same files on the disk itself, in seconds.
pub(crate) struct Disk {
    /// With the page cache as it is after the files have been made or found.
    pub(crate) first: f64,
    /// Right after that.
    pub(crate) again: f64,
}

/// Makes the library unless an earlier run has.
pub(crate) fn prepare(settings: &Settings) -> PathBuf {
    let music = settings.dir.join(format!("library-{}", settings.files));
    let made = settings.dir.join(format!("library-{}.made", settings.files));
    if !made.exists() {
        eprintln!("making {} files in {}", settings.files, music.display());
        let _ = fs::remove_dir_all(&music);
        bench_library(&music, settings.files).unwrap();
        fs::write(made, "").unwrap();
    }
    music
}

/// Walks the files where they are.
pub(crate) fn walk_disk(settings: &Settings, music: &Path) -> Disk {
    // Files that another run has made may not be in memory yet.
    walk(music);
    Disk { first: walk(music), again: median(settings.rounds, || walk(music)) }
}

/// Measures MusicFS.
pub(crate) fn run(settings: &Settings, music: &Path, disk: &Disk, table: &mut Table) {
    let scale = settings.files as f64 / 100_000.0;
    let home = Home::new();
    let mount = Mount::start(&home, music, &[]);
    let pid = mount.pid().as_raw();
    let (_, scan) = seconds(|| wait(&mount));
    table.add(format!("first scan of {} files", settings.files), scan, "s", Bar::AtMost(10.0 * scale));
    table.add("most memory while scanning", most_memory(pid), "MB", Bar::None);
    mount.unmount();

    let mut ready = Vec::new();
    let mut memories = Vec::new();
    let mut walks = Vec::new();
    for _ in 0..settings.rounds {
        ready.push(time_to_ready(&home, music));
        let mount = Mount::start(&home, music, &[]);
        wait(&mount);
        let pid = mount.pid().as_raw();
        let mounted = memory(pid);
        let (first, again) = (walk(&mount.at()), walk(&mount.at()));
        memories.push((mounted, memory(pid)));
        walks.push((first, again));
        mount.unmount();
    }
    let middle =
        |pick: &dyn Fn(usize) -> f64| crate::measure::middle((0..settings.rounds).map(pick).collect());
    table.add("mount to ready", middle(&|n| ready[n]) * 1000.0, "ms", Bar::AtMost(100.0));
    table.add("memory when mounted and rescanned", middle(&|n| memories[n].0), "MB", Bar::AtMost(60.0));
    let first = middle(&|n| walks[n].0);
    let again = middle(&|n| walks[n].1);
    table.compare("full walk with stat, first", first, "s", ("ext4", disk.first), Bar::TimesAtMost(5.0));
    table.compare("full walk with stat, again", again, "s", ("ext4", disk.again), Bar::TimesAtMost(1.5));
    table.add("memory after the walk", middle(&|n| memories[n].1), "MB", Bar::AtMost(120.0));

    let mount = home.mount(music);
    let rescan = median(settings.rounds, || mount.rescan(&[])["elapsed_ms"].as_f64().unwrap() / 1000.0);
    table.add("rescan, nothing changed", rescan, "s", Bar::AtMost(1.0 * scale));
    mount.unmount();
}

/// Waits for the scan that a mount begins with and returns how long it took, in seconds.
pub(crate) fn wait(mount: &Mount<'_>) -> f64 {
    loop {
        let status = mount.status();
        let last = status["scan"]["last"].as_object().and_then(|last| last.values().next().cloned());
        if let Some(result) =
            last.filter(|result| status["scan"]["phase"] == "idle" && result["complete"] == true)
        {
            return result["elapsed_ms"].as_f64().unwrap() / 1000.0;
        }
        pause();
    }
}

/// Returns how long `musicfs mount --background` takes, in seconds, process and all.
pub(crate) fn time_to_ready(home: &Home, music: &Path) -> f64 {
    let at = home.mountpoint();
    let args =
        ["mount".as_ref(), "--background".as_ref(), "--origin".as_ref(), music.as_os_str(), at.as_os_str()];
    let (time, _) = seconds(|| home.succeed(args));
    home.succeed(["umount".as_ref(), at.as_os_str()]);
    time
}
