//! What of a file is indexed, and how.
//!
//! Nothing is stored: a hit is a [`FileId`], and all else is looked up in the catalogue, so that a search never tells
//! what the catalogue no longer says. Text is cut by [`fold::words`](super::fold::words); all that a track is known
//! by is in the one field `any` too, so that a word costs one look. So does a word of which only the first letter is
//! known: the letters with which the words of `any` begin are a field of their own.

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
    /// First letters of the words of `any`, as numbers.
    begins: Field,
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
        let begins = schema.add_u64_field("begins", NumericOptions::default().set_indexed());
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
            begins,
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

    /// Returns the term of all tracks with a word in `any` that begins with a letter.
    pub(super) fn begins_term(&self, letter: char) -> Term {
        Term::from_field_u64(self.begins, letter.into())
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
        let mut any = Known { document, any: self.any, begins: Vec::new() };
        match audio.and_then(|audio| audio.title.as_deref()) {
            Some(title) => any.add(self.title, title),
            // What has no title goes by its name.
            None => {
                let name = shown_at.leaf().to_string();
                any.add(self.title, name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem));
            }
        }
        let Some(audio) = audio else { return Some(any.finished(self.begins)) };
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
            any.add_to_any(&year.to_string());
        }
        if let Some(codec) = audio.codec {
            any.document.add_text(self.format, codec.to_string());
        }
        Some(any.finished(self.begins))
    }
}

/// What a track is known by, gathered for the field `any`.
struct Known {
    document: TantivyDocument,
    any: Field,
    begins: Vec<char>,
}

impl Known {
    fn add(&mut self, field: Field, text: &str) {
        self.document.add_text(field, text);
        self.add_to_any(text);
    }

    fn add_to_any(&mut self, text: &str) {
        self.document.add_text(self.any, text);
        fold::words(text, |word| self.begins.extend(word.chars().next()));
    }

    fn finished(mut self, begins: Field) -> TantivyDocument {
        self.begins.sort_unstable();
        self.begins.dedup();
        for letter in self.begins {
            self.document.add_u64(begins, letter.into());
        }
        self.document
    }
}

/// Cuts text into folded words.
#[derive(Clone, Copy, Debug)]
struct Words;

/// The words of one text.
struct Cut {
    words: Vec<String>,
    next: usize,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = Cut;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Cut {
        let mut words = Vec::new();
        fold::words(text, |word| {
            if words.len() < MOST_WORDS {
                words.push(word.to_owned());
            }
        });
        Cut { words, next: 0, token: Token::default() }
    }
}

impl TokenStream for Cut {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.get_mut(self.next) else { return false };
        self.token.text = std::mem::take(word);
        self.token.position = self.next;
        self.next += 1;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
