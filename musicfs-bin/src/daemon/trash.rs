//! Orders about files that are gone from their origins.

use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, OriginPath};
use musicfs_sync::{Scanner, TrashFilter, Trashed};

use super::given::Given;
use crate::config::Config;
use crate::control::api::{Trash, TrashAction, TrashFile, TrashOrder};
use crate::control::percent;
use crate::refusal::Refusal;
use crate::targets;

/// Returns which files an order means.
pub(crate) fn filter_of(config: &Config, order: &TrashOrder) -> Result<TrashFilter, Refusal> {
    let origin = order.origin.as_deref().map(|name| targets::origin(config, name)).transpose()?;
    let path = order.path.as_deref().map(percent::decode);
    let under = path.as_deref().map(|path| OriginPath::new(targets::without_slashes(path)));
    let under = under.transpose().map_err(|error| Refusal::Wrong(error.to_string()))?;
    if under.as_ref().is_some_and(OriginPath::is_root) {
        // Whoever meant all of an origin would not have named a path; a variable in a script may be empty.
        let why = "the path names nothing below an origin; for all files leave it out";
        return Err(Refusal::Wrong(why.to_owned()));
    }
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
    orders: &Given,
    clock: &dyn Clock,
) -> Result<Trash, Refusal> {
    let filter = filter_of(config, &order)?;
    let (scanner, config) = (scanner.clone(), config.clone());
    let done = orders.carry_out(clock, async move { act(&scanner, &config, order.action, filter).await });
    Ok(done.await?.unwrap_or_else(|| Trash { waits: true, ..Trash::default() }))
}

/// Does what an order says with the files that are meant.
pub(crate) async fn act(
    scanner: &Scanner,
    config: &Config,
    action: TrashAction,
    filter: TrashFilter,
) -> Result<Trash, Refusal> {
    let failed = |error| Refusal::failed(&error);
    let (mut meant, mut nowhere) = (0, false);
    let files = match action {
        TrashAction::List => {
            let files = scanner.trash(filter.clone()).await;
            if let (Some(path), true) = (filter.under, files.as_ref().is_ok_and(Vec::is_empty)) {
                let all = || config.origins.iter().map(|origin| origin.id().clone()).collect();
                let origins = filter.origin.map_or_else(all, |origin| vec![origin]);
                nowhere = !scanner.knows(origins, path).await.map_err(failed)?;
            }
            files
        }
        TrashAction::Restore => {
            meant = scanner.trash(filter.clone()).await.map_err(failed)?.len();
            scanner.restore_trash(filter).await
        }
        TrashAction::Purge => scanner.purge_trash(filter).await,
    };
    let files = in_words(&files.map_err(failed)?);
    Ok(Trash { not_cached: meant.saturating_sub(files.len()), nowhere, files, waits: false })
}

/// Returns files as they go over the socket.
fn in_words(files: &[Trashed]) -> Vec<TrashFile> {
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
    files
}
