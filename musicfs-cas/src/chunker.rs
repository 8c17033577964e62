//! Cuts what arrives of a file into chunks.
//!
//! Pure. Bytes arrive in stretches, in any order; chunks are cut from contiguous runs by content (FastCDC, v2020,
//! as in Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
//! IEEE TPDS 2020), so that the same audio behind a tag of another length gives the same chunks. A *fence* is an
//! offset that no chunk crosses: where a file's tags end and its audio begins.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastcdc::v2020::FastCDC;
use musicfs_core::ByteRange;

use crate::buffers::{PIECE, join};

/// Smallest chunk that is cut by content: what disks give in one go costs them least. Here, four readers of whole files
/// got 1.08 GB/s of files of 1 MiB and 1.50 GB/s of files of 2 MiB, where one of long files got 1.32 GB/s.
const MIN_CHUNK: usize = 1 << 20;
/// Size that cutting aims at. Half of all chunks are cut by their content, the others at the largest size: 1.8 MiB on average.
const AVG_CHUNK: usize = 3 << 19;
/// A run that may go on is cut when it is this long: shorter ones have seldom a cut, and are searched for nothing.
const WORTH_CUTTING: usize = AVG_CHUNK;
/// Largest chunk: what is read and hashed to answer for one byte of it.
pub(crate) const MAX_CHUNK: usize = PIECE;

/// A chunk that was cut: its place in the file and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where in the file.
    pub(crate) range: ByteRange,
    /// The bytes of that range.
    pub(crate) bytes: Bytes,
}

/// Holds what has arrived of one file and is not cut yet.
#[derive(Debug, Default)]
pub(crate) struct Chunker {
    /// Stretches by offset; no two overlap.
    waiting: BTreeMap<u64, Bytes>,
    fences: Vec<u64>,
}

impl Chunker {
    /// Makes a chunker for a file of which no chunk may cross one of `fences`.
    pub(crate) fn new(mut fences: Vec<u64>) -> Self {
        fences.sort_unstable();
        Self { waiting: BTreeMap::new(), fences }
    }

    /// Makes one for other bytes of the same file.
    pub(crate) fn another(&self) -> Self {
        Self { waiting: BTreeMap::new(), fences: self.fences.clone() }
    }

    /// Takes a stretch that does not overlap what waits already.
    pub(crate) fn push(&mut self, offset: u64, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting.insert(offset, bytes);
        }
    }

    /// Returns the number of bytes that wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.values().map(Bytes::len).sum()
    }

    /// Cuts what can be cut; see [`Chunker::take_ready`].
    pub(crate) fn cut(&mut self, more_at: impl Fn(u64) -> bool) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for run in self.take_ready(more_at) {
            let (of_run, rest) = run.cut();
            cuts.extend(of_run);
            if let Some(rest) = rest {
                self.push(rest.range.start(), rest.bytes);
            }
        }
        cuts
    }

    /// Takes out the runs that are worth cutting. `more_at` tells whether bytes at an offset are still to come: the end
    /// of a run before such an offset waits for them; any other end is final.
    pub(crate) fn take_ready(&mut self, more_at: impl Fn(u64) -> bool) -> Vec<Run> {
        let mut ready = Vec::new();
        let mut next = self.waiting.first_key_value().map(|(offset, _)| *offset);
        while let Some(start) = next {
            let end = self.run_end(start);
            let is_final = self.fences.binary_search(&end).is_ok() || !more_at(end);
            if is_final || end - start >= WORTH_CUTTING as u64 {
                ready.push(Run { start, parts: self.take(start, end), is_final });
            }
            next = self.waiting.range(end..).next().map(|(offset, _)| *offset);
        }
        ready
    }

    /// Returns where the run that starts at `start` ends: at a hole or a fence.
    fn run_end(&self, start: u64) -> u64 {
        let fence = self.fences.iter().copied().find(|fence| *fence > start).unwrap_or(u64::MAX);
        let mut end = start;
        for (offset, part) in self.waiting.range(start..fence) {
            if *offset != end {
                break;
            }
            end += part.len() as u64;
        }
        end.min(fence)
    }

    /// Removes what waits from `start` to `end`, where there are no holes.
    fn take(&mut self, start: u64, end: u64) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut at = start;
        while at < end
            && let Some(mut part) = self.waiting.remove(&at)
        {
            let room = usize::try_from(end - at).unwrap_or(usize::MAX);
            if part.len() > room {
                self.waiting.insert(end, part.split_off(room));
            }
            at += part.len() as u64;
            parts.push(part);
        }
        parts
    }
}

/// Bytes that follow one another, out of their chunker to be cut.
#[derive(Debug)]
pub(crate) struct Run {
    start: u64,
    parts: Vec<Bytes>,
    is_final: bool,
}

impl Run {
    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Puts its bytes together, as [`Run::cut`] does otherwise.
    pub(crate) fn joined(self) -> Self {
        Self { parts: vec![join(self.parts)], ..self }
    }

