//! A few connections to one server.
//!
//! The first is dialled by the first call. When all are busy another is dialled in the background, up to a limit;
//! a dead one is forgotten. A call that found its connection lost before anything came is tried once more on a
//! new one, as a server may drop an idle connection at any time; that is not a retry of what failed at the server.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Failure;

/// Calls in flight on every connection from which on another one is dialled.
const BUSY: usize = 24;

/// A connection, as the pool sees it.
pub(crate) trait Link: Send + Sync + 'static {
    /// Tells whether it can be used no more.
    fn is_dead(&self) -> bool;
    /// Returns how many calls are in flight.
    fn load(&self) -> usize;
}

/// Makes connections.
pub(crate) trait Dial: Send + Sync + 'static {
    /// What is made.
    type Link: Link;
    /// Connects and logs in.
    fn dial(&self) -> BoxFuture<'_, Result<Self::Link, Failure>>;
}

struct Slots<L> {
    links: Vec<Arc<L>>,
    /// How many attempts have failed, and how the last one did.
    failed: (u64, Option<Failure>),
}

/// The connections to one server.
pub(crate) struct Pool<D: Dial> {
    dial: D,
    limit: usize,
    slots: Mutex<Slots<D::Link>>,
    /// Held while connecting, so that many calls wait for one connection.
    connecting: Semaphore,
}

impl<D: Dial> Pool<D> {
    pub(crate) fn new(dial: D, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            dial,
            limit: limit.max(1),
            slots: Mutex::new(Slots { links: Vec::new(), failed: (0, None) }),
            connecting: Semaphore::new(1),
        })
    }

    pub(crate) fn dialler(&self) -> &D {
        &self.dial
    }

    /// Runs `call` on a connection; once more on another when that was lost and `call` says nothing came of it.
    ///
    /// Cancel safe where `call` is.
    pub(crate) async fn run<T, F>(self: &Arc<Self>, call: impl Fn(Arc<D::Link>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (link, fresh) = self.link().await?;
        match call(link).await {
            Err(failure) if failure.is_lost() && !fresh => {
                tracing::debug!(%failure, "connection lost; connecting anew");
                let (link, _) = self.link().await?;
                call(link).await
            }
            done => done,
        }
    }

    /// Returns a connection, and whether it was made for this call.
    pub(crate) async fn link(self: &Arc<Self>) -> Result<(Arc<D::Link>, bool), Failure> {
        if let Some(link) = self.best() {
            return Ok((link, false));
        }
        let before = self.slots.lock().failed.0;
        let Ok(_connecting) = self.connecting.acquire().await else {
            return Err(Failure::new(musicfs_core::OriginErrorKind::Unavailable, "the pool is closed"));
        };
        // While this call waited, another one may have connected, or failed for both.
        if let Some(link) = self.best() {
            return Ok((link, true));
        }
        if let (count, Some(failure)) = &self.slots.lock().failed
            && *count > before
        {
            return Err(failure.clone());
        }
        self.connect().await.map(|link| (link, true))
    }

    async fn connect(&self) -> Result<Arc<D::Link>, Failure> {
        match self.dial.dial().await {
            Ok(link) => {
                let link = Arc::new(link);
                self.slots.lock().links.push(Arc::clone(&link));
                Ok(link)
            }
            Err(failure) => {
                let mut slots = self.slots.lock();
                slots.failed = (slots.failed.0 + 1, Some(failure.clone()));
                Err(failure)
            }
        }
    }

    /// Returns the connection with the least to do; has another one made when even that is busy.
    fn best(self: &Arc<Self>) -> Option<Arc<D::Link>> {
        let (best, count) = {
            let mut slots = self.slots.lock();
            slots.links.retain(|link| !link.is_dead());
            (slots.links.iter().min_by_key(|link| link.load()).cloned(), slots.links.len())
        };
        if best.as_ref().is_some_and(|link| link.load() >= BUSY) && count < self.limit {
            let pool = Arc::downgrade(self);
            tokio::spawn(async move {
                let Some(pool) = pool.upgrade() else { return };
                let Ok(_connecting) = pool.connecting.try_acquire() else { return };
                if pool.slots.lock().links.len() < pool.limit
                    && let Err(failure) = pool.connect().await
                {
                    tracing::debug!(%failure, "no further connection");
                }
            });
        }
        best
    }
}
