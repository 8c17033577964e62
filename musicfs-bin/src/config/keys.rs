//! The keys of the configuration: one table from which everything that lists them is made.

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name in the file; in capitals after `MUSICFS_` the variable's.
    pub(crate) name: &'static str,
    /// Whether a running mount takes a new value on SIGHUP.
    pub(crate) hot: bool,
    /// What it is for: one line.
    pub(crate) doc: &'static str,
}

impl Key {
    /// Returns the name of its variable.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// Returns its flag of `musicfs mount`.
    pub(crate) fn flag(&self) -> String {
        match self.name {
            PASSTHROUGH => "--no-passthrough".into(),
            WATCH => "--no-watch".into(),
            ORIGINS => "--origin".into(),
            MOUNTPOINT => "MOUNTPOINT".into(),
            name => format!("--{}", name.replace('_', "-")),
        }
    }
}

/// Set for the process that `mount --background` leaves behind: its standard output leads to the waiting parent.
pub(crate) const STARTED_IN_BACKGROUND: &str = "MUSICFS_STARTED_IN_BACKGROUND";
/// What all variables begin with.
pub(crate) const PREFIX: &str = "MUSICFS_";
/// Variables that are not keys.
pub(crate) const OTHER_VARIABLES: &[&str] = &["MUSICFS_CONFIG", STARTED_IN_BACKGROUND];

macro_rules! keys {
    ($($konst:ident $name:literal $hot:literal $doc:literal),* $(,)?) => {
        $(pub(crate) const $konst: &str = $name;)*
        /// All keys, in the order in which they are shown.
        pub(crate) const KEYS: &[Key] = &[$(Key { name: $name, hot: $hot, doc: $doc }),*];
    };
}

keys! {
    MOUNTPOINT "mountpoint" false "directory that the tree is mounted on",
    ORIGINS "origins" true "where the music is",
    CACHE_DIR "cache_dir" false "catalogue and cached content; one mount at a time",
    STATE_DIR "state_dir" false "what cannot be rebuilt: the library's own record, logs",
    RUNTIME_DIR "runtime_dir" false "control sockets and scratch files of running mounts",
    TEMPLATE "template" true "how tags become a path",
    ALLOW_OTHER "allow_other" false "let other users read the mount",
    PASSTHROUGH "passthrough" false "let the kernel read local files by itself where it can",
    CACHE_SIZE "cache_size" false "most that cached music may take, such as 50GB; 0 for no limit",
    CACHE_MIN_FREE "cache_min_free" false "part of the disk that the cache leaves free, in percent",
    CACHE_MAX_AGE "cache_max_age" false "how long unused music stays in the cache, such as 90d; 0 for ever",
    PREFETCH "prefetch" true "fetch the rest of a track, and the next, ahead of the player",
    RECHECK_AFTER "recheck_after" true "when audio that stayed cached over a change of tags is compared with its origin; 0 for only when it is read",
    LOCAL_DEADLINE "local_deadline" true "longest wait for a read from a disk of this machine",
    REMOTE_DEADLINE "remote_deadline" true "longest wait for a read over a network",
    FAILBACK_DELAY "failback_delay" true "how long an origin that was lost must answer before it is preferred to copies again",
    DRAIN_LIMIT "drain_limit" true "longest wait for open requests when stopping",
    LOG_LEVEL "log_level" true "error, warn, info, debug, trace, or directives such as info,musicfs_fuse=debug",
    LOG_FORMAT "log_format" false "text or json",
    SCAN_WORKERS "scan_workers" false "threads that read tags; 0 for one per core",
    HEALTH_INTERVAL "health_interval" true "time between two questions to each origin whether it is there",
    RESCAN_INTERVAL "rescan_interval" true "time between rescans of what is not watched, and twelve times that of what is; 0 for only at start and by `musicfs scan`",
    WATCH "watch" true "see changes in directories of this machine as they happen",
    MISSING_GRACE "missing_grace" true "how long a file that is gone from its origin, and cached whole, stays listed",
    MISSING_MAX_AGE "missing_max_age" true "how long a file that is gone is remembered, such as 365d; 0 for ever",
}

/// Returns the key of this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Says what an unknown name was probably meant to be.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = known
        .clone()
        .map(|candidate| (strsim::damerau_levenshtein(candidate, &name.to_ascii_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, candidate)) if distance <= 2.max(candidate.len() / 3) => {
            format!("did you mean '{candidate}'?")
        }
        _ => format!("there are: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_names_the_nearest_or_all() {
        let known = || KEYS.iter().map(|key| key.name);
        assert_eq!(suggestion("tempalte", known()), "did you mean 'template'?");
        assert_eq!(suggestion("Cache-Dir", known()), "did you mean 'cache_dir'?");
        assert!(suggestion("zzz", known()).starts_with("there are: mountpoint, origins"));
    }
}
