//! Where a walk goes on.

use musicfs_core::{OriginPath, ScanCursor};

/// A place in a walk: everything up to it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The folder that the walk was in.
    pub(crate) folder: OriginPath,
    /// The last file listed there, or `None` when all its files were; folders below it come next.
    pub(crate) file: Option<Vec<u8>>,
}

/// What a folder is to a walk that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position<'a> {
    /// Its files were listed; of the folders below, those from this name on are left.
    Above(&'a [u8]),
    /// The walk was in it.
    Here,
    /// Nothing of it was listed.
    Ahead,
}

impl Cursor {
    /// Writes the cursor as text, so that it can be stored: `done:<folder>` or `after:<file>`, with `%xx` for
    /// what is not printable ASCII.
    pub(crate) fn to_text(&self) -> ScanCursor {
        let mut text = String::from(if self.file.is_some() { "after:" } else { "done:" });
        let path = self.folder.as_bytes();
        let slash = if self.file.is_some() && !path.is_empty() { &b"/"[..] } else { b"" };
        for byte in path.iter().chain(slash).chain(self.file.iter().flatten()) {
            if byte.is_ascii_graphic() && *byte != b'%' {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("%{byte:02x}"));
            }
        }
        ScanCursor(text.into())
    }

    /// Reads what [`Cursor::to_text`] wrote.
    pub(crate) fn parse(cursor: &ScanCursor) -> Option<Self> {
        let (kind, escaped) = cursor.0.split_once(':')?;
        let mut bytes = Vec::new();
        let mut rest = escaped.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            if *first == b'%' {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &tail[2..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        let path = OriginPath::new(&bytes).ok()?;
        match kind {
            "done" => Some(Self { folder: path, file: None }),
            "after" if !path.is_root() => {
                Some(Self { folder: path.parent(), file: Some(path.file_name().to_vec()) })
            }
            _ => None,
        }
    }

    /// Tells what `folder` is to this cursor. Folders that sort before it are never asked about.
    pub(crate) fn position(&self, folder: &OriginPath) -> Position<'_> {
        if *folder == self.folder {
            return Position::Here;
        }
        if !self.folder.is_within(folder) {
            return Position::Ahead;
        }
        match self.folder.components().nth(folder.components().count()) {
            Some(next) => Position::Above(next),
            None => Position::Here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> OriginPath {
        OriginPath::new(bytes).unwrap()
    }

    #[test]
    fn cursor_text_round_trips_whatever_the_path() {
        for folder in [&b""[..], b"a", b"a b/%41/\xff\xfe", "日本/é".as_bytes()] {
            for file in [None, Some(b"x y%.flac".to_vec()), Some(b"\xff".to_vec())] {
                let cursor = Cursor { folder: path(folder), file };
                assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
            }
        }
    }

    #[test]
    fn text_that_is_no_cursor_is_refused() {
        for bad in ["", "done", "after:", "else:a", "done:%4", "done:%zz", "done:/a", "done:a//b"] {
            assert_eq!(Cursor::parse(&ScanCursor(bad.into())), None, "{bad:?}");
        }
    }

    #[test]
    fn position_is_told_by_whole_components() {
        let cursor = Cursor { folder: path(b"b/c"), file: None };
        assert_eq!(cursor.position(&path(b"")), Position::Above(b"b"));
        assert_eq!(cursor.position(&path(b"b")), Position::Above(b"c"));
        assert_eq!(cursor.position(&path(b"b/c")), Position::Here);
        assert_eq!(cursor.position(&path(b"b/c/d")), Position::Ahead);
        assert_eq!(cursor.position(&path(b"b/cc")), Position::Ahead);
    }
}
