//! The template language: how tags become a path.
//!
//! ```text
//! template  = part*
//! part      = text | field | chain | group | "/"
//! field     = "$" name                      e.g. $title
//! chain     = "${" alt ("|" alt)* "}"       the first that is not empty, e.g. ${albumartist|artist|'Unknown'}
//! alt       = name | "'" text "'"           '' inside the quotes is one quote
//! group     = "[" part* "]"                 shown only when every field directly in it is not empty
//! escape    = "$$" | "$[" | "$]"            a literal $, [ or ]
//! ```
//!
//! A `/` ends a component of the path. What comes from a tag is text: a `/`, `$` or `[` in it means nothing.
//! A plain `$field` outside a group that is empty takes the separator after it along (` - `, `. `, `_`), so that a
//! file without a track number has no stray dash.

use std::fmt;
use std::str::FromStr;

/// Arranges by album artist and album; a disc number for albums of several discs only.
const DEFAULT: &str =
    "${albumartist|artist|'Unknown Artist'}/${album|'Unknown Album'}/[$disc-]$track - ${title|stem}.$ext";

/// How tags become a path. Parsed once, then applied to any number of files.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Slash,
    Field(Field),
    Chain(Vec<Alternative>),
    Group(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alternative {
    Field(Field),
    Text(String),
}

/// A template that cannot be used, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The template.
    pub template: String,
    /// The place, as a count of characters before it.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bad template at character {}: {}", self.column + 1, self.message)?;
        writeln!(f, "  {}", self.template)?;
        write!(f, "  {:>1$}", "^", self.column + 1)
    }
}

impl std::error::Error for TemplateError {}

