//! Reading straight from origins, without a cache.
//!
//! # Invariants
//! * Every call ends by its deadline, taken when it begins: [`ReadLimits::local`] or [`ReadLimits::remote`] by
//!   what the origin says of itself. A timeout is logged once a minute for each file.
//! * At most [`CALLS_PER_FILE`](guard::CALLS_PER_FILE) calls are under way for one file. For origins on files of
//!   this machine a call counts until its system call has really come back, even when nobody waits for it any
//!   more; when all of them passed their deadline that way, further calls fail at once, until one comes back. So
//!   one file that hangs takes neither its origin's permits nor the threads of the blocking pool.
//! * A read costs one hand-off to the blocking pool at the most.
//! * An answer that is not exactly as long as asked for is refused, whatever the origin promises.
//!
//! Nothing is retried here, and nothing is kept but hashes.

mod guard;
mod hashes;
mod warned;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use musicfs_core::{
    ByteRange, ChunkHash, Clock, ContentReader, FileMeta, FileVersion, FsBacking, LocalAccess, MonoTime,
    Origin, OriginError, OriginErrorKind, OriginId, OriginPath, PartSink, ReadError, ReadPlan, ReadSource,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::OriginRegistry;
use crate::local::backing_of_file;
use guard::{Guards, Leftover, Running};
use hashes::Hashes;
use warned::Warned;

/// Bytes that a hash reads at once: enough to keep a disk busy, little to hold.
const HASH_STEP: usize = 1024 * 1024;

/// Bytes per second that must come of a long range: below, its deadline is not put off.
const STALL_RATE: u64 = 1000;

/// How long a call may take, by where the origin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// For origins of this machine.
    pub local: Duration,
    /// For origins behind a network.
    pub remote: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { local: Duration::from_secs(5), remote: Duration::from_secs(30) }
    }
}

/// Reads files straight from the origins of a registry.
pub struct OriginReader {
    registry: Arc<OriginRegistry>,
    clock: Arc<dyn Clock>,
    limits: RwLock<ReadLimits>,
    guards: Arc<Guards>,
    /// For each origin, permits for work in the blocking pool that does not go through the origin itself.
    permits: Mutex<HashMap<OriginId, Arc<Semaphore>>>,
    warned: Warned,
    hashes: Arc<Hashes>,
}

impl std::fmt::Debug for OriginReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OriginReader")
            .field("registry", &self.registry)
            .field("limits", &*self.limits.read())
            .finish_non_exhaustive()
    }
}

/// One file on one origin, and until when it must have answered.
struct Call<'a> {
    origin: &'a Arc<dyn Origin>,
    path: &'a OriginPath,
    deadline: MonoTime,
    limit: Duration,
}

impl OriginReader {
    /// Makes a reader of the origins in `registry`, those that are added later included.
    pub fn new(registry: Arc<OriginRegistry>, clock: Arc<dyn Clock>, limits: ReadLimits) -> Self {
        Self {
            registry,
            clock,
            limits: RwLock::new(limits),
            guards: Arc::default(),
            permits: Mutex::default(),
            warned: Warned::default(),
            hashes: Arc::default(),
        }
    }

    /// Changes the deadlines of calls that begin from now on.
    pub fn set_limits(&self, limits: ReadLimits) {
        *self.limits.write() = limits;
    }

    fn origin(&self, id: &OriginId) -> Result<Arc<dyn Origin>, ReadError> {
        self.registry.get(id).ok_or_else(|| ReadError::UnknownOrigin(id.clone()))
    }

    fn call<'a>(&self, origin: &'a Arc<dyn Origin>, path: &'a OriginPath, begun: MonoTime) -> Call<'a> {
        let limits = *self.limits.read();
        let limit = if origin.caps().remote { limits.remote } else { limits.local };
        Call { origin, path, deadline: begun.plus(limit), limit }
    }

