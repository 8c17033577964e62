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
                let failure = failure.unconnected();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use musicfs_core::OriginErrorKind;

    use super::*;

    #[derive(Default)]
    struct Wire {
        dead: AtomicBool,
        load: AtomicUsize,
    }

    impl Link for Wire {
        fn is_dead(&self) -> bool {
            self.dead.load(Ordering::SeqCst)
        }
        fn load(&self) -> usize {
            self.load.load(Ordering::SeqCst)
        }
    }

    /// Connects when let, and counts.
    struct Exchange {
        dialled: AtomicUsize,
        let_through: Semaphore,
        refuses: AtomicBool,
    }

    impl Dial for Exchange {
        type Link = Wire;

        fn dial(&self) -> BoxFuture<'_, Result<Wire, Failure>> {
            Box::pin(async {
                self.dialled.fetch_add(1, Ordering::SeqCst);
                self.let_through.acquire().await.unwrap().forget();
                if self.refuses.load(Ordering::SeqCst) {
                    return Err(Failure::new(OriginErrorKind::Denied, "no"));
                }
                Ok(Wire::default())
            })
        }
    }

    fn pool(let_through: usize) -> Arc<Pool<Exchange>> {
        let let_through = Semaphore::new(let_through);
        Pool::new(Exchange { dialled: AtomicUsize::new(0), let_through, refuses: AtomicBool::new(false) }, 2)
    }

    fn dialled(pool: &Pool<Exchange>) -> usize {
        pool.dialler().dialled.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn many_calls_wait_for_one_connection() {
        let pool = pool(0);
        let mut calls =
            std::pin::pin!(futures::future::join_all((0..8).map(|_| pool.run(|_| async { Ok(()) }))));
        assert!(futures::poll!(&mut calls).is_pending());
        pool.dialler().let_through.add_permits(8);
        assert!(calls.await.iter().all(Result::is_ok));
        assert_eq!(dialled(&pool), 1);
    }

    #[tokio::test]
    async fn refusal_is_that_of_all_who_waited_and_not_of_the_next() {
        let pool = pool(0);
        pool.dialler().refuses.store(true, Ordering::SeqCst);
        let mut calls =
            std::pin::pin!(futures::future::join_all((0..8).map(|_| pool.run(|_| async { Ok(()) }))));
        assert!(futures::poll!(&mut calls).is_pending());
        pool.dialler().let_through.add_permits(8);
        for refused in calls.await {
            let failure = refused.unwrap_err();
            assert!(failure.kind() == OriginErrorKind::Denied && failure.is_lost());
        }
        assert_eq!(dialled(&pool), 1);
        pool.dialler().refuses.store(false, Ordering::SeqCst);
        assert!(pool.run(|_| async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn caller_that_gives_up_while_connecting_leaves_it_to_the_next() {
        let pool = pool(0);
        {
            let mut first = std::pin::pin!(pool.link());
            assert!(futures::poll!(&mut first).is_pending());
        }
        pool.dialler().let_through.add_permits(1);
        assert!(pool.link().await.is_ok());
    }

    #[tokio::test]
    async fn call_whose_connection_was_lost_is_run_once_more_on_another() {
        let pool = pool(9);
        let lose = |link: Arc<Wire>| async move {
            link.dead.store(true, Ordering::SeqCst);
            Err::<(), _>(Failure::lost(OriginErrorKind::Unavailable, "gone"))
        };
        // A connection made for the call is not doubted.
        assert!(pool.run(lose).await.is_err());
        assert_eq!(dialled(&pool), 1);
        pool.link().await.unwrap();
        assert!(pool.run(lose).await.is_err());
        assert_eq!(dialled(&pool), 3);
        // What came in part is not asked for again.
        pool.link().await.unwrap();
        let midway = |_| async { Err::<(), _>(Failure::lost(OriginErrorKind::Unavailable, "gone").midway()) };
        assert!(pool.run(midway).await.is_err());
        assert_eq!(dialled(&pool), 4);
    }

    #[tokio::test]
    async fn busy_connection_gets_another_beside_it_and_no_more_than_allowed() {
        let pool = pool(9);
        for _ in 0..20 {
            let (link, _) = pool.link().await.unwrap();
            link.load.store(BUSY, Ordering::SeqCst);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(dialled(&pool), 2);
    }
}
