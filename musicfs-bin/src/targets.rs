//! What a name on the command line means: an origin, or a part of one.
//!
//! Nothing here touches a mount or an origin: what the mount shows is looked up in the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use musicfs_core::{Cookie, FileId, Ino, MetaDb, MetaError, NodeKind, OriginId, OriginPath, ROOT_INODE};

use crate::config::{Config, NamedOrigin};
use crate::daemon::Part;
use crate::explain;
use crate::refusal::Refusal;

/// Entries of a directory fetched at once.
const PAGE: usize = 1_000;

/// Finds an origin by its id, directory or address.
pub(crate) fn origin(config: &Config, name: &str) -> Result<OriginId, Refusal> {
    let found = config.origins.iter().find(|origin| origin.is_named(name));
    found.map(|origin| origin.id().clone()).ok_or_else(|| unknown(config, "origin", name))
}

fn unknown(config: &Config, what: &str, name: &str) -> Refusal {
    let ids: Vec<&str> = config.origins.iter().map(|origin| origin.id().as_str()).collect();
    Refusal::Wrong(format!("there is no {what} '{name}'; there are: {}", ids.join(", ")))
}

/// Finds what `name` means: an origin; a path in an origin's directory or below its address; a path in the mount, which
/// is all files shown there; or `ORIGIN:PATH`. Blocks as the catalogue does.
pub(crate) fn find(
    config: &Config,
    mountpoint: Option<&Path>,
    db: &dyn MetaDb,
    name: &OsStr,
) -> Result<Vec<Part>, Refusal> {
    let shown = name.to_string_lossy();
    if let Some(origin) = config.origins.iter().find(|origin| origin.is_named(&shown)) {
        return Ok(vec![Part::whole(origin.id().clone())]);
    }
    if let Some(rest) = mountpoint.and_then(|point| Path::new(name).strip_prefix(point).ok()) {
        let found = shown_at(db, rest.as_os_str().as_bytes()).map_err(|error| Refusal::failed(&error))?;
        return found.ok_or_else(|| Refusal::Failed(format!("nothing is at {shown}")));
    }
    let of = |origin: &NamedOrigin| Some((origin.id().clone(), below(origin, name)?));
    let Some((origin, path)) = config.origins.iter().find_map(of) else {
        return Err(unknown(config, "origin or path", &shown));
    };
    match OriginPath::new(without_slashes(path)) {
        Ok(path) if path.is_root() => Ok(vec![Part::whole(origin)]),
        Ok(path) => Ok(vec![Part { origin, paths: Some(vec![path]) }]),
        Err(error) => Err(Refusal::Wrong(error.to_string())),
    }
}

/// Returns the rest of a name that begins with an origin's directory, address or id.
fn below<'a>(origin: &NamedOrigin, name: &'a OsStr) -> Option<&'a [u8]> {
    let after = |what: &str| name.as_bytes().strip_prefix(what.as_bytes());
    let in_folder = |folder: &Path| Some(Path::new(name).strip_prefix(folder).ok()?.as_os_str().as_bytes());
    let in_place = || after(&origin.place())?.strip_prefix(b"/");
    let by_id = || after(origin.id().as_str())?.strip_prefix(b":");
    let real = || in_folder(&origin.real_path()?);
    origin.path().and_then(in_folder).or_else(real).or_else(in_place).or_else(by_id)
}

/// Returns a path without what is before and behind it.
pub(crate) fn without_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// Returns where the files come from that are shown at a path of the tree.
fn shown_at(db: &dyn MetaDb, path: &[u8]) -> Result<Option<Vec<Part>>, MetaError> {
    let Some(node) = explain::find(db, path)? else { return Ok(None) };
    let mut paths: BTreeMap<OriginId, BTreeSet<OriginPath>> = BTreeMap::new();
    let mut add = |id: FileId| -> Result<(), MetaError> {
        for file in db.copies(id)? {
            paths.entry(file.origin).or_default().insert(file.path);
        }
        Ok(())
    };
    let mut todo: Vec<Ino> = Vec::new();
    match node.ino.file_id() {
        Some(id) => add(id)?,
        None => todo.push(node.ino),
    }
    while let Some(dir) = todo.pop() {
        let mut after = Cookie(0);
        loop {
            let page = db.list(dir, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.cookie;
            for node in &page {
                match (node.kind, node.ino.file_id()) {
                    (NodeKind::File, Some(id)) => add(id)?,
                    _ => todo.push(node.ino),
                }
            }
        }
    }
    let whole = node.ino == ROOT_INODE;
    let part = |(origin, paths): (OriginId, BTreeSet<OriginPath>)| Part {
        origin,
        paths: (!whole).then(|| paths.into_iter().collect()),
    };
    Ok(Some(paths.into_iter().map(part).collect()))
}
