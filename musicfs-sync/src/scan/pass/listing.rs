//! What a pass lists: a whole origin, or some of its files and folders; and what that leads to.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    FileKind, FileMeta, FileState, Origin, OriginEntry, OriginError, OriginErrorKind, OriginPath, ScanCursor,
    ScanPage, ScanRequest, ScanStream,
};
use parking_lot::Mutex;
use tracing::warn;

use super::Pass;
use crate::scan::delta::{Delta, Listed};
use crate::scan::parse::Item;
use crate::scan::report::{MOST_NAMED, Unlisted};

/// A listing in parts. It is complete when each part has said so.
pub(super) struct Listing {
    pub(super) pages: ScanStream,
    pub(super) parts: usize,
    /// Paths where nothing was, as far as the listing has come.
    pub(super) nowhere: Nowhere,
}

/// See [`Listing::nowhere`].
pub(super) type Nowhere = Arc<Mutex<Vec<OriginPath>>>;

impl Listing {
    /// Lists everything, or what comes after a cursor.
    pub(super) fn whole(origin: &dyn Origin, resume: Option<ScanCursor>) -> Self {
        let pages = origin.scan(ScanRequest { resume, ..ScanRequest::all() });
        Self { pages, parts: 1, nowhere: Nowhere::default() }
    }

    /// Gives entries that were listed once more.
    pub(super) fn again(entries: Vec<OriginEntry>) -> Self {
        let page = ScanPage { entries, complete: true, ..ScanPage::default() };
        Self { pages: stream::iter([Ok(page)]).boxed(), parts: 1, nowhere: Nowhere::default() }
    }

    /// Lists what is at these paths, be it files, folders with all below, or nothing.
    pub(super) fn of(origin: &Arc<dyn Origin>, paths: Vec<OriginPath>) -> Self {
        let (origin, parts, nowhere) = (origin.clone(), paths.len(), Nowhere::default());
        let found = nowhere.clone();
        let pages = stream::iter(paths).then(move |path| part(origin.clone(), path, found.clone()));
        Self { pages: pages.flatten().boxed(), parts, nowhere }
    }
}

impl Pass<'_> {
    /// Compares a page with what is known, and returns what is to be done.
    pub(super) fn page(&mut self, page: ScanPage) -> Vec<Item> {
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
                Delta::Read(id, listed) => match self.apart.earlier(&entry) {
                    Some(row) => {
                        let listed = if row.id == id { Listed::New } else { listed };
                        let row = FileMeta { id, state: FileState::Present, ..row.clone() };
                        items.push(Item::WasRead(Box::new(row), listed));
                    }
                    None => {
                        to_parse += 1;
                        items.push(Item::Read(id, listed, entry));
                    }
                },
                Delta::Sidecar(id, listed) => {
                    let is_apart = self.apart.earlier(&entry).is_some_and(|row| row.id == id);
                    items.push(Item::Sidecar(id, if is_apart { Listed::New } else { listed }, entry));
                }
            }
        }
        if self.options.reread
            && let Some(cursor) = page.cursor
        {
            items.push(Item::UpTo(cursor));
        }
        for unlisted in page.unlisted {
            warn!(
                error = &unlisted.error as &dyn std::error::Error,
                "folder could not be listed; kept as it was"
            );
            self.report.unlisted += 1;
            if self.report.unlisted_folders.len() < MOST_NAMED {
                let (path, why) = (unlisted.path.clone(), unlisted.error.kind);
                self.report.unlisted_folders.push(Unlisted { path, why });
            }
            self.unlisted.push(unlisted.path);
        }
        self.completed += usize::from(page.complete);
        self.report.listed = self.detector.listed();
        let listed = self.report.listed;
        self.show(|p| {
            p.listed = listed;
            p.to_parse += to_parse;
        });
        items
    }
}

/// Lists what is at a path. That nothing is there is an answer too, and a complete one: whether the origin is to be
/// believed is for others to judge.
async fn part(origin: Arc<dyn Origin>, path: OriginPath, nowhere: Nowhere) -> ScanStream {
    let one = |page: Result<ScanPage, OriginError>| stream::iter([page]).boxed();
    if path.is_root() {
        return origin.scan(ScanRequest::all());
    }
    match origin.stat(&path).await {
        Ok(entry) => one(Ok(ScanPage { entries: vec![entry], complete: true, ..ScanPage::default() })),
        Err(error) if error.kind == OriginErrorKind::NotFound => {
            nowhere.lock().push(path);
            one(Ok(ScanPage { complete: true, ..ScanPage::default() }))
        }
        Err(error) if error.kind == OriginErrorKind::Invalid => {
            origin.scan(ScanRequest { under: path, resume: None })
        }
        Err(error) => one(Err(error)),
    }
}

/// Drops what is below another of the paths.
fn without_nested(mut paths: Vec<OriginPath>) -> Vec<OriginPath> {
    paths.sort_by(|a, b| a.components().cmp(b.components()));
    let mut kept: Vec<OriginPath> = Vec::with_capacity(paths.len());
    for path in paths {
        // In this order all that is below a folder follows it.
        if kept.last().is_none_or(|last| !path.is_within(last)) {
            kept.push(path);
        }
    }
    kept
}

/// Names at most `most` paths that cover all of these, by the folders above where there are more.
pub(in crate::scan) fn few_paths(paths: Vec<OriginPath>, most: usize) -> Vec<OriginPath> {
    let mut paths = without_nested(paths);
    while paths.len() > most {
        // The deepest first: what is near the root covers much.
        let depth = |path: &OriginPath| path.components().count();
        let deepest = paths.iter().map(depth).max().unwrap_or_default();
        let up = |path: OriginPath| if depth(&path) == deepest { path.parent() } else { path };
        paths = without_nested(paths.into_iter().map(up).collect());
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_others_are_dropped() {
        let paths = ["b/c", "a b", "a", "a/x/y", "b", "a/x", "a", "b2"];
        let kept = without_nested(paths.map(|p| OriginPath::new(p).unwrap()).into());
        let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["a", "a b", "b", "b2"]);
    }

    #[test]
    fn many_paths_are_covered_by_the_folders_above_the_deepest() {
        let paths = ["a/b/1", "a/b/2", "a/c/3", "d"].map(|p| OriginPath::new(p).unwrap());
        let few = |most| few_paths(paths.to_vec(), most).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(few(4), ["a/b/1", "a/b/2", "a/c/3", "d"]);
        assert_eq!(few(3), ["a/b", "a/c", "d"]);
        assert_eq!(few(2), ["a", "d"]);
        assert_eq!(few(1), [""]);
    }
}
