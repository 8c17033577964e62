//! Work on a library that is not mounted: by this process, which then holds the cache directory.

use anyhow::Context as _;
use musicfs_core::Clock;
use musicfs_origins::BuiltOrigin;

use crate::config::{Config, check};
use crate::context::Context;
use crate::lock::{CacheLock, Holder};
use crate::refusal::Refusal;
use crate::wiring::{self, Engine, Stores};

/// Opens the stores and works on them; no origin is asked. What failed is returned in words.
pub(super) fn without_daemon<T>(
    cx: &Context,
    config: &Config,
    work: impl AsyncFnOnce(&Engine) -> Result<T, Refusal>,
) -> anyhow::Result<T> {
    let work = async |engine: &Engine, ()| work(engine).await.map_err(Refusal::into_error);
    on_stores(cx, config, |_| Ok((Vec::new(), ())), work)
}

/// Opens the stores, has it looked up in them which origins there are to be and what is meant, and works on that.
pub(super) fn on_stores<P, T>(
    cx: &Context,
    config: &Config,
    prepare: impl FnOnce(&Stores) -> anyhow::Result<(Vec<BuiltOrigin>, P)>,
    work: impl AsyncFnOnce(&Engine, P) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    crate::context::refuse(&check::own_directories(config))?;
    let holder = Holder::this(None, cx.clock.unix().parts().0);
    let _lock = CacheLock::acquire(&config.cache_dir, &holder)?;
    let stores = wiring::open_stores(config, &cx.clock)?;
    for notice in &stores.notices {
        cx.output.warn(notice);
    }
    let (origins, prepared) = prepare(&stores)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (engine, _) = runtime.block_on(Engine::new(config, stores, origins, cx.clock.clone()));
    let done = runtime.block_on(work(&engine, prepared));
    engine.db.checkpoint().context("the catalogue could not be closed in order")?;
    engine.library.backup().context("the library could not be backed up")?;
    runtime.shutdown_background();
    done
}
