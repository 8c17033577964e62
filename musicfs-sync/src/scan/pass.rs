//! One pass over one origin, or over a part of it.

mod apart;
mod begin;
mod carry;
mod conclude;
mod displaced;
mod listing;
mod nearby;
mod open;
mod seen;
mod settle;
mod sidecars;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use musicfs_core::{FileId, FileKind, FileMeta, MonoTime, Origin, OriginPath, ScanCursor};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::delta::{DeltaDetector, Listed};
use super::parse::{self, Done, Item};
use super::record::{Carried, Record, Unfinished};
use super::writer::{BATCH, Writer};
use super::{Began, PassOptions, PassProgress, ScanError, ScanPhase, ScanReport, Scanner, blocking};
use crate::arrange::FolderTrack;
use crate::library::Identity;
use apart::Apart;
use begin::{Begun, begin};
use listing::Listing;
pub(super) use listing::few_paths;
use open::OpenFolder;
use seen::Seen;
pub(super) use sidecars::Folders;

/// How long a parsed file may wait for its batch to fill: found files are to be seen within a second.
const MAX_WAIT: Duration = Duration::from_millis(300);
/// Files in one parsing job on this machine: enough to make its hand-off vanish beside the parsing.
const LOCAL_CHUNK: usize = 64;
/// Parsing jobs under way per worker, so that none is idle while a batch is applied.
const JOBS_PER_WORKER: usize = 8;
/// Files of a query fetched at once.
const PAGE: usize = 2_000;

/// Runs a pass; the caller holds the origin's lock.
pub(super) async fn run(
    scanner: &Scanner,
    origin: Arc<dyn Origin>,
    options: &PassOptions,
    cancel: &CancellationToken,
) -> Result<ScanReport, ScanError> {
    let id = origin.id().clone();
    let started = scanner.clock.now();
    scanner.progress.send_modify(|p| {
        let loading = PassProgress { phase: ScanPhase::Loading, ..PassProgress::default() };
        p.passes.insert(id.clone(), loading);
    });
    let begin = begin(scanner, origin, options);
    let begun = tokio::select! {
        begun = begin => begun?,
        () = cancel.cancelled() => return Err(ScanError::Cancelled),
    };
    let mut report = match begun {
        Begun::Held(report) => report,
        Begun::Pass(mut pass) => {
            pass.show(|p| p.phase = ScanPhase::Scanning);
            pass.seen.end_with(cancel);
            let outcome = pass.go(cancel).await;
            // What was found is kept, however the pass ended.
            let flushed = pass.flush().await;
            pass.seen.kept().await;
            match outcome {
                Ok(()) => flushed.map(|()| pass.report)?,
                Err(error) => return Err(error),
            }
        }
    };
    report.elapsed_ms = u64::try_from(scanner.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
    info!(
        origin = %report.origin,
        listed = report.listed,
        added = report.added,
        changed = report.changed,
        moved = report.moved,
        missing = report.missing,
        problems = report.problems,
        ms = report.elapsed_ms,
        "scanned"
    );
    Ok(report)
}

struct Pass<'a> {
    scanner: &'a Scanner,
    origin: Arc<dyn Origin>,
    options: PassOptions,
    detector: DeltaDetector,
    /// Nothing was known when it began, so that nothing can have moved.
    knows_nothing: bool,
    /// When it began.
    began: Began,
    /// Files thought to be there when it began.
    expected: u64,
    /// Always there, except while it is at work on another thread.
    writer: Option<Writer>,
    waiting_since: Option<MonoTime>,
    /// There until it is begun.
    listing: Option<Listing>,
    /// Parts of the listing so far.
    parts: usize,
    /// Those that said they are complete.
    completed: usize,
    /// Up to where all that was listed went to the writer.
    cursor: Option<ScanCursor>,
    /// What identified the storage when the pass began.
    storage: Option<String>,
    record: Record,
    /// The catalogue has been told that a pass is under way, and how many files had arrived, or are not what they
    /// were.
    marked: Option<(usize, usize)>,
    unlisted: Vec<OriginPath>,
    open: OpenFolder,
    folders: Folders,
    /// Files that are new, and may be former ones.
    arrived: Vec<FileId>,
    /// Those of them that are not shown before that is known.
    held: Vec<FileId>,
    /// Those of them that came where all is excluded.
    kept_out: HashSet<FileId>,
    /// Those that wait for the next pass, as they may be excluded.
    unsure: HashSet<FileId>,
    /// New files at hand that are like known ones, be these in the part or not.
    alike: HashSet<FileId>,
    /// Files that are not what they were.
    apart: Apart,
    /// Exclusions that were taken elsewhere, by this pass or one that was killed.
    carried: Carried,
    /// Ids that do not follow from their paths, to be remembered.
    exceptions: Vec<Identity>,
    /// What was read of files, for who keeps it.
    seen: Seen,
    report: ScanReport,
}

