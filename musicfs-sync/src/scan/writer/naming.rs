//! What placing files goes by beside their tags: which albums have several discs, and which names were taken.

use std::collections::HashSet;

use musicfs_core::{
    AlbumKey, FileId, FileMeta, FileQuery, FileState, MetaDb, Op, OriginId, ROOT_INODE, Suffixed, VirtualPath,
};

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

    /// Shows the discs of albums again which no longer have several, as far as the catalogue knows.
    pub(in crate::scan) fn forget_single_discs(&mut self) -> Result<(), ScanError> {
        self.in_turn(|writer| {
            let now: HashSet<AlbumKey> = writer.db.multi_disc_albums()?.into_iter().collect();
            let single: Vec<AlbumKey> = writer.multi_disc.difference(&now).copied().collect();
            writer.multi_disc = now;
            for key in single {
                writer.replace_album(key)?;
                writer.news.push(News::Discs(key, false));
            }
            writer.flush()
        })
    }

    /// Gives the files that took a number in this pass their plain name where a file of one of these origins has it.
    pub(in crate::scan) fn take_names_of(&mut self, origins: &HashSet<OriginId>) -> Result<(), ScanError> {
        if origins.is_empty() {
            return Ok(());
        }
        self.in_turn(|writer| {
            let mut plain = Vec::new();
            for file in writer.newly_numbered.clone() {
                let Some(holder) = writer.shown_at(&file.path)? else { continue };
                if !origins.contains(&holder.origin) {
                    continue;
                }
                writer.forget_number(file.id);
                writer.ops.extend([Op::Unplace(holder.id), Op::Unplace(file.id)]);
                writer.place(file.id, file.path.clone());
                writer.place(holder.id, file.path.clone());
                writer.flush()?;
                writer.newly_numbered.retain(|n| n.id != file.id && n.id != holder.id);
                plain.push(Suffixed { n: 1, ..file });
            }
            Ok(writer.library.record_numbers(&plain)?)
        })
    }

    /// Returns the file that is shown at a path.
    fn shown_at(&self, path: &VirtualPath) -> Result<Option<FileMeta>, ScanError> {
        let mut at = ROOT_INODE;
        for name in path.names() {
            let Some(node) = self.db.lookup(at, name.as_bytes())? else { return Ok(None) };
            at = node.ino;
        }
        match at.file_id() {
            Some(id) => Ok(self.db.file(id)?),
            None => Ok(None),
        }
    }

    /// Gives the files that took a number in this pass their plain name, where its holder turned out to be gone: a
    /// file that moved on its origin is not to stand in its own way.
    pub(in crate::scan) fn settle_names(&mut self) -> Result<(), ScanError> {
        self.in_turn(|writer| {
            let numbered = std::mem::take(&mut writer.newly_numbered);
            for file in &numbered {
                writer.forget_number(file.id);
                writer.ops.push(Op::Unplace(file.id));
            }
            for file in &numbered {
                writer.place(file.id, file.path.clone());
            }
            writer.flush()?;
            let plain = numbered.into_iter().filter(|file| !writer.numbers.contains_key(&file.id));
            let plain: Vec<Suffixed> = plain.map(|file| Suffixed { n: 1, ..file }).collect();
            writer.newly_numbered.clear();
            Ok(writer.library.record_numbers(&plain)?)
        })
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
