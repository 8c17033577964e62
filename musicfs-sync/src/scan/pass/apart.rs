//! Files that are not what they were: what is at their paths now is recorded apart from them, and not shown, until all
//! that was listed tells which file it is (`moves.rs`).
//!
//! It is recorded, so that a pass that is killed reads nothing twice: as a file at the same path that waits for its
//! first read, which no pass takes for gone.

use std::collections::{HashMap, HashSet};

use musicfs_core::{FileId, FileMeta, FileState, MetaDb, OriginEntry, OriginPath};

use super::Pass;
use crate::scan::ScanError;
use crate::scan::delta::Listed;
use crate::scan::moves::Trace;
use crate::scan::parse::Done;
use crate::scan::record::MAX_ARRIVED;
use crate::scan::writer::MAX_SALT;
use crate::tags::Parts;

/// Bytes that were read of such files and are held until it is known which they are: what is beyond is not kept.
const MOST: usize = 16 << 20;

/// What is recorded apart.
#[derive(Default)]
pub(super) struct Apart {
    /// What each known file was, and the id that what is at its path is recorded under.
    files: HashMap<FileId, (Trace, FileId)>,
    /// What was read of it, by that id.
    parts: HashMap<FileId, Parts>,
    bytes: usize,
    /// What a pass that came to no end had recorded.
    earlier: HashMap<OriginPath, FileMeta>,
}

impl Apart {
    /// Takes over what an earlier pass had recorded apart, as far as it is still there.
    pub(super) fn load(db: &dyn MetaDb, recorded: &[FileId]) -> Result<Self, ScanError> {
        let mut apart = Self::default();
        for id in recorded {
            let waits = |file: &FileMeta| matches!(file.state, FileState::Pending | FileState::Excluded);
            let file = db.file(*id)?.filter(waits);
            apart.earlier.extend(file.map(|file| (file.path.clone(), file)));
        }
        Ok(apart)
    }

    /// Returns what is recorded of a listed file already, under the id that it is to have if it is new.
    pub(super) fn earlier(&self, entry: &OriginEntry) -> Option<&FileMeta> {
        self.earlier.get(&entry.path).filter(|file| file.version.is_same(&entry.version))
    }

    /// Returns the paths of what an earlier pass had recorded.
    pub(super) fn places(&self) -> impl Iterator<Item = &OriginPath> {
        self.earlier.keys()
    }

    /// Returns the ids that anything is or was recorded under.
    pub(super) fn recorded(&self) -> Vec<FileId> {
        let earlier: HashSet<FileId> = self.earlier.values().map(|file| file.id).collect();
        let mut ids: Vec<FileId> = self.files.values().map(|(_, id)| *id).chain(earlier).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the files, each as what it was, with the id that what is in its place is recorded under.
    pub(super) fn files(&self) -> Vec<(Trace, FileId)> {
        self.files.values().cloned().collect()
    }

    /// Hands over what was read of a file.
    pub(super) fn take_parts(&mut self, id: FileId) -> Option<Parts> {
        self.parts.remove(&id)
    }
}

impl Pass<'_> {
    /// Looks up the known files that these are not any more, and an id for what is in the place of each. What is new to
    /// a part may have the id of a file outside of it that was in its place once, and gets another.
    pub(super) async fn set_apart(
        &mut self,
        mut done: Vec<Done>,
    ) -> Result<(Vec<Done>, HashMap<FileId, (Trace, FileId)>), ScanError> {
        let mut changed = HashMap::new();
        for done in &done {
            if let Done::File(file, Listed::Changed, _) = done {
                let elsewhere =
                    self.detector.may_have_moved(&file.version) || self.detector.is_lifted(&file.path);
                changed.insert(file.id, elsewhere);
            }
        }
        let is_new = |done: &Done| matches!(done, Done::File(_, Listed::New, _));
        let may_clash = self.options.paths.is_some() && done.iter().any(is_new);
        if self.apart.len() >= MAX_ARRIVED {
            changed.clear();
        }
        if changed.is_empty() && !may_clash {
            return Ok((done, HashMap::new()));
        }
        let earlier: HashSet<FileId> = self.apart.earlier.values().map(|file| file.id).collect();
        self.write(move |writer| {
            let db = &**writer.db();
            let mut others = HashMap::new();
            for done in &mut done {
                if let Done::File(new, Listed::New, _) = done
                    && may_clash
                    && db.file(new.id)?.is_some_and(|other| other.path != new.path)
                    && let Some(id) = free_id(db, new, &earlier)?
                {
                    new.id = id;
                }
                let Done::File(new, Listed::Changed, _) = done else { continue };
                let Some(elsewhere) = changed.get(&new.id) else { continue };
                let Some(old) = db.file(new.id)? else { continue };
                if is_other(&old, new, *elsewhere)
                    && let Some(id) = free_id(db, new, &earlier)?
                {
                    others.insert(new.id, (Trace::of(&old), id));
                }
            }
            Ok((done, others))
        })
        .await
    }

