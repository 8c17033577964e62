//! Any sequence of batches does to the catalogue what it does to the model: core's `VirtualTree` and a map.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::{
    AudioIdentity, AudioMeta, Batch, Change, Cookie, FileId, FileKind, FileMeta, FileQuery, FileState,
    FileVersion, Ino, MetaDb, MetaError, Name, Node, NodeKind, Op, OriginId, Placement, ROOT_INODE, Revision,
    Shown, Standing, Suffixed, Totals, UnixNanos, VirtualPath, VirtualTree,
};
use proptest::prelude::*;

use super::{Fixture, file};

#[derive(Clone)]
struct Model {
    tree: VirtualTree,
    files: BTreeMap<FileId, FileMeta>,
    wanted: BTreeMap<FileId, VirtualPath>,
    ranks: Vec<OriginId>,
}

impl Model {
    fn new() -> Self {
        Self { tree: VirtualTree::new(), files: BTreeMap::new(), wanted: BTreeMap::new(), ranks: Vec::new() }
    }

    fn rank(&self, origin: &OriginId) -> u32 {
        self.ranks.iter().position(|known| known == origin).map_or(u32::MAX, |rank| rank as u32)
    }

    fn standing(&self, id: FileId) -> Standing {
        let file = &self.files[&id];
        Standing::new(file.state, self.rank(&file.origin))
    }

    /// Applies an operation; `Err` for one on an unknown file.
    fn op(
        &mut self,
        op: &Op,
        at: UnixNanos,
        changes: &mut Vec<Change>,
        suffixed: &mut Vec<Suffixed>,
    ) -> Result<(), FileId> {
        match op {
            Op::PutFile(file) => {
                let old = self.files.insert(file.id, (**file).clone());
                match old {
                    Some(old) if old == **file => {}
                    Some(old) => {
                        let content = !old.version.is_same(&file.version);
                        changes.push(Change::FileChanged { id: file.id, content });
                    }
                    None => changes.push(Change::FileChanged { id: file.id, content: true }),
                }
                // The entry follows the row: to show it where it is wanted already sets its size and time.
                if let Some(path) = self.wanted.get(&file.id).cloned() {
                    let n = self.show(&Placement { id: file.id, path: path.clone(), prefer: 0 }, at, changes);
                    if n >= 2 {
                        suffixed.push(Suffixed { id: file.id, path, n });
                    }
                }
            }
            Op::Place(placement) => {
                self.known(placement.id)?;
                let n = self.show(placement, at, changes);
                self.wanted.insert(placement.id, placement.path.clone());
                if n >= 2 {
                    suffixed.push(Suffixed { id: placement.id, path: placement.path.clone(), n });
                }
            }
            Op::Unplace(id) => {
                self.known(*id)?;
                self.hide(*id, at, changes);
            }
            Op::SetState(id, state) => {
                self.known(*id)?;
                let file = self.files.get_mut(id).unwrap();
                if file.state != *state {
                    file.state = *state;
                    changes.push(Change::FileChanged { id: *id, content: false });
                    let made = self.tree.restand([(*id, self.standing(*id))], at);
                    changes.extend(made.into_iter().map(|c| entry(c.parent, c.name, c.ino, c.added)));
                }
            }
            Op::RankOrigins(origins) => {
                self.ranks.clone_from(origins);
                let standings: Vec<_> = self.files.keys().map(|id| (*id, self.standing(*id))).collect();
                let made = self.tree.restand(standings, at);
                changes.extend(made.into_iter().map(|c| entry(c.parent, c.name, c.ino, c.added)));
            }
            Op::Forget(id) => {
                self.known(*id)?;
                self.hide(*id, at, changes);
                self.files.remove(id);
                changes.push(Change::FileForgotten { id: *id });
            }
            Op::Move { .. } | Op::PutManifest { .. } | Op::Correct(_) | Op::SetNote { .. } => {
                unreachable!("not generated")
            }
        }
        Ok(())
    }

    fn known(&self, id: FileId) -> Result<(), FileId> {
        self.files.contains_key(&id).then_some(()).ok_or(id)
    }

    fn show(&mut self, placement: &Placement, at: UnixNanos, changes: &mut Vec<Change>) -> u32 {
        let file = &self.files[&placement.id];
        let (made, n) = self.tree.place(placement, Shown::of(file, self.rank(&file.origin)), at);
        changes.extend(made.into_iter().map(|c| entry(c.parent, c.name, c.ino, c.added)));
        n
    }

