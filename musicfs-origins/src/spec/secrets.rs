//! Where secrets are found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Environment, SpecError, keys};
use crate::Secret;

/// Longest secret; a file or a command that gives more is a mistake.
const MAX_SECRET: usize = 64 << 10;

/// A command that prints a secret: words, or a line for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum SecretCommand {
    /// For the shell.
    Line(String),
    /// A program and its arguments.
    Words(Vec<String>),
}

impl fmt::Display for SecretCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// Where a secret is found. Is none itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a variable of the environment.
    Env(String),
    /// In a file, of which one line end at the end is not part of it.
    File(PathBuf),
    /// In what a command prints, of which one line end at the end is not part of it.
    Command(SecretCommand),
}

impl SecretSource {
    /// Chooses among the three keys of a secret; two of them would be one too many.
    pub(super) fn one_of(
        what: &str,
        env: Option<String>,
        file: Option<PathBuf>,
        command: Option<SecretCommand>,
    ) -> Result<Option<Self>, SpecError> {
        match (env, file, command) {
            (None, None, None) => Ok(None),
            (Some(name), None, None) => Ok(Some(Self::Env(name))),
            (None, Some(path), None) => Ok(Some(Self::File(path))),
            (None, None, Some(command)) => Ok(Some(Self::Command(command))),
            _ => Err(keys::wrong(what, "it is to come from one place: _env, _file or _command")),
        }
    }

    /// Makes a relative file one below `base`.
    pub(super) fn below(&mut self, base: &Path) {
        if let Self::File(path) = self {
            *path = base.join(&*path);
        }
    }

    /// Gets the secret. Reads a file or waits for a command: to be called where blocking is allowed.
    ///
    /// # Errors
    /// [`SpecError::Secret`], which names the place and never what was found there.
    pub fn get(&self, what: &'static str, env: &dyn Environment) -> Result<Secret, SpecError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| SpecError::Secret {
            what,
            from: self.to_string(),
            source,
        };
        let bytes = match self {
            Self::Env(name) => {
                let value = env.variable(name).ok_or_else(|| failed("it is not set".into()))?;
                value.into_encoded_bytes()
            }
            Self::File(path) => std::fs::read(path).map_err(|e| failed(e.into()))?,
            Self::Command(command) => printed(command).map_err(failed)?,
        };
        if bytes.len() > MAX_SECRET {
            return Err(failed("it is too long".into()));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| failed("it is not text (UTF-8)".into()))?;
        if !matches!(self, Self::Env(_)) {
            if text.ends_with('\n') {
                text.pop();
            }
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() { Err(failed("it is empty".into())) } else { Ok(Secret::new(text)) }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Command(command) => write!(f, "the command '{command}'"),
        }
    }
}

/// Runs a command. What it says on standard error goes where ours goes: it may be a question to the user.
fn printed(command: &SecretCommand) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut run = match command {
        SecretCommand::Line(line) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", line]);
            shell
        }
        SecretCommand::Words(words) => {
            let (program, arguments) = words.split_first().ok_or("it is empty")?;
            let mut run = Command::new(program);
            run.args(arguments);
            run
        }
    };
    let output = run.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("it failed: {}", output.status).into())
    }
}
