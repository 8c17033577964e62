//! What goes over the control socket, as JSON. Names of fields are stable: new ones are added, none is renamed.

pub(crate) mod cache;
mod files;
mod scan;

use serde::{Deserialize, Serialize};

pub(crate) use files::{
    ExcludeAction, ExcludeOrder, Exclusion, Exclusions, Trash, TrashAction, TrashFile, TrashOrder,
};
pub(crate) use scan::{PassStatus, ScanJob, ScanOrder, ScanResult, ScanStatus, Unlisted, Verifying};

/// How a mount is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountPhase {
    /// All origins answer.
    Ready,
    /// Some origins do not answer.
    Degraded,
    /// No origin answers.
    Offline,
    /// It is being unmounted.
    Stopping,
}

impl MountPhase {
    /// Returns the word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Stopping => "stopping",
        }
    }
}

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// Seconds since 1970.
    pub(crate) started: i64,
    pub(crate) uptime_s: u64,
    pub(crate) mountpoint: String,
    pub(crate) state: MountPhase,
    pub(crate) config_file: Option<String>,
    pub(crate) cache_dir: String,
    pub(crate) state_dir: String,
    pub(crate) template: String,
    pub(crate) health: Health,
    pub(crate) origins: Vec<OriginStatus>,
    pub(crate) totals: Totals,
    pub(crate) problems: Vec<ProblemFile>,
    pub(crate) scan: ScanStatus,
    /// The search index.
    #[serde(default)]
    pub(crate) search: musicfs_sync::SearchStatus,
    /// Events that listeners missed since the mount, because they were too slow to take them.
    #[serde(default)]
    pub(crate) events_missed: u64,
    pub(crate) tasks: Vec<Task>,
    /// Counters of the filesystem, by name.
    pub(crate) fuse: serde_json::Value,
    /// What is cached; `None` when there is no cache.
    pub(crate) cache: Option<CacheStatus>,
    /// What the user should know: a store that was restored, a key that waits for a restart.
    pub(crate) notices: Vec<String>,
}

/// `GET /v1/health`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) ok: bool,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

/// How the cache is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheStatus {
    /// Bytes of all chunks.
    pub(crate) size: u64,
    /// The limit that is set.
    #[serde(default)]
    pub(crate) max_size: Option<u64>,
    /// What the limit and the free space on the disk together allow.
    #[serde(default)]
    pub(crate) room: Option<u64>,
    /// How full that is: `normal`, `evicting`, `tight` or `full`.
    #[serde(default)]
    pub(crate) level: String,
    /// Bytes of pinned chunks.
    #[serde(default)]
    pub(crate) pinned: u64,
    /// Bytes evicted since the mount.
    #[serde(default)]
    pub(crate) evicted: u64,
    /// Whether what comes next is fetched before it is asked for.
    #[serde(default)]
    pub(crate) prefetch: bool,
    /// Bytes fetched before anybody read near them.
    #[serde(default)]
    pub(crate) prefetched: u64,
    /// Bytes served from chunks since the mount.
    pub(crate) from_cache: u64,
    /// Bytes served as they came from an origin.
    pub(crate) from_origins: u64,
    /// Bytes fetched, read-ahead included.
    pub(crate) fetched: u64,
    /// Bytes that stayed cached over a change of tags, and were found to be right.
    #[serde(default)]
    pub(crate) proven: u64,
    /// Files of which what was cached was not what they hold.
    #[serde(default)]
    pub(crate) mismatched: u64,
    /// Chunks that were damaged or gone, and were fetched again.
    pub(crate) repaired: u64,
    /// Chunks that could not be stored.
    pub(crate) not_stored: u64,
    /// Whether the cache failed a short while ago, so that reads go to the origins.
    pub(crate) passing_through: bool,
}

