//! A file that is replaced again and again while programs read it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use musicfs_core::AudioMeta;
use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::noise_flac;

/// Bytes of the shortest version.
const LEN: usize = 400_000;
/// Programs that read at the same time.
const READERS: usize = 3;

/// Maps a file into memory again and again, and says what it holds each time.
const MAPPER: &str = "
import hashlib, mmap, sys
while True:
    try:
        with open(sys.argv[1], 'rb') as file:
            size = file.seek(0, 2)
            with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
                print(size, hashlib.sha256(mapped[:]).hexdigest(), flush=True)
    except OSError:
        pass
";

/// Makes versions of one track, each of its own length and content.
pub fn versions(count: usize) -> Vec<Vec<u8>> {
    let audio = AudioMeta {
        artists: vec!["Anna".into()],
        album: Some("News".into()),
        title: Some("Song".into()),
        track: Some(1),
        ..AudioMeta::default()
    };
    let version = |n: usize| {
        // Now longer, now shorter than the one before.
        let mut bytes = noise_flac(&audio, LEN + (n * 7 % 5) * 50_001 + n * 4096);
        let len = bytes.len();
        bytes[len / 2..].iter_mut().for_each(|byte| *byte ^= n as u8);
        bytes
    };
    (0..count).map(version).collect()
}

/// What becomes of who has a version open that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It is read to its end: its bytes are still there.
    PlaysOn,
    /// It may fail with ESTALE.
    MayFail,
}

/// Replaces the file that is shown at `path` with each version after the first, which is there, by `replace`, while
/// programs read it and map it into memory. Whatever anybody reads must be a whole version, or fail with ESTALE where it
/// was replaced since it was opened; once a version is known, those who open the file read it.
///
/// # Panics
/// When somebody read anything else.
pub fn read_while_replaced(path: &Path, versions: &[Vec<u8>], fate: Old, mut replace: impl FnMut(&[u8])) {
    let ended = AtomicBool::new(false);
    let mapper = Mapper::start(path);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| scope.spawn(|| while_not(&ended, || usize::from(read_one(path, versions)))))
            .collect();
        let ended = SetAtEnd(&ended);
        for pair in versions.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            let open = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            replace(new);
            eventually_blocking("the new version", || fs::read(path).is_ok_and(|read| read == *new));
            let size = fs::metadata(path).map(|meta| meta.len()).ok();
            assert_eq!(size, Some(new.len() as u64), "the size is another's");
            read_old(open, old, fate);
        }
        drop(ended);
        let whole: usize = readers.into_iter().map(|reader| reader.join().unwrap_or(0)).sum();
        assert!(whole > 0, "nobody read a whole version");
    });
    mapper.end(versions);
}

/// Ends the readers, however the one who replaces ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn while_not(ended: &AtomicBool, mut work: impl FnMut() -> usize) -> usize {
    let mut sum = 0;
    while !ended.load(Ordering::SeqCst) {
        sum += work();
    }
    sum
}

/// Reads the file as a program does, and tells whether it got a version.
fn read_one(path: &Path, versions: &[Vec<u8>]) -> bool {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => {
            let found = versions.contains(&bytes);
            assert!(found, "{} bytes that are no version: {}", bytes.len(), describe(&bytes, versions));
            true
        }
        Err(error) if error.kind() == ErrorKind::StaleNetworkFileHandle => false,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Reads the file that is shown at `path` from its start to its end, while `overwrite` puts others in the place of the
/// `old` bytes. Tells whether that ended with ESTALE, and not with all of the old ones.
///
/// # Panics
/// When anything else was read.
pub fn read_while_overwritten(path: &Path, old: &[u8], overwrite: impl FnOnce()) -> bool {
    let begun = AtomicBool::new(false);
    let mut got = vec![0; old.len() / 8];
    let ended = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let started = File::open(path).and_then(|mut file| file.read_exact(&mut got).map(|()| file));
            begun.store(true, Ordering::SeqCst);
            started?.read_to_end(&mut got)
        });
        eventually_blocking("the file to be read", || begun.load(Ordering::SeqCst));
        overwrite();
        reader.join().unwrap_or_else(|_| panic!("the reader panicked"))
    });
    assert!(old.starts_with(&got), "{} bytes that are not the old ones", got.len());
    match ended {
        Ok(_) => assert_eq!(got.len(), old.len(), "it ended early"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::StaleNetworkFileHandle, "{error}"),
    }
    got.len() < old.len()
}

fn describe(bytes: &[u8], versions: &[Vec<u8>]) -> String {
    let alike = |version: &Vec<u8>| version.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    let each: Vec<_> = versions.iter().map(|version| (alike(version), version.len())).collect();
    format!("alike for so many of so many bytes: {each:?}")
}

/// Reads a handle whose file was replaced.
fn read_old(mut open: File, old: &[u8], fate: Old) {
    let mut bytes = Vec::new();
    let size = open.metadata().map(|meta| meta.len()).ok();
    assert_eq!(size, Some(old.len() as u64), "an open file has another size");
    match open.read_to_end(&mut bytes) {
        Ok(_) => assert!(bytes == *old, "{} bytes, not the {} of the version opened", bytes.len(), old.len()),
        Err(error) => {
            assert_eq!((error.kind(), fate), (ErrorKind::StaleNetworkFileHandle, Old::MayFail), "{error}");
        }
    }
}

/// A process that maps the file: where a page cannot be had it is ended by a signal, and begins again.
struct Mapper {
    shell: Child,
    said: BufReader<ChildStdout>,
    /// What it mapped first, before anything was replaced.
    first: String,
}

impl Mapper {
    fn start(path: &Path) -> Self {
        let mut command = Command::new("setsid");
        command.args(["bash", "-c", "while true; do python3 -c \"$0\" \"$1\"; done", MAPPER]).arg(path);
        let shell = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut shell = shell.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = BufReader::new(shell.stdout.take().unwrap_or_else(|| panic!("no output")));
        let mut mapper = Self { shell, said, first: String::new() };
        mapper.said.read_line(&mut mapper.first).unwrap_or_else(|error| panic!("{error}"));
        mapper
    }

    /// Ends it and looks at what it saw.
    fn end(mut self, versions: &[Vec<u8>]) {
        self.kill();
        let mut text = std::mem::take(&mut self.first);
        self.said.read_to_string(&mut text).unwrap_or_else(|error| panic!("{error}"));
        // What was being said when it ended may be cut.
        let (lines, _) = text.rsplit_once('\n').unwrap_or_default();
        assert!(!lines.is_empty(), "nothing was mapped");
        for line in lines.lines().collect::<BTreeSet<_>>() {
            let (size, sum) = line.split_once(' ').unwrap_or_else(|| panic!("said {line}"));
            let size: usize = size.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            let mapped = |version: &Vec<u8>| version.len() == size && sha256(version) == sum;
            assert!(versions.iter().any(mapped), "mapped memory held no version");
        }
    }

    fn kill(&mut self) {
        // It leads a session, and so a group, of its own.
        let group = nix::unistd::Pid::from_raw(-(self.shell.id() as i32));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.shell.wait();
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        self.kill();
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sha256sum: {error}"));
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(bytes));
    assert!(matches!(written, Some(Ok(()))), "sha256sum takes nothing");
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("sha256sum: {error}"));
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned()
}