    fn hide(&mut self, id: FileId, at: UnixNanos, changes: &mut Vec<Change>) {
        self.wanted.remove(&id);
        let made = self.tree.unplace(id, at);
        changes.extend(made.into_iter().map(|c| entry(c.parent, c.name, c.ino, c.added)));
    }

    fn totals(&self) -> Totals {
        let shown = || self.files.values().filter(|file| self.tree.copies(file.id).first() == Some(&file.id));
        let all = |test: fn(&FileMeta) -> bool| self.files.values().filter(|f| test(f)).count() as u64;
        Totals {
            files: shown().count() as u64,
            bytes: shown().map(|file| file.version.size).sum(),
            tracks: shown().filter(|file| file.kind == FileKind::Audio).count() as u64,
            problems: all(|file| file.kind == FileKind::Unparsed),
            missing: all(|file| file.state == FileState::Missing),
            dirs: self.tree.dirs() as u64,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        walk(|dir| self.tree.list(dir, Cookie(0)).cloned().collect())
    }
}

fn entry(parent: Ino, name: Name, ino: Ino, added: bool) -> Change {
    if added { Change::EntryAdded { parent, name, ino } } else { Change::EntryRemoved { parent, name, ino } }
}

/// All nodes below the root, depth first, in the order of the listings.
fn walk(list: impl Fn(Ino) -> Vec<Node>) -> Vec<Node> {
    fn down(dir: Ino, list: &impl Fn(Ino) -> Vec<Node>, nodes: &mut Vec<Node>) {
        for node in list(dir) {
            let (kind, ino) = (node.kind, node.ino);
            nodes.push(node);
            if kind == NodeKind::Dir {
                down(ino, list, nodes);
            }
        }
    }
    let mut nodes = Vec::new();
    down(ROOT_INODE, &list, &mut nodes);
    nodes
}

/// Lists a directory of the catalogue two entries at a time.
fn paged(fixture: &Fixture, dir: Ino) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    loop {
        let after = nodes.last().map_or(Cookie(0), |node| node.cookie);
        let page = fixture.db.list(dir, after, 2).unwrap();
        if page.is_empty() {
            return nodes;
        }
        nodes.extend(page);
    }
}

fn assert_same(fixture: &Fixture, model: &Model) {
    let db = &fixture.db;
    let nodes = walk(|dir| paged(fixture, dir));
    assert_eq!(nodes, model.nodes());
    assert_eq!(db.node(ROOT_INODE).unwrap().as_ref(), model.tree.get(ROOT_INODE));
    for node in &nodes {
        assert_eq!(db.node(node.ino).unwrap().as_ref(), Some(node));
        let name = node.name.as_ref().unwrap();
        assert_eq!(db.lookup(node.parent, name.as_bytes()).unwrap().as_ref(), Some(node));
    }
    assert_eq!(db.totals().unwrap(), model.totals());
    let expected: Vec<FileMeta> = model
        .files
        .values()
        .map(|file| FileMeta { shown_at: model.tree.shown_at(file.id), ..file.clone() })
        .collect();
    let mut files = Vec::new();
    let mut after = None;
    loop {
        let page = db.files(&FileQuery::All, after, 3).unwrap();
        files.extend(page.files);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(files, expected);
    for file in &expected {
        assert_eq!(db.file(file.id).unwrap().as_ref(), Some(file));
        let copies: Vec<FileId> = db.copies(file.id).unwrap().iter().map(|copy| copy.id).collect();
        assert_eq!(copies, model.tree.copies(file.id));
        let leads = copies.first() == Some(&file.id);
        assert_eq!(db.node(file.id.ino()).unwrap().is_some(), leads);
    }
}

/// Follows the changes from the beginning, some at a time.
fn follow(fixture: &Fixture) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut at = Revision(0);
    while at < fixture.db.revision().unwrap() {
        let next = fixture.db.changes_since(at, 3).unwrap();
        assert!(!next.truncated && next.upto > at);
        changes.extend(next.changes);
        at = next.upto;
    }
    changes
}

fn replay(changes: &[Change]) -> BTreeSet<(Ino, Name, Ino)> {
    let mut entries = BTreeSet::new();
    for change in changes {
        match change {
            Change::EntryAdded { parent, name, ino } => {
                assert!(entries.insert((*parent, name.clone(), *ino)));
            }
            Change::EntryRemoved { parent, name, ino } => {
                assert!(entries.remove(&(*parent, name.clone(), *ino)));
            }
            Change::FileChanged { .. } | Change::FileForgotten { .. } => {}
        }
    }
    entries
}

