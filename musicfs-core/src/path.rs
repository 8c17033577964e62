//! Paths inside an origin.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// A file's place inside its origin: bytes, relative, `/`-separated.
///
/// No component is empty, `.` or `..`, and there is no NUL; the empty path is the origin's root. A name need not
/// be UTF-8. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginPath(Arc<[u8]>);

/// Why bytes are not an [`OriginPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// The path starts with `/`.
    #[error("path {0:?} is absolute; a path inside an origin is relative to the origin's root")]
    Absolute(String),
    /// A component is empty, `.` or `..`.
    #[error("path {0:?} has an empty, '.' or '..' component")]
    Component(String),
    /// The path has a NUL byte.
    #[error("path {0:?} contains a NUL byte")]
    Nul(String),
}

impl OriginPath {
    /// Checks and wraps `bytes`.
    ///
    /// # Errors
    /// [`InvalidPath`] when the path is absolute, or has a NUL or an empty, `.` or `..` component.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, InvalidPath> {
        let bytes = bytes.as_ref();
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes[0] == b'/' {
            return Err(InvalidPath::Absolute(shown()));
        }
        if bytes.contains(&0) {
            return Err(InvalidPath::Nul(shown()));
        }
        if bytes.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err(InvalidPath::Component(shown()));
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the origin's root: the empty path.
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    /// Tells whether this is the origin's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path for use with the operating system, relative to the origin's root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the last component; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Returns the folder that holds this path; the root's is the root.
    pub fn parent(&self) -> Self {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => Self(self.0[..slash].into()),
            None => Self::root(),
        }
    }

    /// Returns the components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// Appends one component.
    ///
    /// # Errors
    /// [`InvalidPath`] when `name` is not a single legal component.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, InvalidPath> {
        let name = name.as_ref();
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.contains(&b'/') || name.is_empty() {
            return Err(InvalidPath::Component(String::from_utf8_lossy(name).into_owned()));
        }
        Self::new(bytes)
    }

    /// Tells whether this path is `folder` or lies below it (by whole components: `Artist2` is not in `Artist`).
    pub fn is_within(&self, folder: &OriginPath) -> bool {
        folder.is_root()
            || (self.0.starts_with(&folder.0)
                && (self.0.len() == folder.0.len() || self.0[folder.0.len()] == b'/'))
    }

    /// Splits the last component into stem and extension (without the dot).
    ///
    /// A name that only starts with a dot has no extension.
    pub fn stem_and_extension(&self) -> (&[u8], Option<&[u8]>) {
        let name = self.file_name();
        match name.iter().rposition(|b| *b == b'.') {
            Some(dot) if dot > 0 => (&name[..dot], Some(&name[dot + 1..])),
            _ => (name, None),
        }
    }
}

impl fmt::Display for OriginPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for OriginPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginPath({:?})", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_illegal_component_is_refused() {
        for bad in ["/a", "a//b", "a/", "./a", "a/../b", "..", "a\0b"] {
            assert!(OriginPath::new(bad).is_err(), "{bad:?}");
        }
        for good in ["", "a", "a/b.flac", ".hidden", "...", "a/..b"] {
            assert!(OriginPath::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn is_within_compares_whole_components() {
        let folder = OriginPath::new("Artist").unwrap();
        assert!(OriginPath::new("Artist/x").unwrap().is_within(&folder));
        assert!(folder.is_within(&folder));
        assert!(!OriginPath::new("Artist2/x").unwrap().is_within(&folder));
        assert!(folder.is_within(&OriginPath::root()));
    }

    #[test]
    fn parts_of_a_path_that_is_not_utf8() {
        let path = OriginPath::new(b"d\xff/t\xfe.mp3").unwrap();
        assert_eq!(path.parent().as_bytes(), b"d\xff");
        assert_eq!(path.stem_and_extension(), (&b"t\xfe"[..], Some(&b"mp3"[..])));
        assert_eq!(path.parent().join(b"t\xfe.mp3").unwrap(), path);
        assert_eq!(path.components().count(), 2);
        assert!(path.join("a/b").is_err());
    }
}
