//! The course of a handle on a file that has copies: what its reader was served, and which copy it reads now.
//!
//! # Invariants
//! * A handle reads one content. It goes over to another copy only when all that it was served so far has been
//!   found, byte for byte, in that copy too: what it has read and will read is then that copy, as a whole.
//! * A copy that differs is never asked again for this handle.
//!
//! One lock, held for a few lines. [`Course::turn`] is taken by whoever looks for another copy, so that one does for
//! all who read the handle; it is no lock of the state.

use std::collections::{BTreeMap, HashMap, HashSet};

use parking_lot::Mutex;

use crate::{ByteRange, ChunkHash, FileId, FileMeta, OriginId, ReadPlan};

/// Stretches remembered for a handle, at 40 bytes each. A handle that was served more stays with its copy.
const MOST: usize = 8192;

/// See the module.
#[derive(Debug)]
pub struct Course {
    of: FileId,
    origin: OriginId,
    copies: Vec<FileMeta>,
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reading: FileId,
    /// What the handle reads in place of its plan.
    plan: Option<ReadPlan>,
    /// What was served, by where it begins.
    served: BTreeMap<u64, (ByteRange, ChunkHash)>,
    overflown: bool,
    /// The stretches that are known to be the same, by copy.
    agreed: HashMap<FileId, HashSet<u64>>,
    differ: HashSet<FileId>,
}

impl Course {
    /// Begins the course of a handle on `of`, which reads the copy `reading` of `copies`.
    pub fn new(of: &FileMeta, reading: FileId, copies: Vec<FileMeta>) -> Self {
        let state = State {
            reading,
            plan: None,
            served: BTreeMap::new(),
            overflown: false,
            agreed: HashMap::new(),
            differ: HashSet::new(),
        };
        let turn = tokio::sync::Mutex::default();
        Self { of: of.id, origin: of.origin.clone(), copies, turn, state: Mutex::new(state) }
    }

    /// Returns the file that was opened, and its origin.
    pub fn of(&self) -> (FileId, &OriginId) {
        (self.of, &self.origin)
    }

    /// Returns all copies that may take each other's place: they have the same length.
    pub fn copies(&self) -> &[FileMeta] {
        &self.copies
    }

    /// Waits for the turn to look for another copy.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Returns the copy that is read now.
    pub fn reading(&self) -> FileId {
        self.state.lock().reading
    }

    /// Returns the plan that took the place of the one that was opened.
    pub fn plan(&self) -> Option<ReadPlan> {
        self.state.lock().plan.clone()
    }

    /// Tells whether the handle went over to another copy.
    pub fn has_switched(&self) -> bool {
        self.state.lock().plan.is_some()
    }

    /// Takes note of what the copy `by` delivered. False when the handle reads another copy by now: then it must not
    /// be served.
    pub fn serve(&self, by: FileId, range: ByteRange, bytes: &[u8]) -> bool {
        let hash = ChunkHash::of(bytes);
        let mut state = self.state.lock();
        if state.reading != by {
            return false;
        }
        let at = range.start();
        match state.served.get(&at) {
            Some((known, _)) if known.len() >= range.len() => return true,
            Some(_) => state.agreed.values_mut().for_each(|agreed| {
                agreed.remove(&at);
            }),
            None if state.served.len() >= MOST => {
                state.overflown = true;
                return true;
            }
            None => {}
        }
        state.served.insert(at, (range, hash));
        state.agreed.entry(by).or_default().insert(at);
        true
    }

    /// Returns what a copy is still to be compared with; `None` when it cannot take the handle over.
    pub fn to_compare(&self, copy: FileId) -> Option<Vec<(ByteRange, ChunkHash)>> {
        let state = self.state.lock();
        if state.overflown || state.differ.contains(&copy) {
            return None;
        }
        let agreed = state.agreed.get(&copy);
        let open = |at: &u64| agreed.is_none_or(|agreed| !agreed.contains(at));
        Some(state.served.iter().filter(|(at, _)| open(at)).map(|(_, served)| *served).collect())
    }

