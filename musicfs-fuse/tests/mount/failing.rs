//! What hangs or panics harms nobody else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use musicfs_core::{Clock, SystemClock};
use musicfs_test_utils::eventually_blocking;

use crate::support::{Content, Library, names, noise};

#[test]
fn hung_file_fails_by_its_deadline_and_everything_else_goes_on() {
    let library = Library::new();
    let deadline = Duration::from_secs(3);
    library.put("A/hung.flac", Content::Hung(deadline));
    for n in 0..100 {
        library.put_bytes(&format!("A/{n}.flac"), &noise(n, 200_000));
    }
    let mounted = library.mount();
    let clock = SystemClock::new();
    std::thread::scope(|scope| {
        let path = mounted.at("A/hung.flac");
        let hung: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                scope.spawn(move || File::open(path).unwrap().read_at(&mut [0; 4096], 0))
            })
            .collect();
        eventually_blocking("the readers hang", || mounted.session().stats().reads_in_flight > 0);
        let began = clock.now();
        assert_eq!(names(&mounted.at("A")).len(), 101);
        for n in 0..100 {
            assert_eq!(fs::metadata(mounted.at(&format!("A/{n}.flac"))).unwrap().len(), 200_000);
        }
        std::thread::scope(|scope| {
            for n in 0..100 {
                let path = mounted.at(&format!("A/{n}.flac"));
                scope.spawn(move || assert!(fs::read(path).unwrap() == noise(n, 200_000)));
            }
        });
        assert!(mounted.session().stats().reads_in_flight > 0, "the file hangs all the while");
        assert!(clock.now().since(began) < deadline);
        for reader in hung {
            let error = reader.join().unwrap().unwrap_err();
            // The kernel has one read of a page fail for all who wait for it, or lets each try again.
            assert!(matches!(error.raw_os_error(), Some(nix::libc::ETIMEDOUT | nix::libc::EIO)), "{error:?}");
        }
        // One deadline for all of them, however often the kernel asks again for the page that they wait for.
        let took = clock.now().since(began);
        assert!(took < deadline * 2, "{took:?}");
    });
}

#[test]
fn reader_of_a_hung_file_can_be_killed() {
    let library = Library::new();
    library.put("hung.flac", Content::Hung(Duration::from_secs(3600)));
    let mounted = library.mount();
    let mut cat = Command::new("cat").arg(mounted.at("hung.flac")).stdout(Stdio::null()).spawn().unwrap();
    eventually_blocking("cat hangs", || mounted.session().stats().reads_in_flight > 0);
    assert!(cat.try_wait().unwrap().is_none());
    cat.kill().unwrap();
    let mut status = None;
    eventually_blocking("cat is dead", || {
        status = cat.try_wait().unwrap();
        status.is_some()
    });
    assert!(!status.unwrap().success());
}

#[test]
fn data_is_not_invalidated_under_a_read_that_hangs() {
    let library = Library::new();
    library.put("hung.flac", Content::Hung(Duration::from_secs(3600)));
    library.put_bytes("A/x.flac", b"x");
    let mounted = library.mount();
    names(&mounted.at("A"));
    let mut cat = Command::new("cat").arg(mounted.at("hung.flac")).stdout(Stdio::null()).spawn().unwrap();
    eventually_blocking("cat hangs", || mounted.session().stats().reads_in_flight > 0);
    // Would wait for cat if it dropped the pages, and nobody would hear of the next change.
    library.put_bytes("hung.flac", b"now");
    library.put_bytes("A/y.flac", b"y");
    eventually_blocking("changes are announced", || names(&mounted.at("A")).len() == 2);
    assert!(cat.try_wait().unwrap().is_none());
    cat.kill().unwrap();
    cat.wait().unwrap();
}

#[test]
fn panic_in_a_backend_is_an_io_error_and_the_mount_lives_on() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"fine");
    library.put_bytes("A/trap.flac", b"never");
    let mounted = library.mount();
    *library.db.trap.lock() = Some(b"bomb".to_vec());
    *library.store.trap.lock() = Some(Library::id("A/trap.flac"));
    // More often than there are threads that take requests: each panic would end one.
    for _ in 0..5 {
        let error = fs::metadata(mounted.at("A/bomb")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
        let error = File::open(mounted.at("A/trap.flac")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
    }
    assert_eq!(fs::read(mounted.at("A/x.flac")).unwrap(), b"fine");
    eventually_blocking("all panics are counted", || mounted.session().stats().panics == 10);
}

#[test]
fn many_opens_of_a_hung_reader_do_not_keep_others_from_opening() {
    let library = Library::new();
    for n in 0..40 {
        library.put(&format!("hung/{n}.flac"), Content::Hung(Duration::from_secs(2)));
    }
    library.put_bytes("x.flac", &noise(1, 500_000));
    let mounted = library.mount();
    std::thread::scope(|scope| {
        for n in 0..40 {
            let path = mounted.at(&format!("hung/{n}.flac"));
            scope.spawn(move || assert!(fs::read(path).is_err()));
        }
        eventually_blocking("they hang", || mounted.session().stats().reads_in_flight >= 40);
        assert_eq!(fs::read(mounted.at("x.flac")).unwrap().len(), 500_000);
        assert!(mounted.session().stats().reads_in_flight > 0, "they hang all the while");
    });
}
