//! The real binary, with real mounts: what can be typed, and what it does.
//!
//! Every test has directories of its own for all that MusicFS keeps, and unmounts whatever it mounted, also when
//! it fails. The tests need FUSE and run as root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod away;
mod bench;
mod commands;
mod lifecycle;
mod origins;
mod service;
