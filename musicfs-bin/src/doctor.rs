//! `musicfs doctor`: is this machine able to mount, and is all that MusicFS keeps in order? Each finding says what
//! to do.
//!
//! Without `--repair` nothing is changed. With it, only what is ours and dead or damaged is touched: dead mounts,
//! scratch files of daemons that are gone, stores that cannot be read. Nothing here touches a mount, and what may
//! hang (an origin) is asked within a limit.

mod machine;
mod places;
mod stores;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::config::{Config, check};
use crate::context::{Context, Outcome};
use crate::output::Style;
use machine::Machine;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Works, and may not for long, or not as well as it could.
    Warn,
    /// Does not work.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was checked.
    check: String,
    /// How it is.
    level: Level,
    /// What was found.
    message: String,
    /// What to do.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Ok, message: message.into(), advice: None }
    }

    fn warn(check: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, advice: Some(advice.into()), ..Self::ok(check, message) }
    }

    fn fail(check: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, message, advice) }
    }
}

#[derive(Serialize)]
struct Report {
    /// The worst level of all.
    level: Level,
    findings: Vec<Finding>,
}

/// Runs all checks.
pub(crate) fn run(cx: &Context, args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let (config, problems) = Config::load(&args.settings.flags(), &cx.env);
    let mut findings = Vec::new();
    let mut wrong: Vec<String> = problems.iter().map(ToString::to_string).collect();
    wrong.extend(check::own_directories(&config).iter().map(ToString::to_string));
    if wrong.is_empty() {
        let file =
            config.file.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
        findings.push(Finding::ok("configuration", file));
    }
    for message in wrong {
        findings.push(Finding::fail(
            "configuration",
            message,
            "correct it, and check with: musicfs config check",
        ));
    }
    let machine = Machine::this(cx.env.uid);
    findings.extend(machine.findings(&config));
    findings.extend(places::directories(&config));
    findings.extend(places::mounts(cx, &machine.os(), &config, args.repair));
    findings.extend(stores::findings(cx, &config, args.repair));
    findings.extend(places::origins(cx, &config));

    let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let report = Report { level, findings };
    if args.json {
        cx.output.json(&report)?;
    } else {
        print(cx, &report);
    }
    Ok(match report.level {
        Level::Ok => Outcome::Done,
        Level::Warn => Outcome::Partly,
        Level::Fail => Outcome::Failed,
    })
}

fn print(cx: &Context, report: &Report) {
    let out = &cx.output;
    for finding in &report.findings {
        if finding.level == Level::Ok && out.quiet {
            continue;
        }
        let mark = match finding.level {
            Level::Ok => out.paint(Style::Good, "ok  "),
            Level::Warn => out.paint(Style::Warn, "warn"),
            Level::Fail => out.paint(Style::Bad, "FAIL"),
        };
        out.line(format!("{mark}  {}: {}", finding.check, finding.message.replace('\n', "\n      ")));
        if let Some(advice) = &finding.advice {
            out.line(format!("      → {advice}"));
        }
    }
    out.note(match report.level {
        Level::Ok => out.paint(Style::Good, "All is well."),
        Level::Warn => out.paint(Style::Warn, "It works; see the warnings."),
        Level::Fail => out.paint(Style::Bad, "Something is broken; see above what to do."),
    });
}

#[cfg(test)]
mod tests;
