//! What the user does not want to see: taken out of the tree, and shown again.
//!
//! An excluded file is remembered with all that is known and cached of it, as [`FileState::Excluded`]; that it is to
//! be left out stands in the library. It needs no pass, and waits for none: one that is under way writes nothing that
//! is excluded, as every batch is compared with the library first (`writer/keep_out.rs`). The library is changed before
//! the catalogue; where that is not brought in line with it, as after a kill, the next pass does so (`delta.rs`; for what is
//! missing, a note says so).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use musicfs_core::{
    FileKind, FileMeta, FileQuery, FileState, MetaDb, Name, Op, OriginErrorKind, OriginId, OriginPath,
    VirtualPath,
};

use super::ids::Ids;
use super::pass::Folders;
use super::turns::Lane;
use super::writer::{BATCH, Writer};
use super::{ScanError, Scanner, blocking, former};
use crate::library::Library;

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
    /// many files that are known are excluded now and were not before. What is gone stays so, and is not shown.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn exclude(&self, origin: &OriginId, paths: Vec<OriginPath>) -> Result<u64, ScanError> {
        self.change_excluded(origin, paths, |writer, ids, paths, folders| {
            writer.library().exclude(ids.origin(), paths)?;
            fail::fail_point!("exclude-after-library", |_| Err(ScanError::Cancelled));
            let mut hidden = 0;
            each_file(writer, ids, paths, |writer, file| {
                match file.state {
                    FileState::Present | FileState::Pending => {
                        writer.push(Op::SetState(file.id, FileState::Excluded));
                    }
                    FileState::Missing if file.shown_at.is_some() => {}
                    FileState::Missing | FileState::Excluded => return Ok(()),
                }
                writer.push(Op::Unplace(file.id));
                folders.insert(file.path.parent());
                hidden += 1;
                Ok(())
            })?;
            Ok(hidden)
        })
        .await
    }

    /// Returns those of these paths of an origin of which nothing is known, neither there nor below, and whether the
    /// origin has anything there, where it tells.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn unknown(
        &self,
        origin: &OriginId,
        paths: Vec<OriginPath>,
    ) -> Result<Vec<(OriginPath, Option<bool>)>, ScanError> {
        let (db, library, of) = (self.db.clone(), self.library.clone(), origin.clone());
        let unknown = blocking(move || not_known(&*db, &library, &of, paths));
        let (unknown, origin) = (unknown.await??, self.origin(origin));
        let mut told = Vec::with_capacity(unknown.len());
        for path in unknown {
            let there = match &origin {
                None => None,
                Some(origin) => match origin.stat(&path).await.map_err(|error| error.kind) {
                    // That of a folder is not what can be asked for.
                    Ok(_) | Err(OriginErrorKind::Invalid) => Some(true),
                    Err(OriginErrorKind::NotFound) => Some(false),
                    Err(_) => None,
                },
            };
            told.push((path, there));
        }
        Ok(told)
    }

    /// Tells whether anything is known of one of these origins at a path or below it, be it there, gone or excluded. No
    /// origin is asked.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn knows(&self, origins: Vec<OriginId>, path: OriginPath) -> Result<bool, ScanError> {
        let (db, library) = (self.db.clone(), self.library.clone());
        let known = blocking(move || {
            for origin in &origins {
                if not_known(&*db, &library, origin, vec![path.clone()])?.is_empty() {
                    return Ok(true);
                }
            }
            Ok::<_, ScanError>(false)
        });
        known.await?
    }

    /// Shows files again that are excluded by just these paths, as what they were; a pass over the paths finds what
    /// became of them meanwhile. Returns how many files that are known are no longer excluded.
    ///
    /// # Errors
    /// [`ScanError::Meta`] or [`ScanError::Library`].
    pub async fn include(&self, origin: &OriginId, paths: Vec<OriginPath>) -> Result<u64, ScanError> {
        let grace = self.grace();
        self.change_excluded(origin, paths, move |writer, ids, paths, folders| {
            writer.push(including(ids.origin(), true));
            writer.flush()?;
            writer.library().include(ids.origin(), paths)?;
            fail::fail_point!("include-after-library", |_| Err(ScanError::Cancelled));
            let left = writer.library().exclusions()?;
            let mut shown = 0;
            each_file(writer, ids, paths, |writer, file| {
                if left.covering(ids.origin(), &file.path).is_some() {
                    return Ok(());
                }
                match file.state {
                    // What could not be parsed is read again.
                    FileState::Excluded if file.kind == FileKind::Unparsed => {
                        writer.push(Op::SetState(file.id, FileState::Pending));
                    }
                    FileState::Excluded => writer.push(Op::SetState(file.id, FileState::Present)),
                    FileState::Missing if file.shown_at.is_none() && writer.outlasts(file, grace)? => {}
                    FileState::Missing | FileState::Present | FileState::Pending => return Ok(()),
                }
                writer.note_discs(file);
                if let Some(path) = writer.wanted(file) {
                    writer.place(file.id, path);
                }
                folders.insert(file.path.parent());
                shown += 1;
                Ok(())
            })?;
            writer.push(including(ids.origin(), false));
            writer.flush()?;
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
            let mut of_origin: BTreeMap<OriginId, Vec<OriginPath>> = BTreeMap::new();
            for (origin, path) in writer.library().exclusions()?.all() {
                of_origin.entry(origin).or_default().push(path);
            }
            let mut all = Vec::new();
            for (origin, paths) in of_origin {
                let ids = Ids::load(writer.library(), &origin)?;
                for path in paths {
                    all.push(describe(&mut writer, &ids, path)?);
                }
            }
            Ok(all)
        })
        .await?
    }

    async fn change_excluded(
        &self,
        origin: &OriginId,
        paths: Vec<OriginPath>,
        change: impl FnOnce(&mut Writer, &Ids, &[OriginPath], &mut BTreeSet<OriginPath>) -> Result<u64, ScanError>
        + Send
        + 'static,
    ) -> Result<u64, ScanError> {
        let (parts, origin) = (self.parts(Lane::Asked), origin.clone());
        blocking(move || {
            let mut writer = Writer::load(parts)?;
            let ids = Ids::load(writer.library(), &origin)?;
            let mut resettle = BTreeSet::new();
            let changed = change(&mut writer, &ids, &paths, &mut resettle)?;
            writer.settle_discs()?;
            writer.in_turn(|writer| {
                Folders { resettle, ..Folders::default() }.settle_part(writer, &origin)?;
                writer.flush()
            })?;
            Ok(changed)
        })
        .await?
    }
}

