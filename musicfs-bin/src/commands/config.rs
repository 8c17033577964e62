//! `musicfs config check` and `musicfs config show`

use serde::Serialize;

use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{Config, KeyShown, check};
use crate::context::{Context, Outcome};
use crate::output::Style;

#[derive(Serialize)]
struct Checked {
    ok: bool,
    file: Option<String>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    file: Option<String>,
    keys: Vec<KeyShown>,
    problems: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(cx: &Context, command: &ConfigCommand) -> anyhow::Result<Outcome> {
    match command {
        ConfigCommand::Check(args) => run_check(cx, args),
        ConfigCommand::Show(args) => run_show(cx, args),
    }
}

fn file_of(config: &Config) -> Option<String> {
    config.file.as_ref().map(|path| path.display().to_string())
}

fn run_check(cx: &Context, args: &ConfigArgs) -> anyhow::Result<Outcome> {
    let (config, mut problems) = Config::load(&args.settings.flags(), &cx.env);
    problems.extend(check::all(&config));
    let file = file_of(&config);
    let ok = problems.is_empty();
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if args.json {
        cx.output.json(&Checked { ok, file, problems })?;
    } else if ok {
        let of = file.unwrap_or_else(|| "no file; flags, environment and defaults".to_owned());
        cx.output.note(format!("{} ({of})", cx.output.paint(Style::Good, "The configuration is in order")));
    } else {
        for problem in &problems {
            cx.output.line(format!("{} {problem}", cx.output.paint(Style::Bad, "wrong:")));
        }
    }
    Ok(if ok { Outcome::Done } else { Outcome::Failed })
}

fn run_show(cx: &Context, args: &ConfigArgs) -> anyhow::Result<Outcome> {
    let (config, problems) = Config::load(&args.settings.flags(), &cx.env);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if args.json {
        let shown = Shown { file: file_of(&config), keys: config.show(), problems: problems.clone() };
        cx.output.json(&shown)?;
    } else {
        cx.output.line(config.to_toml().trim_end());
        for problem in &problems {
            cx.output.warn(problem);
        }
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Partly })
}
