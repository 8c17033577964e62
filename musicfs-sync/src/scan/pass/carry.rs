//! Exclusions go with their files: what the user does not want to see is not shown because it has another name.
//!
//! An exclusion of a file goes where the file goes, and leaves its place to whatever comes there. One of a folder goes
//! where the folder goes. It has gone when no music that is known of it is where it was, and most of what is found of
//! it is in folders that hold nothing else but what is new, each file in the same place below. What came there from
//! elsewhere in the same pass was put into the folder, unless it is as much, and seems to have been that folder itself.
//! Then what is at its old place is another (`displaced.rs`), whatever that is. Where nothing is there, files that went
//! elsewhere stay excluded one by one. A file that is taken out of such a folder, which stays, is no longer excluded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use musicfs_core::{
    FileId, FileKind, FileMeta, FileQuery, FileState, Op, OriginErrorKind, OriginId, OriginPath,
};

use super::{PAGE, Pass};
use crate::library::Exclusions;
use crate::scan::moves::{Move, Plan};
use crate::scan::writer::Writer;
use crate::scan::{MANY_PATHS, ScanError};

/// So many files below a folder are looked at to tell whether all of them came from another.
const MANY: usize = 20_000;

/// What becomes of exclusions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    removed: Vec<OriginPath>,
    added: Vec<OriginPath>,
    /// Files that went out of an excluded folder, by that folder.
    out_of: BTreeMap<OriginPath, Vec<Move>>,
}

impl Outcome {
    /// Decides on the exclusions of single files. `is_own` tells whether a file is the one that its former path means,
    /// `is_settled` of which exclusions it was decided before.
    fn of(
        plan: &Plan,
        excluded: &Exclusions,
        origin: &OriginId,
        is_own: impl Fn(&Move) -> bool,
        is_settled: impl Fn(&OriginPath) -> bool,
    ) -> Self {
        let covering = |at: &OriginPath| excluded.covering(origin, at).filter(|by| !is_settled(by));
        let mut outcome = Self::default();
        for moved in &plan.moves {
            match covering(&moved.from) {
                Some(by) if is_own(moved) && by == moved.from => {
                    outcome.removed.push(by);
                    outcome.added.push(moved.to.clone());
                }
                Some(by) if is_own(moved) && !moved.to.is_within(&by) => {
                    outcome.out_of.entry(by).or_default().push(moved.clone());
                }
                // Another has had its place since it went.
                _ if moved.hidden && !is_own(moved) && excluded.covering(origin, &moved.to).is_none() => {
                    outcome.added.push(moved.to.clone());
                }
                _ => {}
            }
        }
        let ousted = plan.ousted.iter().map(|ousted| &ousted.path);
        outcome.removed.extend(ousted.filter(|at| covering(at).as_ref() == Some(at)).cloned());
        outcome
    }
}

/// What is left at the place of an excluded folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The folder.
    Itself,
    /// Something else.
    Another,
    Nothing,
}