type Job = BoxFuture<'static, Result<Vec<Done>, ScanError>>;

impl Pass<'_> {
    async fn go(&mut self, cancel: &CancellationToken) -> Result<(), ScanError> {
        let Some(listing) = self.listing.take() else { return Ok(()) };
        let nowhere = self.list(listing, cancel).await?;
        self.report.nowhere = self.unknown(nowhere).await?;
        self.look_below_exclusions(cancel).await?;
        fail::fail_point!("delta-sync-before-conclusion", |_| Err(ScanError::Cancelled));
        self.conclude(cancel).await
    }

    /// Records all that is listed; returns paths where nothing was.
    async fn list(
        &mut self,
        Listing { mut pages, parts, nowhere }: Listing,
        cancel: &CancellationToken,
    ) -> Result<Vec<OriginPath>, ScanError> {
        self.parts += parts;
        let mut jobs: FuturesOrdered<Job> = FuturesOrdered::new();
        let (chunk, width) = match self.origin.local() {
            Some(_) => (LOCAL_CHUNK, self.scanner.workers * JOBS_PER_WORKER),
            None => (self.origin.caps().concurrency.max(1), 2),
        };
        let mut queue: Vec<Item> = Vec::new();
        let mut listing = true;
        loop {
            while jobs.len() < width && !queue.is_empty() {
                let rest = queue.split_off(queue.len().min(chunk));
                let items = std::mem::replace(&mut queue, rest);
                jobs.push_back(parse::chunk(&self.origin, items, self.seen.head(&*self.origin)));
            }
            if !listing && jobs.is_empty() {
                break;
            }
            let due = self.waiting_since.map(|since| since.plus(MAX_WAIT));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(ScanError::Cancelled),
                () = self.scanner.clock.sleep_until(due.unwrap_or_default()), if due.is_some() => self.flush().await?,
                Some(done) = jobs.next(), if !jobs.is_empty() => self.take(done?).await?,
                page = pages.next(), if listing && queue.is_empty() => match page {
                    Some(page) => queue = self.page(page.map_err(ScanError::Origin)?),
                    None => listing = false,
                },
            }
        }
        self.report.complete = self.completed == self.parts && !self.report.goes_on;
        self.close_folder();
        self.flush().await?;
        Ok(std::mem::take(&mut *nowhere.lock()))
    }

    /// Shows how far it is.
    fn show(&self, change: impl FnMut(&mut PassProgress)) {
        self.scanner
            .progress
            .send_modify(|p| p.passes.get_mut(self.origin.id()).into_iter().for_each(change));
    }

    /// Takes what a parsing job made.
    async fn take(&mut self, done: Vec<Done>) -> Result<(), ScanError> {
        let mut parsed = 0;
        let mut returned = Vec::new();
        let (done, mut others) = self.set_apart(done).await?;
        self.alike = self.alike_anywhere(&done).await?;
        for done in done {
            match done {
                Done::Nothing => {}
                Done::UpTo(cursor) => self.cursor = Some(cursor),
                Done::KnownMusicIn(folder) => self.enter(folder).has_known_music = true,
                Done::KnownSidecar(id, path) => self.enter(path.parent()).sidecars.push((id, path)),
                Done::Returned(id, kind, path) => {
                    self.report.returned += 1;
                    returned.push((id, path.clone()));
                    let open = self.enter(path.parent());
                    open.changed = true;
                    match kind {
                        FileKind::Audio => open.has_known_music = true,
                        FileKind::Sidecar => open.sidecars.push((id, path)),
                        FileKind::Unparsed | FileKind::Other => {}
                    }
                }
                Done::File(file, listed, parts) => {
                    parsed += u64::from(file.kind != FileKind::Sidecar);
                    if let Some(other) = others.remove(&file.id) {
                        self.record_apart(other, *file, parts)?;
                        continue;
                    }
                    let cached = match listed {
                        Listed::Changed => self.scanner.still_cached(&*self.origin, &file).await?,
                        Listed::New => None,
                    };
                    self.seen.take(&file, parts);
                    self.take_file(file, listed)?;
                    if let Some(op) = cached {
                        self.writer()?.push(op);
                    }
                }
            }
        }
        if !returned.is_empty() {
            self.write(move |writer| {
                returned.into_iter().try_for_each(|(id, path)| writer.restore(id, path))
            })
            .await?;
        }
        if parsed > 0 {
            self.show(|p| p.parsed += parsed);
        }
        if self.writer()?.len() >= BATCH || self.seen.is_due() {
            return self.flush().await;
        }
        if self.waiting_since.is_none() && self.writer()?.len() > 0 {
            self.waiting_since = Some(self.scanner.clock.now());
        }
        Ok(())
    }

    fn take_file(&mut self, file: Box<FileMeta>, listed: Listed) -> Result<(), ScanError> {
        // What is not shown is no news.
        let kept_out = self.detector.is_excluded(&file.path);
        match listed {
            Listed::New => self.report.added += u64::from(!kept_out),
            Listed::Changed => {
                self.report.changed += u64::from(!kept_out);
                self.detector.is_left(&file.path);
            }
        }
        self.report.problems += u64::from(file.problem.is_some());
        let (id, kind, path) = (file.id, file.kind, file.path.clone());
        if self.detector.is_new_exception(id, &path) {
            self.exceptions.push(Identity { origin: self.origin.id().clone(), path: path.clone(), id });
        }
        let new = listed == Listed::New && !self.knows_nothing;
        if new {
            self.arrived.push(id);
        }
        if new && kept_out {
            self.kept_out.insert(id);
        }
        if new && (kept_out || self.may_be_known(&file)) {
            self.held.push(id);
            self.folders.resettle.insert(path.parent());
            self.writer()?.record(file);
            return Ok(());
        }
        let wanted = self.writer()?.put(file);
        let open = self.enter(path.parent());
        open.changed = true;
        match (kind, wanted) {
            (FileKind::Audio, Some(wanted)) => open.tracks.push(FolderTrack { path, wanted }),
            (FileKind::Sidecar, _) => open.sidecars.push((id, path)),
            _ => {}
        }
        Ok(())
    }

    /// Tells whether a new file may be a known one, so that it is not shown before that is settled.
    fn may_be_known(&self, file: &FileMeta) -> bool {
        let folder = file.path.parent();
        let alone = self.options.paths.as_ref().is_some_and(|paths| paths.contains(&file.path));
        let may_have_moved = self.detector.may_have_moved(&file.version) || self.alike.contains(&file.id);
        alone || may_have_moved || self.detector.is_restless(&folder)
    }

    fn writer(&mut self) -> Result<&mut Writer, ScanError> {
        // It is away only while a future of this pass waits for it, and was lost only if that future was dropped.
        self.writer.as_mut().ok_or(ScanError::Cancelled)
    }

    async fn flush(&mut self) -> Result<(), ScanError> {
        self.waiting_since = None;
        if self.writer.as_ref().is_none_or(|writer| writer.len() == 0) {
            return Ok(());
        }
        self.mark();
        let exceptions = std::mem::take(&mut self.exceptions);
        self.write(move |writer| {
            writer.flush()?;
            writer.add_identities(&exceptions)?;
            fail::fail_point!("delta-sync-after-batch", |_| Err(ScanError::Cancelled));
            Ok(())
        })
        .await?;
        self.seen.keep().await;
        Ok(())
    }

    /// Has the next batch say that this pass is under way, and how far it is.
    fn mark(&mut self) {
        let reached = (self.arrived.len(), self.apart.len());
        if self.marked == Some(reached) && !self.options.reread {
            return;
        }
        self.marked = Some(reached);
        let op = self.under_way().op(self.origin.id());
        if let Some(writer) = &mut self.writer {
            writer.push(op);
        }
    }

    /// Returns the record of a pass that is under way.
    fn under_way(&self) -> Record {
        // A pass that reads everything again goes on where it was; any other finds by itself what is left to do.
        let (reread, cursor) = (self.options.reread, self.cursor.as_ref());
        let unfinished = Unfinished::new(reread, cursor, &self.arrived, self.apart.recorded());
        Record { unfinished: Some(unfinished.with_carried(self.carried.clone())), ..self.record.clone() }
    }

    /// Lets the writer work where blocking is allowed.
    async fn write<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writer) -> Result<T, ScanError> + Send + 'static,
    ) -> Result<T, ScanError> {
        let mut writer = self.writer.take().ok_or(ScanError::Cancelled)?;
        let (writer, done) = blocking(move || {
            let done = work(&mut writer);
            (writer, done)
        })
        .await?;
        self.writer = Some(writer);
        done
    }
}
