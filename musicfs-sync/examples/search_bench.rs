//! Measures the search index on a catalogue of any size without a file behind it.
//!
//! ```text
//! search_bench DB_PATH N           make a catalogue of N tracks at DB_PATH, where nothing may be yet
//! search_bench DB_PATH INDEX_DIR   build an index of the catalogue, where nothing may be yet, and search it
//! ```
//!
//! Memory is that of the whole process.

#[path = "shared/figures.rs"]
mod figures;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use musicfs_core::{Batch, Clock, MetaDb, MonoTime, SystemClock, Template, UnixNanos};
use musicfs_sync::{CatchUp, Database, SearchIndex, arranged_by};
use musicfs_test_utils::tracks;
use tokio_util::sync::CancellationToken;

use figures::{figure, millis, status};

/// Results asked for, as `musicfs search` does.
const LIMIT: usize = 50;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [db, second] => match second.parse() {
            Ok(count) => make(Path::new(db), count),
            Err(_) => measure(Path::new(db), Path::new(second)),
        },
        _ => {
            eprintln!("usage: search_bench DB_PATH N|INDEX_DIR");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("search_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(path: &Path, count: u64) -> Result<()> {
    if path.exists() {
        return Err(format!("{} is there already", path.display()).into());
    }
    let db = Database::open(path)?;
    tracks::fill(&db, 0..count)?;
    db.apply(&Batch { at: UnixNanos(0), ops: vec![arranged_by(&Template::default())] })?;
    Ok(db.checkpoint()?)
}

fn measure(path: &Path, dir: &Path) -> Result<()> {
    let clock = SystemClock::new();
    let db = Database::open(path)?;
    let cancel = CancellationToken::new();
    let how = CatchUp { db: &db, clock: &clock, cancel: &cancel, opened_at: None, progress: &|_| {} };
    let index = SearchIndex::open(dir)?;
    let begun = clock.now();
    let caught = index.catch_up(&how)?;
    let took = clock.now().since(begun);
    figure("tracks", caught.files);
    figure("build", format!("{:.2} s", took.as_secs_f64()));
    figure("build, tracks per second", (caught.files as f64 / took.as_secs_f64()).round());
    figure("size", format!("{:.1} MB", size(dir)? as f64 / 1e6));
    figure("memory, at most", format!("{} kB", status("VmHWM")));
    drop(index);
    let begun = clock.now();
    let index = SearchIndex::open(dir)?;
    figure("open, with all checksums", millis(clock.now().since(begun)));
    index.search("warm", 1)?;
    for kind in tracks::QUERY_KINDS {
        let queries: Vec<String> = (0..200).map(|n| tracks::query(kind, n)).collect();
        ask(&index, &clock, &queries)?;
        let mut times = ask(&index, &clock, &queries)?;
        times.sort();
        let hits = queries.iter().map(|query| index.search(query, 10_000).map(|hits| hits.len()));
        let hits =
            hits.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().sum::<usize>() / queries.len();
        let (middle, p99, most) =
            (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]);
        figure(
            kind,
            format!("{}, p99 {}, at most {}, {hits} hits", millis(middle), millis(p99), millis(most)),
        );
    }
    figure("memory at the end", format!("{} kB", status("VmRSS")));
    Ok(())
}

fn ask(index: &SearchIndex, clock: &SystemClock, queries: &[String]) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for query in queries {
        let begun: MonoTime = clock.now();
        index.search(query, LIMIT)?;
        times.push(clock.now().since(begun));
    }
    Ok(times)
}

fn size(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}
