//! What the user does not want to see: taken out of the tree, and shown again.
//!
//! An excluded file is remembered with all that is known and cached of it, as [`FileState::Excluded`]; that it is to
//! be left out stands in the library. It needs no pass, and waits for none: one that is under way writes nothing that
//! is excluded, as every batch is compared with the library first (`writer/keep_out.rs`).

use std::collections::BTreeSet;

use musicfs_core::{
    FileKind, FileMeta, FileQuery, FileState, MetaDb, Name, Op, OriginId, OriginPath, VirtualPath,
};

use super::pass::Folders;
use super::turns::Lane;
use super::writer::{BATCH, Writer};
use super::{ScanError, Scanner, blocking};

/// A file or folder that is excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// The origin.
    pub origin: OriginId,
    /// The path there.
    pub path: OriginPath,
    /// How many files that is, as far as they are known.
    pub files: u64,
    /// Where the first of them would be shown.
    pub would_be: Option<VirtualPath>,
    /// The deepest folder of the tree that all of them would be in; itself, where it is one file.
    pub within: Option<Vec<Name>>,
}

impl Scanner {
    /// Takes files, and folders with all below, out of the tree for as long as the user says nothing else. Returns how
    /// many files that are known are excluded now and were not before.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn exclude(&self, origin: &OriginId, paths: Vec<OriginPath>) -> Result<u64, ScanError> {
        self.change_excluded(origin, paths, |writer, origin, path, folders| {
            writer.library().exclude(origin, path)?;
            let mut hidden = 0;
            each_file(writer, origin, path, |writer, file| {
                if file.state != FileState::Excluded {
                    writer.push(Op::SetState(file.id, FileState::Excluded));
                    writer.push(Op::Unplace(file.id));
                    folders.insert(file.path.parent());
                    hidden += 1;
                }
            })?;
            Ok(hidden)
        })
        .await
    }

    /// Shows files again that are excluded by just these paths, as what they were; a pass over the paths finds what
    /// became of them meanwhile. Returns how many files that are known are no longer excluded.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn include(&self, origin: &OriginId, paths: Vec<OriginPath>) -> Result<u64, ScanError> {
        self.change_excluded(origin, paths, |writer, origin, path, folders| {
            writer.library().include(origin, path)?;
            let left = writer.library().exclusions()?;
            let mut shown = 0;
            each_file(writer, origin, path, |writer, file| {
                if file.state == FileState::Excluded && left.covering(origin, &file.path).is_none() {
                    // What could not be parsed is read again.
                    let unread = file.kind == FileKind::Unparsed;
                    let state = if unread { FileState::Pending } else { FileState::Present };
                    writer.push(Op::SetState(file.id, state));
                    writer.note_discs(file);
                    if let Some(path) = writer.wanted(file) {
                        writer.place(file.id, path);
                    }
                    folders.insert(file.path.parent());
                    shown += 1;
                }
            })?;
            Ok(shown)
        })
        .await
    }

    /// Returns what is excluded.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn excluded(&self) -> Result<Vec<Excluded>, ScanError> {
        let parts = self.parts(Lane::Asked);
        blocking(move || {
            let mut writer = Writer::load(parts)?;
            let all = writer.library().exclusions()?.all();
            all.into_iter().map(|(origin, path)| describe(&mut writer, origin, path)).collect()
        })
        .await?
    }

    async fn change_excluded(
        &self,
        origin: &OriginId,
        paths: Vec<OriginPath>,
        change: impl Fn(&mut Writer, &OriginId, &OriginPath, &mut BTreeSet<OriginPath>) -> Result<u64, ScanError>
        + Send
        + 'static,
    ) -> Result<u64, ScanError> {
        let (parts, origin) = (self.parts(Lane::Asked), origin.clone());
        blocking(move || {
            let mut writer = Writer::load(parts)?;
            writer.in_turn(|writer| {
                let mut resettle = BTreeSet::new();
                let mut changed = 0;
                for path in &paths {
                    changed += change(writer, &origin, path, &mut resettle)?;
                }
                writer.flush()?;
                writer.settle_discs()?;
                Folders { resettle, ..Folders::default() }.settle_part(writer, &origin)?;
                writer.flush()?;
                Ok(changed)
            })
        })
        .await?
    }
}

/// Visits the file at a path, or those below it, and writes what that leads to.
fn each_file(
    writer: &mut Writer,
    origin: &OriginId,
    path: &OriginPath,
    mut visit: impl FnMut(&mut Writer, &FileMeta),
) -> Result<(), ScanError> {
    let db = writer.db().clone();
    let folder = FileQuery::Folder(origin.clone(), path.parent());
    let below = FileQuery::Under(origin.clone(), path.clone());
    for (query, itself) in [(folder, true), (below, false)] {
        let mut after = None;
        loop {
            let page = db.files(&query, after, BATCH)?;
            page.files
                .iter()
                .filter(|file| !itself || file.path == *path)
                .for_each(|file| visit(writer, file));
            writer.flush()?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn describe(writer: &mut Writer, origin: OriginId, path: OriginPath) -> Result<Excluded, ScanError> {
    let (mut files, mut would_be, mut within) = (0, None, None::<Vec<Name>>);
    each_file(writer, &origin, &path, |writer, file| {
        files += 1;
        let Some(wanted) = writer.wanted(file) else { return };
        let common = match within.take() {
            None => wanted.names().to_vec(),
            Some(names) => {
                let alike = names.iter().zip(wanted.names()).take_while(|(a, b)| a == b).count();
                names[..alike].to_vec()
            }
        };
        within = Some(common);
        would_be.get_or_insert(wanted);
    })?;
    Ok(Excluded { origin, path, files, would_be, within })
}
