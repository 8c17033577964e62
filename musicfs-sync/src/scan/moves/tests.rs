//! Tests of which file is taken for which.

use super::*;
use musicfs_core::{AudioMeta, ChunkHash, FileVersion, OriginId, UnixNanos};
use proptest::prelude::*;

fn file(path: &str, content: u8, size: u64, mtime: i64) -> Trace {
    let path = OriginPath::new(path).unwrap();
    let hash = ChunkHash::of(&[content]);
    let audio = AudioMeta {
        title: Some(format!("Title {content}")),
        album: Some("Album".into()),
        duration_ms: 200_000,
        identity: Some(AudioIdentity::Sampled { bytes: 1, hash }),
        ..AudioMeta::default()
    };
    Trace::of(&FileMeta {
        id: FileId::derive(&OriginId::from("o"), &path, 0),
        origin: "o".into(),
        path,
        version: FileVersion { size, mtime: Some(UnixNanos(mtime)), etag: None },
        kind: FileKind::Audio,
        state: FileState::Present,
        format: Some(Format::Flac),
        audio: Some(Box::new(audio)),
        problem: None,
        shown_at: None,
    })
}

fn follow(gone: Vec<Trace>, arrived: Vec<Trace>) -> Vec<Move> {
    plan(Found { gone, arrived, replaced: Vec::new() }, Ousting::Allowed).moves
}

fn followed(gone: &[Trace], arrived: &[Trace]) -> Vec<(String, String)> {
    let moves = follow(gone.to_vec(), arrived.to_vec());
    let mut pairs: Vec<_> = moves.iter().map(|m| (m.from.to_string(), m.to.to_string())).collect();
    pairs.sort();
    pairs
}

#[test]
fn moved_file_is_known_by_its_audio_whatever_its_tags_and_name() {
    let gone = [file("a/1.flac", 1, 10, 5), file("a/2.flac", 2, 10, 5)];
    let arrived = [file("b/Two.flac", 2, 17, 9), file("b/1.flac", 1, 10, 5), file("b/3.flac", 3, 10, 5)];
    assert_eq!(
        followed(&gone, &arrived),
        [("a/1.flac".into(), "b/1.flac".into()), ("a/2.flac".into(), "b/Two.flac".into())]
    );
}

#[test]
fn of_several_copies_each_is_followed_once_and_by_its_name_first() {
    let gone = [file("a/1.flac", 1, 10, 5), file("a/2.flac", 1, 10, 5)];
    let arrived = [file("b/2.flac", 1, 10, 5), file("b/1.flac", 1, 10, 5), file("b/0.flac", 1, 10, 5)];
    assert_eq!(
        followed(&gone, &arrived),
        [("a/1.flac".into(), "b/1.flac".into()), ("a/2.flac".into(), "b/2.flac".into())]
    );
}

#[test]
fn file_that_goes_now_is_taken_before_one_that_was_missing_and_is_more_alike() {
    let gone_before = Trace { state: FileState::Missing, ..file("b/1.flac", 1, 10, 5) };
    let gone = [gone_before, file("a/2.flac", 1, 10, 5)];
    assert_eq!(followed(&gone, &[file("c/1.flac", 1, 10, 5)]), [("a/2.flac".into(), "c/1.flac".into())]);
}

#[test]
fn better_copy_supersedes_and_another_track_does_not() {
    let mp3 = Trace { format: Some(Format::Mp3), identity: None, ..file("a/1.mp3", 1, 3, 1) };
    let flac = file("a/1.flac", 1, 10, 5);
    let moves = follow(vec![mp3.clone()], vec![flac.clone()]);
    assert!(moves.len() == 1 && moves[0].supersedes);
    let longer = Trace { duration_ms: 300_000, ..flac };
    assert!(follow(vec![mp3.clone()], vec![longer]).is_empty());
    assert!(follow(vec![mp3], vec![file("a/1.flac", 2, 10, 5)]).is_empty());
}