    /// Waits for `work` until the deadline, in the file's turn.
    async fn within<T: Send + 'static>(
        &self,
        call: &Call<'_>,
        work: BoxFuture<'static, Result<T, OriginError>>,
    ) -> Result<T, ReadError> {
        self.within_of(call, work, &Came::default()).await
    }

    /// As [`within`](Self::within); what came meanwhile puts the deadline off.
    async fn within_of<T: Send + 'static>(
        &self,
        call: &Call<'_>,
        work: BoxFuture<'static, Result<T, OriginError>>,
        came: &Came,
    ) -> Result<T, ReadError> {
        let Some(presence) = self.guards.enter(call.origin.id(), call.path) else {
            return Err(self.timed_out(call, "its earlier reads are still stuck"));
        };
        let mut late = self.clock.sleep_until(call.deadline);
        let turn = tokio::select! {
            biased;
            turn = presence.turn() => turn,
            () = &mut late => return Err(self.timed_out(call, "others wait for it as well")),
        };
        // What runs in the blocking pool cannot be stopped; what waits for a network is, by dropping it.
        let leftover = if call.origin.local().is_some() { Leftover::Finish } else { Leftover::Drop };
        let mut running = Running::new(work, turn, leftover);
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                done = running.done() => return Ok(done?),
                () = &mut late => {}
            }
            let bytes = came.0.load(Ordering::Relaxed);
            if bytes - seen < STALL_RATE * call.limit.as_secs() || bytes == seen {
                running.abandon();
                return Err(self.timed_out(call, "it does not answer"));
            }
            seen = bytes;
            late = self.clock.sleep_until(self.clock.now().plus(call.limit));
        }
    }

    /// Runs `work` on the files of this machine in the blocking pool, until the deadline.
    async fn blocking<T: Send + 'static>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&dyn LocalAccess) -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let id = call.origin.id();
        let permits = {
            let mut all = self.permits.lock();
            let fresh = || Arc::new(Semaphore::new(call.origin.caps().concurrency));
            Arc::clone(all.entry(id.clone()).or_insert_with(fresh))
        };
        let (origin, path) = (Arc::clone(call.origin), call.path.clone());
        let lost = {
            let (id, path) = (id.clone(), path.clone());
            move |error: Box<dyn std::error::Error + Send + Sync>| {
                OriginError::new(&id, &path, OriginErrorKind::Unavailable).with_source(error)
            }
        };
        let work = async move {
            let permit = permits.acquire_owned().await.map_err(|e| lost(e.into()))?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                match origin.local() {
                    Some(local) => work(local),
                    None => Err(OriginError::new(origin.id(), &path, OriginErrorKind::Unsupported)),
                }
            });
            task.await.unwrap_or_else(|e| Err(lost(e.into())))
        };
        self.within(call, Box::pin(work)).await
    }

    fn timed_out(&self, call: &Call<'_>, why: &str) -> ReadError {
        let id = call.origin.id();
        if self.warned.is_due(id, call.path, self.clock.now()) {
            let seconds = call.limit.as_secs_f32();
            tracing::warn!(origin = %id, path = %call.path, seconds, "no answer in time: {why}");
        }
        ReadError::TimedOut { origin: id.clone(), after: call.limit }
    }

    /// Reads a range of one file, in as many calls as the origin wants.
    async fn fetch(
        &self,
        call: &Call<'_>,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), ReadError> {
        for part in calls(call, range) {
            let (origin, path, version) = (Arc::clone(call.origin), call.path.clone(), version.clone());
            let work = async move { origin.read(&path, &version, part).await };
            let bytes = self.within(call, Box::pin(work)).await?;
            must_be_whole(call, part, bytes.len() as u64)?;
            parts.push(bytes);
        }
        Ok(())
    }

    /// As [`fetch`](Self::fetch), handing on what comes. Each part puts the deadline off.
    async fn fetch_parts(
        &self,
        call: &Call<'_>,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), ReadError> {
        for part in calls(call, range) {
            let came = Came::default();
            let (origin, path, version) = (Arc::clone(call.origin), call.path.clone(), version.clone());
            let counted = came.clone();
            let parts = parts.inspect(move |bytes| {
                counted.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            });
            let work = async move { origin.read_parts(&path, &version, part, &parts).await };
            self.within_of(call, Box::pin(work), &came).await?;
            must_be_whole(call, part, came.0.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

/// Bytes that came for a call that is under way.
#[derive(Clone, Default)]
struct Came(Arc<AtomicU64>);

/// Divides a range into as many calls as the origin wants.
fn calls(call: &Call<'_>, range: ByteRange) -> impl Iterator<Item = ByteRange> + use<> {
    let longest = call.origin.caps().max_range.max(1);
    let starts = (0..range.len().div_ceil(longest)).map(move |n| range.start() + n * longest);
    starts.map(move |at| ByteRange::new(at, at.saturating_add(longest).min(range.end())))
}

fn must_be_whole(call: &Call<'_>, part: ByteRange, came: u64) -> Result<(), ReadError> {
    if came == part.len() {
        return Ok(());
    }
    let error = OriginError::new(call.origin.id(), call.path, OriginErrorKind::Corrupt);
    Err(error.with_source(format!("asked for {} bytes, got {came}", part.len())).into())
}

/// Returns the part of a plan's own bytes. One that promises more than it holds is a mistake of its maker; nothing is
/// read past it.
fn inline(bytes: &Bytes, range: ByteRange) -> Bytes {
    let within = range.clamp_to(bytes.len() as u64);
    bytes.slice(within.start() as usize..within.end() as usize)
}

/// Opens a file of this machine, which must be of `version`.
fn open_version(
    local: &dyn LocalAccess,
    origin: &OriginId,
    path: &OriginPath,
    version: &FileVersion,
) -> Result<File, OriginError> {
    let file = local.open(path)?;
    if local.version(&file)?.is_same(version) {
        Ok(file)
    } else {
        Err(OriginError::new(origin, path, OriginErrorKind::Changed))
    }
}

/// Hashes an open file, step by step. Stepwise reads of a file of this machine need no more than this thread.
fn hash_file(file: &File, size: u64) -> std::io::Result<ChunkHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_STEP.min(usize::try_from(size).unwrap_or(HASH_STEP))];
    let mut at = 0;
    while at < size {
        let step = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..step], at)?;
        hasher.update(&buffer[..step]);
        at += step as u64;
    }
    Ok(ChunkHash::from_bytes(*hasher.finalize().as_bytes()))
}

