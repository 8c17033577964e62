//! Whose turn it is to write, and what the writers tell each other.
//!
//! Several writers work on one catalogue: passes over several origins, refreshes of single files. Each gathers its
//! changes by itself; what it applies, it applies in its turn, so that what it read in the turn still holds when it
//! writes. Whoever is waited for has the next turn, before a pass over all of an origin has another.
//!
//! What placing files needs to know (which albums have several discs, which files were given a number) each writer has
//! a copy of. At the end of a turn it tells what changed of that, and at the beginning of one it hears what others told.
//!
//! One lock, held for a few lines. Waiting for a turn blocks, for about as long as a batch takes to be applied, and what
//! follows from it (an album that is placed anew, the folders around what is excluded).

use std::sync::Arc;

use musicfs_core::{AlbumKey, FileId, Suffixed};
use parking_lot::{Condvar, Mutex};

/// How pressing what a writer writes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Somebody waits for it, or it is little and was seen to change.
    Asked,
    /// It is a pass over all of an origin.
    Whole,
}

/// What a writer found out that others go by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// An album has several discs, or no longer has.
    Discs(AlbumKey, bool),
    /// A file was given a number.
    Number(Suffixed),
    /// A file has its number no more.
    NoNumber(FileId),
}

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    taken: bool,
    /// Writers of [`Lane::Asked`] that wait.
    asked: usize,
    /// All there are: without any there is nobody to be told.
    members: usize,
    news: Vec<News>,
}

impl Turns {
    /// Makes one a writer, who hears what is told from now on.
    pub(super) fn join(self: Arc<Self>, lane: Lane) -> Member {
        let mut state = self.state.lock();
        state.members += 1;
        let heard = state.news.len();
        drop(state);
        Member { turns: self, lane, heard }
    }
}

/// A writer.
pub(super) struct Member {
    turns: Arc<Turns>,
    lane: Lane,
    heard: usize,
}

/// A turn; it ends when dropped.
pub(super) struct Turn(Arc<Turns>);

impl Member {
    /// Waits for a turn, and returns what others told since the last one.
    pub(super) fn take(&mut self) -> (Turn, Vec<News>) {
        let turns = self.turns.clone();
        let mut state = turns.state.lock();
        match self.lane {
            Lane::Asked => {
                state.asked += 1;
                turns.free.wait_while(&mut state, |state| state.taken);
                state.asked -= 1;
            }
            Lane::Whole => turns.free.wait_while(&mut state, |state| state.taken || state.asked > 0),
        }
        state.taken = true;
        let news = state.news[self.heard..].to_vec();
        self.heard = state.news.len();
        drop(state);
        (Turn(turns), news)
    }

    /// Ends a turn and tells the others what it found out.
    pub(super) fn end(&mut self, turn: Turn, news: Vec<News>) {
        let mut state = self.turns.state.lock();
        if state.members > 1 {
            state.news.extend(news);
        }
        self.heard = state.news.len();
        drop(state);
        drop(turn);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.members -= 1;
        if state.members == 0 {
            state.news = Vec::new();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state.lock().taken = false;
        self.0.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_test_utils::eventually_blocking;

    fn id(n: i64) -> FileId {
        FileId::from_raw(n).unwrap()
    }

    #[test]
    fn asked_writer_has_the_next_turn_however_many_wait() {
        let turns = Arc::new(Turns::default());
        let mut first = turns.clone().join(Lane::Whole);
        let order = Arc::new(Mutex::new(Vec::new()));
        let (turn, _) = first.take();
        std::thread::scope(|scope| {
            for (lane, name) in [(Lane::Whole, "whole"), (Lane::Whole, "whole"), (Lane::Asked, "asked")] {
                let (turns, order) = (turns.clone(), order.clone());
                scope.spawn(move || {
                    let mut member = turns.join(lane);
                    let (turn, _) = member.take();
                    order.lock().push(name);
                    member.end(turn, Vec::new());
                });
            }
            eventually_blocking("all to wait", || {
                let state = turns.state.lock();
                state.members == 4 && state.asked == 1
            });
            first.end(turn, Vec::new());
        });
        assert_eq!(order.lock()[0], "asked");
        assert_eq!(order.lock().len(), 3);
    }

    #[test]
    fn news_reach_all_others_once_and_are_dropped_with_the_last() {
        let turns = Arc::new(Turns::default());
        let (mut a, mut b) = (turns.clone().join(Lane::Whole), turns.clone().join(Lane::Asked));
        let (turn, news) = a.take();
        assert!(news.is_empty());
        a.end(turn, vec![News::NoNumber(id(1)), News::NoNumber(id(2))]);
        let late = turns.clone().join(Lane::Whole);
        let (turn, news) = b.take();
        assert_eq!(news, [News::NoNumber(id(1)), News::NoNumber(id(2))]);
        b.end(turn, vec![News::NoNumber(id(3))]);
        let (turn, news) = a.take();
        assert_eq!(news, [News::NoNumber(id(3))], "its own are not told to itself");
        drop(turn);
        let (turn, news) = b.take();
        assert!(news.is_empty());
        drop((turn, a, b, late));
        assert!(turns.state.lock().news.is_empty());
        assert!(!turns.state.lock().taken, "a turn ends with its guard");
    }
}
