//! Any sequence of batches does to a catalogue what it does to the model, [`VirtualTree`].

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::{
    Change, Cookie, FileId, FileMeta, FileVersion, Ino, Name, Node, Op, Placement, ROOT_INODE, Revision,
    Shown, UnixNanos, VirtualPath, VirtualTree,
};

use super::{Fixture, file_on, put};
use crate::conformance::Dice;

/// Batches in one run, and runs.
const BATCHES: i64 = 60;
const RUNS: u64 = 4;
/// Files and names that operations pick from: few, so that they meet.
const FILES: usize = 10;
const NAMES: [&str; 4] = ["A", "x.flac", "x (2).flac", "B"];

struct Model {
    tree: VirtualTree,
    files: BTreeMap<FileId, FileMeta>,
    wanted: BTreeMap<FileId, VirtualPath>,
}

impl Model {
    fn show(&mut self, placement: &Placement, at: UnixNanos) {
        self.tree.place(placement, Shown::of(&self.files[&placement.id], u32::MAX), at);
        self.wanted.insert(placement.id, placement.path.clone());
    }

    fn op(&mut self, op: &Op, at: UnixNanos) {
        match op {
            Op::PutFile(file) => {
                self.files.insert(file.id, (**file).clone());
                if let Some(path) = self.wanted.get(&file.id).cloned() {
                    self.show(&Placement { id: file.id, path, prefer: 0 }, at);
                }
            }
            Op::Place(placement) => self.show(placement, at),
            Op::Unplace(id) | Op::Forget(id) => {
                self.wanted.remove(id);
                self.tree.unplace(*id, at);
                if matches!(op, Op::Forget(_)) {
                    self.files.remove(id);
                }
            }
            Op::Move { .. }
            | Op::SetState(..)
            | Op::PutManifest { .. }
            | Op::Correct(_)
            | Op::SetNote { .. }
            | Op::RankOrigins(_) => {}
        }
    }

    /// Picks an operation that does not fail.
    fn pick(&self, dice: &mut Dice) -> Op {
        let file = file_on("one", format!("{}", dice.below(FILES)), 0);
        let known = self.files.contains_key(&file.id);
        match dice.below(8) {
            kind if kind < 2 || !known => {
                let mtime = (kind > 0).then(|| UnixNanos(dice.below(1000) as i64));
                let version = FileVersion { size: dice.below(1000) as u64, mtime, etag: None };
                put(&FileMeta { version, ..file })
            }
            2 => Op::Unplace(file.id),
            3 => Op::Forget(file.id),
            _ => {
                let names: Vec<_> =
                    (0..=dice.below(3)).map(|_| Name::from_text(NAMES[dice.below(NAMES.len())])).collect();
                let path = VirtualPath::new(names).expect("a name at least");
                Op::Place(Placement { id: file.id, path, prefer: dice.below(5) as u32 })
            }
        }
    }
}

type Entry = (Ino, Name, Ino);

/// All nodes below a directory, in the order of the listings; cookies only say the order.
fn walk(dir: Ino, list: &dyn Fn(Ino) -> Vec<Node>, nodes: &mut Vec<Node>) {
    let entries = list(dir);
    assert!(entries.is_sorted_by(|a, b| a.cookie < b.cookie));
    for node in entries {
        let ino = node.ino;
        nodes.push(Node { cookie: Cookie(0), ..node });
        walk(ino, list, nodes);
    }
}

fn follow(entries: &mut BTreeSet<Entry>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::EntryAdded { parent, name, ino } => {
                assert!(entries.insert((parent, name, ino)), "an entry appeared twice");
            }
            Change::EntryRemoved { parent, name, ino } => {
                assert!(entries.remove(&(parent, name, ino)), "an entry went that was not there");
            }
            Change::FileChanged { .. } | Change::FileForgotten { .. } => {}
        }
    }
}

/// Any sequence of batches gives the tree that the model gives, by every way of looking at it, and changes that
/// lead from one state to the next.
pub fn any_batches_do_what_the_model_does(fixture: Fixture) {
    for seed in 0..RUNS {
        run(&fixture, &mut Dice(seed));
    }
}

fn run(fixture: &Fixture, dice: &mut Dice) {
    let mut model = Model { tree: VirtualTree::new(), files: BTreeMap::new(), wanted: BTreeMap::new() };
    let mut entries: BTreeSet<Entry> = BTreeSet::new();
    let start = fixture.revision();
    for batch in 1..=BATCHES {
        let mut ops = Vec::new();
        for _ in 0..=dice.below(5) {
            let op = model.pick(dice);
            model.op(&op, UnixNanos(batch));
            ops.push(op);
        }
        let before = fixture.revision();
        fixture.apply(batch, ops.clone());
        follow(&mut entries, fixture.changes(before, 3));
        compare(fixture, &model, &entries, &format!("{ops:#?}"));
    }
    let mut all = BTreeSet::new();
    follow(&mut all, fixture.changes(start, 50));
    assert_eq!(all, entries);
    let left: Vec<_> = model.files.keys().copied().map(Op::Forget).collect();
    fixture.apply(BATCHES, left);
    assert_eq!((fixture.list(ROOT_INODE), fixture.totals()), (Vec::new(), Default::default()));
    assert!(fixture.revision() > Revision(0));
}

fn compare(fixture: &Fixture, model: &Model, entries: &BTreeSet<Entry>, after: &str) {
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    walk(ROOT_INODE, &|dir| model.tree.list(dir, Cookie(0)).cloned().collect(), &mut expected);
    walk(ROOT_INODE, &|dir| fixture.list(dir), &mut found);
    assert_eq!(found, expected, "after {after}");
    for node in &found {
        let name = node.name.clone().expect("a name");
        let looked_up = fixture.lookup(node.parent, name.as_bytes()).expect("an entry");
        assert_eq!(Some(&looked_up), fixture.node(node.ino).as_ref());
        assert_eq!(Node { cookie: Cookie(0), ..looked_up }, *node);
        assert!(entries.contains(&(node.parent, name, node.ino)));
    }
    assert_eq!(entries.len(), found.len(), "after {after}");
    for (id, file) in &model.files {
        let shown_at = model.tree.shown_at(*id);
        assert_eq!(fixture.file(*id), Some(FileMeta { shown_at, ..file.clone() }));
    }
    let totals = fixture.totals();
    assert_eq!((totals.dirs, totals.files), (model.tree.dirs() as u64, model.wanted.len() as u64));
}