proptest! {
    #[test]
    fn outcome_does_not_depend_on_order_and_takes_each_file_once(
        gone in prop::collection::btree_map(0u8..12, (0u8..4, 0u64..2, 0i64..2), 0..8),
        arrived in prop::collection::btree_map(0u8..12, (0u8..4, 0u64..2, 0i64..2), 0..8),
    ) {
        let traces = |at: &str, files: &std::collections::BTreeMap<u8, (u8, u64, i64)>| -> Vec<Trace> {
            files.iter().map(|(n, (c, s, m))| file(&format!("{at}/{n}.flac"), *c, *s, *m)).collect()
        };
        let (gone, arrived) = (traces("a", &gone), traces("b", &arrived));
        let forward = followed(&gone, &arrived);
        let turned = |all: &[Trace]| all.iter().rev().cloned().collect::<Vec<_>>();
        prop_assert_eq!(&forward, &followed(&turned(&gone), &turned(&arrived)));
        let mut to: Vec<_> = forward.iter().map(|(_, to)| to).collect();
        to.sort();
        to.dedup();
        prop_assert_eq!(to.len(), forward.len());
    }
}

/// What becomes of files of which each is at a path with some content, and of which another content is there now:
/// content by number, `0` for no file.
fn renamed(files: &[(&str, u8, u8)], ousting: Ousting) -> Plan {
    let mut found = Found::default();
    for (path, was, is) in files {
        let content = |n: u8| file(path, n, 10 + u64::from(n), i64::from(n));
        let held = |trace: Trace| Trace { id: FileId::derive(&"o".into(), &trace.path, 1), ..trace };
        match (was, is) {
            (was, is) if was == is => {}
            (was, 0) => found.gone.push(content(*was)),
            (0, is) => found.arrived.push(content(*is)),
            (was, is) => found.replaced.push(Replaced { old: content(*was), new: held(content(*is)) }),
        }
    }
    plan(found, ousting)
}

fn pairs(moves: &[Move]) -> Vec<String> {
    let mut pairs: Vec<_> = moves.iter().map(|m| format!("{} {}", m.from, m.to)).collect();
    pairs.sort();
    pairs
}

fn id(path: &str) -> FileId {
    FileId::derive(&"o".into(), &OriginPath::new(path).unwrap(), 0)
}

#[test]
fn names_in_use_are_followed_along_a_chain() {
    let plan = renamed(&[("1", 1, 0), ("2", 2, 1), ("3", 3, 2), ("4", 0, 3)], Ousting::Never);
    assert_eq!(pairs(&plan.moves), ["1 2", "2 3", "3 4"]);
    assert_eq!((plan.stays, plan.ousted, plan.fresh, plan.undecided), Default::default());
}

#[test]
fn names_in_use_are_followed_around_a_cycle() {
    let plan = renamed(&[("1", 1, 3), ("2", 2, 1), ("3", 3, 2), ("4", 4, 5), ("5", 5, 4)], Ousting::Never);
    assert_eq!(pairs(&plan.moves), ["1 2", "2 3", "3 1", "4 5", "5 4"]);
    assert_eq!((plan.stays, plan.ousted, plan.fresh, plan.undecided), Default::default());
}

#[test]
fn file_that_is_replaced_where_it_is_stays_itself() {
    let plan = renamed(&[("1", 1, 9), ("2", 2, 0), ("3", 0, 3)], Ousting::Allowed);
    assert_eq!((pairs(&plan.stays), plan.moves.len(), plan.ousted.len()), (vec!["1 1".to_owned()], 0, 0));
}

#[test]
fn what_comes_where_a_file_moved_away_is_new() {
    let plan = renamed(&[("1", 1, 9), ("2", 0, 1)], Ousting::Allowed);
    assert_eq!(pairs(&plan.moves), ["1 2"]);
    assert_eq!(plan.fresh.iter().map(|(_, path)| path.to_string()).collect::<Vec<_>>(), ["1"]);
}

#[test]
fn file_that_is_nowhere_while_another_has_its_place_is_gone_when_that_may_be() {
    let deleted_and_renumbered = [("1", 1, 2), ("2", 2, 3), ("3", 3, 0)];
    let allowed = renamed(&deleted_and_renumbered, Ousting::Allowed);
    assert_eq!((pairs(&allowed.moves), allowed.ousted[0].id), (vec!["2 1".into(), "3 2".into()], id("1")));
    let never = renamed(&deleted_and_renumbered, Ousting::Never);
    assert_eq!((never.moves.len(), never.undecided.len(), never.ousted.len()), (0, 2, 0));
    assert_eq!((never.stays, never.fresh), Default::default());
}

