//! What every [`Origin`] promises.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use musicfs_core::{
    ByteRange, FileVersion, Origin, OriginEntry, OriginError, OriginErrorKind, OriginPath, PartSink,
    ScanPage, ScanRequest, UnixNanos,
};
use parking_lot::Mutex;

/// An origin with the files that it holds.
pub struct Fixture {
    origin: Arc<dyn Origin>,
    files: BTreeMap<OriginPath, Bytes>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// Takes an origin that holds exactly `files`; see [`sample_files`].
    pub fn new(origin: impl Origin, files: Vec<(OriginPath, Bytes)>) -> Self {
        Self { origin: Arc::new(origin), files: files.into_iter().collect(), _keep: Box::new(()) }
    }

    /// Keeps something for as long as the check lasts: a temporary folder, a server.
    pub fn keeping(mut self, keep: impl Any + Send + Sync) -> Self {
        self._keep = Box::new(keep);
        self
    }

    /// Returns the entry of a file as a listing gives it.
    async fn entries(&self) -> Vec<OriginEntry> {
        complete(&self.origin, ScanRequest::all()).await.into_iter().flat_map(|page| page.entries).collect()
    }

    /// Returns the entry of the longest file.
    async fn longest(&self) -> OriginEntry {
        let entries = self.entries().await;
        entries.into_iter().max_by_key(|entry| entry.version.size).expect("a file")
    }

    /// Reads in as many parts as the origin wants.
    async fn read_all(&self, entry: &OriginEntry) -> Result<Vec<u8>, OriginError> {
        let (mut bytes, longest) = (Vec::new(), self.origin.caps().max_range);
        while (bytes.len() as u64) < entry.version.size {
            let at = bytes.len() as u64;
            let range = ByteRange::new(at, at.saturating_add(longest).min(entry.version.size));
            bytes.extend_from_slice(&self.origin.read(&entry.path, &entry.version, range).await?);
        }
        Ok(bytes)
    }
}

/// Returns files of all the names that an origin on bytes must take: blanks, signs that mean something to URLs,
/// shells and quoting, other scripts, decomposed characters, and bytes that are not UTF-8.
pub fn sample_files() -> Vec<(OriginPath, Bytes)> {
    let mut files = sample_files_utf8();
    for (n, name) in [&b"latin1 caf\xe9/t\xeftle.mp3"[..], b"\xff\xfe.flac"].iter().enumerate() {
        files.push((OriginPath::new(name).expect("a legal path"), body(100 + n)));
    }
    files
}

/// As [`sample_files`], for origins that have names of UTF-8 only.
pub fn sample_files_utf8() -> Vec<(OriginPath, Bytes)> {
    let names = [
        "top level.flac",
        "Artist/Album/01 - First.flac",
        "Artist/Album/02 - Second.flac",
        "Artist/Album/cover.jpg",
        "Artist/Album/Scans/back #2.png",
        "Artist/loose.mp3",
        "Artist2/Album/01.flac",
        "Artist 3/01.flac",
        "a+b/c&d=e;f.ogg",
        "100%/50%25 off?.flac",
        "it's \"quoted\"/back\\slash `tick` $HOME.flac",
        "[brackets] {braces} (parens)/*star* <tag> |pipe|.flac",
        "日本語/曲 ①.flac",
        "nfd/e\u{301}.flac",
        "nfc/\u{e9}.flac",
        " leading and trailing /  .flac",
        "...dots/..a",
        ".hidden/.file",
        "tab\there/new\nline.flac",
        "deep/a/b/c/d/e/f/g/h/i/j/k.flac",
        "~/-rf",
        "empty.flac",
    ];
    let path = |name: &str| OriginPath::new(name).expect("a legal path");
    let mut files: Vec<_> = names.iter().enumerate().map(|(n, name)| (path(name), body(n))).collect();
    for (file, bytes) in &mut files {
        if file.as_bytes() == b"empty.flac" {
            *bytes = Bytes::new();
        }
    }
    files.push((path("long.flac"), body(70_000)));
    let long = format!("{}/{}.flac", "d".repeat(200), "n".repeat(240));
    files.push((path(&long), body(7)));
    files
}

/// Bytes that differ from place to place and from file to file.
fn body(n: usize) -> Bytes {
    (0..=n * 3 + 10).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ n) as u8).collect()
}

