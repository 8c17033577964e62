//! What scripts do: ask over the control socket with what every machine has.

use std::path::Path;

use musicfs_test_utils::eventually_blocking;
use musicfs_test_utils::library::{Sample, Track, write_track};
use musicfs_tests::home::Home;
use musicfs_tests::run;
use serde_json::Value;

#[test]
fn script_has_a_directory_scanned_with_curl_and_waits_for_it() {
    let (music, home) = (tempfile::tempdir().unwrap(), Home::new());
    let write = |folder: &str| {
        let track = Track::new(Sample::Mp3Vbr).artist("Anna").album("News").title(folder).track(1, 1);
        write_track(music.path(), format!("{folder}/1.mp3"), &track).unwrap();
    };
    write("first");
    let mount = home.mount(music.path());
    let mounts: Value = serde_json::from_str(&home.succeed(["mounts", "--json"])).unwrap();
    // Others' mounts on this machine are among them.
    let ours = |one: &&Value| one["mountpoint"].as_str().map(Path::new) == Some(&mount.at());
    let ours = mounts["mounts"].as_array().unwrap().iter().find(ours).unwrap();
    let socket = ours["control_socket"].as_str().unwrap();
    let curl = |args: &[&str]| -> Value {
        let mut curl = home.prepare("curl");
        curl.args(["--silent", "--show-error", "--unix-socket", socket]).args(args);
        serde_json::from_str(&run::succeed(curl)).unwrap()
    };
    write("asked");
    write("other");
    let order = format!(r#"{{"origins": ["{}"]}}"#, music.path().join("asked").display());
    let job = curl(&["--data", &order, "http://musicfs/v1/scan"]);
    let number = job["job"].as_u64().unwrap();
    let progress = format!("http://musicfs/v1/scan/progress?job={number}");
    eventually_blocking("the scan to be done", || curl(&[&progress])["done"] == true);
    let shown = |title: &str| mount.join(format!("Anna/News/01 - {title}.mp3")).exists();
    assert!(shown("asked") && !shown("other"));
    // All, when nothing is named.
    let all = curl(&["--request", "POST", "http://musicfs/v1/scan"])["job"].as_u64().unwrap();
    let progress = format!("http://musicfs/v1/scan/progress?job={all}");
    eventually_blocking("the scan of all to be done", || curl(&[&progress])["done"] == true);
    assert!(shown("other"));
    // An order that has ended is not undone by being cancelled, and a wrong one is refused in words.
    let cancelled = curl(&["--request", "DELETE", &format!("http://musicfs/v1/scan?job={all}")]);
    assert_eq!(cancelled["done"], true);
    let wrong = curl(&["--data", r#"{"origins": ["nowhere:x"]}"#, "http://musicfs/v1/scan"]);
    assert!(wrong["error"].as_str().unwrap().contains("'nowhere:x'"), "{wrong}");
    mount.unmount();
}
