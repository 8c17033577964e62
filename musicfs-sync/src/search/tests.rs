use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musicfs_core::{
    AudioIdentity, AudioMeta, Batch, FileId, FileMeta, MetaDb, Name, Op, Placement, Revision, Searcher,
    SystemClock, UnixNanos, VirtualPath,
};
use musicfs_test_utils::damage::{DAMAGES, Damage};
use musicfs_test_utils::{MemoryMetaDb, eventually, make_file_meta};
use proptest::prelude::*;
use tantivy::schema::Schema;
use tokio_util::sync::CancellationToken;

use super::*;

fn track(id: i64, audio: AudioMeta) -> FileMeta {
    let mut file = make_file_meta(id, &format!("Artist/Album/{id}.flac"), 5);
    file.audio = Some(Box::new(audio));
    file
}

fn audio(artist: &str, album: &str, title: &str, date: &str) -> AudioMeta {
    AudioMeta {
        title: Some(title.into()),
        artists: vec![artist.into()],
        album: Some(album.into()),
        date: Some(date.into()),
        ..AudioMeta::default()
    }
}

fn put(db: &MemoryMetaDb, file: FileMeta) {
    let path = VirtualPath::new(vec![Name::new(format!("{}.flac", file.id)).unwrap()]).unwrap();
    let place = Op::Place(Placement { id: file.id, path, prefer: 0 });
    db.apply(&Batch { at: UnixNanos(0), ops: vec![Op::PutFile(Box::new(file)), place] }).unwrap();
}

fn id(n: i64) -> FileId {
    FileId::from_raw(n).unwrap()
}

fn catch_up(index: &SearchIndex, db: &MemoryMetaDb) -> Caught {
    let cancel = CancellationToken::new();
    let how = CatchUp { db, clock: &SystemClock::new(), cancel: &cancel, opened_at: None, progress: &|_| {} };
    index.catch_up(&how).unwrap()
}

fn library() -> MemoryMetaDb {
    let db = MemoryMetaDb::new();
    put(&db, track(1, audio("Björk", "Post", "Army of Me", "1995")));
    put(&db, track(2, audio("Pink Floyd", "The Dark Side of the Moon", "Time", "1973-03-01")));
    put(&db, track(3, audio("Pink Floyd", "Animals", "Dogs", "1977")));
    put(&db, track(4, audio("Floyd Cramer", "Last Date", "Moonlight", "1960")));
    put(&db, track(5, audio("サカナクション", "新宝島", "多分、風。", "2016")));
    put(&db, track(6, audio("!!!", "Strange Weather", "One Boy", "2013")));
    put(&db, track(7, AudioMeta::default()));
    db
}

fn built(dir: &Path) -> (SearchIndex, MemoryMetaDb) {
    let db = library();
    let index = SearchIndex::open(dir).unwrap();
    assert_eq!(catch_up(&index, &db), Caught { built: true, files: 7 });
    (index, db)
}

