//! Genres, with ID3v1's numbers resolved.

use lofty::id3::v1::GENRES;

/// Splits one genre text into the genres that it names.
///
/// A text that is only a number stands for ID3v1's genre of that number. ID3v2.3 writes references in brackets
/// before a text that refines them: `(17)`, `(51)(39)`, `(4)Eurodisco`, `(RX)` for a remix, `(CR)` for a cover,
/// and `((` for a bracket that is text.
pub(super) fn resolve(text: &str) -> Vec<String> {
    if let Some(name) = by_number(text) {
        return vec![name.to_owned()];
    }
    let mut genres = Vec::new();
    let mut rest = text;
    while let Some((reference, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
        let Some(name) = by_reference(reference) else { break };
        genres.push(name.to_owned());
        rest = after.trim_start();
    }
    let refinement = if rest.starts_with("((") { &rest[1..] } else { rest };
    if !refinement.is_empty() && !genres.iter().any(|g| g.eq_ignore_ascii_case(refinement)) {
        genres.push(refinement.to_owned());
    }
    genres
}

fn by_reference(reference: &str) -> Option<&'static str> {
    match reference {
        "RX" => Some("Remix"),
        "CR" => Some("Cover"),
        number => by_number(number),
    }
}

/// Returns the name of ID3v1's genre of a number given as text.
pub(super) fn by_number(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > 3 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    GENRES.get(text.parse::<usize>().ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        assert_eq!(resolve("17"), ["Rock"]);
        assert_eq!(resolve("(17)"), ["Rock"]);
        assert_eq!(resolve("(17)Rock"), ["Rock"]);
        assert_eq!(resolve("(4)Eurodisco"), ["Disco", "Eurodisco"]);
        assert_eq!(resolve("(8)(17)"), ["Jazz", "Rock"]);
        assert_eq!(resolve("(RX)(CR)"), ["Remix", "Cover"]);
    }

    #[test]
    fn what_is_no_reference_is_text() {
        assert_eq!(resolve("((odd) name"), ["(odd) name"]);
        assert_eq!(resolve("(odd) name"), ["(odd) name"]);
        assert_eq!(resolve("255"), ["255"]);
        assert_eq!(resolve("1970"), ["1970"]);
        assert_eq!(resolve("(255)"), ["(255)"]);
        assert_eq!(resolve("(日本"), ["(日本"]);
        assert_eq!(resolve("80s"), ["80s"]);
    }
}
