//! Where sidecars are shown once the files around them are known. Everything here blocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use musicfs_core::{FileId, FileKind, FileQuery, FileState, Op, OriginId, OriginPath};

use crate::arrange::{self, MusicFolders};
use crate::scan::writer::Writer;
use crate::scan::{ScanError, few_paths};

/// More changed folders than this are not compared one by one with those that might follow them.
const MANY_FOLDERS: usize = 1_000;
/// So many files around changed folders are looked at by a pass over those folders alone.
const NEARBY: usize = 20_000;
/// So many folders above them at most.
const FEW_TOPS: usize = 16;

/// A folder with sidecars and without music.
pub(in crate::scan) struct Orphans {
    pub(in crate::scan) folder: OriginPath,
    pub(in crate::scan) sidecars: Vec<(FileId, OriginPath)>,
    pub(in crate::scan) changed: bool,
}

/// What a pass gathered about folders.
#[derive(Default)]
pub(in crate::scan) struct Folders {
    /// Those with music.
    pub(in crate::scan) music: MusicFolders,
    /// Those with sidecars only.
    pub(in crate::scan) orphans: Vec<Orphans>,
    /// Those about which the catalogue must be asked.
    pub(in crate::scan) resettle: BTreeSet<OriginPath>,
    /// Those whose music may have moved in the tree.
    pub(in crate::scan) touched: HashSet<OriginPath>,
}

impl Folders {
    /// Places the sidecars of folders that changed, and those elsewhere that go by them: all when `all` says so.
    pub(in crate::scan) fn settle(
        mut self,
        writer: &mut Writer,
        origin: &OriginId,
        all: bool,
    ) -> Result<(), ScanError> {
        self.ask(writer, origin)?;
        let many = self.touched.len() > MANY_FOLDERS;
        for orphans in &self.orphans {
            let related = |f: &OriginPath| f.is_within(&orphans.folder) || orphans.folder.is_within(f);
            if orphans.changed || all || many || self.touched.iter().any(related) {
                place_orphans(&mut self.music, writer, origin, orphans)?;
            }
        }
        Ok(())
    }

    /// Looks up the folders that the pass did not see whole.
    fn ask(&mut self, writer: &mut Writer, origin: &OriginId) -> Result<(), ScanError> {
        for folder in std::mem::take(&mut self.resettle) {
            let (tracks, sidecars) = writer.folder(origin, &folder)?;
            self.orphans.retain(|orphans| orphans.folder != folder);
            let Some(home) = arrange::home_of(&tracks) else {
                if !sidecars.is_empty() {
                    self.orphans.push(Orphans { folder, sidecars, changed: true });
                }
                continue;
            };
            for (id, path) in sidecars {
                if let Some(shown) = arrange::beside(&home, &path, &tracks) {
                    writer.place(id, shown);
                }
            }
            self.music.insert(folder.clone(), Some(home));
            self.touched.insert(folder);
        }
        Ok(())
    }

    /// As [`Folders::settle`], after a pass that saw only some folders: what is around them is looked up. Tells
    /// whether all that may go by them was.
    pub(in crate::scan) fn settle_part(
        mut self,
        writer: &mut Writer,
        origin: &OriginId,
    ) -> Result<bool, ScanError> {
        let folders = self.resettle.clone();
        self.ask(writer, origin)?;
        let tops: Vec<OriginPath> = folders.iter().map(OriginPath::parent).collect();
        let mut whole = folders.len() <= MANY_FOLDERS;
        for top in few_paths(tops, FEW_TOPS) {
            if whole && !self.look_around(writer, origin, &top, &folders)? {
                // Where there is so much, what is below the folders themselves and just above them may be all.
                for folder in folders.iter().filter(|folder| folder.is_within(&top)) {
                    whole = whole && self.look_around(writer, origin, folder, &folders)?;
                }
            }
        }
        let mut done = HashSet::new();
        for orphans in self.orphans.iter().filter(|orphans| done.insert(orphans.folder.clone())) {
            place_orphans(&mut self.music, writer, origin, orphans)?;
        }
        Ok(whole)
    }

    /// Looks up what is below the folder `top`, for the changed `folders` there are, and the folders above it. Tells
    /// whether that was all; where too much is below it, nothing is taken in.
    fn look_around(
        &mut self,
        writer: &mut Writer,
        origin: &OriginId,
        top: &OriginPath,
        folders: &BTreeSet<OriginPath>,
    ) -> Result<bool, ScanError> {
        let near = writer.files(&FileQuery::Under(origin.clone(), top.clone()), NEARBY)?;
        if near.next.is_some() {
            return Ok(false);
        }
        let mut found: BTreeMap<OriginPath, (bool, Vec<(FileId, OriginPath)>)> = BTreeMap::new();
        for file in near.files.into_iter().filter(|file| file.state == FileState::Present) {
            let (music, sidecars) = found.entry(file.path.parent()).or_default();
            match file.kind {
                FileKind::Audio => *music = true,
                FileKind::Sidecar => sidecars.push((file.id, file.path)),
                FileKind::Unparsed | FileKind::Other => {}
            }
        }
        for (at, (music, sidecars)) in found {
            let related = |folder: &OriginPath| at.is_within(folder) || folder.is_within(&at);
            if music {
                self.music.insert_unknown(at);
            } else if !sidecars.is_empty() && folders.iter().any(related) {
                self.orphans.push(Orphans { folder: at, sidecars, changed: true });
            }
        }
        let mut whole = true;
        let mut above = top.clone();
        while !above.is_root() {
            above = above.parent();
            let (tracks, sidecars) = writer.folder(origin, &above)?;
            whole &= sidecars.is_empty() || !tracks.is_empty();
            self.music.insert_unknown(above.clone());
        }
        Ok(whole)
    }
}

fn place_orphans(
    music: &mut MusicFolders,
    writer: &mut Writer,
    origin: &OriginId,
    orphans: &Orphans,
) -> Result<(), ScanError> {
    for (id, path) in &orphans.sidecars {
        let load = |folder: &OriginPath| -> Result<_, ScanError> {
            Ok(arrange::home_of(&writer.folder(origin, folder)?.0))
        };
        match music.place_orphan(path, load)? {
            Some(shown) => writer.place(*id, shown),
            None => writer.push(Op::Unplace(*id)),
        }
    }
    Ok(())
}
