//! Symbolic links inside a watched root: what changes where one leads to has changed below the link as well.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use musicfs_core::OriginPath;

/// More paths than this do not come of one change: links may lead to each other in many ways.
const MOST_PATHS: usize = 1_000;

/// The links that were seen.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By what they lead to.
    by_target: BTreeMap<OriginPath, BTreeSet<OriginPath>>,
}

impl Links {
    /// Takes note of the link at `link` below `root`. One that leads to nothing, out of the root, or to a folder that it
    /// lies in is none.
    pub(super) fn add(&mut self, root: &Path, link: &OriginPath) {
        let Ok(root) = std::fs::canonicalize(root) else { return };
        let Ok(target) = std::fs::canonicalize(root.join(link.as_path())) else { return };
        let Ok(target) = target.strip_prefix(root) else { return };
        let Ok(target) = OriginPath::new(target.as_os_str().as_bytes()) else { return };
        if !link.is_within(&target) {
            self.by_target.entry(target).or_default().insert(link.clone());
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
        loop {
            for link in self.by_target.get(&above).into_iter().flatten() {
                let rest = path.as_path().strip_prefix(above.as_path()).unwrap_or(Path::new(""));
                // What a link leads to by itself has the link's own path.
                found.extend(OriginPath::new(
                    link.as_path()
                        .components()
                        .chain(rest.components())
                        .collect::<PathBuf>()
                        .as_os_str()
                        .as_bytes(),
                ));
            }
            if above.is_root() {
                break;
            }
            above = above.parent();
        }
        // In the order of bytes others stand between a folder and what is below it.
        let near = self.by_target.range(path..).skip_while(|(target, _)| *target == path);
        let near = near.take_while(|(target, _)| target.as_bytes().starts_with(path.as_bytes()));
        for (_, links) in near.filter(|(target, _)| target.is_within(path)) {
            found.extend(links.iter().filter(|link| !link.is_within(path)).cloned());
        }
        found
    }
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
        let mut links = Links::default();
        for at in ["link", "again", "favourite.mp3", "deep", "real/below/up", "broken", "out"] {
            links.add(root, &path(at));
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
