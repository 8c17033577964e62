//! Bringing one file up to date, when a reader found that the catalogue is behind.
//!
//! What is at the file's path may be another that is known, as when an album is renumbered: then a pass over the folders
//! of both tells which is which, so that each stays itself. While another pass is under way over the origin, which may
//! take long, the file is taken to be what is at its path.

use musicfs_core::{FileId, FileKind, FileMeta, FileState, Origin, OriginErrorKind, OriginPath, Refreshed};
use tokio_util::sync::CancellationToken;

use super::parse::{self, Done};
use super::turns::Lane;
use super::writer::Writer;
use super::{PassOptions, ScanError, Scanner, blocking};

pub(super) async fn run(scanner: &Scanner, id: FileId) -> Result<Refreshed, ScanError> {
    let db = scanner.db.clone();
    let Some(file) = blocking(move || db.file(id)).await?? else { return Ok(Refreshed::Gone) };
    let Some(origin) = scanner.origin(&file.origin) else { return Ok(Refreshed::Unknown) };
    let entry = match origin.stat(&file.path).await {
        Ok(entry) if entry.version.is_same(&file.version) && file.state == FileState::Present => {
            return Ok(Refreshed::Unchanged);
        }
        Ok(entry) => entry,
        // Only a whole listing proves that a file is gone: a disk that is not mounted has none of its files.
        Err(error) if error.kind == OriginErrorKind::NotFound => return Ok(Refreshed::Gone),
        Err(error) => return Err(ScanError::Origin(error)),
    };
    let parts = scanner.parts(Lane::Asked);
    let mut row = if file.kind == FileKind::Sidecar {
        Box::new(FileMeta { version: entry.version, state: FileState::Present, ..file.clone() })
    } else {
        match parse::one(origin.clone(), id, entry).await? {
            Done::File(row, ..) => row,
            _ => return Ok(Refreshed::Unknown),
        }
    };
    row.id = id;
    if let Some(other) = scanner.that_held(&row, &file).await?
        && scanner.is_at_rest(origin.id())
    {
        return look_around(scanner, &*origin, id, [file.path, other]).await;
    }
    let cached = scanner.still_cached(&*origin, &row).await?;
    blocking(move || {
        let mut writer = Writer::load(parts)?;
        writer.put(row);
        cached.into_iter().for_each(|op| writer.push(op));
        writer.flush()?;
        Ok(Refreshed::Updated)
    })
    .await?
}

/// Has a pass tell what became of a file, at or around these paths.
async fn look_around(
    scanner: &Scanner,
    origin: &dyn Origin,
    id: FileId,
    paths: [OriginPath; 2],
) -> Result<Refreshed, ScanError> {
    let around = |path: OriginPath| Some(path.parent()).filter(|folder| !folder.is_root()).unwrap_or(path);
    let options = PassOptions { paths: Some(paths.map(around).into()), ..PassOptions::default() };
    scanner.scan_with(origin.id(), &options, &CancellationToken::new()).await?;
    let db = scanner.db.clone();
    let file = blocking(move || db.file(id)).await??;
    let is_there = file.is_some_and(|file| file.state == FileState::Present);
    Ok(if is_there { Refreshed::Updated } else { Refreshed::Gone })
}
