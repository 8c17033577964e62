use super::*;
use musicfs_core::UnixNanos;
use proptest::prelude::*;

fn version(mtime: i64) -> FileVersion {
    FileVersion { size: 1, mtime: Some(UnixNanos(mtime)), etag: None }
}

fn entry(path: &str, mtime: i64) -> OriginEntry {
    OriginEntry { path: OriginPath::new(path).unwrap(), version: version(mtime) }
}

fn detector(known: &[(&str, i64, FileKind, FileState)], reread: Reread) -> DeltaDetector {
    let mut detector = DeltaDetector::new(OriginId::from("o"), HashMap::new(), reread);
    for (path, mtime, kind, state) in known {
        let id = detector.id_of(&OriginPath::new(path).unwrap());
        detector.add_known(&KnownFile { id, version: version(*mtime), kind: *kind, state: *state });
    }
    detector
}

fn exclude(detector: &mut DeltaDetector, paths: &[(&str, &str)]) {
    let mut excluded = Exclusions::default();
    paths.iter().for_each(|(origin, path)| {
        excluded.insert((*origin).into(), OriginPath::new(path).unwrap());
    });
    detector.exclude(excluded);
}

#[test]
fn entries_are_sorted_by_what_is_known_of_them() {
    use FileKind::{Audio, Sidecar, Unparsed};
    use FileState::{Missing, Pending, Present};
    let mut d = detector(
        &[
            ("same.flac", 1, Audio, Present),
            ("new-version.flac", 1, Audio, Present),
            ("back.flac", 1, Audio, Missing),
            ("waiting.flac", 1, Unparsed, Pending),
            ("broken.mp3", 1, Unparsed, Present),
            ("cover.jpg", 1, Sidecar, Present),
            ("gone.flac", 1, Audio, Present),
            ("long-gone.flac", 1, Audio, Missing),
            ("never-read.flac", 1, Unparsed, Pending),
        ],
        Reread::None,
    );
    let id = |d: &DeltaDetector, path: &str| d.id_of(&OriginPath::new(path).unwrap());
    let mut detect = |path: &str, mtime| d.detect_changes(&entry(path, mtime));
    assert!(matches!(detect("same.flac", 1), Delta::Unchanged(_, Audio)));
    assert!(matches!(detect("new-version.flac", 2), Delta::Read(_, Listed::Changed)));
    assert!(matches!(detect("back.flac", 1), Delta::Returned(_, Audio)));
    assert!(matches!(detect("waiting.flac", 1), Delta::Read(_, Listed::Changed)));
    assert!(matches!(detect("broken.mp3", 1), Delta::Unchanged(_, Unparsed)));
    assert!(matches!(detect("cover.jpg", 1), Delta::Unchanged(_, Sidecar)));
    assert!(matches!(detect("new.flac", 1), Delta::Read(_, Listed::New)));
    assert!(matches!(detect("booklet.pdf", 1), Delta::Sidecar(_, Listed::New)));
    assert!(matches!(detect("noextension", 1), Delta::Read(_, Listed::New)));
    assert!(matches!(detect("program.exe", 1), Delta::Ignored));
    assert!(matches!(detect("._same.flac", 1), Delta::Ignored));
    // Neither what is known to be missing nor what waits for its first read goes missing.
    let gone = id(&d, "gone.flac");
    assert_eq!(d.unseen(), vec![gone]);
    assert_eq!(d.listed(), 9);
}

#[test]
fn reread_reads_music_that_seems_unchanged() {
    let mut d = detector(
        &[
            ("a.flac", 1, FileKind::Audio, FileState::Present),
            ("a.jpg", 1, FileKind::Sidecar, FileState::Present),
        ],
        Reread::All,
    );
    assert!(matches!(d.detect_changes(&entry("a.flac", 1)), Delta::Read(..)));
    assert!(matches!(d.detect_changes(&entry("a.jpg", 1)), Delta::Unchanged(..)));
}

#[test]
fn files_of_a_time_that_the_clock_went_through_twice_are_read() {
    let files = [("a.flac", 9), ("b.flac", 10), ("c.flac", 20), ("d.flac", 21)];
    let rows = files.map(|(path, time)| (path, time, FileKind::Audio, FileState::Present));
    let mut d = detector(&rows, Reread::Of(UnixNanos(10), UnixNanos(20)));
    let is_read = files.map(|(path, time)| matches!(d.detect_changes(&entry(path, time)), Delta::Read(..)));
    assert_eq!(is_read, [false, true, true, false]);
}

#[test]
fn excluded_files_and_folders_are_not_invented() {
    let mut d = detector(&[], Reread::None);
    exclude(&mut d, &[("o", "a/x.flac"), ("o", "b"), ("other", "a")]);
    for (path, ignored) in
        [("a/x.flac", true), ("a/y.flac", false), ("b/c/z.flac", true), ("b2/z.flac", false)]
    {
        assert_eq!(d.detect_changes(&entry(path, 1)) == Delta::Ignored, ignored, "{path}");
    }
}

