//! What the cache keeps, fetches ahead and lets go, by itself and by order.

mod commands;
mod heads;
mod limits;
mod prefetch;
mod scanner;

use std::fs;
use std::path::Path;

use musicfs_tests::home::Home;
use musicfs_tests::mount::Mount;
use serde_json::Value;

use crate::{chunk_files, read_afresh};

/// Returns the sum of the lengths of all chunk files.
fn bytes_on_disk(home: &Home) -> u64 {
    chunk_files(home).iter().map(|path| fs::metadata(path).map_or(0, |found| found.len())).sum()
}

/// Returns what `status` says of the cache.
fn cache(mount: &Mount<'_>) -> Value {
    mount.status()["cache"].clone()
}

/// Returns a number that `status` says of the cache.
pub(crate) fn number(mount: &Mount<'_>, key: &str) -> u64 {
    let cache = cache(mount);
    cache[key].as_u64().unwrap_or_else(|| panic!("no {key} in {cache}"))
}

/// Returns how many times, and for how many bytes, the one origin was asked.
pub(crate) fn asked(mount: &Mount<'_>) -> (u64, u64) {
    let origin = mount.status()["origins"][0].clone();
    (origin["reads"].as_u64().unwrap(), origin["bytes"].as_u64().unwrap())
}

/// Runs `musicfs cache` with `--json`, which must succeed, and returns what it printed.
fn ordered(home: &Home, args: &[&str]) -> Value {
    let text = home.succeed(["cache"].iter().chain(args).chain(&["--json"]));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn assert_plays(mount: &Mount<'_>, path: &Path, wanted: &[u8]) {
    let found = read_afresh(&mount.join(path), 0, wanted.len());
    assert!(
        found.unwrap_or_else(|error| panic!("{}: {error}", path.display())) == wanted,
        "{path:?} differs"
    );
}

fn state(mount: &Mount<'_>, path: &Path) -> Option<String> {
    musicfs_tests::files::attribute(&mount.join(path), "user.musicfs.cached")
}
