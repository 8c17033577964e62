//! What the user does not want to see: from names to files, and back to words.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{MetaDb, OriginId, OriginPath};
use musicfs_sync::{Excluded, Scanner};

use crate::config::Config;
use crate::control::api::{ExcludeAction, ExcludeOrder, Exclusion, Exclusions};
use crate::control::percent;
use crate::daemon::Part;
use crate::refusal::Refusal;
use crate::{paths, targets};

/// Wait for a directory to be looked into.
const LIMIT: Duration = Duration::from_secs(5);

/// Paths by origin.
type Paths = BTreeMap<OriginId, Vec<OriginPath>>;

/// What was done.
pub(crate) struct Changed {
    /// In words.
    pub(crate) answer: Exclusions,
    /// What is shown again, for a scan to look at.
    pub(crate) shown_again: Vec<Part>,
}

/// Does what an order says: all of it, or, when a name means nothing, none. An origin is asked only about what the
/// catalogue does not know.
pub(crate) async fn carry_out(
    scanner: &Scanner,
    db: Arc<dyn MetaDb>,
    config: Arc<Config>,
    mountpoint: Option<&Path>,
    order: ExcludeOrder,
) -> Result<Changed, Refusal> {
    let action = order.action;
    // Names are compared with it only to take exclusions back.
    let excluded = match action {
        ExcludeAction::Remove => scanner.excluded().await.map_err(|error| Refusal::failed(&error))?,
        ExcludeAction::List | ExcludeAction::Add => Vec::new(),
    };
    let mountpoint = mountpoint.map(Path::to_owned);
    let of_config = config.clone();
    let find = move || {
        let mut paths = Paths::new();
        for name in &order.paths {
            let name = OsString::from_vec(percent::decode(name));
            let of_mount = mountpoint.as_deref().and_then(|at| Path::new(&name).strip_prefix(at).ok());
            let found = match (action, of_mount) {
                (ExcludeAction::Remove, Some(path)) => excluded_at(&excluded, path),
                _ => named(&config, mountpoint.as_deref(), &*db, &name)?,
            };
            if found.is_empty() {
                return Err(Refusal::Failed(format!(
                    "nothing that is excluded would be at {}",
                    name.display()
                )));
            }
            for (origin, path) in found {
                if action == ExcludeAction::Remove {
                    is_excluded(&excluded, &origin, &path)?;
                }
                paths.entry(origin).or_default().push(path);
            }
        }
        Ok(paths)
    };
    let chosen = tokio::task::spawn_blocking(find).await.map_err(|error| Refusal::failed(&error))??;
    if action == ExcludeAction::Add {
        refuse_nothing(scanner, &of_config, &chosen).await?;
    }
    let mut changed = 0;
    let mut shown_again = Vec::new();
    for (origin, paths) in chosen {
        let done = match action {
            ExcludeAction::List => Ok(0),
            ExcludeAction::Add => scanner.exclude(&origin, paths).await,
            ExcludeAction::Remove => {
                shown_again.push(Part { origin: origin.clone(), paths: Some(paths.clone()) });
                scanner.include(&origin, paths).await
            }
        };
        changed += done.map_err(|error| Refusal::failed(&error))?;
    }
    let excluded = scanner.excluded().await.map_err(|error| Refusal::failed(&error))?;
    let answer =
        Exclusions { excluded: excluded.iter().map(in_words).collect(), changed, ..Exclusions::default() };
    Ok(Changed { answer, shown_again })
}

/// Refuses paths at which nothing is, as far as that can be told.
async fn refuse_nothing(scanner: &Scanner, config: &Config, paths: &Paths) -> Result<(), Refusal> {
    for (origin, paths) in paths {
        let unknown =
            scanner.unknown(origin, paths.clone()).await.map_err(|error| Refusal::failed(&error))?;
        for (path, there) in unknown {
            let there = match there {
                Some(there) => there,
                None => is_in_folder(config, origin, &path).await,
            };
            if !there {
                return Err(Refusal::Failed(format!("nothing is at {origin}:{path}, and nothing was")));
            }
        }
    }
    Ok(())
}

/// Looks for a path in an origin's directory of this machine; of any other, and of one that hangs, nothing is known.
async fn is_in_folder(config: &Config, origin: &OriginId, path: &OriginPath) -> bool {
    let named = config.origins.iter().find(|named| named.id() == origin);
    let Some(folder) = named.and_then(|named| named.path()).map(Path::to_owned) else { return true };
    let at = folder.join(OsStr::from_bytes(path.as_bytes()));
    let look = move || {
        paths::in_time(LIMIT, move || {
            let gone = at.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
            // That the directory itself is away says nothing of what is in it.
            !gone || !folder.is_dir()
        })
    };
    tokio::task::spawn_blocking(look).await.ok().flatten().unwrap_or(true)
}

/// Finds what a name means: files and directories, but no whole origin.
fn named(
    config: &Config,
    mountpoint: Option<&Path>,
    db: &dyn MetaDb,
    name: &OsStr,
) -> Result<Vec<(OriginId, OriginPath)>, Refusal> {
    let mut found = Vec::new();
    for Part { origin, paths } in targets::find(config, mountpoint, db, name)? {
        let paths = paths.ok_or_else(|| {
            let name = name.display();
            Refusal::Wrong(format!(
                "'{name}' is all of {origin}; to do without an origin, take it out of the configuration"
            ))
        })?;
        found.extend(paths.into_iter().map(|path| (origin.clone(), path)));
    }
    match found.is_empty() {
        true => Err(Refusal::Failed(format!("no file is at {}", name.display()))),
        false => Ok(found),
    }
}

/// Returns what is excluded and would be at a path of the tree, or below it.
fn excluded_at(excluded: &[Excluded], path: &Path) -> Vec<(OriginId, OriginPath)> {
    let wanted: Vec<&[u8]> = path.components().map(|name| name.as_os_str().as_encoded_bytes()).collect();
    let is_there = |one: &&Excluded| {
        one.within.as_ref().is_some_and(|names| {
            names.len() >= wanted.len()
                && names.iter().zip(&wanted).all(|(name, want)| name.as_bytes() == *want)
        })
    };
    excluded.iter().filter(is_there).map(|one| (one.origin.clone(), one.path.clone())).collect()
}

fn is_excluded(excluded: &[Excluded], origin: &OriginId, path: &OriginPath) -> Result<(), Refusal> {
    let of_origin = || excluded.iter().filter(|one| one.origin == *origin);
    if of_origin().any(|one| one.path == *path) {
        return Ok(());
    }
    Err(Refusal::Failed(match of_origin().find(|one| path.is_within(&one.path)) {
        Some(above) => format!("{origin}:{path} is excluded with {origin}:{}; remove that", above.path),
        None => format!("{origin}:{path} is not excluded"),
    }))
}

fn in_words(excluded: &Excluded) -> Exclusion {
    Exclusion {
        origin: excluded.origin.to_string(),
        path: excluded.path.to_string(),
        files: excluded.files,
        would_be: excluded.would_be.as_ref().map(ToString::to_string),
    }
}
