//! What others do with the same files, where they are installed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use musicfs_test_utils::eventually_blocking;
use musicfs_tests::home::Home;
use musicfs_tests::mount::{clear, is_mounted};

use crate::library::Disk;
use crate::measure::{memory, seconds, walk};
use crate::table::{Bar, Table};

/// Measures rclone and musefs.
pub(crate) fn run(music: &Path, disk: &Disk, table: &mut Table) {
    peer("rclone mount", "rclone", disk, table, |home| {
        let mut mount = Command::new("rclone");
        mount.arg("mount").arg("--read-only").arg(music).arg(home.mountpoint());
        mount
    });
    if installed("musefs") {
        let home = Home::new();
        let database = home.folder("musefs.db");
        let (scan, status) = seconds(|| {
            Command::new("musefs")
                .arg("scan")
                .arg(music)
                .arg("--db")
                .arg(&database)
                .stdout(Stdio::null())
                .status()
        });
        if status.is_ok_and(|status| status.success()) {
            table.add("musefs: first scan", scan, "s", Bar::None);
        } else {
            table.note("musefs scan failed; its options may have changed.");
            return;
        }
        peer("musefs", "musefs", disk, table, |home| {
            let mut mount = Command::new("musefs");
            mount.arg("mount").arg("--db").arg(&database).arg(home.mountpoint());
            mount
        });
    } else {
        table.note("musefs is not installed ('cargo install musefs --locked'): skipped.");
    }
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Ends with the measurement, and its mount with it.
struct Running<'a> {
    home: &'a Home,
    child: Child,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        clear(&self.home.mountpoint());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer(name: &str, program: &str, disk: &Disk, table: &mut Table, command: impl Fn(&Home) -> Command) {
    if !installed(program) {
        table.note(format!("{program} is not installed: skipped."));
        return;
    }
    let home = Home::new();
    let at = home.mountpoint();
    let log = fs::File::create(home.folder("log")).unwrap();
    let (ready, running) = seconds(|| {
        let child = command(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let running = Running { home: &home, child };
        eventually_blocking("the peer to mount", || is_mounted(&at));
        running
    });
    let (first, again) = (walk(&at), walk(&at));
    table.add(format!("{name}: mount to ready"), ready * 1000.0, "ms", Bar::None);
    table.compare(format!("{name}: walk, first"), first, "s", ("ext4", disk.first), Bar::None);
    table.compare(format!("{name}: walk, again"), again, "s", ("ext4", disk.again), Bar::None);
    table.add(format!("{name}: memory after the walk"), memory(running.child.id() as i32), "MB", Bar::None);
}
