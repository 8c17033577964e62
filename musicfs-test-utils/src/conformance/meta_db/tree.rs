//! The rules of the tree; see [`VirtualTree`](musicfs_core::VirtualTree).

use musicfs_core::{
    Cookie, FileMeta, FileState, FileVersion, Ino, Name, Node, NodeKind, Op, Placement, ROOT_INODE, Suffixed,
    Totals, UnixNanos, VirtualPath,
};

use super::{Fixture, file, file_on, place, place_as, put, virtual_path};

/// The root is there from the beginning: its own parent, without a name.
pub fn root_is_its_own_parent(fixture: Fixture) {
    let root = fixture.node(ROOT_INODE).expect("a root");
    assert_eq!((root.ino, root.parent, root.name, root.kind), (ROOT_INODE, ROOT_INODE, None, NodeKind::Dir));
    assert_eq!((root.cookie, root.size), (Cookie(0), 0));
    assert!(fixture.list(ROOT_INODE).is_empty());
    assert_eq!(fixture.totals(), Totals::default());
}

/// A file that is placed is found by each way, with its size and time; its directories with the batch's.
pub fn placed_file_is_found_every_way(fixture: Fixture) {
    let a = file_on("one", "x", 12_345);
    fixture.apply(5, [put(&a), place(&a, "Artist/Album/01 - A.flac")]);
    let (artist, album) = (fixture.at("Artist").expect("it"), fixture.at("Artist/Album").expect("it"));
    let node = fixture.at("Artist/Album/01 - A.flac").expect("the file");
    assert_eq!((node.ino, node.parent, node.kind), (a.id.ino(), album.ino, NodeKind::File));
    assert_eq!((node.size, Some(node.mtime)), (12_345, a.version.mtime));
    assert_eq!(node.name, Some(Name::from_text("01 - A.flac")));
    assert_eq!(
        (album.parent, album.kind, album.size, album.mtime),
        (artist.ino, NodeKind::Dir, 0, UnixNanos(5))
    );
    assert_eq!(fixture.node(ROOT_INODE).expect("a root").mtime, UnixNanos(5));
    for node in [&artist, &album, &node] {
        assert_eq!(fixture.node(node.ino).as_ref(), Some(node));
        assert!(fixture.list(node.parent).contains(node));
        assert!(node.cookie > Cookie(0));
    }
    assert_eq!(album.ino, Ino::for_dir(artist.ino, b"Album", 0));
    assert_eq!(fixture.shown_at(&a).as_deref(), Some("Artist/Album/01 - A.flac"));
    assert!(fixture.lookup(album.ino, "no such name").is_none());
    assert!(fixture.lookup(album.ino, "").is_none());
    // What is no directory has no entries, and neither has what is not there.
    assert!(fixture.lookup(node.ino, "x").is_none() && fixture.list(node.ino).is_empty());
    assert!(fixture.lookup(Ino::from_raw(99), "x").is_none() && fixture.list(Ino::from_raw(99)).is_empty());
    assert_eq!(fixture.node(Ino::from_raw(99)), None);
}

/// Names are bytes.
pub fn names_that_are_not_utf8_are_kept(fixture: Fixture) {
    let a = file_on("one", b"d\xff/a\xfe", 1);
    let path = VirtualPath::from_bytes(b"d\xff/a\xfe").expect("a legal path");
    fixture.apply(1, [put(&a), Op::Place(Placement { id: a.id, path: path.clone(), prefer: 0 })]);
    let dir = fixture.lookup(ROOT_INODE, b"d\xff").expect("the directory");
    assert_eq!(fixture.lookup(dir.ino, b"a\xfe").expect("the file").ino, a.id.ino());
    assert_eq!(fixture.file(a.id).expect("the file").shown_at, Some(path));
}

