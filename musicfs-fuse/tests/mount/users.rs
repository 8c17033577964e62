//! Mounting as a user who is not root, with fusermount3.
//!
//! The tests run this very binary as that user, in a namespace of mounts in which everybody may open `/dev/fuse`,
//! so that nothing of the machine is changed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use musicfs_fuse::{MountOptions, Os, Session, clear_dead_mount, mount_state};

use crate::support::{Library, noise};

/// The user that is not root.
const NOBODY: u32 = 65534;
/// Another, whose programs are not to be taken for the first one's while tests run side by side.
const SOMEBODY: u32 = 65533;
/// Says what a process that was started by a test is to do.
const ROLE: &str = "MUSICFS_FUSE_TEST_ROLE";
/// The test that plays a role.
const PROCESS: &str = "users::process_started_by_another_test";
/// Says where.
const DIR: &str = "MUSICFS_FUSE_TEST_DIR";

/// What this process is to do, and where, when a test started it.
#[expect(clippy::disallowed_methods, reason = "a test tells the process that it starts what to do")]
pub(crate) fn role() -> Option<(String, String)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(DIR).ok()?))
}

/// Makes this binary play a role in a process of its own.
pub(crate) fn play(command: &mut Command, role: &str, dir: &Path) {
    command.args(["--exact", PROCESS, "--nocapture"]);
    command.env(ROLE, role).env(DIR, dir);
}

#[test]
fn process_started_by_another_test() {
    let Some((role, dir)) = role() else { return };
    let dir = Path::new(&dir);
    let library = Library::new();
    library.put_bytes("A/x.flac", &noise(1, 100_000));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mount = |options| Session::mount(library.fs(), dir, options, runtime.handle().clone());
    match role.as_str() {
        "serve" => runtime.block_on(mount(MountOptions::default()).unwrap().ended()),
        "mount-and-unmount" => {
            let session = mount(MountOptions::default()).unwrap();
            assert!(fs::read(dir.join("A/x.flac")).unwrap() == noise(1, 100_000));
            println!("state {:?}", mount_state(&Os::default(), dir, "musicfs", None).unwrap());
            println!("connection {}", session.connection().unwrap());
            println!("passthrough {}", session.stats().passthrough_opens);
            runtime.block_on(session.unmount(Duration::from_secs(10))).unwrap();
            println!("after {:?}", mount_state(&Os::default(), dir, "musicfs", None).unwrap());
        }
        "unmount-while-open" => {
            let session = mount(MountOptions::default()).unwrap();
            let mut open = fs::File::open(dir.join("A/x.flac")).unwrap();
            println!("unmounted {:?}", runtime.block_on(session.unmount(Duration::from_millis(100))));
            println!("read {:?}", open.read(&mut [0; 10]).map_err(|e| e.raw_os_error()));
        }
        "drop" => drop(mount(MountOptions::default()).unwrap()),
        "allow-other" => match mount(MountOptions { allow_other: true, ..MountOptions::default() }) {
            Ok(_) => println!("mounted"),
            Err(error) => println!("refused: {error}"),
        },
        "state" => println!("state {:?}", mount_state(&Os::default(), dir, "musicfs", None).unwrap()),
        "clear" => {
            println!("before {:?}", mount_state(&Os::default(), dir, "musicfs", None).unwrap());
            println!("cleared {:?}", clear_dead_mount(&Os::default(), dir, "musicfs", None).unwrap());
        }
        other => panic!("no such role: {other}"),
    }
}

