//! Symbolic links inside a watched root: what changes where one leads to has changed below the link as well.
//!
//! A link is known by what it leads to in the end. Where one leads through another that changes, or to what is not there
//! yet, it is looked at again ([`Links::settle`]) once all is known that happened.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use musicfs_core::OriginPath;

/// More paths than this do not come of one change: links may lead to each other in many ways.
const MOST_PATHS: usize = 1_000;

/// The links that were seen.
#[derive(Debug)]
pub(super) struct Links {
    /// The root, without links in its own path; `None` when it could not be found, so that no link is known.
    root: Option<PathBuf>,
    by_target: BTreeMap<OriginPath, BTreeSet<OriginPath>>,
    targets: BTreeMap<OriginPath, OriginPath>,
    /// Links that lead to nothing, or of which it is not known any more where they lead.
    unsure: BTreeSet<OriginPath>,
}

impl Links {
    /// Knows none yet of the links below `root`.
    pub(super) fn new(root: &Path) -> Self {
        let root = std::fs::canonicalize(root).ok();
        Self { root, by_target: BTreeMap::new(), targets: BTreeMap::new(), unsure: BTreeSet::new() }
    }

    /// Takes note of the link at `link`, whatever was there. One that leads out of the root, or to a folder that it lies in
    /// is none.
    pub(super) fn add(&mut self, link: &OriginPath) {
        self.remove(link);
        // What led to something below a folder leads on through the link that takes its place.
        self.doubt(link);
        self.resolve(link);
    }

    fn resolve(&mut self, link: &OriginPath) {
        let Some(root) = &self.root else { return };
        let Ok(target) = std::fs::canonicalize(root.join(link.as_path())) else {
            self.unsure.insert(link.clone());
            return;
        };
        let Ok(target) = target.strip_prefix(root) else { return };
        let Ok(target) = OriginPath::new(target.as_os_str().as_bytes()) else { return };
        if !link.is_within(&target) {
            self.by_target.entry(target.clone()).or_default().insert(link.clone());
            self.targets.insert(link.clone(), target);
        }
    }

    /// Forgets the link that was at `path`, and those that were below it.
    pub(super) fn remove(&mut self, path: &OriginPath) {
        let gone: Vec<OriginPath> = within(&self.targets, path).map(|(link, _)| link.clone()).collect();
        for link in gone {
            if let Some(target) = self.forget(&link) {
                self.doubt(&target);
            }
        }
        self.unsure.retain(|link| !link.is_within(path));
    }

    /// Forgets where a link leads, and returns it.
    fn forget(&mut self, link: &OriginPath) -> Option<OriginPath> {
        let target = self.targets.remove(link)?;
        if let Some(links) = self.by_target.get_mut(&target) {
            links.remove(link);
            if links.is_empty() {
                self.by_target.remove(&target);
            }
        }
        Some(target)
    }

    /// Takes note that links to a path and to what is below it may lead elsewhere.
    fn doubt(&mut self, path: &OriginPath) {
        let doubtful = within(&self.by_target, path).flat_map(|(_, links)| links.iter().cloned());
        self.unsure.extend(doubtful);
    }

    /// Looks again where the links lead of which that is not sure, and adds those to the paths that changed which lead
    /// elsewhere now.
    pub(super) fn settle(&mut self, paths: &mut Vec<OriginPath>) {
        if self.unsure.is_empty() {
            return;
        }
        let known: HashSet<OriginPath> = paths.iter().cloned().collect();
        for link in std::mem::take(&mut self.unsure) {
            let before = self.forget(&link);
            self.resolve(&link);
            if self.targets.get(&link) != before.as_ref() && !known.contains(&link) {
                paths.push(link);
            }
        }
    }

    /// Adds to paths that changed those below links by which the same is reached.
    pub(super) fn follow(&self, paths: &mut Vec<OriginPath>) {
        if self.by_target.is_empty() {
            return;
        }
        let mut known: BTreeSet<OriginPath> = paths.iter().cloned().collect();
        let most = paths.len().saturating_add(MOST_PATHS);
        let mut at = 0;
        while let Some(path) = paths.get(at).cloned()
            && paths.len() < most
        {
            at += 1;
            for other in self.leading_to(&path) {
                if known.insert(other.clone()) {
                    paths.push(other);
                }
            }
        }
    }

    /// Returns the paths by which a path, or what is below it, is reached through one link.
    fn leading_to(&self, path: &OriginPath) -> Vec<OriginPath> {
        let mut found = Vec::new();
        let mut above = path.clone();
        // To the root no link leads that lies below it.
        while !above.is_root() {
            // With the slash before it; nothing where a link leads to the path itself.
            let rest = &path.as_bytes()[above.as_bytes().len()..];
            let links = self.by_target.get(&above).into_iter().flatten();
            found.extend(links.filter_map(|link| OriginPath::new([link.as_bytes(), rest].concat()).ok()));
            above = above.parent();
        }
        for (_, links) in within(&self.by_target, path).filter(|(target, _)| *target != path) {
            found.extend(links.iter().filter(|link| !link.is_within(path)).cloned());
        }
        found
    }
}

