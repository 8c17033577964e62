//! The one file where the crates meet: concrete stores, origins, reader and scanner, put together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use musicfs_core::{Batch, Clock, ContentReader, EventBus, EventKind, MetaDb, Op, OriginId, SystemClock};
use musicfs_fuse::{FsOptions, MusicFs, Parts};
use musicfs_origins::{
    BuiltOrigin, CircuitReader, FailoverReader, HealthMonitor, OriginMetrics, OriginReader, OriginRegistry,
    ReadLimits, Router,
};
use musicfs_sync::{Database, Library, Scanner, ScannerConfig, Search};
use parking_lot::Mutex;

use crate::cache::{self, Cache};
use crate::config::{Config, NamedOrigin};
use crate::env::Env;
use crate::verify::VerifyProgress;

/// What the filesystem is composed over.
pub(crate) type Backends = Parts<Arc<Database>, Arc<dyn ContentReader>, Arc<Scanner>, Arc<SystemClock>>;

/// The stores of a library.
pub(crate) struct Stores {
    /// What was observed.
    pub(crate) db: Arc<Database>,
    /// What the user said.
    pub(crate) library: Arc<Library>,
    /// What the user should know of how they were opened.
    pub(crate) notices: Vec<String>,
}

/// Where the stores are.
pub(crate) fn catalogue_path(config: &Config) -> PathBuf {
    config.cache_dir.join("catalogue.db")
}

/// Where the user's own record is.
pub(crate) fn library_path(config: &Config) -> PathBuf {
    config.state_dir.join("library.db")
}

/// Where the chunks of cached files are.
pub(crate) fn chunks_dir(config: &Config) -> PathBuf {
    config.cache_dir.join("chunks")
}

/// Opens the stores; what is damaged is rebuilt or restored, and said. Blocks. The cache directory is locked.
pub(crate) fn open_stores(config: &Config, clock: &SystemClock) -> anyhow::Result<Stores> {
    let mut notices = Vec::new();
    let path = catalogue_path(config);
    let (db, quarantined) = Database::open_or_rebuild(&path, clock)
        .with_context(|| format!("cannot open the catalogue {}", path.display()))?;
    if let Some(moved) = quarantined {
        notices.push(format!(
            "the catalogue was damaged; it is being rebuilt by a scan, and the damaged one was kept as {}",
            moved.display()
        ));
    }
    let state_dir = &config.state_dir;
    crate::control::private_dir_if_new(state_dir).with_context(|| {
        format!("cannot make the state directory {}; --state-dir names another", state_dir.display())
    })?;
    let path = library_path(config);
    let (library, restored) =
        Library::open(&path, clock).with_context(|| format!("cannot open the library {}", path.display()))?;
    if let Some(restored) = restored {
        let kept = restored.quarantined.map_or_else(
            || "the damaged file was gone".to_owned(),
            |moved| format!("the damaged file was kept as {}", moved.display()),
        );
        notices.push(match restored.from {
            Some(from) => format!(
                "the library was DAMAGED and has been restored from {}; what was recorded since then is lost, and \
                 {kept}",
                from.display()
            ),
            None => format!("the library was DAMAGED and has no sound backup; it begins anew, and {kept}"),
        });
    }
    Ok(Stores { db: Arc::new(db), library: Arc::new(library), notices })
}

/// Where the search index is.
pub(crate) fn search_dir(config: &Config) -> PathBuf {
    config.cache_dir.join("search")
}

/// Builds an origin. Asks nothing of it; reads files and runs commands that its secrets come from, and blocks for
/// as long as they do.
pub(crate) fn build_origin(
    origin: &NamedOrigin,
    env: &Env,
    clock: &Arc<SystemClock>,
) -> anyhow::Result<BuiltOrigin> {
    let clock: Arc<dyn Clock> = clock.clone();
    let variable = |name: &str| env.get(name).map(std::ffi::OsStr::to_owned);
    musicfs_origins::build(&origin.spec, &variable, &clock).with_context(|| format!("origin {}", origin.id()))
}

