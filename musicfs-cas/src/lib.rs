//! Content-addressed, verified chunk storage for MusicFS.
//!
//! [`CasStore`] keeps chunks of bytes in files that are named by their content. It is the first part of the
//! cache: what decides which chunks are worth keeping, which go when room is needed, and which chunks a file is
//! made of, is not in this crate yet, nor is an index on disk. Nothing here has a policy: when there is no room,
//! a `put` says so.
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

mod durable;
mod index;
mod layout;
mod store;

pub use store::{CasConfig, CasStore};
