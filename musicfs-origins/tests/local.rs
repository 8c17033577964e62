//! What a folder of this machine does beyond the contract of an origin.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use musicfs_core::{
    ByteRange, FsBacking, Origin, OriginErrorKind, OriginPath, ScanCursor, ScanPage, ScanRequest, SystemClock,
};
use musicfs_origins::LocalOrigin;
use rustix::thread::CapabilitySet;

fn path(text: &str) -> OriginPath {
    OriginPath::new(text).unwrap()
}

fn write(root: &Path, file: &str, bytes: &[u8]) {
    let file = root.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

async fn pages(origin: &LocalOrigin, request: ScanRequest) -> Vec<ScanPage> {
    origin.scan(request).map(Result::unwrap).collect().await
}

async fn listed(origin: &LocalOrigin, under: &str) -> Vec<String> {
    let pages = pages(origin, ScanRequest { under: path(under), resume: None }).await;
    assert!(pages.last().unwrap().complete);
    pages.iter().flat_map(|p| &p.entries).map(|e| e.path.to_string()).collect()
}

/// The kind of the one error that a listing yields.
async fn failure(origin: &LocalOrigin, request: ScanRequest) -> OriginErrorKind {
    let mut results: Vec<_> = origin.scan(request).collect().await;
    assert_eq!(results.len(), 1, "one error and nothing else");
    results.remove(0).unwrap_err().kind
}

#[tokio::test]
async fn listing_goes_folder_by_folder_in_byte_order() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["b/2", "b/1", "a/z", "B/x", "a/k/y", "top", "a b/x", "a/k2/y"] {
        write(dir.path(), file, b"x");
    }
    let origin = LocalOrigin::new("o", dir.path());
    let expected = ["top", "B/x", "a/z", "a/k/y", "a/k2/y", "a b/x", "b/1", "b/2"];
    assert_eq!(listed(&origin, "").await, expected);
    assert_eq!(listed(&origin, "a").await, ["a/z", "a/k/y", "a/k2/y"]);
    assert_eq!(listed(&origin, "a/k/y").await, ["a/k/y"]);
}

#[tokio::test]
async fn root_that_is_missing_is_unavailable_in_every_way() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "root/a", b"x");
    let origin = LocalOrigin::new("o", dir.path().join("root"));
    let version = origin.stat(&path("a")).await.unwrap().version;
    fs::rename(dir.path().join("root"), dir.path().join("elsewhere")).unwrap();
    assert_eq!(failure(&origin, ScanRequest::all()).await, OriginErrorKind::NoRoot);
    let read = origin.read(&path("a"), &version, ByteRange::at(0, 1)).await;
    assert_eq!(read.unwrap_err().kind, OriginErrorKind::NoRoot);
    assert_eq!(origin.stat(&path("a")).await.unwrap_err().kind, OriginErrorKind::NoRoot);
    let error = origin.health().await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::NoRoot);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("root cannot be opened"));
    // Nothing was pinned: another folder in the same place is seen at once.
    fs::create_dir(dir.path().join("root")).unwrap();
    assert!(listed(&origin, "").await.is_empty());
}

#[tokio::test]
async fn root_that_is_a_file_is_invalid_and_missing_folder_not_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "file", b"x");
    let origin = LocalOrigin::new("o", dir.path().join("file"));
    assert_eq!(failure(&origin, ScanRequest::all()).await, OriginErrorKind::Invalid);
    let origin = LocalOrigin::new("o", dir.path());
    let gone = ScanRequest { under: path("no/such"), resume: None };
    assert_eq!(failure(&origin, gone).await, OriginErrorKind::NotFound);
}

