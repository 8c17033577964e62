//! What is known of files, and who changes which part of it.

use musicfs_core::{
    AudioMeta, ByteRange, ChunkExtent, ChunkHash, ChunkManifest, Codec, FileKind, FileMeta, FileQuery,
    FileState, FileVersion, Format, MetaError, Op, ROOT_INODE, SavedManifest, UnixNanos,
};

use super::{Fixture, file, file_on, manifest_of, put, virtual_path};

/// An id belongs to one path of one origin, until it is forgotten.
pub fn id_of_another_path_is_taken(fixture: Fixture) {
    let holder = file("a/holder");
    fixture.apply(1, [put(&holder)]);
    for (origin, path) in [("one", "a/other"), ("one", "b/holder"), ("two", "a/holder")] {
        let wants = FileMeta { id: holder.id, ..file_on(origin, path, 1) };
        match fixture.refused([put(&file("bystander")), put(&wants)]) {
            MetaError::IdTaken { id, origin, path } => {
                assert_eq!((id, origin, path), (holder.id, wants.origin, wants.path));
            }
            other => panic!("{other:?}"),
        }
    }
    let (first, second) = (file("new"), FileMeta { id: file("new").id, ..file("newer") });
    assert!(matches!(fixture.refused([put(&first), put(&second)]), MetaError::IdTaken { .. }));
    let heir = FileMeta { id: holder.id, ..file("heir") };
    fixture.apply(2, [Op::Forget(holder.id), put(&heir)]);
    assert_eq!(fixture.file(heir.id), Some(heir));
}

/// All that was put of a file comes back: every field, names that are not UTF-8, the ends of ranges.
pub fn file_put_comes_back_whole(fixture: Fixture) {
    let audio = AudioMeta {
        title: Some("日本語 'quoted' \"title\" $x /\\ \u{0}".into()),
        artists: vec!["A".into(), "B; C".into()],
        disc: Some(2),
        comment: Some(String::new()),
        codec: Some(Codec::Opus),
        duration_ms: u64::from(u32::MAX),
        ..AudioMeta::default()
    };
    let plain = file("plain");
    let files = [
        FileMeta {
            audio: Some(Box::new(audio)),
            format: Some(Format::Ogg),
            ..file_on("one", b"caf\xe9/\xff.ogg", 1)
        },
        FileMeta {
            version: FileVersion { size: i64::MAX as u64, mtime: None, etag: Some("\"etag\"".into()) },
            ..file("etag")
        },
        FileMeta {
            version: FileVersion { size: 0, mtime: Some(UnixNanos(i64::MIN)), etag: None },
            ..file("old")
        },
        FileMeta {
            kind: FileKind::Unparsed,
            state: FileState::Pending,
            format: None,
            audio: None,
            problem: Some("no frame found\nat all".into()),
            ..file("a/b/problem")
        },
        FileMeta { kind: FileKind::Sidecar, format: None, audio: None, ..file("cover.jpg") },
        FileMeta { kind: FileKind::Other, state: FileState::Missing, audio: None, ..file("notes") },
        plain,
    ];
    fixture.apply(1, files.iter().map(put).collect::<Vec<_>>());
    for file in &files {
        assert_eq!(fixture.file(file.id).as_ref(), Some(file));
    }
    assert_eq!(fixture.file(file("never put").id), None);
}

/// Putting a file again replaces what was observed, and neither its place nor its manifest.
pub fn put_again_keeps_place_and_manifest(fixture: Fixture) {
    let first = file("a");
    fixture.show(1, &[&first]);
    let manifest = manifest_of(100);
    let version = first.version.clone();
    fixture
        .apply(2, [Op::PutManifest { id: first.id, version: version.clone(), manifest: manifest.clone() }]);
    let elsewhere = Some(virtual_path("where/it/is not"));
    let again = FileMeta {
        version: FileVersion { size: 5, mtime: Some(UnixNanos(9)), etag: None },
        problem: Some("new".into()),
        shown_at: elsewhere.clone(),
        ..first.clone()
    };
    fixture.apply(3, [put(&again)]);
    let shown_at = Some(virtual_path("a"));
    assert_eq!(fixture.file(first.id), Some(FileMeta { shown_at, ..again }));
    assert_eq!(fixture.db.manifest(first.id).expect("an answer"), Some((version, manifest)));
    let node = fixture.at("a").expect("its entry");
    assert_eq!((node.size, node.mtime), (5, UnixNanos(9)), "an entry shows its file's size and time");
    // Nor does it give a place to one that has none.
    let unplaced = FileMeta { shown_at: elsewhere, ..file("b") };
    fixture.apply(4, [put(&unplaced)]);
    assert_eq!(fixture.shown_at(&unplaced), None);
    assert_eq!(fixture.names(ROOT_INODE), ["a"]);
}

