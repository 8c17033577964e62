//! A folder with every name that needs care, and what any origin must make of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use musicfs_core::{
    ByteRange, FileVersion, Origin, OriginEntry, OriginErrorKind, OriginPath, ScanPage, ScanRequest,
};
use musicfs_test_utils::fault_proxy::{Direction, FaultProxy, Toxic};
use tempfile::TempDir;

/// Names that one protocol or another has to escape.
const NAMES: [&str; 18] = [
    "plain.flac",
    "with space.flac",
    " edge .flac",
    "hash # mark.flac",
    "per%20cent %41.flac",
    "what?.flac",
    "plus + and.flac",
    "semi;colon.flac",
    "single 'quote'.flac",
    "double \"quote\".flac",
    "back\\slash.flac",
    "amp & er [sand] {x}.flac",
    "~tilde.flac",
    "日本語の曲.flac",
    "nfc é.flac",
    "nfd e\u{301}.flac",
    ".hidden.flac",
    "🎵.flac",
];
/// The length of the one file that takes several requests.
pub(crate) const LONG: usize = 3_000_017;

/// What a line does to a connection on a bad day: nothing arrives at once, and nothing in one piece.
pub(crate) const BAD_LINE: [Toxic; 2] = [
    Toxic::Latency(Duration::from_millis(3)),
    Toxic::Slicer { size: 1021, delay: Duration::from_micros(50) },
];

/// A folder on this machine that a server serves.
pub(crate) struct Tree {
    dir: TempDir,
}

impl Tree {
    /// Makes the folder; with `raw` also names that are not UTF-8.
    pub(crate) fn new(raw: bool) -> Self {
        Self::of(&NAMES, raw)
    }

    /// Makes the folder with only such names as pass `keep`.
    pub(crate) fn filtered(keep: impl Fn(&str) -> bool) -> Self {
        let names: Vec<&str> = NAMES.into_iter().filter(|name| keep(name)).collect();
        Self::of(&names, false)
    }

    fn of(names: &[&str], raw: bool) -> Self {
        let tree = Self { dir: TempDir::new().unwrap() };
        for (n, name) in names.iter().enumerate() {
            tree.write(name.as_bytes(), &content(n as u64, 100 + n * 977));
            let folder = name.trim_end_matches(".flac");
            tree.write(format!("{folder} dir/cd 1/{name}").as_bytes(), &content(n as u64 + 100, 10 + n));
        }
        if raw {
            tree.write(b"raw \xff\xfe/\xe9t\xe9.flac", &content(77, 1234));
        }
        tree.write(b"empty.flac", b"");
        tree.write(b"long.flac", &content(5, LONG));
        for n in 0..300 {
            tree.write(format!("many/{n:04}.flac").as_bytes(), &content(n, 3));
        }
        std::fs::create_dir_all(tree.root().join("no files/at all")).unwrap();
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.root().join(OsStr::from_bytes(path))
    }

    /// Writes a file, dated in the past, so that a later change shows where times are whole seconds.
    pub(crate) fn write(&self, path: &[u8], bytes: &[u8]) {
        let path = self.on_disk(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        set_age(&path, 1000);
    }

    /// Returns what is there: paths with their contents.
    pub(crate) fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(self.root(), self.root(), &mut found);
        found
    }
}

/// Dates a file so many seconds back.
pub(crate) fn set_age(path: &Path, seconds: u64) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file is dated by the clock of the machine it is on")]
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// Makes bytes that differ at every offset and between seeds.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub(crate) fn path(bytes: impl AsRef<[u8]>) -> OriginPath {
    OriginPath::new(bytes).unwrap()
}

/// Lists everything, and checks what holds of any listing.
pub(crate) async fn listing(origin: &dyn Origin) -> Vec<OriginEntry> {
    let pages = pages(origin, ScanRequest::all()).await;
    assert!(pages.last().unwrap().complete, "the last page does not say that it is the last");
    assert!(pages.iter().rev().skip(1).all(|page| !page.complete), "a page but the last says so");
    for page in &pages {
        assert!(page.unlisted.is_empty(), "{:?}", page.unlisted);
    }
    pages.into_iter().flat_map(|page| page.entries).collect()
}

pub(crate) async fn pages(origin: &dyn Origin, request: ScanRequest) -> Vec<ScanPage> {
    origin.scan(request).map(|page| page.unwrap_or_else(|e| panic!("{e}: {:?}", e.source))).collect().await
}

