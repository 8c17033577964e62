//! Bringing one file up to date, when a reader found that the catalogue is behind.

use musicfs_core::{FileId, FileKind, FileMeta, FileState, OriginErrorKind, Refreshed};

use super::parse::{self, Done};
use super::turns::Lane;
use super::writer::Writer;
use super::{ScanError, Scanner, blocking};

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
        Box::new(FileMeta { version: entry.version, state: FileState::Present, ..file })
    } else {
        match parse::one(origin.clone(), id, entry).await? {
            Done::File(row, ..) => row,
            _ => return Ok(Refreshed::Unknown),
        }
    };
    row.id = id;
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
