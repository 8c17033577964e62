//! What can be typed about files that are gone, or are not to be seen.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SettingArgs;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TrashCommand {
    /// List the files that are gone from their origins and remembered
    List(TrashArgs),
    /// List those that are cached in the tree again, for another time of grace; their age begins anew
    Restore(TrashArgs),
    /// Forget them for good
    Purge(PurgeArgs),
}

/// Which missing files are meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrashArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// The trash of this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Files that were on this origin (its id, directory or address)
    #[arg(long = "from", value_name = "ORIGIN")]
    pub(crate) from: Option<String>,
    /// The file that was at this path of its origin, or those below it
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<OsString>,
    /// Files that have been missing for this long or longer, such as 30d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) older_than: Option<OsString>,
    /// Files that have been missing for less than this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) newer_than: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    pub(crate) which: TrashArgs,
    /// Forget all, when nothing else is named
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExcludeArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// In this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// List what is excluded
    #[arg(long, conflicts_with_all = ["remove", "paths"])]
    pub(crate) list: bool,
    /// Show the files again that were excluded by these paths
    #[arg(long, requires = "paths")]
    pub(crate) remove: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories, with all that is or comes below: in the mount (the files that are there now), in an
    /// origin's directory, or as ORIGIN:PATH
    #[arg(value_name = "PATH", required_unless_present = "list")]
    pub(crate) paths: Vec<OsString>,
}
