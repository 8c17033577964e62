//! Keys in their order, made into folders. Pure.
//!
//! A service lists keys in the order of their bytes, so that what lies below a folder comes between the folder's
//! own files (`a/B/1` before `a/c`). Here a folder's files are held until the listing has left it; what is held at
//! a time are the files of the folders on the way down to where the listing is.
//!
//! A [`Place`] is a point in such a listing. All keys up to `key` have been seen, and of those handed over
//! all but the files of the folders that `key` is in; the first of these comes after `start`.

use musicfs_core::{OriginEntry, ScanCursor};

/// Files of one folder that are held at most. Of a folder with more, the first are handed over early, apart from
/// the rest if there are folders in it.
const MAX_HELD: usize = 50_000;

/// A point in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    start: String,
    key: String,
}

/// Returns the folder that a key is in, with the slash.
fn folder(key: &str) -> &str {
    &key[..key.rfind('/').map_or(0, |slash| slash + 1)]
}

impl Place {
    /// Returns the key behind which to begin, if not at the beginning.
    pub(super) fn start(&self) -> Option<&str> {
        Some(self.start.as_str()).filter(|start| !start.is_empty())
    }

    /// Tells whether what `key` stands for was handed over already.
    pub(super) fn is_past(&self, key: &str) -> bool {
        key <= self.key.as_str() && !folder(&self.key).starts_with(folder(key))
    }

    pub(super) fn to_cursor(&self) -> ScanCursor {
        ScanCursor(format!("keys:{}:{}{}", self.start.len(), self.start, self.key).into())
    }

    pub(super) fn parse(cursor: &ScanCursor) -> Option<Self> {
        let (length, rest) = cursor.0.strip_prefix("keys:")?.split_once(':')?;
        let (start, key) = rest.split_at_checked(length.parse().ok()?)?;
        (!key.is_empty()).then(|| Self { start: start.into(), key: key.into() })
    }
}

/// A folder that the listing is in.
struct Open {
    /// With the slash.
    folder: String,
    files: Vec<OriginEntry>,
    /// The key before the first that is held.
    before: String,
    /// Whether files of it were handed over early.
    early: bool,
}

/// Gathers keys by folder.
#[derive(Default)]
pub(super) struct Groups {
    /// Each within the one before.
    open: Vec<Open>,
    last: String,
    ready: Vec<OriginEntry>,
}

impl Groups {
    /// Takes the next key, with the file it stands for if it is one.
    pub(super) fn push(&mut self, key: &str, entry: Option<OriginEntry>) {
        let folder = folder(key);
        while let Some(inner) = self.open.pop_if(|open| !folder.starts_with(&open.folder)) {
            self.ready.extend(inner.files);
        }
        if let Some(entry) = entry {
            if self.open.last().is_none_or(|open| open.folder != folder) {
                let before = String::new();
                self.open.push(Open { folder: folder.into(), files: Vec::new(), before, early: false });
            }
            if let Some(open) = self.open.last_mut() {
                if open.files.is_empty() {
                    open.before.clone_from(&self.last);
                }
                open.files.push(entry);
                if open.files.len() >= MAX_HELD {
                    self.ready.append(&mut open.files);
                    open.early = true;
                }
            }
        }
        self.last.clear();
        self.last.push_str(key);
    }

    /// Says that there are no more keys.
    pub(super) fn finish(&mut self) {
        for open in self.open.drain(..).rev() {
            self.ready.extend(open.files);
        }
    }

    /// Returns how many files are ready to be handed over.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Hands over what is ready, and tells where that leaves the listing, if it can be told.
    pub(super) fn take(&mut self) -> (Vec<OriginEntry>, Option<Place>) {
        let untold = self.last.is_empty() || self.open.iter().any(|open| open.early);
        let held = self.open.iter().find(|open| !open.files.is_empty());
        let start = held.map_or(&self.last, |open| &open.before).clone();
        let place = (!untold).then(|| Place { start, key: self.last.clone() });
        (std::mem::take(&mut self.ready), place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use musicfs_core::{FileVersion, OriginPath};

    use super::*;

    const KEYS: [&str; 14] = [
        "0.flac", "A/", "A/1", "A/B/", "A/B/1", "A/B/C/1", "A/B/c", "A/C/D/1", "A/b", "A/z", "A2/1", "a//b",
        "m", "z/1",
    ];

    fn entry(key: &str) -> Option<OriginEntry> {
        let path = OriginPath::new(key).ok()?;
        Some(OriginEntry { path, version: FileVersion::default() })
    }

    /// Lists with a page after each key, from a place on; gives pages of paths with the places behind them.
    fn list(from: Option<&Place>) -> Vec<(Vec<OriginPath>, Option<Place>)> {
        let mut groups = Groups::default();
        let mut pages = Vec::new();
        let mut page = |groups: &mut Groups| {
            let (entries, place) = groups.take();
            pages.push((entries.into_iter().map(|entry| entry.path).collect(), place));
        };
        let start = from.and_then(Place::start).unwrap_or_default();
        for key in KEYS.iter().filter(|key| **key > start) {
            let past = from.is_some_and(|place| place.is_past(key));
            groups.push(key, entry(key).filter(|_| !past));
            page(&mut groups);
        }
        groups.finish();
        page(&mut groups);
        pages
    }

    #[test]
    fn files_of_a_folder_come_together_and_none_is_lost() {
        let listed: Vec<OriginPath> = list(None).into_iter().flat_map(|(paths, _)| paths).collect();
        let mut folders: Vec<_> = listed.iter().map(OriginPath::parent).collect();
        folders.dedup();
        assert_eq!(folders.iter().collect::<BTreeSet<_>>().len(), folders.len(), "{listed:?}");
        let all: BTreeSet<_> = KEYS.iter().filter_map(|key| entry(key)).map(|entry| entry.path).collect();
        assert_eq!(listed.len(), all.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn listing_goes_on_from_any_place_with_exactly_the_rest() {
        let pages = list(None);
        for (n, (_, place)) in pages.iter().enumerate().take(KEYS.len()) {
            let place = place.as_ref().expect("a place");
            assert_eq!(Place::parse(&place.to_cursor()).as_ref(), Some(place));
            let rest: Vec<_> = list(Some(place)).into_iter().flat_map(|(paths, _)| paths).collect();
            let expected: Vec<_> = pages[n + 1..].iter().flat_map(|(paths, _)| paths.clone()).collect();
            assert_eq!(rest, expected, "from {place:?}");
        }
    }

    #[test]
    fn text_that_is_no_place_is_refused() {
        for bad in ["", "keys:", "keys:1:", "keys:5:ab", "keys:x:ab", "done:a", "keys:1:é"] {
            assert_eq!(Place::parse(&ScanCursor(bad.into())), None, "{bad}");
        }
    }

    #[test]
    fn folder_too_large_to_hold_is_handed_over_early_without_a_place() {
        let mut groups = Groups::default();
        for n in 0..MAX_HELD {
            let key = format!("a/{n:08}");
            groups.push(&key, entry(&key));
        }
        let (entries, place) = groups.take();
        assert_eq!((entries.len(), place), (MAX_HELD, None));
        groups.push("b/1", entry("b/1"));
        assert!(groups.take().1.is_some(), "it is told again behind that folder");
    }
}
