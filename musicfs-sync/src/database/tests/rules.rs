//! What an operation changes, and what it leaves alone; what queries answer.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use musicfs_core::{
    AudioMeta, Batch, ByteRange, Change, ChunkExtent, ChunkHash, ChunkManifest, Cookie, FileId, FileKind,
    FileMeta, FileQuery, FileState, FileVersion, Ino, MetaDb, MetaError, Name, NodeKind, Op, OriginId,
    OriginPath, ROOT_INODE, Revision, Suffixed, Totals, UnixNanos, VirtualPath,
};
use rusqlite::Connection;

use super::{Fixture, file, place, put, track};

fn manifest(lens: &[u64]) -> ChunkManifest {
    let mut manifest = ChunkManifest::default();
    for (n, len) in lens.iter().enumerate() {
        let range = ByteRange::at(n as u64 * 100, *len);
        assert!(manifest.insert(ChunkExtent { range, hash: ChunkHash::of(&[n as u8]) }));
    }
    manifest
}

fn names(fixture: &Fixture, dir: Ino) -> Vec<String> {
    let nodes = fixture.db.list(dir, Cookie(0), usize::MAX).unwrap();
    nodes.into_iter().map(|node| node.name.unwrap().to_string()).collect()
}

fn dir(fixture: &Fixture, name: &str) -> Ino {
    fixture.db.lookup(ROOT_INODE, name.as_bytes()).unwrap().unwrap().ino
}