/// Builds all origins of a configuration. Blocks; see [`build_origin`].
pub(crate) fn build_origins(
    config: &Config,
    env: &Env,
    clock: &Arc<SystemClock>,
) -> anyhow::Result<Vec<BuiltOrigin>> {
    config.origins.iter().map(|origin| build_origin(origin, env, clock)).collect()
}

/// Everything that serves one library.
pub(crate) struct Engine {
    /// What was observed.
    pub(crate) db: Arc<Database>,
    /// What the user said.
    pub(crate) library: Arc<Library>,
    /// Where the music is.
    pub(crate) registry: Arc<OriginRegistry>,
    /// How each origin is.
    pub(crate) monitor: Arc<HealthMonitor>,
    /// What each origin has done.
    metrics: Mutex<HashMap<OriginId, Arc<OriginMetrics>>>,
    /// Which origins are preferred.
    pub(crate) router: Arc<Router>,
    /// What reads straight from origins.
    pub(crate) direct: Arc<OriginReader>,
    /// What reads files, or copies of them.
    pub(crate) failover: Arc<FailoverReader>,
    /// The same.
    pub(crate) reader: Arc<dyn ContentReader>,
    /// The cache; `None` when it cannot be used.
    pub(crate) cache: Option<Cache>,
    /// What keeps the catalogue true.
    pub(crate) scanner: Arc<Scanner>,
    /// What finds tracks.
    pub(crate) search: Arc<Search>,
    /// Tells what happens: `engine.events.publish(EventKind::…)`.
    pub(crate) events: EventBus,
    /// How far a comparison of content is.
    pub(crate) verifying: VerifyProgress,
    /// The time.
    pub(crate) clock: Arc<SystemClock>,
}

impl Engine {
    /// Puts the parts together, and opens the cache. Returns what the user should know of it, too. A cache that
    /// cannot be opened costs the cache, not the mount.
    pub(crate) async fn new(
        config: &Config,
        stores: Stores,
        origins: Vec<BuiltOrigin>,
        clock: Arc<SystemClock>,
    ) -> (Self, Option<String>) {
        let registry = Arc::new(OriginRegistry::new());
        let monitor = Arc::new(HealthMonitor::with_clock(config.health_interval, clock.clone()));
        let mut metrics = HashMap::new();
        for built in origins {
            metrics.insert(built.origin.id().clone(), built.metrics);
            monitor.add_origin(built.origin.clone());
            registry.register(built.origin, built.priority);
        }
        let shared: Arc<dyn Clock> = clock.clone();
        let direct = Arc::new(OriginReader::new(registry.clone(), shared.clone(), limits(config)));
        let router = Arc::new(Router::new(registry.clone(), Some(monitor.clone()), shared.clone()));
        router.set_failback_delay(config.failback_delay);
        let guarded: Arc<dyn ContentReader> = Arc::new(CircuitReader::new(direct.clone(), router.clone()));
        let db: Arc<dyn MetaDb> = stores.db.clone();
        let events = EventBus::new(clock.clone());
        let known = registry.clone();
        let health = monitor.clone();
        let parts = cache::Parts {
            source: guarded.clone(),
            db: db.clone(),
            clock: shared.clone(),
            events: Some(events.clone()),
            worth_caching: Box::new(move |id: &OriginId| known.get(id).is_none_or(|o| o.caps().remote)),
            is_away: Box::new(move |id: &OriginId| health.snapshot().is_unhealthy(id)),
        };
        let (cache, notice) = match Cache::open(config, parts).await {
            Ok(cache) => (Some(cache), None),
            Err(error) => {
                let why = crate::daemon::chain(&error);
                let place = chunks_dir(config);
                (None, Some(format!("nothing is cached: {} cannot be used: {why}", place.display())))
            }
        };
        let one_copy: Arc<dyn ContentReader> = match &cache {
            Some(cache) => Arc::new(cache.reader.clone()),
            None => guarded,
        };
        let failover = Arc::new(FailoverReader::new(
            one_copy,
            db.clone(),
            router.clone(),
            shared.clone(),
            events.clone(),
            config.remote_deadline,
        ));
        let search = Search::new(&search_dir(config), db.clone(), shared.clone());
        let scanner = Scanner::new(
            db,
            stores.library.clone(),
            registry.all().into_iter().map(|registered| registered.origin).collect(),
            shared,
            ScannerConfig {
                template: config.template.clone(),
                workers: config.scan_workers,
                missing_grace: config.missing_grace,
                missing_max_age: config.missing_max_age,
            },
        )
        .with_events(events.clone());
        let scanner = match &cache {
            Some(cache) => {
                let scanner = scanner.with_chunks(Arc::new(cache.store.clone()));
                let scanner = scanner.with_verifier(Arc::new(cache.reader.clone()));
                scanner.with_seen_keeper(Arc::new(cache.reader.clone()))
            }
            None => scanner,
        };
        let engine = Self {
            db: stores.db,
            library: stores.library,
            registry,
            monitor,
            metrics: Mutex::new(metrics),
            router,
            direct,
            reader: failover.clone(),
            failover,
            cache,
            scanner: Arc::new(scanner),
            search: Arc::new(search),
            events,
            verifying: VerifyProgress::default(),
            clock,
        };
        (engine, notice)
    }

