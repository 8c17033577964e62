//! What the user sees: colours, sizes, times, and how an error reads.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;

use crate::env::Env;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where and how a command prints.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Whether standard output takes colours.
    color: bool,
    /// Whether standard error takes colours.
    color_err: bool,
    /// Whether only errors are printed.
    pub(crate) quiet: bool,
    /// Whether standard error is a terminal, on which a progress bar makes sense.
    pub(crate) terminal: bool,
}

/// A kind of emphasis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// Headings and names.
    Bold,
    /// What is well.
    Good,
    /// What needs a look.
    Warn,
    /// What is broken.
    Bad,
    /// What matters less.
    Dim,
}

impl Output {
    /// Decides on colours once.
    pub(crate) fn new(choice: ColorChoice, quiet: bool, env: &Env) -> Self {
        let decide = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && env.get("NO_COLOR").is_none() && env.get("TERM").is_none_or(|t| t != "dumb")
            }
        };
        let terminal = std::io::stderr().is_terminal();
        Self { color: decide(std::io::stdout().is_terminal()), color_err: decide(terminal), quiet, terminal }
    }

    /// Prints a line of the command's result. A reader that went away (`| head`) is no error.
    pub(crate) fn line(&self, text: impl fmt::Display) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Prints a line that `--quiet` leaves out.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Prints a line beside the result, on standard error, that `--quiet` leaves out.
    pub(crate) fn aside(&self, text: impl fmt::Display) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Prints a value as JSON.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// Prints a warning on standard error.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        let _ =
            writeln!(std::io::stderr().lock(), "{} {text}", paint(self.color_err, Style::Warn, "warning:"));
    }

    /// Prints an error with its causes on standard error.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut text = format!("{} {error}", paint(self.color_err, Style::Bad, "error:"));
        let mut last = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Some libraries repeat their cause in their own text.
            if !last.ends_with(&cause) {
                text.push_str("\n  because: ");
                text.push_str(&cause.replace('\n', "\n  "));
            }
            last = cause;
        }
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Returns text for standard output with emphasis.
    pub(crate) fn paint(&self, style: Style, text: impl fmt::Display) -> String {
        paint(self.color, style, text)
    }

    /// Tells whether a log on standard error may have colours.
    pub(crate) fn log_colors(&self) -> bool {
        self.color_err
    }
}

/// Prints bytes as they are. A reader that went away is no error.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

fn paint(color: bool, style: Style, text: impl fmt::Display) -> String {
    if !color {
        return text.to_string();
    }
    let code = match style {
        Style::Bold => "1",
        Style::Good => "32",
        Style::Warn => "33",
        Style::Bad => "31",
        Style::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Returns a size for people: `734.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as "1024.0".
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Returns a count for people: `12,345`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a span of time for people: `3 d 4 h`, `12 min 3 s`, `1.2 s`, `85 ms`.
pub(crate) fn duration(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{} ms", span.as_millis()),
        1..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86400, secs % 86400 / 3600),
    }
}

/// Returns a moment as RFC 3339 in UTC: `2026-01-31T09:30:00Z`.
pub(crate) fn timestamp(unix_secs: i64) -> String {
    let days = unix_secs.div_euclid(86400);
    let secs = unix_secs.rem_euclid(86400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / 3600, secs % 3600 / 60, secs % 60)
}

/// Days since 1970-01-01 as year, month, day (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123), "123");
        assert_eq!(duration(Duration::from_millis(85)), "85 ms");
        assert_eq!(duration(Duration::from_secs(3723)), "1 h 2 min");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
    }

    #[test]
    fn timestamp_knows_leap_years_and_times_before_1970() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_763_716_252), "2025-11-21T09:10:52Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59Z");
    }
}
