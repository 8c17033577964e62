//! Files that hold the same and want the same place are one entry.

use std::collections::HashSet;

use musicfs_core::{
    AudioIdentity, AudioMeta, Change, FileId, FileMeta, FileState, FileVersion, Name, Op, OriginId, UnixNanos,
};

use super::{Fixture, file_on, place, put};

/// A track whose audio is told from others by `audio`.
fn track(origin: &str, path: &str, audio: u8, size: u64) -> FileMeta {
    let identity = Some(AudioIdentity::FlacMd5 { md5: [audio; 16], samples: 1000 });
    let meta = AudioMeta { identity, duration_ms: 5000, ..AudioMeta::default() };
    FileMeta { audio: Some(Box::new(meta)), ..file_on(origin, path, size) }
}

fn rank(origins: &[&str]) -> Op {
    Op::RankOrigins(origins.iter().map(|origin| OriginId::from(*origin)).collect())
}

fn copies(fixture: &Fixture, file: &FileMeta) -> Vec<FileId> {
    fixture.db.copies(file.id).expect("an answer").iter().map(|copy| copy.id).collect()
}

/// Files that hold the same audio and want the same path are one entry, also on one origin, whatever their sizes;
/// each is told to be shown there. What holds something else stands beside them.
pub fn copies_share_one_entry(fixture: Fixture) {
    let nas = track("nas", "a.flac", 1, 100);
    let (usb, twice) = (track("usb", "b.flac", 1, 120), track("nas", "again.flac", 1, 100));
    let (other, unknown) = (track("usb", "c.flac", 2, 100), file_on("usb", "d.flac", 100));
    let all = [&nas, &usb, &twice, &other, &unknown];
    fixture.apply(1, [rank(&["nas", "usb"])]);
    for file in all {
        fixture.apply(2, [put(file), place(file, "A/x.flac")]);
    }
    let entries = fixture.names(fixture.at("A").expect("it").ino);
    assert_eq!(entries, ["x.flac", "x (2).flac", "x (3).flac"]);
    let shown: Vec<_> = all.iter().map(|file| fixture.shown_at(file).expect("a place")).collect();
    assert_eq!(shown, ["A/x.flac", "A/x.flac", "A/x.flac", "A/x (2).flac", "A/x (3).flac"]);
    let leads = nas.id.min(twice.id);
    for file in [&nas, &usb, &twice] {
        let copies = copies(&fixture, file);
        assert_eq!((copies.len(), copies[0], copies[2]), (3, leads, usb.id));
        assert_eq!(fixture.node(file.id.ino()).is_some(), file.id == leads);
    }
    assert_eq!((copies(&fixture, &other), copies(&fixture, &unknown)), (vec![other.id], vec![unknown.id]));
    let totals = fixture.totals();
    assert_eq!((totals.files, totals.tracks, totals.bytes), (3, 3, 300));
    let walked: HashSet<_> =
        fixture.db.shown(None, 10).expect("an answer").files.iter().map(|file| file.id).collect();
    assert_eq!(walked, HashSet::from([leads, other.id, unknown.id]));
    let marked = fixture.db.marked(&all.map(|file| file.id)).expect("an answer");
    assert_eq!(marked.len(), all.len());
    for file in marked {
        assert_eq!(file.shown.map(|file| file.id), walked.get(&file.id).copied());
    }
    assert!(fixture.db.copies(file_on("usb", "never", 1).id).expect("an answer").is_empty());
}

