//! `musicfs scan`: by the running daemon, or without one by this process, which then holds the cache directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use musicfs_core::{Clock, MetaDb};
use musicfs_fuse::Os;
use musicfs_sync::PassOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::offline::on_stores;
use crate::cli::ScanArgs;
use crate::config::{Config, Flags, NamedOrigin};
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::api::{ScanOrder, ScanResult, ScanStatus, Unlisted};
use crate::control::client::Client;
use crate::control::percent;
use crate::daemon::{self, Part, by_origin, chain};
use crate::lock::{self, Holder};
use crate::mounts;
use crate::progress::{self, Progress};
use crate::refusal::{Refusal, taken};
use crate::targets;
use crate::verify;
use crate::wiring::{self, Engine, Stores};

/// Time between two looks at how far the daemon is.
pub(super) const STEP: Duration = Duration::from_millis(200);

/// Scans.
pub(crate) fn run(cx: &Context, args: &ScanArgs) -> anyhow::Result<Outcome> {
    let flags = args.settings.flags();
    let results = match daemon_of(cx, &flags, args.mount.as_deref())? {
        Some(client) => small_runtime()?.block_on(by_daemon(cx, args, &client))?,
        None => {
            let config = cx.config(&flags)?;
            cx.quiet_log(&config);
            by_this_process(cx, args, &config)?
        }
    };
    if args.json {
        cx.output.json(&results)?;
    } else {
        for (origin, result) in &results {
            let summary = progress::summary(origin, result);
            if result.error.is_some() { cx.output.line(summary) } else { cx.output.note(summary) }
        }
    }
    let mut failed = results.values().filter(|result| result.error.is_some()).count();
    for (origin, result) in &results {
        for Unlisted { path, reason } in &result.unlisted_folders {
            cx.output.warn(format!("{origin}:{path} could not be listed: {reason}"));
        }
        for path in &result.nowhere {
            cx.output.warn(format!("nothing is at {origin}:{path}, and nothing was"));
        }
        failed += usize::from(!result.nowhere.is_empty() && result.error.is_none());
    }
    let in_part = results
        .values()
        .any(|result| !result.complete || result.held_back.is_some() || result.unread + result.unlisted > 0);
    Ok(match failed {
        0 if in_part => Outcome::Partly,
        0 => Outcome::Done,
        n if n == results.len() => Outcome::Failed,
        _ => Outcome::Partly,
    })
}

/// Who can be asked.
pub(super) enum Asked {
    /// A daemon.
    Daemon(Client),
    /// Another process is at work in the cache directory, and answers nobody.
    Busy(Holder, PathBuf),
    /// Nobody.
    Nobody,
}

/// Finds the daemon to ask; that another process is at work is an error.
pub(super) fn daemon_of(cx: &Context, flags: &Flags, mount: Option<&Path>) -> anyhow::Result<Option<Client>> {
    match asked(cx, flags, mount)? {
        Asked::Daemon(client) => Ok(Some(client)),
        Asked::Busy(holder, dir) => {
            bail!("process {} is already at work in {}", holder.pid, dir.display())
        }
        Asked::Nobody => Ok(None),
    }
}

/// Finds the daemon to ask: of the mount that is named, of the configuration's cache directory, or the only one
/// when the configuration names no origins.
pub(super) fn asked(cx: &Context, flags: &Flags, mount: Option<&Path>) -> anyhow::Result<Asked> {
    let config = cx.config_in_part(flags)?;
    let find = || mounts::find(&Os::default(), &config.runtime_dir, cx.env.uid);
    if let Some(named) = mount {
        let known = mounts::choose(find()?, Some(&cx.mountpoint(named)?))?;
        return known.client().map(Asked::Daemon);
    }
    if let Some(holder) = lock::holder(&config.cache_dir) {
        let Some(mountpoint) = &holder.mountpoint else {
            return Ok(Asked::Busy(holder, config.cache_dir));
        };
        let dir = daemon::mount_dir(&config.runtime_dir, mountpoint);
        let written = musicfs_fuse::read_handles(&dir).ok().flatten().and_then(|h| h.control_socket);
        return Ok(Asked::Daemon(Client::new(written.unwrap_or_else(|| daemon::socket_in(&dir)))));
    }
    if config.origins.is_empty() {
        return mounts::choose(find()?, None)?.client().map(Asked::Daemon);
    }
    Ok(Asked::Nobody)
}

async fn by_daemon(
    cx: &Context,
    args: &ScanArgs,
    client: &Client,
) -> anyhow::Result<BTreeMap<String, ScanResult>> {
    let (mut origins, mut encoded) = (Vec::new(), Vec::new());
    for name in &args.only {
        match name_of(cx, name).into_string() {
            Ok(name) => origins.push(name),
            Err(name) => encoded.push(percent::encode(name.as_bytes())),
        }
    }
    let order = ScanOrder { origins, encoded, full: args.full, verify: args.verify, confirm: args.confirm };
    let mut job = taken(client.scan(&order).await)?;
    let mut progress = progress(cx);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    while !job.done {
        progress.show(&job.now);
        tokio::select! {
            _ = interrupt.recv() => drop(client.cancel_scan(job.job).await),
            _ = terminate.recv() => drop(client.cancel_scan(job.job).await),
            () = cx.clock.sleep_until(cx.clock.now().plus(STEP)) => {}
        }
        job = client.job(job.job).await.context("the daemon ended before the scan was done")?;
    }
    Ok(job.results)
}

