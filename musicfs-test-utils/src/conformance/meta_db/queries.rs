//! Questions about many files, and what followed from batches.

use std::collections::{BTreeMap, BTreeSet};

use musicfs_core::{
    AudioMeta, Change, FileId, FileKind, FileMeta, FileQuery, FileState, FileVersion, KnownFile, MarkedFile,
    Name, Op, OriginId, OriginPath, ROOT_INODE, Revision, Totals,
};

use super::{Fixture, file, file_on, place, put};

/// Each query gives its files, each once, in order of id, in pages of any size.
pub fn queries_give_their_files_in_pages(fixture: Fixture) {
    let tagged = |path, artist: &str, album: &str, disc| {
        let audio = AudioMeta {
            album: Some(album.into()),
            artists: vec![artist.into()],
            disc,
            ..AudioMeta::default()
        };
        FileMeta { audio: Some(Box::new(audio)), ..file(path) }
    };
    let mut files = [
        tagged("Artist/1", "A", "L", Some(1)),
        tagged("Artist/2", "A", "L", Some(2)),
        tagged("Artist/3", "A", "L", None),
        FileMeta { origin: "two".into(), ..tagged("Artist/4", "a", "l", Some(3)) },
        tagged("Artist2/5", "B", "L", Some(1)),
        tagged("Artist/Album/6", "A", "M", None),
        FileMeta { kind: FileKind::Unparsed, audio: None, ..file("7") },
        FileMeta { state: FileState::Missing, ..file("8") },
        file_on("two", "Artist/9", 1),
    ]
    .map(|f| FileMeta { id: FileId::derive(&f.origin, &f.path, 0), ..f });
    [0, 4, 7, 8].into_iter().for_each(|n: usize| files[n].version.size = 70);
    fixture.apply(1, files.iter().map(put).collect::<Vec<_>>());
    let (one, two) = (OriginId::from("one"), OriginId::from("two"));
    let folder = |origin: &OriginId, path: &str| {
        FileQuery::Folder(origin.clone(), OriginPath::new(path).expect("a legal path"))
    };
    let album = files[0].album_key().expect("an album");
    let under = |origin: &OriginId, path: &str| {
        FileQuery::Under(origin.clone(), OriginPath::new(path).expect("a legal path"))
    };
    let cases: [(FileQuery, &[usize]); 18] = [
        (FileQuery::All, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (FileQuery::Origin(one.clone()), &[0, 1, 2, 4, 5, 6, 7]),
        (FileQuery::Origin(two.clone()), &[3, 8]),
        (FileQuery::Origin("three".into()), &[]),
        (folder(&one, "Artist"), &[0, 1, 2]),
        (folder(&two, "Artist"), &[3, 8]),
        (folder(&one, ""), &[6, 7]),
        (folder(&one, "Art"), &[]),
        (under(&one, "Artist"), &[0, 1, 2, 5]),
        (under(&one, "Artist/Album"), &[5]),
        (under(&one, ""), &[0, 1, 2, 4, 5, 6, 7]),
        (under(&two, "Art"), &[]),
        (FileQuery::OfSize(one.clone(), 70), &[0, 4, 7]),
        (FileQuery::OfSize(two.clone(), 70), &[8]),
        (FileQuery::OfSize(two.clone(), 71), &[]),
        (FileQuery::DiscsOf(album), &[0, 1, 3]),
        (FileQuery::Problems, &[6]),
        (FileQuery::Missing, &[7]),
    ];
    for (query, expected) in cases {
        let mut expected: Vec<_> = expected.iter().map(|n| files[*n].clone()).collect();
        expected.sort_by_key(|file| file.id);
        for limit in [1, 2, 3, 9, 100] {
            assert_eq!(fixture.query(&query, limit), expected, "{query:?} by {limit}");
        }
        let last = expected.last().map(|file| file.id);
        let beyond = fixture.db.files(&query, last.or(Some(files[0].id)), 10).expect("an answer");
        assert!(last.is_none() || (beyond.files.is_empty() && beyond.next.is_none()));
    }
}

/// A walk over the tree's files meets each that has an entry of its own once, in pages of any size.
pub fn shown_files_are_walked_once(fixture: Fixture) {
    let files = [file("a"), file("b"), file("c/d"), file_on("two", "e", 1)];
    let hidden = file("hidden");
    fixture.show(1, &files.each_ref());
    fixture.apply(2, [put(&hidden), put(&FileMeta { state: FileState::Missing, ..files[1].clone() })]);
    let expected: BTreeSet<_> = files.iter().map(|file| file.id).collect();
    for limit in [1, 2, 4, 100] {
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            let page = fixture.db.shown(after, limit).expect("an answer");
            assert!(page.files.len() <= limit);
            assert!(page.next.is_none() || page.next == page.last);
            assert_eq!(page.last.is_some(), !page.files.is_empty());
            let marked = marked(&fixture, page.files.iter());
            assert_eq!(marked.iter().map(|file| file.id).collect::<Vec<_>>(), ids(&page.files));
            assert_eq!(marked.last().map(|file| file.mark), page.last);
            walked.extend(page.files);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked.len(), expected.len(), "by {limit}");
        assert_eq!(walked.iter().map(|file| file.id).collect::<BTreeSet<_>>(), expected, "by {limit}");
        assert!(walked.iter().all(|file| file.shown_at.is_some()));
    }
}