/// Returns what a query finds, sorted.
fn found(index: &SearchIndex, query: &str) -> Vec<i64> {
    let mut ids: Vec<i64> = index.search(query, 100).unwrap().into_iter().map(FileId::raw).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn signs_between_words_are_words_that_phrases_leave_out() {
    let (dir, db) = (tempfile::tempdir().unwrap(), MemoryMetaDb::new());
    put(&db, track(1, audio("😀 Sun", "÷ (Divide)", "Love ♥ Song (!)", "2017")));
    put(&db, track(2, audio("Moon", "÷", "Love & Song", "2018")));
    let index = SearchIndex::open(dir.path()).unwrap();
    catch_up(&index, &db);
    for (query, expected) in [
        ("Love ♥ Song (!)", &[1][..]),
        ("Love ♥ ", &[1]),
        ("♥", &[1]),
        ("Love & Song ", &[1, 2]),
        ("\"love song\"", &[1, 2]),
        ("\"Love ♥ Song\"", &[1, 2]),
        ("÷ (Divide) ", &[1]),
        ("÷ ", &[1, 2]),
        ("÷ -moon ", &[1]),
        ("artist:😀", &[1]),
        ("😀 moon ", &[]),
        ("× ", &[]),
    ] {
        assert_eq!(found(&index, query), expected, "{query}");
    }
}

#[test]
fn query_finds_what_its_words_say() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _db) = built(dir.path());
    for (query, expected) in [
        ("bjork", &[1][..]),
        ("BJÖRK", &[1]),
        ("floyd", &[2, 3, 4]),
        ("pink floyd ", &[2, 3]),
        ("artist:floyd album:animals", &[3]),
        ("\"dark side\"", &[2]),
        ("\"side dark\"", &[]),
        ("\"floyd animals\"", &[]),
        ("mo", &[2, 4]),
        ("mo ", &[]),
        // One letter is a beginning as any other, in its own field only.
        ("m", &[1, 2, 4]),
        ("m ", &[]),
        ("title:d", &[3]),
        ("artist:d", &[]),
        ("album:d", &[2, 4]),
        ("album:da", &[2, 4]),
        ("origin:f", &[]),
        ("\"the d", &[2]),
        ("\"the s", &[]),
        ("album:the-da", &[2]),
        ("title:the-da", &[]),
        ("\"of m", &[1]),
        ("\"the m", &[2]),
        ("\"of me", &[1]),
        ("\"me o", &[]),
        ("floyd a", &[3]),
        ("B", &[1, 6]),
        ("s* weather ", &[6]),
        ("-p floyd", &[2, 3, 4]),
        ("floyd -p", &[4]),
        ("多", &[5]),
        ("サ", &[5]),
        ("!", &[6]),
        ("moonn~1", &[2]),
        ("moonn ", &[]),
        ("xxb~2 ", &[]),
        ("flyd~ ", &[2, 3, 4]),
        ("year:1970..1979", &[2, 3]),
        ("year:..1973", &[2, 4]),
        ("floyd year:1977", &[3]),
        ("floyd 1977", &[3]),
        ("floyd NOT pink", &[4]),
        ("floyd -pink ", &[4]),
        ("bjork OR dogs ", &[1, 3]),
        ("(bjork OR pink) year:1990..", &[1]),
        ("新宝島", &[5]),
        ("宝島", &[5]),
        ("島宝", &[]),
        ("!!!", &[6]),
        ("title:animals", &[]),
        ("path:5.flac", &[]),
        ("", &[]),
        ("nothing of the kind", &[]),
    ] {
        assert_eq!(found(&index, query), expected, "{query}");
    }
    assert_eq!(found(&index, "NOT floyd "), [1, 5, 6, 7]);
    for query in ["format:flac", "format:f", "path:f", "path:fl", "origin:t"] {
        assert_eq!(found(&index, query).len(), 7, "{query}");
    }
    assert_eq!(found(&index, "origin:test -floyd -bjork").len(), 3);
    assert_eq!(index.search("floyd", 2).unwrap().len(), 2);
    assert!(matches!(index.search(&"x".repeat(5000), 2), Err(SearchError::TooLarge(_))));
}

#[test]
fn word_as_it_is_comes_before_one_that_begins_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _db) = built(dir.path());
    assert_eq!(index.search("moon", 10).unwrap(), [id(2), id(4)]);
}

#[test]
fn phrase_is_completed_by_every_word_that_its_last_may_become() {
    let dir = tempfile::tempdir().unwrap();
    let db = MemoryMetaDb::new();
    put(&db, track(1, audio("AC/DC", "Powerage", "Riff Raff", "1978")));
    put(&db, track(2, audio("AC Slater", "Dance", "Bass Inside", "2018")));
    put(&db, track(3, audio("Bass", "DC", "AC", "2018")));
    put(&db, track(4, audio("Shake", "Back in Bass", "Black in a Back in Bl", "1980")));
    // Words that come before the one that is meant, more than are worth a guess.
    for n in 10..1500 {
        put(&db, track(n, audio(&format!("Da{n}"), "AC", "Some", "1978")));
    }
    let index = SearchIndex::open(dir.path()).unwrap();
    catch_up(&index, &db);
    for query in ["AC/D", "ac-dc", "artist:ac/d", "\"ac d", "album:powerage ac-d"] {
        assert_eq!(found(&index, query), [1], "{query}");
    }
    assert_eq!(found(&index, "back-in-bl"), [4]);
    assert_eq!(found(&index, "title:back-in-ba"), [0; 0]);
    assert_eq!(found(&index, "power ac/d"), [0; 0], "the last word alone is completed");
    assert_eq!(found(&index, "sl-d"), [0; 0]);
    assert_eq!(found(&index, "slater-d"), [0; 0], "no phrase goes from one tag into the next");
    assert_eq!(found(&index, "ac-s"), [2]);
    assert_eq!(index.search("NOT ac/d", 10_000).unwrap().len(), 1493);
}