#[tokio::test]
async fn links_are_followed_inside_the_root_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(dir.path(), "secret/s", b"secret");
    write(&root, "real/a", b"inside");
    symlink("real/a", root.join("file")).unwrap();
    symlink("real", root.join("folder")).unwrap();
    symlink(root.join("real"), root.join("absolute")).unwrap();
    symlink("../root/real/a", root.join("out-and-in")).unwrap();
    symlink("../secret/s", root.join("outside")).unwrap();
    symlink(dir.path().join("secret"), root.join("outside-folder")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("self", root.join("self")).unwrap();
    symlink("..", root.join("real/up")).unwrap();
    let origin = LocalOrigin::new("o", &root);
    assert_eq!(listed(&origin, "").await, ["file", "out-and-in", "absolute/a", "folder/a", "real/a"]);
    for inside in ["file", "folder/a", "absolute/a", "out-and-in", "real/up/real/a"] {
        let entry = origin.stat(&path(inside)).await.unwrap();
        let bytes = origin.read(&path(inside), &entry.version, ByteRange::at(0, 9)).await.unwrap();
        assert_eq!(&bytes[..], b"inside", "{inside}");
    }
    for outside in ["outside", "outside-folder/s", "dangling", "self"] {
        let error = origin.stat(&path(outside)).await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::NotFound, "{outside}");
        assert!(origin.local().unwrap().open(&path(outside)).is_err(), "{outside}");
    }
}

#[tokio::test]
async fn special_files_are_neither_listed_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", b"x");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let origin = LocalOrigin::new("o", dir.path());
    assert_eq!(listed(&origin, "").await, ["a"]);
    let version = origin.stat(&path("a")).await.unwrap().version;
    for special in ["fifo", "socket", ""] {
        let read = origin.read(&path(special), &version, ByteRange::at(0, 1)).await;
        assert_eq!(read.unwrap_err().kind, OriginErrorKind::Invalid, "{special:?}");
        assert_eq!(origin.stat(&path(special)).await.unwrap_err().kind, OriginErrorKind::Invalid);
    }
}

/// Runs a test without the privileges that let root read everything. They belong to a thread, and the threads
/// of a runtime made here inherit them.
fn unprivileged(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        rustix::thread::set_capabilities(None, sets).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    });
    thread.join().unwrap();
}

fn chmod(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn folder_that_may_not_be_read_is_unlisted_and_the_rest_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a/1", "closed/2", "closed/deep/3", "names only/4", "z/5"] {
        write(dir.path(), file, b"x");
    }
    symlink("closed/2", dir.path().join("link")).unwrap();
    let (closed, names_only) = (dir.path().join("closed"), dir.path().join("names only"));
    chmod(&closed, 0o000);
    chmod(&names_only, 0o444);
    let origin = LocalOrigin::new("o", dir.path());
    unprivileged(async move {
        let pages = pages(&origin, ScanRequest::all()).await;
        let entries: Vec<_> = pages.iter().flat_map(|p| &p.entries).map(|e| e.path.to_string()).collect();
        assert_eq!(entries, ["a/1", "z/5"]);
        let unlisted: Vec<_> =
            pages.iter().flat_map(|p| &p.unlisted).map(|u| (u.path.to_string(), u.error.kind)).collect();
        let expected = ["link", "closed", "names only"].map(|f| (f.to_owned(), OriginErrorKind::Denied));
        assert_eq!(unlisted, expected);
        let under = ScanRequest { under: path("closed"), resume: None };
        assert_eq!(failure(&origin, under).await, OriginErrorKind::Denied);
    });
    chmod(&closed, 0o755);
    chmod(&names_only, 0o755);
}

#[test]
fn file_that_may_not_be_read_is_listed_and_denied() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", b"x");
    chmod(&dir.path().join("a"), 0o000);
    let origin = LocalOrigin::new("o", dir.path());
    unprivileged(async move {
        assert_eq!(listed(&origin, "").await, ["a"]);
        let version = origin.stat(&path("a")).await.unwrap().version;
        let read = origin.read(&path("a"), &version, ByteRange::at(0, 1)).await;
        assert_eq!(read.unwrap_err().kind, OriginErrorKind::Denied);
    });
}

#[tokio::test]
async fn resumed_scan_lists_what_comes_after_the_page_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    for folder in 0..6 {
        for file in 0..700 {
            write(dir.path(), &format!("{folder} %é/{}/{file}", folder % 2), b"");
        }
    }
    for file in 0..2500 {
        write(dir.path(), &format!("3 %é/big/{file}"), b"");
    }
    let origin = LocalOrigin::new("o", dir.path());
    let all = pages(&origin, ScanRequest::all()).await;
    assert!(all.len() > 5);
    let names = |pages: &[ScanPage]| -> Vec<OriginPath> {
        pages.iter().flat_map(|p| &p.entries).map(|e| e.path.clone()).collect()
    };
    for (n, page) in all.iter().enumerate() {
        let resume = page.cursor.clone();
        assert!(resume.is_some());
        let rest = pages(&origin, ScanRequest { under: OriginPath::root(), resume }).await;
        assert!(rest.last().unwrap().complete);
        assert_eq!(names(&rest), names(&all[n + 1..]), "after page {n}");
    }
}

