//! What of a file is indexed, and how.
//!
//! Nothing is stored: a hit is a [`FileId`], and all else is looked up in the catalogue, so that a search never tells
//! what the catalogue no longer says. Text is cut by [`fold::words`](super::fold::words); all that a track is known
//! by is in the one field `any` too, so that a word costs one look. So does a word of which only one or two letters are
//! known: where each word stands, what it begins with stands too, marked as a beginning.

use std::ops::Range;

use musicfs_core::{FileId, FileKind, FileMeta};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TantivyDocument, TextFieldIndexing,
    TextOptions,
};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use tantivy::{Index, Term};

use super::fold;
use super::parse;

/// The tokenizer's name in the index.
const WORDS: &str = "musicfs-words";
/// Words of one value that are indexed: a comment pasted into a title must not fill the index.
const MOST_WORDS: usize = 256;
/// Letters of a beginning that is indexed: one that is longer has few enough words to look at each of them.
const LONGEST_BEGINNING: usize = 2;
/// What marks a beginning. No word has such signs ([`fold::words`]), and with three of them none is a misspelling of
/// one either, for at most two letters of that are wrong.
const MARK: &str = "\u{1}\u{1}\u{1}";

/// The fields of the index.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) schema: Schema,
    /// [`FileId`], also as a column, from which hits are read.
    pub(super) id: Field,
    pub(super) any: Field,
    pub(super) title: Field,
    artist: Field,
    album: Field,
    album_artist: Field,
    genre: Field,
    composer: Field,
    path: Field,
    format: Field,
    origin: Field,
    pub(super) year: Field,
}

/// Name of the column of ids.
pub(super) const ID: &str = "id";

impl Fields {
    pub(super) fn new() -> Self {
        let mut schema = Schema::builder();
        let indexed = |how| {
            let indexing = TextFieldIndexing::default().set_tokenizer(WORDS).set_index_option(how);
            TextOptions::default().set_indexing_options(indexing)
        };
        let phrases = || indexed(IndexRecordOption::WithFreqsAndPositions);
        let single = || indexed(IndexRecordOption::Basic);
        let id = schema.add_u64_field(ID, NumericOptions::default() | INDEXED | FAST);
        let any = schema.add_text_field("any", phrases());
        let title = schema.add_text_field("title", phrases());
        let artist = schema.add_text_field("artist", phrases());
        let album = schema.add_text_field("album", phrases());
        let album_artist = schema.add_text_field("albumartist", phrases());
        let genre = schema.add_text_field("genre", phrases());
        let composer = schema.add_text_field("composer", phrases());
        let path = schema.add_text_field("path", phrases());
        let format = schema.add_text_field("format", single());
        let origin = schema.add_text_field("origin", single());
        let year = schema.add_u64_field("year", INDEXED);
        Self {
            schema: schema.build(),
            id,
            any,
            title,
            artist,
            album,
            album_artist,
            genre,
            composer,
            path,
            format,
            origin,
            year,
        }
    }

    /// Gives an index the way to cut text that its fields name.
    pub(super) fn register(index: &Index) {
        index.tokenizers().register(WORDS, Words);
    }

    /// Returns the field that a query means.
    pub(super) fn of(&self, field: parse::Field) -> Field {
        match field {
            parse::Field::Any => self.any,
            parse::Field::Title => self.title,
            parse::Field::Artist => self.artist,
            parse::Field::Album => self.album,
            parse::Field::AlbumArtist => self.album_artist,
            parse::Field::Genre => self.genre,
            parse::Field::Composer => self.composer,
            parse::Field::Path => self.path,
            parse::Field::Format => self.format,
            parse::Field::Origin => self.origin,
        }
    }

    /// Tells whether words of a field can be wanted one after the other.
    pub(super) fn has_positions(&self, field: Field) -> bool {
        field != self.format && field != self.origin
    }

    /// Returns the term that names a file.
    pub(super) fn id_term(&self, id: FileId) -> Term {
        Term::from_field_u64(self.id, id.raw().cast_unsigned())
    }

    /// Returns the term of all words that begin as this one does, when such beginnings are indexed.
    pub(super) fn begun(&self, word: &Term) -> Option<Term> {
        let begin = word.value().as_str()?.to_owned();
        let short = (1..=LONGEST_BEGINNING).contains(&begin.chars().count());
        short.then(|| Term::from_field_text(word.field(), &format!("{MARK}{begin}")))
    }

