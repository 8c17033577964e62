//! The catalogue of MusicFS and what keeps it true.

mod database;
mod library;
pub mod tags;

pub use database::{Database, DatabaseError};
pub use library::{Identity, Library, LibraryError, Restored};