macro_rules! fields {
    ($($variant:ident $name:literal $doc:literal),* $(,)?) => {
        /// What a template can ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Field { $($variant),* }

        impl Field {
            const ALL: &[(&'static str, Self, &'static str)] = &[$(($name, Self::$variant, $doc)),*];

            /// Returns the field's name in a template.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

fields! {
    Title "title" "title",
    Artist "artist" "artists, joined by a comma",
    Album "album" "album",
    AlbumArtist "albumartist" "album artists, joined by a comma; Various Artists for compilations",
    Track "track" "track number, two digits",
    TrackTotal "tracktotal" "number of tracks on the disc",
    Disc "disc" "disc number, empty unless the album has several discs",
    DiscTotal "disctotal" "number of discs",
    Date "date" "date as tagged",
    Year "year" "year of the date",
    Genre "genre" "first genre",
    Composer "composer" "composers, joined by a comma",
    ArtistSort "artistsort" "artist's name for sorting",
    AlbumSort "albumsort" "album's name for sorting",
    AlbumArtistSort "albumartistsort" "album artist's name for sorting",
    Codec "codec" "codec, such as FLAC or Opus",
    BitDepth "bitdepth" "bits per sample",
    SampleRate "samplerate" "samples per second",
    Stem "stem" "file's name on its origin, without extension",
    Ext "ext" "extension that fits the content",
    Origin "origin" "origin's id",
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`] with the place of the first thing that is wrong.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let chars: Vec<char> = source.chars().collect();
        let mut parser = Parser { source, chars: &chars, at: 0 };
        let parts = parser.parts(None)?;
        if !parts.iter().any(|part| !matches!(part, Part::Slash | Part::Text(_))) {
            return Err(
                parser.error(0, "there is no field in it, so that all files would have one name".into())
            );
        }
        if matches!(parts.last(), Some(Part::Slash)) {
            return Err(parser.error(chars.len() - 1, "a file's name must follow the last '/'".into()));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Returns the template as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Returns the fields that a template can ask for, with what they give.
    pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
        Field::ALL.iter().map(|(name, _, doc)| (*name, *doc))
    }

    /// Tells whether the extension is asked for; where it is not, it is appended.
    pub(crate) fn has_extension(&self) -> bool {
        fn asks(part: &Part) -> bool {
            match part {
                Part::Field(field) => *field == Field::Ext,
                Part::Chain(alternatives) => alternatives.contains(&Alternative::Field(Field::Ext)),
                Part::Group(parts) => parts.iter().any(asks),
                Part::Text(_) | Part::Slash => false,
            }
        }
        self.parts.iter().any(asks)
    }
}

impl Default for Template {
    /// Returns `${albumartist|artist|'Unknown Artist'}/${album|'Unknown Album'}/[$disc-]$track - ${title|stem}.$ext`.
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, which a test parses")]
        Self::parse(DEFAULT).expect("the default template parses")
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, Self::Err> {
        Self::parse(source)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.source)
    }
}

struct Parser<'a> {
    source: &'a str,
    chars: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn error(&self, column: usize, message: String) -> TemplateError {
        TemplateError { template: self.source.to_owned(), column, message }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// Parses up to the end, or to the `]` of the group that was opened at `open`.
    fn parts(&mut self, open: Option<usize>) -> Result<Vec<Part>, TemplateError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let flush = |text: &mut String, parts: &mut Vec<Part>| {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(text)));
            }
        };
        while let Some(c) = self.peek() {
            let start = self.at;
            self.at += 1;
            match c {
                '$' if matches!(self.peek(), Some('$' | '[' | ']')) => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                '$' => {
                    flush(&mut text, &mut parts);
                    parts.push(self.field_or_chain(start)?);
                }
                '/' => {
                    flush(&mut text, &mut parts);
                    parts.push(Part::Slash);
                }
                '[' => {
                    flush(&mut text, &mut parts);
                    let group = self.parts(Some(start))?;
                    if !group.iter().any(|p| matches!(p, Part::Field(_) | Part::Chain(_) | Part::Group(_))) {
                        return Err(self.error(start, "a group '[…]' without a field is always shown".into()));
                    }
                    parts.push(Part::Group(group));
                }
                ']' if open.is_some() => {
                    flush(&mut text, &mut parts);
                    return Ok(parts);
                }
                ']' => return Err(self.error(start, "']' without '['; write '$]' for the character".into())),
                c => text.push(c),
            }
        }
        if let Some(open) = open {
            return Err(self.error(open, "'[' is never closed; write '$[' for the character".into()));
        }
        flush(&mut text, &mut parts);
        Ok(parts)
    }

    fn field_or_chain(&mut self, start: usize) -> Result<Part, TemplateError> {
        if self.peek() != Some('{') {
            return match self.name() {
                name if name.is_empty() => {
                    Err(self
                        .error(start, "a field's name must follow '$'; write '$$' for the character".into()))
                }
                name => Ok(Part::Field(self.field(&name, start + 1)?)),
            };
        }
        self.at += 1;
        let mut alternatives = Vec::new();
        loop {
            let at = self.at;
            if self.peek() == Some('\'') {
                alternatives.push(Alternative::Text(self.quoted()?));
            } else {
                let name = self.name();
                alternatives.push(Alternative::Field(self.field(&name, at)?));
            }
            match self.peek() {
                Some('|') => self.at += 1,
                Some('}') => {
                    self.at += 1;
                    return Ok(Part::Chain(alternatives));
                }
                Some(c) => return Err(self.error(self.at, format!("expected '|' or '}}', found '{c}'"))),
                None => return Err(self.error(start, "'${' is never closed".into())),
            }
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn quoted(&mut self) -> Result<String, TemplateError> {
        let open = self.at;
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.peek() {
                None => return Err(self.error(open, "the quote is never closed".into())),
                Some('\'') if self.chars.get(self.at + 1) == Some(&'\'') => {
                    text.push('\'');
                    self.at += 1;
                }
                Some('\'') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn field(&self, name: &str, column: usize) -> Result<Field, TemplateError> {
        if let Some((_, field, _)) = Field::ALL.iter().find(|(known, ..)| *known == name) {
            return Ok(*field);
        }
        if name.is_empty() {
            return Err(self.error(column, "expected a field's name or a quoted text".into()));
        }
        let known: Vec<&str> = Field::ALL.iter().map(|(name, ..)| *name).collect();
        let nearest = known.iter().min_by_key(|known| distance(known, name)).copied().unwrap_or_default();
        let hint = if distance(nearest, name) <= 3 {
            format!("did you mean '{nearest}'?")
        } else {
            format!("there are: {}", known.join(", "))
        };
        Err(self.error(column, format!("unknown field '{name}'; {hint}")))
    }
}

/// Levenshtein distance, by the usual one-row table.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_template_parses_to_itself() {
        assert_eq!(Template::default().as_str(), DEFAULT);
        assert!(Template::default().has_extension());
    }

    #[test]
    fn bad_template_is_refused_with_its_place() {
        let column = |t: &str| Template::parse(t).map_err(|e| (e.column, e.message)).unwrap_err();
        assert_eq!(column("$artist/$").0, 8);
        assert_eq!(column("$artist/[$title").0, 8);
        assert_eq!(column("$artist]").0, 7);
        assert_eq!(column("${artist").0, 0);
        assert_eq!(column("${artist|'x}").0, 9);
        assert_eq!(column("${artist|}").0, 9);
        assert_eq!(column("é${artist title}").0, 9);
        assert_eq!(column("a/b").0, 0);
        assert_eq!(column("").0, 0);
        assert_eq!(column("$artist/").0, 7);
        assert_eq!(column("[x]$title").0, 0);
        let (at, message) = column("$artst/$title");
        assert_eq!((at, message.as_str()), (1, "unknown field 'artst'; did you mean 'artist'?"));
        assert!(column("$discographynumber").1.contains("there are:"));
    }

    #[test]
    fn error_points_at_the_place() {
        let shown = Template::parse("$title/$x").unwrap_err().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].find("x"), lines[2].find('^'));
    }
}
