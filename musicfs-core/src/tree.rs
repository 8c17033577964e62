//! The rules of the tree, in memory.
//!
//! This is the model: the database's tree must do what this one does. It serves doubles and small libraries;
//! the product itself keeps the tree in the catalogue and never loads it.
//!
//! # Rules
//! 1. A file stands in one place. It is shown at the path it wants, or at that path with ` (n)` before the
//!    extension, where `n` is the number it prefers when that is free, else the lowest free from 2. The place that
//!    it leaves counts as free.
//! 2. Whoever came first keeps its name: showing, moving or removing a file never renames another.
//! 3. Directories come into being with the first entry below them and go with the last. A directory whose wanted
//!    name is that of a file takes ` (n)` in the same way, and all who want that directory get it.
//! 4. A directory's inode number follows from its path; its mtime is the time of the last change of its entries.
//! 5. Every new entry takes a cookie above all that were ever given.
//! 6. Files that want the same path and have the same [`ContentKey`] are copies: they share one entry, whichever
//!    number it has. The copy of the best [`Standing`] leads, by the lower id among equals; the entry has its
//!    inode number, size and time. When another comes to lead, the entry keeps its name and cookie. A copy that
//!    wants another path, or whose content becomes another, leaves; the entry stays while it has a copy.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    ContentKey, Cookie, FileId, FileMeta, FileState, Ino, Name, Node, NodeKind, Placement, ROOT_INODE,
    UnixNanos, VirtualPath,
};

/// How much a copy is to be preferred to others: the least is the best. Nothing momentary has a part in it, so
/// that an entry does not change its inode number because a server is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Standing {
    /// Whether the file is gone from its origin.
    pub missing: bool,
    /// The rank of its origin, the most preferred having 0.
    pub rank: u32,
}

impl Standing {
    /// Returns the standing of a file in a state on an origin of a rank.
    pub fn new(state: FileState, rank: u32) -> Self {
        Self { missing: state == FileState::Missing, rank }
    }
}

/// What the tree needs to know of a file that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shown {
    /// Size in bytes.
    pub size: u64,
    /// When its content changed.
    pub mtime: UnixNanos,
    /// What it holds; `None` for what is never taken for a copy.
    pub content: Option<ContentKey>,
    /// How it stands among its copies.
    pub standing: Standing,
}

impl Shown {
    /// Returns what the tree needs to know of `file`, whose origin has this rank.
    pub fn of(file: &FileMeta, rank: u32) -> Self {
        Self {
            size: file.version.size,
            mtime: file.version.mtime.unwrap_or_default(),
            content: file.content_key(),
            standing: Standing::new(file.state, rank),
        }
    }
}

/// A tree of virtual directories and files, held in memory.
#[derive(Clone, Debug)]
pub struct VirtualTree {
    nodes: HashMap<Ino, Node>,
    children: HashMap<Ino, Children>,
    placed: HashMap<FileId, Placed>,
    /// Files with a content, by that and the path that they want; the first leads.
    copies: HashMap<(VirtualPath, ContentKey), BTreeSet<(Standing, FileId)>>,
    last_cookie: u64,
}

#[derive(Clone, Debug)]
struct Placed {
    path: VirtualPath,
    shown: Shown,
}

impl Placed {
    fn key(&self) -> Option<(VirtualPath, ContentKey)> {
        self.shown.content.map(|content| (self.path.clone(), content))
    }
}

#[derive(Clone, Debug, Default)]
struct Children {
    by_name: BTreeMap<Name, Ino>,
    by_cookie: BTreeMap<Cookie, Ino>,
}

/// An entry that appeared or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeChange {
    /// The directory.
    pub parent: Ino,
    /// The entry's name.
    pub name: Name,
    /// The entry.
    pub ino: Ino,
    /// Whether it appeared; else it went.
    pub added: bool,
}

impl Default for VirtualTree {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualTree {
    /// Makes a tree with nothing but its root.
    pub fn new() -> Self {
        let root = Node {
            ino: ROOT_INODE,
            parent: ROOT_INODE,
            name: None,
            cookie: Cookie(0),
            kind: NodeKind::Dir,
            size: 0,
            mtime: UnixNanos(0),
        };
        Self {
            nodes: HashMap::from([(ROOT_INODE, root)]),
            children: HashMap::from([(ROOT_INODE, Children::default())]),
            placed: HashMap::new(),
            copies: HashMap::new(),
            last_cookie: 0,
        }
    }

