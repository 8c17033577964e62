//! A file that never answers harms itself only.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::thread;

use musicfs_core::AudioMeta;
use musicfs_test_utils::library::noise_flac;
use musicfs_test_utils::{FaultyFs, eventually_blocking};
use musicfs_tests::files;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use nix::errno::Errno;

/// Size of each file: far more than what is read ahead when its tags are.
const SIZE: usize = 6 << 20;
/// Name of the file that hangs, on its origin.
const STUCK: &str = "2.flac";

struct Case {
    nas: FaultyFs,
    origin: PathBuf,
}

impl Case {
    fn new(home: &Home) -> Self {
        let origin = home.folder("nas");
        fs::create_dir(&origin).unwrap();
        let file = |n: u32| {
            let audio = AudioMeta {
                title: Some(format!("Song {n}")),
                artists: vec!["A".into()],
                album: Some("L".into()),
                track: Some(n),
                ..AudioMeta::default()
            };
            (format!("{n}.flac"), noise_flac(&audio, SIZE))
        };
        let nas = FaultyFs::mount(&origin, (1..=4).map(file)).unwrap();
        Self { nas, origin }
    }
}

fn stuck(mount: &Mount<'_>) -> PathBuf {
    mount.join("A/L/02 - Song 2.flac")
}

fn others(mount: &Mount<'_>) -> Vec<PathBuf> {
    [1, 3, 4].iter().map(|n| mount.join(format!("A/L/0{n} - Song {n}.flac"))).collect()
}

#[test]
fn readers_of_a_hung_file_get_an_error_while_all_others_go_on() {
    let home = Home::new();
    let case = Case::new(&home);
    let mount = home.mount_with(&case.origin, &["--local-deadline", "4s", "--remote-deadline", "4s"]);
    case.nas.hang(STUCK);
    let reader = thread::spawn({
        let path = stuck(&mount);
        move || fs::read(path)
    });
    eventually_blocking("a read to hang", || case.nas.waiting() > 0);
    assert_eq!(files::files(&mount.at()).len(), 4);
    for path in others(&mount) {
        assert_eq!(fs::metadata(&path).unwrap().len(), fs::read(&path).unwrap().len() as u64);
    }
    assert!(fs::metadata(stuck(&mount)).unwrap().len() > 0);
    assert_eq!(mount.status()["state"], "ready");
    assert!(!reader.is_finished(), "the others had to wait for the hung one");
    let error: io::Error = reader.join().unwrap().unwrap_err();
    let expected = error.kind() == ErrorKind::TimedOut || error.raw_os_error() == Some(Errno::EIO as i32);
    assert!(expected, "{error}");
    mount.unmount();
}

#[test]
fn reader_of_a_hung_file_can_be_killed() {
    let home = Home::new();
    let case = Case::new(&home);
    // Longer than the test waits.
    let mount = home.mount_with(
        &case.origin,
        &["--local-deadline", "300s", "--remote-deadline", "300s", "--drain-limit", "1s"],
    );
    case.nas.hang(STUCK);
    let mut reader = std::process::Command::new("cat")
        .arg(stuck(&mount))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually_blocking("a read to hang", || case.nas.waiting() > 0);
    reader.kill().unwrap();
    eventually_blocking("the reader to be gone", || reader.try_wait().unwrap().is_some());
    for path in others(&mount) {
        fs::read(&path).unwrap();
    }
    mount.unmount();
}

#[test]
fn many_readers_of_a_hung_file_do_not_use_up_what_others_need() {
    let home = Home::new();
    let case = Case::new(&home);
    let mount = home
        .mount_with(&case.origin, &["--local-deadline", "4s", "--remote-deadline", "4s", "--no-passthrough"]);
    case.nas.hang(STUCK);
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let path = stuck(&mount);
            thread::spawn(move || fs::read(path))
        })
        .collect();
    eventually_blocking("a read to hang", || case.nas.waiting() > 0);
    for path in others(&mount) {
        assert_eq!(fs::metadata(&path).unwrap().len(), fs::read(&path).unwrap().len() as u64);
    }
    for reader in readers {
        assert!(reader.join().unwrap().is_err());
    }
    mount.unmount();
}
