//! Short ways to what tests need.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use musicfs_cas::{CasConfig, CasStore};
use musicfs_core::{
    AudioMeta, Codec, Cookie, FileId, FileKind, FileMeta, FileState, FileVersion, Format, Ino, MetaDb,
    NodeKind, OriginId, OriginPath, Placement, ROOT_INODE, Shown, UnixNanos, VirtualPath, VirtualTree,
};
use parking_lot::RwLock;

/// Makes a parsed FLAC file on the origin `test`, at the same path there as in the tree.
///
/// # Panics
/// When the id is out of range or the path not legal.
pub fn make_file_meta(id: i64, vpath: &str, size: u64) -> FileMeta {
    let shown_at = VirtualPath::from_text(vpath).expect("a legal path");
    let path = OriginPath::new(shown_at.to_bytes()).expect("a path that an origin can have");
    FileMeta {
        id: FileId::from_raw(id).expect("an id in the range of ids"),
        origin: OriginId::from("test"),
        path,
        version: FileVersion { size, mtime: Some(UnixNanos::from_parts(1_500_000_000, id)), etag: None },
        kind: FileKind::Audio,
        state: FileState::Present,
        format: Some(Format::Flac),
        audio: Some(Box::new(AudioMeta { codec: Some(Codec::Flac), ..AudioMeta::default() })),
        problem: None,
        shown_at: Some(shown_at),
    }
}

/// Makes the tags of a track.
pub fn make_audio_meta(artist: &str, album: &str, title: &str) -> AudioMeta {
    AudioMeta {
        title: Some(title.to_owned()),
        artists: vec![artist.to_owned()],
        album: Some(album.to_owned()),
        codec: Some(Codec::Flac),
        sample_rate: 44_100,
        channels: 2,
        bit_depth: 16,
        duration_ms: 180_000,
        ..AudioMeta::default()
    }
}

/// Opens a chunk store in the folder `chunks` below `dir`.
///
/// # Panics
/// When it cannot be opened.
pub async fn setup_test_cas(dir: &Path) -> Arc<CasStore> {
    let opened = CasStore::open(CasConfig::new(dir.join("chunks"))).await;
    Arc::new(opened.expect("a chunk store in a folder of the test's own"))
}

/// Returns every file of the tree by its path, with its inode.
///
/// # Panics
/// When the catalogue cannot be read, or two files are at one path.
pub fn shown_files(db: &dyn MetaDb) -> BTreeMap<String, Ino> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![(String::new(), ROOT_INODE)];
    while let Some((path, dir)) = dirs.pop() {
        for node in db.list(dir, Cookie(0), usize::MAX >> 1).expect("a catalogue that can be read") {
            let path = format!("{path}/{}", node.name.expect("a name, as all but the root have one"));
            match node.kind {
                NodeKind::Dir => dirs.push((path, node.ino)),
                NodeKind::File => {
                    assert!(!files.contains_key(&path), "two files are at {path}");
                    files.insert(path, node.ino);
                }
            }
        }
    }
    files
}

/// Makes a tree of the files that say where they are shown.
pub fn setup_test_tree(files: &[FileMeta]) -> Arc<RwLock<VirtualTree>> {
    let mut tree = VirtualTree::new();
    for file in files {
        if let Some(path) = &file.shown_at {
            let placement = Placement { id: file.id, path: path.clone(), prefer: 0 };
            tree.place(&placement, Shown::of(file, 0), UnixNanos(0));
        }
    }
    Arc::new(RwLock::new(tree))
}

#[cfg(test)]
mod tests {
    use super::*;
    use musicfs_core::ROOT_INODE;

    #[test]
    fn tree_shows_the_files_where_they_say() {
        let files = [make_file_meta(1, "/A/x.flac", 10), make_file_meta(2, "A/y.flac", 20)];
        let tree = setup_test_tree(&files);
        let tree = tree.read();
        let folder = tree.lookup(ROOT_INODE, b"A").unwrap().ino;
        assert_eq!(tree.lookup(folder, b"y.flac").unwrap().size, 20);
        assert_eq!(tree.path_of(files[0].id.ino()), files[0].shown_at);
    }

    #[tokio::test]
    async fn test_cas_keeps_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = setup_test_cas(dir.path()).await;
        let hash = store.put(b"x").await.unwrap();
        assert!(store.chunk_path(&hash).starts_with(dir.path().join("chunks")));
    }
}
