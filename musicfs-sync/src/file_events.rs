//! Events about files, derived from the catalogue's changes.
//!
//! What happened to a file between two looks is told as one event for its place (added, removed, moved) and one for
//! its content. While nobody listens nothing is read.
//!
//! The catalogue is asked on a blocking thread; no lock is held.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use musicfs_core::{Change, EventBus, EventKind, FileId, Ino, MetaDb, MetaError, Name, ROOT_INODE, Revision};

/// Changes read at once: a batch of a scan, and few enough that a listener keeps up.
const CHANGES: usize = 2048;
/// More names than any path in the tree has.
const DEEPEST: usize = 4096;

/// Publishes what happens to files from now on, until the catalogue is closed. Dropping the future ends it.
pub async fn publish_file_events(db: Arc<dyn MetaDb>, events: EventBus) {
    let mut revisions = db.subscribe();
    let mut since = *revisions.borrow_and_update();
    while revisions.changed().await.is_ok() {
        let latest = *revisions.borrow_and_update();
        if !events.is_heard() {
            since = latest;
            continue;
        }
        let (db, events) = (db.clone(), events.clone());
        let told = tokio::task::spawn_blocking(move || tell(&*db, &events, since)).await;
        since = match told {
            Ok(Ok(upto)) => upto,
            Ok(Err(error)) => {
                tracing::warn!(%error, "changes of the catalogue could not be read; they are told with the next");
                since
            }
            Err(error) => {
                tracing::error!(%error, "changes of the catalogue could not be told");
                latest
            }
        };
    }
}

/// Publishes all that happened after a revision, and returns the one that is reached.
fn tell(db: &dyn MetaDb, events: &EventBus, mut since: Revision) -> Result<Revision, MetaError> {
    loop {
        let page = db.changes_since(since, CHANGES)?;
        if page.truncated {
            tracing::warn!("changes of the catalogue came faster than they could be told; some are not");
            // Nobody knows any more how many there were.
            events.publish(EventKind::Lagged { missed: page.upto.0.saturating_sub(since.0).max(1) });
        }
        for event in file_events(db, &page.changes)? {
            events.publish(event);
        }
        if page.upto == since {
            return Ok(since);
        }
        since = page.upto;
    }
}

/// Returns what changes of the catalogue mean for its files, in the order in which the files were first touched.
///
/// # Errors
/// When the catalogue cannot be asked for paths.
pub fn file_events(db: &dyn MetaDb, changes: &[Change]) -> Result<Vec<EventKind>, MetaError> {
    let mut files: HashMap<FileId, Happened> = HashMap::new();
    let mut order = Vec::new();
    let mut paths = Paths::new(db, changes);
    for change in changes {
        let id = match change {
            Change::EntryAdded { ino, .. } | Change::EntryRemoved { ino, .. } => match ino.file_id() {
                Some(id) => id,
                None => continue,
            },
            Change::FileChanged { id, .. } | Change::FileForgotten { id } => *id,
        };
        let file = match files.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                order.push(id);
                new.insert(Happened::default())
            }
        };
        match change {
            Change::EntryAdded { parent, name, .. } => {
                file.touched = true;
                file.now = Some(paths.of(*parent, name)?);
            }
            Change::EntryRemoved { parent, name, .. } => {
                let path = paths.of(*parent, name)?;
                if !file.touched {
                    file.touched = true;
                    file.before = Some(path);
                }
                file.now = None;
            }
            Change::FileChanged { content, .. } => {
                file.changed = Some(*content | file.changed.unwrap_or(false))
            }
            Change::FileForgotten { .. } => file.changed = None,
        }
    }
    let mut events = Vec::new();
    for id in order {
        let Some(file) = files.remove(&id) else { continue };
        file.tell(db, id, &mut events)?;
    }
    Ok(events)
}

/// What happened to one file.
#[derive(Default)]
struct Happened {
    /// Whether its place changed.
    touched: bool,
    /// Where it was before, when its place changed and it had one.
    before: Option<String>,
    /// Where it is now, when its place changed and it has one.
    now: Option<String>,
    /// Whether what is known of it changed, and if so, whether its bytes did.
    changed: Option<bool>,
}

impl Happened {
    fn tell(self, db: &dyn MetaDb, id: FileId, events: &mut Vec<EventKind>) -> Result<(), MetaError> {
        let moved_to = match (self.touched, self.before, self.now) {
            (true, None, Some(path)) => {
                events.push(EventKind::FileAdded { id, path });
                return Ok(());
            }
            (true, Some(path), None) => {
                events.push(EventKind::FileRemoved { id, path });
                return Ok(());
            }
            (true, None, None) => return Ok(()),
            (true, Some(from), Some(path)) => {
                if from != path {
                    events.push(EventKind::FileMoved { id, from, path: path.clone() });
                }
                Some(path)
            }
            (false, ..) => None,
        };
        let Some(content) = self.changed else { return Ok(()) };
        let path = match moved_to {
            Some(path) => Some(path),
            None => db.file(id)?.and_then(|file| file.shown_at).map(|path| path.to_string()),
        };
        // What is not in the tree is nobody's news.
        events.extend(path.map(|path| EventKind::FileModified { id, path, content }));
        Ok(())
    }
}

/// Finds paths of directories, also of those that went with the changes at hand.
struct Paths<'a> {
    db: &'a dyn MetaDb,
    gone: HashMap<Ino, (Ino, &'a Name)>,
    known: HashMap<Ino, String>,
}

