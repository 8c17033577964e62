//! What a listener is told.

use musicfs_core::{Batch, EventBus, MetaDb, OriginId, SystemClock, Template, UnixNanos};
use musicfs_sync::{Database, Library, arranged_by};
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_test_utils::{eventually_blocking, tracks};
use musicfs_tests::home::Home;
use musicfs_tests::listener::Listener;
use nix::sys::signal::Signal;

use crate::demo;

#[test]
fn listener_is_told_of_files_that_come_move_change_and_go_and_of_the_end() {
    let (music, home) = (demo(), Home::new());
    let mut mount = home.mount(music.path());
    let mut listener = Listener::start(&home, &["--json"]);
    let track =
        |title: &str| Track::new(Sample::Mp3Vbr).artist("Anna").album("News").title(title).track(1, 1);
    write_track(music.path(), "news.mp3", &track("One")).unwrap();
    mount.rescan(&[]);
    assert_eq!(listener.until("sync_started")["type"], "sync_started");
    let added = listener.until("file_added");
    assert_eq!(added["path"], "Anna/News/01 - One.mp3");
    assert_eq!(listener.until("sync_finished")["added"], 1);
    write_track(music.path(), "news.mp3", &track("Another Title")).unwrap();
    mount.rescan(&["--full"]);
    let moved = listener.until("file_moved");
    assert_eq!((&moved["from"], &moved["id"]), (&added["path"], &added["id"]));
    assert_eq!(moved["path"], "Anna/News/01 - Another Title.mp3");
    assert_eq!(listener.until("file_modified")["content"], true);
    std::fs::remove_file(music.path().join("news.mp3")).unwrap();
    mount.rescan(&[]);
    let removed = listener.until("file_removed");
    assert_eq!((&removed["path"], &removed["id"]), (&moved["path"], &added["id"]));
    assert_eq!(listener.until("sync_finished")["missing"], 1);
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.wait_ended(), Some(0));
    while listener.line().is_some() {}
    assert!(listener.ended_well(), "the end of the daemon is no failure");
}

#[test]
fn listener_gets_the_types_it_asked_for_and_no_others() {
    let (music, home) = (demo(), Home::new());
    let mount = home.mount(music.path());
    let mut listener = Listener::start(&home, &["--type", "sync_finished,origin_*", "--limit", "1"]);
    mount.rescan(&[]);
    let line = listener.line().unwrap();
    assert!(line.contains("sync_finished") && line.contains("listed"), "{line}");
    assert_eq!(listener.line(), None, "the limit is reached");
    assert!(listener.ended_well());
    let refused = home.run(["events", "--type", "sync_fnished"]);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("sync_finished"), "{error}");
    mount.unmount();
}

#[test]
fn listener_that_sleeps_is_told_how_much_it_missed_and_gets_the_rest() {
    const TRACKS: u64 = EventBus::CAPACITY as u64 + 8_000;
    let home = Home::new();
    std::fs::create_dir_all(home.folder("cache/musicfs")).unwrap();
    std::fs::create_dir_all(home.folder("state/musicfs")).unwrap();
    let db = Database::open(&home.folder("cache/musicfs/catalogue.db")).unwrap();
    tracks::fill(&db, 0..TRACKS).unwrap();
    db.apply(&Batch { at: UnixNanos(0), ops: vec![arranged_by(&Template::default())] }).unwrap();
    drop(db);
    let (library, _) = Library::open(&home.folder("state/musicfs/library.db"), &SystemClock::new()).unwrap();
    library.record_origin(&OriginId::from(tracks::ORIGIN), UnixNanos(0)).unwrap();
    drop(library);
    let origin = |id: &str| {
        std::fs::create_dir_all(home.folder(id)).unwrap();
        format!("[[origins]]\nid = \"{id}\"\npath = \"{}\"\n", home.folder(id).display())
    };
    home.configure(&(origin("own") + &origin(tracks::ORIGIN)));
    let mount = home.mount_configured();
    let mut listener = Listener::start(&home, &["--json"]);
    listener.signal(Signal::SIGSTOP);
    // The origin with all the tracks is no longer part of the library.
    home.configure(&origin("own"));
    mount.signal(Signal::SIGHUP);
    let mut left = mount.status()["totals"]["tracks"].clone();
    while left != 0 {
        let before = left.clone();
        eventually_blocking("tracks to leave the tree", || {
            left = mount.status()["totals"]["tracks"].clone();
            left != before
        });
    }
    listener.signal(Signal::SIGCONT);
    mount.rescan(&[]);
    let (mut told, mut missed, mut last) = (0, 0, None::<u64>);
    loop {
        let event = listener.event();
        let seq = event["seq"].as_u64().unwrap();
        let lagged = event["missed"].as_u64().unwrap_or(0);
        missed += lagged;
        match event["type"].as_str() {
            Some("lagged") => {}
            Some("sync_finished") if told + missed >= TRACKS => break,
            Some("file_removed") => told += 1,
            _ => {}
        }
        // Numbers have no gaps, so that nothing can be lost without a word.
        assert!(last.is_none_or(|last| seq == last + lagged.max(1)), "{last:?} is followed by {event}");
        last = Some(seq);
    }
    assert!(missed > 0 && told > EventBus::CAPACITY as u64 / 2, "{told} told, {missed} missed");
    assert_eq!(mount.status()["events_missed"], missed);
    mount.unmount();
}
