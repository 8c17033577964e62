//! Parses every file below a folder on one thread, and prints how fast that went.
//!
//! ```text
//! cargo run --release -p musicfs-sync --example tag_bench -- ~/Music
//! ```
//!
//! Runs three times: the first may wait for the disk, the others find the files in the page cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use musicfs_core::{Clock, SystemClock};
use musicfs_sync::tags::parse_file;

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        } else {
            into.push(entry.path());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: tag_bench DIR");
        return ExitCode::from(2);
    };
    let mut paths = Vec::new();
    if let Err(error) = collect(Path::new(&folder), &mut paths) {
        eprintln!("{}: {error}", Path::new(&folder).display());
        return ExitCode::FAILURE;
    }
    let clock = SystemClock::new();
    for round in 1..=3 {
        let begun = clock.now();
        let (mut bytes, mut parsed, mut problems) = (0, 0u64, BTreeMap::<String, u64>::new());
        for path in &paths {
            let found = File::open(path)
                .and_then(|file| Ok((file.metadata()?.len(), file)))
                .map_err(|error| error.to_string())
                .and_then(|(len, file)| parse_file(&file, len).map_err(|error| error.to_string()));
            match found {
                Ok(found) => {
                    bytes += found.bytes_read;
                    parsed += 1;
                }
                Err(problem) => *problems.entry(problem).or_default() += 1,
            }
        }
        let seconds = clock.now().since(begun).as_secs_f64();
        println!(
            "round {round}: {} files in {seconds:.3} s: {:.0} files/s, {:.1} KiB read of each parsed",
            paths.len(),
            paths.len() as f64 / seconds,
            bytes as f64 / 1024.0 / parsed.max(1) as f64,
        );
        if round == 1 {
            for (problem, count) in &problems {
                println!("  {count} not parsed: {problem}");
            }
        }
    }
    ExitCode::SUCCESS
}
