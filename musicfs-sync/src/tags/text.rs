//! Text as tags hold it.
//!
//! Nothing here fails: bytes that are no text in the encoding that is claimed are replaced, never refused.

/// Longest text kept of a tag, in bytes; a longer one (lyrics in a comment) is cut.
const MAX_TEXT: usize = 16 * 1024;

/// Longest stored text that is read at all. One that is longer is not a text.
pub(super) const MAX_STORED: usize = 128 * 1024;

/// Takes blanks, control characters and byte order marks off both ends, and cuts what is too long. `None` when
/// nothing is left.
pub(super) fn clean(text: &str) -> Option<&str> {
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
    let cut = &trimmed[..trimmed.floor_char_boundary(MAX_TEXT)];
    (!cut.is_empty()).then_some(cut)
}

/// Decodes text that should be UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Decodes text that should be Latin-1, or whose encoding nothing tells.
///
/// Bytes beyond ASCII that form valid UTF-8 are taken as UTF-8: many writers ignore the rule, and hardly any
/// Latin-1 text happens to be valid UTF-8.
pub(super) fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

/// Decodes UTF-16, in the order that a byte order mark tells, else big-endian when `big_endian`.
pub(super) fn utf16(bytes: &[u8], big_endian: bool) -> String {
    let (bytes, big_endian) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, false),
        [0xfe, 0xff, rest @ ..] => (rest, true),
        _ => (bytes, big_endian),
    };
    let units = bytes.chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    });
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_keeps_what_is_inside() {
        assert_eq!(clean(" \0\u{feff}a\tb \n\0"), Some("a\tb"));
        assert_eq!(clean(" \u{a0}\u{3000}\0"), None);
        assert_eq!(clean(""), None);
    }

    #[test]
    fn clean_cuts_on_a_character_boundary() {
        let long = "é".repeat(MAX_TEXT);
        assert_eq!(clean(&long).unwrap().len(), MAX_TEXT);
        let odd = format!("x{long}");
        assert_eq!(clean(&odd).unwrap().len(), MAX_TEXT - 1);
    }

    #[test]
    fn wrong_encodings_give_text() {
        assert_eq!(latin1(b"Bj\xf6rk"), "Björk");
        assert_eq!(latin1("Björk".as_bytes()), "Björk");
        assert_eq!(utf8(b"Bj\xf6rk"), "Bj\u{fffd}rk");
        assert_eq!(utf16(&[0xff, 0xfe, b'a', 0, 0x00, 0xd8, b'b', 0, 9], true), "a\u{fffd}b");
        assert_eq!(utf16(&[0, b'a'], true), "a");
        assert_eq!(utf16(&[b'a', 0], false), "a");
    }
}