/// Who comes later to a taken name gets the lowest free number from 2, and is reported with it.
pub fn taken_name_gives_a_number_and_says_so(fixture: Fixture) {
    let files: Vec<_> = (1..=4).map(|n| file(&n.to_string())).collect();
    let mut suffixed = Vec::new();
    for file in &files[..3] {
        suffixed.extend(fixture.apply(1, [put(file), place(file, "A/x.flac")]).suffixed);
    }
    let expected: Vec<_> = [(&files[1], 2), (&files[2], 3)]
        .map(|(file, n)| Suffixed { id: file.id, path: virtual_path("A/x.flac"), n })
        .into();
    assert_eq!(suffixed, expected);
    let shown = |n: usize| fixture.shown_at(&files[n]).expect("a place");
    assert_eq!([shown(0), shown(1), shown(2)], ["A/x.flac", "A/x (2).flac", "A/x (3).flac"]);
    // The lowest free one is taken, the wanted name itself first.
    fixture.apply(2, [Op::Unplace(files[1].id)]);
    fixture.apply(3, [put(&files[3]), place(&files[3], "A/x.flac")]);
    assert_eq!(shown(3), "A/x (2).flac");
    fixture.apply(4, [Op::Unplace(files[0].id), Op::Forget(files[3].id)]);
    assert!(fixture.apply(5, [place(&files[1], "A/x.flac")]).suffixed.is_empty());
    assert_eq!(shown(1), "A/x.flac");
}

/// A preferred number is taken when it is free, else the lowest free one.
pub fn preferred_number_is_taken_when_free(fixture: Fixture) {
    let files: Vec<_> = (1..=4).map(|n| file(&n.to_string())).collect();
    let show = |n: usize, prefer| fixture.apply(1, [put(&files[n]), place_as(&files[n], "x.flac", prefer)]);
    assert_eq!(show(0, 3).suffixed.first().map(|s| s.n), Some(3), "also when the plain name is free");
    assert!(show(1, 3).suffixed.is_empty());
    assert_eq!(show(2, 1).suffixed.first().map(|s| s.n), Some(2), "1 and 0 are no numbers");
    assert_eq!(show(3, 7).suffixed.first().map(|s| s.n), Some(7));
    assert_eq!(fixture.names(ROOT_INODE), ["x (3).flac", "x.flac", "x (2).flac", "x (7).flac"]);
}

/// Nobody is renamed by what becomes of another.
pub fn others_keep_their_names(fixture: Fixture) {
    let files: Vec<_> = (1..=3).map(|n| file(&n.to_string())).collect();
    for file in &files {
        fixture.apply(1, [put(file), place(file, "A/x")]);
    }
    fixture.apply(2, [place(&files[0], "B/y")]);
    fixture.apply(3, [Op::Forget(files[0].id)]);
    let changed = FileMeta { problem: Some("p".into()), ..files[1].clone() };
    fixture.apply(4, [put(&changed), Op::SetState(files[1].id, FileState::Missing)]);
    assert_eq!(fixture.shown_at(&files[1]).as_deref(), Some("A/x (2)"));
    assert_eq!(fixture.shown_at(&files[2]).as_deref(), Some("A/x (3)"));
}

/// Showing a file where it is wanted already changes only its size and time.
pub fn placing_again_where_it_is_changes_nothing_else(fixture: Fixture) {
    let (a, b) = (file("a"), file("b"));
    fixture.apply(1, [put(&a), place(&a, "D/x"), put(&b), place(&b, "D/x")]);
    let before = (fixture.at("D"), fixture.list(fixture.at("D").expect("it").ino));
    fixture.apply(2, [Op::Unplace(a.id)]);
    let (dir, entries) = (fixture.at("D"), fixture.list(fixture.at("D").expect("it").ino));
    let from = fixture.revision();
    // Its number stays, although a lower one is free now and it prefers another.
    assert!(fixture.apply(3, [place(&b, "D/x"), place_as(&b, "D/x", 9)]).suffixed.is_empty());
    assert_eq!((fixture.at("D"), fixture.list(dir.clone().expect("it").ino)), (dir.clone(), entries.clone()));
    assert_eq!(fixture.changes(from, 10), []);
    let newer = FileMeta { version: FileVersion { size: 7, ..FileVersion::default() }, ..b.clone() };
    fixture.apply(4, [put(&newer), place(&b, "D/x")]);
    let node = fixture.at("D/x (2)").expect("the file");
    assert_eq!((node.size, node.mtime), (7, UnixNanos(0)), "a time that is not known is the beginning");
    assert_eq!(node.cookie, entries[0].cookie);
    assert_eq!(fixture.at("D"), dir);
    assert_eq!(before.1.len(), 2);
}

