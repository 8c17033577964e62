//! Where files belong in the tree: pure decisions.
//!
//! A track's place follows from its tags; a sidecar's from the tracks around it: beside the tracks of its own
//! folder, else of the folders below (a cover above `CD1` and `CD2`), else, with its subfolders, in the album of
//! the nearest folder above (`Scans/back.jpg`). A sidecar with no music around it is not shown.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use musicfs_core::layout::{self, LayoutInput};
use musicfs_core::{FileKind, FileMeta, Name, OriginPath, Template, VirtualPath};

use crate::tags::{self, SidecarKind};

/// How many folders below a sidecar's are looked at to find the directory that they have in common.
const MAX_BELOW: usize = 64;

/// Returns where a track, or a file that could not be parsed, wants to be shown; `None` for other kinds.
pub(crate) fn wanted(template: &Template, file: &FileMeta, multi_disc: bool) -> Option<VirtualPath> {
    match file.kind {
        FileKind::Audio => {
            let audio = file.audio.as_deref()?;
            let extension = layout::extension_for(&file.path, file.format?, audio.codec);
            let (path, origin) = (&file.path, &file.origin);
            Some(layout::render(
                template,
                &LayoutInput { audio, path, origin, extension: &extension, multi_disc },
            ))
        }
        FileKind::Unparsed => Some(layout::unsorted(&file.path)),
        FileKind::Sidecar | FileKind::Other => None,
    }
}

/// The directory in the tree that holds most of a folder's tracks; `None` for the root of the tree.
pub(crate) type Home = Arc<[Name]>;

/// A track of a folder, as far as its sidecars care.
#[derive(Clone, Debug)]
pub(crate) struct FolderTrack {
    /// Its path on the origin.
    pub(crate) path: OriginPath,
    /// Where it wants to be shown.
    pub(crate) wanted: VirtualPath,
}

/// Returns the directory that most tracks want to be in; of several, the first by name.
pub(crate) fn home_of(tracks: &[FolderTrack]) -> Option<Home> {
    let mut counts: HashMap<&[Name], usize> = HashMap::new();
    for track in tracks {
        *counts.entry(track.wanted.dirs()).or_default() += 1;
    }
    let best = counts.into_iter().max_by(|(a, n), (b, m)| n.cmp(m).then_with(|| b.cmp(a)))?;
    Some(best.0.into())
}

/// Returns where a sidecar beside `tracks` is shown. Lyrics take the name of their track, by which players find
/// them.
pub(crate) fn beside(home: &Home, sidecar: &OriginPath, tracks: &[FolderTrack]) -> Option<VirtualPath> {
    let (stem, extension) = sidecar.stem_and_extension();
    let track = (tags::sidecar_kind(sidecar) == Some(SidecarKind::Lyrics))
        .then(|| tracks.iter().find(|track| track.path.stem_and_extension().0 == stem))
        .flatten();
    if let (Some(track), Some(extension)) = (track, extension) {
        let leaf = OriginPath::new(track.wanted.leaf()).ok()?;
        let mut name = leaf.stem_and_extension().0.to_vec();
        name.push(b'.');
        name.extend_from_slice(extension);
        return Some(track.wanted.sibling(Name::from_bytes(&name)));
    }
    under(home, [sidecar.file_name()])
}

/// The folders of one origin that hold music, with where their music is shown.
#[derive(Debug, Default)]
pub(crate) struct MusicFolders {
    homes: BTreeMap<OriginPath, Option<Home>>,
}

impl MusicFolders {
    /// Records a folder; `None` when its home has not been looked up.
    pub(crate) fn insert(&mut self, folder: OriginPath, home: Option<Home>) {
        self.homes.insert(folder, home);
    }

    /// Records a folder that may hold music, unless it is known already.
    pub(crate) fn insert_unknown(&mut self, folder: OriginPath) {
        self.homes.entry(folder).or_default();
    }

    /// Returns where a sidecar is shown whose own folder holds no music. `load` looks up the home of a folder that
    /// was recorded without.
    pub(crate) fn place_orphan<E>(
        &mut self,
        sidecar: &OriginPath,
        mut load: impl FnMut(&OriginPath) -> Result<Option<Home>, E>,
    ) -> Result<Option<VirtualPath>, E> {
        let folder = sidecar.parent();
        if let Some(home) = self.common_home_below(&folder, &mut load)? {
            return Ok(under(&home, [sidecar.file_name()]));
        }
        let mut above = folder;
        while !above.is_root() {
            above = above.parent();
            if let Some(home) = self.home(&above, &mut load)? {
                let depth = above.components().count();
                return Ok(under(&home, sidecar.components().skip(depth)));
            }
        }
        Ok(None)
    }

