//! What the process is told by its surroundings: variables, user, working directory.
//!
//! Read once, at the start, and handed down; no other module asks the operating system. Tests make their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Surroundings of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    vars: BTreeMap<OsString, OsString>,
    /// Effective user id.
    pub(crate) uid: u32,
    /// Working directory; `/` where there is none.
    pub(crate) cwd: PathBuf,
}

impl Env {
    /// Reads the surroundings of this process.
    pub(crate) fn system() -> Self {
        Self {
            vars: std::env::vars_os().collect(),
            uid: nix::unistd::geteuid().as_raw(),
            cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        }
    }

    /// Makes surroundings of these variables, for user 1000 in `/`.
    #[cfg(test)]
    pub(crate) fn of(vars: &[(&str, &str)]) -> Self {
        let vars = vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
        Self { vars, uid: 1000, cwd: "/".into() }
    }

    /// Returns a variable; one that is empty counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Returns the names of the variables that begin with `prefix`.
    pub(crate) fn names_with_prefix(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.vars.keys().filter_map(|name| name.to_str()).filter(move |name| name.starts_with(prefix))
    }

    /// Returns the user's home directory.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new).filter(|home| home.is_absolute())
    }

    /// Returns the directory named by an XDG variable, which must be absolute to count.
    pub(crate) fn xdg(&self, name: &str) -> Option<&Path> {
        self.get(name).map(Path::new).filter(|dir| dir.is_absolute())
    }

    /// Forgets home and XDG directories, as for a mount that the system makes, whoever starts it.
    pub(crate) fn without_home(mut self) -> Self {
        self.vars
            .retain(|name, _| name != "HOME" && !name.to_str().is_some_and(|name| name.starts_with("XDG_")));
        self
    }

    /// Tells whether standard error goes to the journal, which has its own timestamps.
    pub(crate) fn is_journal(&self) -> bool {
        self.get("JOURNAL_STREAM").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variable_counts_as_not_set() {
        let env = Env::of(&[("A", ""), ("HOME", "relative"), ("XDG_CACHE_HOME", "/c")]);
        assert_eq!(env.get("A"), None);
        assert_eq!(env.home(), None);
        assert_eq!(env.xdg("XDG_CACHE_HOME"), Some(Path::new("/c")));
        assert_eq!(env.without_home().xdg("XDG_CACHE_HOME"), None);
    }
}
