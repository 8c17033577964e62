//! Reads of a path that several origins hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use musicfs_core::{
    ByteRange, Clock, MonoTime, Origin, OriginError, OriginErrorKind, OriginId, OriginPath, ReadError,
    SystemClock,
};

use super::{PATIENCE, Router};
use crate::{HealthMonitor, Jitter, OriginRegistry, RetryPolicy};

/// When a read is tried again, and when it is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Pauses before the second, third, … round over all origins, each spread by chance.
    pub pauses: Vec<Duration>,
    /// Time from the beginning of a read after which it fails, whatever is still to be tried.
    pub deadline: Duration,
    /// How long one origin is waited for before the next is asked.
    pub patience: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let pauses = [100, 500, 2000].map(Duration::from_millis).to_vec();
        Self { pauses, deadline: Duration::from_secs(10), patience: PATIENCE }
    }
}

/// Reads paths that several origins hold, from whichever answers: the origins are mirrors of each other.
///
/// The bytes of one answer are those of one origin. An origin that says that there is no such file, or that it may
/// not be read, is not asked again for that read; one that fails is asked again after a pause; one that failed read
/// after read is asked last for a while.
///
/// ```
/// use std::sync::Arc;
///
/// use musicfs_core::OriginPath;
/// use musicfs_origins::{FailoverExecutor, LocalOrigin, OriginRegistry, RetryConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # std::fs::write(dir.path().join("a.flac"), b"music")?;
/// let registry = Arc::new(OriginRegistry::new());
/// registry.register(Arc::new(LocalOrigin::new("nas", "/not/mounted/now")), 1);
/// registry.register(Arc::new(LocalOrigin::new("backup", dir.path())), 2);
/// let executor = FailoverExecutor::new(registry, RetryConfig::default());
/// let path = OriginPath::new("a.flac")?;
/// assert_eq!(executor.read_with_failover(&path, 0, 3).await?, &b"mus"[..]);
/// # Ok(())
/// # }
/// ```
pub struct FailoverExecutor {
    registry: Arc<OriginRegistry>,
    router: Router,
    retry: RetryPolicy,
    config: RetryConfig,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
}

impl std::fmt::Debug for FailoverExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailoverExecutor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FailoverExecutor {
    /// Makes an executor over the origins in `registry`, those that are added later included, by the system's clock.
    pub fn new(registry: Arc<OriginRegistry>, config: RetryConfig) -> Self {
        Self::with_parts(registry, config, None, Arc::new(SystemClock::new()), Jitter::seeded(0))
    }

    /// Makes an executor that goes by what `monitor` knows, and by `clock`.
    pub fn with_parts(
        registry: Arc<OriginRegistry>,
        config: RetryConfig,
        monitor: Option<Arc<HealthMonitor>>,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
    ) -> Self {
        let router = Router::new(Arc::clone(&registry), monitor, Arc::clone(&clock));
        let retry = RetryPolicy { pauses: config.pauses.clone(), total: config.deadline };
        Self { registry, router, retry, config, clock, jitter }
    }

    /// Reads `len` bytes at `offset` of the file at `path`, fewer only where it ends. Dropping the future is safe.
    ///
    /// # Errors
    /// At the deadline, or once no origin is worth another try: what the most telling of them said. That the file is
    /// [gone](ReadError::Gone) only when all say so.
    pub async fn read_with_failover(
        &self,
        path: &OriginPath,
        offset: u64,
        len: u64,
    ) -> Result<Bytes, ReadError> {
        let begun = self.clock.now();
        let deadline = begun.plus(self.config.deadline);
        let mut settled: Vec<OriginId> = Vec::new();
        let mut worst: Option<OriginError> = None;
        for round in 1.. {
            let mut last = None;
            for id in self.router.order().into_iter().filter(|id| !settled.contains(id)).collect::<Vec<_>>() {
                let Some(origin) = self.registry.get(&id) else { continue };
                match self.try_one(&*origin, path, ByteRange::at(offset, len), deadline).await {
                    Ok(bytes) => {
                        self.router.succeeded(&id);
                        return Ok(bytes);
                    }
                    Err(error) => {
                        // A file that was replaced between the look and the read is there.
                        if error.kind.is_transient() || error.kind == OriginErrorKind::Changed {
                            if error.kind.is_transient() {
                                self.router.failed(&id);
                            }
                            last = Some(error.kind);
                        } else {
                            settled.push(id);
                        }
                        if worst.as_ref().is_none_or(|worst| tells(error.kind) >= tells(worst.kind)) {
                            worst = Some(error);
                        }
                    }
                }
            }
            let kind = match last {
                Some(OriginErrorKind::Changed) => OriginErrorKind::Unavailable,
                Some(kind) => kind,
                None => break,
            };
            let elapsed = self.clock.now().since(begun);
            let Some(pause) = self.retry.pause(kind, round, elapsed, self.jitter.next()) else { break };
            self.clock.sleep_until(self.clock.now().plus(pause)).await;
        }
        Err(worst.map_or_else(|| ReadError::UnknownOrigin(OriginId::from("any")), ReadError::from))
    }

    async fn try_one(
        &self,
        origin: &dyn Origin,
        path: &OriginPath,
        range: ByteRange,
        deadline: MonoTime,
    ) -> Result<Bytes, OriginError> {
        let until = self.clock.now().plus(self.config.patience).min(deadline);
        let work = async {
            let version = origin.stat(path).await?.version;
            let range = range.clamp_to(version.size);
            let step = origin.caps().max_range.max(1);
            let mut all = bytes::BytesMut::new();
            let mut at = range.start();
            while at < range.end() {
                let part = ByteRange::new(at, at.saturating_add(step).min(range.end()));
                all.extend_from_slice(&origin.read(path, &version, part).await?);
                at = part.end();
            }
            Ok(all.freeze())
        };
        tokio::select! {
            biased;
            done = work => done,
            () = self.clock.sleep_until(until) => {
                Err(OriginError::new(origin.id(), path, OriginErrorKind::TimedOut))
            }
        }
    }
}

/// How much an error says of whether the file can be had: one that may pass more than one that says no.
fn tells(kind: OriginErrorKind) -> u8 {
    match kind {
        OriginErrorKind::NotFound => 0,
        OriginErrorKind::Invalid | OriginErrorKind::Unsupported => 1,
        OriginErrorKind::Denied | OriginErrorKind::Corrupt => 2,
        OriginErrorKind::Changed
        | OriginErrorKind::Unavailable
        | OriginErrorKind::NoRoot
        | OriginErrorKind::Throttled { .. }
        | OriginErrorKind::TimedOut
        | OriginErrorKind::Dns => 3,
    }
}
