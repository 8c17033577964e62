//! `musicfs cache`: by the running daemon; what needs no origin also without one, by this process, which then holds
//! the cache directory.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use musicfs_core::{Clock, OriginId};
use musicfs_fuse::Os;
use musicfs_origins::{OriginReader, OriginRegistry};
use parking_lot::Mutex;

use crate::cache::work::Worker;
use crate::cache::{Cache, Parts};
use crate::cli::cache::{CacheArgs, CacheCommand, CacheTargetArgs};
use crate::config::ByteSize;
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::api::cache::{CacheAction, CacheJob, CacheOrder, CacheReport};
use crate::control::client::Client;
use crate::control::percent;
use crate::lock::{CacheLock, Holder};
use crate::output::{self, Style};
use crate::progress::Bar;
use crate::refusal::taken;
use crate::{mounts, wiring};

/// Time between two looks at how far the daemon is.
const STEP: Duration = Duration::from_millis(150);

/// Does something with the cache.
pub(crate) fn run(cx: &Context, command: &CacheCommand) -> anyhow::Result<Outcome> {
    match command {
        CacheCommand::Stats(args) => stats(cx, args),
        CacheCommand::Verify(args) => whole(cx, args, CacheAction::Verify),
        CacheCommand::Clear(args) => whole(cx, args, CacheAction::Clear),
        CacheCommand::Warm(args) => on_targets(cx, args, CacheAction::Warm),
        CacheCommand::Pin(args) => on_targets(cx, args, CacheAction::Pin),
        CacheCommand::Unpin(args) => on_targets(cx, args, CacheAction::Unpin),
        CacheCommand::Evict(args) => match &args.size {
            None => on_targets(cx, &args.target, CacheAction::Evict),
            Some(size) => {
                let bytes = ByteSize::parse(&size.to_string_lossy()).map_err(Usage)?.0;
                let order =
                    CacheOrder { action: CacheAction::Evict, bytes: Some(bytes), ..CacheOrder::default() };
                let client = alive(cx, &args.target)?.client()?;
                ordered(cx, &client, &order, args.target.json)
            }
        },
    }
}

fn stats(cx: &Context, args: &CacheArgs) -> anyhow::Result<Outcome> {
    let report = match running(cx, args)? {
        Some(client) => {
            let asked = small_runtime()?.block_on(client.cache_report());
            asked.context("cannot ask the daemon about its cache")?
        }
        None => by_this_process(cx, args, |worker, config| {
            worker.cache.load_pins(&worker.library)?;
            worker.cache.mark(&*worker.db)?;
            worker.cache.report(config, &worker.library, &*worker.db)
        })?,
    };
    if args.json {
        cx.output.json(&report)?;
    } else {
        print(cx, &report);
    }
    Ok(Outcome::Done)
}

/// Works on the whole cache.
fn whole(cx: &Context, args: &CacheArgs, action: CacheAction) -> anyhow::Result<Outcome> {
    if let Some(client) = running(cx, args)? {
        let order = CacheOrder { action, ..CacheOrder::default() };
        return ordered(cx, &client, &order, args.json);
    }
    let job = by_this_process(cx, args, |worker, _| {
        let runtime = tokio::runtime::Handle::current();
        let job = Mutex::new(CacheJob { action, ..CacheJob::default() });
        let bar = Mutex::new(bar(cx));
        let told = |change: &mut dyn FnMut(&mut CacheJob)| {
            let mut job = job.lock();
            change(&mut job);
            show(&mut bar.lock(), &job);
        };
        // This thread is not the runtime's: it may wait.
        let done = runtime.block_on(worker.carry_out(action, Vec::new(), None, &told));
        let mut job = job.into_inner();
        job.done = true;
        job.error = done.err().map(|error| format!("{error:#}"));
        Ok(job)
    })?;
    ended(cx, &job, args.json)
}

