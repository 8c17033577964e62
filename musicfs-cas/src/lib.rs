//! Content-addressed, verified chunk storage for MusicFS.
//!
//! * [`CasStore`] keeps chunks of bytes in files that are named by their content.
//! * [`FileReader`] reads files through it: what is in chunks comes from there, verified; what is not comes through
//!   a [`ContentFetcher`], is served as it arrives, cut into chunks, stored, and found again after a restart.
//!
//! Which chunks go when room is needed is not decided here yet, nor is there an index on disk: when there is no
//! room, a `put` says so, and reading goes on without storing.
//!
//! # Example
//!
//! ```
//! use musicfs_cas::{CasConfig, CasStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let store = CasStore::open(CasConfig::new(dir.path().join("chunks"))).await?;
//! let hash = store.put(b"music").await?;
//! assert_eq!(store.get(&hash).await?.as_deref(), Some(&b"music"[..]));
//! assert_eq!(store.current_size(), 5);
//! # Ok(())
//! # }
//! ```

mod cached_file;
mod chunker;
mod durable;
mod fetcher;
mod hot;
mod index;
mod layout;
mod reader;
mod store;
mod window;

pub use fetcher::ContentFetcher;
pub use reader::{FileReader, ReaderStats, WorthCaching};
pub use store::{CasConfig, CasStore};
