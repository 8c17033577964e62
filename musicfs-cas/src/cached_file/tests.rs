use musicfs_core::ChunkHash;

use super::plan::{BLOCK, PIECE};
use super::*;

const MIB: u64 = 1 << 20;

fn extent(start: u64, end: u64) -> ChunkExtent {
    ChunkExtent { range: ByteRange::new(start, end), hash: ChunkHash::of(&start.to_le_bytes()) }
}

fn ranges(launches: &[Launch]) -> Vec<(u64, u64)> {
    launches.iter().map(|l| (l.range.start(), l.range.end())).collect()
}

/// Cuts what can be cut.
fn cut(file: &mut CachedFile) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut next = file.begin_cutting();
    while let Some(runs) = next {
        let (of_runs, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
        cuts.extend(of_runs.into_iter().flatten());
        next = file.end_cutting(rest.into_iter().flatten().collect());
    }
    cuts
}

#[test]
fn demand_fetches_only_gaps_in_whole_blocks() {
    let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![]);
    file.stored(extent(0, 100_000));
    let first = file.launch_demand(ByteRange::new(90_000, 100_001), Guesses::Compare);
    assert_eq!(ranges(&first), [(100_000, 131_072)]);
    assert!(file.launch_demand(ByteRange::new(90_000, 131_072), Guesses::Compare).is_empty());
    assert_eq!(
        ranges(&file.launch_demand(ByteRange::new(10 * MIB - 5, 10 * MIB), Guesses::Compare)),
        [(10 * MIB - BLOCK, 10 * MIB)]
    );
}

#[test]
fn what_is_fetched_by_order_is_not_widened_but_to_whole_guesses() {
    let (mut file, _) = guessing();
    assert_eq!(ranges(&file.launch_exactly(ByteRange::new(500_000, 900_000))), [(500_000, 900_000)]);
    assert_eq!(
        ranges(&file.launch_exactly(ByteRange::new(150_000, 200_001))),
        [(150_000, 200_000), (200_000, 500_000)]
    );
}

#[test]
fn what_is_offered_is_cut_apart_from_what_is_fetched_and_leaves_nothing_behind_when_it_is_not_kept() {
    let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
    let fetched = file.launch_demand(ByteRange::new(2 * BLOCK, 3 * BLOCK), Guesses::Compare);
    let head = Bytes::from(vec![1; 2 * BLOCK as usize]);
    let (taken, cuts) = file.offer(0, &head);
    assert_eq!(taken, [ByteRange::new(0, 2 * BLOCK)]);
    assert_eq!(cuts.iter().map(|cut| cut.range).collect::<Vec<_>>(), taken, "it waits for nothing");
    file.failed(taken[0]);
    assert!(cut(&mut file).is_empty());
    let again = file.launch_demand(taken[0], Guesses::Compare);
    file.arrived(again[0].range, head);
    file.arrived(fetched[0].range, Bytes::from(vec![2; BLOCK as usize]));
    for cut in cut(&mut file) {
        file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
    }
    assert_eq!(file.manifest().covered(), 3 * BLOCK);
    assert!(file.flights.is_empty());
}

#[test]
fn ahead_stops_where_the_budget_ends() {
    let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![]);
    let mut left = 2;
    let pool = Arc::new(tokio::sync::Semaphore::new(10));
    let launches = file.launch_ahead(ByteRange::new(0, 8 * MIB), MIB, Guesses::Compare, |bytes| {
        if bytes < MIB {
            return None;
        }
        left -= 1;
        (left >= 0).then(|| pool.clone().try_acquire_owned().unwrap())
    });
    assert_eq!(ranges(&launches), [(0, MIB), (MIB, 2 * MIB)]);
    assert_eq!(pool.available_permits(), 8);
    file.failed(launches[0].range);
    assert_eq!(pool.available_permits(), 9);
}

#[test]
fn stored_chunks_free_their_flights_and_are_due_to_be_saved_when_idle() {
    let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
    let launches = file.launch_demand(ByteRange::new(0, MIB), Guesses::Compare);
    assert!(matches!(file.place(5, Guesses::Compare), Place::Flight(..)));
    file.arrived(launches[0].range, Bytes::from(vec![1; 1 << 20]));
    assert!(file.take_unsaved(u64::MAX).is_none());
    for cut in cut(&mut file) {
        file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
    }
    assert!(matches!(file.place(5, Guesses::Compare), Place::Chunk(_)));
    assert!(file.flights.is_empty());
    assert_eq!(file.take_unsaved(u64::MAX).map(|m| m.covered()), Some(MIB));
    assert!(file.take_unsaved(u64::MAX).is_none());
}

