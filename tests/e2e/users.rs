//! Users without privileges.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use musicfs_tests::home::Home;
use musicfs_tests::mount::is_mounted;
use musicfs_tests::run;

use crate::demo;

const DEVICE: &str = "/dev/fuse";
/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;

/// Lets everyone open `/dev/fuse`, as udev does on a real machine, and puts it back.
struct OpenDevice {
    before: Permissions,
    _alone: File,
}

impl OpenDevice {
    fn new() -> Self {
        // Tests that change the device take turns, whichever process they are in.
        let alone = File::create(std::env::temp_dir().join("musicfs-tests-device.lock")).unwrap();
        alone.lock().unwrap();
        let before = fs::metadata(DEVICE).unwrap().permissions();
        fs::set_permissions(DEVICE, Permissions::from_mode(0o666)).unwrap();
        Self { before, _alone: alone }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = fs::set_permissions(DEVICE, self.before.clone());
    }
}

#[test]
fn user_without_privileges_mounts_reads_and_unmounts() {
    // Whoever runs the tests without being root is such a user already.
    let is_root = nix::unistd::geteuid().is_root();
    let (music, _device) = (demo(), is_root.then(OpenDevice::new));
    let home = if is_root { Home::of_user(NOBODY) } else { Home::new() };
    fs::set_permissions(music.path(), Permissions::from_mode(0o755)).unwrap();
    let mount = home.mount(music.path());
    // Not even root may look into another user's mount, so the user does.
    let mut find = home.prepare("find");
    find.arg(mount.at()).args(["-type", "f", "-printf", "%P\\n"]);
    assert_eq!(run::succeed(find).lines().count(), 41);
    let mut compare = home.prepare("cmp");
    compare.arg(mount.join("The Doubles/Alike/01 - Twin.mp3")).arg(music.path().join("twins/one/twin.mp3"));
    run::succeed(compare);
    mount.unmount();
    assert!(!is_mounted(&home.mountpoint()));
}
