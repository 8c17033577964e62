//! Whatever the tags say, each file has one place in the tree, and a legal one.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use musicfs_core::{
    AudioMeta, Cookie, FileId, FileMeta, Ino, MetaDb, Name, Node, Origin, OriginId, ROOT_INODE, SystemClock,
    Template,
};
use musicfs_origins::LocalOrigin;
use musicfs_sync::{Database, Library, Scanner, ScannerConfig};
use musicfs_test_utils::library::{Sample, Track, write_track};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

/// Tags that have broken something somewhere.
const NASTY: [&str; 20] = [
    "",
    " ",
    ".",
    "..",
    "...",
    "/",
    "AC/DC",
    "a/../b",
    "$artist",
    "${title|stem}",
    "[$disc-]",
    "a\0b",
    "tab\tand\nline",
    "Bjo\u{308}rk",
    "Björk",
    "BJÖRK",
    "x (2)",
    "x",
    "\u{202e}rtl\u{200b}",
    "name.flac",
];

/// Templates that put files in other places, some of which leave little of the tags.
const TEMPLATES: [&str; 4] = [
    "${albumartist|artist|'Unknown Artist'}/${album|'Unknown Album'}/[$disc-]$track - ${title|stem}.$ext",
    "$artist/$title",
    "$genre/$year/$album - $title.$ext",
    "all/${title|'x'}.$ext",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => proptest::sample::select(&NASTY[..]).prop_map(str::to_owned),
        2 => ".{0,12}",
        1 => ("[aü高\u{1f3b5}]", 100..400_usize).prop_map(|(c, n)| c.repeat(n)),
    ]
}

prop_compose! {
    fn tags()(
        title in proptest::option::of(text()),
        artists in proptest::collection::vec(text(), 0..3),
        album in proptest::option::of(text()),
        album_artists in proptest::collection::vec(text(), 0..2),
        genres in proptest::collection::vec(text(), 0..2),
        date in proptest::option::of(text()),
        (track, disc, disc_total) in (
            proptest::option::of(0..3_u32),
            proptest::option::of(0..3_u32),
            proptest::option::of(0..3_u32),
        ),
        compilation in any::<bool>(),
    ) -> AudioMeta {
        AudioMeta {
            title, artists, album, album_artists, genres, date, track, disc, disc_total, compilation,
            ..AudioMeta::default()
        }
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    proptest::sample::select(&[Sample::Flac, Sample::Mp3Vbr, Sample::Alac, Sample::Opus, Sample::Ape][..])
}

/// Everything below the root, by small pages.
fn walk(db: &Database) -> Vec<Node> {
    let mut found = Vec::new();
    let mut todo = vec![ROOT_INODE];
    while let Some(dir) = todo.pop() {
        let mut after = Cookie(0);
        loop {
            let page = db.list(dir, after, 3).unwrap();
            let Some(last) = page.last() else { break };
            after = last.cookie;
            todo.extend(page.iter().filter(|node| node.ino.file_id().is_none()).map(|node| node.ino));
            found.extend(page);
        }
    }
    found
}

/// Scans `music` into a catalogue of its own and returns it.
fn scanned(music: &Path, stores: &Path, template: &str) -> Database {
    let clock = Arc::new(SystemClock::new());
    let db = Arc::new(Database::open(&stores.join("catalogue.db")).unwrap());
    let (library, _) = Library::open(&stores.join("library.db"), &*clock).unwrap();
    let id = OriginId::from("music");
    let origin: Arc<dyn Origin> = Arc::new(LocalOrigin::new(id.clone(), music));
    let config =
        ScannerConfig { template: Template::parse(template).unwrap(), workers: 1, ..Default::default() };
    let scanner = Arc::new(Scanner::new(
        Arc::clone(&db) as Arc<dyn MetaDb>,
        Arc::new(library),
        vec![origin],
        clock,
        config,
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let report = runtime.block_on(scanner.scan(&id, false, &CancellationToken::new())).unwrap();
    assert!(report.complete && report.problems == 0, "{report:?}");
    drop((scanner, runtime));
    Arc::into_inner(db).unwrap()
}

/// What the tree promises, whatever is in it.
fn assert_whole(db: &Database, files: usize) {
    let nodes = walk(db);
    let mut names: HashSet<(Ino, Name)> = HashSet::new();
    let mut ids: BTreeSet<FileId> = BTreeSet::new();
    let parents: HashSet<Ino> = nodes.iter().map(|node| node.parent).collect();
    for node in &nodes {
        let name = node.name.clone().unwrap();
        assert!(Name::new(name.as_bytes()).is_ok(), "{name:?}");
        assert!(names.insert((node.parent, name.clone())), "{name:?} is there twice");
        let found = db.lookup(node.parent, name.as_bytes()).unwrap().unwrap();
        assert_eq!(found.ino, node.ino, "{name:?} is listed as one and found as another");
        match node.ino.file_id() {
            Some(id) => {
                let copies: Vec<FileMeta> = db.copies(id).unwrap();
                assert_eq!(copies.first().map(|file| file.id), Some(id), "{name:?} is not its leader's");
                for file in copies {
                    assert!(ids.insert(file.id), "{name:?} is a file that is elsewhere too");
                    assert_eq!(file.shown_at.unwrap().leaf(), &name);
                }
            }
            None => assert!(parents.contains(&node.ino), "{name:?} is an empty directory"),
        }
    }
    assert_eq!(ids.len(), files);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_tags_give_each_file_one_legal_place(
        tracks in proptest::collection::vec((samples(), tags()), 1..14),
        template in proptest::sample::select(&TEMPLATES[..]),
    ) {
        let (music, stores) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (n, (sample, tags)) in tracks.iter().enumerate() {
            let path = format!("{}/{n}.{}", n % 3, sample.extension());
            write_track(music.path(), path, &Track::tagged(*sample, tags.clone())).unwrap();
        }
        let db = scanned(music.path(), stores.path(), template);
        assert_whole(&db, tracks.len());
    }
}