#[test]
fn what_comes_while_others_are_cut_is_cut_after_them() {
    let mut file = CachedFile::new(4 * MIB, ChunkManifest::default(), vec![]);
    let launches = file.launch_demand(ByteRange::new(0, 4 * MIB), Guesses::Compare);
    let bytes = Bytes::from(vec![1; 1 << 20]);
    file.arrived(launches[0].range, bytes.clone());
    file.arrived(launches[1].range, bytes.clone());
    let runs = file.begin_cutting().unwrap();
    file.arrived(launches[2].range, bytes.clone());
    assert!(file.begin_cutting().is_none(), "one cuts");
    file.failed(launches[3].range);
    let (mut cuts, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
    let runs = file.end_cutting(rest.into_iter().flatten().collect()).unwrap();
    let (more, rest): (Vec<_>, Vec<_>) = runs.into_iter().map(Run::cut).unzip();
    assert!(rest.iter().all(Option::is_none), "nothing more comes");
    assert!(file.end_cutting(vec![]).is_none());
    cuts.extend(more);
    let lengths: Vec<u64> = cuts.iter().flatten().map(|cut| cut.range.len()).collect();
    assert_eq!(lengths.iter().sum::<u64>(), 3 * MIB, "{lengths:?}");
}

#[test]
fn lost_chunk_is_a_gap_again() {
    let mut file = CachedFile::new(MIB, ChunkManifest::default(), vec![]);
    let whole = extent(0, MIB);
    file.stored(whole);
    assert!(file.lost(&whole) && !file.lost(&whole));
    assert_eq!((file.lost_at(0), file.lost_at(MIB)), (Some(whole), None));
    assert!(matches!(file.place(0, Guesses::Compare), Place::Gap));
    assert_eq!(file.launch_demand(ByteRange::new(0, 1), Guesses::Compare).len(), 1);
    file.stored(extent(10, 20));
    assert_eq!(file.lost_at(0), None);
}

#[test]
fn what_cannot_be_stored_stays_within_its_bound() {
    let mut file = CachedFile::new(64 * MIB, ChunkManifest::default(), vec![]);
    for n in 0..20 {
        let launch = file.launch_demand(ByteRange::at(n * MIB, MIB), Guesses::Compare);
        file.arrived(launch[0].range, Bytes::from(vec![0; 1 << 20]));
        file.not_stored();
    }
    assert!(file.flights.len() as u64 * PIECE <= MAX_UNSTORED);
    assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Flight(..)));
    let under_way = file.launch_demand(ByteRange::at(30 * MIB, MIB), Guesses::Compare);
    file.forget_unstored();
    assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Flight(..)));
    file.failed(under_way[0].range);
    file.forget_unstored();
    assert!(matches!(file.place(19 * MIB, Guesses::Compare), Place::Gap), "the store may take it now");
}

fn guessing() -> (CachedFile, Vec<ChunkExtent>) {
    let guesses = vec![extent(200_000, 500_000), extent(500_000, 900_000)];
    let mut manifest = ChunkManifest::default();
    assert!(manifest.insert(extent(0, 100_000)));
    assert!(guesses.iter().all(|guess| manifest.guess(*guess)));
    (CachedFile::new(MIB, manifest, vec![]), guesses)
}

#[test]
fn guesses_are_fetched_whole_and_only_where_they_are_wanted() {
    let (mut file, guesses) = guessing();
    let launches = file.launch_demand(ByteRange::new(190_000, 210_000), Guesses::Compare);
    // The block goes on into the guess, which is longer.
    assert_eq!(ranges(&launches), [(131_072, 200_000), (200_000, 500_000)]);
    assert!(matches!(file.place(499_999, Guesses::Compare), Place::Flight(..)));
    let launches = file.launch_demand(ByteRange::new(899_990, 900_010), Guesses::Compare);
    assert_eq!(ranges(&launches), [(500_000, 900_000), (900_000, 917_504)]);
    let launches = file.launch_demand(ByteRange::new(950_000, 950_001), Guesses::Compare);
    assert_eq!(ranges(&launches), [(917_504, 983_040)]);
    assert_eq!(file.guess_of(guesses[0].range), Some(guesses[0]));
    assert_eq!(file.guess_of(ByteRange::new(200_000, 499_999)), None);
}