#[tokio::test]
async fn cursor_of_another_folder_or_of_nothing_is_invalid() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/1", b"x");
    let origin = LocalOrigin::new("o", dir.path());
    for bad in ["done:b", "gibberish"] {
        let request = ScanRequest { under: path("a"), resume: Some(ScanCursor(bad.into())) };
        assert_eq!(failure(&origin, request).await, OriginErrorKind::Invalid);
    }
}

#[tokio::test]
async fn cursor_of_a_folder_that_is_gone_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a/1", "b/2", "c/3"] {
        write(dir.path(), file, b"x");
    }
    let origin = LocalOrigin::new("o", dir.path());
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    let resume = Some(ScanCursor("after:b/1".into()));
    let rest = pages(&origin, ScanRequest { under: OriginPath::root(), resume }).await;
    let names: Vec<_> = rest.iter().flat_map(|p| &p.entries).map(|e| e.path.to_string()).collect();
    assert_eq!(names, ["c/3"]);
}

#[tokio::test]
async fn path_longer_than_the_kernel_takes_is_listed_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(250);
    let mut at = rustix::fs::open(dir.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "deep.flac", flags, rustix::fs::Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let origin = LocalOrigin::new("o", dir.path());
    let pages = pages(&origin, ScanRequest::all()).await;
    let entry = &pages[0].entries[0];
    assert!(entry.path.as_bytes().len() > 5000);
    let bytes = origin.read(&entry.path, &entry.version, ByteRange::at(0, 100)).await.unwrap();
    assert_eq!(&bytes[..], b"deep");
}

#[tokio::test]
async fn scan_that_is_dropped_stops_walking() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..9000 {
        write(dir.path(), &format!("{}/{file}", file % 3), b"");
    }
    let clock = Arc::new(SystemClock::new());
    let origin = LocalOrigin::with_clock("o", dir.path(), clock.clone());
    let mut stream = origin.scan(ScanRequest::all());
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    // The walk has a clone of the clock for as long as it runs; the test and the origin have the others.
    musicfs_test_utils::eventually("the walk to end", || Arc::strong_count(&clock) == 2).await;
}

#[tokio::test]
async fn reading_does_not_change_access_times() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "f/a", b"x");
    let long_ago = fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH)
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9));
    for target in ["f", "f/a"] {
        fs::File::open(dir.path().join(target)).unwrap().set_times(long_ago).unwrap();
    }
    let origin = LocalOrigin::new("o", dir.path());
    assert_eq!(listed(&origin, "").await, ["f/a"]);
    let version = origin.stat(&path("f/a")).await.unwrap().version;
    origin.read(&path("f/a"), &version, ByteRange::at(0, 1)).await.unwrap();
    for target in ["f", "f/a"] {
        let accessed = fs::metadata(dir.path().join(target)).unwrap().accessed().unwrap();
        assert_eq!(accessed, std::time::UNIX_EPOCH, "{target}");
    }
}

#[tokio::test]
async fn identity_is_that_of_the_folder_and_not_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    let identity = async |name: &str| {
        LocalOrigin::new("o", dir.path().join(name)).health().await.unwrap().identity.unwrap()
    };
    let (a, b) = (identity("a").await, identity("b").await);
    assert_ne!(a, b);
    fs::rename(dir.path().join("b"), dir.path().join("c")).unwrap();
    assert_eq!(identity("c").await, b);
}

#[tokio::test]
async fn folder_of_this_machine_is_local_by_all_accounts() {
    let dir = tempfile::tempdir().unwrap();
    let origin = LocalOrigin::new("o", dir.path());
    assert!(!origin.caps().remote && origin.caps().watchable);
    assert_eq!(origin.local().unwrap().backing(), FsBacking::Local);
}
