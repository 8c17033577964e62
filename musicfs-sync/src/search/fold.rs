//! Text as it is compared: without case, without diacritics, cut into words.
//!
//! The same function cuts what is indexed and what is asked for, so that they meet. Letters that no decomposition
//! takes apart (ø, ł, ß …) are written as people type them without the key. Scripts without blanks between words
//! are cut into single characters, which a query then wants one after the other.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::parse::BETWEEN;

/// Longest word in bytes; what is longer is cut. No word that anybody types comes near it.
pub(super) const LONGEST_WORD: usize = 96;

/// Calls `word` for each word of a text, in order.
///
/// A text of nothing but signs (`!!!`) is one word as it stands, so that what is called so can be found. No word has
/// control characters.
pub(super) fn words(text: &str, mut word: impl FnMut(&str)) {
    let folded = fold(text);
    let mut found = false;
    let mut begin = None;
    for (at, c) in folded.char_indices() {
        let own = is_word_by_itself(c);
        if let Some(from) = begin
            && (own || !c.is_alphanumeric())
        {
            word(cut(&folded[from..at]));
            begin = None;
        }
        if own {
            word(&folded[at..at + c.len_utf8()]);
            found = true;
        } else if begin.is_none() && c.is_alphanumeric() {
            begin = Some(at);
            found = true;
        }
    }
    if let Some(from) = begin {
        word(cut(&folded[from..]));
    }
    let signs = folded.trim();
    if !found && !signs.is_empty() && !signs.contains(|c: char| c.is_whitespace() || c.is_control()) {
        word(cut(signs));
    }
}

/// Calls `sign` for each part of a text, between blanks, that is of nothing but signs and stands beside others: `♥` of
/// `Love ♥ Song`. What merely divides ([`BETWEEN`]) is none, nor are brackets and quotes around it.
pub(super) fn signs(text: &str, mut sign: impl FnMut(&str)) {
    let is_sign = |part: &&str| !part.contains(char::is_alphanumeric);
    if text.split_whitespace().nth(1).is_none() || !text.split_whitespace().any(|part| is_sign(&part)) {
        return;
    }
    for part in fold(text).split_whitespace().filter(is_sign) {
        let part = part.trim_matches(['(', ')', '"']);
        if !part.contains(char::is_control) && !part.chars().all(|c| BETWEEN.contains(c)) {
            sign(cut(part));
        }
    }
}

fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(LONGEST_WORD)]
}

/// Returns a text without case and diacritics. Apostrophes are dropped: "don't" is "dont".
fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        let plain = |b: u8| !b.is_ascii_uppercase() && b != b'\'';
        if text.bytes().all(plain) {
            return Cow::Borrowed(text);
        }
        return text.chars().filter(|c| *c != '\'').map(|c| c.to_ascii_lowercase()).collect();
    }
    let mut out = String::with_capacity(text.len());
    // Taken apart and put together again: an alphabet written in syllables is taken apart further than its marks.
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).nfc().flat_map(char::to_lowercase) {
        match c {
            '\'' | '’' | '‘' | 'ʼ' | '`' | '´' => {}
            'ø' => out.push('o'),
            'ł' => out.push('l'),
            'đ' | 'ð' => out.push('d'),
            'ħ' => out.push('h'),
            'ı' => out.push('i'),
            'ŧ' => out.push('t'),
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            // The end of a Greek word has a letter of its own.
            'ς' => out.push('σ'),
            c if is_combining_mark(c) => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Tells whether a character is of a script that puts no blanks between words.
fn is_word_by_itself(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff        // Thai, Lao
        | 0x1000..=0x109f      // Myanmar
        | 0x1780..=0x17ff      // Khmer
        | 0x3040..=0x30ff      // Hiragana, Katakana
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff // ideographs
    ) && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_have_neither_case_nor_diacritics_nor_apostrophes() {
        assert_eq!(of("Björk - Jóga (Live)"), ["bjork", "joga", "live"]);
        assert_eq!(of("Bjo\u{308}rk"), ["bjork"]);
        assert_eq!(of("Don't Stop 'Til"), ["dont", "stop", "til"]);
        assert_eq!(of("Don’t"), ["dont"]);
        assert_eq!(of("Mø, Łódź, Straße, Ænima"), ["mo", "lodz", "strasse", "aenima"]);
        assert_eq!(of("ΟΔΟΣ οδος Ёлка"), ["οδοσ", "οδοσ", "елка"]);
        assert_eq!(of("AC/DC R&B 99"), ["ac", "dc", "r", "b", "99"]);
        assert_eq!(of("ｆｕｌｌ ﬁne"), ["full", "fine"]);
    }

    #[test]
    fn scripts_without_blanks_are_cut_into_characters() {
        assert_eq!(of("日本の歌 live"), ["日", "本", "の", "歌", "live"]);
        assert_eq!(of("한국 노래"), ["한국", "노래"]);
    }

    #[test]
    fn signs_alone_are_a_word() {
        assert_eq!(of("!!!"), ["!!!"]);
        assert_eq!(of(" ÷ "), ["÷"]);
        assert_eq!(of("+ -"), [""; 0]);
        assert_eq!(of("!!! (live)"), ["live"]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn signs_beside_others_are_found_and_what_divides_is_not() {
        let of = |text: &str| {
            let mut found = Vec::new();
            signs(text, |sign| found.push(sign.to_owned()));
            found
        };
        assert_eq!(of("Love ♥ Song (!)"), ["♥", "!"]);
        assert_eq!(of("÷ (Divide) – & ..."), ["÷"]);
        assert_eq!(of("+ ="), ["+", "="]);
        assert_eq!(of("!!!"), [""; 0]);
        assert_eq!(of("one\u{1} \u{1}"), [""; 0]);
    }

    proptest! {
        #[test]
        fn words_of_any_text_are_words_again(text in any::<String>()) {
            for word in of(&text) {
                prop_assert!(!word.is_empty() && word.len() <= LONGEST_WORD);
                prop_assert!(!word.contains(char::is_control));
                if word.chars().any(char::is_alphanumeric) {
                    prop_assert_eq!(of(&word).concat(), word);
                }
            }
        }
    }
}