    /// Takes note of what a copy has at a stretch that was served. False when it differs.
    pub fn compare(&self, copy: FileId, range: ByteRange, hash: ChunkHash, bytes: &[u8]) -> bool {
        let same = ChunkHash::of(bytes) == hash;
        let mut state = self.state.lock();
        if same {
            state.agreed.entry(copy).or_default().insert(range.start());
        } else {
            state.differ.insert(copy);
        }
        same
    }

    /// Takes note that a copy is known to be the same throughout.
    pub fn is_same(&self, copy: FileId) {
        let mut state = self.state.lock();
        let all: HashSet<u64> = state.served.keys().copied().collect();
        state.agreed.insert(copy, all);
    }

    /// Goes over to another copy. False when something has been served that it was not compared with.
    pub fn switch(&self, plan: ReadPlan) -> bool {
        let copy = plan.file();
        let mut state = self.state.lock();
        let agreed = state.agreed.get(&copy);
        let proven = !state.overflown
            && state.served.keys().all(|at| agreed.is_some_and(|agreed| agreed.contains(at)));
        if proven {
            state.reading = copy;
            state.plan = Some(plan);
        }
        proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileKind, FileState, FileVersion, OriginPath};

    fn file(origin: &str) -> FileMeta {
        let (origin, path) = (OriginId::from(origin), OriginPath::new("a.flac").unwrap());
        FileMeta {
            id: FileId::derive(&origin, &path, 0),
            origin,
            path,
            version: FileVersion { size: 100, ..Default::default() },
            kind: FileKind::Audio,
            state: FileState::Present,
            format: None,
            audio: None,
            problem: None,
            shown_at: None,
        }
    }

    #[test]
    fn handle_goes_over_only_to_a_copy_that_has_all_that_was_served() {
        let (a, b, c) = (file("a"), file("b"), file("c"));
        let course = Course::new(&a, a.id, vec![a.clone(), b.clone(), c.clone()]);
        let (first, second) = (ByteRange::at(0, 3), ByteRange::at(3, 3));
        assert!(course.serve(a.id, first, b"abc") && course.serve(a.id, second, b"def"));
        assert!(!course.switch(ReadPlan::verbatim(&b)), "nothing was compared");
        let open = course.to_compare(b.id).unwrap();
        assert_eq!(open.iter().map(|(range, _)| *range).collect::<Vec<_>>(), [first, second]);
        assert!(course.compare(b.id, first, open[0].1, b"abc"));
        assert!(!course.switch(ReadPlan::verbatim(&b)), "only a part was compared");
        assert!(course.compare(b.id, second, open[1].1, b"def"));
        assert!(course.serve(a.id, ByteRange::at(6, 1), b"g"));
        assert!(!course.switch(ReadPlan::verbatim(&b)), "more has been served meanwhile");
        let open = course.to_compare(b.id).unwrap();
        assert!(course.compare(b.id, open[0].0, open[0].1, b"g"));
        assert!(course.switch(ReadPlan::verbatim(&b)));
        assert_eq!((course.reading(), course.plan().map(|plan| plan.file())), (b.id, Some(b.id)));
        assert!(!course.serve(a.id, ByteRange::at(7, 1), b"h"), "it came from the copy before");
        assert!(course.serve(b.id, ByteRange::at(7, 1), b"H"));
        // One that differs is never taken.
        let open = course.to_compare(c.id).unwrap();
        assert!(!course.compare(c.id, open[0].0, open[0].1, b"xyz"));
        assert_eq!(course.to_compare(c.id), None);
    }

    #[test]
    fn longer_stretch_at_the_same_place_is_compared_anew() {
        let (a, b) = (file("a"), file("b"));
        let course = Course::new(&a, a.id, vec![a.clone(), b.clone()]);
        assert!(course.serve(a.id, ByteRange::at(0, 1), b"a"));
        let open = course.to_compare(b.id).unwrap();
        assert!(course.compare(b.id, open[0].0, open[0].1, b"a"));
        assert!(course.serve(a.id, ByteRange::at(0, 2), b"ab"));
        assert!(!course.switch(ReadPlan::verbatim(&b)));
        course.is_same(b.id);
        assert!(course.switch(ReadPlan::verbatim(&b)));
    }
}
