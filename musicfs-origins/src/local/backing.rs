//! What kind of filesystem a folder is on, told without touching it.
//!
//! A `statfs` on a network mount whose server is gone hangs. The kernel's own table of mounts does not, so the
//! path is followed component by component through it, and no further than to the first remote mount.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use musicfs_core::FsBacking;

/// Filesystem types (`/proc/filesystems`) of which a read may wait for a network or for another process. A name
/// with a dot (`fuse.sshfs`) counts as what is before the dot.
const REMOTE_TYPES: [&str; 28] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse",
    "fuseblk",
    "9p",
    "ceph",
    "afs",
    "coda",
    "ncpfs",
    "lustre",
    "gfs",
    "gfs2",
    "ocfs2",
    "beegfs",
    "glusterfs",
    "gpfs",
    "pvfs2",
    "orangefs",
    "vboxsf",
    "vmhgfs",
    "prl_fs",
    "davfs",
    "autofs",
    "acfs",
    "virtiofs",
];
/// Types as `statfs` numbers them, for an open file: NFS, SMB1, CIFS, SMB2, FUSE, 9P, Ceph, AFS, kAFS, Coda, NCP,
/// Lustre, GFS2, OCFS2, OrangeFS, VirtualBox, autofs.
const REMOTE_MAGIC: [u64; 17] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x6b41_4653,
    0x7375_7245,
    0x564c,
    0x0bd0_0bd0,
    0x0116_1970,
    0x7461_636f,
    0x2003_0528,
    0x786f_4256,
    0x0187,
];
/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Tells on what kind of filesystem `root` is.
pub(crate) fn backing_of(root: &Path) -> FsBacking {
    let Ok(absolute) = std::path::absolute(root) else {
        return FsBacking::Remote;
    };
    match std::fs::read("/proc/self/mountinfo") {
        Ok(table) => follow(&absolute, &Mounts::parse(&table)),
        // Without the table there is only the way that may hang, once.
        Err(_) => match rustix::fs::statfs(&absolute) {
            Ok(found) => of_magic(found.f_type as u64),
            Err(_) => FsBacking::Local,
        },
    }
}

/// Tells on what kind of filesystem an open file is: another may be mounted below the root.
pub(crate) fn backing_of_file(file: &File) -> FsBacking {
    match rustix::fs::fstatfs(file) {
        Ok(found) => of_magic(found.f_type as u64),
        Err(_) => FsBacking::Remote,
    }
}

fn of_magic(f_type: u64) -> FsBacking {
    // Some architectures give the number as a signed 32-bit one.
    if REMOTE_MAGIC.contains(&(f_type & 0xffff_ffff)) { FsBacking::Remote } else { FsBacking::Local }
}

/// Follows a path through links, asking the table before each step.
fn follow(path: &Path, mounts: &Mounts) -> FsBacking {
    let mut at = PathBuf::from("/");
    let mut ahead: Vec<OsString> = components(path);
    let mut links = 0;
    loop {
        if mounts.is_remote(&at) {
            return FsBacking::Remote;
        }
        let Some(name) = ahead.pop() else {
            return FsBacking::Local;
        };
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        // Below a remote mount point nothing may be touched, not even the link that it might be.
        if mounts.is_remote(&next) {
            return FsBacking::Remote;
        }
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(components(&target));
            }
            _ => at = next,
        }
    }
}

/// The components of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    let mut names: Vec<OsString> = named.map(|c| c.as_os_str().to_owned()).collect();
    names.reverse();
    names
}

/// Mount points with whether they are remote, in the order mounted.
struct Mounts(Vec<(PathBuf, bool)>);

impl Mounts {
    /// Reads the format of `/proc/self/mountinfo`: the fifth field is the mount point, the first after ` - ` the
    /// type.
    fn parse(table: &[u8]) -> Self {
        let mounts = table.split(|b| *b == b'\n').filter_map(|line| {
            let point = line.split(|b| *b == b' ').nth(4)?;
            let tail = line.windows(3).position(|w| w == b" - ")? + 3;
            let kind = line[tail..].split(|b| matches!(b, b' ' | b'.')).next()?;
            let remote = REMOTE_TYPES.iter().any(|name| name.as_bytes() == kind);
            Some((PathBuf::from(OsString::from_vec(unescape(point))), remote))
        });
        Self(mounts.collect())
    }

    /// Tells whether the mount that `path` is on is remote. What is mounted later hides what is below it.
    fn is_remote(&self, path: &Path) -> bool {
        let covering = self.0.iter().enumerate().filter(|(_, (point, _))| path.starts_with(point));
        let nearest = covering.max_by_key(|(n, (point, _))| (point.components().count(), *n));
        nearest.is_some_and(|(_, (_, remote))| *remote)
    }
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match (first, OsStr::from_bytes(tail.get(..3).unwrap_or_default()).to_str()) {
            (b'\\', Some(digits)) if let Ok(byte) = u8::from_str_radix(digits, 8) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 22 0:40 / /mnt/my\\040nas rw shared:5 - nfs4 nas:/music rw\n\
        31 30 0:41 / /mnt/my\\040nas/disk rw - ext4 /dev/sdb rw\n\
        32 22 0:42 / /mnt/ssh rw - fuse.sshfs me@box: rw\n\
        33 22 0:43 / /tmp rw - tmpfs tmpfs rw\n";

    #[test]
    fn mount_table_tells_remote_from_local_by_the_nearest_mount() {
        let mounts = Mounts::parse(TABLE);
        assert!(!mounts.is_remote(Path::new("/home/me/Music")));
        assert!(mounts.is_remote(Path::new("/mnt/my nas")));
        assert!(mounts.is_remote(Path::new("/mnt/my nas/Albums")));
        assert!(!mounts.is_remote(Path::new("/mnt/my nas/disk/x")));
        assert!(!mounts.is_remote(Path::new("/mnt/my nas2")));
        assert!(mounts.is_remote(Path::new("/mnt/ssh/a")));
    }

    #[test]
    fn link_to_a_remote_mount_is_followed_through_the_table_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let link = root.join("Music");
        // The target does not exist: nothing but the table can have told.
        std::os::unix::fs::symlink("/mnt/my nas/Music", &link).unwrap();
        std::os::unix::fs::symlink("Music", root.join("again")).unwrap();
        let mounts = Mounts::parse(TABLE);
        assert_eq!(follow(&link, &mounts), FsBacking::Remote);
        assert_eq!(follow(&root.join("again/x"), &mounts), FsBacking::Remote);
        assert_eq!(follow(&root, &mounts), FsBacking::Local);
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(follow(&dir.path().join("loop"), &Mounts::parse(TABLE)), FsBacking::Local);
    }

    #[test]
    fn folder_of_this_machine_is_local_and_proc_file_too() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(backing_of(dir.path()), FsBacking::Local);
        assert_eq!(backing_of_file(&File::open("/proc/self/stat").unwrap()), FsBacking::Local);
        assert_eq!(of_magic(0x6969), FsBacking::Remote);
        assert_eq!(of_magic(0xffff_ffff_ff53_4d42), FsBacking::Remote);
    }
}