impl<'a> Paths<'a> {
    fn new(db: &'a dyn MetaDb, changes: &'a [Change]) -> Self {
        let gone = changes.iter().filter_map(|change| match change {
            Change::EntryRemoved { parent, name, ino } if ino.file_id().is_none() => {
                Some((*ino, (*parent, name)))
            }
            _ => None,
        });
        Self { db, gone: gone.collect(), known: HashMap::from([(ROOT_INODE, String::new())]) }
    }

    fn of(&mut self, parent: Ino, name: &Name) -> Result<String, MetaError> {
        let mut below = Vec::new();
        let mut at = parent;
        while !self.known.contains_key(&at) && below.len() < DEEPEST {
            let (up, name) = match self.gone.get(&at) {
                // A directory's number follows from its path: wherever it is looked up, its path is the same.
                Some((up, name)) => (*up, name.to_string()),
                None => match self.db.node(at)? {
                    Some(node) => (node.parent, node.name.map(|name| name.to_string()).unwrap_or_default()),
                    // It came and went after these changes; the events about that follow.
                    None => (ROOT_INODE, "…".to_owned()),
                },
            };
            below.push((at, name));
            at = up;
        }
        for (dir, name) in below.into_iter().rev() {
            let path = format!("{}{name}/", self.known.get(&at).map_or("", String::as_str));
            self.known.insert(dir, path);
            at = dir;
        }
        Ok(format!("{}{name}", self.known.get(&parent).map_or("", String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{Batch, Op, Placement, SystemClock, UnixNanos, VirtualPath};
    use musicfs_test_utils::{MemoryMetaDb, make_file_meta};

    fn path(text: &str) -> VirtualPath {
        VirtualPath::new(text.split('/').map(|part| Name::new(part).unwrap()).collect()).unwrap()
    }

    fn put(id: i64) -> Op {
        Op::PutFile(Box::new(make_file_meta(id, &format!("a/{id}.flac"), 5)))
    }

    fn place(id: i64, at: &str) -> Op {
        Op::Place(Placement { id: FileId::from_raw(id).unwrap(), path: path(at), prefer: 0 })
    }

    fn apply(db: &MemoryMetaDb, ops: Vec<Op>) {
        db.apply(&Batch { at: UnixNanos(0), ops }).unwrap();
    }

    /// Applies batches, and returns what they mean together.
    fn events(db: &MemoryMetaDb, batches: Vec<Vec<Op>>) -> Vec<EventKind> {
        let since = db.revision().unwrap();
        batches.into_iter().for_each(|ops| apply(db, ops));
        file_events(db, &db.changes_since(since, 10_000).unwrap().changes).unwrap()
    }

    #[test]
    fn file_that_comes_moves_changes_and_goes_is_told_so() {
        let db = MemoryMetaDb::new();
        let id = FileId::from_raw(1).unwrap();
        let added = EventKind::FileAdded { id, path: "A/B/c.flac".into() };
        assert_eq!(events(&db, vec![vec![put(1)], vec![place(1, "A/B/c.flac")]]), [added]);
        let moved = EventKind::FileMoved { id, from: "A/B/c.flac".into(), path: "D/e.flac".into() };
        assert_eq!(events(&db, vec![vec![place(1, "D/e.flac")]]), [moved]);
        let mut changed = make_file_meta(1, "a/1.flac", 6);
        changed.version.mtime = Some(UnixNanos(9));
        let modified = EventKind::FileModified { id, path: "D/e.flac".into(), content: true };
        assert_eq!(events(&db, vec![vec![Op::PutFile(Box::new(changed))]]), [modified]);
        let removed = EventKind::FileRemoved { id, path: "D/e.flac".into() };
        assert_eq!(events(&db, vec![vec![Op::Forget(id)]]), [removed]);
    }

    #[test]
    fn file_that_comes_and_goes_between_two_looks_is_no_news() {
        let db = MemoryMetaDb::new();
        let id = FileId::from_raw(1).unwrap();
        let batches = vec![vec![put(1), place(1, "A/c.flac")], vec![Op::Unplace(id)]];
        assert_eq!(events(&db, batches), []);
        assert_eq!(events(&db, vec![vec![put(2)]]), [], "it is in no place of the tree");
    }

    #[tokio::test]
    async fn listener_is_told_when_changes_came_faster_than_they_are_kept() {
        let db = MemoryMetaDb::new().keeping_changes_of(1);
        (1..6).for_each(|id| apply(&db, vec![put(id), place(id, &format!("{id}.flac"))]));
        let bus = EventBus::new(Arc::new(SystemClock::new()));
        let mut stream = bus.subscribe();
        assert_eq!(tell(&db, &bus, Revision(0)).unwrap(), db.revision().unwrap());
        let first = stream.next().await.unwrap();
        assert!(matches!(first.kind, EventKind::Lagged { missed: 1.. }), "{first:?}");
    }

    #[tokio::test]
    async fn listener_is_told_of_all_files_and_nobody_else_costs_anything() {
        let db = Arc::new(MemoryMetaDb::new());
        let bus = EventBus::new(Arc::new(SystemClock::new()));
        let task = tokio::spawn(publish_file_events(db.clone(), bus.clone()));
        apply(&db, vec![put(1), place(1, "unheard.flac")]);
        tokio::task::yield_now().await;
        let mut stream = bus.subscribe();
        apply(&db, vec![put(2), place(2, "heard.flac")]);
        let heard = loop {
            match &stream.next().await.unwrap().kind {
                EventKind::FileAdded { path, .. } if path == "unheard.flac" => {}
                kind => break kind.clone(),
            }
        };
        let id = FileId::from_raw(2).unwrap();
        assert_eq!(heard, EventKind::FileAdded { id, path: "heard.flac".into() });
        task.abort();
    }
}
