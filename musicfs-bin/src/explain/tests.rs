use musicfs_core::{
    AudioMeta, Batch, ByteRange, ChunkHash, Op, OriginId, OriginPath, Placement, ReadError, ReadPlan,
    UnixNanos,
};
use musicfs_test_utils::{MemoryMetaDb, make_audio_meta, make_file_meta};

use super::*;

/// A reader of files that are all here.
struct Local;

#[async_trait::async_trait]
impl ContentReader for Local {
    async fn open(&self, file: &FileMeta) -> Result<ReadPlan, ReadError> {
        Ok(ReadPlan::verbatim(file))
    }
    async fn read(&self, plan: &ReadPlan, _: ByteRange) -> Result<bytes::Bytes, ReadError> {
        panic!("{:?} is read to be explained", plan.file())
    }
    async fn backing(&self, _: &ReadPlan) -> Option<std::fs::File> {
        None
    }
    async fn hash(&self, _: &FileMeta) -> Result<Option<ChunkHash>, ReadError> {
        Ok(None)
    }
    fn cached(&self, _: &FileMeta) -> &'static str {
        "local"
    }
    fn stand_in(&self, _: &FileMeta) -> Option<(OriginId, OriginPath)> {
        Some(("backup".into(), OriginPath::new("elsewhere.flac").unwrap()))
    }
}

struct Shelf {
    db: MemoryMetaDb,
    template: Template,
}

impl Shelf {
    fn new() -> Self {
        Self { db: MemoryMetaDb::new(), template: Template::default() }
    }

    /// Puts a file at a path.
    fn put(&self, n: i64, on_origin: &str, at: &str, edit: impl FnOnce(&mut FileMeta)) {
        let mut file = make_file_meta(n, at, 10);
        file.path = OriginPath::new(on_origin).unwrap();
        file.audio = Some(Box::new(make_audio_meta("A", "B", "T")));
        file.shown_at = None;
        edit(&mut file);
        let placement = Placement { id: file.id, path: VirtualPath::from_text(at).unwrap(), prefer: 0 };
        let ops = vec![Op::PutFile(Box::new(file)), Op::Place(placement)];
        self.db.apply(&Batch { at: UnixNanos(1), ops }).unwrap();
    }

    fn explain(&self, path: &str) -> Explanation {
        let found = explain(&self.db, &Local, &self.template, path.as_bytes()).unwrap();
        found.unwrap_or_else(|| panic!("nothing is at {path}"))
    }
}

fn disc(file: &mut FileMeta, disc: u32) {
    file.audio.as_deref_mut().unwrap().disc = Some(disc);
}

#[test]
fn file_is_explained_by_what_its_template_asked_for() {
    let shelf = Shelf::new();
    shelf.put(1, "in/x.flac", "A/B/T.flac", |_| {});
    let explanation = shelf.explain("A/B//T.flac");
    let backup = explanation.file.as_ref().and_then(|file| file.backup.as_deref());
    assert_eq!(backup, Some("backup:elsewhere.flac"));
    assert_eq!((explanation.path.as_str(), explanation.kind.as_str()), ("A/B/T.flac", "file"));
    let file = explanation.file.unwrap();
    assert_eq!((file.origin_path.as_str(), file.cached.as_str()), ("in/x.flac", "local"));
    assert_eq!(file.wanted.as_deref(), Some("A/B/T.flac"));
    let used: Vec<&str> = file.fields.iter().filter(|f| f.used).map(|f| f.field.as_str()).collect();
    assert_eq!(used, ["artist", "album", "title", "ext"]);
    assert_eq!(file.taken_by, None);
}

#[test]
fn number_is_explained_by_the_file_that_has_the_name() {
    let shelf = Shelf::new();
    shelf.put(1, "in/x.flac", "A/B/T.flac", |_| {});
    shelf.put(2, "in/y.flac", "A/B/T.flac", |_| {});
    let explanation = shelf.explain("A/B/T (2).flac");
    assert_eq!(explanation.file.unwrap().taken_by.unwrap().origin_path, "in/x.flac");
    assert!(explanation.because.iter().any(|why| why.contains("test:in/x.flac")));
    let id = make_file_meta(1, "x", 1).id;
    shelf.db.apply(&Batch { at: UnixNanos(2), ops: vec![Op::Unplace(id)] }).unwrap();
    let explanation = shelf.explain("A/B/T (2).flac");
    assert!(explanation.because.iter().any(|why| why.contains("keeps it so that no path changes")));
    assert_eq!(explanation.file.unwrap().taken_by, None);
}

#[test]
fn disc_number_is_explained_by_whoever_says_that_there_are_several() {
    let shelf = Shelf::new();
    shelf.put(1, "in/x.flac", "A/B/T.flac", |file| disc(file, 1));
    assert!(shelf.explain("A/B/T.flac").because.iter().any(|why| why.contains("counts as none")));
    shelf.put(2, "in/y.flac", "A/B/2-T.flac", |file| disc(file, 2));
    let why = shelf.explain("A/B/T.flac").because.join(" ");
    assert!(why.contains("on disc 1: test:in/y.flac says"), "{why}");
    assert!(why.contains("not been arranged"), "{why}");
    assert!(shelf.explain("A/B/2-T.flac").because.join(" ").contains("its own tags say"));
}

#[test]
fn problem_and_sidecar_and_directory_are_explained() {
    let shelf = Shelf::new();
    shelf.put(1, "bad.mp3", "Unsorted/bad.mp3", |file| {
        (file.kind, file.audio, file.format) = (FileKind::Unparsed, None, None);
        file.problem = Some("it ends in the middle".into());
    });
    shelf.put(2, "in/cover.jpg", "A/B/cover.jpg", |file| {
        (file.kind, file.audio, file.format) = (FileKind::Sidecar, None, None);
    });
    let bad = shelf.explain("Unsorted/bad.mp3");
    assert!(bad.because[0].contains("could not be parsed"));
    assert_eq!(bad.file.unwrap().problem.as_deref(), Some("it ends in the middle"));
    assert!(shelf.explain("A/B/cover.jpg").because[0].contains("no music itself"));
    assert_eq!(shelf.explain("A/B").kind, "directory");
    assert_eq!(shelf.explain("").because, ["It is the root of the tree."]);
    let nothing = explain(&shelf.db, &Local, &shelf.template, b"A/B/cover.jpg/x").unwrap();
    assert!(nothing.is_none());
}

#[test]
fn compilation_is_said() {
    let shelf = Shelf::new();
    shelf.put(1, "in/x.flac", "Various Artists/B/T.flac", |file| {
        file.audio = Some(Box::new(AudioMeta { compilation: true, ..make_audio_meta("A", "B", "T") }));
    });
    let explanation = shelf.explain("Various Artists/B/T.flac");
    assert!(explanation.because.iter().any(|why| why.contains("compilation")));
}

#[test]
fn numbered_name_is_known_from_one_that_only_looks_so() {
    let wanted = Name::new("a (live).flac").unwrap();
    assert!(is_numbered(b"a (live).flac", &wanted));
    assert!(is_numbered(b"a (live) (2).flac", &wanted));
    assert!(!is_numbered(b"a (2) (live).flac", &wanted));
    assert!(!is_numbered(b"b (2).flac", &wanted));
    assert!(!is_numbered(b"a (live) (x", &wanted));
}
