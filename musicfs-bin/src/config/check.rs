//! Whether the paths of a configuration make sense together.
//!
//! Nothing here touches a mounted filesystem at the mountpoint: it may be a dead mount of ours, which is cleared
//! later, or one that hangs.

use std::path::{Path, PathBuf};

use super::{Config, OriginSpec, Problem, Source, keys};
use crate::paths;

/// Checks the origins' directories: each is one, can be listed, and lies in no other.
pub(crate) fn origins(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let real: Vec<PathBuf> = config.origins.iter().map(OriginSpec::real_path).collect();
    for (i, origin) in config.origins.iter().enumerate() {
        if let Err(message) = listable(origin) {
            problems.push(Problem::of(&origin.source, keys::ORIGINS, message));
        }
        let around = (0..real.len()).find(|other| *other != i && real[i].starts_with(&real[*other]));
        if let Some(other) = around.filter(|other| real[*other] != real[i] || *other < i) {
            let message = format!(
                "{} lies inside the origin {}, so that its files would be shown twice; name only one of them",
                origin.path.display(),
                config.origins[other].path.display()
            );
            problems.push(Problem::of(&origin.source, keys::ORIGINS, message));
        }
    }
    problems
}

/// Tells why an origin's directory cannot be listed.
pub(crate) fn listable(origin: &OriginSpec) -> Result<(), String> {
    let path = origin.path.display();
    match std::fs::metadata(&origin.path) {
        Ok(meta) if !meta.is_dir() => Err(format!("{path} is not a directory")),
        Ok(_) => {
            std::fs::read_dir(&origin.path).map(drop).map_err(|error| format!("cannot list {path}: {error}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{path} does not exist; check the spelling, and that its disk is mounted"))
        }
        Err(error) => Err(format!("cannot look at {path}: {error}")),
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
        let real = origin.real_path();
        let path = origin.path.display();
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
        if let Some(origin) = config.origins.iter().find(|o| real.starts_with(o.real_path())) {
            let message = format!(
                "{} lies inside the origin {}, which is never written to; choose another directory",
                dir.display(),
                origin.path.display()
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
        let message = "there are none; name one with --origin DIR, MUSICFS_ORIGINS or [[origins]]".to_owned();
        problems.push(Problem::of(&Source::Default, keys::ORIGINS, message));
    }
    problems
}
