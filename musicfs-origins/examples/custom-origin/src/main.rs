//! Mounts a tar archive of music: `mount-tar ARCHIVE STATE_DIR MOUNTPOINT`, until it is unmounted.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use musicfs_core::{Clock, MetaDb, SystemClock};
use musicfs_fuse::{FsOptions, MountOptions, MusicFs, Parts, Session};
use musicfs_origins::{Jitter, LayerConfig, OriginReader, OriginRegistry, ReadLimits, layered};
use musicfs_sync::{Database, Library, Scanner, ScannerConfig};
use tar_origin::TarOrigin;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [archive, state, mountpoint] = args.as_slice() else {
        return Err("usage: mount-tar ARCHIVE STATE_DIR MOUNTPOINT".into());
    };
    std::fs::create_dir_all(state)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let db: Arc<dyn MetaDb> = Arc::new(Database::open(&state.join("catalogue.db"))?);
    let library = Arc::new(Library::open(&state.join("library.db"), &*clock)?.0);

    let origin = TarOrigin::new("tar", archive);
    let origin = layered(Arc::new(origin), &LayerConfig::default(), &clock, Jitter::seeded(1)).origin;
    let registry = Arc::new(OriginRegistry::new());
    registry.register(origin.clone(), 100);
    let reader = OriginReader::new(registry, clock.clone(), ReadLimits::default());
    let config = ScannerConfig::default();
    let scanner = Arc::new(Scanner::new(db.clone(), library, vec![origin], clock.clone(), config));

    let parts = Parts { meta: db, reader, refresher: scanner.clone(), clock };
    let fs = MusicFs::new(parts, FsOptions::default());
    let session = Session::mount(fs, mountpoint, MountOptions::default(), Handle::current())?;
    let report = scanner.scan(&"tar".into(), false, &CancellationToken::new()).await?;
    println!("{} files at {}", report.listed, session.mountpoint().display());
    session.ended().await;
    Ok(session.unmount(Duration::from_secs(5)).await?)
}