pub(crate) async fn read(
    origin: &dyn Origin,
    path: &OriginPath,
    version: &FileVersion,
    range: ByteRange,
) -> Bytes {
    let read = origin.read(path, version, range).await;
    read.unwrap_or_else(|e| panic!("{e}: {:?}", e.source))
}

pub(crate) async fn version_of(origin: &dyn Origin, path: &OriginPath) -> FileVersion {
    origin.stat(path).await.unwrap_or_else(|e| panic!("{e}: {:?}", e.source)).version
}

/// Checks listing, looking and reading of everything in the tree.
pub(crate) async fn serves_all(origin: &dyn Origin, tree: &Tree) {
    let expected = tree.files();
    let entries = listing(origin).await;
    let names: Vec<&[u8]> = entries.iter().map(|entry| entry.path.as_bytes()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let wanted: Vec<&[u8]> = expected.keys().map(Vec::as_slice).collect();
    assert_eq!(
        sorted.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>(),
        wanted.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>()
    );
    assert_eq!(sorted, wanted);
    let again: Vec<OriginEntry> = listing(origin).await;
    assert_eq!(entries, again, "the order is not fixed");
    for entry in entries {
        if entry.path.is_within(&path("many")) {
            continue;
        }
        let bytes = &expected[entry.path.as_bytes()];
        assert_eq!(entry.version.size, bytes.len() as u64, "{}", entry.path);
        assert!(entry.version.mtime.is_some(), "{} has no time", entry.path);
        assert_eq!(version_of(origin, &entry.path).await, entry.version, "{}", entry.path);
        let whole = read(origin, &entry.path, &entry.version, ByteRange::new(0, u64::MAX)).await;
        assert!(whole == bytes, "{} has other bytes", entry.path);
    }
}

/// Checks ranges of the long file, at the edges of what may be the server's pieces.
pub(crate) async fn serves_ranges(origin: &dyn Origin) {
    let file = path("long.flac");
    let version = version_of(origin, &file).await;
    let bytes = content(5, LONG);
    let end = LONG as u64;
    for (start, stop) in [
        (0, 0),
        (0, 1),
        (1, 2),
        (0, 32_768),
        (32_767, 32_769),
        (1, 65_537),
        (65_535, 131_073),
        (261_119, 261_121),
        (1_000_000, 2_999_999),
        (end - 1, end),
        (end - 1, end + 1),
        (end - 70_000, u64::MAX),
        (end, end + 5),
        (end + 5, end + 9),
        (u64::MAX - 1, u64::MAX),
    ] {
        let range = ByteRange::new(start, stop);
        let got = read(origin, &file, &version, range).await;
        let clamped = range.clamp_to(end);
        let expected = &bytes[clamped.start() as usize..clamped.end() as usize];
        assert!(got == expected, "{range}: {} bytes, not {} or not the same", got.len(), expected.len());
    }
    let empty = path("empty.flac");
    let nothing = read(origin, &empty, &version_of(origin, &empty).await, ByteRange::new(0, 9)).await;
    assert!(nothing.is_empty());
}

/// Checks that a file that changes, in place, by replacement or by going, is never mixed with what it was.
pub(crate) async fn tells_versions_apart(origin: &dyn Origin, tree: &Tree) {
    let name = b"changing.flac";
    let file = path(name);
    let all = ByteRange::new(0, u64::MAX);
    tree.write(name, &content(1, 50_000));
    let first = version_of(origin, &file).await;
    assert!(read(origin, &file, &first, all).await == content(1, 50_000));

    // In place, while the server may have it open for us.
    std::fs::write(tree.on_disk(name), content(2, 50_000)).unwrap();
    set_age(&tree.on_disk(name), 500);
    expect(origin, &file, &first, OriginErrorKind::Changed).await;
    let second = version_of(origin, &file).await;
    assert!(read(origin, &file, &second, all).await == content(2, 50_000));

    // Replaced by another file.
    tree.write(b"other", &content(3, 40_000));
    std::fs::rename(tree.on_disk(b"other"), tree.on_disk(name)).unwrap();
    expect(origin, &file, &second, OriginErrorKind::Changed).await;
    let third = version_of(origin, &file).await;
    assert!(read(origin, &file, &third, all).await == content(3, 40_000));
    // A range past the new end is not a reason to believe the old version.
    let past = origin.read(&file, &second, ByteRange::new(45_000, 46_000)).await.unwrap_err();
    assert_eq!(past.kind, OriginErrorKind::Changed);

    // Gone.
    std::fs::remove_file(tree.on_disk(name)).unwrap();
    expect(origin, &file, &third, OriginErrorKind::NotFound).await;
    assert_eq!(origin.stat(&file).await.unwrap_err().kind, OriginErrorKind::NotFound);
}

async fn expect(origin: &dyn Origin, file: &OriginPath, version: &FileVersion, kind: OriginErrorKind) {
    let error = origin.read(file, version, ByteRange::new(0, u64::MAX)).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}: {:?}", error.source);
    assert_eq!(error.path, *file);
}

