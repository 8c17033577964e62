//! The parsing stage of a pass: from a listed file to what is recorded of it.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use musicfs_core::{
    FileId, FileKind, FileMeta, FileState, FileVersion, LocalAccess, Origin, OriginEntry, OriginError,
    OriginErrorKind, OriginPath, ScanCursor,
};

use tracing::warn;

use super::delta::Listed;
use super::{ScanError, blocking};
use crate::tags::{self, ParseFailure, ParsedAudio, Parts};

/// Something that a pass has to do, in listing order.
#[derive(Debug)]
pub(super) enum Item {
    /// Read and record.
    Read(FileId, Listed, OriginEntry),
    /// Record without reading.
    Sidecar(FileId, Listed, OriginEntry),
    /// It was read by a pass that came to no end.
    WasRead(Box<FileMeta>, Listed),
    /// A sidecar that is recorded already, but may have to move with its tracks.
    KnownSidecar(FileId, OriginPath),
    /// A folder holds music that is recorded already.
    KnownMusicIn(OriginPath),
    /// Recorded already, but to be shown again.
    Returned(FileId, FileKind, OriginPath),
    /// All that was listed up to here has gone by.
    UpTo(ScanCursor),
}

/// An item after reading.
#[derive(Debug)]
pub(super) enum Done {
    /// To be recorded, and what was read of it.
    File(Box<FileMeta>, Listed, Parts),
    /// Gone between listing and reading, or known and not readable this time: what is known of it stays.
    Nothing,
    /// See [`Item::KnownSidecar`].
    KnownSidecar(FileId, OriginPath),
    /// See [`Item::KnownMusicIn`].
    KnownMusicIn(OriginPath),
    /// See [`Item::Returned`].
    Returned(FileId, FileKind, OriginPath),
    /// See [`Item::UpTo`].
    UpTo(ScanCursor),
}

/// Reads the items of a chunk, keeping their order. On files of this machine the chunk is one blocking job, which
/// starts at once; else the reads of the chunk run side by side while the future is polled, and what is read comes back
/// with the files, at least `head` bytes of the beginnings of new ones, unless it is `None`.
pub(super) fn chunk(
    origin: &Arc<dyn Origin>,
    items: Vec<Item>,
    head: Option<u64>,
) -> BoxFuture<'static, Result<Vec<Done>, ScanError>> {
    let origin = origin.clone();
    if !items.iter().any(|item| matches!(item, Item::Read(..))) {
        let done = items.into_iter().filter_map(|item| without_reading(&*origin, item).ok()).collect();
        return std::future::ready(Ok(done)).boxed();
    }
    if origin.local().is_some() {
        let job = tokio::task::spawn_blocking(move || {
            let Some(local) = origin.local() else { return Vec::new() };
            let read = |item| match without_reading(&*origin, item) {
                Ok(done) => done,
                Err((id, listed, entry)) => {
                    let read = read_local(&*origin, local, &entry);
                    record(&*origin, id, listed, entry, read)
                }
            };
            items.into_iter().map(read).collect()
        });
        return async move { blocking_result(job).await }.boxed();
    }
    let width = origin.caps().concurrency.max(1);
    let read = move |item| {
        let origin = origin.clone();
        async move {
            match without_reading(&*origin, item) {
                Ok(done) => done,
                Err((id, listed, entry)) => {
                    let (path, version) = (&entry.path, &entry.version);
                    let read = match listed {
                        Listed::New => tags::parse_new(&*origin, path, version, head.unwrap_or(0)).await,
                        Listed::Changed => tags::parse_changed(&*origin, path, version).await,
                    };
                    let parts = |parts| if head.is_some() { parts } else { Parts::default() };
                    let read = read.map(|(parsed, read)| (version.clone(), parsed, parts(read)));
                    record(&*origin, id, listed, entry, read)
                }
            }
        }
    };
    futures::stream::iter(items).map(read).buffered(width).collect::<Vec<_>>().map(Ok).boxed()
}

/// Reads one file again, for what it is now.
pub(super) async fn one(origin: Arc<dyn Origin>, id: FileId, entry: OriginEntry) -> Result<Done, ScanError> {
    if origin.local().is_some() {
        return blocking(move || {
            let read = match origin.local() {
                Some(local) => read_local(&*origin, local, &entry),
                None => Err(ParseFailure::Origin(unavailable(&*origin, &entry.path))),
            };
            record(&*origin, id, Listed::Changed, entry, read)
        })
        .await;
    }
    let read = tags::parse_changed(&*origin, &entry.path, &entry.version).await;
    let read = read.map(|(parsed, parts)| (entry.version.clone(), parsed, parts));
    Ok(record(&*origin, id, Listed::Changed, entry, read))
}

