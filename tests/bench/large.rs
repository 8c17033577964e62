//! Few large files: reading from beginning to end.

use std::fs;
use std::path::{Path, PathBuf};

use musicfs_test_utils::library::bench_large;
use musicfs_tests::files;
use musicfs_tests::home::Home;

use crate::Settings;
use crate::measure::middle;
use crate::reading::{forget, throughput};
use crate::table::{Bar, Table};

/// Number of files.
const COUNT: usize = 12;
/// Size of each in MiB.
const EACH: usize = 20;
/// Readings from memory for one from the disk: they are over so soon that one alone says little.
const WARM: usize = 5;

/// Measures reading through the mount, by the kernel alone and by the daemon, beside the disk.
pub(crate) fn run(settings: &Settings, table: &mut Table) {
    let music = settings.dir.join("large");
    if files_in(&music).len() != COUNT {
        let _ = fs::remove_dir_all(&music);
        bench_large(&music, COUNT, EACH).unwrap();
        // What is not on the disk yet cannot be dropped from memory.
        nix::unistd::sync();
    }
    let disk = files_in(&music);
    for (how, args) in [("passthrough", &[][..]), ("through the daemon", &["--no-passthrough"][..])] {
        let home = Home::new();
        let mount = home.mount_with(&music, args);
        let seen: Vec<_> = files::files(&mount.at()).iter().map(|path| mount.join(path)).collect();
        let mut figures = [const { Vec::new() }; 4];
        // The two take turns, so that a slow moment of the machine meets both.
        for _ in 0..settings.rounds {
            for (n, paths) in [&disk, &seen].into_iter().enumerate() {
                forget(&disk);
                forget(&seen);
                figures[n].push(throughput(paths));
                for _ in 0..WARM {
                    figures[n + 2].push(throughput(paths));
                }
            }
        }
        let [disk_cold, cold, disk_warm, warm] = figures.map(middle);
        table.compare(
            format!("large files, cold, {how}"),
            cold,
            "MB/s",
            ("ext4", disk_cold),
            Bar::TimesAtLeast(0.9),
        );
        table.compare(
            format!("large files, warm, {how}"),
            warm,
            "MB/s",
            ("ext4", disk_warm),
            Bar::TimesAtLeast(0.9),
        );
        if how == "passthrough" && mount.status()["fuse"]["passthrough_opens"] == 0 {
            table.note("Passthrough needs root and Linux 6.9; the daemon has read for it.");
        }
        mount.unmount();
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    if !dir.exists() {
        return Vec::new();
    }
    files::files(dir).iter().map(|path| dir.join(path)).collect()
}
