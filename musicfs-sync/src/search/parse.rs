//! The query language.
//!
//! ```text
//! query := all ("OR" all)*
//! all   := one (["AND"] one)*
//! one   := ("NOT" | "-") one | [field ":"] "(" query ")" | [field ":"] ("\"" words "\"" | word)
//! word  := text ["~" ["1" | "2"]] | text "*" | year [".." [year]] | ".." year    (years after "year:" only)
//! ```
//!
//! **Every text is a query.** What does not follow the grammar is taken as words: an operator at the wrong place, a
//! bracket without its other half, a field that does not exist (`Re:Stacks`), a year that is none. So the only thing
//! that can be wrong with a query is that it is too large ([`TooLarge`]).
//!
//! The last word of a query also finds what begins with it, so that a query can be tried while it is typed.

/// Bytes of a query: more than anybody types, and as many as every kernel takes in a name below `/.search`.
pub(super) const LONGEST_QUERY: usize = 1024;
/// Words and phrases of a query: more than anybody types. Each costs a look into the index.
const MOST_LEAVES: usize = 128;
/// Brackets and negations inside each other; deeper ones are ignored.
const DEEPEST: usize = 16;

/// Signs that people put between names, and mean nothing by.
pub(super) const BETWEEN: &str = "-–—&/|,.;:";

/// A query is longer than is taken, or has too many words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query is too long: {0}; leave out what is not needed to find the track")]
pub struct TooLarge(Excess);

/// Of what there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Excess {
    #[error("it has {0} bytes, and at most {LONGEST_QUERY} are taken")]
    Bytes(usize),
    #[error("it has {0} words, and at most {MOST_LEAVES} are taken")]
    Words(usize),
}

/// Tells whether a query can be asked, without an index.
///
/// # Errors
/// When it is too large.
pub fn check_query(query: &str) -> Result<(), TooLarge> {
    parse(query).map(drop)
}

/// A field that a query can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// All that a track is known by.
    Any,
    Title,
    Artist,
    Album,
    AlbumArtist,
    Genre,
    Composer,
    Path,
    Format,
    Origin,
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        let fields = [
            ("title", Self::Title),
            ("artist", Self::Artist),
            ("album", Self::Album),
            ("albumartist", Self::AlbumArtist),
            ("genre", Self::Genre),
            ("composer", Self::Composer),
            ("path", Self::Path),
            ("format", Self::Format),
            ("origin", Self::Origin),
        ];
        fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, field)| field)
    }
}

/// How a text is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// As it is.
    Exact,
    /// As the beginning of a word too.
    Prefix,
    /// With this many letters added, missing, changed or swapped.
    Fuzzy(u8),
}

/// A query, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ast {
    All(Vec<Ast>),
    Any(Vec<Ast>),
    Not(Box<Ast>),
    /// Words one after the other, in a field; how the last (or only) one is to be found.
    Text(Field, String, Match),
    /// Years, both included.
    Years(u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `(`, behind a field or not.
    Open(Field),
    Close,
    And,
    Or,
    /// `NOT` or `-`.
    Not,
    Leaf(Ast),
}

/// Understands a query; `None` when there is nothing to look for.
pub(super) fn parse(query: &str) -> Result<Option<Ast>, TooLarge> {
    if query.len() > LONGEST_QUERY {
        return Err(TooLarge(Excess::Bytes(query.len())));
    }
    let mut tokens = Tokens { rest: query, tokens: Vec::new() };
    tokens.read();
    let mut tokens = tokens.tokens;
    let leaves = tokens.iter().filter(|token| matches!(token, Token::Leaf(_))).count();
    if leaves > MOST_LEAVES {
        return Err(TooLarge(Excess::Words(leaves)));
    }
    if let Some(Token::Leaf(Ast::Text(_, _, how @ Match::Exact))) = tokens.last_mut()
        && query.ends_with(|c: char| !c.is_whitespace() && c != '"')
    {
        *how = Match::Prefix;
    }
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let mut all = Vec::new();
    // A closing bracket without its other half ends a group that is not there; what follows goes on.
    while parser.at < tokens.len() {
        all.extend(parser.any(Field::Any, 0));
        parser.at += 1;
    }
    Ok(group(all, Ast::All))
}

/// Cuts a query into tokens.
struct Tokens<'q> {
    rest: &'q str,
    tokens: Vec<Token>,
}

