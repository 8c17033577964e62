//! What placing files goes by beside their tags: which albums have several discs, and which names were taken.

use std::collections::HashSet;

use musicfs_core::{AlbumKey, FileId, FileMeta, FileQuery, FileState, MetaDb, Op, Suffixed};

use super::{BATCH, Writer};
use crate::scan::ScanError;
use crate::scan::turns::News;

impl Writer {
    /// Takes over what another writer found out.
    pub(super) fn learn(&mut self, news: News) {
        match news {
            News::Discs(key, several) => {
                let changed =
                    if several { self.multi_disc.insert(key) } else { self.multi_disc.remove(&key) };
                if changed {
                    // What this one has placed, or is about to, went by what it knew.
                    self.newly_multi.push(key);
                }
            }
            News::Number(Suffixed { id, path, n }) => drop(self.numbers.insert(id, (path, n))),
            News::NoNumber(id) => drop(self.numbers.remove(&id)),
        }
    }

    pub(in crate::scan) fn note_discs(&mut self, file: &FileMeta) {
        if let Some(key) = file.album_key()
            && file.audio.as_ref().and_then(|audio| audio.disc).is_some_and(|disc| disc > 1)
            && self.multi_disc.insert(key)
        {
            self.newly_multi.push(key);
            self.news.push(News::Discs(key, true));
        }
    }

    pub(super) fn forget_number(&mut self, id: FileId) {
        self.numbers.remove(&id);
        self.news.push(News::NoNumber(id));
    }

    /// Shows the discs of albums again which have several or one against what this writer goes by, as far as the
    /// catalogue knows: the others may be gone, and another writer may not have known of some that waited here.
    pub(in crate::scan) fn settle_discs(&mut self) -> Result<(), ScanError> {
        self.in_turn(|writer| {
            let now: HashSet<AlbumKey> = writer.db.multi_disc_albums()?.into_iter().collect();
            let others: Vec<AlbumKey> = writer.multi_disc.symmetric_difference(&now).copied().collect();
            writer.multi_disc = now;
            for key in others {
                writer.replace_album(key)?;
                writer.news.push(News::Discs(key, writer.multi_disc.contains(&key)));
            }
            writer.flush()
        })
    }

    /// Gives the files that took a number in this pass their plain name, where its holder turned out to be gone: a
    /// file that moved on its origin is not to stand in its own way.
    pub(in crate::scan) fn settle_names(&mut self) -> Result<(), ScanError> {
        let mut numbered = std::mem::take(&mut self.newly_numbered);
        // Those that want one name are settled together, in the order in which they came.
        numbered.sort_by(|a, b| a.path.cmp(&b.path));
        let mut rest = &numbered[..];
        while !rest.is_empty() {
            let mut some = rest.len().min(BATCH);
            while some < rest.len() && rest[some].path == rest[some - 1].path {
                some += 1;
            }
            let (these, others) = rest.split_at(some);
            self.in_turn(|writer| writer.number_again(these))?;
            rest = others;
        }
        self.newly_numbered.clear();
        Ok(())
    }

    fn number_again(&mut self, numbered: &[Suffixed]) -> Result<(), ScanError> {
        let mut there = Vec::with_capacity(numbered.len());
        for file in numbered {
            // What belongs to another origin may have been forgotten meanwhile.
            if self.db.file(file.id)?.is_some() {
                there.push(file);
            }
        }
        for file in &there {
            self.forget_number(file.id);
            self.ops.push(Op::Unplace(file.id));
        }
        for file in &there {
            self.place(file.id, file.path.clone());
        }
        self.flush()?;
        let plain = there.into_iter().filter(|file| !self.numbers.contains_key(&file.id));
        let plain: Vec<Suffixed> = plain.map(|file| Suffixed { n: 1, ..file.clone() }).collect();
        Ok(self.library.record_numbers(&plain)?)
    }

    pub(super) fn replace_album(&mut self, key: AlbumKey) -> Result<(), ScanError> {
        let mut after = None;
        loop {
            let page = self.db.files(&FileQuery::DiscsOf(key), after, BATCH)?;
            for file in page.files.iter().filter(|file| file.state == FileState::Present) {
                if let Some(path) = self.wanted(file) {
                    self.place(file.id, path);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use musicfs_core::{AudioMeta, FileId, MetaDb, OriginPath, Template, VirtualPath};
    use musicfs_test_utils::{ManualClock, MemoryMetaDb, make_file_meta};

    use super::*;
    use crate::library::Library;
    use crate::scan::Parts;
    use crate::scan::turns::{Lane, Turns};

    struct Desk {
        _dir: tempfile::TempDir,
        db: Arc<MemoryMetaDb>,
        library: Arc<Library>,
        turns: Arc<Turns>,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (library, _) = Library::open(&dir.path().join("library.db"), &ManualClock::new()).unwrap();
            let (db, turns) = (Arc::new(MemoryMetaDb::new()), Arc::default());
            Self { _dir: dir, db, library: Arc::new(library), turns }
        }

        fn writer(&self) -> Writer {
            Writer::load(Parts {
                db: self.db.clone(),
                library: self.library.clone(),
                clock: Arc::new(ManualClock::new()),
                template: Arc::new(Template::default()),
                turns: self.turns.clone(),
                lane: Lane::Whole,
            })
            .unwrap()
        }

        fn shown(&self, id: FileId) -> String {
            let path: VirtualPath = self.db.file(id).unwrap().unwrap().shown_at.unwrap();
            path.to_string()
        }
    }

    fn track(n: i64, disc: u32) -> Box<FileMeta> {
        let audio = AudioMeta {
            artists: vec!["A".into()],
            album: Some("L".into()),
            title: Some("T".into()),
            disc: Some(disc),
            ..AudioMeta::default()
        };
        let path = OriginPath::new(format!("{n}.flac")).unwrap();
        Box::new(FileMeta {
            path,
            audio: Some(Box::new(audio)),
            shown_at: None,
            ..make_file_meta(n, "any.flac", 1)
        })
    }

    #[test]
    fn second_disc_that_waits_while_another_writer_finds_one_disc_is_numbered() {
        let desk = Desk::new();
        let (mut one, mut other) = (desk.writer(), desk.writer());
        let gone = track(9, 2);
        other.put(track(1, 1));
        other.put(gone.clone());
        other.flush().unwrap();
        one.put(track(2, 2));
        other.push(Op::Forget(gone.id));
        other.flush().unwrap();
        other.settle_discs().unwrap();
        assert_eq!(desk.shown(track(1, 1).id), "A/L/T.flac");
        one.flush().unwrap();
        one.settle_discs().unwrap();
        assert_eq!(desk.shown(track(1, 1).id), "A/L/1-T.flac");
        assert_eq!(desk.shown(track(2, 2).id), "A/L/2-T.flac");
    }

    #[test]
    fn numbered_file_that_another_writer_forgets_is_left_out() {
        let desk = Desk::new();
        let (mut one, mut other) = (desk.writer(), desk.writer());
        (1..4).for_each(|n| drop(one.put(track(n, 1))));
        one.flush().unwrap();
        assert_eq!(desk.shown(track(3, 1).id), "A/L/T (3).flac");
        other.forget(&[track(1, 1).id, track(2, 1).id]).unwrap();
        one.settle_names().unwrap();
        assert_eq!(desk.shown(track(3, 1).id), "A/L/T.flac");
        assert_eq!(desk.library.name_numbers().unwrap()[&track(3, 1).id].1, 1);
    }
}