impl Pass<'_> {
    /// Has exclusions go with the files that move; returns the folders that they have left. `gone` files are to be lost.
    pub(super) async fn carry_exclusions(
        &mut self,
        plan: &Plan,
        gone: &[FileId],
    ) -> Result<Vec<OriginPath>, ScanError> {
        let excluded = self.write(|writer| Ok(writer.library().exclusions()?)).await?;
        if excluded.is_empty() && !plan.moves.iter().any(|moved| moved.hidden) {
            return Ok(Vec::new());
        }
        let origin = self.origin.id().clone();
        let is_own = |moved: &Move| self.detector.id_of(&moved.from) == moved.old;
        // A pass that was killed may have taken it elsewhere before the files went.
        let is_settled = |by: &OriginPath| self.carried.concerns(&origin, by);
        let mut outcome = Outcome::of(plan, &excluded, &origin, is_own, is_settled);
        self.note_what_is_left(plan);
        let mut out_of = Vec::new();
        for (folder, files) in std::mem::take(&mut outcome.out_of) {
            out_of.push((self.left_of(&folder).await, folder, files));
        }
        out_of.retain(|(left, ..)| *left != Left::Itself);
        let around = Around::of(plan, gone, &self.arrived, self.apart.recorded(), &out_of);
        let of = origin.clone();
        let (Outcome { removed, added, .. }, vacated, others) = self
            .write(move |writer| {
                let (mut vacated, mut others) = (Vec::new(), Vec::new());
                for (left, folder, files) in out_of {
                    let to = destinations(writer, &of, &folder, &files, &around)?;
                    if to.followed || left == Left::Nothing {
                        outcome.added.extend(to.paths);
                        others.extend(to.others.into_iter().map(|id| (id, around.new.contains(&id))));
                    }
                    if to.followed {
                        outcome.removed.push(folder.clone());
                        vacated.push(folder);
                    }
                }
                Ok((outcome, vacated, others))
            })
            .await?;
        if removed.is_empty() && added.is_empty() {
            return Ok(vacated);
        }
        self.carried.extend(&origin, &removed, &added);
        let (noted, of) = (self.under_way().op(&origin), origin.clone());
        let hidden = others.iter().filter(|(_, is_new)| *is_new).count() as u64;
        self.write(move |writer| {
            writer.push(noted);
            writer.flush()?;
            fail::fail_point!("delta-sync-before-exclusions", |_| Err(ScanError::Cancelled));
            writer.library().move_exclusions(&of, &removed, &added)?;
            for (id, _) in others {
                writer.push(Op::SetState(id, FileState::Excluded));
                writer.push(Op::Unplace(id));
            }
            writer.flush()
        })
        .await?;
        self.report.added = self.report.added.saturating_sub(hidden);
        let excluded = self.write(|writer| Ok(writer.library().exclusions()?)).await?;
        self.detector.exclude(excluded);
        Ok(vacated)
    }

    /// Takes note of excluded folders that still hold what they held, with other tags or names.
    fn note_what_is_left(&mut self, plan: &Plan) {
        let kept = plan.stays.iter().filter(|stays| stays.same_audio);
        for file in kept.chain(plan.moves.iter().filter(|moved| moved.hidden)) {
            let by = self.detector.excluded_by(&file.from);
            if by.is_some_and(|by| by != file.from && file.to.is_within(&by)) {
                self.detector.is_left(&file.from);
            }
        }
    }

    /// Tells what is left at the place of an excluded folder.
    async fn left_of(&mut self, folder: &OriginPath) -> Left {
        let listed = self.options.paths.as_ref().is_none_or(|all| all.iter().any(|at| folder.is_within(at)));
        if listed {
            return match self.detector.below(folder) {
                _ if self.is_unlisted(folder) => Left::Itself,
                None => Left::Nothing,
                Some(below) if below.lifted && !below.music => Left::Another,
                Some(_) => Left::Itself,
            };
        }
        // It is outside of what was listed.
        match self.origin.stat(folder).await {
            Err(error) if error.kind == OriginErrorKind::NotFound => Left::Nothing,
            _ => Left::Itself,
        }
    }

    /// Shows what is in folders that are no longer excluded, and did not come from elsewhere.
    pub(super) async fn show_what_is_left(&mut self, folders: Vec<OriginPath>) -> Result<(), ScanError> {
        let arrived: HashSet<FileId> = self.arrived.iter().copied().collect();
        for folder in folders {
            let query = FileQuery::Under(self.origin.id().clone(), folder);
            let mut after = None;
            loop {
                let of = query.clone();
                let page = self.write(move |writer| Ok(writer.db().files(&of, after, PAGE)?)).await?;
                let mut left = Vec::new();
                for file in page.files {
                    let is_new = arrived.contains(&file.id);
                    if file.state == FileState::Excluded
                        && !self.detector.is_excluded(&file.path)
                        && (is_new || self.detector.is_in_place(file.id))
                    {
                        self.report.added += u64::from(is_new);
                        self.folders.resettle.insert(file.path.parent());
                        left.push((file.id, file.path));
                    }
                }
                self.write(move |writer| {
                    left.into_iter().try_for_each(|(id, path)| writer.restore(id, path))?;
                    writer.flush()
                })
                .await?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
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

/// What else becomes of files in a pass.
struct Around {
    /// Files that are not there for long: they move away, are gone, or are known under other ids.
    passing: HashSet<FileId>,
    /// Those that are new.
    new: HashSet<FileId>,
    /// Those that were known elsewhere, by the ids that they are recorded under.
    came: HashMap<FileId, Move>,
}

impl Around {
    fn of(
        plan: &Plan,
        gone: &[FileId],
        arrived: &[FileId],
        apart: Vec<FileId>,
        out_of: &[(Left, OriginPath, Vec<Move>)],
    ) -> Self {
        let came: HashMap<_, _> = plan.moves.iter().map(|moved| (moved.new, moved.clone())).collect();
        let new = arrived.iter().copied().filter(|id| !came.contains_key(id)).collect();
        let went_out = out_of.iter().flat_map(|(_, _, files)| files.iter().map(|moved| moved.new));
        let away = plan.moves.iter().map(|moved| moved.old).chain(gone.iter().copied());
        Self { passing: away.chain(went_out).chain(apart).collect(), new, came }
    }

    /// Tells whether a folder to which `own` files came from another may be a third one: as many seem to have been
    /// that, or were taken to the same place each from where others are still.
    fn is_another(
        &self,
        writer: &Writer,
        origin: &OriginId,
        (at, of): (&OriginPath, &OriginPath),
        own: usize,
    ) -> Result<bool, ScanError> {
        let mut rivals: BTreeMap<OriginPath, (usize, usize)> = BTreeMap::new();
        for Move { from, to, hidden, .. } in self.came.values() {
            if *hidden || !to.is_within(at) || from.is_within(of) {
                continue;
            }
            let depth = levels_below(at, to);
            let was = above(from, to, depth).filter(|was| !at.is_within(was));
            if let Some(was) = was {
                let (all, beside) = rivals.entry(was).or_default();
                *all += 1;
                *beside += usize::from(depth == 1);
            }
        }
        let mut others = 0;
        for (folder, (all, beside)) in rivals {
            let query = FileQuery::Under(origin.clone(), folder);
            let stays = |file: &FileMeta| {
                let moves = self.passing.contains(&file.id) || self.came.contains_key(&file.id);
                file.state != FileState::Missing && !moves && !self.new.contains(&file.id)
            };
            let has_gone = !writer.files(&query, MANY)?.files.iter().any(stays);
            others += if has_gone { all } else { beside };
        }
        Ok(others >= own)
    }
}

/// Returns how deep below a folder a place is that is within it.
fn levels_below(folder: &OriginPath, place: &OriginPath) -> usize {
    place.components().skip(folder.components().count()).count()
}

/// Returns the folder so many levels above a place, if the names of these are those of the other place too.
fn above(other: &OriginPath, place: &OriginPath, levels: usize) -> Option<OriginPath> {
    let same = other.components().rev().zip(place.components().rev()).take(levels).all(|(a, b)| a == b);
    let at = (0..levels).fold(other.clone(), |at, _| at.parent());
    (same && !at.is_root() && other.components().count() > levels).then_some(at)
}

/// Where a folder's files have gone.
struct Destinations {
    /// What is to be excluded now.
    paths: BTreeSet<OriginPath>,
    /// What else is shown below it.
    others: Vec<FileId>,
    /// That is the folder.
    followed: bool,
}

/// Returns what is to be excluded now that these files have gone out of a folder.
fn destinations(
    writer: &Writer,
    origin: &OriginId,
    folder: &OriginPath,
    files: &[Move],
    around: &Around,
) -> Result<Destinations, ScanError> {
    let to_folder = |Move { from, to, .. }: &Move| above(to, from, levels_below(folder, from));
    let folders: BTreeSet<OriginPath> = files.iter().filter_map(to_folder).collect();
    let (mut whole, mut others) = (BTreeSet::new(), Vec::new());
    for at in folders.into_iter().take(MANY_PATHS) {
        let mut page = writer.files(&FileQuery::Under(origin.clone(), at.clone()), MANY)?;
        page.files.retain(|file| file.state != FileState::Missing && !around.passing.contains(&file.id));
        // Covers are alike in many folders.
        let has_come = |id: &FileId| around.new.contains(id) || around.came.contains_key(id);
        let is_no_other = |file: &FileMeta| file.kind == FileKind::Sidecar || has_come(&file.id);
        let own = files.iter().filter(|moved| moved.to.is_within(&at)).count();
        if page.next.is_none()
            && page.files.iter().all(is_no_other)
            && !around.is_another(writer, origin, (&at, folder), own)?
        {
            let shown = page.files.iter().filter(|file| file.state != FileState::Excluded);
            others.extend(shown.map(|file| file.id));
            whole.insert(at);
        }
    }
    let (mut paths, mut within) = (BTreeSet::new(), 0);
    for Move { to: at, .. } in files {
        let above = whole.iter().find(|folder| at.is_within(folder));
        within += usize::from(above.is_some());
        paths.insert(above.unwrap_or(at).clone());
    }
    Ok(Destinations { paths, others, followed: 2 * within > files.len() })
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
        Move { old, from, new, to, supersedes: false, changed: false, same_audio: true, hidden }
    }

    #[test]
    fn folder_of_a_file_is_found_where_all_below_it_has_the_same_names() {
        let above = |other, place, levels| above(&path(other), &path(place), levels).map(|at| at.to_string());
        assert_eq!(above("p/a/1", "b/1", 1), Some("p/a".to_owned()));
        assert_eq!(above("p/a/x/1", "b/x/1", 2), Some("p/a".to_owned()));
        assert_eq!(above("p/a/y/1", "b/x/1", 2), None, "another folder below");
        assert_eq!(above("a/2", "b/1", 1), None, "another name");
        assert_eq!(above("x/1", "b/x/1", 2), None, "the root");
    }

    fn carried(excluded: &[&str], plan: &Plan, taken: &[&str]) -> (Vec<String>, Vec<String>, usize) {
        let mut all = Exclusions::default();
        excluded.iter().for_each(|at| all.insert("o".into(), path(at)));
        let is_own = |moved: &Move| !taken.contains(&moved.from.to_string().as_str());
        let outcome = Outcome::of(plan, &all, &"o".into(), is_own, |by| *by == path("settled"));
        let text = |paths: &[OriginPath]| paths.iter().map(ToString::to_string).collect();
        (text(&outcome.removed), text(&outcome.added), outcome.out_of.values().map(Vec::len).sum())
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
    fn exclusion_that_was_taken_elsewhere_is_not_taken_back_by_what_was_there() {
        let moves = vec![moved("settled", "x", false), moved("settled/1", "y/1", true)];
        let ousted = vec![Ousted { id: moves[0].old, path: path("settled"), hidden: false }];
        let plan = Plan { moves, ousted, ..Plan::default() };
        assert_eq!(carried(&["settled"], &plan, &[]), (vec![], vec![], 0));
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