#[test]
fn copies_of_a_track_are_found_once_as_the_one_that_leads() {
    let dir = tempfile::tempdir().unwrap();
    let (index, db) = built(dir.path());
    let same = |n| {
        let identity = Some(AudioIdentity::FlacMd5 { md5: [7; 16], samples: 1000 });
        track(n, AudioMeta { identity, duration_ms: 5000, ..audio("Neu!", "Neu!", "Isi", "1972") })
    };
    let path = VirtualPath::new(vec![Name::new("Isi.flac").unwrap()]).unwrap();
    for n in [21, 22] {
        let place = Op::Place(Placement { id: id(n), path: path.clone(), prefer: 0 });
        db.apply(&Batch { at: UnixNanos(0), ops: vec![Op::PutFile(Box::new(same(n))), place] }).unwrap();
    }
    assert_eq!(db.copies(id(21)).unwrap().len(), 2);
    assert!(!catch_up(&index, &db).built, "the index agrees with the catalogue");
    assert_eq!(found(&index, "isi"), [21]);
    let other = tempfile::tempdir().unwrap();
    let anew = SearchIndex::open(other.path()).unwrap();
    assert!(catch_up(&anew, &db).built);
    assert_eq!((found(&anew, "isi"), anew.count().unwrap()), (vec![21], db.totals().unwrap().tracks));
    // The other takes its place when it goes.
    db.apply(&Batch { at: UnixNanos(1), ops: vec![Op::Forget(id(21))] }).unwrap();
    assert!(!catch_up(&index, &db).built);
    assert_eq!(found(&index, "isi"), [22]);
}

#[test]
fn index_follows_the_changes_of_its_catalogue() {
    let dir = tempfile::tempdir().unwrap();
    let (index, db) = built(dir.path());
    put(&db, track(3, audio("Pink Floyd", "Animals", "Sheep", "1977")));
    put(&db, track(8, audio("Neu!", "Neu! 75", "Isi", "1975")));
    db.apply(&Batch { at: UnixNanos(0), ops: vec![Op::Unplace(id(1)), Op::Forget(id(4))] }).unwrap();
    let caught = catch_up(&index, &db);
    assert!(!caught.built, "the changes are enough");
    assert_eq!(caught.files, 4);
    assert_eq!(found(&index, "sheep"), [3]);
    assert_eq!(found(&index, "dogs"), [0; 0]);
    assert_eq!(found(&index, "isi"), [8]);
    assert_eq!(found(&index, "bjork OR cramer"), [0; 0]);
    assert_eq!(index.count().unwrap(), db.totals().unwrap().tracks);
    assert_eq!(catch_up(&index, &db), Caught::default(), "nothing is left to do");
    // As it is after the daemon was started again.
    drop(index);
    let index = SearchIndex::open(dir.path()).unwrap();
    assert_eq!(catch_up(&index, &db), Caught::default());
    assert_eq!(found(&index, "sheep"), [3]);
}

/// Returns how many changes the index was told of by the last commit, since some earlier one that said `before`.
fn told(index: &SearchIndex, before: &mut u64) -> u64 {
    let now = index.index.load_metas().unwrap().opstamp;
    now - std::mem::replace(before, now)
}

#[test]
fn new_files_are_put_in_without_a_look_for_what_was_there_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut index, db) = built(dir.path());
    let isi = |n| track(n, audio("Neu!", "Neu! 75", "Isi", "1975"));
    let hero = |n| track(n, audio("Neu!", "Neu! 75", "Hero", "1975"));
    let mut at = 0;
    told(&index, &mut at);
    let mut follow = |index: &SearchIndex, files: Vec<FileMeta>| {
        let n = files.len() as u64;
        files.into_iter().for_each(|file| put(&db, file));
        assert_eq!(catch_up(index, &db), Caught { built: false, files: n });
        told(index, &mut at) - n
    };
    let none = follow(&index, vec![isi(20)]);
    // The order of ids is not that of arrival.
    assert_eq!(follow(&index, vec![isi(30), isi(10), isi(15)]), none);
    assert_eq!(follow(&index, vec![hero(15)]), none + 1, "one that is there is taken out");
    assert_eq!(follow(&index, vec![isi(11), hero(10), isi(12), hero(30)]), none + 1, "in one go");
    drop(index);
    index = SearchIndex::open(dir.path()).unwrap();
    assert_eq!(follow(&index, vec![isi(13)]), none, "it is known after a start as well");
    assert_eq!(follow(&index, vec![hero(13)]), none + 1);
    assert_eq!(found(&index, "isi"), [11, 12, 20]);
    assert_eq!(found(&index, "hero"), [10, 13, 15, 30]);
}

