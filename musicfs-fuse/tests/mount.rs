//! Tests with real mounts. They need FUSE, and root for most; where either is missing they fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mount/changing.rs"]
mod changing;
#[path = "mount/ending.rs"]
mod ending;
#[path = "mount/failing.rs"]
mod failing;
#[path = "mount/listing.rs"]
mod listing;
#[path = "mount/logic.rs"]
mod logic;
#[path = "mount/passthrough.rs"]
mod passthrough;
#[path = "mount/reading.rs"]
mod reading;
#[path = "mount/support.rs"]
mod support;
#[path = "mount/users.rs"]
mod users;
#[path = "mount/writing.rs"]
mod writing;
