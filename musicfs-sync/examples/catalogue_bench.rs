//! Makes a catalogue of any size without a file behind it, and measures the database on it.
//!
//! ```text
//! catalogue_bench DB_PATH N [--flat M]    make a catalogue of N tracks at DB_PATH, where nothing may be yet, then measure it
//! catalogue_bench DB_PATH                 measure the catalogue that is there
//! ```
//!
//! The tracks are those of `musicfs_test_utils::tracks`, shown as the default template has it. `--flat M` adds M files
//! to one directory, `Flat`. Memory is that of the whole process; for what a daemon would need, measure a catalogue that
//! is there.

#[path = "shared/figures.rs"]
mod figures;

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use musicfs_core::{
    Batch, Clock, Cookie, FileId, FileMeta, Ino, MetaDb, NodeKind, Op, OriginId, OriginPath, Placement,
    ROOT_INODE, Revision, SystemClock, Template, UnixNanos, VirtualPath,
};
use musicfs_sync::{Database, arranged_by};
use musicfs_test_utils::tracks;

use figures::{figure, millis, status};

/// Files in a batch, as a scan makes them.
const BATCH: u64 = 2_000;
/// Entries asked for at a time, as a kernel's buffer has room for.
const PAGE: usize = 256;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = Arguments::parse(&arguments) else {
        eprintln!("usage: catalogue_bench DB_PATH [N [--flat M]]");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("catalogue_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    path: PathBuf,
    make: Option<Make>,
}

#[derive(Clone, Copy)]
struct Make {
    tracks: u64,
    flat: u64,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Option<Self> {
        let number = |text: &String| text.parse().ok();
        let (path, make) = match arguments {
            [path] => (path, None),
            [path, n] => (path, Some(Make { tracks: number(n)?, flat: 0 })),
            [path, n, flag, m] if flag == "--flat" => {
                (path, Some(Make { tracks: number(n)?, flat: number(m)? }))
            }
            _ => return None,
        };
        Some(Self { path: path.into(), make })
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let clock = SystemClock::new();
    if let Some(make) = arguments.make {
        if arguments.path.exists() {
            return Err(format!("{} is there already", arguments.path.display()).into());
        }
        fill(&arguments.path, make, &clock)?;
    }
    measure(&arguments.path, &clock)
}

/// Makes the catalogue.
fn fill(path: &Path, make: Make, clock: &SystemClock) -> Result<()> {
    let db = Database::open(path)?;
    let template = Template::default();
    let mut applying = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    let mut processor = Duration::ZERO;
    let mut most = 0;
    let all = make.tracks + make.flat;
    for first in (0..all).step_by(BATCH as usize) {
        let mut ops = Vec::new();
        for n in first..all.min(first + BATCH) {
            let (file, path) = if n < make.tracks { tracks::track(n) } else { flat(n)? };
            let id = file.id;
            ops.push(Op::PutFile(Box::new(file)));
            ops.push(Op::Place(Placement { id, path, prefer: 0 }));
        }
        let batch = Batch { at: UnixNanos(1_700_000_000_000_000_000), ops };
        let before = processor_time();
        let (took, applied) = timed(clock, || db.apply(&batch));
        applied?;
        processor += processor_time().saturating_sub(before);
        applying += took;
        slowest = slowest.max(took);
        most = most.max(status("VmRSS"));
    }
    // As the scanner leaves it: arranged by this template, so that a mount has no reason to do it again.
    let note = arranged_by(&template);
    db.apply(&Batch { at: UnixNanos(1_700_000_000_000_000_000), ops: vec![note] })?;
    figure("applying all batches of 2,000 files", millis(applying));
    figure("applying, files per second", (all as f64 / applying.as_secs_f64()).round());
    figure("applying, processor time", millis(processor));
    figure("slowest batch", millis(slowest));
    figure("memory while applying", format!("{} kB", most));
    let (took, done) = timed(clock, || db.checkpoint());
    done?;
    figure("checkpoint", millis(took));
    let (took, ()) = timed(clock, || drop(db));
    figure("close", millis(took));
    figure("memory after closing", format!("{} kB", status("VmRSS")));
    Ok(())
}

/// Measures a catalogue.
fn measure(path: &Path, clock: &SystemClock) -> Result<()> {
    figure("size", format!("{:.1} MiB", path.metadata()?.len() as f64 / 1_048_576.0));
    let (took, opened) = timed(clock, || Database::open_or_rebuild(path, clock));
    let (db, quarantined) = opened?;
    if let Some(moved) = quarantined {
        return Err(format!("the catalogue was damaged; it is at {} now", moved.display()).into());
    }
    figure("open", millis(took));
    let (took, root) =
        timed(clock, || db.node(ROOT_INODE).and_then(|_| db.list(ROOT_INODE, Cookie(0), PAGE)));
    root?;
    figure("first look at the root", millis(took));
    figure("memory after opening", format!("{} kB", status("VmRSS")));
    let (took, totals) = timed(clock, || db.totals());
    figure("totals", format!("{} ({:?})", millis(took), totals?));

    let (took, walked) = timed(clock, || walk(&db));
    let walked = walked?;
    figure("walk by list()", millis(took));
    figure("walk, entries", walked.entries);
    figure("walk, largest directory", walked.largest);
    let (took, again) = timed(clock, || walk(&db));
    again?;
    figure("walk again", millis(took));
    figure("memory after the walk", format!("{} kB", status("VmRSS")));

    let (took, looked_up) = timed(clock, || {
        walked.sample.iter().try_for_each(|(parent, name, _)| db.lookup(*parent, name).map(drop))
    });
    looked_up?;
    figure("lookup, each", micros(took, walked.sample.len()));
    let (took, read) =
        timed(clock, || walked.sample.iter().try_for_each(|(_, _, id)| db.file(*id).map(drop)));
    read?;
    figure("file, each", micros(took, walked.sample.len()));

    let origin = OriginId::from(tracks::ORIGIN);
    let mut known: HashMap<FileId, u64> = HashMap::new();
    let (took, visited) = timed(clock, || {
        let mut count = 0u64;
        db.known(&origin, &mut |file| count += u64::from(file.version.size > 0)).map(|()| count)
    });
    figure("known, over all", format!("{} ({} files)", millis(took), visited?));
    figure("memory after known", format!("{} kB", status("VmRSS")));
    let (took, visited) = timed(clock, || {
        db.known(&origin, &mut |file| {
            known.insert(file.id, file.version.size);
        })
    });
    visited?;
    figure("known, into a map", format!("{} ({} files)", millis(took), known.len()));
    drop(known);

    let (took, followed) = timed(clock, || follow(&db));
    figure("changes_since, all that are kept", format!("{} ({} changes)", millis(took), followed?));
    let (took, albums) = timed(clock, || db.multi_disc_albums());
    figure("multi_disc_albums", format!("{} ({})", millis(took), albums?.len()));
    figure("memory at the end", format!("{} kB, at most {} kB", status("VmRSS"), status("VmHWM")));
    Ok(())
}

struct Walked {
    entries: u64,
    largest: u64,
    sample: Vec<(Ino, Vec<u8>, FileId)>,
}

fn walk(db: &Database) -> Result<Walked> {
    let mut walked = Walked { entries: 0, largest: 0, sample: Vec::new() };
    let mut dirs = vec![ROOT_INODE];
    while let Some(dir) = dirs.pop() {
        let mut after = Cookie(0);
        let mut here = 0;
        loop {
            let page = db.list(dir, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.cookie;
            here += page.len() as u64;
            for node in page {
                match (node.kind, node.ino.file_id(), node.name) {
                    (NodeKind::Dir, _, _) => dirs.push(node.ino),
                    (NodeKind::File, Some(id), Some(name)) if walked.sample.len() < 20_000 => {
                        walked.sample.push((dir, name.as_bytes().to_vec(), id));
                    }
                    _ => {}
                }
            }
        }
        walked.entries += here;
        walked.largest = walked.largest.max(here);
    }
    Ok(walked)
}

fn follow(db: &Database) -> Result<usize> {
    let latest = db.revision()?;
    let mut at = Revision(0);
    let mut changes = 0;
    while at < latest {
        let next = db.changes_since(at, 4_000)?;
        // What is no longer kept is passed over.
        at = if next.truncated { Revision(at.0 + 1) } else { next.upto };
        changes += next.changes.len();
    }
    Ok(changes)
}

/// A track beside the others, in one directory with its like.
fn flat(n: u64) -> Result<(FileMeta, VirtualPath)> {
    let (mut file, _) = tracks::track(n);
    let name = format!("{n:07}.flac");
    file.path = OriginPath::new(format!("flat/{name}"))?;
    file.id = FileId::derive(&file.origin, &file.path, 0);
    Ok((file, VirtualPath::from_text(&format!("Flat/{name}"))?))
}

fn timed<T>(clock: &SystemClock, work: impl FnOnce() -> T) -> (Duration, T) {
    let start = clock.now();
    let result = work();
    (clock.now().since(start), result)
}

fn micros(time: Duration, calls: usize) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6 / calls.max(1) as f64)
}

/// The processor time that this thread has had, which other processes do not add to.
fn processor_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = times.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