#[test]
fn file_that_is_forgotten_and_comes_again_is_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let (index, db) = built(dir.path());
    let army = track(1, audio("Björk", "Post", "Army of Me", "1995"));
    db.apply(&Batch { at: UnixNanos(0), ops: vec![Op::Forget(id(1))] }).unwrap();
    put(&db, army);
    assert_eq!(catch_up(&index, &db), Caught { built: false, files: 1 });
    assert_eq!((found(&index, "bjork"), index.count().unwrap()), (vec![1], 7));
}

#[test]
fn index_of_another_or_of_a_lost_state_of_the_catalogue_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _db) = built(dir.path());
    let other = MemoryMetaDb::new();
    for n in 10..30 {
        put(&other, track(n, audio("Can", "Future Days", "Moonshake", "1973")));
    }
    assert!(catch_up(&index, &other).built);
    assert_eq!(found(&index, "bjork"), [0; 0]);
    assert_eq!(found(&index, "moonshake").len(), 20);
    // The catalogue was thrown back to where it was before the index read from it.
    let cancel = CancellationToken::new();
    let how = CatchUp {
        db: &other,
        clock: &SystemClock::new(),
        cancel: &cancel,
        opened_at: Some(Revision(3)),
        progress: &|_| {},
    };
    assert!(index.catch_up(&how).unwrap().built);
    assert_eq!(index.count().unwrap(), 20);
}

#[test]
fn index_of_an_older_form_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (index, db) = built(dir.path());
    let reached = index.reached().unwrap().unwrap();
    index.commit_reached(&Reached { format: FORMAT - 1, ..reached }).unwrap();
    index.rest().unwrap();
    drop(index);
    let index = SearchIndex::open(dir.path()).unwrap();
    assert_eq!(catch_up(&index, &db), Caught { built: true, files: 7 }, "what a commit says is older");
    assert_eq!(catch_up(&index, &db), Caught::default());

    let dir = tempfile::tempdir().unwrap();
    let mut fields = Schema::builder();
    fields.add_u64_field(schema::ID, tantivy::schema::INDEXED);
    let older = Index::create_in_dir(dir.path(), fields.build()).unwrap();
    older.writer::<TantivyDocument>(BUDGET).unwrap().commit().unwrap();
    drop(older);
    let (index, opened) = SearchIndex::open_with_recovery(dir.path()).unwrap();
    assert_eq!(opened, Opened::Anew { reason: "it was made by another version".into() });
    assert_eq!(catch_up(&index, &db), Caught { built: true, files: 7 });
    assert_eq!(found(&index, "b"), [1, 6]);
}

#[test]
fn changes_that_are_no_longer_known_have_the_index_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let db = MemoryMetaDb::new().keeping_changes_of(2);
    put(&db, track(1, audio("Björk", "Post", "Army of Me", "1995")));
    let index = SearchIndex::open(dir.path()).unwrap();
    catch_up(&index, &db);
    for n in 2..9 {
        put(&db, track(n, audio("Neu!", "Neu! 75", "Isi", "1975")));
    }
    assert!(catch_up(&index, &db).built);
    assert_eq!(found(&index, "isi").len(), 7);
    assert_eq!(found(&index, "bjork"), [1]);
}

#[test]
fn index_begun_anew_has_nothing_of_what_was_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _db) = built(dir.path());
    let add = |n, title| {
        let file = track(n, audio("Neu!", "Neu! 75", title, "1975"));
        index.add(index.fields.document(&file).unwrap()).unwrap();
    };
    add(8, "Isi");
    index.remove_files(&[id(9)]).unwrap();
    index.clear().unwrap();
    add(9, "Hero");
    index.commit().unwrap();
    assert_eq!((found(&index, "neu"), index.count().unwrap()), (vec![9], 1));
}

