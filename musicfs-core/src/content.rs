//! Reading a file's bytes: the seam between the kernel's side and the stores.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ByteRange, Course, FileId, FileMeta, FileVersion, MetaError, OriginError, OriginErrorKind, OriginId,
    OriginPath, PartSink,
};

/// Where the bytes of a segment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadSource {
    /// The plan holds them.
    Inline(Bytes),
    /// A stretch of a file's version on an origin.
    Origin {
        /// The origin.
        origin: OriginId,
        /// The file's path there.
        path: OriginPath,
        /// The version that every byte must belong to.
        version: FileVersion,
        /// Offset of the segment's first byte in that file.
        start: u64,
    },
}

/// A stretch of what a handle reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Length in bytes.
    pub len: u64,
    /// Where the bytes come from.
    pub source: ReadSource,
}

/// A part of one segment: which of its source's bytes a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSlice<'a> {
    /// The segment's source.
    pub source: &'a ReadSource,
    /// Offsets in the source: in the inline bytes, or in the origin's file.
    pub range: ByteRange,
}

/// What a handle reads, fixed when it is opened: segments end to end.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    file: FileId,
    version: FileVersion,
    segments: Vec<Segment>,
    size: u64,
    course: Option<Arc<Course>>,
}

/// Plans that read the same are equal, whatever became of their handles.
impl PartialEq for ReadPlan {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.version == other.version && self.segments == other.segments
    }
}

impl Eq for ReadPlan {}

impl ReadPlan {
    /// Makes the plan that reads `file` as it is on its origin.
    pub fn verbatim(file: &FileMeta) -> Self {
        let source = ReadSource::Origin {
            origin: file.origin.clone(),
            path: file.path.clone(),
            version: file.version.clone(),
            start: 0,
        };
        Self::new(file, vec![Segment { len: file.version.size, source }])
    }

    /// Makes a plan of `segments` for `file`.
    pub fn new(file: &FileMeta, segments: Vec<Segment>) -> Self {
        let size = segments.iter().map(|s| s.len).sum();
        Self { file: file.id, version: file.version.clone(), segments, size, course: None }
    }

    /// Has the plan's handle followed by `course`, which all clones of the plan share.
    pub fn with_course(self, course: Arc<Course>) -> Self {
        Self { course: Some(course), ..self }
    }

    /// Returns the course of the plan's handle, when its file has copies.
    pub fn course(&self) -> Option<&Course> {
        self.course.as_deref()
    }

    /// Returns the file that is read.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Returns the version that is read.
    pub fn version(&self) -> &FileVersion {
        &self.version
    }

    /// Returns the total length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the origin's file, when the plan reads all of one and nothing else.
    pub fn as_verbatim(&self) -> Option<(&OriginId, &OriginPath, &FileVersion)> {
        match self.segments.as_slice() {
            [Segment { len, source: ReadSource::Origin { origin, path, version, start: 0 } }]
                if *len == version.size =>
            {
                Some((origin, path, version))
            }
            _ => None,
        }
    }

    /// Returns the sources of `range` in order; what is past the end is left out.
    pub fn slices(&self, range: ByteRange) -> Vec<SourceSlice<'_>> {
        let range = range.clamp_to(self.size);
        let mut begin = 0;
        let mut slices = Vec::new();
        for segment in &self.segments {
            let here = ByteRange::at(begin, segment.len);
            if let Some(part) = here.intersect(&range) {
                let base = match &segment.source {
                    ReadSource::Inline(_) => 0,
                    ReadSource::Origin { start, .. } => *start,
                };
                let range = ByteRange::at(base + (part.start() - begin), part.len());
                slices.push(SourceSlice { source: &segment.source, range });
            }
            begin += segment.len;
        }
        slices
    }
}

