//! One pass over one origin.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use musicfs_core::{FileId, FileKind, KnownFile, MonoTime, Op, Origin, OriginPath, ScanPage, ScanRequest};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::delta::{Delta, DeltaDetector, Listed};
use super::parse::{self, Done, Item};
use super::writer::{BATCH, Writer};
use super::{ScanError, ScanPhase, ScanReport, Scanner, blocking};
use crate::arrange::{self, FolderTrack, MusicFolders};

/// How long a parsed file may wait for its batch to fill: found files are to be seen within a second.
const MAX_WAIT: Duration = Duration::from_millis(300);
/// Files in one parsing job on this machine: enough to make its hand-off vanish beside the parsing.
const LOCAL_CHUNK: usize = 64;
/// Parsing jobs under way per worker, so that none is idle while a batch is applied.
const JOBS_PER_WORKER: usize = 8;
/// More changed folders than this are not compared one by one with those that might follow them.
const MANY_FOLDERS: usize = 1_000;

/// Runs a pass; the caller holds the scanner's pass lock.
pub(super) async fn run(
    scanner: &Scanner,
    origin: Arc<dyn Origin>,
    full: bool,
    cancel: &CancellationToken,
) -> Result<ScanReport, ScanError> {
    let id = origin.id().clone();
    let started = scanner.clock.now();
    scanner.progress.send_modify(|p| {
        (p.origin, p.phase, p.listed, p.parsed, p.to_parse) = (Some(id.clone()), ScanPhase::Loading, 0, 0, 0);
    });
    let (db, library, known_of) = (scanner.db.clone(), scanner.library.clone(), id.clone());
    let loading = blocking(move || {
        let ours = library.identities()?.into_iter().filter(|identity| identity.origin == known_of);
        let ours = ours.map(|identity| (identity.path, identity.id)).collect();
        let mut detector = DeltaDetector::new(known_of.clone(), ours, full);
        db.known(&known_of, &mut |file: KnownFile| detector.add_known(file))?;
        Ok::<_, ScanError>(detector)
    });
    let detector = tokio::select! {
        loaded = loading => loaded??,
        () = cancel.cancelled() => return Err(ScanError::Cancelled),
    };
    let writer = Writer::load_in_background(scanner).await?;
    scanner.progress.send_modify(|p| p.phase = ScanPhase::Scanning);
    let mut pass = Pass {
        scanner,
        origin,
        detector,
        writer: Some(writer),
        waiting_since: None,
        unlisted: Vec::new(),
        open: OpenFolder::default(),
        music: MusicFolders::default(),
        orphans: Vec::new(),
        mixed: Vec::new(),
        touched: HashSet::new(),
        report: ScanReport::new(id),
    };
    let outcome = pass.go(cancel).await;
    // What was found is kept, however the pass ended.
    let flushed = pass.flush().await;
    let mut report = match outcome {
        Ok(()) => flushed.map(|()| pass.report)?,
        Err(error) => return Err(error),
    };
    report.elapsed_ms = u64::try_from(scanner.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
    info!(
        origin = %report.origin,
        listed = report.listed,
        added = report.added,
        changed = report.changed,
        missing = report.missing,
        problems = report.problems,
        ms = report.elapsed_ms,
        "scanned"
    );
    Ok(report)
}

impl Writer {
    async fn load_in_background(scanner: &Scanner) -> Result<Self, ScanError> {
        // Loading is a handful of queries, but they block.
        let parts = scanner.parts();
        blocking(move || Self::load(parts)).await?
    }
}

/// The folder whose entries are arriving.
#[derive(Default)]
struct OpenFolder {
    path: Option<OriginPath>,
    tracks: Vec<FolderTrack>,
    sidecars: Vec<(FileId, OriginPath)>,
    has_known_music: bool,
    changed: bool,
}

struct Orphans {
    folder: OriginPath,
    sidecars: Vec<(FileId, OriginPath)>,
    changed: bool,
}

struct Pass<'a> {
    scanner: &'a Scanner,
    origin: Arc<dyn Origin>,
    detector: DeltaDetector,
    /// Always there, except while it is at work on another thread.
    writer: Option<Writer>,
    waiting_since: Option<MonoTime>,
    unlisted: Vec<OriginPath>,
    open: OpenFolder,
    music: MusicFolders,
    /// Folders with sidecars and without music.
    orphans: Vec<Orphans>,
    /// Folders in which some music is new and some was known: the catalogue must be asked about the whole.
    mixed: Vec<OriginPath>,
    /// Folders whose music may have moved in the tree.
    touched: HashSet<OriginPath>,
    report: ScanReport,
}

