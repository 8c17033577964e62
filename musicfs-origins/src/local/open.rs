//! Opening below a root, and never outside it.
//!
//! The kernel resolves a path inside the root by itself (`openat2` with `RESOLVE_BENEATH`), so that a symbolic
//! link swapped in while we look cannot lead outside. Two cases are left to us: links that lead out of the root
//! and back in (an absolute target, mostly), and kernels or sandboxes without `openat2`. Both are resolved first
//! and then opened component by component without following any link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use musicfs_core::{FileVersion, OriginErrorKind, OriginPath, UnixNanos};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How often a resolution that raced with a rename is tried again; the kernel asks for it with `EAGAIN`.
const RACE_RETRIES: usize = 8;
/// Longest path in bytes that one system call takes (`PATH_MAX` without its NUL). Deeper ones go in steps.
const MAX_PATH: usize = 4095;

/// Why a path could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The root itself could not be opened.
    #[error("folder {} cannot be opened", root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was mounted there from a network is not mounted any more.
    #[error("nothing is mounted at {} any more", .0.display())]
    Unmounted(PathBuf),
    /// The path leads out of the root.
    #[error("it is a link that leads out of the origin")]
    Outside,
    /// There is something, but it is not a file.
    #[error("it is not a file")]
    NotAFile,
    /// The system refused.
    #[error(transparent)]
    Io(io::Error),
}

impl OpenError {
    /// Tells whether it means that there is nothing of the origin at that path: nothing at all, a link to
    /// nothing or in a circle, or a link that leads outside.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Outside => true,
            Self::Io(error) => {
                matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
            }
            Self::Root { .. } | Self::Unmounted(_) | Self::NotAFile => false,
        }
    }

    /// Sorts the error by what a caller can do about it.
    pub(crate) fn kind(&self) -> OriginErrorKind {
        match self {
            _ if self.is_nothing() => OriginErrorKind::NotFound,
            // A root that is not there is a disk that is not mounted: no file may be taken for gone.
            Self::Root { source, .. } if source.kind() == io::ErrorKind::NotFound => OriginErrorKind::NoRoot,
            Self::Root { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                OriginErrorKind::Invalid
            }
            Self::Root { source, .. } => OriginErrorKind::of_io(source),
            Self::Unmounted(_) => OriginErrorKind::Unavailable,
            Self::Outside | Self::NotAFile => OriginErrorKind::Invalid,
            Self::Io(error) => OriginErrorKind::of_io(error),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            // Opening a socket.
            Errno::NXIO => Self::NotAFile,
            errno => Self::Io(errno.into()),
        }
    }
}

/// What is wanted of an open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// To read a file.
    Content,
    /// To list a folder.
    Listing,
    /// To look at what is there, without opening it.
    Look,
}

impl Want {
    fn flags(self) -> OFlags {
        // O_NONBLOCK keeps a FIFO from blocking us; on a file it means nothing.
        match self {
            Self::Content => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::NOCTTY,
            Self::Listing => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME,
            Self::Look => OFlags::PATH,
        }
    }
}

/// Opens the root. Nothing is kept open between calls, so that a disk mounted later is seen, and one in use can
/// be unmounted.
pub(crate) fn open_root(root: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|errno| OpenError::Root { root: root.to_owned(), source: errno.into() })
}

/// Opens `path` below an open root. `root_path` is where the root is.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    root_path: &Path,
    path: &OriginPath,
    want: Want,
) -> Result<OwnedFd, OpenError> {
    if path.is_root() {
        return step(root, Path::new("."), want, ResolveFlags::BENEATH);
    }
    match deep(root, path.as_path(), want, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
        Err(OpenError::Io(error)) if is_for_us(&error) => by_hand(root, root_path, path, want),
        other => other,
    }
}

/// Opens an entry of an open folder, which must be a folder itself and no link.
pub(crate) fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    plain(parent, path, Want::Listing.flags() | OFlags::NOFOLLOW)
}

/// Tells whether the kernel could not resolve a path that we may be able to: a link out of the root and perhaps
/// back in (`EXDEV`), or no `openat2` (`ENOSYS`; sandboxes say `EPERM`).
fn is_for_us(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::XDEV | Errno::NOSYS | Errno::PERM))
}

/// Opens a path of any length, in steps that the kernel takes.
fn deep(root: BorrowedFd<'_>, path: &Path, want: Want, resolve: ResolveFlags) -> Result<OwnedFd, OpenError> {
    let mut rest = path.as_os_str().as_bytes();
    let mut folder: Option<OwnedFd> = None;
    while rest.len() > MAX_PATH {
        let Some(cut) = rest[..MAX_PATH].iter().rposition(|b| *b == b'/') else {
            return Err(Errno::NAMETOOLONG.into());
        };
        let here = Path::new(std::ffi::OsStr::from_bytes(&rest[..cut]));
        folder = Some(step(folder.as_ref().map_or(root, AsFd::as_fd), here, Want::Look, resolve)?);
        rest = &rest[cut + 1..];
    }
    let here = Path::new(std::ffi::OsStr::from_bytes(rest));
    step(folder.as_ref().map_or(root, AsFd::as_fd), here, want, resolve)
}

