//! What a pass lists: a whole origin, or some of its files and folders.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use musicfs_core::{
    Origin, OriginError, OriginErrorKind, OriginPath, ScanCursor, ScanPage, ScanRequest, ScanStream,
};

/// A listing in parts. It is complete when each part has said so.
pub(super) struct Listing {
    pub(super) pages: ScanStream,
    pub(super) parts: usize,
}

impl Listing {
    /// Lists everything, or what comes after a cursor.
    pub(super) fn whole(origin: &dyn Origin, resume: Option<ScanCursor>) -> Self {
        Self { pages: origin.scan(ScanRequest { resume, ..ScanRequest::all() }), parts: 1 }
    }

    /// Lists what is at these paths, be it files, folders with all below, or nothing.
    pub(super) fn of(origin: &Arc<dyn Origin>, paths: Vec<OriginPath>) -> Self {
        let (origin, parts) = (origin.clone(), paths.len());
        let pages = stream::iter(paths).then(move |path| part(origin.clone(), path)).flatten().boxed();
        Self { pages, parts }
    }
}

/// Lists what is at a path. That nothing is there is an answer too, and a complete one: whether the origin is to be
/// believed is for others to judge.
async fn part(origin: Arc<dyn Origin>, path: OriginPath) -> ScanStream {
    let one = |page: Result<ScanPage, OriginError>| stream::iter([page]).boxed();
    if path.is_root() {
        return origin.scan(ScanRequest::all());
    }
    match origin.stat(&path).await {
        Ok(entry) => one(Ok(ScanPage { entries: vec![entry], complete: true, ..ScanPage::default() })),
        Err(error) if error.kind == OriginErrorKind::NotFound => {
            one(Ok(ScanPage { complete: true, ..ScanPage::default() }))
        }
        Err(error) if error.kind == OriginErrorKind::Invalid => {
            origin.scan(ScanRequest { under: path, resume: None })
        }
        Err(error) => one(Err(error)),
    }
}

/// Drops what is below another of the paths.
pub(crate) fn without_nested(mut paths: Vec<OriginPath>) -> Vec<OriginPath> {
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
}
