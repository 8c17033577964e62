//! The types that a key can have, and how each is read and shown.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musicfs_core::{Template, byte_unit};

/// The TOML type in which a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toml {
    /// `"text"`
    Text,
    /// `true`
    Bool,
    /// `8`
    Integer,
}

impl fmt::Display for Toml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text in quotes",
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
        })
    }
}

/// What relative paths of a source start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base<'a> {
    /// The directory.
    pub(crate) dir: &'a Path,
    /// The home directory, for `~`.
    pub(crate) home: Option<&'a Path>,
}

/// A value of a key.
pub(crate) trait Setting: Sized {
    /// How the file has it.
    const TOML: Toml;
    /// Reads it from text: a flag, a variable, or what the file has.
    fn read(raw: &OsStr, base: Base<'_>) -> Result<Self, String>;
    /// Shows it as the file would have it.
    fn show(&self) -> toml::Value;
}

fn text(raw: &OsStr) -> Result<&str, String> {
    raw.to_str().ok_or_else(|| format!("{raw:?} is not UTF-8"))
}

impl Setting for bool {
    const TOML: Toml = Toml::Bool;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        match text(raw)?.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => Err(format!("expected true or false, found '{other}'")),
        }
    }
    fn show(&self) -> toml::Value {
        toml::Value::Boolean(*self)
    }
}

impl Setting for usize {
    const TOML: Toml = Toml::Integer;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        let raw = text(raw)?;
        raw.parse().map_err(|_| format!("expected a whole number from 0, found '{raw}'"))
    }
    fn show(&self) -> toml::Value {
        toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Setting for PathBuf {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, base: Base<'_>) -> Result<Self, String> {
        if raw.is_empty() {
            return Err("the path is empty".into());
        }
        crate::paths::absolute(Path::new(raw), base.dir, base.home)
    }
    fn show(&self) -> toml::Value {
        toml::Value::String(self.to_string_lossy().into_owned())
    }
}

/// Cuts a quantity into its number and its unit.
fn quantity(raw: &str, wrong: impl Fn() -> String) -> Result<(u64, &str), String> {
    let digits = raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len());
    match raw.split_at(digits) {
        ("", _) => Err(wrong()),
        (number, unit) => Ok((number.parse().map_err(|_| too_large(raw))?, unit.trim())),
    }
}

fn too_large(raw: &str) -> String {
    format!("'{raw}' is more than can be counted")
}

impl Setting for Duration {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        let raw = text(raw)?.trim();
        let wrong =
            || format!("expected a time such as \"5s\", \"10min\", \"12h\" or \"30d\", found '{raw}'");
        let (number, unit) = quantity(raw, wrong)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            // Zero is zero in every unit.
            "" if number == 0 => 0,
            _ => return Err(wrong()),
        };
        number.checked_mul(millis).map(Self::from_millis).ok_or_else(|| too_large(raw))
    }
    fn show(&self) -> toml::Value {
        let ms = self.as_millis();
        toml::Value::String(if ms.is_multiple_of(1000) {
            format!("{}s", ms / 1000)
        } else {
            format!("{ms}ms")
        })
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl ByteSize {
    /// Reads a size with its unit: `50GB`, `512 MiB`, `0`.
    pub(crate) fn parse(raw: &str) -> Result<Self, String> {
        let raw = raw.trim();
        let wrong = || format!("expected a size such as \"500MB\", \"50GB\" or \"1TiB\", found '{raw}'");
        let (number, unit) = quantity(raw, wrong)?;
        let factor = match unit {
            // Zero is zero in every unit.
            "" if number == 0 => 1,
            unit => byte_unit(unit).ok_or_else(wrong)?,
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| too_large(raw))
    }
}

impl Setting for ByteSize {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        Self::parse(text(raw)?)
    }
    fn show(&self) -> toml::Value {
        const UNITS: [(u64, &str); 8] = [
            (1_000_000_000_000, "TB"),
            (1 << 40, "TiB"),
            (1_000_000_000, "GB"),
            (1 << 30, "GiB"),
            (1_000_000, "MB"),
            (1 << 20, "MiB"),
            (1_000, "kB"),
            (1 << 10, "KiB"),
        ];
        let exact = UNITS.iter().find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (factor, unit) = exact.copied().unwrap_or((1, "B"));
        toml::Value::String(format!("{}{unit}", self.0 / factor))
    }
}

