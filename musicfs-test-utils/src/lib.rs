//! Doubles, fault injectors, fixtures and conformance suites for MusicFS and for origins of your own.
//!
//! * **Doubles**, stricter than the real things: [`MemoryOrigin`], [`MemoryChunkStore`], [`MemoryMetaDb`],
//!   [`ManualClock`].
//! * **Fault injectors** over any implementation: [`FaultyOrigin`], [`FaultyCasStore`]. With the feature `fuse`, a
//!   mounted filesystem that fails: `FaultyFs`.
//! * **A network that fails**: [`fault_proxy`].
//! * **Conformance suites**: [`conformance`] has a function for each promise of each contract, and a macro for
//!   each contract that makes them tests.
//! * **Fixtures**: [`make_file_meta`], [`make_audio_meta`], [`setup_test_cas`], [`setup_test_tree`], and real music
//!   files in [`library`]; a catalogue of any size without files in [`tracks`].
//! * **Assertions**: [`captured_logs`], and [`eventually`], the one place that waits by looking again.
//!
//! Everything here panics when it is misused or when what it checks does not hold: it is for tests.
//!
//! # Example: an origin that fails
//!
//! ```
//! use musicfs_core::{Origin, OriginErrorKind};
//! use musicfs_test_utils::{FailMode, FaultyOrigin, MemoryOrigin};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let origin = FaultyOrigin::new(MemoryOrigin::new("nas"), FailMode::FailAfterN(1));
//! assert!(origin.health().await.is_ok());
//! assert_eq!(origin.health().await.unwrap_err().kind, OriginErrorKind::Unavailable);
//! # }
//! ```

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod clock;
pub mod conformance;
pub mod damage;
pub mod fault_proxy;
mod faulty_chunks;
#[cfg(feature = "fuse")]
mod faulty_fs;
mod faulty_origin;
pub mod file_servers;
mod fixtures;
pub mod library;
mod logs;
mod memory_chunks;
mod memory_meta;
mod memory_origin;
pub mod tracks;
mod wait;

pub use clock::ManualClock;
pub use faulty_chunks::FaultyCasStore;
#[cfg(feature = "fuse")]
pub use faulty_fs::FaultyFs;
pub use faulty_origin::{FailMode, FaultyOrigin};
pub use fixtures::{make_audio_meta, make_file_meta, setup_test_cas, setup_test_tree, shown_files};
pub use logs::{CapturedLogs, captured_logs};
pub use memory_chunks::MemoryChunkStore;
pub use memory_meta::MemoryMetaDb;
pub use memory_origin::MemoryOrigin;
pub use wait::{LIMIT, eventually, eventually_async, eventually_blocking, eventually_within};
