//! The table of mounts: `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id; used again after it is gone.
    pub id: u64,
    /// Id of the mount that it stands on.
    pub parent: u64,
    /// Major and minor number of the filesystem's device. A FUSE mount's minor number is that of its connection.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Type of filesystem, such as `fuse.musicfs`.
    pub fs_type: OsString,
    /// What is mounted, as whoever mounted it named it.
    pub source: OsString,
    /// Options of the filesystem.
    pub options: OsString,
}

impl MountEntry {
    /// Tells whether this is a FUSE mount named `fs_name`.
    pub fn is_ours(&self, fs_name: &str) -> bool {
        let fs_type = self.fs_type.as_bytes();
        (fs_type == b"fuse" || fs_type.starts_with(b"fuse.")) && self.source.as_bytes() == fs_name.as_bytes()
    }

    /// Returns the number of the FUSE connection, when this is a FUSE mount.
    pub fn connection(&self) -> Option<u32> {
        let fs_type = self.fs_type.as_bytes();
        let fuse = fs_type == b"fuse" || fs_type.starts_with(b"fuse.");
        (fuse && self.device.0 == 0).then_some(self.device.1)
    }

    /// Returns the user who mounted it, when this is a FUSE mount.
    pub fn user_id(&self) -> Option<u32> {
        let options = self.options.to_str()?;
        options.split(',').find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// All mounts that a process sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    entries: Vec<MountEntry>,
}

impl MountTable {
    /// Parses the kernel's text. A line that cannot be understood is left out.
    pub fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|b| *b == b'\n').filter_map(parse_line).collect() }
    }

    /// Returns all mounts.
    pub fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// Returns the mounts at exactly this path, the one on top last.
    pub fn at(&self, mountpoint: &Path) -> Vec<&MountEntry> {
        let bytes = mountpoint.as_os_str().as_bytes();
        let mut here: Vec<_> =
            self.entries.iter().filter(|e| e.mountpoint.as_os_str().as_bytes() == bytes).collect();
        // Each stands on the one below it, whatever the order of the lines.
        let depth = |entry: &MountEntry| {
            let mut below = Some(entry);
            let mut depth = 0;
            while let Some(under) = below.and_then(|b| here.iter().find(|e| e.id == b.parent && e.id != b.id))
            {
                depth += 1;
                below = (depth <= here.len()).then_some(*under);
            }
            depth
        };
        let mut keyed: Vec<_> = here.iter().map(|entry| (depth(entry), *entry)).collect();
        keyed.sort_by_key(|(depth, _)| *depth);
        here = keyed.into_iter().map(|(_, entry)| entry).collect();
        here
    }

    /// Returns the mount on top at exactly this path.
    pub fn top(&self, mountpoint: &Path) -> Option<&MountEntry> {
        self.at(mountpoint).pop()
    }
}

/// `36 35 0:42 / /mnt/a\040b rw,noatime shared:1 - fuse.musicfs musicfs rw,user_id=0`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut device = fields.next()?.split(|b| *b == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let _root = fields.next()?;
    let mountpoint = PathBuf::from(unescape(fields.next()?));
    let _mount_options = fields.next()?;
    // Any number of optional fields, ended by a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let options = unescape(fields.next().unwrap_or_default());
    Some(MountEntry { id, parent, device, mountpoint, fs_type, source, options })
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's escapes: a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /mnt/music rw,nosuid shared:7 master:2 - fuse.musicfs musicfs ro,user_id=1000,group_id=1000
31 22 0:41 / /mnt/music2 rw - fuse.sshfs nas:/x rw,user_id=0
33 32 0:43 / /mnt/a\\040b\\134c rw - tmpfs none rw
32 22 0:42 / /mnt/a\\040b\\134c rw - fuse musicfs ro,user_id=0
broken line
34 22 0:44 / /mnt/\xff\xfe rw - fuse.musicfs musicfs ro
";

    #[test]
    fn mount_is_found_by_exact_path_only() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.entries().len(), 6);
        assert!(table.top(Path::new("/mnt")).is_none());
        assert!(table.top(Path::new("/mnt/musi")).is_none());
        let music = table.top(Path::new("/mnt/music")).unwrap();
        assert!(music.is_ours("musicfs"));
        assert_eq!((music.connection(), music.user_id()), (Some(40), Some(1000)));
        let other = table.top(Path::new("/mnt/music2")).unwrap();
        assert!(!other.is_ours("musicfs"));
        assert_eq!(other.connection(), Some(41));
    }

    #[test]
    fn top_of_stacked_mounts_is_found_whatever_the_order_of_lines() {
        let table = MountTable::parse(TABLE);
        let here = table.at(Path::new("/mnt/a b\\c"));
        assert_eq!(here.iter().map(|e| e.id).collect::<Vec<_>>(), [32, 33]);
        assert_eq!(table.top(Path::new("/mnt/a b\\c")).unwrap().connection(), None);
    }

    #[test]
    fn mountpoint_that_is_not_utf8_is_kept_as_it_is() {
        let table = MountTable::parse(TABLE);
        let path = PathBuf::from(OsString::from_vec(b"/mnt/\xff\xfe".to_vec()));
        assert_eq!(table.top(&path).unwrap().id, 34);
    }

    #[test]
    fn backslash_without_digits_is_a_backslash() {
        assert_eq!(unescape(b"a\\b\\12"), OsString::from("a\\b\\12"));
        assert_eq!(unescape(b"\\011x\\777"), OsString::from("\tx\\777"));
    }
}
