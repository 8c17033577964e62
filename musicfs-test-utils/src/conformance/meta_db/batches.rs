//! How batches are applied.

use musicfs_core::{
    ChunkManifest, FileMeta, FileQuery, FileState, FileVersion, MetaError, Op, ROOT_INODE, Revision,
};

use super::{Fixture, file, manifest_of, place, put};

/// Each batch raises the revision by one, the empty one as well, and tells it.
pub fn batch_raises_the_revision_by_one(fixture: Fixture) {
    assert_eq!(fixture.revision(), Revision(0));
    for n in 1..=5 {
        assert_eq!(fixture.apply(1, []).revision, Revision(n));
        assert_eq!(fixture.revision(), Revision(n));
    }
}

/// A batch with an operation that fails changes nothing at all, whatever came before it.
pub fn failing_batch_changes_nothing(fixture: Fixture) {
    let (a, b, unknown) = (file("a"), file("b"), file("unknown"));
    fixture.show(1, &[&a]);
    let before = (fixture.file(a.id), fixture.list(ROOT_INODE), fixture.node(ROOT_INODE));
    let changed = FileMeta { problem: Some("changed".into()), ..a.clone() };
    let refused = fixture.refused([
        put(&changed),
        put(&b),
        place(&b, "x/y"),
        place(&a, "z"),
        Op::SetNote { key: "note".into(), value: Some("text".into()) },
        Op::PutManifest { id: a.id, version: a.version.clone(), manifest: manifest_of(10) },
        place(&unknown, "u"),
    ]);
    assert!(matches!(refused, MetaError::UnknownFile(id) if id == unknown.id));
    assert_eq!((fixture.file(a.id), fixture.list(ROOT_INODE), fixture.node(ROOT_INODE)), before);
    assert_eq!(fixture.file(b.id), None);
    assert_eq!(fixture.db.note("note").expect("an answer"), None);
    assert_eq!(fixture.db.manifest(a.id).expect("an answer"), None);
    assert_eq!(fixture.changes(Revision(1), 10), []);
    // Nothing is in the way of the next one.
    fixture.show(2, &[&b]);
    assert!(fixture.at("b").is_some());
}

/// Every operation on an unknown file fails, on one forgotten earlier in the same batch as well.
pub fn operation_on_an_unknown_file_fails(fixture: Fixture) {
    let unknown = file("unknown");
    let id = unknown.id;
    let ops = || {
        [
            place(&unknown, "x"),
            Op::Unplace(id),
            Op::SetState(id, FileState::Missing),
            Op::Forget(id),
            Op::Correct(id),
            Op::PutManifest { id, version: FileVersion::default(), manifest: ChunkManifest::default() },
        ]
    };
    for op in ops() {
        assert!(matches!(fixture.refused([op]), MetaError::UnknownFile(of) if of == id));
    }
    for op in ops() {
        let refused = fixture.refused([put(&unknown), Op::Forget(id), op]);
        assert!(matches!(refused, MetaError::UnknownFile(of) if of == id));
    }
}

/// Who subscribes is told each new revision, and not those of batches that failed.
pub fn subscriber_is_told_each_new_revision(fixture: Fixture) {
    fixture.apply(1, []);
    let mut told = fixture.db.subscribe();
    assert_eq!(*told.borrow_and_update(), Revision(1));
    fixture.refused([Op::Forget(file("unknown").id)]);
    assert!(!told.has_changed().expect("a catalogue"));
    fixture.apply(2, []);
    assert!(told.has_changed().expect("a catalogue"));
    assert_eq!(*told.borrow_and_update(), Revision(2));
}

/// Readers go on while batches are applied, and see each batch whole or not at all.
pub fn readers_see_batches_whole(fixture: Fixture) {
    let pairs: Vec<_> = (0..60).map(|n| [file(&format!("D/{n}a")), file(&format!("D/{n}b"))]).collect();
    let keep = file("D/keep");
    fixture.show(1, &[&keep]);
    let dir = fixture.at("D").expect("it").ino;
    let (fixture, done) = (&fixture, &std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = || {
            let mut looks = 0;
            while looks == 0 || !done.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(fixture.list(dir).len() % 2, 1);
                assert_eq!(fixture.totals().files % 2, 1);
                assert_eq!(fixture.db.files(&FileQuery::All, None, 1000).expect("it").files.len() % 2, 1);
                looks += 1;
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for [a, b] in &pairs {
            fixture.show(2, &[a, b]);
        }
        for [a, b] in &pairs {
            fixture.apply(3, [Op::Forget(a.id), Op::Forget(b.id)]);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        for reader in readers {
            reader.join().expect("a reader");
        }
    });
}

/// Batches from many threads are applied one after the other, and none is lost.
pub fn batches_of_many_writers_are_applied_one_by_one(fixture: Fixture) {
    let fixture = &fixture;
    let mut revisions: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    let put = |n| fixture.show(1, &[&file(&format!("same/{writer}-{n}"))]).revision;
                    (0..15).map(put).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=60).map(Revision).collect::<Vec<_>>());
    assert_eq!((fixture.totals().files, fixture.totals().dirs), (60, 1));
}