/// Lists and checks that the listing ends as it must.
async fn complete(origin: &Arc<dyn Origin>, request: ScanRequest) -> Vec<ScanPage> {
    let pages: Vec<_> =
        origin.scan(request).map(|page| page.expect("a listing that succeeds")).collect().await;
    let (last, before) = pages.split_last().expect("at least one page");
    assert!(last.complete, "the last page says that the listing is complete");
    assert!(before.iter().all(|page| !page.complete), "only the last page says so");
    assert!(pages.iter().all(|page| page.unlisted.is_empty()), "every folder can be listed");
    pages
}

fn paths(pages: &[ScanPage]) -> Vec<OriginPath> {
    pages.iter().flat_map(|page| &page.entries).map(|entry| entry.path.clone()).collect()
}

fn missing() -> OriginPath {
    OriginPath::new("no such folder/no such file.flac").expect("a legal path")
}

/// Every file is listed once, with its size, whatever its name.
pub async fn listing_gives_each_file_once_with_its_size(fixture: Fixture) {
    let entries = fixture.entries().await;
    let listed: BTreeMap<_, _> = entries.iter().map(|e| (e.path.clone(), e.version.size)).collect();
    assert_eq!(listed.len(), entries.len(), "no path twice");
    let expected: BTreeMap<_, _> = fixture.files.iter().map(|(p, b)| (p.clone(), b.len() as u64)).collect();
    assert_eq!(listed, expected);
}

/// The files of one folder come together.
pub async fn listing_keeps_the_files_of_a_folder_together(fixture: Fixture) {
    let pages = complete(&fixture.origin, ScanRequest::all()).await;
    let mut folders: Vec<_> = paths(&pages).iter().map(OriginPath::parent).collect();
    folders.dedup();
    let distinct: BTreeSet<_> = folders.iter().collect();
    assert_eq!(distinct.len(), folders.len(), "{folders:?}");
}

/// A folder's listing gives what is in it and below, and nothing of a neighbour whose name begins alike.
pub async fn listing_of_a_folder_gives_what_is_below_it(fixture: Fixture) {
    let mut folders: BTreeSet<OriginPath> = BTreeSet::new();
    for file in fixture.files.keys() {
        let mut folder = file.parent();
        while folders.insert(folder.clone()) && !folder.is_root() {
            folder = folder.parent();
        }
    }
    for under in folders {
        let request = ScanRequest { under: under.clone(), resume: None };
        let listed: BTreeSet<_> = paths(&complete(&fixture.origin, request).await).into_iter().collect();
        let expected: BTreeSet<_> = fixture.files.keys().filter(|p| p.is_within(&under)).cloned().collect();
        assert_eq!(listed, expected, "below {under}");
    }
}

/// Where an origin gives cursors, a listing that goes on from one gives exactly what came after it.
pub async fn listing_goes_on_after_a_cursor(fixture: Fixture) {
    let pages = complete(&fixture.origin, ScanRequest::all()).await;
    for (n, page) in pages.iter().enumerate() {
        if let Some(cursor) = &page.cursor {
            let request = ScanRequest { resume: Some(cursor.clone()), ..ScanRequest::all() };
            let rest = complete(&fixture.origin, request).await;
            assert_eq!(paths(&rest), paths(&pages[n + 1..]), "after page {n}");
        }
    }
}