/// The origin that is preferred leads, whichever came first, and the entry keeps its name and its position. A copy
/// of another origin that comes later, or a file that is no copy, changes nothing.
pub fn preferred_origin_leads_whoever_came_first(fixture: Fixture) {
    let (nas, usb) = (track("nas", "a.flac", 1, 100), track("usb", "b.flac", 1, 120));
    fixture.apply(1, [rank(&["nas", "usb"]), put(&usb), place(&usb, "x.flac")]);
    let before = fixture.at("x.flac").expect("it");
    let from = fixture.revision();
    fixture.apply(2, [put(&nas), place(&nas, "x.flac")]);
    let after = fixture.at("x.flac").expect("it");
    assert_eq!((after.ino, after.size, after.cookie), (nas.id.ino(), 100, before.cookie));
    let (parent, name) = (after.parent, Name::from_text("x.flac"));
    assert_eq!(
        fixture.changes(from, 10),
        [
            Change::FileChanged { id: nas.id, content: true },
            Change::EntryRemoved { parent, name: name.clone(), ino: usb.id.ino() },
            Change::EntryAdded { parent, name, ino: nas.id.ino() },
        ]
    );
    let (third, unrelated) = (track("third", "c.flac", 1, 9), track("nas", "d.flac", 2, 9));
    fixture.apply(3, [put(&third), place(&third, "x.flac"), put(&unrelated), place(&unrelated, "x.flac")]);
    assert_eq!(fixture.at("x.flac"), Some(after));
    assert_eq!(copies(&fixture, &third), [nas.id, usb.id, third.id]);
    fixture.apply(4, [rank(&["third", "usb", "nas"])]);
    assert_eq!(fixture.at("x.flac").expect("it").ino, third.id.ino());
    assert_eq!(copies(&fixture, &nas), [third.id, usb.id, nas.id]);
}

/// A leader that is missing, taken out or forgotten gives the entry to the next; the last takes it with it.
pub fn copy_takes_over_when_the_leader_goes(fixture: Fixture) {
    let files = ["one", "two", "three"].map(|origin| track(origin, "a.flac", 1, 100));
    let [one, two, three] = &files;
    fixture.apply(1, [rank(&["one", "two", "three"])]);
    fixture.apply(1, files.iter().flat_map(|file| [put(file), place(file, "D/x")]).collect::<Vec<_>>());
    let leads = || fixture.at("D/x").map(|node| node.ino);
    fixture.apply(2, [Op::SetState(one.id, FileState::Missing)]);
    assert_eq!((leads(), copies(&fixture, one)), (Some(two.id.ino()), vec![two.id, three.id, one.id]));
    fixture.apply(3, [Op::SetState(one.id, FileState::Present)]);
    assert_eq!(leads(), Some(one.id.ino()), "back again, it leads again");
    fixture.apply(4, [Op::Unplace(one.id)]);
    assert_eq!((leads(), fixture.shown_at(one)), (Some(two.id.ino()), None));
    assert_eq!(fixture.at("D").expect("it").mtime, UnixNanos(4));
    fixture.apply(5, [Op::Forget(two.id)]);
    assert_eq!((leads(), copies(&fixture, three)), (Some(three.id.ino()), vec![three.id]));
    fixture.apply(6, [place(one, "D/x"), Op::Unplace(three.id), Op::Unplace(one.id)]);
    assert_eq!((leads(), fixture.totals().dirs), (None, 0));
}

/// A copy that is tagged otherwise, or whose audio becomes another, stands by itself; the one that stays keeps the
/// name. What comes to hold the same joins.
pub fn copy_that_differs_later_leaves(fixture: Fixture) {
    let (nas, usb) = (track("nas", "a.flac", 1, 100), track("usb", "b.flac", 1, 120));
    fixture.apply(1, [rank(&["nas", "usb"]), put(&nas), put(&usb), place(&nas, "A/x"), place(&usb, "A/x")]);
    fixture.apply(2, [place(&nas, "B/y")]);
    assert_eq!(fixture.at("A/x").expect("it").ino, usb.id.ino());
    fixture.apply(3, [place(&usb, "B/y")]);
    assert_eq!((copies(&fixture, &usb), fixture.totals().dirs), (vec![nas.id, usb.id], 1));
    let version = FileVersion { size: 77, ..nas.version.clone() };
    let replaced = FileMeta { version, ..track("nas", "a.flac", 2, 77) };
    fixture.apply(4, [put(&replaced)]);
    assert_eq!(fixture.at("B/y").expect("it").ino, usb.id.ino());
    let beside = fixture.at("B/y (2)").expect("it");
    assert_eq!((beside.ino, beside.size), (nas.id.ino(), 77));
    fixture.apply(5, [put(&track("usb", "b.flac", 2, 120))]);
    assert_eq!(fixture.names(fixture.at("B").expect("it").ino), ["y (2)"], "where its copies are");
    assert_eq!(copies(&fixture, &usb), [nas.id, usb.id]);
}
