//! A catalogue of a million tracks that have no files: what mounting costs when the library is large.

use std::fs;
use std::process::{Command, Stdio};

use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use musicfs_tests::{run, workspace};

use crate::Settings;
use crate::library::time_to_ready;
use crate::measure::{median, memory, seconds, walk};
use crate::table::{Bar, Table};

/// Entries of the one large directory.
const FLAT: usize = 100_000;

/// Measures a mount over the catalogue.
pub(crate) fn run(settings: &Settings, table: &mut Table) {
    let made = settings.dir.join(format!("catalogue-{}.db", settings.tracks));
    if !made.exists() {
        eprintln!("making a catalogue of {} tracks", settings.tracks);
        fs::create_dir_all(&settings.dir).unwrap();
        let mut make = Command::new(env!("CARGO"));
        make.current_dir(workspace::root())
            .args(["run", "--quiet", "--release", "-p", "musicfs-sync", "--example", "catalogue_bench", "--"])
            .arg(&made)
            .args([&settings.tracks.to_string(), "--flat", &FLAT.to_string()])
            .stderr(Stdio::inherit());
        run::succeed(make);
    }
    let home = Home::new();
    let cache = home.folder("cache/musicfs");
    let music = home.folder("music");
    fs::create_dir_all(&cache).unwrap();
    fs::create_dir_all(&music).unwrap();
    fs::copy(&made, cache.join("catalogue.db")).unwrap();

    let ready = median(settings.rounds, || time_to_ready(&home, &music)) * 1000.0;
    table.add(format!("mount to ready, {} tracks", settings.tracks), ready, "ms", Bar::AtMost(100.0));
    let mount = Mount::start(&home, &music, &[]);
    let pid = mount.pid().as_raw();
    table.add("memory when mounted", memory(pid), "MB", Bar::AtMost(60.0));
    let flat = mount.join("Flat");
    let (list, entries) = seconds(|| fs::read_dir(&flat).unwrap().count());
    assert_eq!(entries, FLAT, "the directory is not whole");
    table.add(format!("list a directory of {FLAT} entries"), list, "s", Bar::AtMost(1.0));
    table.add("walk it with stat", walk(&flat), "s", Bar::None);
    table.add("full walk with stat, first", walk(&mount.at()), "s", Bar::None);
    table.add("memory after the walk", memory(pid), "MB", Bar::AtMost(200.0));
}