impl Tokens<'_> {
    fn read(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some(first) = self.rest.chars().next() else { return };
            match first {
                '(' => self.single(Token::Open(Field::Any)),
                ')' => self.single(Token::Close),
                '"' => self.phrase(Field::Any),
                '-' if self.rest[1..]
                    .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '(')) =>
                {
                    self.single(Token::Not);
                }
                _ => self.word(),
            }
        }
    }

    fn single(&mut self, token: Token) {
        self.rest = &self.rest[1..];
        self.tokens.push(token);
    }

    /// Reads a phrase; one without an end goes on to the end of the query.
    fn phrase(&mut self, field: Field) {
        let inside = &self.rest[1..];
        let (text, rest) = inside.split_once('"').unwrap_or((inside, ""));
        self.rest = rest;
        self.leaf(field, text, Match::Exact);
    }

    fn word(&mut self) {
        let end = self.rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"'));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if let Some((name, text)) = word.split_once(':') {
            if name.eq_ignore_ascii_case("year")
                && let Some((from, to)) = years(text)
            {
                self.rest = rest;
                self.tokens.push(Token::Leaf(Ast::Years(from, to)));
                return;
            }
            if let Some(field) = Field::named(name) {
                self.rest = rest;
                match rest.as_bytes().first() {
                    Some(b'"') if text.is_empty() => self.phrase(field),
                    Some(b'(') if text.is_empty() => self.single(Token::Open(field)),
                    _ => self.text(field, text),
                }
                return;
            }
        }
        self.rest = rest;
        match word {
            "AND" | "&&" => self.tokens.push(Token::And),
            "OR" | "||" => self.tokens.push(Token::Or),
            "NOT" => self.tokens.push(Token::Not),
            word => self.text(Field::Any, word),
        }
    }

    fn text(&mut self, field: Field, word: &str) {
        let fuzzy = [("~", 1), ("~1", 1), ("~2", 2)];
        if let Some((text, edits)) = fuzzy.iter().find_map(|(end, n)| Some((word.strip_suffix(end)?, *n))) {
            self.leaf(field, text, Match::Fuzzy(edits));
        } else if let Some(text) = word.strip_suffix('*') {
            self.leaf(field, text, Match::Prefix);
        } else {
            self.leaf(field, word, Match::Exact);
        }
    }

    fn leaf(&mut self, field: Field, text: &str, how: Match) {
        let mut empty = true;
        super::fold::words(text, |_| empty = false);
        // A lone dash between an artist and a title asks for nothing.
        if !empty && !text.chars().all(|c| BETWEEN.contains(c)) {
            self.tokens.push(Token::Leaf(Ast::Text(field, text.to_owned(), how)));
        }
    }
}

/// Reads `1980`, `1980..1989`, `1980..` or `..1989`.
fn years(text: &str) -> Option<(u64, u64)> {
    let year = |text: &str, open: u64| match text {
        "" => Some(open),
        digits if digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    match text.split_once("..") {
        Some(("", "")) => None,
        Some((from, to)) => {
            let (from, to) = (year(from, 0)?, year(to, 9999)?);
            Some((from.min(to), from.max(to)))
        }
        None if text.is_empty() => None,
        None => year(text, 0).map(|year| (year, year)),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl Parser<'_> {
    /// Parses up to a closing bracket, which is left, or the end.
    fn any(&mut self, field: Field, depth: usize) -> Option<Ast> {
        let mut any = Vec::new();
        let mut all = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Close => break,
                Token::Or => {
                    self.at += 1;
                    any.extend(group(std::mem::take(&mut all), Ast::All));
                }
                Token::And => self.at += 1,
                _ => all.extend(self.one(field, depth)),
            }
        }
        any.extend(group(all, Ast::All));
        group(any, Ast::Any)
    }

    fn one(&mut self, field: Field, depth: usize) -> Option<Ast> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token {
            Token::Not => {
                let followed =
                    matches!(self.tokens.get(self.at), Some(Token::Leaf(_) | Token::Open(_) | Token::Not));
                if !followed || depth >= DEEPEST {
                    return None;
                }
                Some(match self.one(field, depth + 1)? {
                    Ast::Not(inner) => *inner,
                    other => Ast::Not(Box::new(other)),
                })
            }
            Token::Open(own) if depth < DEEPEST => {
                let inner = self.any(if *own == Field::Any { field } else { *own }, depth + 1);
                // Its closing bracket, when there is one.
                self.at += 1;
                inner
            }
            Token::Leaf(Ast::Text(Field::Any, text, how)) => Some(Ast::Text(field, text.clone(), *how)),
            Token::Leaf(leaf) => Some(leaf.clone()),
            Token::Open(_) | Token::Close | Token::And | Token::Or => None,
        }
    }
}