/// A file keeps its mark whatever becomes of it, until it is forgotten: recorded anew, it stands after all others.
pub fn marks_follow_the_order_of_arrival(fixture: Fixture) {
    let files = ["b", "a", "d", "c"].map(file);
    fixture.apply(1, files[..2].iter().map(put).collect::<Vec<_>>());
    fixture.show(2, &[&files[2], &files[0], &files[3]]);
    let before = marked(&fixture, files.iter().rev().chain(&files));
    let is_shown: Vec<bool> = before.iter().map(|file| file.shown.is_some()).collect();
    assert_eq!(
        (ids(&files), is_shown),
        (before.iter().map(|file| file.id).collect(), vec![true, false, true, true])
    );
    assert_eq!(before[2].shown, fixture.file(files[2].id));
    let changed = FileMeta { version: FileVersion { size: 9, mtime: None, etag: None }, ..files[1].clone() };
    fixture.apply(3, [put(&changed), place(&changed, "elsewhere"), Op::Unplace(files[0].id)]);
    let after = marked(&fixture, &files);
    assert!(after.iter().map(|file| file.mark).eq(before.iter().map(|file| file.mark)));
    fixture.apply(4, [Op::Forget(files[0].id), put(&files[0])]);
    fixture.apply(5, [Op::Forget(files[3].id)]);
    let after = marked(&fixture, &files);
    assert_eq!(after.iter().map(|file| file.id).collect::<Vec<_>>(), [files[1].id, files[2].id, files[0].id]);
    assert!(after[2].mark > before[3].mark);
    fixture.apply(6, [put(&files[3])]);
    assert!(marked(&fixture, &files)[3].mark > after[2].mark, "no mark is given twice");
}

fn marked<'a>(fixture: &Fixture, files: impl IntoIterator<Item = &'a FileMeta>) -> Vec<MarkedFile> {
    fixture.db.marked(&files.into_iter().map(|file| file.id).collect::<Vec<_>>()).expect("an answer")
}

fn ids(files: &[FileMeta]) -> Vec<FileId> {
    files.iter().map(|file| file.id).collect()
}

/// What a pass needs to know comes for every file of the origin, once, and for no other.
pub fn known_files_are_visited_once(fixture: Fixture) {
    let files = [
        file("a"),
        FileMeta { kind: FileKind::Sidecar, state: FileState::Missing, ..file("b/c") },
        FileMeta { version: FileVersion { size: 1, mtime: None, etag: Some("e".into()) }, ..file("d") },
    ];
    let other = file_on("two", "a", 1);
    fixture.apply(1, files.iter().chain([&other]).map(put).collect::<Vec<_>>());
    let mut known = BTreeMap::new();
    let mut visit = |file: KnownFile| {
        assert!(known.insert(file.id, (file.version, file.kind, file.state)).is_none());
    };
    fixture.db.known(&"one".into(), &mut visit).expect("an answer");
    let expected = files.iter().map(|f| (f.id, (f.version.clone(), f.kind, f.state))).collect();
    assert_eq!(known, expected);
    fixture.db.known(&"three".into(), &mut |file| panic!("{file:?}")).expect("an answer");
}

/// Albums with a disc above 1 are named once each.
pub fn albums_of_several_discs_are_named_once(fixture: Fixture) {
    let tagged = |path: &str, album: Option<&str>, disc| {
        let audio = AudioMeta { album: album.map(str::to_owned), disc, ..AudioMeta::default() };
        FileMeta { audio: Some(Box::new(audio)), ..file(path) }
    };
    let files = [
        tagged("1", Some("Two"), Some(1)),
        tagged("2", Some("Two"), Some(2)),
        tagged("3", Some("Two"), Some(3)),
        tagged("4", Some("One"), Some(1)),
        tagged("5", Some("None"), None),
        tagged("6", None, Some(2)),
    ];
    fixture.apply(1, files.iter().map(put).collect::<Vec<_>>());
    let albums = || fixture.db.multi_disc_albums().expect("an answer");
    assert_eq!(albums(), [files[0].album_key().expect("an album")]);
    fixture.apply(2, [Op::Forget(files[1].id), put(&tagged("3", Some("Two"), Some(1)))]);
    assert!(albums().is_empty());
}

