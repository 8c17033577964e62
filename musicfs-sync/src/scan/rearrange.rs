//! Arranging the whole tree anew, from the catalogue alone.

use std::collections::BTreeMap;

use musicfs_core::{FileKind, FileMeta, FileQuery, FileState, MetaDb, Op, OriginId, OriginPath, Template};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::turns::Lane;
use super::writer::{BATCH, Writer};
use super::{ScanError, Scanner, blocking};
use crate::arrange::{self, FolderTrack, MusicFolders};

/// The note that holds the template which the tree was arranged by.
const NOTE: &str = "template";
/// Raised when the same template arranges differently than before, so that every tree is arranged anew.
const LAYOUT_VERSION: u32 = 2;

/// Returns what notes in a catalogue that its files are where a template has them, which a mount then believes: for
/// who fills a catalogue without a scan.
pub fn arranged_by(template: &Template) -> Op {
    Op::SetNote { key: NOTE.into(), value: Some(noted(template)) }
}

fn noted(template: &Template) -> String {
    format!("{LAYOUT_VERSION} {template}")
}

/// Tells whether the tree was arranged by another template.
pub(super) async fn is_due(scanner: &Scanner) -> Result<bool, ScanError> {
    let parts = scanner.parts(Lane::Whole);
    blocking(move || Ok(parts.db.note(NOTE)?.as_deref() != Some(&noted(&parts.template)))).await?
}

/// Arranges the tree anew if it was arranged by another template; the caller sees to it that no pass is under way.
pub(super) async fn run(scanner: &Scanner, cancel: &CancellationToken) -> Result<bool, ScanError> {
    let parts = scanner.parts(Lane::Whole);
    let (progress, cancel) = (scanner.progress.clone(), cancel.clone());
    blocking(move || {
        let now = noted(&parts.template);
        let db = parts.db.clone();
        let before = db.note(NOTE)?;
        if before.as_deref() == Some(&now) {
            return Ok(false);
        }
        // Rows that an earlier version wrote lack what follows from the rest of them.
        let rows = match before {
            Some(before) if before.starts_with(&format!("{LAYOUT_VERSION} ")) => Rows::Whole,
            _ => Rows::ToRenew,
        };
        let mut writer = Writer::load(parts)?;
        let looked_at = |files| progress.send_modify(|p| *p.arranging.get_or_insert_default() += files);
        looked_at(0);
        let folders = place_music(&mut writer, &*db, rows, &cancel, looked_at)?;
        for (origin, folders) in &folders {
            place_sidecars(&mut writer, &*db, origin, folders, &cancel)?;
        }
        writer.push(arranged_by(writer.template()));
        writer.flush()?;
        info!(template = %writer.template(), "tree arranged");
        Ok(true)
    })
    .await?
}

/// Places all music anew, from what the catalogue has of it, and the sidecars of one origin: what else passes over
/// other origins are at work on meanwhile they see to themselves.
pub(super) fn place_again(
    writer: &mut Writer,
    origin: &OriginId,
    cancel: &CancellationToken,
) -> Result<(), ScanError> {
    let db = writer.db().clone();
    let folders = place_music(writer, &*db, Rows::Whole, cancel, |_| {})?;
    match folders.get(origin) {
        Some(folders) => place_sidecars(writer, &*db, origin, folders, cancel),
        None => Ok(()),
    }
}

/// How rows are as they are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// As this version writes them.
    Whole,
    /// They are to be written again.
    ToRenew,
}

/// The folders of each origin, with the tracks in them.
type Folders = BTreeMap<OriginId, BTreeMap<OriginPath, Vec<FolderTrack>>>;

/// Places all music, and returns its folders.
fn place_music(
    writer: &mut Writer,
    db: &dyn MetaDb,
    rows: Rows,
    cancel: &CancellationToken,
    mut looked_at: impl FnMut(u64),
) -> Result<Folders, ScanError> {
    let mut folders = Folders::new();
    let mut after = None;
    loop {
        if cancel.is_cancelled() {
            return Err(ScanError::Cancelled);
        }
        // What is placed is what was read: nobody else writes between.
        after = writer.in_turn(|writer| {
            let page = db.files(&FileQuery::All, after, BATCH)?;
            looked_at(page.files.len() as u64);
            for file in page.files.iter().filter(|file| file.state == FileState::Present) {
                if rows == Rows::ToRenew {
                    writer.push(Op::PutFile(Box::new(file.clone())));
                }
                let Some(wanted) = writer.wanted(file) else { continue };
                writer.place(file.id, wanted.clone());
                if file.kind == FileKind::Audio {
                    let folders = folders.entry(file.origin.clone()).or_default();
                    let folder = folders.entry(file.path.parent()).or_default();
                    folder.push(FolderTrack { path: file.path.clone(), wanted });
                }
            }
            writer.flush()?;
            Ok(page.next)
        })?;
        if after.is_none() {
            return Ok(folders);
        }
    }
}

/// Places the sidecars of an origin by its folders with music.
fn place_sidecars(
    writer: &mut Writer,
    db: &dyn MetaDb,
    origin: &OriginId,
    folders: &BTreeMap<OriginPath, Vec<FolderTrack>>,
    cancel: &CancellationToken,
) -> Result<(), ScanError> {
    let mut music = MusicFolders::default();
    for (folder, tracks) in folders {
        music.insert(folder.clone(), arrange::home_of(tracks));
    }
    let mut after = None;
    loop {
        if cancel.is_cancelled() {
            return Err(ScanError::Cancelled);
        }
        let page = db.files(&FileQuery::Origin(origin.clone()), after, BATCH)?;
        let sidecar = |f: &&FileMeta| f.kind == FileKind::Sidecar && f.state == FileState::Present;
        for file in page.files.iter().filter(sidecar) {
            let own = folders.get(&file.path.parent()).and_then(|t| Some((arrange::home_of(t)?, t)));
            let shown = match own {
                Some((home, tracks)) => arrange::beside(&home, &file.path, tracks),
                None => music.place_orphan(&file.path, |_| Ok::<_, ScanError>(None))?,
            };
            match shown {
                Some(path) => writer.place(file.id, path),
                None => writer.push(Op::Unplace(file.id)),
            }
        }
        writer.flush()?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