/// Checks what is asked for that is not there, or is not a file.
pub(crate) async fn refuses_what_is_not_there(origin: &dyn Origin) {
    let version = FileVersion { size: 5, mtime: None, etag: None };
    for (name, kind) in [
        ("nothing.flac", OriginErrorKind::NotFound),
        ("no/such/folder/x.flac", OriginErrorKind::NotFound),
        ("plain.flac/x", OriginErrorKind::NotFound),
        ("many", OriginErrorKind::Invalid),
    ] {
        let error = origin.stat(&path(name)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}: {:?}", error.source);
        let error = origin.read(&path(name), &version, ByteRange::new(0, 5)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}: {:?}", error.source);
    }
    let request = ScanRequest { under: path("nothing"), resume: None };
    let first = origin.scan(request).next().await.unwrap();
    assert_eq!(first.unwrap_err().kind, OriginErrorKind::NotFound);
}

/// Checks that a listing can be of a part, and goes on after each of its pages.
pub(crate) async fn lists_parts(origin: &dyn Origin) {
    let all = listing(origin).await;
    let many = pages(origin, ScanRequest { under: path("many"), resume: None }).await;
    let below: Vec<OriginEntry> = many.into_iter().flat_map(|page| page.entries).collect();
    let expected: Vec<OriginEntry> =
        all.iter().filter(|entry| entry.path.is_within(&path("many"))).cloned().collect();
    assert_eq!(below, expected);
    let one = pages(origin, ScanRequest { under: path("plain.flac"), resume: None }).await;
    assert_eq!(one.len(), 1);
    assert!(one[0].complete && one[0].entries.len() == 1);

    let mut seen = Vec::new();
    for page in pages(origin, ScanRequest::all()).await {
        seen.extend(page.entries);
        let Some(cursor) = page.cursor else { continue };
        let rest = pages(origin, ScanRequest { under: OriginPath::root(), resume: Some(cursor) }).await;
        let mut together = seen.clone();
        together.extend(rest.into_iter().flat_map(|page| page.entries));
        assert_eq!(together, all);
    }
}

/// Runs all the checks that make no trouble for the server.
pub(crate) async fn keeps_the_contract(origin: &dyn Origin, tree: &Tree) {
    assert!(origin.health().await.unwrap().identity.is_some());
    serves_all(origin, tree).await;
    serves_ranges(origin).await;
    refuses_what_is_not_there(origin).await;
    lists_parts(origin).await;
    tells_versions_apart(origin, tree).await;
}

/// How late all is on a line on which round trips are counted.
const LATE: Duration = Duration::from_millis(300);

/// Round trips that reads may cost.
pub(crate) struct Costs {
    /// Of the first bytes of a file.
    pub(crate) first: u64,
    /// Of the bytes after them.
    pub(crate) next: u64,
    /// Of all of [`LONG`].
    pub(crate) long: u64,
}

/// Checks how often a read has to wait for the other end of the line.
pub(crate) async fn reads_in_few_round_trips(
    origin: &dyn Origin,
    proxy: &FaultProxy,
    file: &OriginPath,
    version: &FileVersion,
    costs: Costs,
) {
    // Late enough for all that is asked at once to be on its way before the first answer; both ways, so that the closing
    // of a file, which nobody waits for, comes too late to be counted.
    proxy.set([Toxic::Latency(LATE)]);
    proxy.add(Direction::Upstream, Toxic::Latency(LATE));
    for (what, range, cost) in [
        ("first", ByteRange::new(0, 65_536), costs.first),
        ("next", ByteRange::new(65_536, 131_072), costs.next),
        ("long", ByteRange::new(0, u64::MAX), costs.long),
    ] {
        let before = proxy.traffic().turns;
        let clamped = range.clamp_to(LONG as u64);
        let expected = &content(5, LONG)[clamped.start() as usize..clamped.end() as usize];
        assert!(read(origin, file, version, range).await == expected);
        let turns = proxy.traffic().turns - before;
        assert!(turns <= cost, "the {what} read cost {turns} round trips");
    }
}

/// Writes files into a folder of their own.
pub(crate) fn stored(files: &[(OriginPath, Bytes)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path.as_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

/// Returns an error with all that caused it, a line each.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n{cause}"));
        source = cause.source();
    }
    text
}
