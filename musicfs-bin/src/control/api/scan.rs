//! What is asked and said about scans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the scanner does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ScanStatus {
    /// `idle`, `loading`, `scanning` or `arranging`.
    pub(crate) phase: String,
    /// The origins that are being scanned, with commas between.
    pub(crate) origin: Option<String>,
    pub(crate) listed: u64,
    pub(crate) parsed: u64,
    pub(crate) to_parse: u64,
    /// How far each of these origins is; the figures above are of all together.
    #[serde(default)]
    pub(crate) passes: BTreeMap<String, PassStatus>,
    /// The last result for each origin.
    pub(crate) last: BTreeMap<String, ScanResult>,
    /// Seconds until the next rescan; `None` while one runs, or when none is due.
    pub(crate) next_in_s: Option<u64>,
    /// The comparisons of content that are under way, together.
    #[serde(default)]
    pub(crate) verifying: Option<Verifying>,
}

/// How far a pass over an origin is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassStatus {
    /// `loading` or `scanning`.
    pub(crate) phase: String,
    pub(crate) listed: u64,
    pub(crate) parsed: u64,
    pub(crate) to_parse: u64,
}

/// How a pass over an origin ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScanResult {
    pub(crate) listed: u64,
    pub(crate) unchanged: u64,
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) missing: u64,
    pub(crate) returned: u64,
    pub(crate) problems: u64,
    pub(crate) complete: bool,
    /// Files that are at another path than they were.
    #[serde(default)]
    pub(crate) moved: u64,
    /// Why nothing was marked missing.
    pub(crate) held_back: Option<String>,
    /// What was held back waits for `musicfs scan --confirm`.
    #[serde(default)]
    pub(crate) needs_confirmation: bool,
    pub(crate) elapsed_ms: u64,
    /// Files that hold what is known of them; `None` when that was not to be found out.
    #[serde(default)]
    pub(crate) verified: Option<u64>,
    /// Files that held something else although their size and time were as known.
    #[serde(default)]
    pub(crate) differing: u64,
    /// Files that could not be read for the purpose.
    #[serde(default)]
    pub(crate) unread: u64,
    /// Bytes of cached content that were compared.
    #[serde(default)]
    pub(crate) compared_bytes: u64,
    /// Paths that were named, at which nothing is and nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nowhere: Vec<String>,
    /// How many folders could not be listed; what is known of them is kept.
    #[serde(default)]
    pub(crate) unlisted: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unlisted_folders: Vec<Unlisted>,
    /// It was over a part that others may have to move with; a pass over everything follows.
    #[serde(skip)]
    pub(crate) unsettled: bool,
    /// Why it failed; the figures count up to there.
    pub(crate) error: Option<String>,
}

/// A folder that could not be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unlisted {
    /// Its path in the origin.
    pub(crate) path: String,
    /// Why.
    pub(crate) reason: String,
}

/// How far a comparison of content is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verifying {
    /// The origins, with commas between.
    pub(crate) origin: String,
    /// Files compared.
    pub(crate) files: u64,
    /// Bytes of cached content compared.
    pub(crate) bytes: u64,
    /// Files that hold something else than what is known.
    pub(crate) differing: u64,
}

/// `POST /v1/scan`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScanOrder {
    /// Origins by id, directory or address, and paths in their directories, in the mount, or as `ORIGIN:PATH`; all
    /// origins when there are none.
    pub(crate) origins: Vec<String>,
    /// More of these, percent-encoded: names need not be UTF-8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) encoded: Vec<String>,
    /// Whether to read unchanged files again.
    pub(crate) full: bool,
    /// Whether to compare what is known with what is there.
    pub(crate) verify: bool,
    /// Whether to accept that files are gone which a scan held back.
    pub(crate) confirm: bool,
}

/// What became of a [`ScanOrder`]: `GET /v1/scan/progress?job=N`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ScanJob {
    pub(crate) job: u64,
    /// Whether it has ended.
    pub(crate) done: bool,
    /// Results of the origins that are done.
    pub(crate) results: BTreeMap<String, ScanResult>,
    /// What the scanner does now, for this or another order.
    pub(crate) now: ScanStatus,
}
