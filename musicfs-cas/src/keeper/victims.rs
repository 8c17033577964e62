//! Which chunks go: pure.

use std::collections::BinaryHeap;

use musicfs_core::ChunkHash;

use crate::index::{ChunkClass, Entry};

/// A chunk that may go. The order is that in which they go: first by kind, then by last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u8,
    used: u64,
    hash: ChunkHash,
    len: u32,
}

/// Chooses among all chunks as few as will do, without holding more than those.
#[derive(Debug)]
pub(super) struct Victims {
    goal: u64,
    before: u64,
    edges_last: bool,
    orphans_first: bool,
    /// The one that would go last is at the top.
    chosen: BinaryHeap<Candidate>,
    bytes: u64,
}

impl Victims {
    /// Begins to choose chunks of `goal` bytes together, used before a time.
    pub(super) fn new(goal: u64, before: u64) -> Self {
        Self { goal, before, edges_last: false, orphans_first: false, chosen: BinaryHeap::new(), bytes: 0 }
    }

    /// Says whether heads and tails go only when nothing else is left.
    pub(super) fn spare_edges(&mut self, spare: bool) {
        self.edges_last = spare;
    }

    /// Says whether chunks that no file is in go before others: whether it is known which those are.
    pub(super) fn orphans_first(&mut self, known: bool) {
        self.orphans_first = known;
    }

    /// Considers a chunk.
    pub(super) fn offer(&mut self, hash: ChunkHash, entry: &Entry) {
        if entry.pinned != 0 || entry.used >= self.before {
            return;
        }
        let rank = match entry.class {
            _ if self.orphans_first && entry.refs == 0 => 0,
            ChunkClass::Edge if self.edges_last => 2,
            ChunkClass::Body | ChunkClass::Edge => 1,
        };
        self.chosen.push(Candidate { rank, used: entry.used, hash, len: entry.len });
        self.bytes += u64::from(entry.len);
        while let Some(last) = self.chosen.peek()
            && self.bytes - u64::from(last.len) >= self.goal
        {
            self.bytes -= u64::from(last.len);
            self.chosen.pop();
        }
    }

    /// Returns those chosen, the first to go first.
    pub(super) fn in_order(self) -> Vec<ChunkHash> {
        self.chosen.into_sorted_vec().into_iter().map(|candidate| candidate.hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: usize) -> ChunkHash {
        ChunkHash::of(&n.to_le_bytes())
    }

    fn entry(used: u64, class: ChunkClass) -> Entry {
        Entry { used, len: 100, refs: 1, class, pinned: 0 }
    }

    fn chosen(victims: Victims, entries: &[Entry]) -> Vec<usize> {
        let order = victims.in_order();
        let number = |hash: &ChunkHash| (0..entries.len()).find(|n| super::tests::hash(*n) == *hash).unwrap();
        order.iter().map(number).collect()
    }

    fn choose(goal: u64, entries: &[Entry], set: impl FnOnce(&mut Victims)) -> Vec<usize> {
        let mut victims = Victims::new(goal, u64::MAX);
        set(&mut victims);
        entries.iter().enumerate().for_each(|(n, entry)| victims.offer(hash(n), entry));
        chosen(victims, entries)
    }

    #[test]
    fn used_longest_ago_goes_first_and_pinned_stays() {
        let mut entries = [5, 1, 4, 2, 3].map(|used| entry(used, ChunkClass::Body));
        assert_eq!(choose(250, &entries, |_| {}), [1, 3, 4]);
        entries[1].pinned = 1;
        assert_eq!(choose(250, &entries, |_| {}), [3, 4, 2]);
        assert!(choose(0, &entries, |_| {}).is_empty());
    }

    #[test]
    fn heads_and_tails_go_last_while_they_are_spared() {
        let entries = [entry(1, ChunkClass::Edge), entry(2, ChunkClass::Body), entry(3, ChunkClass::Body)];
        assert_eq!(choose(200, &entries, |victims| victims.spare_edges(true)), [1, 2]);
        assert_eq!(choose(300, &entries, |victims| victims.spare_edges(true)), [1, 2, 0]);
        assert_eq!(choose(200, &entries, |_| {}), [0, 1]);
    }

    #[test]
    fn what_no_file_is_in_goes_first_once_that_is_known() {
        let mut entries = [1, 2, 9].map(|used| entry(used, ChunkClass::Body));
        entries[2].refs = 0;
        assert_eq!(choose(100, &entries, |victims| victims.orphans_first(true)), [2]);
        assert_eq!(choose(100, &entries, |_| {}), [0]);
    }

    proptest! {
        #[test]
        fn chosen_are_just_enough_and_the_oldest(
            chunks in prop::collection::vec((0u64..50, 1u32..1000), 0..60),
            goal in 0u64..20_000,
        ) {
            let entries: Vec<_> =
                chunks.iter().map(|(used, len)| Entry { used: *used, len: *len, refs: 1, ..Entry::default() }).collect();
            let order = choose(goal, &entries, |_| {});
            let len = |n: &usize| u64::from(entries[*n].len);
            let all: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
            let sum: u64 = order.iter().map(len).sum();
            prop_assert!(sum >= goal.min(all));
            let oldest_left = (0..entries.len()).filter(|n| !order.contains(n)).map(|n| entries[n].used).min();
            let youngest = order.iter().map(|n| entries[*n].used).max();
            if let (Some(left), Some(youngest)) = (oldest_left, youngest) {
                prop_assert!(youngest <= left);
            }
            if let Some(last) = order.last() {
                prop_assert!(sum - len(last) < goal);
            }
        }
    }
}