type Job = BoxFuture<'static, Result<Vec<Done>, ScanError>>;

impl Pass<'_> {
    async fn go(&mut self, cancel: &CancellationToken) -> Result<(), ScanError> {
        let mut pages = self.origin.scan(ScanRequest::all());
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
                jobs.push_back(parse::chunk(&self.origin, items));
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
        self.close_folder();
        self.flush().await?;
        self.conclude().await
    }

    /// Compares a page with what is known, and returns what is to be done.
    fn page(&mut self, page: ScanPage) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut to_parse = 0;
        for entry in page.entries {
            match self.detector.detect_changes(&entry) {
                Delta::Ignored => {}
                Delta::Unchanged(id, kind) => {
                    self.report.unchanged += 1;
                    match kind {
                        FileKind::Sidecar => items.push(Item::KnownSidecar(id, entry.path)),
                        FileKind::Audio => {
                            let folder = entry.path.parent();
                            if !matches!(items.last(), Some(Item::KnownMusicIn(last)) if *last == folder) {
                                items.push(Item::KnownMusicIn(folder));
                            }
                        }
                        FileKind::Unparsed | FileKind::Other => {}
                    }
                }
                Delta::Returned(id, kind) => items.push(Item::Returned(id, kind, entry.path)),
                Delta::Read(id, listed) => {
                    to_parse += 1;
                    items.push(Item::Read(id, listed, entry));
                }
                Delta::Sidecar(id, listed) => items.push(Item::Sidecar(id, listed, entry)),
            }
        }
        for unlisted in page.unlisted {
            warn!(
                error = &unlisted.error as &dyn std::error::Error,
                "folder could not be listed; kept as it was"
            );
            self.unlisted.push(unlisted.path);
        }
        self.report.complete |= page.complete;
        self.report.listed = self.detector.listed();
        self.scanner.progress.send_modify(|p| {
            p.listed = self.report.listed;
            p.to_parse += to_parse;
        });
        items
    }

    /// Takes what a parsing job made.
    async fn take(&mut self, done: Vec<Done>) -> Result<(), ScanError> {
        let mut parsed = 0;
        let mut returned = Vec::new();
        for done in done {
            match done {
                Done::Nothing => {}
                Done::KnownMusicIn(folder) => self.enter(folder).has_known_music = true,
                Done::KnownSidecar(id, path) => self.enter(path.parent()).sidecars.push((id, path)),
                Done::Returned(id, kind, path) => {
                    self.report.returned += 1;
                    returned.push(id);
                    let open = self.enter(path.parent());
                    open.changed = true;
                    match kind {
                        FileKind::Audio => open.has_known_music = true,
                        FileKind::Sidecar => open.sidecars.push((id, path)),
                        FileKind::Unparsed | FileKind::Other => {}
                    }
                }
                Done::File(file, listed) => {
                    match listed {
                        Listed::New => self.report.added += 1,
                        Listed::Changed => self.report.changed += 1,
                    }
                    parsed += u64::from(file.kind != FileKind::Sidecar);
                    self.report.problems += u64::from(file.problem.is_some());
                    let (id, kind, path) = (file.id, file.kind, file.path.clone());
                    let wanted = self.writer()?.put(file);
                    let open = self.enter(path.parent());
                    open.changed = true;
                    match (kind, wanted) {
                        (FileKind::Audio, Some(wanted)) => open.tracks.push(FolderTrack { path, wanted }),
                        (FileKind::Sidecar, _) => open.sidecars.push((id, path)),
                        _ => {}
                    }
                }
            }
        }
        if !returned.is_empty() {
            self.write(move |writer| returned.into_iter().try_for_each(|id| writer.restore(id))).await?;
        }
        if parsed > 0 {
            self.scanner.progress.send_modify(|p| p.parsed += parsed);
        }
        if self.writer()?.len() >= BATCH {
            return self.flush().await;
        }
        if self.waiting_since.is_none() && self.writer()?.len() > 0 {
            self.waiting_since = Some(self.scanner.clock.now());
        }
        Ok(())
    }

    /// Goes on to a folder; the one before is then known whole.
    fn enter(&mut self, folder: OriginPath) -> &mut OpenFolder {
        if self.open.path.as_ref() != Some(&folder) {
            self.close_folder();
            self.open.path = Some(folder);
        }
        &mut self.open
    }

    fn close_folder(&mut self) {
        let OpenFolder { path, tracks, sidecars, has_known_music, changed } = std::mem::take(&mut self.open);
        let Some(folder) = path else { return };
        if has_known_music {
            self.music.insert(folder.clone(), None);
            if changed {
                self.touched.insert(folder.clone());
                self.mixed.push(folder);
            }
        } else if let Some(home) = arrange::home_of(&tracks) {
            if let Some(writer) = &mut self.writer {
                for (id, path) in &sidecars {
                    if let Some(shown) = arrange::beside(&home, path, &tracks) {
                        writer.place(*id, shown);
                    }
                }
            }
            self.music.insert(folder.clone(), Some(home));
            self.touched.insert(folder);
        } else if !sidecars.is_empty() {
            self.orphans.push(Orphans { folder, sidecars, changed });
        }
    }

    /// With the whole listing known: places what depends on other folders, and concludes what is gone.
    async fn conclude(&mut self) -> Result<(), ScanError> {
        let gone = self.gone();
        let origin = self.origin.id().clone();
        let (orphans, mixed) = (std::mem::take(&mut self.orphans), std::mem::take(&mut self.mixed));
        let touched = std::mem::take(&mut self.touched);
        let mut music = std::mem::take(&mut self.music);
        let unlisted = std::mem::take(&mut self.unlisted);
        self.report.missing = self.write(move |writer| writer.lose(gone, &unlisted)).await?;
        let lost = self.report.missing > 0;
        self.write(move |writer| {
            for folder in mixed {
                let (tracks, sidecars) = writer.folder(&origin, &folder)?;
                let Some(home) = arrange::home_of(&tracks) else { continue };
                for (id, path) in sidecars {
                    if let Some(shown) = arrange::beside(&home, &path, &tracks) {
                        writer.place(id, shown);
                    }
                }
                music.insert(folder, Some(home));
            }
            let concerned = |orphans: &Orphans| {
                let related = |f: &OriginPath| f.is_within(&orphans.folder) || orphans.folder.is_within(f);
                orphans.changed || lost || touched.len() > MANY_FOLDERS || touched.iter().any(related)
            };
            for orphans in orphans.iter().filter(|orphans| concerned(orphans)) {
                for (id, path) in &orphans.sidecars {
                    let load = |folder: &OriginPath| -> Result<_, ScanError> {
                        Ok(arrange::home_of(&writer.folder(&origin, folder)?.0))
                    };
                    match music.place_orphan(path, load)? {
                        Some(shown) => writer.place(*id, shown),
                        None => writer.push(Op::Unplace(*id)),
                    }
                }
            }
            writer.flush()?;
            writer.forget_single_discs()?;
            if lost { writer.settle_names() } else { Ok(()) }
        })
        .await
    }

    /// Returns the files that are proven to be gone.
    fn gone(&mut self) -> Vec<FileId> {
        let unseen = self.detector.unseen();
        let why = if unseen.is_empty() {
            return unseen;
        } else if !self.report.complete {
            "the listing was cut short"
        } else if self.detector.listed() == 0 {
            "the listing came back empty"
        } else {
            return unseen;
        };
        let (origin, files) = (self.origin.id(), unseen.len());
        warn!(%origin, files, "files are not listed, but kept: {why}");
        self.report.held_back = Some(format!("{files} files are not listed, but kept: {why}"));
        Vec::new()
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
        self.write(Writer::flush).await
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