/// Why bytes could not be read, by what the reader can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is no longer on its origin.
    #[error("the file is gone from its origin")]
    Gone(#[source] OriginError),
    /// The file may not be read.
    #[error("the origin does not allow reading the file")]
    Denied(#[source] OriginError),
    /// The file is no longer of the version that was opened.
    #[error("the file changed on its origin")]
    Changed(#[source] OriginError),
    /// No answer before the deadline.
    #[error("no answer from {origin} within {} s", after.as_secs_f32())]
    TimedOut {
        /// The origin that did not answer.
        origin: OriginId,
        /// The deadline.
        after: Duration,
    },
    /// The origin has not answered others, and is left alone until it does or it is time to try again.
    #[error("{origin} does not answer, and is not asked until a check finds it well")]
    LeftAlone {
        /// The origin.
        origin: OriginId,
    },
    /// The origin failed in another way.
    #[error("the origin cannot deliver the file")]
    Unavailable(#[source] OriginError),
    /// The library has no such origin (any more).
    #[error("no origin named {0} is configured")]
    UnknownOrigin(OriginId),
    /// The catalogue failed.
    #[error("the catalogue failed")]
    Catalogue(#[from] MetaError),
}

impl From<OriginError> for ReadError {
    fn from(error: OriginError) -> Self {
        match error.kind {
            OriginErrorKind::NotFound => Self::Gone(error),
            OriginErrorKind::Denied => Self::Denied(error),
            OriginErrorKind::Changed => Self::Changed(error),
            OriginErrorKind::Invalid
            | OriginErrorKind::Unsupported
            | OriginErrorKind::Corrupt
            | OriginErrorKind::Unavailable
            | OriginErrorKind::NoRoot
            | OriginErrorKind::Throttled { .. }
            | OriginErrorKind::TimedOut
            | OriginErrorKind::Dns => Self::Unavailable(error),
        }
    }
}

/// Delivers the bytes of files.
///
/// # Contract
/// * A plan stays readable as long as its version can be had; then reads fail with [`ReadError::Changed`] or
///   [`ReadError::Gone`]. Bytes of two versions are never mixed.
/// * Reads answer exactly the part of the range that lies in the file.
/// * Every call ends: with an answer, or with [`ReadError::TimedOut`] at the deadline. A file or an origin that
///   hangs harms no other.
/// * Dropping a future is safe; all methods may be called at the same time.
#[async_trait]
pub trait ContentReader: Send + Sync + 'static {
    /// Fixes what a handle on `file` reads.
    ///
    /// # Errors
    /// [`ReadError::Changed`] or [`ReadError::Gone`] when the catalogue's version can no longer be had and this
    /// can be told cheaply; others as they occur.
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError>;

    /// Reads a range of a plan.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError>;

    /// Reads a range as [`read`](Self::read) does, and hands its bytes on as they come: `parts` is given them in order,
    /// and when this returns, all of the range. By default, all comes at once. Its deadline is that of its next part,
    /// so that a long range on a slow line may take as long as it needs.
    ///
    /// # Errors
    /// See [`ReadError`]. What came before is good.
    async fn read_parts(&self, plan: &ReadPlan, range: ByteRange, parts: &PartSink) -> Result<(), ReadError> {
        parts.push(self.read(plan, range).await?);
        Ok(())
    }

    /// Opens the file of this machine whose bytes are exactly the plan's, for the kernel to read by itself;
    /// `None` where there is none, or reading it could hang.
    async fn backing(&self, plan: &ReadPlan) -> Option<std::fs::File>;

    /// Returns the BLAKE3 hash of the whole file, or `None` when it cannot be had without fetching the file over
    /// a network.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn hash(&self, file: &FileMeta) -> Result<Option<crate::ChunkHash>, ReadError>;

    /// Tells in one word how much of the file can be read without its origin: `local` when the origin is this
    /// machine, else `none`, `partial` or `full`. Does not block.
    fn cached(&self, file: &FileMeta) -> &'static str;

    /// Returns the copy that is read in place of the file because the file's own origin failed. Does not block.
    fn stand_in(&self, file: &FileMeta) -> Option<(OriginId, OriginPath)>;
}

#[async_trait]
impl<T: ContentReader + ?Sized> ContentReader for Arc<T> {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        (**self).open(file).await
    }
    async fn read(&self, plan: &ReadPlan, range: ByteRange) -> Result<Bytes, ReadError> {
        (**self).read(plan, range).await
    }
    async fn read_parts(&self, plan: &ReadPlan, range: ByteRange, parts: &PartSink) -> Result<(), ReadError> {
        (**self).read_parts(plan, range, parts).await
    }
    async fn backing(&self, plan: &ReadPlan) -> Option<std::fs::File> {
        (**self).backing(plan).await
    }
    async fn hash(&self, file: &FileMeta) -> Result<Option<crate::ChunkHash>, ReadError> {
        (**self).hash(file).await
    }
    fn cached(&self, file: &FileMeta) -> &'static str {
        (**self).cached(file)
    }
    fn stand_in(&self, file: &FileMeta) -> Option<(OriginId, OriginPath)> {
        (**self).stand_in(file)
    }
}

/// What comparing the cached part of a file with its origin came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many bytes were compared.
    pub bytes: u64,
    /// Whether any of them was another; then what was cached has been replaced by what the origin holds.
    pub differs: bool,
}

