//! Origins that are reached over HTTP: S3 and its like, WebDAV, the directory indexes of web servers.
//!
//! * `client.rs` makes the one HTTP client of an origin (TLS, connections kept and shared, names remembered for a
//!   minute) and sorts what goes wrong in it.
//! * `expect.rs` decides, from the head of an answer, whether its body is of the version asked for.
//! * `web.rs` is an origin whose files have URLs; `dav.rs` and `index.rs` are how its folders are listed.
//! * `object.rs` is an origin behind opendal, with the same client below.
//!
//! # Invariants
//! * A body is taken only from an answer whose head agrees with the version: entity tag where both sides have
//!   one, else modification time as exactly as both know it, and always the size. The two come in one answer, so
//!   that nothing can change between them.
//! * Whatever a server makes of a range (it may ignore it), the bytes handed on are those asked for.
//! * A root that is missing is an origin that is not there (`NoRoot`), never an empty one, and a file below
//!   it is not gone.
//! * Credentials are sent to the origin's own host only, and are in no error, log or `Debug` output.
//!
//! Nothing here retries or limits; layers do. No lock is held across an await.

mod client;
#[cfg(feature = "webdav")]
mod dav;
mod dns;
mod expect;
#[cfg(feature = "http")]
mod index;
#[cfg(feature = "opendal")]
mod object;
#[cfg(any(feature = "http", feature = "webdav"))]
mod place;
#[cfg(any(feature = "http", feature = "webdav"))]
mod web;

pub use client::{WebError, WebOptions};
#[cfg(feature = "webdav")]
pub use dav::WebdavOrigin;
#[cfg(feature = "http")]
pub use index::HttpOrigin;
#[cfg(feature = "opendal")]
pub use object::OpendalOrigin;
#[cfg(feature = "s3")]
pub use object::{S3Config, S3Credentials, S3Origin};
#[cfg(any(feature = "http", feature = "webdav"))]
pub use web::{WebAuth, WebConfig};

/// Longest range of one read; it is held in memory.
const MAX_RANGE: u64 = 64 << 20;
