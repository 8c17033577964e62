//! What `stat` tells.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use musicfs_core::{Ino, Node, NodeKind, UnixNanos};

/// What `stat` gives as the best size of a read.
pub(crate) const BLOCK: u32 = 4096;

/// Attributes of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// The number by which the kernel is to know it: another while an older version of the file is open.
    pub number: Ino,
    /// What it is.
    pub kind: NodeKind,
    /// Exact size in bytes; 0 for a directory.
    pub size: u64,
    /// When its content changed.
    pub mtime: UnixNanos,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Attr {
    pub(crate) fn of(node: &Node, number: Ino, uid: u32, gid: u32) -> Self {
        Self { ino: node.ino, number, kind: node.kind, size: node.size, mtime: node.mtime, uid, gid }
    }

    /// Returns the permissions: everybody may read, nobody may write.
    pub const fn perm(&self) -> u16 {
        match self.kind {
            NodeKind::Dir => 0o555,
            NodeKind::File => 0o444,
        }
    }

    /// Returns the attributes for a reply that names the inode, and how long the kernel may keep them. The library has
    /// one field for inode number and number: when they differ it is the latter, and the kernel may not keep it, so that
    /// it asks for the attributes before it tells a program.
    pub(crate) fn to_entry(self, ttl: Duration) -> (FileAttr, Duration) {
        let number = INodeNo(self.number.raw());
        let ttl = if self.number == self.ino { ttl } else { Duration::ZERO };
        (FileAttr { ino: number, ..self.to_kernel() }, ttl)
    }

    /// Returns the attributes in the kernel's form.
    ///
    /// A directory has one link, by which programs know that links do not tell the number of its directories.
    pub(crate) fn to_kernel(self) -> FileAttr {
        let time = system_time(self.mtime);
        FileAttr {
            ino: INodeNo(self.ino.raw()),
            size: self.size,
            blocks: self.size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(self.kind),
            perm: self.perm(),
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }
}

pub(crate) const fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Dir => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
    }
}

/// Attributes that say "there is none", and may be cached as such.
pub(crate) fn negative() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn system_time(at: UnixNanos) -> SystemTime {
    let distance = Duration::from_nanos(at.0.unsigned_abs());
    if at.0 < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_1970_is_kept() {
        let before = SystemTime::UNIX_EPOCH.duration_since(system_time(UnixNanos(-1))).unwrap();
        assert_eq!(before, Duration::from_nanos(1));
        let after = system_time(UnixNanos(1_500_000_000)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(after, Duration::from_millis(1500));
    }
}