/// A folder that is not there fails its listing with one error, and is not an empty one.
pub async fn listing_of_a_missing_folder_fails_once(fixture: Fixture) {
    let request = ScanRequest { under: missing().parent(), resume: None };
    let results: Vec<_> = fixture.origin.scan(request).collect().await;
    match results.as_slice() {
        [Err(error)] => assert_eq!(error.kind, OriginErrorKind::NotFound),
        // Where folders are only parts of names there is no telling; but then no file is told to be there.
        [Ok(page)] => assert!(page.complete && page.entries.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// Versions are the same in each listing and in each stat, when nothing changes; with strong versions all have an
/// etag.
pub async fn versions_stay_the_same_while_nothing_changes(fixture: Fixture) {
    let first = fixture.entries().await;
    for entry in &first {
        fixture.read_all(entry).await.expect("a read");
        let now = fixture.origin.stat(&entry.path).await.expect("a stat");
        assert_eq!(now, *entry);
        assert!(!fixture.origin.caps().strong_versions || entry.version.etag.is_some());
    }
    assert_eq!(fixture.entries().await, first);
}

/// What a listing gives, a read takes; the bytes are the file's.
pub async fn files_read_whole_are_the_bytes_that_were_stored(fixture: Fixture) {
    for entry in fixture.entries().await {
        let bytes = fixture.read_all(&entry).await.expect("a read");
        assert_eq!(bytes, fixture.files[&entry.path], "{}", entry.path);
    }
}

/// Reads a range as it comes; returns all that came.
async fn in_parts(
    origin: &Arc<dyn Origin>,
    path: &OriginPath,
    version: &FileVersion,
    range: ByteRange,
) -> (Result<(), OriginError>, Vec<u8>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&all);
    let parts = PartSink::new(move |part: Bytes| into.lock().extend_from_slice(&part));
    let read = origin.read_parts(path, version, range, &parts).await;
    let came = std::mem::take(&mut *all.lock());
    (read, came)
}

/// Any range gives exactly its bytes: cut at the end, empty past it, never short.
pub async fn reads_of_any_range_are_exact(fixture: Fixture) {
    let entry = fixture.longest().await;
    let (size, whole) = (entry.version.size, &fixture.files[&entry.path]);
    let longest = fixture.origin.caps().max_range;
    let starts = [0, 1, size / 3, size - 1, size, size + 1, size + 1_000_000, u64::MAX - 10];
    for start in starts {
        for len in [0, 1, 2, 100, 4096, size, size + 7, 1 << 40] {
            let range = ByteRange::at(start, len.min(longest));
            let bytes = fixture.origin.read(&entry.path, &entry.version, range).await.expect("a read");
            let within = range.clamp_to(size);
            let expected = &whole[within.start() as usize..within.end() as usize];
            assert!(bytes == expected, "{range} of {size} bytes gave {}", bytes.len());
            let (read, parts) = in_parts(&fixture.origin, &entry.path, &entry.version, range).await;
            read.expect("a read in parts");
            assert!(parts == expected, "{range} of {size} bytes gave {} in parts", parts.len());
        }
    }
}

/// A version that is not the file's is `Changed`, never bytes of another.
pub async fn read_of_another_version_is_changed(fixture: Fixture) {
    let entry = fixture.longest().await;
    let version = &entry.version;
    let mut others = vec![
        FileVersion { size: version.size + 1, ..version.clone() },
        FileVersion { size: version.size - 1, ..version.clone() },
    ];
    if let Some(mtime) = version.mtime
        && version.etag.is_none()
    {
        others.push(FileVersion { mtime: Some(UnixNanos(mtime.0 + 1_000_000_000)), ..version.clone() });
    }
    if version.etag.is_some() {
        others.push(FileVersion { etag: Some("another".into()), ..version.clone() });
    }
    for other in others {
        let read = fixture.origin.read(&entry.path, &other, ByteRange::at(0, 10)).await;
        let error = read.expect_err("a read of a version that is not there");
        assert_eq!(error.kind, OriginErrorKind::Changed, "{other} instead of {version}");
        let (read, parts) = in_parts(&fixture.origin, &entry.path, &other, ByteRange::at(0, 10)).await;
        let error = read.expect_err("a read in parts of a version that is not there");
        assert_eq!((error.kind, parts.len()), (OriginErrorKind::Changed, 0), "{other} instead of {version}");
    }
}

/// What is not there is `NotFound`, below a file as well.
pub async fn what_is_not_there_is_not_found(fixture: Fixture) {
    let entry = fixture.longest().await;
    let below = entry.path.join("below a file").expect("a legal path");
    for path in [missing(), below] {
        let error = fixture.origin.stat(&path).await.expect_err("a stat of nothing");
        assert_eq!(error.kind, OriginErrorKind::NotFound, "{path}");
        let read = fixture.origin.read(&path, &entry.version, ByteRange::at(0, 1)).await;
        assert_eq!(read.expect_err("a read of nothing").kind, OriginErrorKind::NotFound, "{path}");
    }
}

/// A folder is not a file: `Invalid`, or `NotFound` where folders are only parts of names.
pub async fn folder_is_not_a_file(fixture: Fixture) {
    let entry = fixture.longest().await;
    let folders = fixture.files.keys().map(OriginPath::parent).collect::<BTreeSet<_>>();
    for folder in folders {
        let stat = fixture.origin.stat(&folder).await.map(drop);
        let read = fixture.origin.read(&folder, &entry.version, ByteRange::at(0, 1)).await.map(drop);
        for error in [stat.expect_err("a stat of a folder"), read.expect_err("a read of a folder")] {
            let as_it_should = matches!(error.kind, OriginErrorKind::Invalid | OriginErrorKind::NotFound);
            assert!(as_it_should, "{folder}: {}", error.kind);
        }
    }
}

/// An error says where it happened, and whether to try again.
pub async fn errors_name_the_origin_and_the_path(fixture: Fixture) {
    let error = fixture.origin.stat(&missing()).await.expect_err("a stat of nothing");
    assert_eq!((&error.origin, &error.path), (fixture.origin.id(), &missing()));
    assert!(!error.kind.is_transient());
}

/// It has one id and fixed capabilities that make sense.
pub async fn id_and_capabilities_are_fixed(fixture: Fixture) {
    let (id, caps) = (fixture.origin.id().clone(), fixture.origin.caps());
    assert!(!id.as_str().is_empty());
    assert!(caps.max_range > 0 && caps.concurrency > 0);
    fixture.entries().await;
    assert_eq!((fixture.origin.id(), fixture.origin.caps()), (&id, caps));
}

/// It is healthy, and the storage behind it is the same each time.
pub async fn health_tells_the_same_identity_each_time(fixture: Fixture) {
    let first = fixture.origin.health().await.expect("a healthy origin");
    fixture.entries().await;
    assert_eq!(fixture.origin.health().await.expect("a healthy origin"), first);
}

/// Any number of calls of all kinds at once give what each gives alone.
pub async fn calls_at_the_same_time_do_not_disturb_each_other(fixture: Fixture) {
    let entries = fixture.entries().await;
    let fixture = &fixture;
    let reads = (0..4).flat_map(|_| &entries).map(|entry| async move {
        let bytes = fixture.read_all(entry).await.expect("a read");
        assert_eq!(bytes, fixture.files[&entry.path]);
        assert_eq!(fixture.origin.stat(&entry.path).await.expect("a stat"), *entry);
    });
    let listings = (0..4).map(|_| async {
        assert_eq!(fixture.entries().await.len(), entries.len());
        fixture.origin.health().await.expect("a healthy origin");
    });
    futures::future::join(join_all(reads), join_all(listings)).await;
}

/// Futures and listings may be dropped at any point; everything goes on working.
pub async fn dropped_calls_leave_nothing_behind(fixture: Fixture) {
    let entry = fixture.longest().await;
    let range = ByteRange::at(0, 100.min(fixture.origin.caps().max_range));
    for polls in 0..200 {
        let mut read = fixture.origin.read(&entry.path, &entry.version, range).fuse();
        let mut health = fixture.origin.health().fuse();
        let mut scan = fixture.origin.scan(ScanRequest::all()).fuse();
        for _ in 0..polls % 4 {
            let _ = futures::poll!(&mut read);
            let _ = futures::poll!(scan.next());
            let _ = futures::poll!(&mut health);
        }
    }
    assert_eq!(fixture.entries().await.len(), fixture.files.len());
    assert_eq!(fixture.read_all(&entry).await.expect("a read"), fixture.files[&entry.path]);
}

/// Where files are files of this machine, opening them gives the same bytes and versions.
pub async fn local_access_agrees_with_reads(fixture: Fixture) {
    let entries = fixture.entries().await;
    let blocking = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let Some(local) = fixture.origin.local() else { return };
        for entry in entries {
            let mut file = local.open(&entry.path).expect("a file that can be opened");
            assert_eq!(local.version(&file).expect("its version"), entry.version);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("its bytes");
            assert_eq!(bytes, fixture.files[&entry.path]);
            assert_eq!(local.backing(), local.backing());
        }
        let error = local.open(&missing()).expect_err("nothing to open");
        assert_eq!(error.kind, OriginErrorKind::NotFound);
        assert!(local.open(&OriginPath::root()).is_err(), "a folder is no file");
    });
    blocking.await.expect("the check");
}

/// Makes tests of all that an [`Origin`](musicfs_core::Origin) promises.
///
/// Takes a name for the module of tests, and an expression that gives a
/// [`Fixture`](crate::conformance::origin::Fixture); it may await.
#[macro_export]
macro_rules! origin_conformance {
    ($suite:ident, $factory:expr) => {
        $crate::__conformance_suite! { async origin $suite ($factory)
            listing_gives_each_file_once_with_its_size
            listing_keeps_the_files_of_a_folder_together
            listing_of_a_folder_gives_what_is_below_it
            listing_goes_on_after_a_cursor
            listing_of_a_missing_folder_fails_once
            versions_stay_the_same_while_nothing_changes
            files_read_whole_are_the_bytes_that_were_stored
            reads_of_any_range_are_exact
            read_of_another_version_is_changed
            what_is_not_there_is_not_found
            folder_is_not_a_file
            errors_name_the_origin_and_the_path
            id_and_capabilities_are_fixed
            health_tells_the_same_identity_each_time
            calls_at_the_same_time_do_not_disturb_each_other
            dropped_calls_leave_nothing_behind
            local_access_agrees_with_reads
        }
    };
}
