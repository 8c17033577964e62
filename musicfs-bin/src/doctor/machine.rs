//! The machine: FUSE, rights, limits, the kernel.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use musicfs_fuse::Os;

use super::Finding;
use crate::config::Config;

/// Open files below which a busy media server runs out.
const FEW_FILES: u64 = 4096;
/// Watches below which a library of many folders cannot be watched as a whole; one per folder.
const FEW_WATCHES: u64 = 65_536;
/// Watching programs of one user below which another is often refused.
const FEW_INSTANCES: u64 = 64;
/// The first kernel that reads local files by itself.
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);
/// The right without which the kernel refuses to (`CAP_SYS_ADMIN`), as a bit.
const SYS_ADMIN: u64 = 1 << 21;
/// Where fusermount3 may be.
const HELPER_DIRS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "usr/local/bin"];

/// A machine, as its files show it.
pub(super) struct Machine {
    /// The directory that stands for `/`.
    root: PathBuf,
    uid: u32,
    /// Soft and hard limit of open files.
    open_files: Option<(u64, u64)>,
}

impl Machine {
    /// Returns this machine.
    pub(super) fn this(uid: u32) -> Self {
        Self { root: "/".into(), uid, open_files: crate::limits::open_files().ok() }
    }

    #[cfg(test)]
    pub(super) fn at(root: &std::path::Path, uid: u32, open_files: (u64, u64)) -> Self {
        Self { root: root.into(), uid, open_files: Some(open_files) }
    }

    /// Returns where mounts and processes are told of.
    pub(super) fn os(&self) -> Os {
        Os { proc: self.root.join("proc"), connections: self.root.join("sys/fs/fuse/connections") }
    }

    pub(super) fn findings(&self, config: &Config) -> Vec<Finding> {
        let mut findings = vec![self.device(), self.helper()];
        findings.extend(self.allow_other(config));
        findings.extend([self.passthrough(config), self.files(), self.inotify()]);
        findings
    }

    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    fn device(&self) -> Finding {
        const CHECK: &str = "FUSE device";
        let path = self.root.join("dev/fuse");
        let in_kernel = self
            .text("proc/filesystems")
            .is_some_and(|all| all.lines().any(|line| line.trim_end() == "nodev\tfuse"));
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(_) => Finding::ok(CHECK, format!("{} can be opened", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::fail(
                CHECK,
                format!("{} may not be opened by user {}", path.display(), self.uid),
                "as root: chmod 666 /dev/fuse (udev does that where fuse3 is installed)",
            ),
            Err(_) if in_kernel => Finding::fail(
                CHECK,
                format!("{} is not there, although the kernel has FUSE", path.display()),
                "in a container: run it with --device /dev/fuse; else: mknod /dev/fuse c 10 229",
            ),
            Err(error) => Finding::fail(
                CHECK,
                format!("{}: {error}; this kernel has no FUSE", path.display()),
                "as root: modprobe fuse",
            ),
        }
    }

    fn helper(&self) -> Finding {
        const CHECK: &str = "fusermount3";
        let found =
            HELPER_DIRS.iter().map(|dir| self.root.join(dir).join("fusermount3")).find(|p| p.is_file());
        let root = self.uid == 0;
        match found {
            None if root => Finding::warn(
                CHECK,
                "not installed; root can do without, users cannot",
                "install the package fuse3",
            ),
            None => Finding::fail(
                CHECK,
                "not installed, and only it may mount for a user",
                "install the package fuse3",
            ),
            Some(path) => {
                let meta = std::fs::metadata(&path);
                let setuid = meta.is_ok_and(|m| m.permissions().mode() & 0o4000 != 0 && m.uid() == 0);
                let shown = path.display();
                match (setuid, root) {
                    (true, _) => Finding::ok(CHECK, format!("{shown}, setuid root")),
                    (false, true) => Finding::ok(CHECK, format!("{shown}, not setuid; root can do without")),
                    (false, false) => Finding::fail(
                        CHECK,
                        format!("{shown} is not setuid root, so that it cannot mount for a user"),
                        format!("as root: chown root {shown} && chmod 4755 {shown}"),
                    ),
                }
            }
        }
    }

    fn allow_other(&self, config: &Config) -> Option<Finding> {
        const CHECK: &str = "allow_other";
        if !config.allow_other {
            return None;
        }
        let allowed = self
            .text("etc/fuse.conf")
            .is_some_and(|conf| conf.lines().any(|line| line.trim() == "user_allow_other"));
        Some(match (self.uid == 0, allowed) {
            (true, _) => Finding::ok(CHECK, "root may let others read the mount"),
            (false, true) => Finding::ok(CHECK, "/etc/fuse.conf lets users do so"),
            (false, false) => Finding::fail(
                CHECK,
                "/etc/fuse.conf does not let users give others access",
                "as root: echo user_allow_other >> /etc/fuse.conf; or leave out allow_other",
            ),
        })
    }

    fn passthrough(&self, config: &Config) -> Finding {
        const CHECK: &str = "kernel";
        let release = self.text("proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        let rights = self.text("proc/self/status").and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
            u64::from_str_radix(&line, 16).ok()
        });
        let why_not = if !config.passthrough {
            Some("is switched off")
        } else if version(release).is_some_and(|version| version < PASSTHROUGH_SINCE) {
            Some("needs Linux 6.9")
        } else if rights.is_none_or(|rights| rights & SYS_ADMIN == 0) {
            Some("needs root (CAP_SYS_ADMIN)")
        } else {
            None
        };
        Finding::ok(
            CHECK,
            match why_not {
                None => format!("Linux {release}; reads local files by itself (passthrough)"),
                Some(why) => format!("Linux {release}; passthrough {why}, so the daemon reads local files"),
            },
        )
    }

    fn files(&self) -> Finding {
        const CHECK: &str = "open files";
        match self.open_files {
            Some((soft, hard)) if hard < FEW_FILES => Finding::warn(
                CHECK,
                format!("at most {hard} (now {soft})"),
                format!(
                    "raise the hard limit to {FEW_FILES} or more: LimitNOFILE= in the unit, or limits.conf"
                ),
            ),
            Some((_, hard)) => Finding::ok(CHECK, format!("up to {hard}")),
            None => Finding::warn(CHECK, "the limit cannot be read", "see: ulimit -Hn"),
        }
    }

    fn inotify(&self) -> Finding {
        const CHECK: &str = "inotify";
        let watches = self.number("proc/sys/fs/inotify/max_user_watches");
        let instances = self.number("proc/sys/fs/inotify/max_user_instances");
        match (watches, instances) {
            (Some(watches), Some(instances)) if watches < FEW_WATCHES || instances < FEW_INSTANCES => {
                Finding::warn(
                    CHECK,
                    format!(
                        "{watches} watches and {instances} instances for each user; one watch is needed per folder"
                    ),
                    format!(
                        "as root: sysctl fs.inotify.max_user_watches={} fs.inotify.max_user_instances={}",
                        watches.max(524_288),
                        instances.max(512)
                    ),
                )
            }
            (Some(watches), Some(instances)) => {
                Finding::ok(CHECK, format!("{watches} watches, {instances} instances"))
            }
            _ => Finding::warn(CHECK, "the limits cannot be read", "is /proc mounted?"),
        }
    }
}

/// Returns the first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}
