//! What every [`MetaDb`] promises, the rules of the tree included.

mod batches;
mod copies;
mod files;
mod model;
mod queries;
mod tree;

use std::any::Any;
use std::sync::Arc;

use musicfs_core::{
    Applied, Batch, ByteRange, Change, ChunkExtent, ChunkHash, ChunkManifest, Cookie, FileId, FileKind,
    FileMeta, FileQuery, FileState, FileVersion, Format, Ino, MetaDb, MetaError, Node, Op, OriginId,
    OriginPath, Placement, ROOT_INODE, Revision, Totals, UnixNanos, VirtualPath,
};

pub use batches::{
    batch_raises_the_revision_by_one, batches_of_many_writers_are_applied_one_by_one,
    failing_batch_changes_nothing, operation_on_an_unknown_file_fails, readers_see_batches_whole,
    subscriber_is_told_each_new_revision,
};
pub use copies::{
    copies_share_one_entry, copy_takes_over_when_the_leader_goes, copy_that_differs_later_leaves,
    preferred_origin_leads_whoever_came_first,
};
pub use files::{
    file_put_comes_back_whole, forgotten_file_leaves_nothing, id_of_another_path_is_taken,
    manifest_is_replaced_with_its_version, manifests_come_in_pages, manifests_with_guesses_are_found,
    moved_file_is_the_same_file, notes_are_kept_by_key, put_again_keeps_place_and_manifest,
    state_changes_alone, time_of_going_is_remembered,
};
pub use model::any_batches_do_what_the_model_does;
pub use queries::{
    albums_of_several_discs_are_named_once, changes_come_in_pages_of_whole_revisions,
    changes_tell_every_consequence, known_files_are_visited_once, marks_follow_the_order_of_arrival,
    queries_give_their_files_in_pages, shown_files_are_walked_once, totals_follow_every_change,
};
pub use tree::{
    cookies_grow_and_are_not_used_twice, directories_come_and_go_with_their_entries,
    directory_gives_way_to_a_file_of_its_name, directory_is_listed_in_pages,
    directory_takes_the_time_of_its_entries_changes, moved_file_leaves_its_old_place,
    names_that_are_not_utf8_are_kept, others_keep_their_names, placed_file_is_found_every_way,
    placing_again_where_it_is_changes_nothing_else, preferred_number_is_taken_when_free,
    root_is_its_own_parent, taken_name_gives_a_number_and_says_so, unplaced_file_stays_known,
};

/// An empty catalogue.
pub struct Fixture {
    db: Arc<dyn MetaDb>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// Takes an empty catalogue.
    pub fn new(db: impl MetaDb) -> Self {
        Self { db: Arc::new(db), _keep: Box::new(()) }
    }

    /// Keeps something for as long as the check lasts: a temporary folder.
    pub fn keeping(mut self, keep: impl Any + Send + Sync) -> Self {
        self._keep = Box::new(keep);
        self
    }

    fn apply(&self, at: i64, ops: impl Into<Vec<Op>>) -> Applied {
        self.db.apply(&Batch { at: UnixNanos(at), ops: ops.into() }).expect("a batch that is applied")
    }

    fn refused(&self, ops: impl Into<Vec<Op>>) -> MetaError {
        let before = (self.revision(), self.totals());
        let refused = self.db.apply(&Batch { at: UnixNanos(1), ops: ops.into() });
        assert_eq!((self.revision(), self.totals()), before, "a batch that fails changes nothing");
        refused.expect_err("a batch that fails")
    }

    /// Puts files and shows each at its own path, in one batch.
    fn show(&self, at: i64, files: &[&FileMeta]) -> Applied {
        let ops: Vec<Op> =
            files.iter().flat_map(|file| [put(file), place(file, &file.path.to_string())]).collect();
        self.apply(at, ops)
    }

    fn file(&self, id: FileId) -> Option<FileMeta> {
        self.db.file(id).expect("an answer")
    }

    fn node(&self, ino: Ino) -> Option<Node> {
        self.db.node(ino).expect("an answer")
    }

    fn revision(&self) -> Revision {
        self.db.revision().expect("an answer")
    }

    fn totals(&self) -> Totals {
        self.db.totals().expect("an answer")
    }

    fn lookup(&self, parent: Ino, name: impl AsRef<[u8]>) -> Option<Node> {
        self.db.lookup(parent, name.as_ref()).expect("an answer")
    }

    /// Walks down a path.
    fn at(&self, path: &str) -> Option<Node> {
        let root = self.node(ROOT_INODE);
        path.split('/').try_fold(root.expect("a root"), |node, name| self.lookup(node.ino, name))
    }

    fn list(&self, dir: Ino) -> Vec<Node> {
        self.db.list(dir, Cookie(0), usize::MAX).expect("an answer")
    }

    fn names(&self, dir: Ino) -> Vec<String> {
        self.list(dir).into_iter().map(|node| node.name.expect("a name").to_string()).collect()
    }

