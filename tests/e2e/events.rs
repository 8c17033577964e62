//! What a listener is told.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::home::Home;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::demo;

/// `musicfs events`, running. It is bounded by the limit that every program has.
struct Listener {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listener {
    /// Starts to listen, and returns once it does.
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.prepare(home.binary());
        command.arg("events").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("Listening to "), "{said}");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    /// Reads on until an event of a type comes.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["type"] == kind {
                return event;
            }
        }
    }
}

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
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.wait_ended(), Some(0));
    while listener.line().is_some() {}
    assert!(listener.child.wait().unwrap().success(), "the end of the daemon is no failure");
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
    assert!(listener.child.wait().unwrap().success());
    let refused = home.run(["events", "--type", "sync_fnished"]);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("sync_finished"), "{error}");
    mount.unmount();
}
