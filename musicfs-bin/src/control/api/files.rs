//! What is asked and said about files that are gone, or are not to be seen.

use serde::{Deserialize, Serialize};

/// `POST /v1/trash`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TrashOrder {
    pub(crate) action: TrashAction,
    /// Files of this origin.
    pub(crate) origin: Option<String>,
    /// The file at this path of its origin, or those below it; percent-encoded.
    pub(crate) path: Option<String>,
    /// Files that have been missing for this long or longer, in milliseconds.
    pub(crate) older_than_ms: Option<u64>,
    /// Files that have been missing for less than this, in milliseconds.
    pub(crate) newer_than_ms: Option<u64>,
}

/// What to do with missing files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TrashAction {
    /// Nothing.
    #[default]
    List,
    /// Show them again.
    Restore,
    /// Forget them.
    Purge,
}

/// What became of a [`TrashOrder`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trash {
    /// The files that were listed, or with which it was done.
    pub(crate) files: Vec<TrashFile>,
    /// How many more were meant that cannot be shown again, as they are not cached whole.
    #[serde(default)]
    pub(crate) not_cached: usize,
    /// Nothing is at the path that was named, and nothing was; said where files are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) nowhere: bool,
    /// A scan is under way; it will be done when that has ended.
    pub(crate) waits: bool,
}

/// A file that is gone from its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrashFile {
    pub(crate) id: String,
    pub(crate) origin: String,
    /// Its path on the origin.
    pub(crate) path: String,
    /// Where in the tree it is, while it is shown.
    pub(crate) shown_at: Option<String>,
    pub(crate) size: u64,
    /// When it was found to be gone, in seconds since 1970.
    pub(crate) missing_since: i64,
    /// Whether all of it is cached, so that it can be played.
    pub(crate) cached: bool,
}

/// `POST /v1/exclude`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExcludeOrder {
    pub(crate) action: ExcludeAction,
    /// Paths in the mount, in the origins' directories, or as `ORIGIN:PATH`; percent-encoded.
    pub(crate) paths: Vec<String>,
}

/// What to do about what is excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExcludeAction {
    /// Nothing.
    #[default]
    List,
    /// Leave more out.
    Add,
    /// Show some again.
    Remove,
}

/// What became of an [`ExcludeOrder`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exclusions {
    /// All that is excluded now.
    pub(crate) excluded: Vec<Exclusion>,
    /// How many files left the tree, or came back.
    pub(crate) changed: u64,
    /// The scan that looks at what came back; see `GET /v1/scan/progress`.
    pub(crate) job: Option<u64>,
    /// It takes a while, and is done all the same; nothing else is said of it.
    #[serde(default)]
    pub(crate) waits: bool,
}

/// A file or directory that is excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exclusion {
    pub(crate) origin: String,
    /// Its path on the origin.
    pub(crate) path: String,
    /// How many files that is, as far as they are known.
    pub(crate) files: u64,
    /// Where in the tree the first of them would be.
    pub(crate) would_be: Option<String>,
}