    /// Returns the node with this inode number. A copy that does not lead has none of its own.
    pub fn get(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// Returns the entry `name` of `parent`.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Option<&Node> {
        self.get(*self.children.get(&parent)?.by_name.get(name)?)
    }

    /// Returns the entries of `dir` after a position, in order of cookie.
    pub fn list(&self, dir: Ino, after: Cookie) -> impl Iterator<Item = &Node> {
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let entries = self.children.get(&dir).map(|c| c.by_cookie.range(range));
        entries.into_iter().flatten().filter_map(|(_, ino)| self.get(*ino))
    }

    /// Returns where a node is, or `None` for the root and for what is not in the tree.
    pub fn path_of(&self, ino: Ino) -> Option<VirtualPath> {
        let mut names = Vec::new();
        let mut node = self.get(ino)?;
        while let Some(name) = &node.name {
            names.push(name.clone());
            node = self.get(node.parent)?;
        }
        names.reverse();
        VirtualPath::new(names)
    }

    /// Returns where a file is shown, be it by itself or through the copy that leads.
    pub fn shown_at(&self, id: FileId) -> Option<VirtualPath> {
        self.path_of(self.copies(id).first()?.ino())
    }

    /// Returns the files that share a file's entry, itself included, the one that leads first and the others in
    /// the order of their standing; none for a file that is not shown.
    pub fn copies(&self, id: FileId) -> Vec<FileId> {
        let Some(placed) = self.placed.get(&id) else { return Vec::new() };
        match placed.key().and_then(|key| self.copies.get(&key)) {
            Some(copies) => copies.iter().map(|(_, id)| *id).collect(),
            None => vec![id],
        }
    }

    /// Returns the number of directories, without the root.
    pub fn dirs(&self) -> usize {
        self.children.len() - 1
    }

    /// Shows a file, and returns what changed with the number that the file took (1 when it has the name that it
    /// wanted, or stays where it is).
    pub fn place(&mut self, placement: &Placement, shown: Shown, at: UnixNanos) -> (Vec<TreeChange>, u32) {
        let mut changes = Vec::new();
        let id = placement.id;
        let now = Placed { path: placement.path.clone(), shown };
        let group = now.key().filter(|key| self.copies.contains_key(key));
        if let Some(before) = self.placed.get(&id).filter(|before| before.path == now.path)
            && (before.shown.content == shown.content || (group.is_none() && self.copies(id).len() == 1))
        {
            self.renew(id, shown, at, &mut changes);
            return (changes, 1);
        }
        if let Some(key) = group {
            if let Some(left) = self.leave(id, at, &mut changes) {
                self.prune(left, at, &mut changes);
            }
            let n = self.join(id, key, now, at, &mut changes);
            return (changes, n);
        }
        if self.copies(id).len() > 1 {
            self.leave(id, at, &mut changes);
        }
        let n = self.place_alone(placement, shown, at, &mut changes);
        if let Some(key) = now.key() {
            self.copies.insert(key, BTreeSet::from([(shown.standing, id)]));
        }
        self.placed.insert(id, now);
        (changes, n)
    }

    /// Takes a file out of the tree, and returns what changed.
    pub fn unplace(&mut self, id: FileId, at: UnixNanos) -> Vec<TreeChange> {
        let mut changes = Vec::new();
        if let Some(parent) = self.leave(id, at, &mut changes) {
            self.prune(parent, at, &mut changes);
        }
        changes
    }

    /// Changes how files stand among their copies, and returns what changed, in the order of the entries.
    pub fn restand(
        &mut self,
        standings: impl IntoIterator<Item = (FileId, Standing)>,
        at: UnixNanos,
    ) -> Vec<TreeChange> {
        let mut leaders = BTreeMap::new();
        for (id, standing) in standings {
            let Some(leader) = self.copies(id).first().copied() else { continue };
            let Some(placed) = self.placed.get_mut(&id) else { continue };
            let before = std::mem::replace(&mut placed.shown.standing, standing);
            if let Some(copies) = placed.key().and_then(|key| self.copies.get_mut(&key)) {
                copies.remove(&(before, id));
                copies.insert((standing, id));
            }
            // Whoever has the entry still leads it, whatever the standings say by now.
            let holder = self.nodes.get(&leader.ino()).map(|node| (node.cookie, leader));
            leaders.extend(holder);
        }
        let mut changes = Vec::new();
        for leader in leaders.into_values() {
            self.settle(leader, leader, at, &mut changes);
        }
        changes
    }

