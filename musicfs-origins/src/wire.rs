//! What origins behind a network have in common; all but `answers.rs`, `failure.rs` and `walk.rs` is for the protocols that are
//! spoken directly (SFTP, SMB, NFS).
//!
//! * `answers.rs`: what they answer alike.
//! * `failure.rs`: what went wrong below an origin, before it is known of which file.
//! * `delivery.rs`: a long read, asked for in steps and handed on in order.
//! * `dial.rs`: names and TCP connections.
//! * `mux.rs`: many calls at once over one connection, matched by tag.
//! * `pool.rs`: a few connections, dialled when needed and replaced when lost.
//! * `walk.rs`: a listing in order, folder by folder, with folders fetched ahead.
//!
//! # Invariants
//! * A call that is dropped poisons nothing: its answer is matched by tag and thrown away.
//! * A connection on which nothing arrives while something is awaited is given up after a fixed silence, so that
//!   one stalled connection is not used for ever.
//! * What is held in memory is bounded: calls in flight per connection, length of a frame, folders fetched ahead.

mod answers;
#[cfg(feature = "direct")]
mod delivery;
#[cfg(feature = "direct")]
mod dial;
mod failure;
#[cfg(feature = "direct")]
mod mux;
#[cfg(feature = "direct")]
mod pool;
mod walk;

pub(crate) use answers::read;
#[cfg(feature = "direct")]
pub(crate) use answers::stat;
#[cfg(feature = "direct")]
pub(crate) use delivery::{Delivery, FIRST_STEP, LONGEST_STEP, steps};
#[cfg(feature = "direct")]
pub(crate) use dial::{Names, connect, within};
pub(crate) use failure::Failure;
#[cfg(feature = "direct")]
pub(crate) use mux::{Answer, Frames, Incoming, Mux, Shared, Sink};
#[cfg(feature = "direct")]
pub(crate) use pool::{Dial, Link, Pool};
pub(crate) use walk::{Folders, Listed, ListedFile, ListedFolder, scan};

/// How long a connection may stay silent while an answer is awaited.
#[cfg(feature = "direct")]
pub(crate) const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long connecting, with all handshakes, may take.
#[cfg(feature = "direct")]
pub(crate) const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);