/// Sums follow every change.
pub fn totals_follow_every_change(fixture: Fixture) {
    let music = file_on("one", "A/music", 1000);
    let sidecar = FileMeta { kind: FileKind::Sidecar, ..file_on("one", "A/B/cover", 10) };
    let problem = FileMeta { kind: FileKind::Unparsed, ..file_on("one", "C/problem", 1) };
    let other = FileMeta { kind: FileKind::Other, ..file_on("one", "other", 5) };
    fixture.show(1, &[&music, &sidecar, &problem]);
    fixture.apply(2, [put(&other)]);
    let all = Totals { files: 3, bytes: 1011, tracks: 1, problems: 1, missing: 0, dirs: 3 };
    assert_eq!(fixture.totals(), all);
    let grown = FileVersion { size: 2000, ..music.version.clone() };
    fixture.apply(3, [put(&FileMeta { version: grown, ..music.clone() })]);
    assert_eq!(fixture.totals(), Totals { bytes: 2011, ..all });
    fixture
        .apply(4, [Op::SetState(music.id, FileState::Missing), Op::SetState(other.id, FileState::Missing)]);
    assert_eq!(fixture.totals(), Totals { bytes: 2011, missing: 2, ..all });
    fixture.apply(5, [Op::Unplace(music.id), Op::Unplace(problem.id)]);
    let rest = Totals { files: 1, bytes: 10, tracks: 0, problems: 1, missing: 2, dirs: 2 };
    assert_eq!(fixture.totals(), rest);
    fixture.apply(6, [music.id, sidecar.id, problem.id, other.id].map(Op::Forget));
    assert_eq!(fixture.totals(), Totals::default());
}

/// Changes tell every entry that appeared or went, every file that changed and whether its bytes did, and every
/// file forgotten.
pub fn changes_tell_every_consequence(fixture: Fixture) {
    let a = file("D/a");
    fixture.show(1, &[&a]);
    let dir = fixture.at("D").expect("it").ino;
    let entry = |parent, name: &str, ino| (parent, Name::from_text(name), ino);
    let added = |(parent, name, ino)| Change::EntryAdded { parent, name, ino };
    let removed = |(parent, name, ino)| Change::EntryRemoved { parent, name, ino };
    let all = |from| fixture.changes(Revision(from), 100);
    let first = all(0);
    assert!(first.contains(&added(entry(ROOT_INODE, "D", dir))));
    assert!(first.contains(&added(entry(dir, "a", a.id.ino()))));
    assert!(first.iter().any(|change| matches!(change, Change::FileChanged { id, .. } if *id == a.id)));
    fixture.apply(2, [put(&FileMeta { problem: Some("p".into()), ..a.clone() })]);
    assert_eq!(all(1), [Change::FileChanged { id: a.id, content: false }]);
    let version = FileVersion { size: 1, ..a.version.clone() };
    fixture.apply(3, [put(&FileMeta { version, ..a.clone() })]);
    assert_eq!(all(2), [Change::FileChanged { id: a.id, content: true }]);
    fixture.apply(4, [Op::SetState(a.id, FileState::Missing)]);
    assert_eq!(all(3), [Change::FileChanged { id: a.id, content: false }]);
    fixture.apply(5, [place(&a, "D/b")]);
    let moved: BTreeSet<_> = all(4).iter().map(|change| format!("{change:?}")).collect();
    let expected = [removed(entry(dir, "a", a.id.ino())), added(entry(dir, "b", a.id.ino()))];
    assert_eq!(moved, expected.iter().map(|change| format!("{change:?}")).collect());
    fixture.apply(6, [Op::Correct(a.id)]);
    assert_eq!(all(5), [Change::FileChanged { id: a.id, content: true }]);
    fixture.apply(7, [Op::Forget(a.id)]);
    let last = all(6);
    for change in [
        removed(entry(dir, "b", a.id.ino())),
        removed(entry(ROOT_INODE, "D", dir)),
        Change::FileForgotten { id: a.id },
    ] {
        assert!(last.contains(&change), "{change:?} in {last:?}");
    }
}

/// Changes come in pages that never split a revision, and end where the catalogue is.
pub fn changes_come_in_pages_of_whole_revisions(fixture: Fixture) {
    let mut ends = vec![0];
    for n in 0..10 {
        let files: Vec<_> = (0..=n % 3).map(|k| file(&format!("{n}/{k}"))).collect();
        fixture.show(1, &files.iter().collect::<Vec<_>>());
        ends.push(fixture.changes(Revision(0), usize::MAX).len());
    }
    fixture.apply(1, []);
    let whole = fixture.changes(Revision(0), usize::MAX);
    for limit in [1, 2, 4, 7, 1000] {
        assert_eq!(fixture.changes(Revision(0), limit), whole, "by {limit}");
        let page = fixture.db.changes_since(Revision(0), limit).expect("an answer");
        assert!(ends.contains(&page.changes.len()), "{} splits a revision", page.changes.len());
        let longest = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        assert!(page.changes.len() <= limit + longest, "about as many as asked for");
    }
    let nothing = fixture.db.changes_since(Revision(11), 10).expect("an answer");
    assert_eq!((nothing.changes.len(), nothing.upto, nothing.truncated), (0, Revision(11), false));
}
