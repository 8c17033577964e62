//! Exclusions go with their files: what the user does not want to see is not shown because it has another name.
//!
//! An exclusion of a file goes where the file goes, and leaves its place to whatever comes there. One of a folder goes
//! where the folder goes: where nothing is left of it, and what is in another came from it or is new. A file that is taken out of
//! such a folder, which stays, is no longer excluded.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use musicfs_core::{FileId, FileMeta, FileQuery, FileState, OriginErrorKind, OriginId, OriginPath};

use super::{PAGE, Pass};
use crate::library::Exclusions;
use crate::scan::moves::{Move, Plan};
use crate::scan::writer::Writer;
use crate::scan::{MANY_PATHS, ScanError};

/// So many files below a folder are looked at to tell whether all of them came from another.
const MANY: usize = 20_000;

/// What becomes of exclusions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    removed: Vec<OriginPath>,
    added: Vec<OriginPath>,
    /// Files that went out of an excluded folder, by that folder.
    out_of: BTreeMap<OriginPath, Vec<Move>>,
}

impl Carried {
    /// Decides on the exclusions of single files. `is_own` tells whether a file is the one that its former path means.
    fn of(plan: &Plan, excluded: &Exclusions, origin: &OriginId, is_own: impl Fn(&Move) -> bool) -> Self {
        let mut carried = Self::default();
        for moved in &plan.moves {
            match excluded.covering(origin, &moved.from) {
                Some(by) if is_own(moved) && by == moved.from => {
                    carried.removed.push(by);
                    carried.added.push(moved.to.clone());
                }
                Some(by) if is_own(moved) && !moved.to.is_within(&by) => {
                    carried.out_of.entry(by).or_default().push(moved.clone());
                }
                // Another has had its place since it went.
                _ if moved.hidden && !is_own(moved) => carried.added.push(moved.to.clone()),
                _ => {}
            }
        }
        let ousted = plan.ousted.iter().map(|ousted| &ousted.path);
        carried
            .removed
            .extend(ousted.filter(|at| excluded.covering(origin, at).as_ref() == Some(at)).cloned());
        carried
    }
}

impl Pass<'_> {
    /// Has exclusions go with the files that move.
    pub(super) async fn carry_exclusions(&mut self, plan: &Plan) -> Result<(), ScanError> {
        let excluded = self.write(|writer| Ok(writer.library().exclusions()?)).await?;
        if excluded.is_empty() && !plan.moves.iter().any(|moved| moved.hidden) {
            return Ok(());
        }
        let origin = self.origin.id().clone();
        let is_own = |moved: &Move| self.detector.id_of(&moved.from) == moved.old;
        let mut carried = Carried::of(plan, &excluded, &origin, is_own);
        let mut gone = Vec::new();
        for (folder, files) in std::mem::take(&mut carried.out_of) {
            if !self.is_there(&folder).await {
                gone.push((folder, files));
            }
        }
        let known: HashSet<FileId> = plan.moves.iter().map(|moved| moved.new).collect();
        let new: HashSet<FileId> = self.arrived.iter().copied().filter(|id| !known.contains(id)).collect();
        self.write(move |writer| {
            for (folder, files) in gone {
                let (to, whole) = destinations(writer, &origin, &folder, &files, &new)?;
                carried.added.extend(to);
                carried.removed.extend(whole.then_some(folder));
            }
            Ok(writer.library().move_exclusions(&origin, &carried.removed, &carried.added)?)
        })
        .await
    }

    /// Tells whether anything is below a folder.
    async fn is_there(&mut self, folder: &OriginPath) -> bool {
        let listed = self.options.paths.as_ref().is_none_or(|all| all.iter().any(|at| folder.is_within(at)));
        if listed || self.detector.lists_excluded(folder) {
            return self.detector.lists_excluded(folder);
        }
        // It is outside of what was listed.
        let stat = self.origin.stat(folder).await;
        !stat.is_err_and(|error| error.kind == OriginErrorKind::NotFound)
    }

    /// Returns the excluded files that a pass over a part did not look at.
    pub(super) async fn excluded_elsewhere(&mut self) -> Result<Vec<FileMeta>, ScanError> {
        let origin = self.origin.id().clone();
        let excluded = self.write(|writer| Ok(writer.library().exclusions()?)).await?;
        let ours = excluded.all().into_iter().filter(|(of, _)| *of == origin);
        let at: Vec<(FileId, OriginPath)> =
            ours.map(|(_, path)| (self.detector.id_of(&path), path)).collect();
        let mut found = self
            .write(move |writer| {
                let mut found = Vec::new();
                for (id, path) in at {
                    found.extend(writer.db().file(id)?);
                    if found.len() < MANY {
                        found.extend(writer.files(&FileQuery::Under(origin.clone(), path), PAGE)?.files);
                    }
                }
                Ok(found)
            })
            .await?;
        found.retain(|file| file.state == FileState::Excluded && !self.detector.is_known(file.id));
        Ok(found)
    }
}

