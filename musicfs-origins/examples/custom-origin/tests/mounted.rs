//! The program beside the origin mounts an archive, and its music is there.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track};

/// Ends the program and its mount with the test.
struct Mounted<'a>(Child, &'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = unmount(self.1);
    }
}

fn unmount(at: &Path) -> bool {
    Command::new("fusermount3").arg("-uq").arg("--").arg(at).status().is_ok_and(|done| done.success())
}

#[test]
fn music_in_an_archive_is_mounted_by_its_tags_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, at) = (dir.path().join("music.tar"), dir.path().join("mnt"));
    fs::create_dir(&at).unwrap();
    let song =
        Track::new(Sample::Flac).title("Low Water").artist("The Lights").album("Tides").to_bytes().unwrap();
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(song.len() as u64);
    builder.append_data(&mut header, "rips/1.flac", &song[..]).unwrap();
    builder.finish().unwrap();

    let mut program = Command::new(env!("CARGO_BIN_EXE_mount-tar"));
    program.arg(&archive).arg(dir.path()).arg(&at);
    let mut mounted = Mounted(program.spawn().unwrap(), &at);
    let shown = at.join("The Lights/Tides/Low Water.flac");
    eventually_blocking("the song to be there", || {
        assert!(mounted.0.try_wait().unwrap().is_none(), "the program has ended");
        shown.exists()
    });
    assert!(fs::read(&shown).unwrap() == song);
    assert!(unmount(&at));
    assert!(mounted.0.wait().unwrap().success());
}
