//! A first look at origins that were never seen, so that a misspelt address or an unknown host key is an error and not
//! an empty tree.
//!
//! Folders of this machine are looked at before anything is mounted. Servers are looked at while the mount goes up,
//! which waits for none of them: what is known already can be read meanwhile. Only the announcement that it is
//! mounted waits for their answers, and not for long: who has not answered by then is an origin that is away.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use musicfs_core::{Clock, FileQuery, MetaDb, MonoTime, OriginId, SystemClock};
use musicfs_origins::BuiltOrigin;
use musicfs_sync::Library;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::config::{Config, NamedOrigin};
use crate::look::{self, Look};

/// How long the announcement waits. A server on another continent has shown its key and judged a password by then.
const WAIT: Duration = Duration::from_secs(1);

struct Looking {
    origin: OriginId,
    look: JoinHandle<Look>,
}

/// Looks that are under way.
pub(super) struct FirstLooks {
    folders: Vec<Looking>,
    servers: Vec<Looking>,
    until: MonoTime,
    clock: SystemClock,
}

impl FirstLooks {
    /// Begins to look at the origins that the library does not know.
    pub(super) fn begin(
        config: &Config,
        built: &[BuiltOrigin],
        library: &Library,
        clock: &SystemClock,
    ) -> anyhow::Result<Self> {
        let known = library.origins().context("cannot read the library")?;
        let (mut folders, mut servers) = (Vec::new(), Vec::new());
        for (named, built) in config.origins.iter().zip(built) {
            if known.iter().any(|(id, _)| id == named.id()) {
                continue;
            }
            let kind = if named.path().is_some() { &mut folders } else { &mut servers };
            kind.push(Looking { origin: named.id().clone(), look: spawn(named.clone(), built.clone()) });
        }
        Ok(Self { folders, servers, until: clock.now().plus(WAIT), clock: *clock })
    }

    /// Waits for what was seen of folders.
    ///
    /// # Errors
    /// When one of them will not be better later.
    pub(super) async fn folders(&mut self, db: &impl MetaDb) -> anyhow::Result<()> {
        let folders = std::mem::take(&mut self.folders);
        self.conclude(folders, db).await
    }

    /// Waits for what was seen of servers.
    ///
    /// # Errors
    /// When one of them will not be better later.
    pub(super) async fn servers(mut self, db: &impl MetaDb) -> anyhow::Result<()> {
        let servers = std::mem::take(&mut self.servers);
        self.conclude(servers, db).await
    }

    async fn conclude(&self, looks: Vec<Looking>, db: &impl MetaDb) -> anyhow::Result<()> {
        for Looking { origin, look } in looks {
            let look = tokio::select! {
                biased;
                look = look => look.context("an origin could not be looked at")?,
                () = self.clock.sleep_until(self.until) => Look::Silent(format!("no answer within {WAIT:?}")),
            };
            match look {
                // It is recorded with the others, in the order in which they are preferred.
                Look::There => {}
                // The library may be younger than the catalogue.
                Look::Wrong(message) if !in_catalogue(db, &origin) => {
                    return Err(anyhow!("origin {origin}: {message}"));
                }
                Look::Wrong(reason) | Look::Silent(reason) => {
                    warn!(%origin, reason, "the origin does not answer; mounted without it");
                }
            }
        }
        Ok(())
    }
}

fn spawn(named: NamedOrigin, built: BuiltOrigin) -> JoinHandle<Look> {
    tokio::spawn(async move { look::at(&named, &built).await })
}

/// Tells whether the catalogue knows files of an origin.
fn in_catalogue(db: &dyn MetaDb, origin: &OriginId) -> bool {
    let known = db.files(&FileQuery::Origin(origin.clone()), None, 1);
    known.is_ok_and(|page| !page.files.is_empty())
}