/// Returns what is to be excluded now that these files have gone out of a folder that is no more, and whether that is
/// all that the folder's own exclusion was for. A folder in which there is nothing but them and what is `new` is that
/// folder.
fn destinations(
    writer: &Writer,
    origin: &OriginId,
    folder: &OriginPath,
    files: &[Move],
    new: &HashSet<FileId>,
) -> Result<(BTreeSet<OriginPath>, bool), ScanError> {
    let came: HashSet<FileId> = files.iter().map(|moved| moved.new).collect();
    let to_folder = |Move { from, to, .. }: &Move| {
        let below = from.components().skip(folder.components().count()).count();
        let mut at = to.clone();
        (0..below).for_each(|_| at = at.parent());
        let same = from.components().rev().zip(to.components().rev()).take(below).all(|(a, b)| a == b);
        (same && !at.is_root() && to.components().count() > below).then_some(at)
    };
    let folders: BTreeSet<OriginPath> = files.iter().filter_map(to_folder).collect();
    let mut whole = BTreeSet::new();
    for at in folders.into_iter().take(MANY_PATHS) {
        let page = writer.files(&FileQuery::Under(origin.clone(), at.clone()), MANY)?;
        let others = |file: &FileMeta| {
            file.state != FileState::Missing && !came.contains(&file.id) && !new.contains(&file.id)
        };
        if page.next.is_none() && !page.files.iter().any(others) {
            whole.insert(at);
        }
    }
    let mut to = BTreeSet::new();
    for Move { to: at, .. } in files {
        let above = whole.iter().find(|folder| at.is_within(folder));
        to.insert(above.unwrap_or(at).clone());
    }
    let followed = !whole.is_empty() && to == whole;
    Ok((to, followed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::moves::Ousted;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text).unwrap()
    }

    fn moved(from: &str, to: &str, hidden: bool) -> Move {
        let id = |at: &str, salt| FileId::derive(&"o".into(), &path(at), salt);
        let (from, old, to, new) = (path(from), id(from, 0), path(to), id(to, 1));
        Move { old, from, new, to, supersedes: false, hidden }
    }

    fn carried(excluded: &[&str], plan: &Plan, taken: &[&str]) -> (Vec<String>, Vec<String>, usize) {
        let mut all = Exclusions::default();
        excluded.iter().for_each(|at| all.insert("o".into(), path(at)));
        let is_own = |moved: &Move| !taken.contains(&moved.from.to_string().as_str());
        let carried = Carried::of(plan, &all, &"o".into(), is_own);
        let text = |paths: &[OriginPath]| paths.iter().map(ToString::to_string).collect();
        (text(&carried.removed), text(&carried.added), carried.out_of.values().map(Vec::len).sum())
    }

    #[test]
    fn exclusion_of_a_file_goes_with_it_and_leaves_its_place() {
        let moves = vec![moved("a", "b", true), moved("c", "a", false), moved("x", "y", false)];
        let plan = Plan { moves, ..Plan::default() };
        assert_eq!(carried(&["a"], &plan, &[]), (vec!["a".into()], vec!["b".into()], 0));
    }

    #[test]
    fn exclusion_of_a_folder_waits_for_what_became_of_it() {
        let moves = vec![moved("d/1", "e/1", true), moved("d/2", "d/3", true)];
        let plan = Plan { moves, ..Plan::default() };
        assert_eq!(carried(&["d"], &plan, &[]), (vec![], vec![], 1));
    }

    #[test]
    fn excluded_file_that_lost_its_place_leaves_it_and_is_excluded_where_it_comes_again() {
        let ousted = Plan {
            ousted: vec![Ousted { id: moved("a", "b", true).old, path: path("a"), hidden: true }],
            ..Plan::default()
        };
        assert_eq!(carried(&["a"], &ousted, &[]), (vec!["a".into()], vec![], 0));
        let back = Plan { moves: vec![moved("a", "z", true)], ..Plan::default() };
        assert_eq!(carried(&["b"], &back, &["a"]), (vec![], vec!["z".into()], 0));
        assert_eq!(carried(&["b"], &back, &[]), (vec![], vec![], 0), "it was included meanwhile");
    }
}
