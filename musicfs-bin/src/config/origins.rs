//! Origins as the user names them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use musicfs_core::OriginId;

use super::Source;
use super::settings::{Base, Setting};

/// Longest part of a directory's name that an id made from it keeps: long enough to know it again.
const SLUG_MAX: usize = 24;
/// Priority of an origin that is given none; a lower number is preferred.
const DEFAULT_PRIORITY: u32 = 100;

/// An origin of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginSpec {
    /// Its id.
    pub(crate) id: OriginId,
    /// Where it is: a directory of this machine.
    pub(crate) path: PathBuf,
    /// Lower is preferred.
    pub(crate) priority: u32,
    /// Who said so.
    pub(crate) source: Source,
}

impl OriginSpec {
    /// Makes an origin of what a flag or a variable says: a path.
    pub(crate) fn from_text(raw: &OsStr, base: Base<'_>, source: Source) -> Result<Self, String> {
        refuse_other_schemes(raw)?;
        let raw = raw.as_encoded_bytes().strip_prefix(b"file://").map_or(raw, |path| {
            use std::os::unix::ffi::OsStrExt;
            OsStr::from_bytes(path)
        });
        let path = PathBuf::read(raw, base)?;
        Ok(Self { id: derived_id(&path), path, priority: DEFAULT_PRIORITY, source })
    }

    /// Returns its real path; see [`crate::paths::real_in_time`].
    pub(crate) fn real_path(&self) -> PathBuf {
        crate::paths::real_in_time(&self.path)
    }

    /// Makes an origin of the values of a `[[origins]]` table.
    pub(crate) fn from_parts(
        id: Option<&OsStr>,
        kind: Option<&OsStr>,
        path: Option<&OsStr>,
        priority: Option<usize>,
        base: Base<'_>,
        source: Source,
    ) -> Result<Self, String> {
        if let Some(kind) = kind.filter(|kind| *kind != OsStr::new("local")) {
            return Err(format!(
                "origins of type '{}' are not known to this build; it knows type \"local\" only",
                kind.to_string_lossy()
            ));
        }
        let raw = path.ok_or("an origin needs a path: path = \"/where/the/music/is\"")?;
        let mut spec = Self::from_text(raw, base, source)?;
        if let Some(id) = id {
            spec.id = checked_id(&id.to_string_lossy())?;
        }
        if let Some(priority) = priority {
            spec.priority =
                u32::try_from(priority).map_err(|_| format!("priority {priority} is too large"))?;
        }
        Ok(spec)
    }
}

fn checked_id(id: &str) -> Result<OriginId, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 64 || !id.chars().all(legal) {
        return Err(format!(
            "'{id}' cannot be an origin's id; use up to 64 letters, digits, '-', '_' and '.'"
        ));
    }
    Ok(OriginId::from(id))
}

fn refuse_other_schemes(raw: &OsStr) -> Result<(), String> {
    let shown = raw.to_string_lossy();
    match shown.split_once("://") {
        Some((scheme, _))
            if scheme != "file" && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') =>
        {
            Err(format!(
                "origins of type '{scheme}' are not known to this build; it knows directories of this machine only"
            ))
        }
        _ => Ok(()),
    }
}

/// Derives an id from a directory: its name, and a hash of its real path that tells two of a name apart.
fn derived_id(path: &Path) -> OriginId {
    let real = crate::paths::real_in_time(path);
    let mut slug = String::new();
    let name = real.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    let slug = slug.trim_end_matches('-');
    let hash = blake3_hex(real.as_os_str().as_encoded_bytes());
    OriginId::from(format!("{}-{}", if slug.is_empty() { "music" } else { slug }, &hash[..6]))
}

/// Returns the BLAKE3 hash of bytes in hexadecimal.
pub(crate) fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base<'static> {
        Base { dir: Path::new("/srv"), home: None }
    }

    fn spec(raw: &str) -> Result<OriginSpec, String> {
        OriginSpec::from_text(OsStr::new(raw), base(), Source::Default)
    }

    #[test]
    fn id_follows_from_the_real_path() {
        let dir = tempfile::tempdir().unwrap();
        let music = dir.path().join("My Müsic!");
        std::fs::create_dir(&music).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&music, &link).unwrap();
        let by_path = spec(music.to_str().unwrap()).unwrap();
        assert!(by_path.id.as_str().starts_with("my-m-sic-"), "{}", by_path.id);
        assert_eq!(by_path.id.as_str().len(), "my-m-sic-".len() + 6);
        assert_eq!(spec(link.to_str().unwrap()).unwrap().id, by_path.id);
        assert_ne!(spec("/a/Music").unwrap().id, spec("/b/Music").unwrap().id);
        assert!(spec("/").unwrap().id.as_str().starts_with("music-"));
    }

    #[test]
    fn other_kinds_of_origin_are_refused_by_name() {
        assert!(spec("s3://bucket/x").unwrap_err().contains("'s3'"));
        assert_eq!(spec("file:///m").unwrap().path, Path::new("/m"));
        assert_eq!(spec("rel").unwrap().path, Path::new("/srv/rel"));
        let kind = Some(OsStr::new("sftp"));
        let made = OriginSpec::from_parts(None, kind, Some(OsStr::new("/m")), None, base(), Source::Default);
        assert!(made.unwrap_err().contains("'sftp'"));
    }

    #[test]
    fn id_with_odd_characters_is_refused() {
        let made = |id| {
            OriginSpec::from_parts(
                Some(OsStr::new(id)),
                None,
                Some(OsStr::new("/m")),
                Some(3),
                base(),
                Source::Default,
            )
        };
        assert!(made("a/b").is_err());
        assert!(made("").is_err());
        assert_eq!(made("nas").unwrap().priority, 3);
    }
}