    fn shown_at(&self, file: &FileMeta) -> Option<String> {
        self.file(file.id).expect("a known file").shown_at.map(|path| path.to_string())
    }

    /// Goes through a query page by page.
    fn query(&self, query: &FileQuery, limit: usize) -> Vec<FileMeta> {
        let (mut files, mut after) = (Vec::new(), None);
        loop {
            let page = self.db.files(query, after, limit).expect("an answer");
            assert!(page.files.len() <= limit);
            assert!(page.next.is_none() || page.next == page.files.last().map(|file| file.id));
            files.extend(page.files);
            after = page.next;
            if after.is_none() {
                assert!(files.is_sorted_by_key(|file| file.id), "in order of id");
                return files;
            }
        }
    }

    /// All changes, asked for in pages of about `limit`.
    fn changes(&self, from: Revision, limit: usize) -> Vec<Change> {
        let (mut changes, mut at) = (Vec::new(), from);
        while at < self.revision() {
            let next = self.db.changes_since(at, limit).expect("an answer");
            assert!(!next.truncated && next.upto > at, "{next:?}");
            changes.extend(next.changes);
            at = next.upto;
        }
        changes
    }
}

fn file_on(origin: &str, path: impl AsRef<[u8]>, size: u64) -> FileMeta {
    let (origin, path) = (OriginId::from(origin), OriginPath::new(path).expect("a legal path"));
    FileMeta {
        id: FileId::derive(&origin, &path, 0),
        origin,
        path,
        version: FileVersion { size, mtime: Some(UnixNanos(7_000_000_001)), etag: None },
        kind: FileKind::Audio,
        state: FileState::Present,
        format: Some(Format::Flac),
        audio: Some(Box::default()),
        problem: None,
        shown_at: None,
    }
}

fn file(path: &str) -> FileMeta {
    file_on("one", path, 100)
}

fn put(file: &FileMeta) -> Op {
    Op::PutFile(Box::new(file.clone()))
}

fn place(file: &FileMeta, path: &str) -> Op {
    place_as(file, path, 0)
}

fn place_as(file: &FileMeta, path: &str, prefer: u32) -> Op {
    Op::Place(Placement { id: file.id, path: virtual_path(path), prefer })
}

fn virtual_path(path: &str) -> VirtualPath {
    VirtualPath::from_text(path).expect("a legal path")
}

fn manifest_of(len: u64) -> ChunkManifest {
    let mut manifest = ChunkManifest::default();
    manifest.insert(ChunkExtent { range: ByteRange::at(0, len / 2), hash: ChunkHash::of(b"a") });
    manifest.insert(ChunkExtent { range: ByteRange::at(len / 2 + 1, 1), hash: ChunkHash::of(b"b") });
    manifest
}

/// Makes tests of all that a [`MetaDb`](musicfs_core::MetaDb) promises.
///
/// Takes a name for the module of tests, and an expression that gives a
/// [`Fixture`](crate::conformance::meta_db::Fixture).
#[macro_export]
macro_rules! meta_db_conformance {
    ($suite:ident, $factory:expr) => {
        $crate::__conformance_suite! { sync meta_db $suite ($factory)
            batch_raises_the_revision_by_one
            failing_batch_changes_nothing
            operation_on_an_unknown_file_fails
            id_of_another_path_is_taken
            file_put_comes_back_whole
            put_again_keeps_place_and_manifest
            state_changes_alone
            forgotten_file_leaves_nothing
            manifest_is_replaced_with_its_version
            manifests_come_in_pages
            manifests_with_guesses_are_found
            notes_are_kept_by_key
            moved_file_is_the_same_file
            time_of_going_is_remembered
            root_is_its_own_parent
            placed_file_is_found_every_way
            names_that_are_not_utf8_are_kept
            taken_name_gives_a_number_and_says_so
            preferred_number_is_taken_when_free
            others_keep_their_names
            placing_again_where_it_is_changes_nothing_else
            moved_file_leaves_its_old_place
            directory_gives_way_to_a_file_of_its_name
            directories_come_and_go_with_their_entries
            directory_takes_the_time_of_its_entries_changes
            unplaced_file_stays_known
            cookies_grow_and_are_not_used_twice
            directory_is_listed_in_pages
            queries_give_their_files_in_pages
            shown_files_are_walked_once
            marks_follow_the_order_of_arrival
            known_files_are_visited_once
            albums_of_several_discs_are_named_once
            totals_follow_every_change
            changes_tell_every_consequence
            changes_come_in_pages_of_whole_revisions
            subscriber_is_told_each_new_revision
            readers_see_batches_whole
            batches_of_many_writers_are_applied_one_by_one
            copies_share_one_entry
            preferred_origin_leads_whoever_came_first
            copy_takes_over_when_the_leader_goes
            copy_that_differs_later_leaves
            any_batches_do_what_the_model_does
        }
    };
}