#[test]
fn cancelled_build_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let db = MemoryMetaDb::new();
    for n in 0..2500 {
        put(&db, track(n, audio("Neu!", "Neu! 75", "Isi", "1975")));
    }
    let index = SearchIndex::open(dir.path()).unwrap();
    let cancel = CancellationToken::new();
    let stop = |_| cancel.cancel();
    let how =
        CatchUp { db: &db, clock: &SystemClock::new(), cancel: &cancel, opened_at: None, progress: &stop };
    assert!(matches!(index.catch_up(&how), Err(SearchError::Cancelled)));
    let part = index.count().unwrap();
    assert!(part > 0 && part < 2500, "{part}");
    assert!(!index.is_followed(&how).unwrap());
    drop(index);
    let index = SearchIndex::open(dir.path()).unwrap();
    assert_eq!(catch_up(&index, &db).files, 2500 - part);
    assert_eq!(index.count().unwrap(), 2500);
}

/// The files of an index that say something of it; its locks hold nothing.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| !path.file_name().unwrap().to_string_lossy().ends_with(".lock")).collect();
    files.sort();
    files
}

#[test]
fn index_with_any_file_damaged_in_any_way_ends_equal_to_a_fresh_one() {
    let sound = tempfile::tempdir().unwrap();
    drop(built(sound.path()));
    let files = files_of(sound.path());
    assert!(files.len() > 5, "{files:?}");
    let garbled: (&str, Damage) = ("garbled in the middle", |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(path, bytes).unwrap();
    });
    for file in files {
        for (damage, apply) in DAMAGES.into_iter().chain([garbled]) {
            let dir = tempfile::tempdir().unwrap();
            let db = library();
            copy_index(sound.path(), dir.path());
            apply(&dir.path().join(file.file_name().unwrap()));
            let (index, _) = SearchIndex::open_with_recovery(dir.path()).unwrap();
            catch_up(&index, &db);
            let what = format!("{} {damage}", file.display());
            assert_eq!(index.count().unwrap(), 7, "{what}");
            for (query, expected) in [("floyd", &[2, 3, 4][..]), ("year:1995", &[1]), ("\"dark side\"", &[2])]
            {
                assert_eq!(found(&index, query), expected, "{what}: {query}");
            }
        }
    }
}

fn copy_index(from: &Path, to: &Path) {
    for path in files_of(from) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn service_answers_with_what_it_has_and_heals_what_is_damaged_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("search");
    let db = Arc::new(library());
    let search = Arc::new(Search::new(&place, db.clone(), Arc::new(SystemClock::new())));
    let early = search.search("floyd", 10).unwrap();
    assert!(early.files.is_empty() && !early.complete, "nothing is open yet, and it says so");
    let cancel = CancellationToken::new();
    let running = tokio::spawn(search.clone().run(cancel.clone()));
    let finds = |query: &str, n: usize| {
        let found = search.search(query, 10).unwrap();
        found.complete && found.files.len() == n
    };
    eventually("the index to be built", || finds("floyd", 3)).await;
    let before = search.generation();
    put(&db, track(9, audio("Floyd Westerman", "Custer", "Here Come the Anthros", "1969")));
    eventually("a change to be found", || finds("floyd", 4)).await;
    assert!(search.generation() > before);
    // All files are cut short under the running service.
    for path in files_of(&place) {
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    }
    put(&db, track(10, audio("Keith Floyd", "Cooking", "Wine", "1985")));
    eventually("the index to be built again", || finds("floyd", 5) && search.status().builds >= 1).await;
    cancel.cancel();
    running.await.unwrap();
    drop(search);
    let index = SearchIndex::open(&place).unwrap();
    assert_eq!(found(&index, "wine"), [10]);
}

/// An index for many queries.
fn shared() -> &'static SearchIndex {
    static INDEX: std::sync::OnceLock<(tempfile::TempDir, SearchIndex)> = std::sync::OnceLock::new();
    let (_, index) = INDEX.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = built(dir.path());
        (dir, index)
    });
    index
}

/// Parts of queries, of every form.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "floyd ",
            "pink ",
            "title:dogs ",
            "\"dark side\" ",
            "flyd~ ",
            "mo* ",
            "year:1960..1975 ",
            "year:1977 ",
            "origin:test ",
            "宝島 ",
            "!!! ",
            "artist:(pink OR bjork) ",
            "nobody ",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,3}\\* ",
    ]
}

/// Few words, of which many begin alike.
const ALIKE: [&str; 8] = ["a", "ab", "abc", "b", "ba", "bac", "c", "ca"];