fn on_targets(cx: &Context, args: &CacheTargetArgs, action: CacheAction) -> anyhow::Result<Outcome> {
    if args.paths.is_empty() && args.origins.is_empty() {
        return Err(Usage("name what is meant: a PATH in the mount, or --origin ORIGIN".into()).into());
    }
    let mut client = None;
    let mut order = CacheOrder { action, ..CacheOrder::default() };
    let named = args.mount.as_deref().map(|path| cx.mountpoint(path)).transpose()?;
    for path in &args.paths {
        let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
        let (known, path) = super::explain::locate(cx, found, named.as_deref(), path)?;
        match &client {
            Some((point, _)) if *point != known.mountpoint => {
                return Err(Usage("the paths are in different mounts; give one order for each".into()).into());
            }
            Some(_) => {}
            None => client = Some((known.mountpoint.clone(), known.client()?)),
        }
        order.paths.push(percent::encode(path.as_os_str().as_bytes()));
    }
    for origin in &args.origins {
        let text = origin.contains('/') && !origin.contains("://");
        let path = crate::paths::absolute(origin.as_ref(), &cx.env.cwd, cx.env.home());
        let path = path.ok().filter(|_| text).map(|path| path.to_string_lossy().into_owned());
        order.origins.push(path.unwrap_or_else(|| origin.clone()));
    }
    let client = match client {
        Some((_, client)) => client,
        None => alive(cx, args)?.client()?,
    };
    ordered(cx, &client, &order, args.json)
}

fn alive(cx: &Context, args: &CacheTargetArgs) -> anyhow::Result<mounts::Known> {
    let found = mounts::find(&Os::default(), &cx.runtime_dir(&args.place.flags())?, cx.env.uid)?;
    let named = args.mount.as_deref().map(|path| cx.mountpoint(path)).transpose()?;
    mounts::choose(found, named.as_deref())
}

fn running(cx: &Context, args: &CacheArgs) -> anyhow::Result<Option<Client>> {
    let flags = args.settings.flags();
    let config = cx.config_in_part(&flags)?;
    let found = mounts::find(&Os::default(), &config.runtime_dir, cx.env.uid)?;
    if args.mount.is_none() && crate::lock::holder(&config.cache_dir).is_none() {
        let is_named = args.settings.cache_dir.is_some() || args.settings.config.is_some();
        // Without a mount that could be meant, and nobody at work in the directory, it is this process's to look at. A
        // mount may have a directory of its own.
        let is_meant = |known: &mounts::Known| known.is_meant() && known.is_alive();
        return match is_named || !found.mounts.iter().any(is_meant) {
            true => Ok(None),
            false => mounts::choose(found, None)?.client().map(Some),
        };
    }
    super::scan::daemon_of(cx, &flags, args.mount.as_deref())
}

/// Gives an order, and follows it to its end.
fn ordered(cx: &Context, client: &Client, order: &CacheOrder, json: bool) -> anyhow::Result<Outcome> {
    let job = small_runtime()?.block_on(async {
        let mut job = taken(client.cache_order(order).await)?;
        let mut bar = bar(cx);
        while !job.done {
            show(&mut bar, &job);
            cx.clock.sleep_until(cx.clock.now().plus(STEP)).await;
            job = client.cache_job(job.job).await.context("the daemon ended before the work was done")?;
        }
        anyhow::Ok(job)
    })?;
    ended(cx, &job, json)
}

fn ended(cx: &Context, job: &CacheJob, json: bool) -> anyhow::Result<Outcome> {
    if json {
        cx.output.json(job)?;
    } else {
        if let Some(error) = &job.error {
            bail!("{error}");
        }
        cx.output.note(summary(job));
        for failed in &job.failures {
            cx.output.warn(format!("{}: {}", failed.path, failed.reason));
        }
    }
    Ok(match (&job.error, job.files_failed, job.unreadable + job.undeletable) {
        (Some(_), ..) => Outcome::Failed,
        (None, 0, 0) => Outcome::Done,
        (None, failed, 0) if failed == job.files => Outcome::Failed,
        _ => Outcome::Partly,
    })
}

fn bar(cx: &Context) -> Bar {
    Bar::new(cx.bars.clone(), cx.output.terminal && !cx.output.quiet)
}

fn show(bar: &mut Bar, job: &CacheJob) {
    match job.action {
        CacheAction::Verify if job.chunks_done < job.chunks => {
            bar.show(job.chunks_done, job.chunks, format!("{} looked at", output::size(job.bytes_done)));
        }
        _ => {
            let text = format!(
                "{} of {} files, {} fetched",
                output::count(job.files_done),
                output::count(job.files),
                output::size(job.bytes_fetched)
            );
            bar.show(job.files_done, job.files, text);
        }
    }
}

fn files(n: u64) -> String {
    format!("{} {}", output::count(n), if n == 1 { "file" } else { "files" })
}