    /// The directory that the music below `folder` has in common, unless that is the root of the tree.
    fn common_home_below<E>(
        &mut self,
        folder: &OriginPath,
        load: &mut impl FnMut(&OriginPath) -> Result<Option<Home>, E>,
    ) -> Result<Option<Home>, E> {
        let below: Vec<OriginPath> = self
            .homes
            .range::<OriginPath, _>((Bound::Excluded(folder), Bound::Unbounded))
            .map(|(path, _)| path)
            // What only begins with the folder's name (`Album 2`) sorts in between.
            .take_while(|path| path.as_bytes().starts_with(folder.as_bytes()))
            .filter(|path| path.is_within(folder))
            .take(MAX_BELOW)
            .cloned()
            .collect();
        let mut common: Option<Vec<Name>> = None;
        for path in &below {
            let Some(home) = self.home(path, load)? else { continue };
            common = Some(match common {
                None => home.to_vec(),
                Some(common) => {
                    common.iter().zip(&*home).take_while(|(a, b)| a == b).map(|(a, _)| a.clone()).collect()
                }
            });
        }
        Ok(common.filter(|names| !names.is_empty()).map(Into::into))
    }

    fn home<E>(
        &mut self,
        folder: &OriginPath,
        load: &mut impl FnMut(&OriginPath) -> Result<Option<Home>, E>,
    ) -> Result<Option<Home>, E> {
        match self.homes.get_mut(folder) {
            None => Ok(None),
            Some(Some(home)) => Ok(Some(home.clone())),
            Some(unknown) => {
                let home = load(folder)?;
                unknown.clone_from(&home);
                Ok(home)
            }
        }
    }
}

fn under<'a>(home: &Home, names: impl IntoIterator<Item = &'a [u8]>) -> Option<VirtualPath> {
    VirtualPath::new(home.iter().cloned().chain(names.into_iter().map(Name::from_bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text).unwrap()
    }

    fn track(origin: &str, wanted: &str) -> FolderTrack {
        FolderTrack { path: path(origin), wanted: VirtualPath::from_text(wanted).unwrap() }
    }

    fn home(text: &str) -> Home {
        VirtualPath::from_text(text).unwrap().names().into()
    }

    fn orphan(folders: &[(&str, Option<&str>)], sidecar: &str) -> Option<String> {
        let mut map = MusicFolders::default();
        for (folder, shown) in folders {
            map.insert(path(folder), shown.map(home));
        }
        let load = |folder: &OriginPath| Ok::<_, Infallible>(Some(home(&format!("Loaded/{folder}"))));
        map.place_orphan(&path(sidecar), load).unwrap().map(|p| p.to_string())
    }

    #[test]
    fn home_is_where_most_tracks_are() {
        let tracks = [track("f/1", "B/x"), track("f/2", "A/y"), track("f/3", "B/z")];
        assert_eq!(home_of(&tracks), Some(home("B")));
        let tie = [track("f/1", "B/x"), track("f/2", "A/y")];
        assert_eq!(home_of(&tie), Some(home("A")));
        assert_eq!(home_of(&[]), None);
    }

    #[test]
    fn lyrics_follow_their_track_and_others_keep_their_name() {
        let tracks = [track("f/01.flac", "A/L/01 - One.flac")];
        let shown = |sidecar| beside(&home("A/L"), &path(sidecar), &tracks).unwrap().to_string();
        assert_eq!(shown("f/01.lrc"), "A/L/01 - One.lrc");
        assert_eq!(shown("f/02.lrc"), "A/L/02.lrc");
        assert_eq!(shown("f/cover.jpg"), "A/L/cover.jpg");
    }

    #[test]
    fn orphan_goes_to_what_the_music_below_has_in_common() {
        let discs = [("Album/CD1", Some("A/L")), ("Album/CD2", Some("A/L")), ("Album 2/x", Some("Z/Z"))];
        assert_eq!(orphan(&discs, "Album/cover.jpg").as_deref(), Some("A/L/cover.jpg"));
        let albums = [("Artist/One", Some("A/One")), ("Artist/Two", Some("A/Two"))];
        assert_eq!(orphan(&albums, "Artist/artist.jpg").as_deref(), Some("A/artist.jpg"));
        let mixed = [("Mix/One", Some("A/One")), ("Mix/Two", Some("B/Two"))];
        assert_eq!(orphan(&mixed, "Mix/photo.jpg"), None);
    }

    #[test]
    fn orphan_below_an_album_keeps_its_subfolder() {
        let album = [("Album", Some("A/L"))];
        assert_eq!(orphan(&album, "Album/Scans/back.jpg").as_deref(), Some("A/L/Scans/back.jpg"));
        assert_eq!(orphan(&album, "Other/x.jpg"), None);
        assert_eq!(
            orphan(&[("Album", None)], "Album/Scans/x.jpg").as_deref(),
            Some("Loaded/Album/Scans/x.jpg")
        );
    }
}
