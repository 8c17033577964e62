//! Content-addressed, verified chunk storage for MusicFS.
//!
//! * [`CasStore`] keeps chunks of bytes in files that are named by their content.
//! * [`FileReader`] reads files through it: what is in chunks comes from there, verified; what is not comes through
//!   a [`ContentFetcher`], is served as it arrives, cut into chunks, stored, and found again after a restart.
//!
//! * [`CacheKeeper`] decides what stays: it evicts what was used longest ago, and knows what is pinned.
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

mod buffers;
mod cached_file;
mod chunker;
mod direct;
mod durable;
mod edges;
mod fetcher;
mod hot;
mod index;
mod keeper;
mod layout;
mod reader;
mod space;
mod store;
mod window;

pub use fetcher::ContentFetcher;
pub use index::ChunkClass;
pub use keeper::{CacheKeeper, CacheLevel, CacheStats, Evicted, Verified};
pub use reader::{FileReader, IsAway, ReaderStats, Warmed, WorthCaching};
pub use store::{CasConfig, CasStore};
