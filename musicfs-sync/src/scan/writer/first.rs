//! Who has a name when several origins are scanned for the first time.
//!
//! Of two files that want one name, the one that came first has it. Of origins that came at once, the files of the
//! preferred are to have it, however slow it is: until such an origin was listed whole, each of its files takes its
//! name from files of less preferred origins that were not here before it, in the very batch that shows it. So there
//! is nothing to be remembered of a pass that is interrupted but that it was the first (`record.rs`).

use std::collections::{HashMap, HashSet};

use musicfs_core::{ContentKey, FileId, FileMeta, MetaDb, Op, OriginId, ROOT_INODE, UnixNanos, VirtualPath};

use super::Writer;
use crate::scan::ScanError;

/// Whose files take names, and from whom.
pub(super) struct First {
    origin: OriginId,
    rivals: HashSet<OriginId>,
}

impl Writer {
    /// Has files of an origin take their names from those of less preferred origins, but for such as were here before.
    pub(in crate::scan) fn take_names_from(
        &mut self,
        less_preferred: Vec<OriginId>,
        origin: &OriginId,
    ) -> Result<(), ScanError> {
        let since: HashMap<OriginId, UnixNanos> = self.library.origins()?.into_iter().collect();
        let Some(ours) = since.get(origin) else { return Ok(()) };
        let came_after = |id: &OriginId| since.get(id).is_none_or(|theirs| theirs >= ours);
        let rivals: HashSet<OriginId> = less_preferred.into_iter().filter(came_after).collect();
        self.first = (!rivals.is_empty()).then(|| First { origin: origin.clone(), rivals });
        Ok(())
    }

    /// Adds to a batch what has its files take their names.
    pub(super) fn take_names(&self, ops: &mut Vec<Op>) -> Result<(), ScanError> {
        let Some(first) = &self.first else { return Ok(()) };
        let put = |op: &Op| match op {
            Op::PutFile(file) => Some((file.id, (file.origin.clone(), file.content_key()))),
            _ => None,
        };
        let put: HashMap<FileId, (OriginId, Option<ContentKey>)> = ops.iter().filter_map(put).collect();
        let mut taken: HashSet<VirtualPath> = HashSet::new();
        let mut displaced = Vec::new();
        let mut kept = Vec::with_capacity(ops.len());
        for op in ops.drain(..) {
            // One that took a number before the catalogue was made anew keeps it.
            if let Op::Place(place) = &op
                && place.prefer < 2
                && !taken.contains(&place.path)
                && let Some((_, content)) = match put.get(&place.id) {
                    Some(file) => Some(file.clone()),
                    None => self.db.file(place.id)?.map(|file| (file.origin.clone(), file.content_key())),
                }
                .filter(|(origin, _)| *origin == first.origin)
            {
                for holder in self.holders(&place.path, content, &first.rivals)? {
                    let wanted = self.wanted(&holder).unwrap_or_else(|| place.path.clone());
                    kept.push(Op::Unplace(holder.id));
                    displaced.push(Op::Place(self.placement(holder.id, wanted)));
                    taken.insert(place.path.clone());
                }
            }
            kept.push(op);
        }
        kept.extend(displaced);
        *ops = kept;
        Ok(())
    }

    /// Returns the files that are shown at a path, the one that leads last; none when one of them belongs to another
    /// than a rival, or when they are copies of what is to be shown there.
    fn holders(
        &self,
        path: &VirtualPath,
        content: Option<ContentKey>,
        rivals: &HashSet<OriginId>,
    ) -> Result<Vec<FileMeta>, ScanError> {
        let mut at = ROOT_INODE;
        for name in path.names() {
            let Some(node) = self.db.lookup(at, name.as_bytes())? else { return Ok(Vec::new()) };
            at = node.ino;
        }
        let Some(id) = at.file_id() else { return Ok(Vec::new()) };
        let mut copies = self.db.copies(id)?;
        copies.reverse();
        let is_copy = |file: &FileMeta| content.is_some() && file.content_key() == content;
        let give_way = copies.iter().all(|file| rivals.contains(&file.origin) && !is_copy(file));
        Ok(if give_way { copies } else { Vec::new() })
    }
}
