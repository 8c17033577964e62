//! Missing files, as the user sees them: listed, shown again, or forgotten for good.

use std::collections::BTreeSet;
use std::time::Duration;

use musicfs_core::{FileId, FileMeta, FileQuery, FileState, MetaDb, Op, OriginId, OriginPath, UnixNanos};

use super::turns::Lane;
use super::writer::{BATCH, Writer};
use super::{ScanError, Scanner, blocking};

/// Which missing files are meant. What is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrashFilter {
    /// Files of this origin.
    pub origin: Option<OriginId>,
    /// The file at this path of its origin, or those in this folder and below it.
    pub under: Option<OriginPath>,
    /// Files that have been missing for this long or longer.
    pub older_than: Option<Duration>,
    /// Files that have been missing for less than this.
    pub newer_than: Option<Duration>,
}

impl TrashFilter {
    fn takes(&self, file: &FileMeta, since: UnixNanos, now: UnixNanos) -> bool {
        let age = Duration::from_nanos(now.0.saturating_sub(since.0).max(0).cast_unsigned());
        self.origin.as_ref().is_none_or(|origin| file.origin == *origin)
            && self.under.as_ref().is_none_or(|folder| file.path.is_within(folder))
            && self.older_than.is_none_or(|least| age >= least)
            && self.newer_than.is_none_or(|most| age < most)
    }
}

/// A missing file.
#[derive(Clone, Debug, PartialEq)]
pub struct Trashed {
    /// What is known of it.
    pub file: FileMeta,
    /// When it was found to be gone.
    pub since: UnixNanos,
    /// Whether all of it is cached, so that it can be played.
    pub cached: bool,
}

impl Scanner {
    /// Returns the missing files that a filter takes.
    ///
    /// # Errors
    /// [`ScanError::Meta`].
    pub async fn trash(&self, filter: TrashFilter) -> Result<Vec<Trashed>, ScanError> {
        let parts = self.parts(Lane::Asked);
        blocking(move || {
            let now = parts.clock.unix();
            find(&*parts.db, &filter, now)
        })
        .await?
    }

    /// Shows the files that a filter takes in the tree again, as though they had gone just now, and returns them.
    /// Only what is cached whole can be shown; the others are shown when they are back.
    ///
    /// Waits for passes over the origins of these files that are under way.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn restore_trash(&self, filter: TrashFilter) -> Result<Vec<Trashed>, ScanError> {
        self.change_trash(
            filter,
            |found| found.cached,
            |writer, found| {
                for trashed in found {
                    // Anew, so that it is hidden a whole time of grace from now.
                    writer.push(Op::SetState(trashed.file.id, FileState::Present));
                    writer.push(Op::SetState(trashed.file.id, FileState::Missing));
                    if let Some(path) = writer.wanted(&trashed.file) {
                        writer.place(trashed.file.id, path);
                    }
                    if writer.len() >= BATCH {
                        writer.flush()?;
                    }
                }
                writer.flush()
            },
        )
        .await
    }

    /// Forgets the files that a filter takes, and returns them. Should one come back, it is a new file.
    ///
    /// Waits for passes over the origins of these files that are under way.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn purge_trash(&self, filter: TrashFilter) -> Result<Vec<Trashed>, ScanError> {
        self.change_trash(
            filter,
            |_| true,
            |writer, found| {
                let files: Vec<FileId> = found.iter().map(|trashed| trashed.file.id).collect();
                writer.forget(&files)
            },
        )
        .await
    }

    async fn change_trash(
        &self,
        filter: TrashFilter,
        takes: fn(&Trashed) -> bool,
        change: fn(&mut Writer, &[Trashed]) -> Result<(), ScanError>,
    ) -> Result<Vec<Trashed>, ScanError> {
        let origins: BTreeSet<OriginId> =
            self.trash(filter.clone()).await?.into_iter().map(|trashed| trashed.file.origin).collect();
        let mut changed = Vec::new();
        for origin in origins {
            let _one = self.alone(&origin).await;
            let _beside = self.arranging.read().await;
            let parts = self.parts(Lane::Asked);
            let filter = TrashFilter { origin: Some(origin), ..filter.clone() };
            let found = blocking(move || {
                let now = parts.clock.unix();
                let mut found = find(&*parts.db, &filter, now)?;
                found.retain(takes);
                change(&mut Writer::load(parts)?, &found)?;
                Ok::<_, ScanError>(found)
            });
            changed.extend(found.await??);
        }
        Ok(changed)
    }
}

pub(super) fn find(db: &dyn MetaDb, filter: &TrashFilter, now: UnixNanos) -> Result<Vec<Trashed>, ScanError> {
    let mut found = Vec::new();
    let mut after: Option<FileId> = None;
    loop {
        let page = db.files(&FileQuery::Missing, after, BATCH)?;
        for file in page.files {
            let Some(since) = db.missing_since(file.id)? else { continue };
            if filter.takes(&file, since, now) {
                let cached = Writer::is_cached_whole(db, &file)?;
                found.push(Trashed { file, since, cached });
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_test_utils::make_file_meta;

    #[test]
    fn ages_are_compared_at_both_ends() {
        let file = make_file_meta(1, "Artist/1.flac", 10);
        let takes =
            |filter: TrashFilter, age: i64| filter.takes(&file, UnixNanos(1_000), UnixNanos(1_000 + age));
        let older = |ns| TrashFilter { older_than: Some(Duration::from_nanos(ns)), ..TrashFilter::default() };
        let newer = |ns| TrashFilter { newer_than: Some(Duration::from_nanos(ns)), ..TrashFilter::default() };
        assert!(!takes(older(50), 49) && takes(older(50), 50) && takes(older(50), 51));
        assert!(takes(newer(50), 49) && !takes(newer(50), 50) && !takes(newer(50), 51));
        assert!(takes(older(0), -5), "a clock that was set back makes nothing negative");
        assert!(takes(TrashFilter::default(), 0));
    }

    #[test]
    fn folder_is_compared_by_whole_components() {
        let file = make_file_meta(1, "Artist2/1.flac", 10);
        let under = |path: &str| TrashFilter { under: OriginPath::new(path).ok(), ..TrashFilter::default() };
        assert!(!under("Artist").takes(&file, UnixNanos(0), UnixNanos(1)));
        assert!(under("Artist2").takes(&file, UnixNanos(0), UnixNanos(1)));
        assert!(under("Artist2/1.flac").takes(&file, UnixNanos(0), UnixNanos(1)));
        assert!(under("").takes(&file, UnixNanos(0), UnixNanos(1)));
        let other = TrashFilter { origin: Some("other".into()), ..TrashFilter::default() };
        assert!(!other.takes(&file, UnixNanos(0), UnixNanos(1)));
    }
}