/// How an origin is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OriginStatus {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) priority: u32,
    /// `ok`, `degraded`, `unreachable`, or `unknown` before the first check has ended.
    pub(crate) state: OriginState,
    /// Why it is not `ok`.
    pub(crate) reason: Option<String>,
    /// Bytes of files that it has delivered since the mount.
    pub(crate) bytes: u64,
    /// Ranges of files that it was asked for since the mount.
    #[serde(default)]
    pub(crate) reads: u64,
    /// Calls that failed since the mount.
    pub(crate) errors: u64,
    /// Moving average of how long it takes to answer, in microseconds.
    pub(crate) latency_us: Option<u64>,
    /// Checks that failed in a row.
    #[serde(default)]
    pub(crate) failures: u32,
    /// Seconds since it was last asked how it is.
    #[serde(default)]
    pub(crate) checked_s: Option<u64>,
    /// How changes are watched for; `None` where they are polled.
    #[serde(default)]
    pub(crate) watch: Option<musicfs_sync::WatchState>,
}

/// Whether an origin answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OriginState {
    /// It has not been asked, or has not answered yet.
    #[default]
    Unknown,
    /// It answers.
    Ok,
    /// It answers slowly or now and then, its name is not found, or its last scan failed.
    Degraded,
    /// It does not.
    Unreachable,
}

/// `POST /v1/origins/check`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CheckOrder {
    /// Ids, directories or addresses of origins; all when there are none.
    pub(crate) origins: Vec<String>,
}

/// Sums over the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) tracks: u64,
    pub(crate) problems: u64,
    pub(crate) missing: u64,
    pub(crate) dirs: u64,
}

/// A file that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProblemFile {
    pub(crate) origin: String,
    pub(crate) path: String,
    /// Where in the tree it is.
    pub(crate) shown_at: Option<String>,
    pub(crate) reason: String,
}

/// A task of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) well: bool,
    pub(crate) critical: bool,
    pub(crate) restarts: u32,
}

/// `GET /v1/explain?path=…`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// The path from the root of the tree.
    pub(crate) path: String,
    /// `directory` or `file`.
    pub(crate) kind: String,
    pub(crate) inode: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// What is known of it, when it is a file.
    pub(crate) file: Option<FileExplanation>,
    /// In plain words, a line each.
    pub(crate) because: Vec<String>,
}

/// What is known of a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FileExplanation {
    pub(crate) id: String,
    pub(crate) origin: String,
    /// Its path on the origin.
    pub(crate) origin_path: String,
    pub(crate) size: u64,
    /// `audio`, `sidecar` or `unparsed`.
    pub(crate) kind: String,
    /// `pending`, `present`, `missing` or `excluded`.
    pub(crate) state: String,
    pub(crate) format: Option<String>,
    pub(crate) codec: Option<String>,
    /// `local`, `none`, `partial` or `full`.
    pub(crate) cached: String,
    pub(crate) problem: Option<String>,
    /// All files that share the entry, as `origin:path`; empty when it is alone.
    #[serde(default)]
    pub(crate) copies: Vec<String>,
    /// The copy that is read in its place because its own origin failed, as `origin:path`.
    #[serde(default)]
    pub(crate) backup: Option<String>,
    /// The template that gave the name; for audio only.
    pub(crate) template: Option<String>,
    /// What the template asked for and got, in order.
    pub(crate) fields: Vec<FieldUsed>,
    /// The path that the file would have if no other stood there.
    pub(crate) wanted: Option<String>,
    /// The file that stands at the wanted path.
    pub(crate) taken_by: Option<OtherFile>,
}

/// A field of the template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FieldUsed {
    pub(crate) field: String,
    /// Its value; `None` when the file has none.
    pub(crate) value: Option<String>,
    /// Whether the value went into the path.
    pub(crate) used: bool,
}

/// Another file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherFile {
    pub(crate) origin: String,
    pub(crate) origin_path: String,
    pub(crate) shown_at: String,
}

/// `POST /v1/stop`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stopping {
    pub(crate) pid: u32,
    /// Longest time that it will take.
    pub(crate) limit_s: u64,
}

/// Any failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
}