type Read = Result<(FileVersion, ParsedAudio, Parts), ParseFailure>;

fn read_local(origin: &dyn Origin, local: &dyn LocalAccess, entry: &OriginEntry) -> Read {
    let file = local.open(&entry.path).map_err(ParseFailure::Origin)?;
    let version = local.version(&file).map_err(ParseFailure::Origin)?;
    match tags::parse_file(&file, version.size) {
        Ok(parsed) => Ok((version, parsed, Parts::default())),
        Err(reason) if reason.is_about_content() => Err(ParseFailure::Unparsable(reason)),
        // The disk failed, not the file: it is to be read again, whether or not it changes.
        Err(reason) => {
            let kind = OriginErrorKind::Unavailable;
            Err(ParseFailure::Origin(OriginError::new(origin.id(), &entry.path, kind).with_source(reason)))
        }
    }
}

fn unavailable(origin: &dyn Origin, path: &OriginPath) -> OriginError {
    OriginError::new(origin.id(), path, OriginErrorKind::Unavailable)
}

/// Turns what need not be read into its outcome; the parts of what must be read come back.
fn without_reading(origin: &dyn Origin, item: Item) -> Result<Done, (FileId, Listed, OriginEntry)> {
    match item {
        Item::Read(id, listed, entry) => Err((id, listed, entry)),
        Item::Sidecar(id, listed, entry) => {
            Ok(Done::File(Box::new(row(origin, id, entry, FileKind::Sidecar)), listed, Parts::default()))
        }
        Item::WasRead(file, listed) => Ok(Done::File(file, listed, Parts::default())),
        Item::KnownSidecar(id, path) => Ok(Done::KnownSidecar(id, path)),
        Item::KnownMusicIn(folder) => Ok(Done::KnownMusicIn(folder)),
        Item::Returned(id, kind, path) => Ok(Done::Returned(id, kind, path)),
        Item::UpTo(cursor) => Ok(Done::UpTo(cursor)),
    }
}

fn record(origin: &dyn Origin, id: FileId, listed: Listed, entry: OriginEntry, read: Read) -> Done {
    let mut seen = Parts::default();
    let row = match read {
        Ok((version, parsed, parts)) => {
            seen = parts;
            let mut row = row(origin, id, entry, FileKind::Audio);
            row.version = version;
            row.format = Some(parsed.format);
            row.audio = Some(Box::new(parsed.audio));
            row
        }
        Err(ParseFailure::Unparsable(reason)) => {
            // By its name it need not be music; then there is nothing to report.
            let music = tags::looks_like_music(&entry.path);
            let mut row = row(origin, id, entry, if music { FileKind::Unparsed } else { FileKind::Other });
            row.problem = music.then(|| reason.to_string());
            row
        }
        Err(ParseFailure::Origin(error)) if error.kind == OriginErrorKind::NotFound => return Done::Nothing,
        Err(ParseFailure::Origin(error)) if listed == Listed::Changed => {
            warn!(error = &error as &dyn std::error::Error, "changed file cannot be read; kept as it was");
            return Done::Nothing;
        }
        Err(ParseFailure::Origin(error)) => {
            // Pending, so that the next pass tries again, whether or not the file changes.
            let mut row = row(origin, id, entry, FileKind::Unparsed);
            row.state = FileState::Pending;
            row.problem = Some(format!("cannot be read: {}", error.kind));
            row
        }
    };
    Done::File(Box::new(row), listed, seen)
}

fn row(origin: &dyn Origin, id: FileId, entry: OriginEntry, kind: FileKind) -> FileMeta {
    FileMeta {
        id,
        origin: origin.id().clone(),
        path: entry.path,
        version: entry.version,
        kind,
        state: FileState::Present,
        format: None,
        audio: None,
        problem: None,
        shown_at: None,
    }
}

async fn blocking_result(job: tokio::task::JoinHandle<Vec<Done>>) -> Result<Vec<Done>, ScanError> {
    match job.await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ScanError::Cancelled),
        },
    }
}
