//! A disk that goes away, and another in its place: through the program and a mount.

use std::fs;

use crate::bench::Bench;

#[test]
fn unmounted_disk_empties_nothing_and_a_real_loss_waits_to_be_confirmed() {
    let bench = Bench::new();
    let _daemon = bench.mount(&[]);
    bench.until_tracks(3);
    let origin = bench.json(["status", "--json"])["origins"][0]["id"].as_str().unwrap().to_owned();
    // What is left of a disk that is not mounted: its mount point.
    let aside = bench.path("aside");
    fs::rename(bench.music(), &aside).unwrap();
    fs::create_dir(bench.music()).unwrap();
    let ran = bench.run(["scan"]);
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.err);
    bench.until_tracks(3);
    let last = &bench.json(["status", "--json"])["scan"]["last"][&origin];
    assert_eq!(last["needs_confirmation"], true, "{last}");
    assert!(bench.ok(["status"]).contains(&format!("musicfs scan --confirm {origin}")));
    // It is back: all is as it was.
    fs::remove_dir(bench.music()).unwrap();
    fs::rename(&aside, bench.music()).unwrap();
    assert_eq!(bench.run(["scan"]).code, Some(0));
    assert_eq!(bench.json(["status", "--json"])["scan"]["last"][&origin]["unchanged"], 3);
    // It is gone, and the user says so.
    fs::rename(bench.music(), &aside).unwrap();
    fs::create_dir(bench.music()).unwrap();
    bench.run(["scan", "--confirm"]).failed_with(2, &["ORIGIN"]);
    bench.run(["scan", "--confirm", &origin]);
    bench.until_tracks(0);
}
