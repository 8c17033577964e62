//! Nothing is ever written: not to the tree, not to the origin.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::run;
use nix::errno::Errno;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, access, mkfifo, truncate};

use crate::demo;

fn errno<T>(result: nix::Result<T>) -> io::Result<()> {
    result.map(drop).map_err(io::Error::from)
}

#[test]
fn every_write_call_gives_erofs() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let folder = mount.join("The Harbour Lights/Low Water");
    let file = folder.join("01 - Low Water.flac");
    let new = folder.join("new");
    let open = |options: &mut OpenOptions| options.open(&file).map(drop);
    let now = TimeSpec::new(1, 0);
    let times = utimensat(nix::fcntl::AT_FDCWD, &file, &now, &now, UtimensatFlags::FollowSymlink);
    let calls: Vec<(&str, io::Result<()>)> = vec![
        ("open to write", open(OpenOptions::new().write(true))),
        ("open to append", open(OpenOptions::new().append(true))),
        ("open and cut", open(OpenOptions::new().write(true).truncate(true))),
        ("create", File::create(&new).map(drop)),
        ("create anew", File::create_new(&new).map(drop)),
        ("mkdir", fs::create_dir(&new)),
        ("rmdir", fs::remove_dir(&folder)),
        ("unlink", fs::remove_file(&file)),
        ("rename", fs::rename(&file, &new)),
        ("rename folder", fs::rename(&folder, mount.join("new"))),
        ("link", fs::hard_link(&file, &new)),
        ("symlink", symlink("x", &new)),
        ("mknod", errno(mkfifo(&new, Mode::S_IRUSR))),
        ("chmod", fs::set_permissions(&file, Permissions::from_mode(0o777))),
        ("chown", chown(&file, Some(1), Some(1))),
        ("truncate", errno(truncate(&file, 0))),
        ("utimens", errno(times)),
        ("setxattr", xattr::set(&file, "user.musicfs.id", b"1")),
        ("setxattr of another", xattr::set(&file, "user.mine", b"1")),
        ("removexattr", xattr::remove(&file, "user.musicfs.id")),
        ("access", errno(access(&file, AccessFlags::W_OK))),
        ("access of a folder", errno(access(&folder, AccessFlags::W_OK))),
    ];
    for (call, result) in calls {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::EROFS as i32), "{call}");
    }
    errno(access(&file, AccessFlags::R_OK)).unwrap();
}

#[test]
fn origin_is_the_same_to_the_byte_after_all_that_was_done_to_the_tree() {
    let (music, home) = (demo(), Home::new());
    let before = files::snapshot(music.path());
    let mount = home.mount(music.path());
    for path in files::files(&mount.at()) {
        let path = mount.join(path);
        fs::read(&path).unwrap();
        assert!(OpenOptions::new().write(true).open(&path).is_err());
        assert!(fs::remove_file(&path).is_err());
    }
    let mut copy = home.prepare("cp");
    copy.arg("-a").arg(mount.at()).arg(home.folder("copy"));
    run::succeed(copy);
    mount.rescan(&["--full"]);
    mount.unmount();
    home.mount(music.path()).unmount();
    assert_eq!(files::snapshot(music.path()), before);
}
