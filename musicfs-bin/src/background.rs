//! `mount --background`: this program starts itself again, in a session of its own, and waits until that one says
//! on its standard output that it is mounted, or why not.
//!
//! Nothing is forked, so that no half of a process is left behind, and no work is done twice: the parent reads
//! the configuration only to find what is wrong with it at once and where the log goes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::config::keys::STARTED_IN_BACKGROUND;

/// A log that is longer is moved away when the next daemon starts.
const LOG_MAX: u64 = 10 * 1024 * 1024;
/// How much of the log's end is shown when a daemon ends without a word.
const TAIL: u64 = 2000;

/// What the daemon tells its parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// It is mounted; what to print.
    Ready(String),
    /// It is not; why.
    Failed(String),
}

/// Starts `musicfs` with `args` (its own name first) in the background, and returns what it says once mounted.
pub(crate) fn start(args: &[OsString], log: &Path) -> anyhow::Result<String> {
    let errors = open_log(log).with_context(|| format!("cannot open the log {}", log.display()))?;
    let from = errors.metadata().map_or(0, |meta| meta.len());
    let mut child = Command::new("/proc/self/exe")
        .arg0("musicfs")
        .args(args.iter().skip(1))
        .env(STARTED_IN_BACKGROUND, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start the daemon")?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).context("cannot hear from the daemon")?;
    }
    match serde_json::from_str(&line) {
        Ok(Told::Ready(text)) => Ok(text),
        Ok(Told::Failed(text)) => {
            // It says so before it ends; wait, so that nothing of it is left when this command returns.
            let _ = child.wait();
            bail!(text)
        }
        Err(_) => {
            let status = child.wait().context("cannot wait for the daemon")?;
            let tail = tail(log, from);
            bail!(
                "the daemon ended before it was mounted ({status}); its log {} says:\n{tail}",
                log.display()
            )
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        crate::control::private_dir_if_new(dir)?;
    }
    if path.metadata().is_ok_and(|meta| meta.len() > LOG_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn tail(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(len.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read()
        .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The daemon's side: tells the waiting parent, once.
#[derive(Debug)]
pub(crate) struct Parent {
    waits: bool,
}

impl Parent {
    /// Leaves the session of whoever started this process.
    pub(crate) fn detach() -> Self {
        // Fails only for a leader of a process group, which a started process is not.
        if let Err(error) = nix::unistd::setsid() {
            tracing::warn!(%error, "the daemon stays in its session");
        }
        Self { waits: true }
    }

    /// Makes the stand-in of a process in the foreground.
    pub(crate) fn none() -> Self {
        Self { waits: false }
    }

    /// Tells whether a parent waits.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Says that the tree is mounted.
    pub(crate) fn ready(&mut self, text: &str) {
        self.tell(&Told::Ready(text.to_owned()));
    }

    /// Says why it is not.
    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.tell(&Told::Failed(format!("{error:#}")));
    }

    fn tell(&mut self, told: &Told) {
        if !std::mem::take(&mut self.waits) {
            return;
        }
        let text = serde_json::to_string(told).unwrap_or_default();
        let mut output = std::io::stdout().lock();
        // A parent that was interrupted no longer listens; the mount goes on without it.
        let _ = writeln!(output, "{text}").and_then(|()| output.flush());
        // The parent returns, and whoever reads its output must see its end.
        if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stdout(null);
        }
    }
}
