//! How a mount ends, and what it leaves.

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use musicfs_core::{Clock, SystemClock};
use musicfs_fuse::{
    Cleared, LivenessError, MountError, MountOptions, MountState, Os, Session, clear_dead_mount, mount_state,
};

use crate::support::{Library, Mounted};
use crate::users::play;

const NAME: &str = "musicfs";

fn state(mounted: &Mounted) -> MountState {
    mount_state(&Os::default(), mounted.path(), NAME, None).unwrap()
}

fn run(program: &str, args: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn live_mount_is_alive_and_gone_after_it_was_unmounted() {
    let library = Library::new();
    let mut mounted = library.mount();
    let expected =
        MountState::Alive { pid: Some(std::process::id()), connection: mounted.session().connection() };
    assert_eq!(state(&mounted), expected);
    mounted.unmount(Duration::from_secs(10)).unwrap();
    assert_eq!(state(&mounted), MountState::NotMounted);
}

#[test]
fn mount_shows_as_read_only_under_its_name() {
    let library = Library::new();
    let mounted = library.mount();
    let table = Os::default().mount_table().unwrap();
    let entry = table.top(mounted.path()).unwrap();
    assert!(entry.is_ours(NAME));
    assert_eq!(entry.fs_type, "fuse.musicfs");
    let flags = nix::sys::statvfs::statvfs(mounted.path()).unwrap().flags();
    use nix::sys::statvfs::FsFlags;
    assert!(
        flags.contains(FsFlags::ST_RDONLY | FsFlags::ST_NOSUID | FsFlags::ST_NODEV | FsFlags::ST_NOATIME)
    );
}

#[test]
fn second_mount_at_the_same_place_is_refused() {
    let library = Library::new();
    let mounted = library.mount();
    let runtime = mounted.runtime();
    let again = Session::mount(library.fs(), mounted.path(), MountOptions::default(), runtime);
    assert!(matches!(again, Err(MountError::AlreadyMounted { .. })));
    assert!(matches!(state(&mounted), MountState::Alive { .. }));
}

#[test]
fn mount_point_that_is_not_there_or_no_directory_is_refused() {
    let library = Library::new();
    let mounted = library.mount();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for bad in ["missing", "file", "missing/below"] {
        let refused =
            Session::mount(library.fs(), &dir.path().join(bad), MountOptions::default(), mounted.runtime());
        assert!(matches!(refused, Err(MountError::Mountpoint { .. })), "{bad}");
    }
}

#[test]
fn unmounting_with_a_file_open_does_not_hang() {
    let library = Library::new();
    library.put_bytes("x.flac", b"music");
    let mut mounted = library.mount();
    let mut open = File::open(mounted.at("x.flac")).unwrap();
    let clock = SystemClock::new();
    let limit = Duration::from_millis(300);
    let result = mounted.unmount(limit);
    assert!(clock.now().0 >= limit && clock.now().0 < Duration::from_secs(10));
    assert_eq!(state(&mounted), MountState::NotMounted);
    let mut read = String::new();
    match result {
        // The kernel's control files are there: the reader was cut off.
        Ok(()) => assert!(open.read_to_string(&mut read).is_err()),
        Err(MountError::StillOpen { .. }) => {
            open.read_to_string(&mut read).unwrap();
            assert_eq!(read, "music");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn unmounting_from_outside_ends_the_session() {
    let library = Library::new();
    let mut mounted = library.mount();
    run("umount", &[mounted.path().as_os_str()]);
    mounted.block_on(mounted.session().ended());
    mounted.unmount(Duration::from_secs(10)).unwrap();
}

#[test]
fn lazy_unmount_from_outside_leaves_the_session_out_of_the_tree() {
    let library = Library::new();
    library.put_bytes("x.flac", b"music");
    let mut mounted = library.mount();
    let mut open = File::open(mounted.at("x.flac")).unwrap();
    assert!(mounted.session().is_in_tree());
    run("umount", &["-l".as_ref(), mounted.path().as_os_str()]);
    assert!(!mounted.session().is_in_tree());
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!(read, "music");
    drop(open);
    mounted.block_on(mounted.session().ended());
    mounted.unmount(Duration::from_secs(10)).unwrap();
}

#[test]
fn what_somebody_else_mounted_instead_is_left_alone() {
    let library = Library::new();
    let mut mounted = library.mount();
    run("umount", &[mounted.path().as_os_str()]);
    mounted.block_on(mounted.session().ended());
    let tmpfs = Tmpfs::mount(&mounted);
    mounted.unmount(Duration::from_secs(10)).unwrap();
    assert_eq!(state(&mounted), MountState::Foreign);
    let cleared = clear_dead_mount(&Os::default(), mounted.path(), NAME, None);
    assert!(matches!(cleared, Err(LivenessError::Foreign { .. })));
    drop(tmpfs);
    assert_eq!(state(&mounted), MountState::NotMounted);
}

#[test]
fn what_somebody_else_mounted_over_it_is_left_alone() {
    let library = Library::new();
    let mut mounted = library.mount();
    let tmpfs = Tmpfs::mount(&mounted);
    let covered = mounted.unmount(Duration::from_millis(10));
    assert!(matches!(covered, Err(MountError::Covered { .. })), "{covered:?}");
    assert_eq!(state(&mounted), MountState::Foreign);
    drop(tmpfs);
    // The session is gone without its mount; what is left is ours to clear.
    nix::mount::umount2(mounted.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(over: &Mounted) -> Self {
        let args = ["-t", "tmpfs", "none"].map(std::ffi::OsStr::new);
        run("mount", &[&args[..], &[over.path().as_os_str()]].concat());
        Self(over.path().to_path_buf())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn dropping_a_session_unmounts() {
    let library = Library::new();
    let mut mounted = library.mount();
    mounted.drop_session();
    assert_eq!(state(&mounted), MountState::NotMounted);
}

#[test]
fn living_mount_is_never_cleared() {
    let library = Library::new();
    let mounted = library.mount();
    let cleared = clear_dead_mount(&Os::default(), mounted.path(), NAME, None);
    assert!(matches!(cleared, Err(LivenessError::Alive { .. })));
    assert!(matches!(state(&mounted), MountState::Alive { .. }));
    let beside = mounted.path().with_file_name("musicfs fuse ");
    let cleared = clear_dead_mount(&Os::default(), &beside, NAME, None).unwrap();
    assert_eq!(cleared, Cleared::Nothing);
}

#[test]
fn mount_of_a_killed_daemon_is_dead_and_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let os = Os::default();
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    play(&mut daemon, "serve", dir.path());
    let mut daemon = daemon.spawn().unwrap();
    let state = || mount_state(&os, dir.path(), NAME, None).unwrap();
    musicfs_test_utils::eventually_blocking("the daemon serves", || dir.path().join("A/x.flac").exists());
    assert!(matches!(state(), MountState::Alive { pid: Some(pid), .. } if pid == daemon.id()));
    let open = File::open(dir.path().join("A/x.flac")).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(matches!(state(), MountState::Dead { .. }), "{:?}", state());
    assert!(matches!(
        Session::mount(
            Library::new().fs(),
            dir.path(),
            MountOptions::default(),
            tokio::runtime::Runtime::new().unwrap().handle().clone()
        ),
        Err(MountError::AlreadyMounted { state: MountState::Dead { .. }, .. })
    ));
    assert_eq!(clear_dead_mount(&os, dir.path(), NAME, None).unwrap(), Cleared::Unmounted(1));
    assert_eq!(state(), MountState::NotMounted);
    drop(open);
}