    /// Takes note of what a file that stays in its place shows now.
    fn renew(&mut self, id: FileId, shown: Shown, at: UnixNanos, changes: &mut Vec<TreeChange>) {
        let Some(placed) = self.placed.get_mut(&id) else { return };
        let before = placed.key();
        let standing = std::mem::replace(&mut placed.shown, shown).standing;
        let after = placed.key();
        let mut leader = id;
        if let Some(copies) = before.and_then(|key| self.copies.remove(&key)) {
            let mut copies = copies;
            leader = copies.first().map_or(id, |(_, id)| *id);
            copies.remove(&(standing, id));
            copies.insert((shown.standing, id));
            if let Some(after) = after {
                self.copies.insert(after, copies);
            }
        } else if let Some(after) = after {
            self.copies.insert(after, BTreeSet::from([(shown.standing, id)]));
        }
        self.settle(leader, id, at, changes);
    }

    /// Gives the entry that `leader` led to whoever of the copies of `any` leads now.
    fn settle(&mut self, leader: FileId, any: FileId, at: UnixNanos, changes: &mut Vec<TreeChange>) {
        let Some(now) = self.copies(any).first().copied() else { return };
        let Some(shown) = self.placed.get(&now).map(|placed| placed.shown) else { return };
        if now == leader {
            if let Some(node) = self.nodes.get_mut(&now.ino()) {
                (node.size, node.mtime) = (shown.size, shown.mtime);
            }
            return;
        }
        let Some(node) = self.nodes.remove(&leader.ino()) else { return };
        let Some(name) = node.name.clone() else { return };
        if let Some(siblings) = self.children.get_mut(&node.parent) {
            siblings.by_name.insert(name.clone(), now.ino());
            siblings.by_cookie.insert(node.cookie, now.ino());
        }
        let parent = node.parent;
        self.touch(parent, at);
        changes.push(TreeChange { parent, name: name.clone(), ino: leader.ino(), added: false });
        changes.push(TreeChange { parent, name, ino: now.ino(), added: true });
        let (size, mtime) = (shown.size, shown.mtime);
        self.nodes.insert(now.ino(), Node { ino: now.ino(), size, mtime, ..node });
    }

    /// Takes a file from where it stands; returns the directory that its entry went from, when it had no copy.
    fn leave(&mut self, id: FileId, at: UnixNanos, changes: &mut Vec<TreeChange>) -> Option<Ino> {
        let leader = self.copies(id).first().copied()?;
        let placed = self.placed.remove(&id)?;
        if let Some(key) = placed.key()
            && let Some(copies) = self.copies.get_mut(&key)
        {
            copies.remove(&(placed.shown.standing, id));
            if let Some((_, other)) = copies.first().copied() {
                self.settle(leader, other, at, changes);
                return None;
            }
            self.copies.remove(&key);
        }
        let Node { parent, name, cookie, .. } = self.nodes.get(&id.ino())?.clone();
        self.detach(parent, &name?, cookie, id.ino(), at, changes);
        Some(parent)
    }

    /// Adds a file to its copies, and returns the number of their entry.
    fn join(
        &mut self,
        id: FileId,
        key: (VirtualPath, ContentKey),
        placed: Placed,
        at: UnixNanos,
        changes: &mut Vec<TreeChange>,
    ) -> u32 {
        let leaf = placed.path.leaf().clone();
        let copies = self.copies.entry(key).or_default();
        let leader = copies.first().map_or(id, |(_, id)| *id);
        copies.insert((placed.shown.standing, id));
        self.placed.insert(id, placed);
        let name = self.nodes.get(&leader.ino()).and_then(|node| node.name.clone());
        self.settle(leader, id, at, changes);
        name.and_then(|name| leaf.number_of(&name)).unwrap_or(1)
    }

