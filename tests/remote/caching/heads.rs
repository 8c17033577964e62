//! What a scan for tags has read need not be fetched for those who look at files next.

use std::fs::File;
use std::io::Read;

use musicfs_tests::home::Home;

use super::{asked, number, state};
use crate::served::{Kind, Served};

const TRACK: usize = 3 << 20;
const TRACKS: u32 = 12;
/// How much of a file is looked at.
const LOOK: usize = 64 << 10;

fn heads_cost_nothing_after_the_scan(kind: Kind) {
    let (mut served, home) = (Served::empty(kind), Home::new());
    let album = served.add_album("Seen", TRACKS, TRACK);
    home.configure(&format!("cache_size = \"64MiB\"\n{}", served.table("nas", "")));
    let mount = home.mount_configured();
    mount.wait_scanned();
    let look = |mount: &musicfs_tests::mount::Mount<'_>| {
        for (path, bytes) in &album {
            let mut seen = vec![0; LOOK];
            File::open(mount.join(path)).unwrap().read_exact(&mut seen).unwrap();
            assert!(seen == bytes[..LOOK], "{} differs", path.display());
        }
    };
    let before = asked(&mount);
    look(&mount);
    assert_eq!((asked(&mount), number(&mount, "fetched")), (before, 0), "heads were fetched again");
    assert_eq!(state(&mount, &album[0].0).as_deref(), Some("partial"));
    let kept = number(&mount, "size");
    assert!(kept <= u64::from(TRACKS) << 18, "{kept} bytes were kept of {TRACKS} files");
    mount.unmount();
    // The same after a restart, with nobody there to be asked.
    served.kill();
    let mount = home.mount_configured();
    look(&mount);
    mount.unmount();
}

#[test]
fn heads_of_files_on_an_ssh_server_cost_nothing_after_the_scan() {
    heads_cost_nothing_after_the_scan(Kind::Sftp);
}

#[test]
fn heads_of_files_on_webdav_cost_nothing_after_the_scan() {
    heads_cost_nothing_after_the_scan(Kind::Webdav);
}
