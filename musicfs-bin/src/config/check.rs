//! Whether the paths of a configuration make sense together.
//!
//! Nothing here touches a mounted filesystem at the mountpoint: it may be a dead mount of ours, which is cleared
//! later, or one that hangs.

use std::path::{Path, PathBuf};

use super::{Config, NamedOrigin, Problem, Source, keys};
use crate::paths;

/// Checks the origins that are directories of this machine: each is one, can be listed, and lies in no other.
pub(crate) fn origins(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let real: Vec<Option<PathBuf>> = config.origins.iter().map(NamedOrigin::real_path).collect();
    for (i, origin) in config.origins.iter().enumerate() {
        let (Some(path), Some(inner)) = (origin.path(), &real[i]) else { continue };
        if let Err(message) = listable(path) {
            problems.push(Problem::of(&origin.source, keys::ORIGINS, message));
        }
        let holds = |other: &usize| {
            let outer = real[*other].as_ref().filter(|_| *other != i);
            outer.is_some_and(|outer| inner.starts_with(outer) && (inner != outer || *other < i))
        };
        if let Some(other) = (0..real.len()).find(holds) {
            let message = format!(
                "{} lies inside the origin {}, so that its files would be shown twice; name only one of them",
                path.display(),
                config.origins[other].place()
            );
            problems.push(Problem::of(&origin.source, keys::ORIGINS, message));
        }
    }
    problems
}

/// Tells why a directory cannot be listed.
pub(crate) fn listable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => Err(format!("{shown} is not a directory")),
        Ok(_) => std::fs::read_dir(path).map(drop).map_err(|error| format!("cannot list {shown}: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{shown} does not exist; check the spelling, and that its disk is mounted"))
        }
        Err(error) => Err(format!("cannot look at {shown}: {error}")),
    }
}

/// Checks where the tree is to be mounted, without looking at the mountpoint itself.
pub(crate) fn mountpoint(config: &Config, mountpoint: &Path) -> Vec<Problem> {
    let source = config.source(keys::MOUNTPOINT);
    let mut problems = Vec::new();
    let mut refuse = |message: String| problems.push(Problem::of(source, keys::MOUNTPOINT, message));
    let shown = mountpoint.display();
    if mountpoint == Path::new("/") {
        refuse("the root directory cannot be a mountpoint".into());
        return problems;
    }
    for origin in &config.origins {
        let Some(real) = origin.real_path() else { continue };
        let path = origin.place();
        if mountpoint.starts_with(&real) {
            refuse(format!(
                "{shown} lies inside the origin {path}, which is never written to and would list itself; \
                 mount elsewhere"
            ));
        } else if real.starts_with(mountpoint) {
            refuse(format!(
                "the origin {path} lies inside {shown} and would be hidden by the mount; mount elsewhere"
            ));
        }
    }
    for (key, dir) in own_dirs(config) {
        let real = paths::real(dir);
        if mountpoint.starts_with(&real) || real.starts_with(mountpoint) {
            let message =
                format!("{shown} and {key} ({}) lie inside one another; choose another", dir.display());
            refuse(message);
        }
    }
    problems
}

/// Checks that MusicFS's own directories are not inside an origin, which it never writes to.
pub(crate) fn own_directories(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, dir) in own_dirs(config) {
        let real = paths::real(dir);
        if let Some(origin) =
            config.origins.iter().find(|o| o.real_path().is_some_and(|o| real.starts_with(o)))
        {
            let message = format!(
                "{} lies inside the origin {}, which is never written to; choose another directory",
                dir.display(),
                origin.place()
            );
            problems.push(Problem::of(config.source(key), key, message));
        }
    }
    problems
}

fn own_dirs(config: &Config) -> [(&'static str, &Path); 3] {
    [
        (keys::CACHE_DIR, &config.cache_dir),
        (keys::STATE_DIR, &config.state_dir),
        (keys::RUNTIME_DIR, &config.runtime_dir),
    ]
}

/// Checks that a directory can be mounted on. Only for a mountpoint on which nothing is mounted.
pub(crate) fn directory_to_mount_on(mountpoint: &Path) -> Result<(), String> {
    let shown = mountpoint.display();
    match std::fs::metadata(mountpoint) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("{shown} is not a directory; give an empty directory to mount on")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{shown} does not exist; make it with: mkdir -p '{shown}'"))
        }
        Err(error) => Err(format!("cannot look at {shown}: {error}")),
    }
}

/// Checks everything that does not need a mountpoint on the command line.
pub(crate) fn all(config: &Config) -> Vec<Problem> {
    let mut problems = origins(config);
    problems.extend(own_directories(config));
    if let Some(path) = &config.mountpoint {
        problems.extend(mountpoint(config, &paths::real(path)));
    }
    if config.origins.is_empty() {
        let message =
            "there are none; name one with --origin PATH|URL, MUSICFS_ORIGINS or [[origins]]".to_owned();
        problems.push(Problem::of(&Source::Default, keys::ORIGINS, message));
    }
    problems
}