#[async_trait]
impl ContentReader for OriginReader {
    /// Looks at the file when its origin is on this machine; behind a network the catalogue is trusted, and the
    /// first read tells.
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        let begun = self.clock.now();
        let origin = self.origin(&file.origin)?;
        if !origin.caps().remote {
            let call = self.call(&origin, &file.path, begun);
            let (path, version) = (file.path.clone(), file.version.clone());
            if origin.local().is_some() {
                let id = file.origin.clone();
                self.blocking(&call, move |local| open_version(local, &id, &path, &version).map(drop))
                    .await?;
            } else {
                let asked = Arc::clone(&origin);
                let found = self.within(&call, Box::pin(async move { asked.stat(&path).await })).await?;
                if !found.version.is_same(&version) {
                    let changed = OriginError::new(&file.origin, &file.path, OriginErrorKind::Changed);
                    return Err(changed.into());
                }
            }
        }
        Ok(ReadPlan::verbatim(file))
    }

    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        let begun = self.clock.now();
        let (parts, gathered) = PartSink::gathering();
        for slice in plan.slices(range) {
            match slice.source {
                ReadSource::Inline(bytes) => parts.push(inline(bytes, slice.range)),
                ReadSource::Origin { origin, path, version, start: _ } => {
                    let origin = self.origin(origin)?;
                    let call = self.call(&origin, path, begun);
                    self.fetch(&call, version, slice.range, &parts).await?;
                }
            }
        }
        Ok(gathered.finish())
    }

    async fn read_parts(&self, plan: &ReadPlan, range: ByteRange, parts: &PartSink) -> Result<(), ReadError> {
        for slice in plan.slices(range) {
            match slice.source {
                ReadSource::Inline(bytes) => parts.push(inline(bytes, slice.range)),
                ReadSource::Origin { origin, path, version, start: _ } => {
                    let origin = self.origin(origin)?;
                    let call = self.call(&origin, path, self.clock.now());
                    self.fetch_parts(&call, version, slice.range, parts).await?;
                }
            }
        }
        Ok(())
    }

    async fn backing(&self, plan: &ReadPlan) -> Option<File> {
        let begun = self.clock.now();
        let (id, path, version) = plan.as_verbatim()?;
        let origin = self.registry.get(id)?;
        if origin.caps().remote || origin.local().is_none() {
            return None;
        }
        let call = self.call(&origin, path, begun);
        let (id, path, version) = (id.clone(), path.clone(), version.clone());
        let opened = self.blocking(&call, move |local| {
            if local.backing() != FsBacking::Local {
                return Ok(None);
            }
            let file = open_version(local, &id, &path, &version)?;
            // Another filesystem may be mounted below the origin's root.
            Ok((backing_of_file(&file) == FsBacking::Local).then_some(file))
        });
        opened.await.ok().flatten()
    }

    /// Hashes files of this machine; a hash is remembered for as long as the version is the same. One that takes
    /// longer than the deadline goes on, so that asking again later finds it.
    async fn hash(&self, file: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        let begun = self.clock.now();
        let origin = self.origin(&file.origin)?;
        if origin.caps().remote || origin.local().is_none() {
            return Ok(None);
        }
        if let Some(hash) = self.hashes.get(file.id, &file.version) {
            return Ok(Some(hash));
        }
        let call = self.call(&origin, &file.path, begun);
        let (file, hashes) = (file.clone(), Arc::clone(&self.hashes));
        let hash = self.blocking(&call, move |local| {
            let changed = || OriginError::new(&file.origin, &file.path, OriginErrorKind::Changed);
            let opened = open_version(local, &file.origin, &file.path, &file.version)?;
            let hash = hash_file(&opened, file.version.size).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => changed(),
                _ => OriginError::from_io(&file.origin, &file.path, error),
            })?;
            if !local.version(&opened)?.is_same(&file.version) {
                return Err(changed());
            }
            hashes.put(file.id, file.version, hash);
            Ok(hash)
        });
        hash.await.map(Some)
    }

    fn cached(&self, file: &FileMeta) -> &'static str {
        match self.registry.get(&file.origin) {
            Some(origin) if !origin.caps().remote => "local",
            _ => "none",
        }
    }

    fn stand_in(&self, _: &FileMeta) -> Option<(OriginId, OriginPath)> {
        None
    }
}
