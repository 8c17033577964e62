//! The folder whose entries are arriving: what goes by all of them waits for the last.

use musicfs_core::{FileId, OriginPath};

use super::Pass;
use super::sidecars::Orphans;
use crate::arrange::{self, FolderTrack};

/// The folder whose entries are arriving.
#[derive(Default)]
pub(super) struct OpenFolder {
    pub(super) path: Option<OriginPath>,
    pub(super) tracks: Vec<FolderTrack>,
    pub(super) sidecars: Vec<(FileId, OriginPath)>,
    pub(super) has_known_music: bool,
    pub(super) changed: bool,
}

impl Pass<'_> {
    /// Goes on to a folder; the one before is then known whole.
    pub(super) fn enter(&mut self, folder: OriginPath) -> &mut OpenFolder {
        if self.open.path.as_ref() != Some(&folder) {
            self.close_folder();
            self.open.path = Some(folder);
        }
        &mut self.open
    }

    pub(super) fn close_folder(&mut self) {
        let OpenFolder { path, tracks, sidecars, has_known_music, changed } = std::mem::take(&mut self.open);
        let Some(folder) = path else { return };
        let folders = &mut self.folders;
        if self.options.paths.is_some() {
            // Only a part of it may have been listed.
            if changed {
                folders.resettle.insert(folder);
            }
        } else if has_known_music {
            folders.music.insert(folder.clone(), None);
            if changed {
                folders.touched.insert(folder.clone());
                folders.resettle.insert(folder);
            }
        } else if let Some(home) = arrange::home_of(&tracks) {
            if let Some(writer) = &mut self.writer {
                for (id, path) in &sidecars {
                    if let Some(shown) = arrange::beside(&home, path, &tracks) {
                        writer.place(*id, shown);
                    }
                }
            }
            folders.music.insert(folder.clone(), Some(home));
            folders.touched.insert(folder);
        } else if !sidecars.is_empty() {
            folders.orphans.push(Orphans { folder, sidecars, changed });
        }
    }
}