    /// Records what is in the place of a known file apart from it.
    pub(super) fn record_apart(
        &mut self,
        (old, id): (Trace, FileId),
        file: FileMeta,
        parts: Parts,
    ) -> Result<(), ScanError> {
        self.report.problems += u64::from(file.problem.is_some());
        self.folders.resettle.insert(file.path.parent());
        self.apart.files.entry(file.id).or_insert((old, id));
        let bytes: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
        if bytes > 0 && self.apart.bytes + bytes <= MOST {
            self.apart.bytes += bytes;
            self.apart.parts.insert(id, parts);
        }
        self.writer()?.record(Box::new(FileMeta { id, state: FileState::Pending, ..file }));
        Ok(())
    }
}

/// Tells whether what is at the path of a known file may be another, and is not just that one with other tags. With
/// `elsewhere` some known file had its size and time, or all of its folder may be elsewhere. One that seemed unchanged
/// and was read all the same is another when its audio is.
fn is_other(old: &FileMeta, new: &FileMeta, elsewhere: bool) -> bool {
    let [was, is] = [old, new].map(|file| file.audio.as_ref().and_then(|audio| audio.identity.as_ref()));
    let both = was.is_some() && is.is_some();
    let same_audio = both && was == is && old.format == new.format;
    let same_version = old.version.is_same(&new.version);
    let is_other = if same_version { both && !same_audio } else { !same_audio || elsewhere };
    old.path != new.path || is_other
}

/// Returns an id of a file's path that no other file has. What an `earlier` pass recorded there may have it.
fn free_id(db: &dyn MetaDb, file: &FileMeta, earlier: &HashSet<FileId>) -> Result<Option<FileId>, ScanError> {
    for id in (0..=MAX_SALT).map(|salt| FileId::derive(&file.origin, &file.path, salt)) {
        let free = match db.file(id)? {
            None => true,
            Some(other) => {
                let waits = other.state == FileState::Pending || earlier.contains(&id);
                waits && other.path == file.path && other.origin == file.origin
            }
        };
        if free && id != file.id {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::{AudioIdentity, AudioMeta, ChunkHash, UnixNanos};
    use musicfs_test_utils::make_file_meta;

    fn file(path: &str, audio: &[u8], mtime: i64) -> FileMeta {
        let mut file = make_file_meta(1, path, 10);
        file.version.mtime = Some(UnixNanos(mtime));
        let identity = AudioIdentity::Sampled { bytes: 9, hash: ChunkHash::of(audio) };
        file.audio = Some(Box::new(AudioMeta { identity: Some(identity), ..AudioMeta::default() }));
        file
    }

    #[test]
    fn file_with_other_audio_or_at_another_path_is_another_and_one_with_other_tags_is_not() {
        let old = file("a.flac", b"a", 1);
        assert!(is_other(&old, &file("a.flac", b"b", 2), false));
        assert!(!is_other(&old, &file("a.flac", b"a", 2), false), "other tags");
        assert!(
            is_other(&old, &file("a.flac", b"a", 2), true),
            "a copy with other tags may have taken its place"
        );
        assert!(is_other(&old, &file("a.flac", b"b", 1), false), "whatever its version says");
        assert!(!is_other(&old, &file("a.flac", b"a", 1), true), "nothing has changed");
        assert!(is_other(&old, &file("b.flac", b"a", 1), false));
        let unknown = FileMeta { audio: None, ..file("a.flac", b"", 2) };
        assert!(is_other(&FileMeta { audio: None, ..old.clone() }, &unknown, false));
        assert!(
            !is_other(&old, &FileMeta { version: old.version.clone(), ..unknown }, false),
            "nobody can tell"
        );
    }
}
