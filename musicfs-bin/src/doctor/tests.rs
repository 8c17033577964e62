use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use musicfs_core::SystemClock;

use super::*;
use crate::config::{Flags, keys};
use crate::env::Env;

/// A machine on which all is well, as files.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap() };
        fake.put("dev/fuse", "");
        fake.put("proc/filesystems", "nodev\tsysfs\nnodev\tfuse\n\text4\n");
        fake.put("proc/sys/kernel/osrelease", "6.12.3-amd64\n");
        fake.put("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
        fake.put("proc/sys/fs/inotify/max_user_watches", "1000000\n");
        fake.put("proc/sys/fs/inotify/max_user_instances", "512\n");
        fake.put("usr/bin/fusermount3", "");
        fake.mode("usr/bin/fusermount3", 0o4755);
        fake.put("etc/fuse.conf", "# user_allow_other\n");
        fake
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.dir.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.dir.path().join(path)).unwrap();
    }

    fn found(&self, uid: u32, vars: &[(&str, &str)]) -> BTreeMap<String, Finding> {
        let config = Config::load(&Flags::default(), &Env::of(vars)).0;
        let findings = Machine::at(self.dir.path(), uid, (1024, 1_048_576)).findings(&config);
        findings.into_iter().map(|finding| (finding.check.clone(), finding)).collect()
    }

    fn level(&self, check: &str, uid: u32) -> Level {
        self.found(uid, &[("MUSICFS_ALLOW_OTHER", "true")])[check].level
    }
}

#[test]
fn machine_in_order_passes_every_check() {
    let fake = Fake::new();
    let found = fake.found(0, &[]);
    assert!(found.values().all(|finding| finding.level == Level::Ok), "{found:#?}");
    assert!(found["kernel"].message.contains("reads local files by itself"));
    assert!(!found.contains_key("allow_other"));
}

#[test]
fn missing_device_is_a_failure_that_says_what_to_do() {
    let fake = Fake::new();
    fake.remove("dev/fuse");
    let finding = &fake.found(0, &[])["FUSE device"];
    assert_eq!(finding.level, Level::Fail);
    assert!(finding.advice.as_ref().unwrap().contains("--device /dev/fuse"));
    fake.put("proc/filesystems", "\text4\n");
    assert!(fake.found(0, &[])["FUSE device"].advice.as_ref().unwrap().contains("modprobe"));
}

#[test]
fn helper_matters_to_users_and_less_to_root() {
    let fake = Fake::new();
    fake.mode("usr/bin/fusermount3", 0o755);
    assert_eq!(fake.level("fusermount3", 1000), Level::Fail);
    assert_eq!(fake.level("fusermount3", 0), Level::Ok);
    fake.remove("usr/bin/fusermount3");
    assert_eq!(fake.level("fusermount3", 1000), Level::Fail);
    assert_eq!(fake.level("fusermount3", 0), Level::Warn);
}

#[test]
fn allow_other_is_the_roots_or_needs_a_line_in_fuse_conf() {
    let fake = Fake::new();
    assert_eq!(fake.level("allow_other", 0), Level::Ok);
    assert_eq!(fake.level("allow_other", 1000), Level::Fail);
    fake.put("etc/fuse.conf", "  user_allow_other\n");
    assert_eq!(fake.level("allow_other", 1000), Level::Ok);
}

#[test]
fn passthrough_needs_a_new_kernel_and_the_right() {
    let fake = Fake::new();
    let message = |vars: &[(&str, &str)]| fake.found(0, vars)["kernel"].message.clone();
    assert!(message(&[("MUSICFS_PASSTHROUGH", "false")]).contains("switched off"));
    fake.put("proc/self/status", "CapEff:\t0000000000000000\n");
    assert!(message(&[]).contains("CAP_SYS_ADMIN"));
    fake.put("proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
    assert!(message(&[]).contains("needs Linux 6.9"));
}

#[test]
fn low_limits_are_warnings() {
    let fake = Fake::new();
    fake.put("proc/sys/fs/inotify/max_user_watches", "8192\n");
    let finding = &fake.found(0, &[])["inotify"];
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.advice.as_ref().unwrap().contains("max_user_watches=524288"));
    let config = Config::load(&Flags::default(), &Env::of(&[])).0;
    let few = Machine::at(fake.dir.path(), 0, (256, 1024)).findings(&config);
    assert!(few.iter().any(|f| f.check == "open files" && f.level == Level::Warn));
}

#[test]
fn directory_that_others_can_write_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    assert!(places::directory("cache_dir", &path).message.contains("will be made"));
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(places::directory("cache_dir", &path).level, Level::Warn);
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(places::directory("cache_dir", &dir.path().join("file/x")).level, Level::Fail);
}

fn config_in(dir: &Path) -> Config {
    let values = BTreeMap::from([(keys::CACHE_DIR, dir.into()), (keys::STATE_DIR, dir.into())]);
    Config::load(&Flags { values, ..Flags::default() }, &Env::of(&[])).0
}

#[test]
fn damaged_stores_are_found_and_only_repaired_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (config, clock) = (config_in(dir.path()), SystemClock::new());
    assert!(stores::catalogue(&config, false, &clock).message.contains("none yet"));
    assert!(stores::library(&config, false, &clock).message.contains("none yet"));
    for name in ["catalogue.db", "library.db"] {
        std::fs::write(dir.path().join(name), "garbage".repeat(1000)).unwrap();
    }
    let listed = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(stores::catalogue(&config, false, &clock).level, Level::Fail);
    assert_eq!(stores::library(&config, false, &clock).level, Level::Fail);
    assert_eq!(listed(), 2, "a look has changed something");
    let repaired = stores::catalogue(&config, true, &clock);
    assert_eq!(repaired.level, Level::Ok, "{repaired:?}");
    assert!(stores::library(&config, true, &clock).message.contains("begins anew"));
    assert_eq!(stores::catalogue(&config, false, &clock).level, Level::Ok);
    assert_eq!(stores::library(&config, false, &clock).level, Level::Ok);
}