/// A file stands in one place: showing it elsewhere takes it from where it was, number and all.
pub fn moved_file_leaves_its_old_place(fixture: Fixture) {
    let (a, b) = (file("a"), file("b"));
    fixture.apply(1, [put(&a), place(&a, "Old/Deep/x"), put(&b), place(&b, "Old/y")]);
    let cookie = fixture.at("Old/Deep/x").expect("it").cookie;
    fixture.apply(2, [place(&a, "New/x")]);
    assert!(fixture.at("Old/Deep").is_none() && fixture.at("Old/y").is_some());
    let moved = fixture.at("New/x").expect("it");
    assert_eq!((moved.ino, fixture.node(a.id.ino())), (a.id.ino(), Some(moved.clone())));
    assert!(moved.cookie > cookie);
    assert_eq!(fixture.at("Old").expect("it").mtime, UnixNanos(2));
    // The place that it leaves counts as free: from (2) back to the plain name it leaves nothing behind.
    fixture.apply(3, [place(&b, "New/x")]);
    assert_eq!(fixture.shown_at(&b).as_deref(), Some("New/x (2)"));
    fixture.apply(4, [place(&b, "New/x (2)")]);
    assert_eq!(fixture.shown_at(&b).as_deref(), Some("New/x (2)"));
    assert_eq!(fixture.names(fixture.at("New").expect("it").ino), ["x", "x (2)"]);
}

/// A directory and a file of one name stand side by side, and all who want the directory get the same one.
pub fn directory_gives_way_to_a_file_of_its_name(fixture: Fixture) {
    let files: Vec<_> = (1..=4).map(|n| file(&n.to_string())).collect();
    let wanted = ["A/x.flac", "A/x.flac/y", "A/x.flac/z", "A"];
    for (file, path) in files.iter().zip(wanted) {
        fixture.apply(1, [put(file), place(file, path)]);
    }
    let shown: Vec<_> = files.iter().map(|file| fixture.shown_at(file).expect("a place")).collect();
    assert_eq!(shown, ["A/x.flac", "A/x (2).flac/y", "A/x (2).flac/z", "A (2)"]);
}

/// Directories come with the first entry below them and go with the last, under the same inode number.
pub fn directories_come_and_go_with_their_entries(fixture: Fixture) {
    let (a, b) = (file("a"), file("b"));
    fixture.apply(1, [put(&a), place(&a, "D/E/a"), put(&b), place(&b, "D/b")]);
    let (d, e) = (fixture.at("D").expect("it"), fixture.at("D/E").expect("it"));
    assert_eq!(fixture.totals().dirs, 2);
    fixture.apply(2, [Op::Unplace(a.id)]);
    assert_eq!((fixture.at("D/E"), fixture.node(e.ino)), (None, None));
    assert_eq!(fixture.at("D").expect("it").mtime, UnixNanos(2));
    fixture.apply(3, [Op::Forget(b.id)]);
    assert_eq!((fixture.node(d.ino), fixture.totals().dirs), (None, 0));
    assert_eq!(fixture.node(ROOT_INODE).expect("a root").mtime, UnixNanos(3));
    fixture.apply(4, [place(&a, "D/E/other")]);
    let (d_again, e_again) = (fixture.at("D").expect("it"), fixture.at("D/E").expect("it"));
    assert_eq!((d_again.ino, e_again.ino), (d.ino, e.ino));
    assert!(d_again.cookie > d.cookie && e_again.cookie > e.cookie);
}