fn group(mut parts: Vec<Ast>, many: fn(Vec<Ast>) -> Ast) -> Option<Ast> {
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(many(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Shows a query as it was understood.
    fn shown(query: &str) -> String {
        parse(query).unwrap().map_or_else(String::new, |ast| show(&ast))
    }

    fn show(ast: &Ast) -> String {
        let list = |parts: &[Ast], sign: &str| {
            format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(sign))
        };
        match ast {
            Ast::All(parts) => list(parts, " & "),
            Ast::Any(parts) => list(parts, " | "),
            Ast::Not(inner) => format!("!{}", show(inner)),
            Ast::Years(from, to) => format!("{from}..{to}"),
            Ast::Text(field, text, how) => {
                let field = if *field == Field::Any { String::new() } else { format!("{field:?}:") };
                let how = match how {
                    Match::Exact => String::new(),
                    Match::Prefix => "*".into(),
                    Match::Fuzzy(n) => format!("~{n}"),
                };
                format!("{field}[{text}]{how}")
            }
        }
    }

    #[test]
    fn query_is_understood_as_its_grammar_says() {
        assert_eq!(shown("dark side"), "([dark] & [side]*)");
        assert_eq!(shown("dark side "), "([dark] & [side])");
        assert_eq!(shown("\"dark side\" moon~1"), "([dark side] & [moon]~1)");
        assert_eq!(shown("artist:\"pink floyd\" time"), "(Artist:[pink floyd] & [time]*)");
        assert_eq!(shown("a OR b AND c OR NOT d e"), "([a] | ([b] & [c]) | (![d] & [e]*))");
        assert_eq!(shown("(a OR b) -c x"), "(([a] | [b]) & ![c] & [x]*)");
        assert_eq!(shown("artist:(floyd OR album:animals) "), "(Artist:[floyd] | Album:[animals])");
        assert_eq!(shown("mid* x "), "([mid]* & [x])");
        assert_eq!(
            shown("year:1980..1989 year:1975 year:..1960 year:2000.."),
            "(1980..1989 & 1975..1975 & 0..1960 & 2000..9999)"
        );
        assert_eq!(shown("year:1989..1980"), "1980..1989");
        assert_eq!(shown("Jay-Z \"99 problems\""), "([Jay-Z] & [99 problems])");
        assert_eq!(shown("NOT NOT x "), "[x]");
    }

    #[test]
    fn what_is_no_query_is_taken_as_words() {
        assert_eq!(shown("Re:Stacks "), "[Re:Stacks]");
        assert_eq!(shown("year:abc "), "[year:abc]");
        assert_eq!(shown("Artist - Title "), "([Artist] & [Title])");
        assert_eq!(shown("(a b "), "([a] & [b])");
        assert_eq!(shown("a) b "), "([a] & [b])");
        assert_eq!(shown("\"open end"), "[open end]*");
        assert_eq!(shown("AND OR NOT"), "");
        assert_eq!(shown("OR a AND "), "[a]");
        assert_eq!(shown("() artist: - "), "");
        assert_eq!(shown("!!! "), "[!!!]");
        assert_eq!(shown("Mission: Impossible "), "([Mission:] & [Impossible])");
        assert_eq!(shown("   "), "");
    }

    #[test]
    fn query_that_is_too_large_is_refused_and_a_deep_one_is_not() {
        assert_eq!(parse(&"x".repeat(1025)), Err(TooLarge(Excess::Bytes(1025))));
        assert_eq!(parse(&"x ".repeat(129)), Err(TooLarge(Excess::Words(129))));
        assert!(check_query(&"x".repeat(1024)).is_ok() && check_query(&"x".repeat(1025)).is_err());
        assert!(parse(&"x ".repeat(MOST_LEAVES)).is_ok());
        let deep = format!("{}x{}", "(".repeat(400), ")".repeat(400));
        assert_eq!(shown(&deep), "[x]");
        assert_eq!(shown(&format!("{}x ", "-(".repeat(5))), "![x]");
    }

    proptest! {
        #[test]
        fn any_text_is_a_query(text in "[a-z:~*\"()\\-. 0-9ANDORTé]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_bytes_are_a_query(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
