//! What every command has at hand, and how a command ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::MultiProgress;
use musicfs_core::SystemClock;

use crate::cli::Global;
use crate::config::{Config, Flags, LogLevel, Problem, Source, keys};
use crate::env::Env;
use crate::log::LogControl;
use crate::output::Output;

/// Surroundings of a command.
pub(crate) struct Context {
    /// The whole command line, the program's name first.
    pub(crate) args: Vec<OsString>,
    /// Options of every command.
    pub(crate) global: Global,
    /// Variables, user, directory.
    pub(crate) env: Env,
    /// Where to print.
    pub(crate) output: Output,
    /// Progress bars on the terminal.
    pub(crate) bars: MultiProgress,
    /// The time; it starts with the process.
    pub(crate) clock: Arc<SystemClock>,
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was done.
    Done,
    /// It was done in part.
    Partly,
    /// It found what it was asked to find out, and that is bad.
    Failed,
}

/// The command line, or what it names, cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

impl Context {
    /// Loads the configuration, all of which must be right.
    pub(crate) fn config(&self, flags: &Flags) -> anyhow::Result<Config> {
        let (config, problems) = Config::load(flags, &self.env);
        refuse(&problems)?;
        Ok(config)
    }

    /// Loads the configuration for a command that needs a part of it only: what is wrong with the rest of the file is
    /// no matter, but what is wrong on the command line is.
    pub(crate) fn config_in_part(&self, flags: &Flags) -> anyhow::Result<Config> {
        let (config, mut problems) = Config::load(flags, &self.env);
        problems.retain(Problem::is_usage);
        refuse(&problems)?;
        Ok(config)
    }

    /// Returns the directory of the control sockets.
    pub(crate) fn runtime_dir(&self, flags: &Flags) -> anyhow::Result<PathBuf> {
        Ok(self.config_in_part(flags)?.runtime_dir)
    }

    /// Starts the log of a daemon.
    pub(crate) fn log(&self, config: &Config) -> LogControl {
        self.log_at(&config.log_level, config)
    }

    /// Starts the log of a command, which says itself what it did: warnings only, unless somebody asks for more.
    pub(crate) fn quiet_log(&self, config: &Config) -> LogControl {
        match config.source(keys::LOG_LEVEL) {
            Source::Default => self.log_at(&LogLevel::warn(), config),
            Source::Set(_) => self.log(config),
        }
    }

    fn log_at(&self, level: &LogLevel, config: &Config) -> LogControl {
        let format = config.log_format;
        crate::log::start(level, format, &self.global, &self.env, &self.output, &self.bars)
    }

    /// Returns a path of the command line as the table of mounts would have it.
    pub(crate) fn mountpoint(&self, path: &Path) -> anyhow::Result<PathBuf> {
        let path = crate::paths::absolute(path, &self.env.cwd, self.env.home()).map_err(Usage)?;
        Ok(crate::paths::real(&path))
    }
}

/// Fails when there are problems, with all of them.
pub(crate) fn refuse(problems: &[Problem]) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let text = match problems {
        [one] => one.to_string(),
        all => {
            let lines: Vec<String> = all.iter().map(|problem| format!("  {problem}")).collect();
            format!("{} things are wrong with the configuration:\n{}", all.len(), lines.join("\n"))
        }
    };
    if problems.iter().any(Problem::is_usage) { Err(Usage(text).into()) } else { Err(anyhow::anyhow!(text)) }
}

/// Makes a runtime for a command that only asks a daemon.
pub(crate) fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
