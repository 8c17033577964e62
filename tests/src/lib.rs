//! What the tests of this workspace share: finding the sources, building the binary, mounting, checking.
//!
//! The tests themselves are in one folder per theme: `architecture` (who depends on whom), `semantics` (every
//! promise has its test), `scan` (folders into a catalogue), `cache` (reading through the cache), `e2e` (the real
//! binary, mounted). Helpers panic with a message where a test should fail.

pub mod disk;
pub mod files;
pub mod home;
pub mod listener;
pub mod mount;
pub mod replacing;
pub mod request_log;
pub mod run;
pub mod windows;
pub mod workspace;