    /// Returns what is indexed of a file, or `None` when it is not to be found: what is not music, or not shown.
    pub(super) fn document(&self, file: &FileMeta) -> Option<TantivyDocument> {
        let (FileKind::Audio, Some(shown_at)) = (file.kind, &file.shown_at) else { return None };
        let mut document = TantivyDocument::default();
        document.add_u64(self.id, file.id.raw().cast_unsigned());
        document.add_text(self.path, shown_at.to_string());
        document.add_text(self.origin, file.origin.as_str());
        if let Some(format) = file.format {
            document.add_text(self.format, format.default_extension());
            document.add_text(self.format, format.name());
        }
        let audio = file.audio.as_deref();
        let mut any = Known { document, any: self.any };
        match audio.and_then(|audio| audio.title.as_deref()) {
            Some(title) => any.add(self.title, title),
            // What has no title goes by its name.
            None => {
                let name = shown_at.leaf().to_string();
                any.add(self.title, name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem));
            }
        }
        let Some(audio) = audio else { return Some(any.document) };
        audio.artists.iter().for_each(|artist| any.add(self.artist, artist));
        audio.album.iter().for_each(|album| any.add(self.album, album));
        audio.genres.iter().for_each(|genre| any.add(self.genre, genre));
        audio.composers.iter().for_each(|composer| any.add(self.composer, composer));
        for artist in &audio.album_artists {
            if audio.artists.contains(artist) {
                any.document.add_text(self.album_artist, artist);
            } else {
                any.add(self.album_artist, artist);
            }
        }
        if let Some(year) = audio.year() {
            any.document.add_u64(self.year, u64::from(year));
            any.document.add_text(self.any, year.to_string());
        }
        if let Some(codec) = audio.codec {
            any.document.add_text(self.format, codec.to_string());
        }
        Some(any.document)
    }
}

/// What a track is known by, gathered for the field `any`.
struct Known {
    document: TantivyDocument,
    any: Field,
}

impl Known {
    fn add(&mut self, field: Field, text: &str) {
        self.document.add_text(field, text);
        self.document.add_text(self.any, text);
    }
}

/// Cuts text into folded words and what they begin with.
#[derive(Clone, Copy, Debug)]
struct Words;

/// The words of one text.
struct Cut {
    /// All words.
    words: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// The word that comes next.
    next: usize,
    /// Letters of its beginning that come next; 0 for the word.
    letters: usize,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = Cut;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Cut {
        let mut cut =
            Cut { words: String::new(), ends: Vec::new(), next: 0, letters: 0, token: Token::default() };
        let mut add = |word: &str| {
            if cut.ends.len() < MOST_WORDS {
                cut.words.push_str(word);
                cut.ends.push(cut.words.len());
            }
        };
        fold::words(text, &mut add);
        // Behind the words, which phrases want one after the other whatever stands between them.
        fold::signs(text, add);
        cut
    }
}

impl Cut {
    /// Returns where the word that comes next stands among all.
    fn word(&self) -> Option<Range<usize>> {
        let end = *self.ends.get(self.next)?;
        Some(self.next.checked_sub(1).map_or(0, |before| self.ends[before])..end)
    }
}

impl TokenStream for Cut {
    fn advance(&mut self) -> bool {
        let Some(word) = self.word() else { return false };
        let text = match self.letters {
            0 => Some(&self.words[word]),
            letters => beginning(&self.words[word], letters),
        };
        let Some(text) = text else {
            (self.next, self.letters) = (self.next + 1, 0);
            return self.advance();
        };
        self.token.text.clear();
        if self.letters > 0 {
            self.token.text.push_str(MARK);
        }
        self.token.text.push_str(text);
        self.token.position = self.next;
        self.letters += 1;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// Returns the first letters of a word, when it has as many and its beginnings of that length are indexed.
fn beginning(word: &str, letters: usize) -> Option<&str> {
    if letters > LONGEST_BEGINNING {
        return None;
    }
    let (at, last) = word.char_indices().nth(letters - 1)?;
    word.get(..at + last.len_utf8())
}