/// Returns those of these paths of an origin of which nothing is known, nor was: neither there nor below.
pub(super) fn not_known(
    db: &dyn MetaDb,
    library: &Library,
    origin: &OriginId,
    paths: Vec<OriginPath>,
) -> Result<Vec<OriginPath>, ScanError> {
    let (ids, excluded) = (Ids::load(library, origin)?, library.exclusions()?);
    let mut unknown = Vec::new();
    for path in paths {
        let below = FileQuery::Under(origin.clone(), path.clone());
        if excluded.covering(origin, &path).is_none()
            && db.file(ids.of(&path))?.is_none()
            && db.files(&below, None, 1)?.files.is_empty()
            && !former::was_left(db, origin, &path)?
        {
            unknown.push(path);
        }
    }
    Ok(unknown)
}

/// Returns the change that notes that files of an origin are being included, or that they are.
fn including(origin: &OriginId, begun: bool) -> Op {
    Op::SetNote { key: note(origin).into(), value: begun.then(String::new) }
}

fn note(origin: &OriginId) -> String {
    format!("include:{origin}")
}

/// Shows missing files that are cached again, where an inclusion was cut short; passes see to what is there.
pub(super) fn complete_inclusion(
    writer: &mut Writer,
    origin: &OriginId,
    grace: Duration,
) -> Result<(), ScanError> {
    let db = writer.db().clone();
    if db.note(&note(origin))?.is_none() {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = db.files(&FileQuery::Missing, after, BATCH)?;
        for file in page.files.iter().filter(|file| file.origin == *origin && file.shown_at.is_none()) {
            // What is excluded still is kept out of every batch.
            if writer.outlasts(file, grace)?
                && let Some(path) = writer.wanted(file)
            {
                writer.note_discs(file);
                writer.place(file.id, path);
            }
        }
        writer.flush()?;
        after = page.next;
        if after.is_none() {
            writer.push(including(origin, false));
            return writer.flush();
        }
    }
}

/// Visits the files at these paths, and those below them, and writes what that leads to; others have their turns
/// between.
fn each_file(
    writer: &mut Writer,
    ids: &Ids,
    paths: &[OriginPath],
    mut visit: impl FnMut(&mut Writer, &FileMeta) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let db = writer.db().clone();
    for some in paths.chunks(BATCH) {
        writer.in_turn(|writer| {
            for path in some {
                let at = db.file(ids.of(path))?;
                if let Some(file) = at.filter(|file| file.origin == *ids.origin() && file.path == *path) {
                    visit(writer, &file)?;
                }
            }
            writer.flush()
        })?;
    }
    for path in paths {
        let below = FileQuery::Under(ids.origin().clone(), path.clone());
        let mut after = None;
        loop {
            after = writer.in_turn(|writer| {
                let page = db.files(&below, after, BATCH)?;
                page.files.iter().try_for_each(|file| visit(writer, file))?;
                writer.flush()?;
                Ok(page.next)
            })?;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

fn describe(writer: &mut Writer, ids: &Ids, path: OriginPath) -> Result<Excluded, ScanError> {
    let (mut files, mut would_be, mut within) = (0, None, None::<Vec<Name>>);
    each_file(writer, ids, std::slice::from_ref(&path), |writer, file| {
        files += 1;
        let Some(wanted) = writer.wanted(file) else { return Ok(()) };
        let common = match within.take() {
            None => wanted.names().to_vec(),
            Some(names) => {
                let alike = names.iter().zip(wanted.names()).take_while(|(a, b)| a == b).count();
                names[..alike].to_vec()
            }
        };
        within = Some(common);
        would_be.get_or_insert(wanted);
        Ok(())
    })?;
    Ok(Excluded { origin: ids.origin().clone(), path, files, would_be, within })
}
