//! The cache as the program uses it: opened as the configuration says, asked, and worked on by order.
//!
//! [`Cache`] does the work, whoever asks: a daemon for its clients (`cache/jobs.rs`), or a command by itself when
//! nothing is mounted. What is meant by a path or an origin is found in `cache/targets.rs`.

pub(crate) mod jobs;
pub(crate) mod targets;
pub(crate) mod work;

use std::sync::Arc;

use musicfs_cas::{CacheKeeper, CasConfig, CasStore, ContentFetcher, FileReader, IsAway, WorthCaching};
use musicfs_core::{ChunkError, Clock, ContentReader, EventBus, MetaDb};
use musicfs_sync::Library;

use crate::config::Config;
use crate::control::api::cache::{CacheReport, PinShown};
use crate::wiring;

/// The cache of a library.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    /// The chunks.
    pub(crate) store: CasStore,
    /// What decides which stay.
    pub(crate) keeper: CacheKeeper,
    /// What reads files through them.
    pub(crate) reader: FileReader,
}

/// What a cache is opened with.
pub(crate) struct Parts {
    /// What reads origins.
    pub(crate) source: Arc<dyn ContentReader>,
    /// The catalogue.
    pub(crate) db: Arc<dyn MetaDb>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who is told what happens to the cache.
    pub(crate) events: Option<EventBus>,
    /// Which origins are cached.
    pub(crate) worth_caching: Box<WorthCaching>,
    /// Which origins are known not to answer.
    pub(crate) is_away: Box<IsAway>,
}

impl Cache {
    /// Opens the cache. Its chunks are counted behind, so that no mount waits for it.
    pub(crate) async fn open(config: &Config, parts: Parts) -> Result<Self, ChunkError> {
        let limit = if config.cache_size.0 == 0 { u64::MAX } else { config.cache_size.0 };
        let percent = u8::try_from(config.cache_min_free).unwrap_or(100);
        let cas =
            CasConfig::new(wiring::chunks_dir(config)).with_max_size(limit).with_min_free_percent(percent);
        let store = CasStore::open_at_once(cas, parts.clock.clone()).await?;
        let age = (!config.cache_max_age.is_zero()).then_some(config.cache_max_age);
        let mut keeper = CacheKeeper::new(store.clone(), parts.clock.clone(), age);
        if let Some(events) = parts.events {
            keeper = keeper.with_events(events);
        }
        let fetcher = ContentFetcher::new(parts.source);
        let shared = Arc::new(store.clone());
        let reader = FileReader::with_fetcher(shared, fetcher, parts.db, parts.clock, parts.worth_caching);
        let reader = reader.with_keeper(keeper.clone()).with_away(parts.is_away);
        reader.set_prefetch(config.prefetch);
        reader.set_deadline(config.remote_deadline);
        reader.set_compare_after(compare_after(config));
        Ok(Self { store, keeper, reader })
    }

    /// Takes over what is pinned. Blocks.
    pub(crate) fn load_pins(&self, library: &Library) -> anyhow::Result<()> {
        self.keeper.set_pins(library.pins()?.into_iter().collect());
        Ok(())
    }

    /// Notes which chunks are of pinned files. Blocks for as long as it takes to read all manifests.
    pub(crate) fn mark(&self, db: &dyn MetaDb) -> anyhow::Result<()> {
        Ok(self.keeper.mark(db)?)
    }

    /// Says how the cache is. Blocks.
    pub(crate) fn report(
        &self,
        config: &Config,
        library: &Library,
        db: &dyn MetaDb,
    ) -> anyhow::Result<CacheReport> {
        let (kept, read) = (self.keeper.stats(), self.reader.stats());
        let dedup =
            (kept.referenced_bytes > 0).then(|| kept.unshared_bytes as f64 / kept.referenced_bytes as f64);
        let pins = library.pins()?;
        Ok(CacheReport {
            directory: wiring::chunks_dir(config).display().to_string(),
            chunks: kept.chunks,
            bytes: kept.bytes,
            max_bytes: kept.max_bytes,
            room: kept.room,
            level: kept.level.as_str().to_owned(),
            counted: kept.counted,
            edge_bytes: kept.edge_bytes,
            pinned_bytes: kept.pinned_bytes,
            dedup_ratio: dedup,
            hit_rate: read.hit_rate(),
            from_cache: read.from_cache,
            from_origins: read.from_origins,
            fetched: read.fetched,
            prefetched: read.prefetched,
            repaired: read.repaired,
            proven: read.proven,
            mismatched: read.mismatched,
            not_stored: read.not_stored,
            passing_through: read.passing_through,
            evicted_chunks: kept.evicted_chunks,
            evicted_bytes: kept.evicted_bytes,
            undeletable: kept.undeletable,
            pins: pins.iter().map(|pin| shown(pin, db)).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// Returns how long what stayed cached over a change of tags waits to be compared, if somebody is to do so.
pub(crate) fn compare_after(config: &Config) -> Option<std::time::Duration> {
    Some(config.recheck_after).filter(|after| !after.is_zero())
}

fn shown(pin: &musicfs_core::Pin, db: &dyn MetaDb) -> anyhow::Result<PinShown> {
    let (kind, what) = match pin {
        musicfs_core::Pin::Origin(origin) => ("origin", origin.to_string()),
        musicfs_core::Pin::Folder(path) => ("directory", path.to_string()),
        musicfs_core::Pin::File(id) => {
            let file = db.file(*id)?;
            let place = file.map(|file| match file.shown_at {
                Some(path) => path.to_string(),
                None => format!("{}:{}", file.origin, file.path),
            });
            ("file", place.unwrap_or_else(|| id.to_string()))
        }
    };
    Ok(PinShown { kind: kind.to_owned(), what })
}