    /// Shows a file that has no copy where it is going.
    fn place_alone(
        &mut self,
        placement: &Placement,
        shown: Shown,
        at: UnixNanos,
        changes: &mut Vec<TreeChange>,
    ) -> u32 {
        let ino = placement.id.ino();
        if let Some(key) = self.placed.get(&placement.id).and_then(Placed::key) {
            self.copies.remove(&key);
        }
        let old = self.nodes.get(&ino).map(|node| (node.parent, node.name.clone(), node.cookie));
        let mut parent = ROOT_INODE;
        for name in placement.path.dirs() {
            parent = self.dir(parent, name, at, changes);
        }
        let leaf = placement.path.leaf();
        let free = |n: &u32| {
            self.lookup(parent, leaf.with_suffix(*n).as_bytes()).is_none_or(|holder| holder.ino == ino)
        };
        let preferred = Some(placement.prefer).filter(|n| *n >= 2).filter(free);
        let n = preferred.unwrap_or_else(|| (1..).find(free).unwrap_or(u32::MAX));
        let name = leaf.with_suffix(n);
        let (size, mtime) = (shown.size, shown.mtime);
        match old {
            Some((old_parent, Some(old_name), _)) if old_parent == parent && old_name == name => {
                if let Some(node) = self.nodes.get_mut(&ino) {
                    (node.size, node.mtime) = (size, mtime);
                }
            }
            Some((old_parent, Some(old_name), old_cookie)) => {
                self.detach(old_parent, &old_name, old_cookie, ino, at, changes);
                self.attach(parent, name, ino, NodeKind::File, (size, mtime), at, changes);
                self.prune(old_parent, at, changes);
            }
            _ => self.attach(parent, name, ino, NodeKind::File, (size, mtime), at, changes),
        }
        n
    }

    fn dir(&mut self, parent: Ino, wanted: &Name, at: UnixNanos, changes: &mut Vec<TreeChange>) -> Ino {
        for n in 1.. {
            let name = wanted.with_suffix(n);
            match self.lookup(parent, name.as_bytes()).map(|node| (node.kind, node.ino)) {
                Some((NodeKind::Dir, ino)) => return ino,
                Some((NodeKind::File, _)) => {}
                None => {
                    let mut salt = 0;
                    let mut ino = Ino::for_dir(parent, name.as_bytes(), salt);
                    while self.nodes.contains_key(&ino) {
                        salt += 1;
                        ino = Ino::for_dir(parent, name.as_bytes(), salt);
                    }
                    self.attach(parent, name, ino, NodeKind::Dir, (0, at), at, changes);
                    self.children.insert(ino, Children::default());
                    return ino;
                }
            }
        }
        parent
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a node, in one private place")]
    fn attach(
        &mut self,
        parent: Ino,
        name: Name,
        ino: Ino,
        kind: NodeKind,
        (size, mtime): (u64, UnixNanos),
        at: UnixNanos,
        changes: &mut Vec<TreeChange>,
    ) {
        self.last_cookie += 1;
        let cookie = Cookie(self.last_cookie);
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.by_name.insert(name.clone(), ino);
            siblings.by_cookie.insert(cookie, ino);
        }
        self.touch(parent, at);
        changes.push(TreeChange { parent, name: name.clone(), ino, added: true });
        self.nodes.insert(ino, Node { ino, parent, name: Some(name), cookie, kind, size, mtime });
    }

    fn detach(
        &mut self,
        parent: Ino,
        name: &Name,
        cookie: Cookie,
        ino: Ino,
        at: UnixNanos,
        changes: &mut Vec<TreeChange>,
    ) {
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.by_name.remove(name);
            siblings.by_cookie.remove(&cookie);
        }
        self.touch(parent, at);
        self.nodes.remove(&ino);
        changes.push(TreeChange { parent, name: name.clone(), ino, added: false });
    }

    fn prune(&mut self, dir: Ino, at: UnixNanos, changes: &mut Vec<TreeChange>) {
        let mut dir = dir;
        while self.children.get(&dir).is_some_and(|c| c.by_name.is_empty()) {
            let Some(Node { parent, name: Some(name), cookie, .. }) = self.nodes.get(&dir).cloned() else {
                return;
            };
            self.children.remove(&dir);
            self.detach(parent, &name, cookie, dir, at, changes);
            dir = parent;
        }
    }

