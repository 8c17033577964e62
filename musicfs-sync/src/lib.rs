//! The catalogue of MusicFS and what keeps it true.
//!
//! * [`Database`] is the catalogue: core's [`MetaDb`](musicfs_core::MetaDb) on SQLite, holding what was *observed*;
//!   it may be thrown away and comes back with the next scan.
//! * [`Library`] is what must never be lost: what the *user* said, and the few identities that cannot be derived.
//! * [`tags`] recognises and parses audio files, asking for as few bytes as it can.
//! * [`Scanner`] compares an origin's listing with the catalogue ([`DeltaDetector`]), parses what is new and applies
//!   it in batches, so that what is found is seen in the tree while the scan goes on.
//! * [`FolderWatcher`] tells which paths of a local folder changed.
//! * [`SearchIndex`] finds tracks by their tags; [`Search`] keeps it up to date.
//! * [`publish_file_events`] tells those who listen what happens to files.
//!
//! This crate knows origins, stores and clocks through core's traits only.

mod arrange;
mod database;
mod file_events;
mod library;
mod scan;
mod search;
pub mod tags;
mod watch;

pub use database::{Database, DatabaseError};
pub use file_events::{file_events, publish_file_events};
pub use library::{Exclusions, Identity, Library, LibraryError, Restored};
pub use scan::{
    Delta, DeltaDetector, Excluded, Listed, MANY_PATHS, PassOptions, PassProgress, Reread, ScanError,
    ScanPhase, ScanProgress, ScanReport, Scanner, ScannerConfig, TrashFilter, Trashed, Unlisted,
    Verification, arranged_by, few_paths,
};
pub use search::{
    CatchUp, Caught, Opened, Search, SearchError, SearchIndex, SearchPhase, SearchStatus, TooLarge,
    check_query,
};
pub use watch::{FolderWatcher, WatchState, Watched};
