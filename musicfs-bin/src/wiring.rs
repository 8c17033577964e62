//! The one file where the crates meet: concrete stores, origins, reader and scanner, put together.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use musicfs_core::{Clock, EventBus, MetaDb, Origin, OriginId, SystemClock};
use musicfs_fuse::{FsOptions, MusicFs, Parts};
use musicfs_origins::{LocalOrigin, OriginReader, OriginRegistry, ReadLimits};
use musicfs_sync::{Database, Library, Scanner, ScannerConfig};

use crate::config::{Config, OriginSpec};

/// What the filesystem is composed over.
pub(crate) type Backends = Parts<Arc<Database>, Arc<OriginReader>, Arc<Scanner>, Arc<SystemClock>>;

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
    crate::control::private_dir_if_new(state_dir)
        .with_context(|| format!("cannot make the state directory {}", state_dir.display()))?;
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

/// Everything that serves one library.
pub(crate) struct Engine {
    /// What was observed.
    pub(crate) db: Arc<Database>,
    /// What the user said.
    pub(crate) library: Arc<Library>,
    /// Where the music is.
    pub(crate) registry: Arc<OriginRegistry>,
    /// What reads it.
    pub(crate) reader: Arc<OriginReader>,
    /// What keeps the catalogue true.
    pub(crate) scanner: Arc<Scanner>,
    /// Tells what happens: `engine.events.publish(EventKind::…)`.
    pub(crate) events: EventBus,
    /// The time.
    pub(crate) clock: Arc<SystemClock>,
}

impl Engine {
    /// Puts the parts together. Does no I/O.
    pub(crate) fn new(config: &Config, stores: Stores, clock: Arc<SystemClock>) -> Self {
        let registry = Arc::new(OriginRegistry::new());
        for spec in &config.origins {
            registry.register(origin(spec), spec.priority);
        }
        let shared: Arc<dyn Clock> = clock.clone();
        let reader = OriginReader::new(registry.clone(), shared.clone(), limits(config));
        let db: Arc<dyn MetaDb> = stores.db.clone();
        let scanner = Scanner::new(
            db,
            stores.library.clone(),
            registry.all().into_iter().map(|registered| registered.origin).collect(),
            shared,
            ScannerConfig { template: config.template.clone(), workers: config.scan_workers },
        );
        Self {
            db: stores.db,
            library: stores.library,
            registry,
            reader: Arc::new(reader),
            scanner: Arc::new(scanner),
            events: EventBus::new(clock.clone()),
            clock,
        }
    }

    /// Returns the filesystem over the parts.
    pub(crate) fn filesystem(&self) -> MusicFs<Backends> {
        let parts = Parts {
            meta: self.db.clone(),
            reader: self.reader.clone(),
            refresher: self.scanner.clone(),
            clock: self.clock.clone(),
        };
        MusicFs::new(parts, FsOptions::default())
    }

    /// Takes over a configuration's origins; those that are the same stay.
    pub(crate) fn set_origins(&self, before: &[OriginSpec], now: &[OriginSpec]) {
        for gone in before.iter().filter(|old| !now.contains(old)) {
            self.registry.remove(&gone.id);
        }
        for new in now.iter().filter(|new| !before.contains(new)) {
            self.registry.register(origin(new), new.priority);
        }
        let all = self.registry.all();
        self.scanner.set_origins(all.into_iter().map(|registered| registered.origin).collect());
    }

    /// Records the origins that are named, and takes the files of those that were once, and no longer are, out of
    /// the tree. Blocks.
    pub(crate) fn settle_origins(&self) -> anyhow::Result<()> {
        let named = self.origin_ids();
        let seen = self.library.origins().context("cannot read the library")?;
        for origin in named.iter().filter(|origin| !seen.iter().any(|(id, _)| id == *origin)) {
            self.library.record_origin(origin, self.clock.unix()).context("cannot record the origin")?;
        }
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

fn origin(spec: &OriginSpec) -> Arc<dyn Origin> {
    Arc::new(LocalOrigin::new(spec.id.clone(), &spec.path))
}

/// Deadlines of reads.
pub(crate) fn limits(config: &Config) -> ReadLimits {
    ReadLimits { local: config.local_deadline, remote: config.remote_deadline }
}