/// A state is changed by itself.
pub fn state_changes_alone(fixture: Fixture) {
    let a = file("a");
    fixture.show(1, &[&a]);
    let before = fixture.file(a.id).expect("the file");
    for state in [FileState::Missing, FileState::Excluded, FileState::Pending, FileState::Present] {
        fixture.apply(2, [Op::SetState(a.id, state)]);
        assert_eq!(fixture.file(a.id), Some(FileMeta { state, ..before.clone() }));
        assert!(fixture.at("a").is_some());
    }
}

/// The time at which a file was found missing is remembered until it is back.
pub fn time_of_going_is_remembered(fixture: Fixture) {
    let a = file("a");
    fixture.show(1, &[&a]);
    let since = || fixture.db.missing_since(a.id).expect("an answer");
    assert_eq!(since(), None);
    fixture.apply(2, [Op::SetState(a.id, FileState::Missing)]);
    let gone = since().expect("a time");
    fixture.apply(3, [Op::SetState(a.id, FileState::Missing)]);
    assert_eq!(since(), Some(gone), "it was missing already");
    fixture.apply(4, [put(&a)]);
    assert_eq!(since(), None);
    fixture.apply(5, [Op::SetState(a.id, FileState::Missing)]);
    assert!(since() > Some(gone));
    assert_eq!(fixture.db.missing_since(file("never put").id).expect("an answer"), None);
}

/// A file that moved keeps its id, its place and its manifest, and its old path is free for another.
pub fn moved_file_is_the_same_file(fixture: Fixture) {
    let (a, b) = (file("d/a"), file("d/b"));
    fixture.show(1, &[&a, &b]);
    let (version, manifest) = (a.version.clone(), manifest_of(100));
    fixture.apply(2, [Op::PutManifest { id: a.id, version: version.clone(), manifest: manifest.clone() }]);
    let path = musicfs_core::OriginPath::new("elsewhere/b").expect("a legal path");
    fixture.apply(3, [Op::Move { id: a.id, path: path.clone() }]);
    let moved = FileMeta { path: path.clone(), shown_at: Some(virtual_path("d/a")), ..a.clone() };
    assert_eq!(fixture.file(a.id), Some(moved.clone()));
    assert_eq!(fixture.db.manifest(a.id).expect("an answer"), Some((version, manifest)));
    let folder = |path: &str| {
        let folder = musicfs_core::OriginPath::new(path).expect("a legal path");
        fixture.query(&FileQuery::Folder(a.origin.clone(), folder), 10)
    };
    assert_eq!((folder("elsewhere"), folder("d").len()), (vec![moved], 1));
    // Its old path is another's now, and it goes on at its new one.
    let other = FileMeta { id: musicfs_core::FileId::derive(&a.origin, &a.path, 1), ..a.clone() };
    fixture.apply(4, [put(&other), put(&FileMeta { path, ..a.clone() })]);
    assert_eq!(folder("d").len(), 2);
    // A file may take the path that another leaves in the same batch.
    fixture.apply(5, [Op::Forget(b.id), Op::Move { id: a.id, path: b.path.clone() }]);
    assert_eq!((folder("elsewhere").len(), folder("d").len()), (0, 2));
    // Two exchange their paths: in between both are at one.
    let exchange = [(a.id, a.path), (other.id, b.path)].map(|(id, path)| Op::Move { id, path });
    fixture.apply(6, [exchange[0].clone()]);
    let paths = || [a.id, other.id].map(|id| fixture.file(id).map(|file| file.path));
    assert_eq!(paths()[0], paths()[1]);
    fixture.apply(7, [exchange[1].clone()]);
    assert_eq!((paths()[0] == paths()[1], folder("d").len()), (false, 2));
}

/// A forgotten file leaves nothing: no row, no place, no manifest; put again, it is new.
pub fn forgotten_file_leaves_nothing(fixture: Fixture) {
    let (a, b) = (file("d/a"), file("d/b"));
    fixture.show(1, &[&a, &b]);
    let manifest = Op::PutManifest { id: a.id, version: a.version.clone(), manifest: manifest_of(10) };
    fixture.apply(2, [manifest, Op::SetNote { key: "k".into(), value: Some("v".into()) }]);
    fixture.apply(3, [Op::Forget(a.id)]);
    assert_eq!((fixture.file(a.id), fixture.node(a.id.ino())), (None, None));
    assert_eq!(fixture.db.manifest(a.id).expect("an answer"), None);
    assert!(fixture.at("d/a").is_none() && fixture.at("d/b").is_some());
    assert_eq!(fixture.query(&FileQuery::All, 10).len(), 1);
    assert_eq!(fixture.db.note("k").expect("an answer").as_deref(), Some("v"));
    fixture.apply(4, [put(&a)]);
    assert_eq!(fixture.file(a.id), Some(a.clone()));
    assert_eq!(fixture.db.manifest(a.id).expect("an answer"), None);
}

