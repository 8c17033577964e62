//! The log: to standard error, for people, for the journal, or for programs.
//!
//! What it says can be changed while it runs. Lines and the progress bar share the terminal: the bar steps aside
//! for each line.
//!
//! Of other people's libraries nothing below `info` is ever logged, whatever is asked for: some tell secrets there.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::cli::Global;
use crate::config::{LogFormat, LogLevel};
use crate::env::Env;
use crate::output::Output;

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    global: Global,
}

impl LogControl {
    /// Logs by these directives from now on; `-v` and `--quiet` keep their say.
    pub(crate) fn set(&self, level: &LogLevel) {
        if let Err(error) = self.filter.reload(filter(level, &self.global)) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Starts the log of this process. The second start in a process has no effect.
pub(crate) fn start(
    level: &LogLevel,
    format: LogFormat,
    global: &Global,
    env: &Env,
    output: &Output,
    bars: &MultiProgress,
) -> LogControl {
    let (filter, handle) = reload::Layer::new(filter(level, global));
    let writer = BesideBars { bars: bars.clone() };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(output.log_colors());
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => Box::new(lines.json()),
        // The journal has its own timestamps.
        LogFormat::Text if env.is_journal() => Box::new(lines.with_target(false).without_time()),
        LogFormat::Text => Box::new(lines.with_target(false)),
    };
    // Fails when there is a log already, as in a test that runs in this process.
    let _ = tracing_subscriber::registry().with(filter).with(filter_fn(keeps_secrets)).with(lines).try_init();
    LogControl { filter: handle, global: global.clone() }
}

fn filter(level: &LogLevel, global: &Global) -> EnvFilter {
    let directives = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => level.as_str(),
        (false, 1) => "info,musicfs=debug",
        (false, _) => "info,musicfs=trace",
    };
    EnvFilter::new(directives)
}

/// Tells whether what is logged there is known not to hold secrets. Ours does not; that of the library for FUSE has
/// none. `log` is what lines of libraries that log by that crate are handed on as, after they were judged by their
/// own names.
fn keeps_secrets(line: &Metadata<'_>) -> bool {
    let target = line.target();
    *line.level() <= Level::INFO
        || target == "log"
        || ["musicfs", "fuser"].iter().any(|ours| target.starts_with(ours))
}

/// Writes whole lines to standard error while the progress bar steps aside.
#[derive(Clone)]
struct BesideBars {
    bars: MultiProgress,
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
