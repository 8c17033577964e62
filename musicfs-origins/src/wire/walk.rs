//! A listing in order, over a network.
//!
//! Depth first, names in the order of their bytes: first the files of a folder, then its folders one after the
//! other. One folder after the other would cost a round trip each, so that the folders next in order are fetched
//! ahead, a few at a time; the order of what is handed over does not depend on the order of the answers.
//!
//! A folder is held whole while it is sorted. Beyond that the walk holds the names of the folders still to come
//! beside the way down to where it is, and the few listings that were fetched ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use musicfs_core::{
    Clock, FileVersion, MonoTime, OriginEntry, OriginErrorKind, OriginId, OriginPath, ScanPage, ScanRequest,
    ScanStream, UnlistedFolder,
};
use tokio::task::JoinHandle;

use super::Failure;
use crate::local::cursor::{Cursor, Position};

/// Entries after which a page is handed over: enough for a batch of writes, few enough to hold.
const PAGE_ENTRIES: usize = 1000;
/// Longest waiting for more before what was found is handed over.
const PAGE_TIME: Duration = Duration::from_millis(250);
/// Folders asked for at once.
const AHEAD: usize = 12;
/// Longest path in bytes: what an operating system would take, and an end for links in a circle that the server
/// hides from us.
const MAX_PATH: usize = 4095;

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    pub(crate) name: Vec<u8>,
    pub(crate) version: FileVersion,
}

/// A folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedFolder {
    pub(crate) name: Vec<u8>,
    /// What the server knows it by, so that a link back to a folder above is noticed.
    pub(crate) id: Option<u64>,
}

/// What is in a folder, in any order.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) files: Vec<ListedFile>,
    pub(crate) folders: Vec<ListedFolder>,
    /// Entries of which nothing can be said, such as links that may not be followed.
    pub(crate) unknown: Vec<(Vec<u8>, Failure)>,
    /// What the server knows the folder itself by, for the top of a listing, of which no folder above says it.
    pub(crate) id: Option<u64>,
}

/// A server's folders.
pub(crate) trait Folders: Send + Sync + 'static {
    /// Returns whose they are.
    fn origin(&self) -> &OriginId;
    /// Returns the clock that pages are cut by.
    fn clock(&self) -> &Arc<dyn Clock>;
    /// Lists one folder.
    fn list(self: Arc<Self>, folder: OriginPath) -> BoxFuture<'static, Result<Listed, Failure>>;
    /// Returns the version of the file at `path`, or `None` when it is a folder.
    fn look(self: Arc<Self>, path: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>>;
}

