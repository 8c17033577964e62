//! What a file's name tells, before any of it is read.
//!
//! A name decides only whether a file is worth opening and where it is shown when it is not music; what it *is*
//! is decided by its content.

use musicfs_core::OriginPath;

/// What lies beside music and belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SidecarKind {
    /// A picture: cover, back, scans.
    Image,
    /// A booklet (PDF).
    Booklet,
    /// A cue sheet.
    Cue,
    /// A ripper's log.
    Log,
    /// Lyrics with times.
    Lyrics,
    /// Notes in text.
    Text,
    /// A playlist.
    Playlist,
    /// Checksums of the other files.
    Checksums,
}

/// Extensions of files worth opening. Those after the blank line belong to formats that cannot be read: the files
/// are opened all the same, so that they are shown with a reason rather than left out.
const MUSIC: &[&str] = &[
    "flac", "fla", "mp3", "mp2", "mp1", "mpga", "mpa", "m4a", "m4b", "m4p", "m4r", "mp4", "alac", "aac",
    "adts", "adt", "ogg", "oga", "opus", "spx", "wav", "wave", "bwf", "rf64", "aif", "aiff", "aifc", "afc",
    "wv", "ape", "mac", "mpc", "mp+", "mpp", "dsf", //
    "dff", "wma", "tta", "tak", "mka", "shn", "ofr", "w64", "au", "caf", "ac3", "dts", "ra",
];

/// Extensions of what lies beside music.
const SIDECARS: &[(&str, SidecarKind)] = &[
    ("jpg", SidecarKind::Image),
    ("jpeg", SidecarKind::Image),
    ("jpe", SidecarKind::Image),
    ("png", SidecarKind::Image),
    ("gif", SidecarKind::Image),
    ("webp", SidecarKind::Image),
    ("bmp", SidecarKind::Image),
    ("tif", SidecarKind::Image),
    ("tiff", SidecarKind::Image),
    ("avif", SidecarKind::Image),
    ("heic", SidecarKind::Image),
    ("jxl", SidecarKind::Image),
    ("pdf", SidecarKind::Booklet),
    ("cue", SidecarKind::Cue),
    ("log", SidecarKind::Log),
    ("accurip", SidecarKind::Log),
    ("lrc", SidecarKind::Lyrics),
    ("txt", SidecarKind::Text),
    ("nfo", SidecarKind::Text),
    ("md", SidecarKind::Text),
    ("m3u", SidecarKind::Playlist),
    ("m3u8", SidecarKind::Playlist),
    ("pls", SidecarKind::Playlist),
    ("xspf", SidecarKind::Playlist),
    ("sfv", SidecarKind::Checksums),
    ("md5", SidecarKind::Checksums),
    ("ffp", SidecarKind::Checksums),
    ("st5", SidecarKind::Checksums),
];

/// Names of folders and files that systems and NAS boxes leave behind, compared without case.
const LITTER: &[&str] = &[
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@sharebin",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "network trash folder",
    "temporary items",
    "desktop.ini",
    "thumbs.db",
];

/// Longest extension that the tables know.
const LONGEST: usize = 8;

/// Looks `extension` up, without case and without allocating.
fn find<T: Copy>(path: &OriginPath, table: impl Iterator<Item = (&'static str, T)>) -> Option<T> {
    let extension = path.stem_and_extension().1?;
    let mut table = table;
    (extension.len() <= LONGEST)
        .then(|| table.find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(extension)))
        .flatten()
        .map(|(_, value)| value)
}

/// Tells by its extension whether a file is worth opening to see whether it is music.
pub fn looks_like_music(path: &OriginPath) -> bool {
    find(path, MUSIC.iter().map(|extension| (*extension, ()))).is_some()
}

/// Tells by its extension whether, and as what, a file belongs to the music that it lies beside.
pub fn sidecar_kind(path: &OriginPath) -> Option<SidecarKind> {
    find(path, SIDECARS.iter().copied())
}

/// Tells whether the tags of a file of this name are, at least in part, at its end.
pub(super) fn has_tags_at_end(path: &OriginPath) -> bool {
    const TAIL: &[&str] =
        &["mp3", "mp2", "mp1", "mpga", "ogg", "oga", "opus", "spx", "wv", "ape", "mpc", "mp+", "mpp", "aac"];
    find(path, TAIL.iter().map(|extension| (*extension, ()))).is_some()
}

/// Tells whether a file is none of the user's music: hidden, or litter of a system.
///
/// A path is ignored when any of its components
/// * starts with one dot (`.Trash`, `.stfolder`, AppleDouble's `._Song.mp3`), but not with two: an album may be
///   called `...And Justice for All`;
/// * is, without regard to case, one of the folders and files that systems and NAS boxes leave behind:
///   `@eaDir`, `@Recycle`, `@Recently-Snapshot`, `#recycle`, `#snapshot`, `$RECYCLE.BIN`, `RECYCLER`,
///   `System Volume Information`, `lost+found`, `Network Trash Folder`, `Temporary Items`, `desktop.ini`,
///   `Thumbs.db`.
pub fn is_ignored(path: &OriginPath) -> bool {
    path.components().any(|name| {
        (name[0] == b'.' && name.get(1) != Some(&b'.'))
            || LITTER.iter().any(|litter| litter.as_bytes().eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> OriginPath {
        OriginPath::new(text).unwrap()
    }

    #[test]
    fn music_is_known_by_extension_in_any_case() {
        for name in ["a.flac", "b/A.FLAC", "x.Mp3", "x.m4b", "x.oga", "x.mp+", "x.dsf", "x.wma"] {
            assert!(looks_like_music(&path(name)), "{name}");
        }
        for name in ["flac", "a.flac.part", "cover.jpg", ".mp3", "a.", "a.averylongextension"] {
            assert!(!looks_like_music(&path(name)), "{name}");
        }
    }

    #[test]
    fn sidecars_are_known_by_extension() {
        assert_eq!(sidecar_kind(&path("a/Cover.JPG")), Some(SidecarKind::Image));
        assert_eq!(sidecar_kind(&path("a/booklet.pdf")), Some(SidecarKind::Booklet));
        assert_eq!(sidecar_kind(&path("a/rip.log")), Some(SidecarKind::Log));
        assert_eq!(sidecar_kind(&path("a/x.m3u8")), Some(SidecarKind::Playlist));
        assert_eq!(sidecar_kind(&path("a/x.flac")), None);
        assert_eq!(sidecar_kind(&path("a/pdf")), None);
    }

    #[test]
    fn hidden_files_and_litter_are_ignored_at_any_depth() {
        for name in [
            ".x.flac",
            "a/._Song.mp3",
            ".Trash-1000/files/a.mp3",
            "a/@eaDir/b.mp3",
            "#RECYCLE/a.mp3",
            "$Recycle.Bin/a.mp3",
            "system volume information/x",
            "lost+found/x",
        ] {
            assert!(is_ignored(&path(name)), "{name}");
        }
        for name in ["...And Justice for All/01.flac", "a/b.mp3", "Recycle/a.mp3", "a/x.hidden", "..x/y"] {
            assert!(!is_ignored(&path(name)), "{name}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_judged_by_their_extension() {
        let name = OriginPath::new(b"d\xff/t\xfe.FLAC").unwrap();
        assert!(looks_like_music(&name));
        assert!(!is_ignored(&name));
    }
}
