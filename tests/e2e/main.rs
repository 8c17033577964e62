//! The real binary and real mounts: what a user, a player and an operator would see.
//!
//! Each test has a home of its own, so that all may run at once; none looks at anything outside it but `/dev/fuse`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod away;
mod clients;
mod events;
mod exclude;
mod hung;
mod identity;
mod lifecycle;
mod read_only;
mod reading;
mod renamed;
mod replaced;
mod scripts;
mod search;
mod search_heals;
mod trash;
mod tree;
mod users;
mod watching;

use musicfs_test_utils::library;
use tempfile::TempDir;

/// Makes the demo library in a folder of its own.
fn demo() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    library::demo_library(dir.path()).unwrap();
    dir
}
