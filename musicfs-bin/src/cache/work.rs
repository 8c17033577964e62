//! The work on the cache that can be ordered.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt;
use musicfs_core::{ChunkHash, Clock, FileMeta, MetaDb};
use musicfs_sync::Library;

use super::Cache;
use super::targets::Target;
use crate::control::api::cache::{CacheAction, CacheJob, FailedFile};
use crate::daemon::chain;

/// Files that are fetched at once by order.
const FILES_AT_ONCE: usize = 2;
/// Failures that are told one by one.
const FAILURES_TOLD: usize = 20;
/// Manifests that are read at a time.
const PAGE: usize = 256;

/// Takes what a job has come to.
pub(crate) type Told<'a> = &'a (dyn Fn(&mut dyn FnMut(&mut CacheJob)) + Sync);

/// What the work is done with.
#[derive(Clone)]
pub(crate) struct Worker {
    /// The cache.
    pub(crate) cache: Cache,
    /// The catalogue.
    pub(crate) db: Arc<dyn MetaDb>,
    /// What the user said.
    pub(crate) library: Arc<Library>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Worker {
    /// Carries out an order. Cancel safe: what is done is done.
    pub(crate) async fn carry_out(
        &self,
        action: CacheAction,
        targets: Vec<Target>,
        bytes: Option<u64>,
        told: Told<'_>,
    ) -> anyhow::Result<()> {
        match action {
            CacheAction::Warm => self.warm(targets, told).await,
            CacheAction::Pin => self.pin(targets, told).await,
            CacheAction::Unpin => self.unpin(targets, told).await,
            CacheAction::Evict => self.evict(targets, bytes, told).await,
            CacheAction::Verify => self.verify(told).await,
            CacheAction::Clear => {
                let done = self.cache.keeper.clear().await;
                self.cache.reader.forget();
                told(&mut |job| {
                    job.bytes_freed = done.bytes;
                    job.undeletable = done.undeletable;
                });
                Ok(())
            }
        }
    }

    async fn warm(&self, targets: Vec<Target>, told: Told<'_>) -> anyhow::Result<()> {
        let files = self.files(targets).await?;
        let bytes = files.iter().map(|file| file.version.size).sum();
        told(&mut |job| (job.files, job.bytes) = (files.len() as u64, bytes));
        self.fetch(files, told).await;
        Ok(())
    }

    async fn pin(&self, targets: Vec<Target>, told: Told<'_>) -> anyhow::Result<()> {
        let pins: Vec<_> =
            targets.iter().map(|target| target.pin().context(ROOT)).collect::<Result<_, _>>()?;
        let at = self.clock.unix();
        let added = self.on_library(move |library| {
            let mut added = 0;
            for pin in &pins {
                added += u64::from(library.pin(pin, at)?);
            }
            Ok(added)
        });
        let added = added.await?;
        told(&mut |job| job.pins = added);
        self.warm(targets, told).await
    }

    async fn unpin(&self, targets: Vec<Target>, told: Told<'_>) -> anyhow::Result<()> {
        let pins: Vec<_> =
            targets.iter().map(|target| target.pin().context(ROOT)).collect::<Result<_, _>>()?;
        let removed = self.on_library(move |library| {
            let mut removed = 0;
            for pin in &pins {
                removed += u64::from(library.unpin(pin)?);
            }
            Ok(removed)
        });
        let removed = removed.await?;
        told(&mut |job| job.pins = removed);
        Ok(())
    }

    /// Changes the pins, and has the chunks that they mean marked.
    async fn on_library(
        &self,
        change: impl FnOnce(&Library) -> anyhow::Result<u64> + Send + 'static,
    ) -> anyhow::Result<u64> {
        let worker = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let changed = change(&worker.library)?;
            worker.cache.load_pins(&worker.library)?;
            worker.cache.mark(&*worker.db)?;
            anyhow::Ok(changed)
        });
        changed.await?
    }

    async fn evict(&self, targets: Vec<Target>, bytes: Option<u64>, told: Told<'_>) -> anyhow::Result<()> {
        let keeper = &self.cache.keeper;
        let done = match bytes {
            Some(bytes) => keeper.evict(bytes).await,
            None => {
                let files = self.files(targets).await?;
                told(&mut |job| job.files = files.len() as u64);
                let chunks = self.chunks_of(files).await?;
                keeper.evict_chunks(chunks).await
            }
        };
        told(&mut |job| {
            job.files_done = job.files;
            job.bytes_freed = done.bytes;
            job.undeletable = done.undeletable;
        });
        Ok(())
    }

    async fn verify(&self, told: Told<'_>) -> anyhow::Result<()> {
        let stats = self.cache.keeper.stats();
        told(&mut |job| (job.chunks, job.bytes) = (stats.chunks, stats.bytes));
        let progress = |now: &musicfs_cas::Verified| {
            told(&mut |job| {
                job.chunks_done = now.chunks;
                job.bytes_done = now.bytes;
                job.damaged = now.damaged;
                job.missing = now.missing;
                job.unreadable = now.unreadable;
            });
        };
        let found = self.cache.keeper.verify(&progress).await;
        let lost: HashSet<ChunkHash> = found.lost.into_iter().collect();
        if lost.is_empty() {
            return Ok(());
        }
        // What is in a file is fetched again at once; what cannot be is when it is read.
        let files = self.files_with(lost).await?;
        told(&mut |job| job.files = files.len() as u64);
        self.fetch(files, told).await;
        told(&mut |job| job.repaired = job.files_done - job.files_failed);
        Ok(())
    }

    /// Fetches what is missing of files, and tells how far it is.
    async fn fetch(&self, files: Vec<FileMeta>, told: Told<'_>) {
        let fetched = futures::stream::iter(files).map(|file| async move {
            let progress = |bytes: u64| told(&mut |job| job.bytes_fetched += bytes);
            let done = self.cache.reader.warm(&file, &progress).await;
            told(&mut |job| {
                job.files_done += 1;
                let reason = match &done {
                    Ok(warmed) if warmed.complete => None,
                    Ok(_) => Some(NO_ROOM.to_owned()),
                    Err(error) => Some(chain(error)),
                };
                let Some(reason) = reason else {
                    job.bytes_done += file.version.size;
                    return;
                };
                job.files_failed += 1;
                if job.failures.len() < FAILURES_TOLD {
                    job.failures.push(FailedFile { path: place(&file), reason });
                }
            });
        });
        fetched.buffer_unordered(FILES_AT_ONCE).for_each(|()| std::future::ready(())).await;
    }

    async fn files(&self, targets: Vec<Target>) -> anyhow::Result<Vec<FileMeta>> {
        let db = self.db.clone();
        let found = tokio::task::spawn_blocking(move || {
            let (mut files, mut seen) = (Vec::new(), HashSet::new());
            for target in targets {
                target.for_each(&*db, &mut |file| {
                    if seen.insert(file.id) {
                        files.push(file);
                    }
                })?;
            }
            anyhow::Ok(files)
        });
        found.await?
    }

    async fn chunks_of(&self, files: Vec<FileMeta>) -> anyhow::Result<Vec<ChunkHash>> {
        let db = self.db.clone();
        let found = tokio::task::spawn_blocking(move || {
            let mut chunks = HashSet::new();
            for file in files {
                let saved = db.manifest(file.id)?;
                let extents = saved.iter().flat_map(|(_, manifest)| manifest.all());
                chunks.extend(extents.map(|extent| extent.hash));
            }
            anyhow::Ok(chunks.into_iter().collect())
        });
        found.await?
    }

    async fn files_with(&self, chunks: HashSet<ChunkHash>) -> anyhow::Result<Vec<FileMeta>> {
        let db = self.db.clone();
        let found = tokio::task::spawn_blocking(move || {
            let (mut files, mut after) = (Vec::new(), None);
            loop {
                let page = db.manifests(after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                for saved in page {
                    let mut extents = saved.manifest.all();
                    if extents.any(|extent| chunks.contains(&extent.hash)) {
                        files.extend(db.file(saved.id)?);
                    }
                }
            }
            anyhow::Ok(files)
        });
        found.await?
    }
}

/// Why a file that can be had is not in the cache.
const NO_ROOM: &str = "the cache has no room for it, or fails; `musicfs cache stats` tells which";
/// Why a target has no pin.
const ROOT: &str = "the whole tree cannot be pinned or unpinned; name its origins with --origin";

fn place(file: &FileMeta) -> String {
    match &file.shown_at {
        Some(path) => path.to_string(),
        None => format!("{}:{}", file.origin, file.path),
    }
}