    fn touch(&mut self, dir: Ino, at: UnixNanos) {
        if let Some(node) = self.nodes.get_mut(&dir) {
            node.mtime = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OriginId, OriginPath};

    fn id(n: u32) -> FileId {
        FileId::derive(&OriginId::from("o"), &OriginPath::new(n.to_string()).unwrap(), 0)
    }

    fn shown(size: u64, content: Option<i64>, rank: u32) -> Shown {
        let standing = Standing { missing: false, rank };
        Shown { size, mtime: UnixNanos(1), content: content.map(ContentKey::from_raw), standing }
    }

    /// Shows a file with a content, and returns where its entry is.
    fn copy(tree: &mut VirtualTree, n: u32, path: &str, content: i64, rank: u32) -> String {
        let placement = Placement { id: id(n), path: VirtualPath::from_text(path).unwrap(), prefer: 0 };
        tree.place(&placement, shown(u64::from(n), Some(content), rank), UnixNanos(i64::from(n)));
        tree.shown_at(id(n)).unwrap().to_string()
    }

    fn put(tree: &mut VirtualTree, n: u32, path: &str) -> String {
        let placement = Placement { id: id(n), path: VirtualPath::from_text(path).unwrap(), prefer: 0 };
        tree.place(&placement, shown(1, None, 0), UnixNanos(i64::from(n)));
        tree.path_of(id(n).ino()).unwrap().to_string()
    }

    #[test]
    fn second_file_of_a_name_takes_a_number_and_the_first_keeps_its_own() {
        let mut tree = VirtualTree::new();
        assert_eq!(put(&mut tree, 1, "A/x.flac"), "A/x.flac");
        assert_eq!(put(&mut tree, 2, "A/x.flac"), "A/x (2).flac");
        assert_eq!(put(&mut tree, 3, "A/x.flac"), "A/x (3).flac");
        tree.unplace(id(1), UnixNanos(9));
        assert_eq!(tree.path_of(id(2).ino()).unwrap().to_string(), "A/x (2).flac");
        assert_eq!(put(&mut tree, 2, "A/x.flac"), "A/x (2).flac");
        assert_eq!(put(&mut tree, 4, "A/x.flac"), "A/x.flac");
    }

    #[test]
    fn directory_and_file_of_one_name_stand_side_by_side() {
        let mut tree = VirtualTree::new();
        assert_eq!(put(&mut tree, 1, "A/x.flac"), "A/x.flac");
        assert_eq!(put(&mut tree, 2, "A/x.flac/y"), "A/x (2).flac/y");
        assert_eq!(put(&mut tree, 3, "A/x.flac/z"), "A/x (2).flac/z");
        assert_eq!(put(&mut tree, 4, "A"), "A (2)");
    }

    #[test]
    fn empty_directories_go_and_come_back_under_the_same_inode() {
        let mut tree = VirtualTree::new();
        put(&mut tree, 1, "A/B/x");
        let before = tree.lookup(ROOT_INODE, b"A").unwrap().ino;
        tree.unplace(id(1), UnixNanos(5));
        assert_eq!(tree.list(ROOT_INODE, Cookie(0)).count(), 0);
        assert_eq!(tree.get(ROOT_INODE).unwrap().mtime, UnixNanos(5));
        assert_eq!(tree.dirs(), 0);
        put(&mut tree, 2, "A/C/x");
        assert_eq!(tree.lookup(ROOT_INODE, b"A").unwrap().ino, before);
    }

    #[test]
    fn moved_file_leaves_its_old_place_and_keeps_its_inode() {
        let mut tree = VirtualTree::new();
        put(&mut tree, 1, "A/x");
        put(&mut tree, 1, "B/y");
        assert_eq!(tree.path_of(id(1).ino()).unwrap().to_string(), "B/y");
        assert!(tree.lookup(ROOT_INODE, b"A").is_none());
        put(&mut tree, 1, "B/z");
        assert_eq!(tree.list(tree.lookup(ROOT_INODE, b"B").unwrap().ino, Cookie(0)).count(), 1);
    }

    #[test]
    fn preferred_number_is_taken_when_free() {
        let mut tree = VirtualTree::new();
        let path = VirtualPath::from_text("A/x").unwrap();
        let place = |tree: &mut VirtualTree, n, prefer| {
            tree.place(&Placement { id: id(n), path: path.clone(), prefer }, Shown::default(), UnixNanos(0)).1
        };
        assert_eq!(place(&mut tree, 1, 3), 3);
        assert_eq!(place(&mut tree, 2, 3), 1);
        assert_eq!(place(&mut tree, 3, 0), 2);
    }

    #[test]
    fn copies_share_an_entry_led_by_the_best_standing() {
        let mut tree = VirtualTree::new();
        assert_eq!(copy(&mut tree, 1, "A/x.flac", 7, 1), "A/x.flac");
        let cookie = tree.get(id(1).ino()).unwrap().cookie;
        assert_eq!(copy(&mut tree, 2, "A/x.flac", 8, 1), "A/x (2).flac", "another content is another file");
        assert_eq!(copy(&mut tree, 3, "A/x.flac", 7, 0), "A/x.flac");
        assert_eq!(tree.copies(id(1)), [id(3), id(1)]);
        let node = tree.get(id(3).ino()).unwrap();
        assert_eq!((node.size, node.cookie), (3, cookie), "the leader's size under the same cookie");
        assert!(tree.get(id(1).ino()).is_none(), "who does not lead has no inode");
        // An unrelated file changes nothing, and neither does a copy of a lower standing.
        copy(&mut tree, 4, "A/x.flac", 9, 0);
        copy(&mut tree, 5, "A/x.flac", 7, 2);
        assert_eq!(tree.copies(id(5)), [id(3), id(1), id(5)]);
        assert_eq!(tree.list(tree.lookup(ROOT_INODE, b"A").unwrap().ino, Cookie(0)).count(), 3);
    }

    #[test]
    fn entry_passes_to_the_next_copy_when_its_leader_goes_or_is_missing() {
        let mut tree = VirtualTree::new();
        for (n, rank) in [(1, 0), (2, 1), (3, 2)] {
            copy(&mut tree, n, "A/x", 7, rank);
        }
        let changes = tree.restand([(id(1), Standing { missing: true, rank: 0 })], UnixNanos(9));
        let led: Vec<_> = changes.iter().map(|change| (change.ino, change.added)).collect();
        assert_eq!(led, [(id(1).ino(), false), (id(2).ino(), true)]);
        tree.unplace(id(2), UnixNanos(10));
        assert_eq!(tree.copies(id(1)), [id(3), id(1)]);
        tree.unplace(id(3), UnixNanos(11));
        assert_eq!(tree.get(id(1).ino()).unwrap().size, 1);
        tree.unplace(id(1), UnixNanos(12));
        assert_eq!((tree.dirs(), tree.copies(id(1))), (0, vec![]));
    }

    #[test]
    fn copy_that_differs_later_leaves_and_one_that_agrees_joins() {
        let mut tree = VirtualTree::new();
        copy(&mut tree, 1, "A/x", 7, 0);
        copy(&mut tree, 2, "A/x", 7, 1);
        assert_eq!(copy(&mut tree, 2, "B/y", 7, 1), "B/y", "other tags");
        assert_eq!(copy(&mut tree, 1, "B/y", 7, 0), "B/y", "the other follows");
        assert_eq!((tree.copies(id(2)), tree.dirs()), (vec![id(1), id(2)], 1));
        assert_eq!(copy(&mut tree, 1, "B/y", 8, 0), "B/y (2)", "other audio");
        assert_eq!(tree.shown_at(id(2)).unwrap().to_string(), "B/y");
        assert_eq!(copy(&mut tree, 2, "B/y", 9, 1), "B/y", "who is alone keeps its name");
        assert_eq!(copy(&mut tree, 1, "B/y", 9, 0), "B/y");
        assert_eq!(tree.copies(id(2)), [id(1), id(2)]);
    }

    #[test]
    fn copy_of_a_numbered_file_joins_it_although_the_plain_name_is_free() {
        let mut tree = VirtualTree::new();
        put(&mut tree, 1, "A/x");
        assert_eq!(copy(&mut tree, 2, "A/x", 7, 0), "A/x (2)");
        tree.unplace(id(1), UnixNanos(9));
        let placement = Placement { id: id(3), path: VirtualPath::from_text("A/x").unwrap(), prefer: 0 };
        assert_eq!(tree.place(&placement, shown(1, Some(7), 5), UnixNanos(9)).1, 2);
        assert_eq!(tree.copies(id(3)), [id(2), id(3)]);
    }
}
