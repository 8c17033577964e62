//! Names of entries in the tree: the one place where they are made legal.
//!
//! A [`Name`] is legal by construction: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`. Names from tags are
//! text and are cleaned ([`Name::from_text`]); names from an origin are bytes and are kept as they are where
//! the operating system could have had them ([`Name::from_bytes`]).

use std::fmt;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Longest extension, in bytes, that is kept whole when a name is cut or numbered. Longer than any extension in
/// use; what follows a dot in a title ("Op. 27 No. 2 in C sharp minor") is not an extension.
const MAX_EXTENSION: usize = 8;
/// What stands for a character that cannot be in a name.
const REPLACEMENT: char = '_';

/// A legal name of one entry in the tree.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a legal name (1 to 255 bytes, no '/', no NUL, not '.' or '..')")]
pub struct InvalidName(String);

impl Name {
    /// Longest name, in bytes, that Linux filesystems accept (`NAME_MAX`).
    pub const MAX_BYTES: usize = 255;

    /// Makes a name from text such as a tag: NFC, `/`, NUL and control characters replaced by `_`, blanks at the
    /// edges cut, 255 bytes at the most, cut at a character. Text of which nothing is left becomes `_`.
    pub fn from_text(text: &str) -> Self {
        Self::from_stem(text, None)
    }

    /// Makes a file's name from a stem and an extension (without its dot), as [`Name::from_text`] does. Where the
    /// name is too long the stem is cut, so that a player still knows the file by its extension.
    pub fn from_stem(stem: &str, extension: Option<&str>) -> Self {
        let extension = extension.map(clean).filter(|e| !e.is_empty());
        let tail = extension.map(|e| format!(".{}", cut(&e, Self::MAX_BYTES - 2))).unwrap_or_default();
        let stem = clean(stem);
        let mut name = cut(&stem, Self::MAX_BYTES - tail.len()).trim_end().to_owned();
        if name.is_empty() {
            name.push(REPLACEMENT);
        }
        name.push_str(&tail);
        if name == "." || name == ".." {
            name = name.replace('.', "_");
        }
        Self(name.into_bytes().into())
    }

    /// Makes a name from bytes that an origin uses: kept as they are when legal, else made so as text is.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::new(bytes).unwrap_or_else(|_| Self::from_text(&String::from_utf8_lossy(bytes)))
    }

    /// Wraps bytes that are a legal name already.
    ///
    /// # Errors
    /// [`InvalidName`] when they are not.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, InvalidName> {
        let bytes = bytes.as_ref();
        let legal = !bytes.is_empty()
            && bytes.len() <= Self::MAX_BYTES
            && !bytes.iter().any(|b| matches!(b, 0 | b'/'))
            && !matches!(bytes, b"." | b"..");
        if legal {
            Ok(Self(bytes.into()))
        } else {
            Err(InvalidName(String::from_utf8_lossy(bytes).into_owned()))
        }
    }

    /// Returns the name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name with ` (n)` before its extension, cut to stay legal; for `n < 2`, the name itself.
    pub fn with_suffix(&self, n: u32) -> Self {
        if n < 2 {
            return self.clone();
        }
        let (stem, extension) = self.split_extension();
        let suffix = format!(" ({n})");
        let room = Self::MAX_BYTES - suffix.len() - extension.len();
        let mut bytes = cut_bytes(stem, room).to_vec();
        bytes.extend_from_slice(suffix.as_bytes());
        bytes.extend_from_slice(extension);
        Self(bytes.into())
    }

    /// Returns the number from 1 with which this name is `shown` ([`Name::with_suffix`]), or `None` when it is not
    /// with any.
    pub fn number_of(&self, shown: &Self) -> Option<u32> {
        if self == shown {
            return Some(1);
        }
        let number = |open: usize| -> Option<u32> {
            let rest = shown.0.get(open + 2..)?;
            let digits = rest.iter().position(|byte| *byte == b')')?;
            std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
        };
        let opens = shown.0.windows(2).enumerate().filter(|(_, pair)| *pair == b" (");
        opens.filter_map(|(open, _)| number(open)).find(|n| *n >= 2 && self.with_suffix(*n) == *shown)
    }

    /// Splits into stem and extension, the dot with the extension; what is too long to be an extension is stem.
    fn split_extension(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'.') {
            Some(dot)
                if dot > 0
                    && (1..=MAX_EXTENSION).contains(&(self.0.len() - dot - 1))
                    && self.0[dot + 1..].iter().all(u8::is_ascii_alphanumeric) =>
            {
                self.0.split_at(dot)
            }
            _ => (&self.0, &[]),
        }
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({:?})", String::from_utf8_lossy(&self.0))
    }
}

