//! Paths without surprises: made absolute and free of symbolic links without asking anything of a mounted
//! filesystem, which may hang or be dead.
//!
//! Only `readlink` is used: on the root of a mount it fails without reaching the filesystem behind it, where
//! `stat` would wait for it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Symbolic links followed before a path is left as it is, as the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Longest wait for a path to be resolved; what takes longer is a server that does not answer.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// Expands a leading `~` and makes the path absolute from `base`.
pub(crate) fn absolute(path: &Path, base: &Path, home: Option<&Path>) -> Result<PathBuf, String> {
    let mut components = path.components();
    let expanded = match components.next() {
        Some(Component::Normal(first)) if first == OsStr::new("~") => {
            let home = home.ok_or("'~' stands for the home directory, and HOME is not set")?;
            home.join(components.as_path())
        }
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"~") => {
            return Err("'~user' is not understood; write the path in full".into());
        }
        _ => path.to_owned(),
    };
    // Components drop '.' and doubled slashes.
    Ok(base.join(expanded).components().collect())
}

/// Resolves symbolic links and `..` of an absolute path as far as it exists; what does not exist stays as it is.
/// Nothing at or below a path for which `stop` says so is looked at.
pub(crate) fn resolve(path: &Path, stop: impl Fn(&Path) -> bool) -> PathBuf {
    let mut done = PathBuf::from("/");
    let mut todo: Vec<PathBuf> = components_reversed(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part.as_os_str() == ".." {
            done.pop();
            continue;
        }
        if stop(&done) {
            done.push(part);
            continue;
        }
        let next = done.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    done = "/".into();
                }
                todo.extend(components_reversed(&target));
            }
            _ => done = next,
        }
    }
    done
}

fn components_reversed(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    parts.rev().map(|c| PathBuf::from(c.as_os_str())).collect()
}

/// Resolves an absolute path in full. See [`resolve`].
pub(crate) fn real(path: &Path) -> PathBuf {
    resolve(path, |_| false)
}

/// As [`real`], for a path that may lead to a server which does not answer: then the path is taken as it is.
pub(crate) fn real_in_time(path: &Path) -> PathBuf {
    let owned = path.to_owned();
    in_time(RESOLVE_LIMIT, move || real(&owned)).unwrap_or_else(|| path.to_owned())
}

/// Runs blocking work in a thread of its own, and returns `None` when it takes longer than `limit`; the thread
/// then goes on until the system lets it end.
pub(crate) fn in_time<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits any more when it took too long.
        let _ = done.send(work());
    });
    wait.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_expands_home_and_base() {
        let home = Some(Path::new("/home/u"));
        let abs = |p: &str| absolute(Path::new(p), Path::new("/base"), home).unwrap();
        assert_eq!(abs("~/Music"), Path::new("/home/u/Music"));
        assert_eq!(abs("~"), Path::new("/home/u"));
        assert_eq!(abs("a/./b//c"), Path::new("/base/a/b/c"));
        assert_eq!(abs("/x/"), Path::new("/x"));
        assert!(absolute(Path::new("~bob/x"), Path::new("/"), home).is_err());
        assert!(absolute(Path::new("~/x"), Path::new("/"), None).is_err());
    }

    #[test]
    fn resolve_follows_links_and_keeps_what_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let root = real(dir.path());
        std::fs::create_dir(root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("b")).unwrap();
        std::os::unix::fs::symlink(root.join("b"), root.join("c")).unwrap();
        assert_eq!(real(&root.join("c/x/y")), root.join("a/x/y"));
        assert_eq!(real(&root.join("c/../z")), root.join("z"));
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        assert_eq!(real(&root.join("loop")), root.join("loop"));
    }

    #[test]
    fn resolve_does_not_look_below_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let root = real(dir.path());
        std::fs::create_dir(root.join("m")).unwrap();
        std::os::unix::fs::symlink("/elsewhere", root.join("m/link")).unwrap();
        let stop = root.join("m");
        let resolved = |path: &str| resolve(&root.join(path), |p| p.starts_with(&stop));
        assert_eq!(resolved("m/link/t"), root.join("m/link/t"));
        assert_eq!(resolved("m/a/../b/.."), root.join("m"));
        assert_eq!(resolved("m/a/../../m/b"), root.join("m/b"));
    }
}