/// A place for an unprivileged user's mount.
struct Place {
    user: u32,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::of(NOBODY)
    }

    fn of(user: u32) -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        chown(dir.path().join("mnt"), Some(user), Some(user)).unwrap();
        // The user may not reach where it was built.
        fs::copy(std::env::current_exe().unwrap(), dir.path().join("exe")).unwrap();
        Self { user, dir }
    }

    /// Runs a script with `as_user` before a command for the user, and `role NAME` for this binary in a role.
    fn run(&self, script: &str) -> Output {
        let (user, dir) = (self.user, self.dir.path().display());
        let prelude = format!(
            "set -e
            as_user() {{ setpriv --reuid={user} --regid={user} --clear-groups \"$@\"; }}
            role() {{ as_user env {ROLE}=$1 {DIR}={dir}/mnt {dir}/exe --exact {PROCESS} --nocapture; }}
            mounted() {{ grep -q ' {dir}/mnt ' /proc/self/mountinfo; }}
            test -e {dir}/fuse || mknod {dir}/fuse c 10 229; chmod 666 {dir}/fuse; mount --bind {dir}/fuse /dev/fuse
            cd {dir}
            {script}"
        );
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &prelude]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
        output
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unprivileged_user_mounts_reads_and_unmounts_with_fusermount3() {
    let place = Place::new();
    let output = text(&place.run("role mount-and-unmount; ! mounted"));
    assert!(output.contains("state Alive { pid: Some("), "{output}");
    assert!(output.contains("passthrough 0"), "{output}");
    assert!(output.contains("after NotMounted"), "{output}");
    place.run("role drop; ! mounted");
}

#[test]
fn dead_mount_of_an_unprivileged_user_is_cleared_by_that_user() {
    let place = Place::new();
    let output = text(&place.run(
        "role serve >serve.log 2>&1 &
        until mounted; do sleep 0.01; done
        as_user cmp mnt/A/x.flac mnt/A/x.flac
        echo type $(grep ' '$PWD/mnt' ' /proc/self/mountinfo | cut -d' ' -f7-9)
        # Nobody else may look in, not even root.
        ls mnt/A 2>/dev/null && exit 9
        pid=$(as_user pgrep -u nobody -f \"$PWD/exe\" | head -1)
        kill -9 $pid
        while kill -0 $pid 2>/dev/null && ! grep -q '^State:.Z' /proc/$pid/status 2>/dev/null; do sleep 0.01; done
        mounted
        role clear
        ! mounted",
    ));
    assert!(output.contains("fuse.musicfs musicfs"), "{output}");
    assert!(output.contains("before Dead"), "{output}");
    assert!(output.contains("cleared Unmounted(1)"), "{output}");
}

#[test]
fn program_that_still_reads_after_the_limit_is_cut_off_where_the_kernel_lets_us() {
    let place = Place::new();
    let connections = "mount -t fusectl none /sys/fs/fuse/connections";
    let root = format!("{ROLE}=unmount-while-open {DIR}=$PWD/mnt ./exe --exact {} --nocapture", PROCESS);
    for script in [format!("{connections}; {root}"), format!("{connections}; role unmount-while-open")] {
        let output = text(&place.run(&format!("{script}; ! mounted")));
        assert!(output.contains("unmounted Ok(())"), "{output}");
        assert!(output.contains(&format!("read Err(Some({}))", nix::libc::ENOTCONN)), "{output}");
    }
}

#[test]
fn mount_of_a_program_with_a_capability_is_never_taken_for_dead() {
    let place = Place::of(SOMEBODY);
    // What such a program has open cannot be seen by its own user.
    let output = text(&place.run(
        "setcap cap_sys_admin+ep exe
        role serve >serve.log 2>&1 &
        until mounted; do sleep 0.01; done
        cp exe plain
        as_user env MUSICFS_FUSE_TEST_ROLE=state MUSICFS_FUSE_TEST_DIR=$PWD/mnt $PWD/plain \\
            --exact users::process_started_by_another_test --nocapture
        umount mnt",
    ));
    assert!(output.contains("state Alive { pid: None"), "{output}");
}

#[test]
fn allow_other_that_is_not_allowed_says_which_line_to_add() {
    let place = Place::new();
    // A configuration of our own, whatever the machine's says.
    let output = text(&place.run(
        "echo '# nothing' >fuse.conf; mount --bind fuse.conf /etc/fuse.conf; role allow-other; ! mounted
        echo user_allow_other >fuse.conf; role allow-other; ! mounted",
    ));
    assert!(output.contains("refused: allow_other is not allowed to users here"), "{output}");
    assert!(output.contains("'user_allow_other' to /etc/fuse.conf"), "{output}");
    assert!(output.contains("\nmounted\n"), "{output}");
}

#[test]
fn device_that_may_not_be_opened_is_named() {
    let place = Place::new();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg(format!(
            "cd {dir}; mknod fuse c 10 229; chmod 600 fuse; mount --bind fuse /dev/fuse
            {ROLE}=allow-other {DIR}={dir}/mnt exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups \
            {dir}/exe --exact {PROCESS} --nocapture",
            dir = place.dir.path().display()
        ))
        .output()
        .unwrap();
    assert!(text(&output).contains("chmod 666 /dev/fuse"), "{output:?}");
}
