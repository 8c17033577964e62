//! Whatever would write is refused with EROFS.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::support::Library;

fn erofs<T: std::fmt::Debug>(what: &str, result: io::Result<T>) {
    match result {
        Err(error) if error.raw_os_error() == Some(nix::libc::EROFS) => {}
        other => panic!("{what}: {other:?}"),
    }
}

fn of_nix<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}

#[test]
fn every_operation_that_writes_gives_erofs() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"music");
    library.put_bytes("A/y.flac", b"music");
    let mounted = library.mount();
    let (dir, file, new) = (mounted.at("A"), mounted.at("A/x.flac"), mounted.at("A/new"));
    let open = |options: &mut OpenOptions, path: &Path| options.open(path);

    erofs("open for writing", open(OpenOptions::new().write(true), &file));
    erofs("open for both", open(OpenOptions::new().read(true).write(true), &file));
    erofs("open for appending", open(OpenOptions::new().append(true), &file));
    erofs("open truncating", open(OpenOptions::new().write(true).truncate(true), &file));
    erofs("create", open(OpenOptions::new().write(true).create_new(true), &new));
    erofs("mkdir", fs::create_dir(&new));
    erofs("rmdir", fs::remove_dir(&dir));
    erofs("unlink", fs::remove_file(&file));
    erofs("rename", fs::rename(&file, &new));
    erofs("rename over", fs::rename(&file, mounted.at("A/y.flac")));
    erofs("link", fs::hard_link(&file, &new));
    erofs("symlink", std::os::unix::fs::symlink(&file, &new));
    erofs("chmod", fs::set_permissions(&file, fs::Permissions::from_mode(0o644)));
    erofs("chown", std::os::unix::fs::chown(&file, Some(1), Some(1)));
    erofs("truncate", of_nix(nix::unistd::truncate(&file, 0)));
    erofs("mknod", of_nix(mknod(&new, SFlag::S_IFREG, Mode::empty(), 0)));
    erofs("mkfifo", of_nix(nix::unistd::mkfifo(&new, Mode::empty())));
    let now = TimeSpec::UTIME_NOW;
    let cwd = nix::fcntl::AT_FDCWD;
    erofs("utimens", of_nix(utimensat(cwd, &file, &now, &now, UtimensatFlags::FollowSymlink)));
    erofs("setxattr", xattr(&file, Xattr::Set));
    erofs("removexattr", xattr(&file, Xattr::Remove));
    erofs("access for writing", of_nix(nix::unistd::access(&file, nix::unistd::AccessFlags::W_OK)));

    // Through a handle that may only read.
    let handle = File::open(&file).unwrap();
    let refused = nix::fcntl::fallocate(&handle, nix::fcntl::FallocateFlags::empty(), 0, 10);
    assert!(matches!(refused, Err(Errno::EBADF | Errno::EROFS)), "{refused:?}");
    erofs("futimens", of_nix(nix::sys::stat::futimens(&handle, &now, &now)));
    erofs("fchmod", of_nix(nix::sys::stat::fchmod(&handle, Mode::empty())));

    assert_eq!(fs::read(&file).unwrap(), b"music");
    assert_eq!(fs::metadata(&file).unwrap().mode(), 0o100_444);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

enum Xattr {
    Set,
    Remove,
}

#[expect(unsafe_code, reason = "there is no safe wrapper for these system calls at hand")]
fn xattr(path: &Path, what: Xattr) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = c"user.musicfs.id";
    // SAFETY: all pointers are to strings that end with NUL and outlive the calls.
    let result = unsafe {
        match what {
            Xattr::Set => nix::libc::setxattr(path.as_ptr(), name.as_ptr(), c"x".as_ptr().cast(), 1, 0),
            Xattr::Remove => nix::libc::removexattr(path.as_ptr(), name.as_ptr()),
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
