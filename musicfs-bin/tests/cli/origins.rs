//! How origins are, as the program tells it.

use std::fs;

use crate::bench::Bench;

#[test]
fn absent_folder_is_unreachable_in_status_and_well_again_when_it_is_back() {
    let bench = Bench::new();
    let daemon = bench.mount(&["--health-interval", "1s"]);
    bench.until("the folder to be well", |status| status["origins"][0]["state"] == "ok");
    let aside = bench.path("aside");
    fs::rename(bench.music(), &aside).unwrap();
    bench.until("it to be missed", |status| status["origins"][0]["state"] == "unreachable");
    bench.until("the mount to be offline", |status| status["state"] == "offline");
    bench.run(["origin", "check"]).failed_with(1, &[]);
    let report = bench.run(["doctor", "--json"]);
    assert!(report.out.contains("is alive and offline"), "{report:?}");
    fs::rename(&aside, bench.music()).unwrap();
    bench.until("it to be well again", |status| {
        status["origins"][0]["state"] == "ok" && status["state"] == "ready"
    });
    let listed = bench.json(["origin", "list", "--json"]);
    assert_eq!(listed[0]["state"], "ok", "{listed}");
    assert!(listed[0]["checked_s"].is_u64() && listed[0]["errors"].is_u64(), "{listed}");
    drop(daemon);
}

#[test]
fn folders_are_checked_without_a_mount() {
    let bench = Bench::new();
    let music = bench.music();
    let named = ["--origin".as_ref(), music.as_os_str()];
    let checked = bench.json(["origin".as_ref(), "check".as_ref(), "--json".as_ref()].iter().chain(&named));
    assert_eq!(checked[0]["state"], "ok", "{checked}");
    let listed = bench.json(["origin".as_ref(), "list".as_ref(), "--json".as_ref()].iter().chain(&named));
    assert_eq!(listed[0]["state"], "unknown", "{listed}");
    fs::remove_dir_all(&music).unwrap();
    let ran = bench.run(["origin".as_ref(), "check".as_ref()].iter().chain(&named));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("unreachable"), "{ran:?}");
}