/// An index of titles made of such words, and the titles.
fn alike() -> &'static (SearchIndex, Vec<Vec<&'static str>>) {
    type Kept = (tempfile::TempDir, (SearchIndex, Vec<Vec<&'static str>>));
    static INDEX: std::sync::OnceLock<Kept> = std::sync::OnceLock::new();
    let (_, alike) = INDEX.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (db, mut titles) = (MemoryMetaDb::new(), Vec::new());
        for n in 0..200_usize {
            let title: Vec<&str> = (0..2 + n % 5).map(|at| ALIKE[(n * 7 + at * (n / 8 + 3)) % 8]).collect();
            put(&db, track(1 + n as i64, audio("", "", &title.join(" "), "")));
            titles.push(title);
        }
        let index = SearchIndex::open(dir.path()).unwrap();
        catch_up(&index, &db);
        (dir, (index, titles))
    });
    alike
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_query_is_answered(query in any::<String>()) {
        match shared().search(&query, 10) {
            Ok(_) | Err(SearchError::TooLarge(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn any_signs_of_the_language_are_answered(
        query in "(floyd|mo|é|日|year:|title:|album:|19|70|\\.\\.|~|~1|~2|\\*|\"|\\(|\\)|-| |AND|OR|NOT|:|!){0,60}"
    ) {
        match shared().search(&query, 10) {
            Ok(_) | Err(SearchError::TooLarge(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn operators_do_what_sets_do(a in part(), b in part()) {
        let set = |query: &str| found(shared(), query).into_iter().collect::<HashSet<i64>>();
        let (of_a, of_b, all) = (set(&a), set(&b), (1..=7).collect::<HashSet<i64>>());
        prop_assert_eq!(set(&format!("{a} AND {b}")), &of_a & &of_b);
        prop_assert_eq!(set(&format!("{a} {b}")), &of_a & &of_b);
        prop_assert_eq!(set(&format!("{a} OR {b}")), &of_a | &of_b);
        prop_assert_eq!(set(&format!("{a} NOT {b}")), &of_a - &of_b);
        prop_assert_eq!(set(&format!("NOT {a}")), &all - &of_a);
        prop_assert_eq!(set(&format!("NOT ({a} OR {b}) ")), &(&all - &of_a) - &of_b);
        prop_assert_eq!(set(&format!("NOT (NOT {a} AND NOT {b}) ")), &of_a | &of_b);
        prop_assert_eq!(set(&format!("({a} OR {b}) -({a} {b}) ")), &of_a ^ &of_b);
    }

    #[test]
    fn phrase_that_is_begun_is_found_where_its_words_stand(
        words in prop::collection::vec(prop::sample::select(&ALIKE), 1..5),
        field in prop::sample::select(&["title:", ""]),
    ) {
        let (index, titles) = alike();
        let (last, before) = words.split_last().unwrap();
        let begun = |part: &[&str]| {
            part.split_last().is_some_and(|(end, rest)| rest == before && end.starts_with(last))
        };
        let with = |fits: &dyn Fn(&[&str]) -> bool| -> Vec<i64> {
            let titles = titles.iter().zip(1..).filter(|(title, _)| title.windows(words.len()).any(fits));
            titles.map(|(_, id)| id).collect()
        };
        let hits = index.search(&format!("{field}{}", words.join("-")), 1000).unwrap();
        let mut hits: Vec<i64> = hits.into_iter().map(FileId::raw).collect();
        let exact = with(&|part| part == words);
        hits[..exact.len()].sort_unstable();
        prop_assert_eq!(&hits[..exact.len()], exact, "what is as it was written comes first");
        hits.sort_unstable();
        prop_assert_eq!(hits, with(&begun));
    }

    #[test]
    fn fewer_hits_are_the_first_of_all(
        words in prop::collection::vec(prop::sample::select(&ALIKE), 1..4),
        form in prop::sample::select(&["title:", "", "NOT ", "abc OR ", "a ", "c* OR b "]),
        limit in 1_usize..30,
    ) {
        let (index, _) = alike();
        let query = format!("{form}{}", words.join("-"));
        let all = index.search(&query, 1000).unwrap();
        let hits = index.search(&query, limit).unwrap();
        prop_assert_eq!(&hits, &all[..limit.min(all.len())], "{}", query);
    }
}
