//! `musicfs search`: by the running daemon, or without one by this process, which then holds the cache directory.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use musicfs_core::{Clock, Found, MetaDb, SearchFailure, Searcher};
use musicfs_fuse::Os;
use musicfs_sync::{CatchUp, SearchIndex, check_query};
use tokio_util::sync::CancellationToken;

use crate::cli::SearchArgs;
use crate::config::{Config, keys};
use crate::context::{Context, Outcome, Usage, small_runtime};
use crate::control::client::Client;
use crate::daemon;
use crate::lock::{self, CacheLock, Holder};
use crate::refusal::Refusal;
use crate::search::{self, Answer};
use crate::{mounts, wiring};

/// Searches.
pub(crate) fn run(cx: &Context, args: &SearchArgs) -> anyhow::Result<Outcome> {
    let mut flags = args.place.flags();
    if let Some(dir) = &args.cache_dir {
        flags.values.insert(keys::CACHE_DIR, dir.clone());
    }
    let config = cx.config_in_part(&flags)?;
    // What is not UTF-8 is no letter of any word, as in the mount.
    let query = args.query.join(OsStr::new(" ")).to_string_lossy().into_owned();
    if query.trim().is_empty() {
        return Err(Usage("there is nothing to look for; see: musicfs search --help".into()).into());
    }
    check_query(&query).map_err(|error| Usage(error.to_string()))?;
    let answer = match running(cx, args, &config)? {
        Some(client) => small_runtime()?
            .block_on(client.search(&query, args.limit.into()))
            .context("the daemon did not search")?,
        None => by_this_process(cx, &config, &query, args.limit.into())?,
    };
    if args.json {
        cx.output.json(&answer)?;
    } else {
        print(cx, &answer);
        if answer.results.is_empty() {
            cx.output.aside("No track was found.");
        }
    }
    Ok(if answer.complete { Outcome::Done } else { Outcome::Partly })
}

/// Finds the daemon to ask: of the mount that is named, of the cache directory, or the only one.
fn running(cx: &Context, args: &SearchArgs, config: &Config) -> anyhow::Result<Option<Client>> {
    let find = || mounts::find(&Os::default(), &config.runtime_dir, cx.env.uid);
    if let Some(named) = &args.mount {
        return mounts::choose(find()?, Some(&cx.mountpoint(named)?))?.client().map(Some);
    }
    if let Some(holder) = lock::holder(&config.cache_dir) {
        let Some(mountpoint) = holder.mountpoint else {
            bail!("process {} is scanning into {}; try again later", holder.pid, config.cache_dir.display());
        };
        let dir = daemon::mount_dir(&config.runtime_dir, &mountpoint);
        let written = musicfs_fuse::read_handles(&dir).ok().flatten().and_then(|h| h.control_socket);
        return Ok(Some(Client::new(written.unwrap_or_else(|| daemon::socket_in(&dir)))));
    }
    let found = find()?;
    let alive = found.mounts.iter().any(|known| known.is_alive() && known.is_meant());
    if args.cache_dir.is_none() && alive {
        return mounts::choose(found, None)?.client().map(Some);
    }
    Ok(None)
}

fn by_this_process(cx: &Context, config: &Config, query: &str, limit: usize) -> anyhow::Result<Answer> {
    if !wiring::catalogue_path(config).exists() {
        bail!(
            "there is no catalogue in {}, and nothing is mounted; scan or mount first",
            config.cache_dir.display()
        );
    }
    cx.quiet_log(config);
    let _lock = CacheLock::acquire(&config.cache_dir, &Holder::this(None, cx.clock.unix().parts().0))?;
    let stores = wiring::open_stores(config, &cx.clock)?;
    for notice in &stores.notices {
        cx.output.warn(notice);
    }
    let index = Arc::new(index(cx, &wiring::search_dir(config), &*stores.db)?);
    let answer = search::ask(&Own(index), &*stores.db, query, limit).map_err(Refusal::into_error)?;
    stores.db.checkpoint().context("the catalogue could not be closed in order")?;
    Ok(answer)
}

/// Opens the index, up to date.
fn index(cx: &Context, dir: &Path, db: &dyn MetaDb) -> anyhow::Result<SearchIndex> {
    let (index, _) = SearchIndex::open_with_recovery(dir)?;
    let how = CatchUp {
        db,
        clock: &*cx.clock,
        cancel: &CancellationToken::new(),
        opened_at: Some(db.revision()?),
        progress: &|_| {},
    };
    index.catch_up(&how)?;
    Ok(index)
}

/// An index that nobody else writes to.
struct Own(Arc<SearchIndex>);

impl Searcher for Own {
    fn search(&self, query: &str, limit: usize) -> Result<Found, SearchFailure> {
        match self.0.search(query, limit) {
            Ok(files) => Ok(Found { files, complete: true }),
            Err(musicfs_sync::SearchError::TooLarge(error)) => Err(SearchFailure::Refused(error.to_string())),
            Err(error) => Err(SearchFailure::Unavailable(daemon::chain(&error))),
        }
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }
}

fn print(cx: &Context, answer: &Answer) {
    for hit in &answer.results {
        let path = match &answer.mountpoint {
            Some(mountpoint) => Path::new(mountpoint).join(&hit.path).display().to_string(),
            None => hit.path.clone(),
        };
        // A name may hold a line break, which must not make a line of its own.
        cx.output.line(path.replace(char::is_control, "\u{fffd}"));
    }
    if !answer.complete {
        cx.output.warn("the index does not have all yet (see 'musicfs status'); there may be more");
    }
}