fn any_file() -> impl Strategy<Value = FileMeta> {
    let paths = ["x", "a/x", "a/y", "a/b/x", "c/z.flac"];
    let kinds = [FileKind::Audio, FileKind::Sidecar, FileKind::Unparsed, FileKind::Other];
    (0..2usize, 0..paths.len(), 0..3u64, 0..3i64, 0..3usize, 0..4usize).prop_map(
        move |(origin, path, size, mtime, etag, kind)| {
            let mut file = file(["nas", "usb"][origin], paths[path]);
            file.version = FileVersion {
                size,
                mtime: (mtime > 0).then_some(UnixNanos(mtime)),
                etag: [None, None, Some("e".into())][etag].clone(),
            };
            file.kind = kinds[kind];
            if file.kind == FileKind::Audio && size > 0 {
                let identity = Some(AudioIdentity::FlacMd5 { md5: [size as u8; 16], samples: 1 });
                file.audio = Some(Box::new(AudioMeta { identity, ..AudioMeta::default() }));
            }
            file.problem = (file.kind == FileKind::Unparsed).then(|| "cut short".to_owned());
            file
        },
    )
}

fn any_path() -> impl Strategy<Value = VirtualPath> {
    let dirs = prop::collection::vec(prop::sample::select(vec!["A", "x", "x (2)", "B.flac"]), 0..3);
    let leaf = prop::sample::select(vec!["x", "A", "x (2)", "x (3)", "B.flac"]);
    (dirs, leaf).prop_map(|(mut names, leaf)| {
        names.push(leaf);
        VirtualPath::from_text(&names.join("/")).unwrap()
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let states = vec![FileState::Pending, FileState::Present, FileState::Missing];
    let id = || any_file().prop_map(|file| file.id);
    prop_oneof![
        4 => any_file().prop_map(|file| Op::PutFile(Box::new(file))),
        // A file is nearly always put before it is shown, or few batches would go through.
        6 => (id(), any_path(), 0..4u32).prop_map(|(id, path, prefer)| Op::Place(Placement { id, path, prefer })),
        2 => id().prop_map(Op::Unplace),
        1 => id().prop_map(Op::Forget),
        1 => prop::sample::subsequence(vec!["nas", "usb"], 0..=2).prop_shuffle()
            .prop_map(|origins| Op::RankOrigins(origins.into_iter().map(OriginId::from).collect())),
        1 => (id(), prop::sample::select(states)).prop_map(|(id, state)| Op::SetState(id, state)),
    ]
}

/// All files there can be, put at the beginning so that most operations find theirs.
fn everything() -> Vec<Op> {
    let paths = ["x", "a/x", "a/y", "a/b/x", "c/z.flac"];
    let files = paths.iter().flat_map(|path| [file("nas", path), file("usb", path)]);
    files.map(|file| Op::PutFile(Box::new(file))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_batches_do_to_the_catalogue_what_they_do_to_the_model(
        batches in prop::collection::vec(prop::collection::vec(any_op(), 0..24), 1..8),
        reopen in 0..8usize,
    ) {
        let mut fixture = Fixture::new();
        let mut model = Model::new();
        let mut changes = Vec::new();
        let mut revision = 0;
        for (n, ops) in std::iter::once(everything()).chain(batches).enumerate() {
            let at = UnixNanos(1000 + n as i64);
            let mut next = model.clone();
            let (mut made, mut suffixed) = (Vec::new(), Vec::new());
            let expected = ops.iter().try_for_each(|op| next.op(op, at, &mut made, &mut suffixed));
            match (expected, fixture.db.apply(&Batch { at, ops })) {
                (Ok(()), Ok(applied)) => {
                    revision += 1;
                    prop_assert_eq!(applied.revision, Revision(revision));
                    prop_assert_eq!(applied.suffixed, suffixed);
                    model = next;
                    changes.extend(made);
                }
                (Err(id), Err(MetaError::UnknownFile(named))) => prop_assert_eq!(named, id),
                (expected, applied) => panic!("{expected:?} was expected, got {applied:?}"),
            }
            if n == reopen {
                fixture = fixture.reopen();
            }
            assert_same(&fixture, &model);
        }
        let followed = follow(&fixture);
        prop_assert_eq!(&followed, &changes);
        let entries: BTreeSet<_> =
            model.nodes().into_iter().map(|node| (node.parent, node.name.unwrap(), node.ino)).collect();
        prop_assert_eq!(replay(&followed), entries);
    }
}