/// Says in a line what was done.
fn summary(job: &CacheJob) -> String {
    let failed = match job.files_failed {
        0 => String::new(),
        n => format!("; {} could not be fetched", files(n)),
    };
    let kept = files(job.files_done - job.files_failed);
    let fetched = output::size(job.bytes_fetched);
    match job.action {
        CacheAction::Warm => format!("{kept} in the cache, {fetched} fetched{failed}"),
        CacheAction::Pin => format!("{} pinned; {kept} in the cache, {fetched} fetched{failed}", job.pins),
        CacheAction::Unpin => match job.pins {
            0 => "nothing of that was pinned".to_owned(),
            n => format!("{n} no longer pinned"),
        },
        CacheAction::Evict | CacheAction::Clear => {
            let stuck = match job.undeletable {
                0 => String::new(),
                n => format!("; {n} chunks could not be deleted"),
            };
            format!("{} freed{stuck}", output::size(job.bytes_freed))
        }
        CacheAction::Verify => {
            let bad = match (job.damaged + job.missing, job.unreadable) {
                (0, 0) => ", all as they should be".to_owned(),
                (_, unreadable) => format!(
                    ": {} damaged, {} gone, {unreadable} unreadable; {} fetched again{failed}",
                    job.damaged,
                    job.missing,
                    files(job.repaired)
                ),
            };
            format!("{} chunks looked at{bad}", output::count(job.chunks_done))
        }
    }
}

fn print(cx: &Context, report: &CacheReport) {
    let out = &cx.output;
    let line = |name: &str, value: String| out.line(format!("  {name:<11} {value}"));
    out.line(out.paint(Style::Bold, &report.directory));
    let of = report.room.map_or_else(String::new, |room| format!(" of {}", output::size(room)));
    let chunks = output::count(report.chunks);
    let size = output::size(report.bytes);
    let counting = if report.counted { "" } else { ", still counting" };
    line("size", format!("{size}{of} in {chunks} chunks, {}{counting}", report.level));
    line("heads/tails", output::size(report.edge_bytes));
    line("pinned", output::size(report.pinned_bytes));
    if let Some(ratio) = report.dedup_ratio {
        line("dedup", format!("{ratio:.2}"));
    }
    if let Some(rate) = report.hit_rate {
        line("hit rate", format!("{:.1} %", rate * 100.0));
    }
    line(
        "served",
        format!(
            "{} from the cache, {} from origins; {} fetched, of which {} ahead",
            output::size(report.from_cache),
            output::size(report.from_origins),
            output::size(report.fetched),
            output::size(report.prefetched)
        ),
    );
    line("evicted", format!("{} in {} chunks", output::size(report.evicted_bytes), report.evicted_chunks));
    line("repaired", format!("{} chunks", report.repaired));
    if report.proven > 0 || report.mismatched > 0 {
        let proven = output::size(report.proven);
        line("compared", format!("{proven} right after a change of tags, {} files wrong", report.mismatched));
    }
    if report.passing_through {
        line("state", out.paint(Style::Bad, "the cache fails; reading from origins"));
    }
    for pin in &report.pins {
        line("pin", format!("{} {}", pin.kind, pin.what));
    }
}

/// Opens the stores, and works on them on a thread beside the runtime.
fn by_this_process<T: Send>(
    cx: &Context,
    args: &CacheArgs,
    work: impl FnOnce(Worker, &crate::config::Config) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let config = cx.config(&args.settings.flags())?;
    cx.quiet_log(&config);
    let holder = Holder::this(None, cx.clock.unix().parts().0);
    let _lock = CacheLock::acquire(&config.cache_dir, &holder)?;
    let stores = wiring::open_stores(&config, &cx.clock)?;
    for notice in &stores.notices {
        cx.output.warn(notice);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock: Arc<dyn Clock> = cx.clock.clone();
    // Without origins: what is damaged is taken out, and fetched again when it is read.
    let direct = OriginReader::new(Arc::new(OriginRegistry::new()), clock.clone(), wiring::limits(&config));
    let parts = Parts {
        source: Arc::new(direct),
        db: stores.db.clone(),
        clock: clock.clone(),
        events: None,
        worth_caching: Box::new(|_: &OriginId| false),
        is_away: Box::new(|_: &OriginId| true),
    };
    let cache = runtime.block_on(Cache::open(&config, parts)).context("the cache cannot be opened")?;
    runtime.block_on(cache.store.counted());
    let worker = Worker { cache: cache.clone(), db: stores.db, library: stores.library, clock };
    let _inside = runtime.enter();
    let done = work(worker, &config);
    runtime.block_on(cache.store.save_index());
    done
}
