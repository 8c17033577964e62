//! Searching a million tracks that have no files: building the index beside a mount, and asking the daemon.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use musicfs_test_utils::tracks;
use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use musicfs_tests::{run, workspace};
use serde_json::Value;

use crate::Settings;
use crate::measure::{memory, middle, most_memory, pause, seconds};
use crate::table::{Bar, Table};

/// Queries of each kind: enough for a hundredth of all to be more than a few.
const EACH: u64 = 100;

/// Measures the index of a catalogue.
pub(crate) fn run(settings: &Settings, table: &mut Table) {
    let made = settings.dir.join(format!("search-{}.db", settings.tracks));
    if !made.exists() {
        eprintln!("making a catalogue of {} tracks", settings.tracks);
        fs::create_dir_all(&settings.dir).unwrap();
        let mut make = Command::new(env!("CARGO"));
        make.current_dir(workspace::root())
            .args(["run", "--quiet", "--release", "-p", "musicfs-sync", "--example", "search_bench", "--"])
            .arg(&made)
            .arg(settings.tracks.to_string())
            .stderr(Stdio::inherit());
        run::succeed(make);
    }
    let home = Home::new();
    let (cache, music) = (home.folder("cache/musicfs"), home.folder("music"));
    fs::create_dir_all(&cache).unwrap();
    fs::create_dir_all(&music).unwrap();
    fs::copy(&made, cache.join("catalogue.db")).unwrap();

    let mount = Mount::start(&home, &music, &[]);
    let (build, ()) = seconds(|| wait_ready(&mount));
    let pid = mount.pid().as_raw();
    let scale = settings.tracks as f64 / 1e6;
    table.add("tracks indexed per second", settings.tracks as f64 / build, "", Bar::AtLeast(20_000.0));
    table.add("memory while indexing, at most", most_memory(pid), "MB", Bar::None);
    mount.unmount();
    table.add("size of the search index", size(&cache.join("search")), "MB", Bar::AtMost(500.0 * scale));

    let mount = Mount::start(&home, &music, &[]);
    let (open, ()) = seconds(|| wait_ready(&mount));
    table.add("search index opened and checked", open, "s", Bar::None);
    let queries = tracks::QUERY_KINDS.map(|kind| (kind, (0..EACH).map(|n| tracks::query(kind, n)).collect()));
    let kinds = Kind::ask_all(&socket(&home), &queries);
    let all = sorted(kinds.iter().flat_map(|kind| &kind.times).copied().collect());
    let what = format!("search among {} tracks", settings.tracks);
    table.add(format!("{what}, median"), middle(all.clone()), "ms", Bar::None);
    table.add(format!("{what}, p99"), p99(&all), "ms", Bar::AtMost(20.0));
    let worst = kinds.iter().max_by(|one, other| p99(&one.times).total_cmp(&p99(&other.times))).unwrap();
    table.add(
        format!("{what}, p99 of the slowest kind ({})", worst.name),
        p99(&worst.times),
        "ms",
        Bar::AtMost(20.0),
    );
    for Kind { name, times } in &kinds {
        table.note(format!(
            "search, {name}: median {:.1} ms, p99 {:.1} ms",
            middle(times.clone()),
            p99(times)
        ));
    }
    let shown: Vec<f64> = queries
        .iter()
        .flat_map(|(_, queries)| &queries[..2])
        .map(|query| seconds(|| fs::read_dir(mount.join(".search").join(query)).unwrap().count()).0)
        .map(|time| time * 1000.0)
        .collect();
    table.add("/.search/QUERY, listed the first time, median", middle(shown), "ms", Bar::None);
    table.add("memory after searching", memory(mount.pid().as_raw()), "MB", Bar::AtMost(200.0));
    mount.unmount();
}

/// How long queries of a kind took, in ms, from the shortest.
struct Kind {
    name: &'static str,
    times: Vec<f64>,
}

impl Kind {
    /// Asks all queries, the kinds by turns.
    fn ask_all(socket: &Path, queries: &[(&'static str, Vec<String>)]) -> Vec<Self> {
        let mut times = vec![Vec::new(); queries.len()];
        // The first round warms.
        for _ in 0..2 {
            times.iter_mut().for_each(Vec::clear);
            for n in 0..EACH as usize {
                for (times, (_, queries)) in times.iter_mut().zip(queries) {
                    times.push(seconds(|| ask(socket, &queries[n])).0 * 1000.0);
                }
            }
        }
        let kinds = queries.iter().zip(times);
        kinds.map(|((name, _), times)| Self { name, times: sorted(times) }).collect()
    }
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}

/// Returns what all but a hundredth are within.
fn p99(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

fn wait_ready(mount: &Mount<'_>) {
    while mount.status()["search"]["phase"] != "ready" {
        pause();
    }
}

fn socket(home: &Home) -> PathBuf {
    let mounts: Value = serde_json::from_str(&home.succeed(["mounts", "--json"])).unwrap();
    let found = mounts["mounts"][0]["control_socket"].as_str();
    found.unwrap_or_else(|| panic!("no socket in {mounts}")).into()
}

/// Asks as `musicfs search` does, without a process for it.
fn ask(socket: &Path, query: &str) {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET /v1/search?q={encoded}&limit=50 HTTP/1.1\r\nHost: musicfs\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"complete\":true"), "{query}: {answer}");
}

fn size(dir: &Path) -> f64 {
    let sizes = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    sizes.sum::<u64>() as f64 / 1e6
}