/// Returns what a map has at a path and below it.
fn within<'a, T>(
    map: &'a BTreeMap<OriginPath, T>,
    path: &'a OriginPath,
) -> impl Iterator<Item = (&'a OriginPath, &'a T)> {
    // In the order of bytes others stand between a folder and what is below it.
    let near = map.range(path..).take_while(|(at, _)| at.as_bytes().starts_with(path.as_bytes()));
    near.filter(|(at, _)| at.is_within(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(at: &str) -> OriginPath {
        OriginPath::new(at).unwrap()
    }

    fn followed(links: &Links, at: &[&str]) -> Vec<String> {
        let mut paths: Vec<OriginPath> = at.iter().map(|at| path(at)).collect();
        links.follow(&mut paths);
        paths[at.len()..].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn link_that_goes_or_leads_elsewhere_is_forgotten_with_those_below_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        ["one", "other", "by", "by-too"].iter().for_each(|at| fs::create_dir(root.join(at)).unwrap());
        let mut links = Links::new(root);
        for at in ["link", "by/link", "by-too/link"] {
            symlink(root.join("one"), root.join(at)).unwrap();
            links.add(&path(at));
        }
        assert_eq!(followed(&links, &["one/1"]), ["by-too/link/1", "by/link/1", "link/1"]);
        fs::remove_file(root.join("link")).unwrap();
        symlink("other", root.join("link")).unwrap();
        links.add(&path("link"));
        links.remove(&path("by"));
        assert_eq!(followed(&links, &["one/1"]), ["by-too/link/1"]);
        assert_eq!(followed(&links, &["other/1"]), ["link/1"]);
        ["link", "by-too/link"].iter().for_each(|at| links.remove(&path(at)));
        assert!(links.by_target.is_empty() && links.targets.is_empty());
    }

    #[test]
    fn link_that_leads_on_through_another_is_told_when_that_one_changes_and_one_to_nothing_when_there_is_something()
     {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        ["one/in", "other/in", "by"].iter().for_each(|at| fs::create_dir_all(root.join(at)).unwrap());
        let mut links = Links::new(root);
        for (to, at) in
            [("one", "by/middle"), ("by/middle/in", "first"), ("late/in", "early"), ("nowhere", "never")]
        {
            symlink(root.join(to), root.join(at)).unwrap();
            links.add(&path(at));
        }
        let settled = |links: &mut Links| {
            let mut told = Vec::new();
            links.settle(&mut told);
            told.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(settled(&mut links), [""; 0]);
        assert_eq!(followed(&links, &["one/in/1"]), ["first/1", "by/middle/in/1"]);
        fs::remove_file(root.join("by/middle")).unwrap();
        symlink(root.join("other"), root.join("by/middle")).unwrap();
        links.add(&path("by/middle"));
        assert_eq!(settled(&mut links), ["first"]);
        assert_eq!(followed(&links, &["one/in/1"]), [""; 0]);
        assert_eq!(followed(&links, &["other/in/1"]), ["first/1", "by/middle/in/1"]);
        // The folder goes with the link that is in it, and comes again with another.
        fs::remove_dir_all(root.join("by")).unwrap();
        links.remove(&path("by"));
        assert_eq!(settled(&mut links), ["first"]);
        fs::create_dir_all(root.join("by")).unwrap();
        symlink(root.join("one"), root.join("by/middle")).unwrap();
        links.add(&path("by/middle"));
        assert_eq!(settled(&mut links), ["first"]);
        assert_eq!(followed(&links, &["one/in/1"]), ["first/1", "by/middle/in/1"]);
        // A link takes the place of a folder.
        symlink(root.join("one"), root.join("late")).unwrap();
        links.add(&path("late"));
        assert_eq!(settled(&mut links), ["early"]);
        assert_eq!(followed(&links, &["one/in/1"]), ["early/1", "first/1", "by/middle/in/1", "late/in/1"]);
        assert_eq!(settled(&mut links), [""; 0], "what leads nowhere is no news");
    }

    #[test]
    fn what_changes_has_changed_by_every_link_that_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("real/below")).unwrap();
        fs::create_dir(root.join("real-too")).unwrap();
        fs::write(root.join("real/a.mp3"), "").unwrap();
        for (to, at) in [
            ("real", "link"),
            ("link", "again"),
            ("real/a.mp3", "favourite.mp3"),
            ("real/below", "deep"),
            ("..", "real/below/up"),
            ("nowhere", "broken"),
            ("/", "out"),
        ] {
            symlink(to, root.join(at)).unwrap();
        }
        let mut links = Links::new(root);
        for at in ["link", "again", "favourite.mp3", "deep", "real/below/up", "broken", "out"] {
            links.add(&path(at));
        }
        assert_eq!(followed(&links, &["real/b.mp3"]), ["again/b.mp3", "link/b.mp3"]);
        assert_eq!(followed(&links, &["real/a.mp3"]), ["favourite.mp3", "again/a.mp3", "link/a.mp3"]);
        assert_eq!(followed(&links, &["real"]), ["again", "link", "favourite.mp3", "deep"]);
        assert_eq!(
            followed(&links, &["real/below/c.mp3"]),
            ["deep/c.mp3", "again/below/c.mp3", "link/below/c.mp3"]
        );
        assert_eq!(followed(&links, &["real-too/b.mp3", "elsewhere"]), [""; 0]);
    }
}
