//! Writes a small library of playable files: `cargo run -p musicfs-test-utils --example demo-library -- DIR`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os().nth(1).ok_or("usage: demo-library DIR")?.into();
    let tracks = musicfs_test_utils::library::demo_library(&dir)?;
    println!("{} tracks in {}", tracks.len(), dir.display());
    Ok(())
}
