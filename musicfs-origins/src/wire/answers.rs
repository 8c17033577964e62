//! What origins answer in the same way, once they can look at a file and hand on the parts of one.

use bytes::Bytes;
use musicfs_core::{ByteRange, FileVersion, Origin, OriginError, OriginPath, PartSink};
#[cfg(feature = "direct")]
use {
    super::{Failure, Folders},
    musicfs_core::{OriginEntry, OriginErrorKind},
    std::sync::Arc,
};

/// Answers [`Origin::stat`] by looking.
#[cfg(feature = "direct")]
pub(crate) async fn stat<F: Folders>(
    folders: &Arc<F>,
    path: &OriginPath,
) -> Result<OriginEntry, OriginError> {
    let fail = |failure: Failure| failure.at(folders.origin(), path);
    match Arc::clone(folders).look(path.clone()).await.map_err(fail)? {
        Some(version) => Ok(OriginEntry { path: path.clone(), version }),
        None => Err(fail(Failure::new(OriginErrorKind::Invalid, "it is a folder"))),
    }
}

/// Answers [`Origin::read`] with the parts of [`Origin::read_parts`].
pub(crate) async fn read(
    origin: &impl Origin,
    path: &OriginPath,
    version: &FileVersion,
    range: ByteRange,
) -> Result<Bytes, OriginError> {
    let (parts, gathered) = PartSink::gathering();
    origin.read_parts(path, version, range, &parts).await?;
    Ok(gathered.finish())
}
