//! What looking for changes costs a server.

use std::fs;

use musicfs_test_utils::library::{Sample, Track};
use musicfs_tests::home::Home;
use musicfs_tests::request_log::LoggedS3;

/// Objects of the bucket, and of a page of its listing.
const OBJECTS: usize = 5_000;
const PAGE: usize = 1_000;

#[test]
fn rescan_of_s3_costs_pages_of_its_listing_and_nothing_else() {
    let (dir, home) = (tempfile::tempdir().unwrap(), Home::new());
    let bytes = Track::new(Sample::Mp3Vbr).artist("Anna").title("Song").to_bytes().unwrap();
    for n in 0..OBJECTS / 100 {
        let folder = dir.path().join(format!("music/{n:03}"));
        fs::create_dir_all(&folder).unwrap();
        // Covers and the like need not be read.
        fs::write(folder.join("00.mp3"), &bytes).unwrap();
        (1..100).for_each(|file| fs::write(folder.join(format!("{file:02}.jpg")), [n as u8]).unwrap());
    }
    let server = LoggedS3::start(dir.path(), &home);
    let mount = home.mount_configured();
    mount.wait_scanned();
    server.asked();
    let report = mount.rescan(&[]);
    assert_eq!((&report["listed"], &report["unchanged"]), (&OBJECTS.into(), &OBJECTS.into()), "{report}");
    let asked = server.asked();
    assert_eq!(asked.pages, OBJECTS / PAGE, "{asked:#?}");
    // Before and after, the bucket is asked whether it is there.
    assert!(asked.probes <= 2 && asked.others.is_empty(), "{asked:#?}");
    mount.unmount();
}