fn ids(fixture: &Fixture, query: &FileQuery) -> Vec<FileId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = fixture.db.files(query, after, 1).unwrap();
        assert!(page.files.len() <= 1);
        ids.extend(page.files.iter().map(|file| file.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

fn sorted(files: &[&FileMeta]) -> Vec<FileId> {
    let mut ids: Vec<FileId> = files.iter().map(|file| file.id).collect();
    ids.sort();
    ids
}

#[test]
fn put_of_the_same_content_makes_no_change() {
    let fixture = Fixture::new();
    let x = track("a/x.flac");
    fixture.apply(1, vec![put(&x)]);
    let revision = fixture.apply(2, vec![put(&x)]).revision;
    assert_eq!(revision, Revision(2));
    let changes = fixture.db.changes_since(Revision(1), 100).unwrap();
    assert_eq!((changes.changes.len(), changes.upto), (0, revision));
}

#[test]
fn put_tells_changed_content_from_changed_tags() {
    let fixture = Fixture::new();
    let x = track("a/x.flac");
    fixture.apply(1, vec![put(&x)]);
    let tagged = FileMeta { audio: Some(Box::new(AudioMeta::default())), ..x.clone() };
    fixture.apply(2, vec![put(&tagged)]);
    let grown = FileMeta { version: FileVersion { size: 11, ..x.version.clone() }, ..tagged.clone() };
    fixture.apply(3, vec![put(&grown)]);
    let changes = fixture.db.changes_since(Revision(0), 100).unwrap().changes;
    let changed = |content| Change::FileChanged { id: x.id, content };
    assert_eq!(changes, [changed(true), changed(false), changed(true)]);
    assert_eq!(fixture.db.file(x.id).unwrap(), Some(grown));
}

#[test]
fn put_leaves_place_manifest_and_first_seen_alone() {
    let fixture = Fixture::new();
    let x = track("a/x.flac");
    let cached = Op::PutManifest { id: x.id, version: x.version.clone(), manifest: manifest(&[5, 7]) };
    fixture.apply(1, vec![put(&x), place(x.id, "A/B/x.flac", 0), cached]);
    let before = fixture.db.node(x.id.ino()).unwrap().unwrap();
    let new = FileVersion { size: 99, mtime: Some(UnixNanos(-5)), etag: Some("e".into()) };
    fixture.apply(2, vec![put(&FileMeta { version: new, ..x.clone() })]);
    let after = fixture.db.node(x.id.ino()).unwrap().unwrap();
    // The entry shows the new version, in its old place; the directory's entries did not change.
    assert_eq!((after.size, after.mtime), (99, UnixNanos(-5)));
    assert_eq!((after.parent, after.cookie, &after.name), (before.parent, before.cookie, &before.name));
    assert_eq!(fixture.db.node(after.parent).unwrap().unwrap().mtime, UnixNanos(1));
    assert_eq!(fixture.db.totals().unwrap().bytes, 99);
    assert_eq!(fixture.db.manifest(x.id).unwrap(), Some((x.version.clone(), manifest(&[5, 7]))));
    let shown = fixture.db.file(x.id).unwrap().unwrap().shown_at;
    assert_eq!(shown, Some(VirtualPath::from_text("A/B/x.flac").unwrap()));
    let raw = Connection::open(fixture.path()).unwrap();
    let seen: i64 = raw.query_row("SELECT first_seen FROM details", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn put_for_an_id_of_another_path_fails_and_applies_nothing() {
    let fixture = Fixture::new();
    let x = track("a/x.flac");
    fixture.apply(1, vec![put(&x), place(x.id, "A/x.flac", 0)]);
    let strangers = [
        FileMeta { path: OriginPath::new("a/y.flac").unwrap(), ..x.clone() },
        FileMeta { path: OriginPath::new("b/x.flac").unwrap(), ..x.clone() },
        FileMeta { origin: OriginId::from("usb"), ..x.clone() },
    ];
    for stranger in strangers {
        let y = track("new/y.flac");
        let ops = vec![put(&y), place(y.id, "B/y.flac", 0), put(&stranger)];
        match fixture.db.apply(&Batch { at: UnixNanos(9), ops }) {
            Err(MetaError::IdTaken { id, origin, path }) => {
                assert_eq!((id, origin, path), (stranger.id, stranger.origin, stranger.path));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(&fixture, ROOT_INODE), ["A"]);
        assert_eq!(fixture.db.file(y.id).unwrap(), None);
    }
    assert_eq!(fixture.db.revision().unwrap(), Revision(1));
    // Not even a cookie was used up.
    let y = track("new/y.flac");
    fixture.apply(2, vec![put(&y), place(y.id, "B/y.flac", 0)]);
    let cookies: Vec<Cookie> =
        fixture.db.list(ROOT_INODE, Cookie(0), 9).unwrap().into_iter().map(|node| node.cookie).collect();
    assert_eq!(cookies, [Cookie(1), Cookie(3)]);
    assert_eq!(fixture.db.changes_since(Revision(1), 100).unwrap().changes.len(), 3);
}

#[test]
fn operation_on_an_unknown_file_fails_the_whole_batch() {
    let fixture = Fixture::new();
    let (x, y) = (track("x"), track("y"));
    let version = FileVersion::default();
    let bad = [
        place(y.id, "y", 0),
        Op::Unplace(y.id),
        Op::SetState(y.id, FileState::Missing),
        Op::Forget(y.id),
        Op::PutManifest { id: y.id, version, manifest: ChunkManifest::default() },
    ];
    for op in bad {
        let note = Op::SetNote { key: "k".into(), value: Some("v".into()) };
        let failed = fixture.db.apply(&Batch { at: UnixNanos(1), ops: vec![put(&x), note, op.clone()] });
        assert!(matches!(failed, Err(MetaError::UnknownFile(id)) if id == y.id), "{op:?}: {failed:?}");
    }
    assert_eq!(fixture.db.file(x.id).unwrap(), None);
    assert_eq!(fixture.db.note("k").unwrap(), None);
    assert_eq!(fixture.db.revision().unwrap(), Revision(0));
}

#[test]
fn forgotten_file_comes_back_as_new() {
    let fixture = Fixture::new();
    let x = track("a/x.flac");
    let cached = Op::PutManifest { id: x.id, version: x.version.clone(), manifest: manifest(&[5]) };
    fixture.apply(1, vec![put(&x), place(x.id, "x", 0), cached]);
    fixture.apply(2, vec![Op::Forget(x.id)]);
    assert_eq!(fixture.db.file(x.id).unwrap(), None);
    assert_eq!(fixture.db.node(x.id.ino()).unwrap(), None);
    assert_eq!(fixture.db.manifest(x.id).unwrap(), None);
    assert_eq!(fixture.db.totals().unwrap(), Totals::default());
    let folder = FileQuery::Folder(x.origin.clone(), x.path.parent());
    assert_eq!(ids(&fixture, &folder), []);
    // Forgotten and put within one batch as well.
    fixture.apply(3, vec![put(&x), Op::Forget(x.id), put(&x)]);
    assert_eq!(fixture.db.file(x.id).unwrap(), Some(x.clone()));
    assert_eq!(ids(&fixture, &folder), [x.id]);
    let changes = fixture.db.changes_since(Revision(2), 100).unwrap().changes;
    let new = Change::FileChanged { id: x.id, content: true };
    assert_eq!(changes, [new.clone(), Change::FileForgotten { id: x.id }, new]);
}

#[test]
fn cookies_are_not_given_twice_even_after_a_restart() {
    let fixture = Fixture::new();
    let (x, y) = (track("x"), track("y"));
    fixture.apply(1, vec![put(&x), put(&y), place(x.id, "x", 0), place(y.id, "y", 0)]);
    let last = fixture.db.node(y.id.ino()).unwrap().unwrap().cookie;
    fixture.apply(2, vec![Op::Unplace(y.id)]);
    let fixture = fixture.reopen();
    fixture.apply(3, vec![place(y.id, "y", 0)]);
    assert!(fixture.db.node(y.id.ino()).unwrap().unwrap().cookie > last);
}

#[test]
fn directory_whose_inode_number_is_taken_gets_another() {
    let fixture = Fixture::new();
    let (x, y) = (track("x"), track("y"));
    fixture.apply(1, vec![put(&x), put(&y), place(x.id, "A/x", 0)]);
    // As if another directory had the number that "B" has by its path.
    let taken = Ino::for_dir(ROOT_INODE, b"B", 0);
    let raw = Connection::open(fixture.path()).unwrap();
    raw.execute("UPDATE nodes SET ino = ?1 WHERE name = CAST('A' AS BLOB)", [taken.raw() as i64]).unwrap();
    fixture.apply(2, vec![place(y.id, "B/y", 0)]);
    assert_eq!(dir(&fixture, "B"), Ino::for_dir(ROOT_INODE, b"B", 1));
    assert_eq!(fixture.db.node(taken).unwrap().unwrap().name, Some(Name::new("A").unwrap()));
}

#[test]
fn names_alike_take_the_lowest_free_numbers_within_and_across_batches() {
    let fixture = Fixture::new();
    let files: Vec<FileMeta> = (0..6).map(|n| track(&format!("{n}/x.flac"))).collect();
    let show = |n: usize, prefer| place(files[n].id, "A/x.flac", prefer);
    let mut ops: Vec<Op> = files.iter().map(put).collect();
    ops.extend([show(0, 0), show(1, 0), show(2, 4)]);
    let path = VirtualPath::from_text("A/x.flac").unwrap();
    let number = |file: usize, n| Suffixed { id: files[file].id, path: path.clone(), n };
    assert_eq!(fixture.apply(1, ops).suffixed, [number(1, 2), number(2, 4)]);
    let applied = fixture.apply(2, vec![show(3, 0), show(4, 0), Op::Unplace(files[1].id), show(5, 0)]);
    assert_eq!(applied.suffixed, [number(3, 3), number(4, 5), number(5, 2)]);
    // Shown again where it is wanted already, a file keeps its number, and that is not told again.
    assert_eq!(fixture.apply(3, vec![show(4, 0)]).suffixed, []);
    let node = fixture.db.node(files[4].id.ino()).unwrap().unwrap();
    assert_eq!(node.name, Some(Name::new("x (5).flac").unwrap()));
}

#[test]
fn file_finds_its_own_number_free_within_a_batch() {
    let fixture = Fixture::new();
    let files: Vec<FileMeta> = (0..3).map(|n| track(&format!("{n}/x.flac"))).collect();
    let mut ops: Vec<Op> = files.iter().map(put).collect();
    ops.extend(files.iter().map(|file| place(file.id, "A/x.flac", 0)));
    ops.extend([place(files[2].id, "A/x (3).flac", 0), place(files[2].id, "A/x.flac", 0)]);
    fixture.apply(1, ops);
    assert_eq!(names(&fixture, dir(&fixture, "A")), ["x.flac", "x (2).flac", "x (3).flac"]);
}

#[test]
fn directory_that_goes_and_comes_back_within_a_batch_is_whole() {
    let fixture = Fixture::new();
    let (x, y) = (track("x"), track("y"));
    fixture.apply(1, vec![put(&x), put(&y), place(x.id, "A/B/x", 0)]);
    fixture.apply(
        2,
        vec![Op::Unplace(x.id), place(y.id, "A/B/y", 0), Op::Unplace(y.id), place(x.id, "A/B/x", 0)],
    );
    let b = fixture.db.lookup(dir(&fixture, "A"), b"B").unwrap().unwrap();
    assert_eq!(names(&fixture, b.ino), ["x"]);
    assert_eq!(fixture.db.totals().unwrap().dirs, 2);
}

#[test]
fn file_below_a_directory_that_gave_way_stays_when_the_name_becomes_free() {
    let fixture = Fixture::new();
    let (x, y) = (track("x"), track("y"));
    fixture.apply(1, vec![put(&x), put(&y), place(x.id, "A", 0), place(y.id, "A/B/y", 0)]);
    fixture.apply(2, vec![Op::Unplace(x.id), place(y.id, "A/B/y", 0)]);
    assert_eq!(names(&fixture, ROOT_INODE), ["A (2)"]);
    assert_eq!(
        fixture.db.file(y.id).unwrap().unwrap().shown_at,
        Some(VirtualPath::from_text("A (2)/B/y").unwrap())
    );
}

#[test]
fn changes_of_one_revision_are_never_split_and_go_on_from_upto() {
    let fixture = Fixture::new();
    let files: Vec<FileMeta> = (0..4).map(|n| track(&format!("{n}"))).collect();
    fixture.apply(1, files.iter().map(put).collect());
    fixture.apply(2, vec![Op::SetNote { key: "k".into(), value: None }]);
    fixture.apply(3, vec![Op::SetState(files[0].id, FileState::Missing)]);
    fixture.apply(4, vec![Op::SetNote { key: "k".into(), value: None }]);
    let first = fixture.db.changes_since(Revision(0), 1).unwrap();
    assert_eq!((first.changes.len(), first.truncated), (4, false));
    let second = fixture.db.changes_since(first.upto, 1).unwrap();
    assert_eq!((second.changes.len(), second.upto), (1, Revision(4)));
    let third = fixture.db.changes_since(second.upto, 1).unwrap();
    assert_eq!((third.changes.len(), third.upto, third.truncated), (0, Revision(4), false));
}

#[test]
fn changes_that_are_no_longer_kept_are_said_to_be_cut() {
    let mut fixture = Fixture::new();
    fixture.db.keep_changes = 3;
    let x = track("x");
    fixture.apply(1, vec![put(&x)]);
    for n in 0..6 {
        let state = if n % 2 == 0 { FileState::Missing } else { FileState::Present };
        fixture.apply(n, vec![Op::SetState(x.id, state)]);
    }
    for after in 0..4 {
        let changes = fixture.db.changes_since(Revision(after), 100).unwrap();
        assert!(changes.truncated && changes.changes.is_empty(), "after {after}: {changes:?}");
        assert_eq!(changes.upto, Revision(7));
    }
    let changes = fixture.db.changes_since(Revision(4), 100).unwrap();
    assert_eq!((changes.changes.len(), changes.truncated), (3, false));
    // Who has seen more than there is followed another catalogue.
    assert!(fixture.db.changes_since(Revision(8), 100).unwrap().truncated);
    // The newest revision stays, however much it is.
    fixture.apply(9, (0..9).map(|n| put(&track(&format!("n{n}")))).collect());
    assert_eq!(fixture.db.changes_since(Revision(7), 1).unwrap().changes.len(), 9);
}

#[test]
fn subscriber_is_told_each_revision_once_it_can_be_read() {
    let fixture = Fixture::new();
    let mut told = fixture.db.subscribe();
    assert!(!told.has_changed().unwrap());
    let x = track("x");
    fixture.apply(1, vec![put(&x)]);
    assert_eq!(*told.borrow_and_update(), Revision(1));
    assert!(fixture.db.apply(&Batch { at: UnixNanos(2), ops: vec![Op::Forget(track("y").id)] }).is_err());
    assert!(!told.has_changed().unwrap());
    let fixture = fixture.reopen();
    assert_eq!(*fixture.db.subscribe().borrow(), Revision(1));
}

#[test]
fn queries_answer_their_files_in_order_of_id() {
    let fixture = Fixture::new();
    let on_disc = |path: &str, disc| {
        let audio =
            AudioMeta { album: Some("Kind".into()), disc, artists: vec!["M".into()], ..AudioMeta::default() };
        FileMeta { audio: Some(Box::new(audio)), ..track(path) }
    };
    let one = on_disc("a/1.flac", Some(1));
    let two = FileMeta { origin: OriginId::from("usb"), ..on_disc("a/2.flac", Some(2)) };
    let two = FileMeta { id: FileId::derive(&two.origin, &two.path, 0), ..two };
    let none = on_disc("a/b/3.flac", None);
    let lone = FileMeta {
        audio: Some(Box::new(AudioMeta {
            album: Some("Lone".into()),
            disc: Some(1),
            ..AudioMeta::default()
        })),
        ..track("lone.flac")
    };
    let bad = FileMeta {
        kind: FileKind::Unparsed,
        format: None,
        audio: None,
        problem: Some("it is empty".into()),
        ..track("a/bad.flac")
    };
    let gone = FileMeta { state: FileState::Missing, ..track("gone.flac") };
    let all = [&one, &two, &none, &lone, &bad, &gone];
    fixture.apply(1, all.iter().map(|file| put(file)).collect());

    let nas = OriginId::from("nas");
    let folder = |path: &str| FileQuery::Folder(nas.clone(), OriginPath::new(path).unwrap());
    assert_eq!(ids(&fixture, &FileQuery::All), sorted(&all));
    assert_eq!(ids(&fixture, &FileQuery::Origin(nas.clone())), sorted(&[&one, &none, &lone, &bad, &gone]));
    assert_eq!(ids(&fixture, &FileQuery::Origin(OriginId::from("none"))), []);
    assert_eq!(ids(&fixture, &folder("a")), sorted(&[&one, &bad]));
    assert_eq!(ids(&fixture, &folder("")), sorted(&[&lone, &gone]));
    assert_eq!(ids(&fixture, &folder("a/b/c")), []);
    assert_eq!(ids(&fixture, &FileQuery::DiscsOf(one.album_key().unwrap())), sorted(&[&one, &two]));
    assert_eq!(ids(&fixture, &FileQuery::Problems), [bad.id]);
    assert_eq!(ids(&fixture, &FileQuery::Missing), [gone.id]);
    assert_eq!(fixture.db.multi_disc_albums().unwrap(), [one.album_key().unwrap()]);

    let mut known = Vec::new();
    fixture.db.known(&nas, &mut |file| known.push(file)).unwrap();
    known.sort_by_key(|file| file.id);
    assert_eq!(
        known.iter().map(|file| file.id).collect::<Vec<_>>(),
        sorted(&[&one, &none, &lone, &bad, &gone])
    );
    let row = known.iter().find(|file| file.id == bad.id).unwrap();
    assert_eq!((row.kind, row.state, &row.version), (bad.kind, bad.state, &bad.version));
}

#[test]
fn names_of_any_bytes_and_numbers_of_any_size_are_kept() {
    let fixture = Fixture::new();
    let origin = OriginId::from("nas");
    let path = OriginPath::new(b"d\xff/t\xfe.flac").unwrap();
    let odd = FileMeta {
        id: FileId::derive(&origin, &path, 0),
        version: FileVersion { size: u64::MAX, mtime: Some(UnixNanos(i64::MIN)), etag: Some("é\"".into()) },
        path,
        ..track("x")
    };
    let shown = VirtualPath::new(vec![Name::new(b"d\xff").unwrap(), Name::new(b"t\xfe").unwrap()]).unwrap();
    let placement = musicfs_core::Placement { id: odd.id, path: shown.clone(), prefer: 0 };
    fixture.apply(1, vec![put(&odd), Op::Place(placement)]);
    let fixture = fixture.reopen();
    assert_eq!(fixture.db.file(odd.id).unwrap(), Some(FileMeta { shown_at: Some(shown), ..odd.clone() }));
    let node = fixture.db.node(odd.id.ino()).unwrap().unwrap();
    assert_eq!((node.size, node.mtime), (u64::MAX, UnixNanos(i64::MIN)));
    assert_eq!(fixture.db.lookup(node.parent, b"t\xfe").unwrap(), Some(node));
}

#[test]
fn root_is_a_directory_without_a_name_and_not_its_own_entry() {
    let fixture = Fixture::new();
    let root = fixture.db.node(ROOT_INODE).unwrap().unwrap();
    assert_eq!((root.kind, root.parent, root.name), (NodeKind::Dir, ROOT_INODE, None));
    assert_eq!(fixture.db.lookup(ROOT_INODE, b"").unwrap(), None);
    assert_eq!(names(&fixture, ROOT_INODE), Vec::<String>::new());
    assert_eq!(fixture.db.list(Ino::from_raw(4711), Cookie(0), 9).unwrap(), []);
    assert_eq!(fixture.db.node(Ino::from_raw(4711)).unwrap(), None);
}

#[test]
fn notes_and_manifests_are_replaced_and_removed() {
    let fixture = Fixture::new();
    let x = track("x");
    let note = |value: Option<&str>| Op::SetNote { key: "scan".into(), value: value.map(str::to_owned) };
    let cached =
        |lens: &[u64]| Op::PutManifest { id: x.id, version: x.version.clone(), manifest: manifest(lens) };
    fixture.apply(1, vec![put(&x), note(Some("a")), cached(&[1])]);
    fixture.apply(2, vec![note(Some("b")), cached(&[2, 3])]);
    assert_eq!(fixture.db.note("scan").unwrap().as_deref(), Some("b"));
    assert_eq!(fixture.db.manifest(x.id).unwrap().unwrap().1, manifest(&[2, 3]));
    fixture.apply(3, vec![note(None)]);
    assert_eq!(fixture.db.note("scan").unwrap(), None);
}

#[test]
fn readers_see_whole_batches_while_others_are_applied() {
    let fixture = Fixture::new();
    let (batches, per_batch) = (60, 7);
    let first = track("first");
    fixture.apply(0, vec![put(&first), place(first.id, "D/first", 0), Op::Unplace(first.id)]);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while done.load(Ordering::Acquire) == 0 {
                    let totals = fixture.db.totals().unwrap();
                    assert_eq!(totals.files % per_batch, 0);
                    if let Some(d) = fixture.db.lookup(ROOT_INODE, b"D").unwrap() {
                        let entries = fixture.db.list(d.ino, Cookie(0), usize::MAX).unwrap();
                        assert_eq!(entries.len() as u64 % per_batch, 0);
                        for node in entries.iter().step_by(50) {
                            let id = node.ino.file_id().unwrap();
                            assert!(fixture.db.file(id).unwrap().unwrap().shown_at.is_some());
                        }
                    }
                    let changes = fixture.db.changes_since(Revision(1), 1).unwrap();
                    assert_eq!(
                        changes.changes.len() as u64 % per_batch,
                        u64::from(!changes.changes.is_empty())
                    );
                }
            });
        }
        for batch in 0..batches {
            let mut ops = Vec::new();
            for n in 0..per_batch {
                let x = track(&format!("{batch}/{n}"));
                ops.extend([put(&x), place(x.id, &format!("D/{batch}-{n}"), 0)]);
            }
            fixture.apply(batch, ops);
        }
        done.store(1, Ordering::Release);
    });
    assert_eq!(fixture.db.totals().unwrap().files, batches as u64 * per_batch);
}

#[test]
fn readers_beyond_the_bound_wait_and_are_served() {
    let fixture = Fixture::new();
    fixture.apply(1, vec![put(&track("x"))]);
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Eight at a time meet inside; with fewer connections this would hang, with more the count would show it.
    let meet = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut visit = |_| {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    meet.wait();
                    inside.fetch_sub(1, Ordering::SeqCst);
                };
                fixture.db.known(&OriginId::from("nas"), &mut visit).unwrap();
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 8);
    assert_eq!(fixture.db.readers.open_count(), 8);
}

#[test]
fn visitor_that_panics_costs_no_connection() {
    let fixture = Fixture::new();
    fixture.apply(1, vec![put(&track("x")), put(&file("nas", "y"))]);
    for _ in 0..20 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fixture
                .db
                .known(&OriginId::from("nas"), &mut |_| std::panic::resume_unwind(Box::new(())))
                .unwrap();
        }));
        assert!(panicked.is_err());
    }
    assert_eq!(fixture.db.readers.open_count(), 0);
    assert_eq!(fixture.db.totals().unwrap().files, 0);
}