/// A manifest comes back with its version, and replaces the one before.
pub fn manifest_is_replaced_with_its_version(fixture: Fixture) {
    let a = file("a");
    fixture.apply(1, [put(&a)]);
    assert_eq!(fixture.db.manifest(a.id).expect("an answer"), None);
    let etag = FileVersion { size: 50, mtime: None, etag: Some("e".into()) };
    for (version, manifest) in [
        (a.version.clone(), manifest_of(100)),
        (etag.clone(), manifest_of(50)),
        (etag, ChunkManifest::default()),
    ] {
        let put = Op::PutManifest { id: a.id, version: version.clone(), manifest: manifest.clone() };
        fixture.apply(2, [put]);
        assert_eq!(fixture.db.manifest(a.id).expect("an answer"), Some((version, manifest)));
        assert_eq!(fixture.file(a.id).expect("the file"), a);
    }
}

/// Manifests come in pages, each once, in order of id.
pub fn manifests_come_in_pages(fixture: Fixture) {
    let mut expected = Vec::new();
    for n in 0..7u64 {
        let a = file(&format!("{n}"));
        let manifest = manifest_of(10 + n);
        let version = FileVersion { size: 10 + n, ..a.version.clone() };
        let op = Op::PutManifest { id: a.id, version: version.clone(), manifest: manifest.clone() };
        fixture.apply(1, [put(&a), op]);
        expected.push(SavedManifest { id: a.id, version, manifest });
    }
    expected.sort_by_key(|saved| saved.id);
    let page = |after| fixture.db.manifests(after, 3).expect("a page");
    let mut found = page(None);
    while let Some(last) = found.last().map(|saved| saved.id) {
        let more = page(Some(last));
        if more.is_empty() {
            break;
        }
        assert!(more.len() <= 3);
        found.extend(more);
    }
    assert_eq!(found, expected);
}

/// Guesses come back with their manifest, and their files are found as long as there are any.
pub fn manifests_with_guesses_are_found(fixture: Fixture) {
    let files = ["a", "b", "c"].map(file);
    fixture.apply(1, files.iter().map(put).collect::<Vec<_>>());
    let manifest = |file: &FileMeta, manifest: ChunkManifest| Op::PutManifest {
        id: file.id,
        version: file.version.clone(),
        manifest,
    };
    let mut guessing = manifest_of(10);
    let guess = ChunkExtent { range: ByteRange::at(7, 2), hash: ChunkHash::of(b"guess") };
    assert!(guessing.guess(guess));
    fixture.apply(2, [manifest(&files[0], manifest_of(10)), manifest(&files[1], guessing.clone())]);
    let saved = fixture.db.manifest(files[1].id).expect("an answer").expect("a manifest");
    assert_eq!(saved, (files[1].version.clone(), guessing.clone()));
    assert_eq!(fixture.query(&FileQuery::Guessed, 10), [files[1].clone()]);
    for (at, state) in [(3, FileState::Missing), (4, FileState::Excluded), (5, FileState::Pending)] {
        fixture.apply(at, [Op::SetState(files[1].id, state)]);
        assert_eq!(fixture.query(&FileQuery::Guessed, 10), [], "there is nothing to compare with");
    }
    fixture.apply(6, [Op::SetState(files[1].id, FileState::Present)]);
    assert_eq!(fixture.query(&FileQuery::Guessed, 10), [files[1].clone()]);
    assert!(guessing.insert(guess));
    fixture.apply(7, [manifest(&files[1], guessing)]);
    assert_eq!(fixture.query(&FileQuery::Guessed, 10), []);
}

/// Notes are kept, replaced and removed by key.
pub fn notes_are_kept_by_key(fixture: Fixture) {
    let note = |key: &str| fixture.db.note(key).expect("an answer");
    assert_eq!(note("k"), None);
    let set = |key: &'static str, value: Option<&str>| Op::SetNote {
        key: key.into(),
        value: value.map(str::to_owned),
    };
    fixture.apply(1, [set("k", Some("one")), set("other", Some(""))]);
    assert_eq!((note("k").as_deref(), note("other").as_deref()), (Some("one"), Some("")));
    fixture.apply(2, [set("k", Some("two\n日本")), set("other", None), set("never", None)]);
    assert_eq!((note("k").as_deref(), note("other")), (Some("two\n日本"), None));
}
