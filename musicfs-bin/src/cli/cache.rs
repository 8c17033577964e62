//! `musicfs cache`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{PlaceArgs, SettingArgs};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how large it is, how full, how often it helped, and what is pinned
    Stats(CacheArgs),
    /// Fetch what is missing of files, directories or origins
    Warm(CacheTargetArgs),
    /// Keep files, directories or origins, and fetch what is missing of them
    Pin(CacheTargetArgs),
    /// Keep them no longer
    Unpin(CacheTargetArgs),
    /// Remove files, directories or origins from the cache, or what was used longest ago; what is pinned stays
    Evict(CacheEvictArgs),
    /// Look at every chunk, and fetch what is damaged or gone again
    Verify(CacheArgs),
    /// Remove everything from the cache
    Clear(CacheArgs),
}

/// Which cache.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// The cache of this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which cache, and what in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheTargetArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// In this mount
    #[arg(long, value_name = "MOUNTPOINT")]
    pub(crate) mount: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Everything of this origin: its id, directory or address
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub(crate) origins: Vec<String>,
    /// Paths of files or directories in the mount, or from its root
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

/// What to evict.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheEvictArgs {
    #[command(flatten)]
    pub(crate) target: CacheTargetArgs,
    /// What was used longest ago, until this much is free, such as 5GB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, conflicts_with_all = ["origins", "paths"])]
    pub(crate) size: Option<OsString>,
}