/// NFC, illegal characters replaced, blanks at the edges cut.
fn clean(text: &str) -> String {
    let legal = |c: char| if c == '/' || c.is_control() { REPLACEMENT } else { c };
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if is_nfc(text) { text.chars().map(legal).collect() } else { text.nfc().map(legal).collect() }
}

/// The longest beginning of `text` of at most `max` bytes that ends at a character.
fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max { text } else { &text[..text.floor_char_boundary(max)] }
}

/// As [`cut`] for bytes that need not be UTF-8: a character that begins before the end is not torn.
fn cut_bytes(bytes: &[u8], max: usize) -> &[u8] {
    if bytes.len() <= max {
        return bytes;
    }
    let is_continuation = |b: u8| b & 0b1100_0000 == 0b1000_0000;
    // A UTF-8 character has at most three continuation bytes; more are not UTF-8, and may be cut anywhere.
    let back = (0..=3.min(max)).find(|back| !is_continuation(bytes[max - back])).unwrap_or(0);
    &bytes[..max - back]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(s: &str) -> String {
        Name::from_text(s).to_string()
    }

    #[test]
    fn from_text_replaces_what_no_name_may_have() {
        assert_eq!(text("AC/DC"), "AC_DC");
        assert_eq!(text("a\0b\nc\u{85}d"), "a_b_c_d");
        assert_eq!(text("  edge\u{a0} "), "edge");
        assert_eq!(text("."), "_");
        assert_eq!(text(".."), "__");
        assert_eq!(text("..."), "...");
        assert_eq!(text("   "), "_");
        assert_eq!(text(""), "_");
        assert_eq!(text("$artist"), "$artist");
        assert_eq!(text("e\u{301}"), "é");
    }

    #[test]
    fn long_name_is_cut_at_a_character_and_keeps_its_extension() {
        let name = Name::from_stem(&"ü".repeat(200), Some("flac"));
        assert_eq!(name.as_bytes().len(), 255);
        assert!(name.to_string().ends_with("ü.flac"));
        let numbered = name.with_suffix(12);
        assert!(numbered.as_bytes().len() <= 255);
        assert!(numbered.to_string().ends_with("ü (12).flac"));
    }

    #[test]
    fn suffix_goes_before_a_real_extension_only() {
        let n = |s: &str| Name::new(s).unwrap().with_suffix(2).to_string();
        assert_eq!(n("01 - A.flac"), "01 - A (2).flac");
        assert_eq!(n("Op. 27 No. 2"), "Op. 27 No. 2 (2)");
        assert_eq!(n("folder"), "folder (2)");
        assert_eq!(n(".hidden"), ".hidden (2)");
        assert_eq!(Name::new("x").unwrap().with_suffix(1).to_string(), "x");
    }

    #[test]
    fn from_bytes_keeps_what_is_not_utf8() {
        assert_eq!(Name::from_bytes(b"t\xff.mp3").as_bytes(), b"t\xff.mp3");
        assert_eq!(Name::from_bytes(b"..").as_bytes(), b"__");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_legal_name(stem in any::<String>(), ext in proptest::option::of(any::<String>()), n in 0u32..100_000) {
            let name = Name::from_stem(&stem.repeat(3), ext.as_deref());
            prop_assert!(Name::new(name.as_bytes()).is_ok());
            prop_assert!(std::str::from_utf8(name.as_bytes()).is_ok());
            let numbered = name.with_suffix(n);
            prop_assert!(Name::new(numbered.as_bytes()).is_ok());
            prop_assert!(std::str::from_utf8(numbered.as_bytes()).is_ok());
        }

        #[test]
        fn any_bytes_give_a_legal_name(bytes in any::<Vec<u8>>(), n in 0u32..100) {
            let name = Name::from_bytes(&bytes);
            prop_assert!(Name::new(name.as_bytes()).is_ok());
            prop_assert!(Name::new(name.with_suffix(n).as_bytes()).is_ok());
        }
    }
}
