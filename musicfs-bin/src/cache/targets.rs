//! What a path or an origin means: the pin that keeps it, and its files.

use musicfs_core::{
    Cookie, FileId, FileMeta, FileQuery, FileState, Ino, MetaDb, MetaError, NodeKind, OriginId, Pin,
    ROOT_INODE, VirtualPath,
};

/// Entries or files that are read at a time.
const PAGE: usize = 256;

/// Something that the cache is to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One file.
    File(FileId),
    /// All below a directory of the tree; the path is `None` for the root.
    Folder(Option<VirtualPath>, Ino),
    /// All of an origin.
    Origin(OriginId),
}

impl Target {
    /// Finds what is at a path of the tree; `None` when nothing is there. Blocks.
    pub(crate) fn at(db: &dyn MetaDb, path: &[u8]) -> Result<Option<Self>, MetaError> {
        let Some(node) = crate::explain::find(db, path)? else { return Ok(None) };
        if let Some(id) = node.ino.file_id() {
            return Ok(Some(Self::File(id)));
        }
        let names: Vec<&[u8]> = crate::explain::names(path).collect();
        let folder = VirtualPath::from_bytes(&names.join(&b'/')).ok();
        Ok(Some(Self::Folder(folder.filter(|_| node.ino != ROOT_INODE), node.ino)))
    }

    /// Returns the pin that keeps it, and what comes to it later; `None` for the whole tree, which is kept by
    /// pinning its origins.
    pub(crate) fn pin(&self) -> Option<Pin> {
        match self {
            Self::File(id) => Some(Pin::File(*id)),
            Self::Folder(path, _) => path.clone().map(Pin::Folder),
            Self::Origin(origin) => Some(Pin::Origin(origin.clone())),
        }
    }

    /// Visits its files, those that are gone from their origin left out. Blocks.
    pub(crate) fn for_each(&self, db: &dyn MetaDb, visit: &mut dyn FnMut(FileMeta)) -> Result<(), MetaError> {
        let mut visit = |file: FileMeta| {
            if !matches!(file.state, FileState::Missing | FileState::Excluded) {
                visit(file);
            }
        };
        match self {
            Self::File(id) => db.file(*id)?.into_iter().for_each(visit),
            Self::Folder(_, ino) => below(db, *ino, &mut visit)?,
            Self::Origin(origin) => {
                let query = FileQuery::Origin(origin.clone());
                let mut after = None;
                loop {
                    let page = db.files(&query, after, PAGE)?;
                    page.files.into_iter().filter(|file| file.shown_at.is_some()).for_each(&mut visit);
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }
}

fn below(db: &dyn MetaDb, top: Ino, visit: &mut dyn FnMut(FileMeta)) -> Result<(), MetaError> {
    let mut folders = vec![top];
    while let Some(folder) = folders.pop() {
        let mut after = Cookie::default();
        loop {
            let page = db.list(folder, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.cookie;
            for node in page {
                match (node.kind, node.ino.file_id()) {
                    (NodeKind::File, Some(id)) => db.file(id)?.into_iter().for_each(&mut *visit),
                    _ => folders.push(node.ino),
                }
            }
        }
    }
    Ok(())
}
