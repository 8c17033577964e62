//! The configuration in effect, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::settings::Setting;
use super::{Config, keys};

/// One key as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct KeyShown {
    /// The key.
    pub(crate) key: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// Its value, as the file would have it; `None` when there is none.
    pub(crate) value: Option<toml::Value>,
    /// Who set it.
    pub(crate) source: String,
    /// Whether a running mount takes a new value on SIGHUP.
    pub(crate) hot: bool,
}

impl Config {
    /// Returns the value of a key, as the file would have it.
    fn shown(&self, key: &'static str) -> Option<toml::Value> {
        Some(match key {
            keys::MOUNTPOINT => return self.mountpoint.as_ref().map(Setting::show),
            keys::ORIGINS => toml::Value::Array(
                self.origins.iter().map(|origin| toml::Value::Table(origin.to_table())).collect(),
            ),
            keys::CACHE_DIR => self.cache_dir.show(),
            keys::STATE_DIR => self.state_dir.show(),
            keys::RUNTIME_DIR => self.runtime_dir.show(),
            keys::TEMPLATE => self.template.show(),
            keys::ALLOW_OTHER => self.allow_other.show(),
            keys::PASSTHROUGH => self.passthrough.show(),
            keys::CACHE_SIZE => self.cache_size.show(),
            keys::CACHE_MIN_FREE => self.cache_min_free.show(),
            keys::CACHE_MAX_AGE => self.cache_max_age.show(),
            keys::PREFETCH => self.prefetch.show(),
            keys::RECHECK_AFTER => self.recheck_after.show(),
            keys::LOCAL_DEADLINE => self.local_deadline.show(),
            keys::REMOTE_DEADLINE => self.remote_deadline.show(),
            keys::FAILBACK_DELAY => self.failback_delay.show(),
            keys::DRAIN_LIMIT => self.drain_limit.show(),
            keys::LOG_LEVEL => self.log_level.show(),
            keys::LOG_FORMAT => self.log_format.show(),
            keys::SCAN_WORKERS => self.scan_workers.show(),
            keys::HEALTH_INTERVAL => self.health_interval.show(),
            keys::RESCAN_INTERVAL => self.rescan_interval.show(),
            keys::WATCH => self.watch.show(),
            keys::MISSING_GRACE => self.missing_grace.show(),
            keys::MISSING_MAX_AGE => self.missing_max_age.show(),
            _ => return None,
        })
    }

    /// Returns all keys with their values and who set them.
    pub(crate) fn show(&self) -> Vec<KeyShown> {
        let shown = |key: &keys::Key| KeyShown {
            key: key.name,
            about: key.doc,
            value: self.shown(key.name),
            source: self.source(key.name).to_string(),
            hot: key.hot,
        };
        keys::KEYS.iter().map(shown).collect()
    }

    /// Returns the keys whose values differ.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<&'static keys::Key> {
        keys::KEYS.iter().filter(|key| self.shown(key.name) != other.shown(key.name)).collect()
    }

    /// Returns the whole as a file that would have the same effect, each key with who set it.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        match &self.file {
            Some(path) => writeln!(out, "# configuration read from {}", path.display()),
            None => writeln!(out, "# no configuration file was read"),
        }
        .unwrap_or_default();
        for key in self.show().into_iter().filter(|key| key.key != keys::ORIGINS) {
            let line = match key.value {
                Some(value) => format!("{} = {value}", key.key),
                None => format!("# {} = (not set)", key.key),
            };
            writeln!(out, "{line:<60} # {}", key.source).unwrap_or_default();
        }
        for origin in &self.origins {
            writeln!(out, "\n[[origins]] # {}", origin.source).unwrap_or_default();
            out.push_str(&origin.to_table().to_string());
        }
        if self.origins.is_empty() {
            out.push_str("\n# no origins\n");
        }
        out
    }
}