    /// Cuts it; returns the chunks, and what has to wait for more and belongs back into the chunker. Takes the processor
    /// for a millisecond or so.
    pub(crate) fn cut(self) -> (Vec<Cut>, Option<Cut>) {
        let bytes = join(self.parts);
        let cut = |at: usize, bytes| Cut {
            range: ByteRange::at(self.start + at as u64, Bytes::len(&bytes) as u64),
            bytes,
        };
        let (mut cuts, mut at) = (Vec::new(), 0);
        for len in cut_run(&bytes, self.is_final) {
            cuts.push(cut(at, bytes.slice(at..at + len)));
            at += len;
        }
        let rest = (at < bytes.len()).then(|| cut(at, bytes.slice(at..)));
        (cuts, rest)
    }
}

/// Returns the lengths of the chunks at the beginning of a run. What could still be cut elsewhere when more comes
/// is left over, unless the run's end is final.
fn cut_run(run: &[u8], is_final: bool) -> Vec<usize> {
    let cdc = FastCDC::new(run, MIN_CHUNK, AVG_CHUNK, MAX_CHUNK);
    let (mut lengths, mut at) = (Vec::new(), 0);
    while at < run.len() && (is_final || run.len() - at >= WORTH_CUTTING) {
        let (_, end) = cdc.cut(at, run.len() - at);
        // That the run ends here says nothing of its content: more may come.
        if end == run.len() && end - at < MAX_CHUNK && !is_final {
            break;
        }
        lengths.push(end - at);
        at = end;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_test_utils::library::random_bytes;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u64) -> Bytes {
        random_bytes(len, seed).into()
    }

    fn cut_whole(file: &Bytes, fences: Vec<u64>) -> Vec<Cut> {
        let mut chunker = Chunker::new(fences);
        chunker.push(0, file.clone());
        chunker.cut(|_| false)
    }

    #[test]
    fn audio_behind_a_longer_tag_gives_the_same_chunks() {
        let audio = noise(12 << 20, 7);
        let file = |tag: usize| Bytes::from([noise(tag, 3).as_ref(), audio.as_ref()].concat());
        let of = |tag: usize| {
            let cuts = cut_whole(&file(tag), vec![tag as u64]);
            cuts.into_iter().filter(|c| c.range.start() >= tag as u64).map(|c| c.bytes).collect::<Vec<_>>()
        };
        assert_eq!(of(4_000), of(90_000));
        assert!(of(4_000).len() > 3);
    }

    #[test]
    fn end_of_a_run_waits_for_what_follows() {
        let file = noise(6_000_000, 5);
        let mut chunker = Chunker::new(vec![]);
        chunker.push(0, file.slice(..700_000));
        let mut cuts = chunker.cut(|at| at == 700_000);
        assert_ne!(chunker.len(), 0);
        chunker.push(700_000, file.slice(700_000..));
        cuts.append(&mut chunker.cut(|_| false));
        assert_eq!(cuts, cut_whole(&file, vec![]));
        assert_eq!(chunker.len(), 0);
    }

    #[test]
    fn chunk_is_cut_before_the_longest_possible_has_come() {
        let cut = |seed| (noise(6_000_000, seed), cut_whole(&noise(6_000_000, seed), vec![]).swap_remove(0));
        let is_cut_early = |(_, first): &(Bytes, Cut)| first.bytes.len() < MAX_CHUNK;
        let (file, first) = (1..20).map(cut).find(is_cut_early).unwrap();
        let come = WORTH_CUTTING.max(first.range.end() as usize + 1);
        assert!(come < MAX_CHUNK);
        let mut chunker = Chunker::new(vec![]);
        chunker.push(0, file.slice(..come));
        assert_eq!(chunker.cut(|at| at == come as u64), [first]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn chunks_of_stretches_in_any_order_are_the_file(
            len in 1usize..8_000_000,
            steps in prop::collection::vec(1usize..1_900_000, 1..8),
            fence in 0u64..8_000_000,
            order in any::<prop::sample::Index>(),
        ) {
            let file = noise(len, 11);
            let mut stretches = Vec::new();
            let mut at = 0;
            for step in steps.iter().cycle() {
                if at == len { break }
                let end = (at + step).min(len);
                stretches.push(at..end);
                at = end;
            }
            let turn = order.index(stretches.len());
            stretches.rotate_left(turn);
            let mut chunker = Chunker::new(vec![fence]);
            let mut cuts = Vec::new();
            for (n, range) in stretches.iter().enumerate() {
                chunker.push(range.start as u64, file.slice(range.clone()));
                let pending = &stretches[n + 1..];
                cuts.extend(chunker.cut(|at| pending.iter().any(|r| r.start as u64 == at)));
            }
            cuts.sort_by_key(|cut| cut.range.start());
            // What comes in order is cut as if it had come at once.
            prop_assert!(turn > 0 || cuts == cut_whole(&file, vec![fence]));
            let mut at = 0;
            for cut in &cuts {
                prop_assert_eq!(cut.range.start(), at);
                prop_assert!(cut.bytes.len() <= MAX_CHUNK);
                prop_assert_eq!(&cut.bytes[..], &file[at as usize..cut.range.end() as usize]);
                prop_assert!(fence <= cut.range.start() || fence >= cut.range.end());
                at = cut.range.end();
            }
            prop_assert_eq!(at, len as u64);
            prop_assert_eq!(chunker.len(), 0);
        }
    }
}