/// Reads a time with its unit, such as `30d`.
pub(crate) fn read_time(raw: &OsStr) -> Result<Duration, String> {
    Duration::read(raw, Base { dir: Path::new("/"), home: None })
}

impl Setting for Template {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        Self::parse(text(raw)?).map_err(|error| error.to_string())
    }
    fn show(&self) -> toml::Value {
        toml::Value::String(self.as_str().to_owned())
    }
}

/// What is logged: directives of `tracing_subscriber::EnvFilter`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(String);

impl LogLevel {
    /// Makes the level of a command that reports by itself.
    pub(crate) fn warn() -> Self {
        Self("warn".into())
    }

    /// Returns the directives.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".into())
    }
}

impl Setting for LogLevel {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let raw = text(raw)?;
        for directive in raw.split(',') {
            // A bare word that is no level would be taken for a target, and switch everything else off.
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                let hint = super::keys::suggestion(level, LEVELS.into_iter());
                return Err(format!("unknown log level '{level}'; {hint}"));
            }
        }
        let parsed = raw.parse::<tracing_subscriber::EnvFilter>();
        parsed.map(|_| Self(raw.to_owned())).map_err(|error| format!("'{raw}': {error}"))
    }
    fn show(&self) -> toml::Value {
        toml::Value::String(self.0.clone())
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Setting for LogFormat {
    const TOML: Toml = Toml::Text;
    fn read(raw: &OsStr, _: Base<'_>) -> Result<Self, String> {
        match text(raw)? {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("expected \"text\" or \"json\", found '{other}'")),
        }
    }
    fn show(&self) -> toml::Value {
        toml::Value::String(if *self == Self::Text { "text" } else { "json" }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(raw: &str) -> Result<T, String> {
        T::read(OsStr::new(raw), Base { dir: Path::new("/b"), home: None })
    }

    #[test]
    fn duration_is_read_with_its_unit_only() {
        assert_eq!(read("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read("2 min"), Ok(Duration::from_secs(120)));
        assert_eq!(read("0"), Ok(Duration::ZERO));
        for bad in ["5", "", "s", "-1s", "5 parsecs", "99999999999999999999s", "18446744073709551615h"] {
            assert!(read::<Duration>(bad).is_err(), "{bad}");
        }
        assert_eq!(Duration::from_millis(1500).show(), toml::Value::String("1500ms".into()));
        assert_eq!(Duration::from_secs(300).show(), toml::Value::String("300s".into()));
    }

    #[test]
    fn size_is_read_with_its_unit_and_shown_as_it_is_read() {
        assert_eq!(read("50GB"), Ok(ByteSize(50_000_000_000)));
        assert_eq!(read("3 MiB"), Ok(ByteSize(3 << 20)));
        assert_eq!(read("0"), Ok(ByteSize(0)));
        for bad in ["5", "", "GB", "-1GB", "5 parsecs", "99999999TB"] {
            assert!(read::<ByteSize>(bad).is_err(), "{bad}");
        }
        for size in [0, 1, 1500, 1 << 20, 50_000_000_000, (1 << 30) + 1] {
            let shown = ByteSize(size).show();
            assert_eq!(read(shown.as_str().unwrap()), Ok(ByteSize(size)));
        }
    }

    #[test]
    fn log_level_refuses_words_that_are_no_level() {
        assert!(read::<LogLevel>("info,musicfs_fuse=debug").is_ok());
        assert_eq!(read::<LogLevel>("inof"), Err("unknown log level 'inof'; did you mean 'info'?".into()));
    }

    #[test]
    fn bool_and_count_say_what_they_expect() {
        assert_eq!(read("yes"), Ok(true));
        assert_eq!(read("0"), Ok(false));
        assert!(read::<bool>("maybe").is_err());
        assert_eq!(read("8"), Ok(8usize));
        assert!(read::<usize>("-1").is_err());
    }
}