/// A directory's time is that of the last change of its own entries.
pub fn directory_takes_the_time_of_its_entries_changes(fixture: Fixture) {
    let (a, b) = (file("a"), file("b"));
    let time = |path| fixture.at(path).map(|node| node.mtime.0);
    fixture.apply(10, [put(&a), place(&a, "D/E/a")]);
    fixture.apply(20, [put(&b), place(&b, "D/b")]);
    assert_eq!((time("D"), time("D/E")), (Some(20), Some(10)));
    fixture.apply(30, [put(&FileMeta { problem: Some("p".into()), ..b.clone() })]);
    fixture.apply(30, [Op::SetState(b.id, FileState::Missing)]);
    assert_eq!(time("D"), Some(20), "what happens to a file is no change of an entry");
    fixture.apply(40, [place(&b, "D/E/b")]);
    assert_eq!((time("D"), time("D/E")), (Some(40), Some(40)));
    fixture.apply(5, [Op::Unplace(a.id)]);
    assert_eq!((time("D"), time("D/E")), (Some(40), Some(5)), "the batch's time, whatever it is");
    assert_eq!(fixture.node(ROOT_INODE).expect("a root").mtime, UnixNanos(10));
}

/// A file taken out of the tree stays known; taking it out twice is no mistake.
pub fn unplaced_file_stays_known(fixture: Fixture) {
    let a = file("a");
    fixture.show(1, &[&a]);
    for _ in 0..2 {
        fixture.apply(2, [Op::Unplace(a.id)]);
        assert_eq!(fixture.file(a.id), Some(a.clone()));
        assert_eq!((fixture.at("a"), fixture.node(a.id.ino())), (None, None));
    }
}

/// Cookies grow with each new entry and are never given twice, nor moved while the entry lives.
pub fn cookies_grow_and_are_not_used_twice(fixture: Fixture) {
    let mut last = Cookie(0);
    for round in 0..3 {
        for n in 0..5 {
            let file = file(&n.to_string());
            fixture.apply(round, [put(&file), place(&file, &format!("{n}"))]);
            let cookie = fixture.at(&n.to_string()).expect("it").cookie;
            assert!(cookie > last, "{cookie:?} after {last:?}");
            last = cookie;
        }
        let before = fixture.list(ROOT_INODE);
        fixture.apply(round, [Op::Unplace(file("1").id), Op::Unplace(file("4").id)]);
        let kept: Vec<_> = before.into_iter().filter(|node| fixture.node(node.ino).is_some()).collect();
        assert_eq!(fixture.list(ROOT_INODE), kept);
        let rest: Vec<_> = kept.iter().filter_map(|node| node.ino.file_id()).map(Op::Unplace).collect();
        fixture.apply(round, rest);
    }
}

/// A directory is listed in pages, each after a position, that of an entry that is gone as well.
pub fn directory_is_listed_in_pages(fixture: Fixture) {
    let files: Vec<_> = (0..23).map(|n| file(&format!("D/{n}"))).collect();
    fixture.show(1, &files.iter().collect::<Vec<_>>());
    let dir = fixture.at("D").expect("it").ino;
    let all = fixture.list(dir);
    assert_eq!(all.len(), 23);
    assert!(all.is_sorted_by(|a, b| a.cookie < b.cookie));
    assert!(all.iter().zip(&files).all(|(node, file)| node.ino == file.id.ino()), "in order of insertion");
    let page = |after, limit| fixture.db.list(dir, after, limit).expect("an answer");
    for limit in [1, 5, 22, 23, 24] {
        let mut pages: Vec<Node> = Vec::new();
        loop {
            let next = page(pages.last().map_or(Cookie(0), |node| node.cookie), limit);
            assert!(next.len() <= limit);
            if next.is_empty() {
                break;
            }
            pages.extend(next);
        }
        assert_eq!(pages, all);
    }
    fixture.apply(2, [Op::Unplace(files[10].id)]);
    assert_eq!(page(all[10].cookie, 2), all[11..13]);
    assert_eq!(page(all[9].cookie, 2), all[11..13]);
    assert_eq!(page(all[22].cookie, 2), []);
    assert!(page(Cookie(0), 0).is_empty());
}