    /// Returns the filesystem over the parts.
    pub(crate) fn filesystem(&self) -> MusicFs<Backends> {
        let parts = Parts {
            meta: self.db.clone(),
            reader: self.reader.clone(),
            refresher: self.scanner.clone(),
            clock: self.clock.clone(),
        };
        MusicFs::new(parts, FsOptions::default()).with_search(self.search.clone())
    }

    /// Takes over a configuration's origins: those that are `gone` leave, the `new` ones come, the others stay.
    pub(crate) fn set_origins(&self, gone: &[OriginId], new: Vec<BuiltOrigin>) {
        for id in gone {
            self.registry.remove(id);
            self.monitor.remove_origin(id);
            self.metrics.lock().remove(id);
            self.events.publish(EventKind::OriginRemoved { origin: id.clone() });
        }
        for built in new {
            self.metrics.lock().insert(built.origin.id().clone(), built.metrics);
            self.monitor.add_origin(built.origin.clone());
            self.events.publish(EventKind::OriginAdded { origin: built.origin.id().clone() });
            self.registry.register(built.origin, built.priority);
        }
        let all = self.registry.all();
        self.scanner.set_origins(all.into_iter().map(|registered| registered.origin).collect());
    }

    /// Returns what an origin has done.
    pub(crate) fn metrics(&self, origin: &OriginId) -> Option<Arc<OriginMetrics>> {
        self.metrics.lock().get(origin).cloned()
    }

    /// Records the origins that are named and in which order they are preferred, and takes the files of those that were once, and no longer are, out of
    /// the tree. Blocks.
    pub(crate) fn settle_origins(&self) -> anyhow::Result<()> {
        let named = self.origin_ids();
        let seen = self.library.origins().context("cannot read the library")?;
        for origin in named.iter().filter(|origin| !seen.iter().any(|(id, _)| id == *origin)) {
            self.library.record_origin(origin, self.clock.unix()).context("cannot record the origin")?;
        }
        // Which of several copies leads.
        let ranks = Batch { at: self.clock.unix(), ops: vec![Op::RankOrigins(named.clone())] };
        self.db.apply(&ranks).context("cannot record which origins are preferred")?;
        for (origin, _) in seen.into_iter().filter(|(origin, _)| !named.contains(origin)) {
            let retired = crate::retire::retire(&*self.db, &origin, self.clock.unix())?;
            if retired > 0 {
                tracing::info!(%origin, files = retired, "the origin is no longer named; its files are hidden");
            }
        }
        Ok(())
    }

    /// Returns the ids of the origins, the preferred first.
    pub(crate) fn origin_ids(&self) -> Vec<OriginId> {
        self.registry.all().iter().map(|registered| registered.origin.id().clone()).collect()
    }
}

/// Deadlines of reads.
pub(crate) fn limits(config: &Config) -> ReadLimits {
    ReadLimits { local: config.local_deadline, remote: config.remote_deadline }
}