/// Lists what is asked for. Nothing happens before the stream is polled.
pub(crate) fn scan<F: Folders>(folders: Arc<F>, request: ScanRequest) -> ScanStream {
    let walk = stream::once(async move {
        match Walk::start(folders, request).await {
            Ok(walk) => stream::unfold(Some(walk), |walk| async {
                let mut walk = walk?;
                match walk.page().await {
                    Ok(page) if page.complete => Some((Ok(page), None)),
                    Ok(page) => Some((Ok(page), Some(walk))),
                    Err(error) => Some((Err(error), None)),
                }
            })
            .boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    });
    walk.flatten().boxed()
}

/// A listing that was asked for ahead. Dropping it calls it off.
struct Task(JoinHandle<Result<Listed, Failure>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The folders above a folder, as the server knows them.
struct Above {
    id: u64,
    next: Option<Arc<Above>>,
}

fn is_above(mut chain: Option<&Arc<Above>>, id: u64) -> bool {
    while let Some(link) = chain {
        if link.id == id {
            return true;
        }
        chain = link.next.as_ref();
    }
    false
}

/// A folder still to come.
struct Node {
    path: OriginPath,
    id: Option<u64>,
    above: Option<Arc<Above>>,
    task: Option<Task>,
}

struct Walk<F> {
    folders: Arc<F>,
    top: OriginPath,
    /// Folders still to come, the next one last.
    stack: Vec<Node>,
    /// Files of the folder that the walk is in, still to be handed over.
    files: VecDeque<ListedFile>,
    inside: OriginPath,
    page: ScanPage,
    /// When the first entry of the page was found.
    since: MonoTime,
    /// Up to where everything was listed.
    at: Option<Cursor>,
    resume: Option<Cursor>,
    /// What ends the listing, once all that was found before it is handed over.
    failed: Option<musicfs_core::OriginError>,
}

impl<F: Folders> Walk<F> {
    async fn start(folders: Arc<F>, request: ScanRequest) -> Result<Self, musicfs_core::OriginError> {
        let fail = |failure: Failure| failure.at(folders.origin(), &request.under);
        let mut resume = None;
        if let Some(text) = &request.resume {
            let cursor = Cursor::parse(text).filter(|c| c.folder.is_within(&request.under));
            let invalid = || Failure::new(OriginErrorKind::Invalid, "that is no place in this listing");
            resume = Some(cursor.ok_or_else(|| fail(invalid()))?);
        }
        let mut page = ScanPage::default();
        let mut stack = Vec::new();
        let found = if request.under.is_root() {
            None
        } else {
            Arc::clone(&folders).look(request.under.clone()).await.map_err(fail)?
        };
        match found {
            Some(version) => page.entries.push(OriginEntry { path: request.under.clone(), version }),
            None => stack.push(Node { path: request.under.clone(), id: None, above: None, task: None }),
        }
        let since = folders.clock().now();
        Ok(Self {
            folders,
            top: request.under.clone(),
            stack,
            files: VecDeque::new(),
            inside: request.under,
            page,
            since,
            at: None,
            resume,
            failed: None,
        })
    }

    /// Fills the next page.
    async fn page(&mut self) -> Result<ScanPage, musicfs_core::OriginError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            while self.page.entries.len() < PAGE_ENTRIES {
                let Some(file) = self.files.pop_front() else { break };
                let Ok(path) = self.inside.join(&file.name) else { continue };
                self.page.entries.push(OriginEntry { path, version: file.version });
                let last = self.files.is_empty();
                let file = (!last).then_some(file.name);
                self.at = Some(Cursor { folder: self.inside.clone(), file });
            }
            let found = self.page.entries.len() + self.page.unlisted.len();
            if found >= PAGE_ENTRIES {
                return Ok(self.hand_over());
            }
            self.ask_ahead();
            let Some(mut node) = self.stack.pop() else {
                let mut page = self.hand_over();
                page.complete = true;
                return Ok(page);
            };
            let Some(task) = node.task.as_mut() else { continue };
            let joined = if found == 0 {
                (&mut task.0).await
            } else {
                let due = self.folders.clock().sleep_until(self.since.plus(PAGE_TIME));
                tokio::select! {
                    biased;
                    joined = &mut task.0 => joined,
                    () = due => {
                        self.stack.push(node);
                        return Ok(self.hand_over());
                    }
                }
            };
            let listed = joined.unwrap_or_else(|e| Err(Failure::new(OriginErrorKind::Unavailable, e)));
            if let Err(error) = self.enter(node, listed) {
                if self.page.entries.is_empty() && self.page.unlisted.is_empty() {
                    return Err(error);
                }
                // Who goes on from the page before the failure need not list again what is in it.
                self.failed = Some(error);
                return Ok(self.hand_over());
            }
        }
    }

    fn hand_over(&mut self) -> ScanPage {
        let mut page = std::mem::take(&mut self.page);
        page.cursor = self.at.as_ref().map(Cursor::to_text);
        page
    }

    /// Asks for the folders that come next.
    fn ask_ahead(&mut self) {
        for node in self.stack.iter_mut().rev().take(AHEAD) {
            if node.task.is_none() {
                let listing = Arc::clone(&self.folders).list(node.path.clone());
                // A task of its own, whose bytes count for the listing as a whole.
                node.task = Some(Task(tokio::spawn(crate::Progress::current().scope(listing))));
            }
        }
    }

    /// Takes up a folder's listing.
    fn enter(
        &mut self,
        node: Node,
        listed: Result<Listed, Failure>,
    ) -> Result<(), musicfs_core::OriginError> {
        if self.page.entries.is_empty() && self.page.unlisted.is_empty() {
            self.since = self.folders.clock().now();
        }
        let Listed { mut files, mut folders, mut unknown, id } = match listed {
            Ok(listed) => listed,
            // A top that cannot be listed is a failure, and so is a server that went away; any other folder is
            // only named as unlisted.
            Err(failure) if node.path == self.top || failure.is_lost() => {
                return Err(failure.at(self.folders.origin(), &node.path));
            }
            Err(failure) => {
                self.unlisted(node.path, failure);
                return Ok(());
            }
        };
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        files.dedup_by(|a, b| a.name == b.name);
        folders.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        folders.dedup_by(|a, b| a.name == b.name);
        let resume = self.resume.take();
        match resume.as_ref().map_or(Position::Ahead, |cursor| cursor.position(&node.path)) {
            Position::Above(next) => {
                files.clear();
                unknown.clear();
                folders.retain(|folder| folder.name.as_slice() >= next);
                // The cursor counts until its own folder, or the first one after it, has been seen.
                self.resume = resume;
            }
            Position::Here => match resume.and_then(|cursor| cursor.file) {
                Some(last) => files.retain(|file| file.name > last),
                None => files.clear(),
            },
            Position::Ahead => {}
        }
        if files.is_empty() && self.resume.is_none() {
            self.at = Some(Cursor { folder: node.path.clone(), file: None });
        }
        for (name, failure) in unknown {
            if let Ok(path) = node.path.join(&name) {
                self.unlisted(path, failure);
            }
        }
        let above = match node.id.or(id) {
            Some(id) => Some(Arc::new(Above { id, next: node.above })),
            None => node.above,
        };
        for folder in folders.into_iter().rev() {
            if folder.id.is_some_and(|id| is_above(above.as_ref(), id)) {
                continue;
            }
            let Ok(path) = node.path.join(&folder.name) else { continue };
            if path.as_bytes().len() > MAX_PATH {
                let failure = Failure::new(OriginErrorKind::Invalid, "the path is too long");
                self.unlisted(path, failure);
                continue;
            }
            self.stack.push(Node { path, id: folder.id, above: above.clone(), task: None });
        }
        self.files = files.into();
        self.inside = node.path;
        Ok(())
    }

    fn unlisted(&mut self, path: OriginPath, failure: Failure) {
        let error = failure.at(self.folders.origin(), &path);
        self.page.unlisted.push(UnlistedFolder { path, error });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use musicfs_core::{OriginError, SystemClock};

    use super::*;

    /// What becomes of asking for a folder that is not as it should be.
    #[derive(Clone, Copy)]
    enum Broken {
        Denied,
        Lost,
    }

    /// A folder in a folder: its name and id.
    type Below = (&'static str, u64);

    /// Folders in memory, by path: names of files, and of folders with their ids.
    struct Shelf {
        id: OriginId,
        clock: Arc<dyn Clock>,
        folders: BTreeMap<&'static str, (Vec<String>, Vec<Below>)>,
        broken: BTreeMap<&'static str, Broken>,
        asked: AtomicUsize,
    }

    impl Folders for Shelf {
        fn origin(&self) -> &OriginId {
            &self.id
        }

        fn clock(&self) -> &Arc<dyn Clock> {
            &self.clock
        }

        fn list(self: Arc<Self>, folder: OriginPath) -> BoxFuture<'static, Result<Listed, Failure>> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let name = folder.to_string();
                match self.broken.get(name.as_str()) {
                    Some(Broken::Denied) => return Err(Failure::new(OriginErrorKind::Denied, "no")),
                    Some(Broken::Lost) => return Err(Failure::lost(OriginErrorKind::Unavailable, "gone")),
                    None => {}
                }
                let Some((files, folders)) = self.folders.get(name.as_str()) else {
                    return Err(Failure::new(OriginErrorKind::NotFound, "nothing"));
                };
                let file = |name: &String| ListedFile {
                    name: name.clone().into_bytes(),
                    version: FileVersion::default(),
                };
                let below =
                    |(name, id): &(&str, u64)| ListedFolder { name: name.as_bytes().to_vec(), id: Some(*id) };
                Ok(Listed {
                    files: files.iter().map(file).collect(),
                    folders: folders.iter().map(below).collect(),
                    unknown: Vec::new(),
                    id: Some(if name.is_empty() { 1 } else { own_id(&name) }),
                })
            })
        }

        fn look(self: Arc<Self>, _: OriginPath) -> BoxFuture<'static, Result<Option<FileVersion>, Failure>> {
            Box::pin(async { Ok(None) })
        }
    }

    fn own_id(path: &str) -> u64 {
        path.rsplit('/').next().unwrap_or_default().bytes().map(u64::from).sum()
    }

    fn shelf(broken: &[(&'static str, Broken)]) -> Arc<Shelf> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let folder = |name: &'static str| (name, own_id(name));
        let many = (0..2500).map(|n| format!("{n:04}")).collect();
        let folders = BTreeMap::from([
            ("", (names(&["z", "a"]), vec![folder("c"), folder("b"), ("loop", 1)])),
            ("b", (names(&["1", "2"]), vec![folder("x")])),
            ("b/x", (names(&["3"]), vec![folder("b")])),
            ("c", (many, vec![])),
            // Ids equal to one above are links back, and are not entered; these are never asked for.
            ("loop", (names(&["never"]), vec![])),
            ("b/x/b", (names(&["never"]), vec![])),
        ]);
        Arc::new(Shelf {
            id: "shelf".into(),
            clock: Arc::new(SystemClock::new()),
            folders,
            broken: broken.iter().copied().collect(),
            asked: AtomicUsize::new(0),
        })
    }

    async fn all(shelf: &Arc<Shelf>, resume: Option<musicfs_core::ScanCursor>) -> Vec<ScanPage> {
        let request = ScanRequest { under: OriginPath::root(), resume };
        scan(Arc::clone(shelf), request).map(Result::unwrap).collect().await
    }

    fn names(pages: &[ScanPage]) -> Vec<String> {
        pages.iter().flat_map(|page| &page.entries).map(|entry| entry.path.to_string()).collect()
    }

    #[tokio::test]
    async fn walk_is_in_order_in_pages_and_enters_no_circle() {
        let shelf = shelf(&[]);
        let pages = all(&shelf, None).await;
        let listed = names(&pages);
        assert_eq!(listed[..6], ["a", "z", "b/1", "b/2", "b/x/3", "c/0000"]);
        assert_eq!(listed.len(), 2505);
        assert!(pages.iter().all(|page| page.entries.len() <= PAGE_ENTRIES));
        assert!(pages.last().unwrap().complete && pages.len() >= 3);
        assert_eq!(
            shelf.asked.load(Ordering::SeqCst),
            4,
            "a folder was asked for twice, or a circle entered"
        );
    }

    #[tokio::test]
    async fn walk_goes_on_after_any_page() {
        let shelf = shelf(&[]);
        let pages = all(&shelf, None).await;
        let whole = names(&pages);
        for n in 0..pages.len() {
            let rest = all(&shelf, pages[n].cursor.clone()).await;
            assert_eq!([names(&pages[..=n]), names(&rest)].concat(), whole, "after page {n}");
        }
    }

    #[tokio::test]
    async fn folder_that_is_refused_is_named_and_the_rest_listed() {
        let pages = all(&shelf(&[("b/x", Broken::Denied)]), None).await;
        assert_eq!(names(&pages).len(), 2504);
        let unlisted: Vec<&UnlistedFolder> = pages.iter().flat_map(|page| &page.unlisted).collect();
        assert_eq!(unlisted.len(), 1);
        assert_eq!(
            (unlisted[0].path.to_string(), unlisted[0].error.kind),
            ("b/x".into(), OriginErrorKind::Denied)
        );
        assert!(pages.last().unwrap().complete);
    }

    #[tokio::test]
    async fn server_that_goes_away_ends_the_walk_with_one_error() {
        for broken in [("c", Broken::Lost), ("", Broken::Denied)] {
            let shelf = shelf(&[broken]);
            let found: Vec<Result<ScanPage, OriginError>> = scan(shelf, ScanRequest::all()).collect().await;
            let (last, before) = found.split_last().unwrap();
            assert!(last.is_err());
            assert!(before.iter().all(|page| page.as_ref().is_ok_and(|page| !page.complete)));
        }
    }

    #[tokio::test]
    async fn nothing_is_asked_before_the_stream_is_polled() {
        let shelf = shelf(&[]);
        let stream = scan(Arc::clone(&shelf), ScanRequest::all());
        assert_eq!(shelf.asked.load(Ordering::SeqCst), 0);
        drop(stream);
        let bad =
            ScanRequest { under: OriginPath::root(), resume: Some(musicfs_core::ScanCursor("x".into())) };
        let refused = scan(shelf, bad).next().await.unwrap();
        assert_eq!(refused.unwrap_err().kind, OriginErrorKind::Invalid);
    }
}