#[test]
fn other_copy_of_a_track_that_is_moved_onto_it_is_that_track() {
    let (was, came) = (file("album/1", 1, 10, 1), file("new/1", 2, 20, 2));
    let track = Some(7);
    let found = Found {
        gone: vec![Trace { track, ..came.clone() }],
        arrived: Vec::new(),
        replaced: vec![Replaced {
            old: Trace { track, ..was.clone() },
            new: Trace { id: id("held"), path: was.path, track, ..came },
        }],
    };
    let plan = plan(found, Ousting::Allowed);
    assert_eq!(
        (pairs(&plan.stays), plan.moves.len(), plan.ousted.len()),
        (vec!["album/1 album/1".into()], 0, 0)
    );
}

#[test]
fn file_whose_place_holds_its_audio_stays_whatever_else_holds_it() {
    let twin = |path: &str, size, mtime| file(path, 1, size, mtime);
    // The first of two tracks of one audio is tagged anew, and another copy of it comes.
    let new = Trace { id: id("held"), ..twin("1", 12, 9) };
    let replaced = vec![Replaced { old: twin("1", 10, 1), new }];
    let found = Found { gone: Vec::new(), arrived: vec![twin("0", 12, 9)], replaced };
    let plan = plan(found, Ousting::Allowed);
    assert_eq!((pairs(&plan.stays), plan.moves.len()), (vec!["1 1".to_owned()], 0));
}

#[test]
fn covers_that_exchange_their_names_are_followed() {
    let cover = |path: &str, size| Trace {
        kind: FileKind::Sidecar,
        format: None,
        identity: None,
        track: None,
        ..file(path, 0, size, 3)
    };
    let held = |path: &str, size, n| Trace { id: FileId::from_raw(n).unwrap(), ..cover(path, size) };
    let replaced = vec![
        Replaced { old: cover("back.jpg", 1), new: held("back.jpg", 2, 1) },
        Replaced { old: cover("front.jpg", 2), new: held("front.jpg", 1, 2) },
    ];
    let plan = plan(Found { replaced, ..Found::default() }, Ousting::Never);
    assert_eq!(pairs(&plan.moves), ["back.jpg front.jpg", "front.jpg back.jpg"]);
}

proptest! {
    #[test]
    fn every_file_has_one_fate_whatever_the_order(
        was in prop::collection::vec(0u8..7, 8),
        is in prop::collection::vec(0u8..7, 8),
        never in any::<bool>(),
    ) {
        let names = ["1", "2", "3", "4", "5", "6", "7", "8"];
        let files: Vec<_> = (0..8).map(|n| (names[n], was[n], is[n])).collect();
        let turned: Vec<_> = files.iter().rev().copied().collect();
        let ousting = if never { Ousting::Never } else { Ousting::Allowed };
        let (forward, backward) = (renamed(&files, ousting), renamed(&turned, ousting));
        prop_assert_eq!(&forward, &backward);
        let replaced = files.iter().filter(|(_, was, is)| *was != 0 && *is != 0 && was != is).count();
        let held = |m: &&Move| m.new != id(&m.to.to_string());
        let held_moves = forward.moves.iter().filter(held).count();
        let fates = held_moves + forward.stays.len() + forward.fresh.len() + forward.undecided.len();
        prop_assert_eq!(fates, replaced, "what is recorded apart is used once");
        let mut olds: Vec<_> = forward.moves.iter().chain(&forward.stays).map(|m| m.old).collect();
        olds.extend(forward.ousted.iter().map(|ousted| ousted.id));
        let mut places: Vec<_> = forward.moves.iter().chain(&forward.stays).map(|m| &m.to).collect();
        places.extend(forward.fresh.iter().map(|(_, path)| path));
        let count = (olds.len(), places.len());
        olds.sort();
        olds.dedup();
        places.sort();
        places.dedup();
        prop_assert_eq!((olds.len(), places.len()), count, "no file is twice, and no place has two");
        if never {
            prop_assert!(forward.ousted.is_empty());
        }
        for m in &forward.moves {
            let at = |path: &OriginPath| files.iter().position(|(name, ..)| *name == path.to_string()).unwrap();
            prop_assert_eq!(was[at(&m.from)], is[at(&m.to)]);
        }
    }
}
