//! Orders about files that are gone from their origins.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, OriginPath};
use musicfs_sync::{ScanError, Scanner, TrashFilter, Trashed};

use super::scans::chain;
use crate::config::Config;
use crate::control::api::{Trash, TrashAction, TrashFile, TrashOrder};

/// Wait for a scan that is under way, before whoever gave the order is told that it waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns which files an order means.
pub(crate) fn filter_of(config: &Config, order: &TrashOrder) -> Result<TrashFilter, String> {
    let origin = order.origin.as_deref().map(|name| crate::targets::origin(config, name)).transpose()?;
    let under = order.path.as_deref().map(|path| path.trim_matches('/'));
    let under = under.map(OriginPath::new).transpose().map_err(|error| error.to_string())?;
    Ok(TrashFilter {
        origin,
        under,
        older_than: order.older_than_ms.map(Duration::from_millis),
        newer_than: order.newer_than_ms.map(Duration::from_millis),
    })
}

/// Does what an order says, once no scan is under way. It is done even when nobody waits for it any more.
pub(super) async fn carry_out(
    scanner: &Arc<Scanner>,
    config: &Config,
    order: TrashOrder,
    clock: &dyn Clock,
) -> Result<Trash, String> {
    let filter = filter_of(config, &order)?;
    let working = tokio::spawn({
        let scanner = scanner.clone();
        async move { act(&scanner, order.action, filter).await }
    });
    tokio::select! {
        biased;
        done = working => match done {
            Ok(Ok(files)) => Ok(in_words(&files)),
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(error.to_string()),
        },
        () = clock.sleep_until(clock.now().plus(PATIENCE)) => Ok(Trash { waits: true, ..Trash::default() }),
    }
}

async fn act(scanner: &Scanner, action: TrashAction, filter: TrashFilter) -> Result<Vec<Trashed>, ScanError> {
    match action {
        TrashAction::List => scanner.trash(filter).await,
        TrashAction::Restore => scanner.restore_trash(filter).await,
        TrashAction::Purge => scanner.purge_trash(filter).await,
    }
}

/// Returns files as they go over the socket.
pub(crate) fn in_words(files: &[Trashed]) -> Trash {
    let file = |trashed: &Trashed| TrashFile {
        id: trashed.file.id.to_string(),
        origin: trashed.file.origin.to_string(),
        path: trashed.file.path.to_string(),
        shown_at: trashed.file.shown_at.as_ref().map(ToString::to_string),
        size: trashed.file.version.size,
        missing_since: trashed.since.parts().0,
        cached: trashed.cached,
    };
    let mut files: Vec<TrashFile> = files.iter().map(file).collect();
    files.sort_by(|a, b| (&a.origin, &a.path).cmp(&(&b.origin, &b.path)));
    Trash { files, waits: false }
}