#[test]
fn guesses_are_served_when_they_cannot_be_compared() {
    let (mut file, guesses) = guessing();
    assert!(matches!(file.place(499_999, Guesses::Compare), Place::Gap));
    assert!(matches!(file.place(499_999, Guesses::Serve), Place::Chunk(extent) if extent == guesses[0]));
    let launches = file.launch_demand(ByteRange::new(190_000, 910_000), Guesses::Serve);
    assert_eq!(ranges(&launches), [(131_072, 200_000), (900_000, 917_504)]);
    assert!(file.lost(&guesses[0]));
    assert_eq!(file.lost_at(499_999), None, "nobody knows that it was right");
    assert!(matches!(file.place(499_999, Guesses::Serve), Place::Gap));
}

#[test]
fn doubt_spares_what_is_being_stored() {
    let mut file = CachedFile::new(10 * MIB, ChunkManifest::default(), vec![MIB / 2]);
    file.stored(extent(8 * MIB, 9 * MIB));
    let launches = file.launch_demand(ByteRange::new(0, 2 * MIB), Guesses::Compare);
    assert_eq!(ranges(&launches), [(0, MIB), (MIB, 2 * MIB)]);
    let bytes = Bytes::from(vec![1; 1 << 20]);
    let store = |file: &mut CachedFile, cuts: Vec<Cut>| {
        for cut in cuts {
            file.stored(ChunkExtent { range: cut.range, hash: ChunkHash::of(&cut.bytes) });
        }
    };
    file.arrived(launches[0].range, bytes.clone());
    let first = cut(&mut file);
    let end = first.last().map(|cut| cut.range.end());
    assert_eq!(end, Some(MIB / 2), "the rest waits for what comes next");
    store(&mut file, first);
    assert_eq!(file.doubt(), [ByteRange::new(8 * MIB, 9 * MIB)]);
    file.arrived(launches[1].range, bytes);
    let rest = cut(&mut file);
    store(&mut file, rest);
    assert!(file.flights.is_empty(), "it is stored, and takes memory all the same");
    assert_eq!((file.manifest().covered(), file.manifest().guessed()), (2 * MIB, MIB));
}

#[test]
fn guess_that_was_right_stays_and_one_that_was_wrong_takes_all_along() {
    let (mut file, guesses) = guessing();
    let bytes = Bytes::from(vec![1; 300_000]);
    file.launch_demand(guesses[0].range, Guesses::Compare);
    let chunk = file.arrived(guesses[0].range, bytes);
    assert_eq!(chunk.map(|chunk| chunk.range), Some(guesses[0].range));
    file.stored(guesses[0]);
    assert!(matches!(file.place(499_999, Guesses::Compare), Place::Chunk(extent) if extent == guesses[0]));
    assert!(file.has_guesses());
    file.refuted();
    assert!(!file.has_guesses());
    assert_eq!(file.take_unsaved(1).map(|manifest| manifest.covered()), Some(400_000));
}

#[test]
fn what_there_was_no_room_to_load_is_loaded_when_the_reader_is_nearer() {
    let mut file = CachedFile::new(8 * MIB, ChunkManifest::default(), vec![]);
    (0..8).for_each(|n| file.stored(extent(n * MIB, (n + 1) * MIB)));
    let load = |file: &mut CachedFile, from, to| {
        file.take_to_load(ByteRange::new(from * MIB, to * MIB))
            .iter()
            .map(|e| e.range.start() / MIB)
            .collect::<Vec<_>>()
    };
    assert_eq!(load(&mut file, 0, 4), [0, 1, 2, 3]);
    assert_eq!(load(&mut file, 1, 6), [4, 5]);
    file.not_loaded(5 * MIB);
    assert_eq!(load(&mut file, 2, 7), [5, 6]);
    assert!(load(&mut file, 3, 7).is_empty());
}
