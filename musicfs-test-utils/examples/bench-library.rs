//! Writes a large library of small FLAC files: `cargo run --release -p musicfs-test-utils --example bench-library --
//! DIR COUNT`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: bench-library DIR COUNT";
    let mut args = std::env::args_os().skip(1);
    let dir: PathBuf = args.next().ok_or(USAGE)?.into();
    let count = args.next().and_then(|n| n.to_str()?.parse().ok()).ok_or(USAGE)?;
    musicfs_test_utils::library::bench_library(&dir, count)?;
    println!("{count} tracks in {}", dir.display());
    Ok(())
}
