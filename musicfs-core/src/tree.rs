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

use std::collections::{BTreeMap, HashMap};

use crate::{Cookie, FileId, Ino, Name, Node, NodeKind, Placement, ROOT_INODE, UnixNanos, VirtualPath};

/// A tree of virtual directories and files, held in memory.
#[derive(Clone, Debug)]
pub struct VirtualTree {
    nodes: HashMap<Ino, Node>,
    children: HashMap<Ino, Children>,
    wanted: HashMap<FileId, VirtualPath>,
    last_cookie: u64,
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
            wanted: HashMap::new(),
            last_cookie: 0,
        }
    }

    /// Returns the node with this inode number.
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

    /// Returns the number of directories, without the root.
    pub fn dirs(&self) -> usize {
        self.children.len() - 1
    }

    /// Shows a file, and returns what changed with the number that the file took (1 when it has the name that it
    /// wanted).
    pub fn place(
        &mut self,
        placement: &Placement,
        size: u64,
        mtime: UnixNanos,
        at: UnixNanos,
    ) -> (Vec<TreeChange>, u32) {
        let mut changes = Vec::new();
        let ino = placement.id.ino();
        if self.wanted.get(&placement.id) == Some(&placement.path) {
            if let Some(node) = self.nodes.get_mut(&ino) {
                (node.size, node.mtime) = (size, mtime);
            }
            return (changes, 1);
        }
        let old = self.nodes.get(&ino).map(|node| (node.parent, node.name.clone(), node.cookie));
        let mut parent = ROOT_INODE;
        for name in placement.path.dirs() {
            parent = self.dir(parent, name, at, &mut changes);
        }
        let leaf = placement.path.leaf();
        let free = |n: &u32| {
            self.lookup(parent, leaf.with_suffix(*n).as_bytes()).is_none_or(|holder| holder.ino == ino)
        };
        let preferred = Some(placement.prefer).filter(|n| *n >= 2).filter(free);
        let n = preferred.unwrap_or_else(|| (1..).find(free).unwrap_or(u32::MAX));
        let name = leaf.with_suffix(n);
        match old {
            Some((old_parent, Some(old_name), _)) if old_parent == parent && old_name == name => {
                if let Some(node) = self.nodes.get_mut(&ino) {
                    (node.size, node.mtime) = (size, mtime);
                }
            }
            Some((old_parent, Some(old_name), old_cookie)) => {
                self.detach(old_parent, &old_name, old_cookie, ino, at, &mut changes);
                self.attach(parent, name, ino, NodeKind::File, (size, mtime), at, &mut changes);
                self.prune(old_parent, at, &mut changes);
            }
            _ => self.attach(parent, name, ino, NodeKind::File, (size, mtime), at, &mut changes),
        }
        self.wanted.insert(placement.id, placement.path.clone());
        (changes, n)
    }

    /// Takes a file out of the tree, and returns what changed.
    pub fn unplace(&mut self, id: FileId, at: UnixNanos) -> Vec<TreeChange> {
        let mut changes = Vec::new();
        self.wanted.remove(&id);
        if let Some(Node { parent, name: Some(name), cookie, .. }) = self.nodes.get(&id.ino()).cloned() {
            self.detach(parent, &name, cookie, id.ino(), at, &mut changes);
            self.prune(parent, at, &mut changes);
        }
        changes
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

    fn put(tree: &mut VirtualTree, n: u32, path: &str) -> String {
        let placement = Placement { id: id(n), path: VirtualPath::from_text(path).unwrap(), prefer: 0 };
        tree.place(&placement, 1, UnixNanos(1), UnixNanos(i64::from(n)));
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
            tree.place(&Placement { id: id(n), path: path.clone(), prefer }, 0, UnixNanos(0), UnixNanos(0)).1
        };
        assert_eq!(place(&mut tree, 1, 3), 3);
        assert_eq!(place(&mut tree, 2, 3), 1);
        assert_eq!(place(&mut tree, 3, 0), 2);
    }
}
