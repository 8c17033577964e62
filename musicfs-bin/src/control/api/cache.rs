//! What is said of the cache.

use serde::{Deserialize, Serialize};

/// `GET /v1/cache`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheReport {
    pub(crate) directory: String,
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    /// The limit that is set.
    pub(crate) max_bytes: Option<u64>,
    /// What the limit and the free space on the disk together allow.
    pub(crate) room: Option<u64>,
    /// `normal`, `evicting`, `tight` or `full`.
    pub(crate) level: String,
    /// Whether all chunks are counted yet.
    pub(crate) counted: bool,
    /// Heads and tails of files.
    pub(crate) edge_bytes: u64,
    pub(crate) pinned_bytes: u64,
    /// What would be stored if nothing were stored once for several files, divided by what is.
    pub(crate) dedup_ratio: Option<f64>,
    /// Which part of the bytes read came from the cache, from 0 to 1.
    pub(crate) hit_rate: Option<f64>,
    pub(crate) from_cache: u64,
    pub(crate) from_origins: u64,
    pub(crate) fetched: u64,
    pub(crate) prefetched: u64,
    /// Chunks that were damaged or gone, and were fetched again.
    pub(crate) repaired: u64,
    /// Bytes that stayed cached over a change of tags, and were found to be right.
    #[serde(default)]
    pub(crate) proven: u64,
    /// Files of which what was cached was not what they hold.
    #[serde(default)]
    pub(crate) mismatched: u64,
    pub(crate) not_stored: u64,
    /// Whether the cache is left alone because it failed a short while ago.
    pub(crate) passing_through: bool,
    pub(crate) evicted_chunks: u64,
    pub(crate) evicted_bytes: u64,
    pub(crate) undeletable: u64,
    pub(crate) pins: Vec<PinShown>,
}

/// Something pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinShown {
    /// `file`, `directory` or `origin`.
    pub(crate) kind: String,
    /// Its path in the tree, or the origin's id.
    pub(crate) what: String,
}

/// What to do with the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheAction {
    /// Fetch what is missing.
    #[default]
    Warm,
    /// Keep, and fetch what is missing.
    Pin,
    /// Keep no longer.
    Unpin,
    /// Remove, but for what is pinned.
    Evict,
    /// Look at every chunk, and fetch what is damaged again.
    Verify,
    /// Remove everything.
    Clear,
}

/// `POST /v1/cache`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheOrder {
    pub(crate) action: CacheAction,
    /// Paths from the root of the tree, percent-encoded.
    pub(crate) paths: Vec<String>,
    /// Ids, directories or addresses of origins.
    pub(crate) origins: Vec<String>,
    /// How much to evict, when no path and no origin is named.
    pub(crate) bytes: Option<u64>,
}

/// What became of a [`CacheOrder`]: `GET /v1/cache/progress?job=N`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheJob {
    pub(crate) job: u64,
    pub(crate) action: CacheAction,
    /// Whether it has ended.
    pub(crate) done: bool,
    /// Files that it is about.
    pub(crate) files: u64,
    pub(crate) files_done: u64,
    pub(crate) files_failed: u64,
    /// Chunks that it is about, when it verifies.
    pub(crate) chunks: u64,
    pub(crate) chunks_done: u64,
    /// Bytes that it is about.
    pub(crate) bytes: u64,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_fetched: u64,
    pub(crate) bytes_freed: u64,
    /// Pins that were made or taken back.
    pub(crate) pins: u64,
    /// Damaged chunks.
    pub(crate) damaged: u64,
    /// Chunks without a file.
    pub(crate) missing: u64,
    pub(crate) unreadable: u64,
    /// Files whose damaged or missing chunks were fetched again.
    pub(crate) repaired: u64,
    pub(crate) undeletable: u64,
    /// The first that failed.
    pub(crate) failures: Vec<FailedFile>,
    /// Why it failed as a whole.
    pub(crate) error: Option<String>,
}

/// A file that could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedFile {
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// Anything that can be asked of a daemon about its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheRequest {
    /// How it is.
    Report,
    /// To do something.
    Order(CacheOrder),
    /// How far an order is.
    Job(u64),
}

/// The answer to a [`CacheRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum CacheAnswer {
    /// How it is.
    Report(Box<CacheReport>),
    /// How far the order is.
    Job(Box<CacheJob>),
}
