//! Flags for the keys of the configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::config::{Flags, keys};

/// Where the control sockets are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PlaceArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of control sockets
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<OsString>,
}

/// Flags for the keys of the configuration.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SettingArgs {
    /// Configuration file [default: ~/.config/musicfs/config.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory with music; may be given several times, the preferred first
    #[arg(long = "origin", value_name = "DIR")]
    pub(crate) origins: Vec<OsString>,
    /// Directory for the catalogue; every mount needs its own [default: ~/.cache/musicfs]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<OsString>,
    /// Directory for what cannot be rebuilt [default: ~/.local/state/musicfs]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<OsString>,
    /// Directory for control sockets [default: $XDG_RUNTIME_DIR/musicfs]
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<OsString>,
    /// Most that cached music may take, such as 50GB; 0 for no limit [default: 0]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) cache_size: Option<OsString>,
    /// Part of the disk that the cache leaves free, in percent [default: 10]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    pub(crate) cache_min_free: Option<OsString>,
    /// Remove from the cache what was not used for this long, such as 90d; 0 for never [default: 0]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) cache_max_age: Option<OsString>,
    /// Whether to fetch the rest of a track, and the next, ahead of the player [default: true]
    #[arg(long, value_name = "BOOL")]
    pub(crate) prefetch: Option<OsString>,
    /// When audio that stayed cached over a change of tags is compared with its origin; 0 for only when it is read [default: 10m]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) recheck_after: Option<OsString>,
    /// How tags become a path, such as '$artist/$album/$track - $title'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<OsString>,
    /// Let other users read the mount
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// Read local files through the daemon even where the kernel could by itself
    #[arg(long)]
    pub(crate) no_passthrough: bool,
    /// Longest wait for a read from a local disk [default: 5s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) local_deadline: Option<OsString>,
    /// Longest wait for a read over a network [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) remote_deadline: Option<OsString>,
    /// How long an origin that was lost must answer before it is preferred to copies again [default: 5m]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) failback_delay: Option<OsString>,
    /// Longest wait for open requests when stopping [default: 10s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) drain_limit: Option<OsString>,
    /// Time between two questions to each origin whether it is there [default: 30s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) health_interval: Option<OsString>,
    /// Time between rescans; 0 for none but the first [default: 300s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) rescan_interval: Option<OsString>,
    /// Look for changes at intervals only, and do not watch directories of this machine
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// How long a file that is gone from its origin, and cached, stays listed [default: 7d]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) missing_grace: Option<OsString>,
    /// Forget files that have been gone from their origin for this long, such as 365d; 0 for never [default: 0]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) missing_max_age: Option<OsString>,
    /// Threads that read tags; 0 for one per core [default: 0]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) scan_workers: Option<OsString>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<OsString>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<OsString>,
}

impl SettingArgs {
    /// Returns what is set.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags =
            Flags { config: self.config.clone(), origins: self.origins.clone(), ..Flags::default() };
        let given = [
            (keys::CACHE_DIR, &self.cache_dir),
            (keys::STATE_DIR, &self.state_dir),
            (keys::RUNTIME_DIR, &self.runtime_dir),
            (keys::TEMPLATE, &self.template),
            (keys::CACHE_SIZE, &self.cache_size),
            (keys::CACHE_MIN_FREE, &self.cache_min_free),
            (keys::CACHE_MAX_AGE, &self.cache_max_age),
            (keys::PREFETCH, &self.prefetch),
            (keys::RECHECK_AFTER, &self.recheck_after),
            (keys::LOCAL_DEADLINE, &self.local_deadline),
            (keys::REMOTE_DEADLINE, &self.remote_deadline),
            (keys::FAILBACK_DELAY, &self.failback_delay),
            (keys::DRAIN_LIMIT, &self.drain_limit),
            (keys::HEALTH_INTERVAL, &self.health_interval),
            (keys::RESCAN_INTERVAL, &self.rescan_interval),
            (keys::MISSING_GRACE, &self.missing_grace),
            (keys::MISSING_MAX_AGE, &self.missing_max_age),
            (keys::SCAN_WORKERS, &self.scan_workers),
            (keys::LOG_LEVEL, &self.log_level),
            (keys::LOG_FORMAT, &self.log_format),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                flags.values.insert(key, value.clone());
            }
        }
        if self.allow_other {
            flags.values.insert(keys::ALLOW_OTHER, "true".into());
        }
        if self.no_passthrough {
            flags.values.insert(keys::PASSTHROUGH, "false".into());
        }
        if self.no_watch {
            flags.values.insert(keys::WATCH, "false".into());
        }
        flags
    }
}

impl PlaceArgs {
    /// Returns what is set.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = Flags { config: self.config.clone(), ..Flags::default() };
        if let Some(dir) = &self.runtime_dir {
            flags.values.insert(keys::RUNTIME_DIR, dir.clone());
        }
        flags
    }
}
