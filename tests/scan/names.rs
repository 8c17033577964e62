//! Who has a name when files of several origins want it.

use std::sync::Arc;

use musicfs_core::{Batch, MetaDb, Op, Origin, OriginErrorKind, OriginId, UnixNanos};
use musicfs_sync::ScanReport;
use musicfs_test_utils::MemoryOrigin;
use tokio_util::sync::CancellationToken;

use crate::shelf::{Shelf, id, track};

const TRACKS: u32 = 20;

/// Another file than [`track`] with the same tags.
fn rival(n: u32) -> Vec<u8> {
    [track(n), b"another recording of it".to_vec()].concat()
}

/// Three origins, of which the first is the most preferred: that of the shelf, and those that are returned.
fn preferred(shelf: &Shelf) -> [MemoryOrigin; 2] {
    let others = ["second", "third"].map(|id| MemoryOrigin::new(id).with_page_size(7));
    attach(shelf, &others);
    others
}

fn attach(shelf: &Shelf, others: &[MemoryOrigin; 2]) {
    let mut origins: Vec<Arc<dyn Origin>> = vec![Arc::new(shelf.asked.clone())];
    origins.extend(others.iter().map(|origin| Arc::new(origin.clone()) as Arc<dyn Origin>));
    let ranks = Op::RankOrigins(origins.iter().map(|origin| origin.id().clone()).collect());
    shelf.db.apply(&Batch { at: UnixNanos(1), ops: vec![ranks] }).unwrap();
    shelf.scanner.set_origins(origins);
}

fn seen(shelf: &Shelf, origins: &[(&str, i64)]) {
    for (origin, at) in origins {
        shelf.library.record_origin(&OriginId::from(*origin), UnixNanos(*at)).unwrap();
    }
}

async fn scan(shelf: &Shelf, origin: &str) -> ScanReport {
    shelf.scanner.scan(&OriginId::from(origin), false, &CancellationToken::new()).await.unwrap()
}

/// Origins of the files that are shown under the names that they wanted, and under others.
fn owners(shelf: &Shelf) -> (Vec<String>, Vec<String>) {
    let of = |numbered: bool| {
        let tree = shelf.tree();
        let names = tree.iter().filter(|(path, _)| path.contains(" (2)") == numbered);
        let mut owners: Vec<_> =
            names.map(|(_, ino)| shelf.file(ino.file_id().unwrap()).origin.to_string()).collect();
        owners.dedup();
        owners
    };
    (of(false), of(true))
}

fn is(shelf: &Shelf, plain: &str, numbered: &str) {
    assert_eq!(owners(shelf), (vec![plain.to_owned()], vec![numbered.to_owned()]), "{:?}", shelf.tree());
    assert_eq!(shelf.tree().len(), 2 * TRACKS as usize);
}

#[tokio::test]
async fn preferred_origin_whose_first_pass_is_interrupted_takes_its_names_all_the_same() {
    let mut shelf = Shelf::new().with_tracks(0..TRACKS);
    let others = preferred(&shelf);
    seen(&shelf, &[("memory", 1), ("second", 2)]);
    (0..TRACKS).for_each(|n| drop(others[0].put(format!("x/{n}.mp3"), rival(n))));
    scan(&shelf, "second").await;
    assert_eq!(owners(&shelf).0, ["second"]);
    for pages in [1, 2] {
        shelf.origin.fail_listings(pages, OriginErrorKind::Unavailable);
        assert!(shelf.scanner.scan(&id(), false, &CancellationToken::new()).await.is_err());
        // A part is looked at meanwhile, and everything is killed.
        shelf.origin.heal_listings();
        shelf.scan_paths(&["a/0019.mp3"]).await;
        shelf.restart();
        attach(&shelf, &others);
        scan(&shelf, "second").await;
    }
    scan(&shelf, "memory").await;
    is(&shelf, "memory", "second");
    // Who comes first to a catalogue that is made anew makes no difference.
    let before = shelf.tree();
    for order in [["memory", "second"], ["second", "memory"]] {
        shelf.rebuild();
        attach(&shelf, &others);
        for origin in order {
            scan(&shelf, origin).await;
        }
        assert_eq!(shelf.tree(), before);
    }
    // What comes later takes nothing.
    others[0].put("x/new.mp3", rival(99));
    scan(&shelf, "second").await;
    shelf.origin.put("a/new.mp3", track(99));
    scan(&shelf, "memory").await;
    let late = shelf.file(shelf.id_at("a/new.mp3"));
    assert!(late.shown_at.unwrap().to_string().contains(" (2)"));
}

#[tokio::test]
async fn origin_that_was_here_before_keeps_its_names_though_it_is_away_as_a_preferred_one_comes() {
    let shelf = Shelf::new().with_tracks(0..TRACKS);
    let others = preferred(&shelf);
    seen(&shelf, &[("second", 1), ("memory", 2)]);
    (0..TRACKS).for_each(|n| drop(others[0].put(format!("x/{n}.mp3"), rival(n))));
    scan(&shelf, "second").await;
    others[0].take_down(OriginErrorKind::Unavailable);
    let away = OriginId::from("second");
    let cancel = CancellationToken::new();
    let (first, known) = tokio::join!(scan(&shelf, "memory"), shelf.scanner.scan(&away, false, &cancel));
    assert!(first.complete && known.is_err());
    is(&shelf, "second", "memory");
}

#[tokio::test]
async fn copies_give_way_together_unless_one_of_them_was_here_before() {
    for before in [false, true] {
        let shelf = Shelf::new().with_tracks(0..TRACKS);
        let others = preferred(&shelf);
        seen(&shelf, &[("memory", 2), ("second", 2), ("third", if before { 1 } else { 3 })]);
        for n in 0..TRACKS {
            others.iter().for_each(|origin| drop(origin.put(format!("x/{n}.mp3"), rival(n))));
        }
        scan(&shelf, "second").await;
        scan(&shelf, "third").await;
        scan(&shelf, "memory").await;
        let (plain, numbered) = if before { ("second", "memory") } else { ("memory", "second") };
        is(&shelf, plain, numbered);
        // The library has the numbers that the tree has.
        let numbers = shelf.library.name_numbers().unwrap();
        for ino in shelf.tree().values() {
            for file in shelf.db.copies(ino.file_id().unwrap()).unwrap() {
                let shown = file.shown_at.unwrap().to_string();
                let number = numbers.get(&file.id).map_or(1, |(_, n)| *n);
                assert_eq!(number, if shown.contains(" (2)") { 2 } else { 1 }, "{shown}");
            }
        }
    }
}
