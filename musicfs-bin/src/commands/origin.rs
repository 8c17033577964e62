//! `musicfs origin`: how the origins are. By the daemon where one runs; without one, by this process, which asks the
//! origins of the configuration itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use musicfs_core::Clock;
use musicfs_origins::HealthMonitor;

use super::scan::{self, Asked};
use crate::cli::{OriginArgs, OriginCommand};
use crate::config::{Config, NamedOrigin};
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::api::{CheckOrder, OriginState, OriginStatus};
use crate::control::client::Client;
use crate::daemon;
use crate::output::{self, Style};
use crate::refusal::taken;
use crate::wiring;

/// Lists or checks.
pub(crate) fn run(cx: &Context, command: &OriginCommand) -> anyhow::Result<Outcome> {
    let (args, check) = match command {
        OriginCommand::List(args) => (args, false),
        OriginCommand::Check(args) => (args, true),
    };
    let named: Vec<String> = args.only.iter().map(|name| scan::text_of(cx, name)).collect();
    let found = match (running(cx, args)?, check) {
        (Some(client), true) => {
            let order = CheckOrder { origins: named };
            taken(small_runtime()?.block_on(client.check_origins(&order)))?
        }
        (Some(client), false) => {
            let status = small_runtime()?.block_on(client.status(false)).context("cannot ask the daemon")?;
            chosen_of(status.origins, &named)?
        }
        (None, _) => {
            let config = cx.config(&args.settings.flags())?;
            cx.quiet_log(&config);
            let origins = chosen(&config, &named)?;
            if check { checked(cx, &origins)? } else { origins.into_iter().map(unasked).collect() }
        }
    };
    if args.json {
        cx.output.json(&found)?;
    } else {
        found.iter().for_each(|origin| print(cx, origin));
    }
    let lost = found.iter().filter(|o| matches!(o.state, OriginState::Unreachable)).count();
    let poor = found.iter().any(|o| matches!(o.state, OriginState::Degraded));
    Ok(match lost {
        _ if !check => Outcome::Done,
        0 if poor => Outcome::Partly,
        0 => Outcome::Done,
        all if all == found.len() => Outcome::Failed,
        _ => Outcome::Partly,
    })
}

/// Finds the daemon to ask. Beside another process at work, origins are asked by this one.
fn running(cx: &Context, args: &OriginArgs) -> anyhow::Result<Option<Client>> {
    Ok(match scan::asked(cx, &args.settings.flags(), args.mount.as_deref())? {
        Asked::Daemon(client) => Some(client),
        Asked::Busy(..) | Asked::Nobody => None,
    })
}

fn chosen<'a>(config: &'a Config, named: &[String]) -> anyhow::Result<Vec<&'a NamedOrigin>> {
    if config.origins.is_empty() {
        return Err(Usage("there are no origins; name one with --origin PATH|URL".into()).into());
    }
    if named.is_empty() {
        return Ok(config.origins.iter().collect());
    }
    let find = |name: &String| {
        config
            .origins
            .iter()
            .find(|origin| origin.is_named(name))
            .ok_or_else(|| unknown(name, &mut config.origins.iter().map(|origin| origin.id().as_str())))
    };
    named.iter().map(find).collect()
}

fn chosen_of(all: Vec<OriginStatus>, named: &[String]) -> anyhow::Result<Vec<OriginStatus>> {
    let is = |status: &OriginStatus, name: &String| status.id == *name || status.path == *name;
    if let Some(lost) = named.iter().find(|name| !all.iter().any(|status| is(status, name))) {
        return Err(unknown(lost, &mut all.iter().map(|status| status.id.as_str())));
    }
    let wanted = |status: &OriginStatus| named.is_empty() || named.iter().any(|name| is(status, name));
    Ok(all.into_iter().filter(wanted).collect())
}

fn unknown(name: &str, ids: &mut dyn Iterator<Item = &str>) -> anyhow::Error {
    let ids: Vec<&str> = ids.collect();
    Usage(format!("there is no origin '{name}'; there are: {}", ids.join(", "))).into()
}

/// What is known of an origin that nobody has asked.
fn unasked(origin: &NamedOrigin) -> OriginStatus {
    OriginStatus {
        id: origin.id().to_string(),
        path: origin.place(),
        priority: origin.spec.priority,
        state: OriginState::Unknown,
        reason: None,
        bytes: 0,
        reads: 0,
        errors: 0,
        latency_us: None,
        failures: 0,
        watch: None,
        checked_s: None,
    }
}

/// Asks origins once, all at the same time. One that fails is unreachable, whatever it may be a moment later.
fn checked(cx: &Context, origins: &[&NamedOrigin]) -> anyhow::Result<Vec<OriginStatus>> {
    let clock: Arc<dyn Clock> = cx.clock.clone();
    let monitor = HealthMonitor::with_clock(Duration::MAX, clock);
    let mut found = Vec::new();
    for origin in origins {
        let mut status = unasked(origin);
        match wiring::build_origin(origin, &cx.env, &cx.clock) {
            Ok(built) => monitor.add_origin(built.origin),
            Err(error) => {
                status.state = OriginState::Unreachable;
                status.reason = Some(format!("{error:#}"));
            }
        }
        found.push(status);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(monitor.check_all());
    // A question that hangs is not waited for.
    runtime.shutdown_background();
    let health = monitor.snapshot();
    for status in &mut found {
        let Some(condition) = health.condition(&status.id.as_str().into()) else { continue };
        let (state, reason) = daemon::state_of(condition, None);
        status.state = if condition.error.is_some() { OriginState::Unreachable } else { state };
        status.reason = reason;
        status.failures = condition.failures;
        status.latency_us = condition.latency.map(|took| took.as_micros() as u64);
        status.checked_s = condition.checked.map(|at| cx.clock.now().since(at).as_secs());
    }
    Ok(found)
}

fn print(cx: &Context, origin: &OriginStatus) {
    let out = &cx.output;
    out.line(format!("{}  {}", out.paint(Style::Bold, &origin.id), origin.path));
    let state = match origin.state {
        OriginState::Ok => out.paint(Style::Good, "ok"),
        OriginState::Unknown => out.paint(Style::Dim, "not asked"),
        OriginState::Degraded => out.paint(Style::Warn, "degraded"),
        OriginState::Unreachable => out.paint(Style::Bad, "unreachable"),
    };
    let reason = origin.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    out.line(format!("  {state}{reason}"));
    let mut facts = vec![format!("priority {}", origin.priority)];
    if let Some(us) = origin.latency_us {
        facts.push(format!("answers in {}.{} ms", us / 1000, us % 1000 / 100));
    }
    facts.push(format!("{} delivered", output::size(origin.bytes)));
    facts.push(format!("{} errors", output::count(origin.errors)));
    if let Some(ago) = origin.checked_s {
        facts.push(format!("asked {} ago", output::duration(Duration::from_secs(ago))));
    }
    out.line(format!("  {}", facts.join(", ")));
}