/// Compares what is cached of files with what their origins hold.
///
/// # Contract
/// * All that is cached of the file's version is read from its origin again, but for what has only just come from there;
///   nothing else is.
/// * What differs is replaced, and whoever keeps bytes of the file is told ([`Op::Correct`](crate::Op::Correct)).
/// * Dropping the future, or a failure, leaves what was not compared to be compared before it is served again.
#[async_trait]
pub trait ContentVerifier: Send + Sync + 'static {
    /// Compares what is cached of a file.
    ///
    /// # Errors
    /// As a read of what could not be read.
    async fn compare(&self, file: &FileMeta) -> Result<Compared, ReadError>;
}

/// What a [`Refresher`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The catalogue was right.
    Unchanged,
    /// The catalogue has been brought up to date.
    Updated,
    /// The file is not there. The catalogue still has it: that it is gone for good is for a whole listing to prove.
    Gone,
    /// It could not be told.
    Unknown,
}

/// Brings the catalogue up to date on one file, when a reader notices that it is not.
#[async_trait]
pub trait Refresher: Send + Sync + 'static {
    /// Looks at the file on its origin and updates the catalogue. Many calls for one file do the work once.
    /// Dropping the future is safe.
    async fn refresh(&self, id: FileId) -> Refreshed;
}

#[async_trait]
impl<T: Refresher + ?Sized> Refresher for Arc<T> {
    async fn refresh(&self, id: FileId) -> Refreshed {
        (**self).refresh(id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(size: u64) -> FileMeta {
        let origin = OriginId::from("o");
        let path = OriginPath::new("a.flac").unwrap();
        FileMeta {
            id: FileId::derive(&origin, &path, 0),
            origin,
            path,
            version: FileVersion { size, ..Default::default() },
            kind: crate::FileKind::Audio,
            state: crate::FileState::Present,
            format: None,
            audio: None,
            problem: None,
            shown_at: None,
        }
    }

    #[test]
    fn verbatim_plan_is_known_as_such() {
        let file = meta(10);
        let plan = ReadPlan::verbatim(&file);
        assert_eq!(plan.as_verbatim(), Some((&file.origin, &file.path, &file.version)));
        assert_eq!(plan.size(), 10);
        assert!(plan.slices(ByteRange::at(10, 5)).is_empty());
    }

    proptest! {
        #[test]
        fn slices_of_any_range_are_the_bytes_of_that_range(
            lens in prop::collection::vec((0u64..50, any::<bool>()), 0..8),
            start in 0u64..300,
            len in 0u64..300,
        ) {
            // The origin's file holds its offset (mod 256) at each place, as do the inline bytes counted on.
            let mut segments = Vec::new();
            let mut whole = Vec::new();
            for (n, (len, inline)) in lens.iter().enumerate() {
                let base = n as u64 * 7;
                let bytes: Vec<u8> = (base..base + len).map(|b| b as u8).collect();
                whole.extend_from_slice(&bytes);
                let source = if *inline {
                    ReadSource::Inline(bytes.into())
                } else {
                    let file = meta(0);
                    ReadSource::Origin { origin: file.origin, path: file.path, version: file.version, start: base }
                };
                segments.push(Segment { len: *len, source });
            }
            let plan = ReadPlan::new(&meta(0), segments);
            let mut read = Vec::new();
            for slice in plan.slices(ByteRange::at(start, len)) {
                let range = slice.range.start() as usize..slice.range.end() as usize;
                match slice.source {
                    ReadSource::Inline(bytes) => read.extend_from_slice(&bytes[range]),
                    ReadSource::Origin { .. } => read.extend(range.map(|b| b as u8)),
                }
            }
            let from = (start as usize).min(whole.len());
            let to = ((start + len) as usize).min(whole.len());
            prop_assert_eq!(&read, &whole[from..to]);
        }
    }
}