/// An argument with a `/` is a path; made absolute, as the daemon has another working directory. But in `ORIGIN:PATH`
/// the `/` comes after a colon.
pub(super) fn name_of(cx: &Context, name: &OsStr) -> OsString {
    let text = name.to_string_lossy();
    let before = text.split_once(':').map_or(&*text, |(before, _)| before);
    let is_path = text.starts_with('~') || before.contains('/');
    if text.contains("://") || !is_path {
        return name.to_owned();
    }
    let path = crate::paths::absolute(name.as_ref(), &cx.env.cwd, cx.env.home());
    path.map_or_else(|_| name.to_owned(), PathBuf::into_os_string)
}

/// As [`name_of`], for those who take text only.
pub(super) fn text_of(cx: &Context, name: &OsStr) -> String {
    name_of(cx, name).to_string_lossy().into_owned()
}

fn progress(cx: &Context) -> Progress {
    let line: fn(&str) = if cx.output.quiet { |_| {} } else { |line| eprintln!("{line}") };
    Progress::new(cx.clock.clone(), cx.bars.clone(), cx.output.terminal && !cx.output.quiet, line)
}

fn by_this_process(
    cx: &Context,
    args: &ScanArgs,
    config: &Config,
) -> anyhow::Result<BTreeMap<String, ScanResult>> {
    if config.origins.is_empty() {
        return Err(Usage("there are no origins to scan; name one with --origin PATH|URL".into()).into());
    }
    let prepare = |stores: &Stores| {
        let chosen = chosen(cx, args, config, &*stores.db)?;
        Ok((wiring::build_origins(config, &cx.env, &cx.clock)?, chosen))
    };
    on_stores(cx, config, prepare, async |engine, chosen| scan_all(cx, args, engine, chosen).await)
}

fn chosen(cx: &Context, args: &ScanArgs, config: &Config, db: &dyn MetaDb) -> anyhow::Result<Vec<Part>> {
    let mut chosen = Vec::new();
    for name in &args.only {
        chosen.extend(targets::find(config, None, db, &name_of(cx, name)).map_err(Refusal::into_error)?);
    }
    if args.only.is_empty() {
        let whole = |origin: &NamedOrigin| Part::whole(origin.id().clone());
        chosen.extend(config.origins.iter().map(whole));
    }
    Ok(by_origin(chosen))
}

/// Joins what came of a part with what came of a pass over everything that had to follow it.
fn with_the_rest(part: ScanResult, rest: ScanResult) -> ScanResult {
    ScanResult {
        added: part.added + rest.added,
        changed: part.changed + rest.changed,
        moved: part.moved + rest.moved,
        missing: part.missing + rest.missing,
        returned: part.returned + rest.returned,
        problems: part.problems + rest.problems,
        elapsed_ms: part.elapsed_ms + rest.elapsed_ms,
        nowhere: part.nowhere,
        ..rest
    }
}

async fn scan_all(
    cx: &Context,
    args: &ScanArgs,
    engine: &Engine,
    chosen: Vec<Part>,
) -> anyhow::Result<BTreeMap<String, ScanResult>> {
    let cancel = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut progress = progress(cx);
    let work = async {
        let mut results = BTreeMap::new();
        engine.scanner.arrange(&cancel).await.map_err(|e| anyhow!(chain(&e)))?;
        for Part { origin, paths } in chosen {
            let options = PassOptions { paths, reread: args.full, confirmed: args.confirm };
            let (_, mut result) = verify::pass(engine, &origin, &options, &cancel).await;
            if result.unsettled && result.error.is_none() {
                // Nobody else will see to what goes by more than was looked at.
                let (_, rest) = verify::pass(engine, &origin, &PassOptions::default(), &cancel).await;
                result = with_the_rest(result, rest);
            }
            if result.error.is_none() {
                // So that a mount need not look whether the origin is there.
                engine.library.record_origin(&origin, cx.clock.unix())?;
            }
            if args.verify && verify::may_follow(&result) {
                let paths = options.paths.as_deref();
                verify::compare(engine, &origin, paths, &cancel, &mut result).await;
            }
            results.insert(origin.to_string(), result);
        }
        anyhow::Ok(results)
    };
    tokio::pin!(work);
    let watch = engine.scanner.progress();
    loop {
        tokio::select! {
            done = &mut work => {
                progress.clear();
                return done;
            }
            _ = interrupt.recv() => cancel.cancel(),
            _ = terminate.recv() => cancel.cancel(),
            () = cx.clock.sleep_until(cx.clock.now().plus(STEP)) => {
                let now = watch.borrow().clone();
                let verifying = engine.verifying.now();
                progress.show(&ScanStatus { verifying, ..daemon::status_of(&now, BTreeMap::new(), None) });
            }
        }
    }
}
