//! Tests with real mounts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mount/reading.rs"]
mod reading;
#[path = "mount/support.rs"]
mod support;