#[test]
fn files_that_the_catalogue_does_not_show_as_the_user_wants_are_put_right() {
    use FileKind::{Audio, Unparsed};
    use FileState::{Excluded, Missing, Present};
    let known = [
        ("out/shown.flac", 1, Audio, Present),
        ("out/gone.flac", 1, Audio, Missing),
        ("out/hidden.flac", 1, Audio, Excluded),
        ("in/hidden.flac", 1, Audio, Excluded),
        ("in/unread.flac", 1, Unparsed, Excluded),
        ("in/other.flac", 1, Audio, Excluded),
    ];
    let mut d = detector(&known, Reread::None);
    exclude(&mut d, &[("o", "out")]);
    let mut detect = |path: &str, mtime| d.detect_changes(&entry(path, mtime));
    assert!(matches!(detect("out/shown.flac", 1), Delta::Returned(_, Audio)));
    assert_eq!(detect("out/shown.flac", 1), Delta::Ignored, "once");
    assert!(matches!(detect("out/gone.flac", 1), Delta::Returned(_, Audio)), "it is back, and excluded");
    assert_eq!(detect("out/hidden.flac", 1), Delta::Ignored);
    assert!(matches!(detect("in/hidden.flac", 1), Delta::Returned(_, Audio)));
    assert!(matches!(detect("in/unread.flac", 1), Delta::Read(_, Listed::Changed)));
    assert!(matches!(detect("in/other.flac", 2), Delta::Read(_, Listed::Changed)));
    assert!(d.unseen().is_empty(), "all were listed");
}

#[test]
fn what_came_to_an_excluded_folder_and_may_be_known_is_read_when_asked_for_and_once() {
    use FileKind::Audio;
    use FileState::{Excluded, Present};
    let known = [
        ("in/1.flac", 1, Audio, Present),
        ("out/2.flac", 2, Audio, Excluded),
        ("out/3.flac", 3, Audio, Excluded),
    ];
    let mut d = detector(&known, Reread::None);
    exclude(&mut d, &[("o", "out")]);
    let listed =
        [entry("out/2.flac", 2), entry("out/3.flac", 1), entry("out/a.flac", 1), entry("out/new.flac", 9)];
    listed.iter().for_each(|entry| assert_eq!(d.detect_changes(entry), Delta::Ignored));
    let came: Vec<OriginEntry> = d.take_came().into_values().flatten().collect();
    assert_eq!(came, listed[1..3]);
    assert!(d.take_came().is_empty());
    let of = |mtime| (1, Some(UnixNanos(mtime)));
    assert_eq!(d.gone_versions(), HashSet::from([of(1), of(3)]));
    d.ask_for(&came);
    assert!(matches!(d.detect_changes(&came[0]), Delta::Read(_, Listed::Changed)));
    assert!(matches!(d.detect_changes(&came[1]), Delta::Read(_, Listed::New)));
    listed.iter().for_each(|entry| assert_eq!(d.detect_changes(entry), Delta::Ignored));
}

proptest! {
    #[test]
    fn outcome_does_not_depend_on_order_or_repetition(
        known in prop::collection::btree_map(0u8..20, 0i64..3, 0..20),
        listed in prop::collection::btree_map(0u8..20, 0i64..3, 0..20),
        order in any::<prop::sample::Index>(),
    ) {
        let name = |n: &u8| format!("{n}.flac");
        let rows: Vec<_> = known.iter().map(|(n, m)| (name(n), *m)).collect();
        let rows: Vec<_> =
            rows.iter().map(|(p, m)| (p.as_str(), *m, FileKind::Audio, FileState::Present)).collect();
        let entries: Vec<_> = listed.iter().map(|(n, m)| entry(&name(n), *m)).collect();
        let mut forward = detector(&rows, Reread::None);
        let mut turned = detector(&rows, Reread::None);
        let mut first: Vec<_> = entries.iter().map(|e| (e.path.clone(), forward.detect_changes(e))).collect();
        let at = if entries.is_empty() { 0 } else { order.index(entries.len()) };
        let mut again = entries.clone();
        again.rotate_left(at);
        let mut second: Vec<_> = again.iter().map(|e| (e.path.clone(), turned.detect_changes(e))).collect();
        first.sort_by(|a, b| a.0.cmp(&b.0));
        second.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(first, second);
        for e in &entries {
            turned.detect_changes(e);
        }
        prop_assert_eq!(forward.unseen(), turned.unseen());
        let gone = known.keys().filter(|n| !listed.contains_key(n)).count();
        prop_assert_eq!(forward.unseen().len(), gone);
    }
}