fn step(from: BorrowedFd<'_>, path: &Path, want: Want, resolve: ResolveFlags) -> Result<OwnedFd, OpenError> {
    let open = |flags: OFlags| {
        for _ in 0..RACE_RETRIES {
            match rustix::fs::openat2(from, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    };
    Ok(without_noatime(want.flags(), open)?)
}

/// Opens `path` after resolving it, following no link any more.
fn by_hand(
    root: BorrowedFd<'_>,
    root_path: &Path,
    path: &OriginPath,
    want: Want,
) -> Result<OwnedFd, OpenError> {
    let canonical_root =
        root_path.canonicalize().map_err(|source| OpenError::Root { root: root_path.to_owned(), source })?;
    let target = canonical_root.join(path.as_path()).canonicalize().map_err(OpenError::Io)?;
    let inside = target.strip_prefix(&canonical_root).map_err(|_| OpenError::Outside)?;
    let mut names: Vec<_> = inside.components().map(|c| Path::new(c.as_os_str())).collect();
    let last = names.pop().unwrap_or(Path::new("."));
    let mut folder: Option<OwnedFd> = None;
    for name in names {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        folder = Some(plain(folder.as_ref().map_or(root, AsFd::as_fd), name, flags)?);
    }
    Ok(plain(folder.as_ref().map_or(root, AsFd::as_fd), last, want.flags() | OFlags::NOFOLLOW)?)
}

fn plain(from: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let open = |flags| {
        rustix::io::retry_on_intr(|| rustix::fs::openat(from, path, flags | OFlags::CLOEXEC, Mode::empty()))
    };
    without_noatime(flags, open)
}

/// Opens with `O_NOATIME`, which only a file's owner may, else without.
fn without_noatime(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(flags) {
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => open(flags.difference(OFlags::NOATIME)),
        other => other,
    }
}

/// Opens a file for reading; anything else is refused.
pub(crate) fn open_file(root_path: &Path, path: &OriginPath) -> Result<(File, Stat), OpenError> {
    let root = open_root(root_path)?;
    let file = open_beneath(root.as_fd(), root_path, path, Want::Content)?;
    let stat = rustix::fs::fstat(&file)?;
    if is_file(&stat) { Ok((file.into(), stat)) } else { Err(OpenError::NotAFile) }
}

/// Looks at what a path leads to.
pub(crate) fn look(root: BorrowedFd<'_>, root_path: &Path, path: &OriginPath) -> Result<Stat, OpenError> {
    let fd = open_beneath(root, root_path, path, Want::Look)?;
    Ok(rustix::fs::fstat(&fd)?)
}

/// Tells whether `stat` is that of a regular file.
pub(crate) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Tells whether `stat` is that of a folder.
pub(crate) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Returns the version that `stat` tells of.
#[expect(clippy::unnecessary_cast, reason = "the types of these fields differ between architectures")]
pub(crate) fn version_of(stat: &Stat) -> FileVersion {
    FileVersion {
        size: stat.st_size as u64,
        mtime: Some(UnixNanos::from_parts(stat.st_mtime as i64, stat.st_mtime_nsec as i64)),
        etag: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    type Open<'a> = &'a dyn Fn(&OriginPath) -> Result<OwnedFd, OpenError>;

    /// What kernels without `openat2` are left with gives the same answers as the kernel.
    #[test]
    fn path_resolved_by_hand_leads_where_the_kernel_leads() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        fs::create_dir_all(root_path.join("a/b")).unwrap();
        fs::write(root_path.join("a/b/file"), b"inside").unwrap();
        fs::write(dir.path().join("outside"), b"outside").unwrap();
        symlink("a/b/file", root_path.join("link")).unwrap();
        symlink("../a", root_path.join("a/around")).unwrap();
        symlink(dir.path().join("outside"), root_path.join("out")).unwrap();
        symlink("loop", root_path.join("loop")).unwrap();
        let root = open_root(&root_path).unwrap();
        let kernel = |path: &OriginPath| open_beneath(root.as_fd(), &root_path, path, Want::Content);
        let hand = |path: &OriginPath| by_hand(root.as_fd(), &root_path, path, Want::Content);
        for open in [&kernel as Open<'_>, &hand] {
            for inside in ["a/b/file", "link", "a/around/b/file"] {
                let mut text = String::new();
                let fd = open(&OriginPath::new(inside).unwrap()).unwrap();
                File::from(fd).read_to_string(&mut text).unwrap();
                assert_eq!(text, "inside", "{inside}");
            }
            for outside in ["out", "loop", "nothing", "a/b/file/below"] {
                let error = open(&OriginPath::new(outside).unwrap()).unwrap_err();
                assert_eq!(error.kind(), OriginErrorKind::NotFound, "{outside}: {error}");
            }
        }
    }

    #[test]
    fn folder_replaced_by_a_link_is_not_followed_when_opened_as_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(open_folder(root.as_fd(), b"real").is_ok());
        let error = OpenError::from(open_folder(root.as_fd(), b"link").unwrap_err());
        assert!(error.is_nothing());
    }
}
