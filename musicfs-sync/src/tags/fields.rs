//! From the values of a file's tags to [`AudioMeta`].
//!
//! Every tag format is read into the same list of ([`Field`], text). Where a file has several tags, each field is
//! taken from the first tag that has it; tags are never mixed within a field.

use musicfs_core::{AudioMeta, ReplayGain};

use super::genre;
use super::text::clean;

/// What a tag's value is about, whatever the format calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Title,
    Artist,
    /// Single artists, beside an `Artist` that credits them in one text.
    Artists,
    Album,
    AlbumArtist,
    /// As `Artists`, of the album.
    AlbumArtists,
    Track,
    TrackTotal,
    Disc,
    DiscTotal,
    /// When it was recorded or released: the date proper.
    Date,
    ReleaseDate,
    Year,
    /// Day and month (`DDMM`) that belong to `Year` (ID3v2.3 keeps them apart).
    DayMonth,
    OriginalDate,
    Genre,
    Composer,
    Compilation,
    TitleSort,
    ArtistSort,
    AlbumSort,
    AlbumArtistSort,
    ComposerSort,
    Comment,
    /// A text that serves as comment where there is none.
    Description,
    MbRecording,
    MbTrack,
    MbRelease,
    MbReleaseGroup,
    MbArtist,
    MbAlbumArtist,
    TrackGain,
    TrackPeak,
    AlbumGain,
    AlbumPeak,
    /// Gains of RFC 7845.
    R128TrackGain,
    R128AlbumGain,
}

impl Field {
    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The values found so far.
#[derive(Debug, Default)]
pub(super) struct Fields {
    values: Vec<(Field, String)>,
    /// Fields that the tag being read has.
    present: u64,
    /// Fields that earlier tags have.
    settled: u64,
}

impl Fields {
    /// Begins another tag: what the tags before it have is settled.
    pub(super) fn next_tag(&mut self) {
        self.settled |= self.present;
        self.present = 0;
    }

    /// Adds what another list has found, as a tag that comes after what is settled.
    pub(super) fn append(&mut self, other: Self) {
        for (field, value) in other.values {
            self.add(field, &value);
        }
    }

    /// Adds a value; one without text is dropped.
    pub(super) fn add(&mut self, field: Field, value: &str) {
        if self.settled & field.bit() == 0
            && let Some(value) = clean(value)
        {
            self.present |= field.bit();
            self.values.push((field, value.to_owned()));
        }
    }

    /// Adds each of several values that NUL characters separate.
    pub(super) fn add_each(&mut self, field: Field, values: &str) {
        for value in values.split('\0') {
            self.add(field, value);
        }
    }

    /// Adds a number.
    pub(super) fn add_number(&mut self, field: Field, value: u32) {
        if value > 0 {
            self.add(field, &value.to_string());
        }
    }

    /// Writes what was found into `meta`.
    pub(super) fn finish(mut self, meta: &mut AudioMeta) {
        meta.title = self.first(Field::Title);
        meta.album = self.first(Field::Album);
        meta.artists = self.credits(Field::Artist, Field::Artists);
        meta.album_artists = self.credits(Field::AlbumArtist, Field::AlbumArtists);
        (meta.track, meta.track_total) = self.position(Field::Track, Field::TrackTotal);
        (meta.disc, meta.disc_total) = self.position(Field::Disc, Field::DiscTotal);
        meta.date = self.date();
        meta.genres = distinct(self.all(Field::Genre).into_iter().flat_map(|text| genre::resolve(&text)));
        meta.composers = distinct(self.all(Field::Composer).into_iter());
        meta.compilation = self
            .first(Field::Compilation)
            .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes"));
        meta.sort.title = self.first(Field::TitleSort);
        meta.sort.artist = self.first(Field::ArtistSort);
        meta.sort.album = self.first(Field::AlbumSort);
        meta.sort.album_artist = self.first(Field::AlbumArtistSort);
        meta.sort.composer = self.first(Field::ComposerSort);
        meta.comment = self.first(Field::Comment).or_else(|| self.first(Field::Description));
        meta.musicbrainz.recording = self.first(Field::MbRecording);
        meta.musicbrainz.track = self.first(Field::MbTrack);
        meta.musicbrainz.release = self.first(Field::MbRelease);
        meta.musicbrainz.release_group = self.first(Field::MbReleaseGroup);
        meta.musicbrainz.artists = self.ids(Field::MbArtist);
        meta.musicbrainz.album_artists = self.ids(Field::MbAlbumArtist);
        let stream = std::mem::take(&mut meta.replay_gain);
        meta.replay_gain = ReplayGain {
            track_gain: self.gain(Field::TrackGain, Field::R128TrackGain).or(stream.track_gain),
            track_peak: self.number(Field::TrackPeak).filter(|peak| *peak >= 0.0).or(stream.track_peak),
            album_gain: self.gain(Field::AlbumGain, Field::R128AlbumGain).or(stream.album_gain),
            album_peak: self.number(Field::AlbumPeak).filter(|peak| *peak >= 0.0).or(stream.album_peak),
        };
    }

    fn peek(&self, field: Field) -> Option<&str> {
        self.values.iter().find(|(f, _)| *f == field).map(|(_, value)| value.as_str())
    }

    fn first(&mut self, field: Field) -> Option<String> {
        self.values.iter_mut().find(|(f, _)| *f == field).map(|(_, value)| std::mem::take(value))
    }

    fn all(&mut self, field: Field) -> Vec<String> {
        self.values.iter_mut().filter(|(f, _)| *f == field).map(|(_, value)| std::mem::take(value)).collect()
    }

    /// Returns the artists. A list of single artists counts only beside one text that credits them all, and only
    /// when it is a list.
    fn credits(&mut self, credit: Field, singles: Field) -> Vec<String> {
        let credited = distinct(self.all(credit).into_iter());
        let singles = distinct(self.all(singles).into_iter());
        if credited.is_empty() || (credited.len() == 1 && singles.len() > 1) { singles } else { credited }
    }

    /// Reads `3`, `3/12` and vinyl's `A3` with the separate total.
    fn position(&mut self, number: Field, total: Field) -> (Option<u32>, Option<u32>) {
        let text = self.first(number).unwrap_or_default();
        let (n, of) = text.split_once('/').unwrap_or((&text, ""));
        let total = self.first(total).as_deref().and_then(leading_number).or_else(|| leading_number(of));
        (leading_number(n), total)
    }

    fn date(&mut self) -> Option<String> {
        // ID3v2.3 keeps the day apart; put it back where the year is only a year.
        if let Some(year) = self.peek(Field::Year).filter(|year| is_digits(year, 4))
            && let Some(day) = self.peek(Field::DayMonth).filter(|day| is_digits(day, 4))
            && let Some((day, month)) = day.split_at_checked(2)
        {
            let full = format!("{year}-{month}-{day}");
            if let Some((_, year)) = self.values.iter_mut().find(|(f, _)| *f == Field::Year) {
                *year = full;
            }
        }
        [Field::Date, Field::Year, Field::ReleaseDate, Field::OriginalDate]
            .into_iter()
            .find_map(|field| self.first(field))
    }

    /// Splits lists of UUIDs: some writers put all into one text.
    fn ids(&mut self, field: Field) -> Vec<String> {
        let texts = self.all(field);
        let separators = |c: char| matches!(c, '/' | ';' | ',' | '+' | '&') || c.is_whitespace();
        distinct(
            texts
                .iter()
                .flat_map(|text| text.split(separators))
                .filter(|id| !id.is_empty())
                .map(str::to_owned),
        )
    }

    fn number(&self, field: Field) -> Option<f32> {
        decimal(self.peek(field)?)
    }

    /// Reads a gain in dB, or one of RFC 7845 §5.2.1: a whole number of 1/256 dB relative to -23 LUFS. ReplayGain
    /// 2.0 is relative to -18 LUFS, 5 dB louder: `dB = value / 256 + 5`.
    fn gain(&self, db: Field, r128: Field) -> Option<f32> {
        const R128_TO_REPLAY_GAIN_DB: f32 = 5.0;
        self.number(db).or_else(|| {
            let steps: i16 = self.peek(r128)?.parse().ok()?;
            Some(f32::from(steps) / 256.0 + R128_TO_REPLAY_GAIN_DB)
        })
    }
}

/// Keeps the first of equal values, in order.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

fn is_digits(text: &str, n: usize) -> bool {
    text.len() == n && text.bytes().all(|b| b.is_ascii_digit())
}

/// Reads the first number in a text; 0 counts as none.
fn leading_number(text: &str) -> Option<u32> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[from..].split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|n| *n > 0)
}

/// Reads a decimal number with what may follow it (`-7.23 dB`, `0,98`).
fn decimal(text: &str) -> Option<f32> {
    let text = text.trim_start_matches('+').replace(',', ".");
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | 'e' | 'E')).unwrap_or(text.len());
    text[..end].parse().ok().filter(|n: &f32| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(Field, &str)]) -> AudioMeta {
        let mut fields = Fields::default();
        for (field, value) in values {
            fields.add_each(*field, value);
        }
        let mut meta = AudioMeta::default();
        fields.finish(&mut meta);
        meta
    }

    #[test]
    fn blanks_are_absent_and_lists_keep_their_order() {
        let meta = read(&[
            (Field::Title, " \0"),
            (Field::Artist, "B\0A\0B"),
            (Field::Composer, " Z "),
            (Field::Composer, "Y"),
        ]);
        assert_eq!(meta.title, None);
        assert_eq!(meta.artists, ["B", "A"]);
        assert_eq!(meta.composers, ["Z", "Y"]);
    }

    #[test]
    fn artists_list_counts_only_when_it_is_one() {
        let one = read(&[(Field::Artist, "A feat. B"), (Field::Artists, "A")]);
        assert_eq!(one.artists, ["A feat. B"]);
        let two = read(&[(Field::Artist, "A feat. B"), (Field::Artists, "A\0B")]);
        assert_eq!(two.artists, ["A", "B"]);
        let multi = read(&[(Field::Artist, "A\0C"), (Field::Artists, "A\0B\0C")]);
        assert_eq!(multi.artists, ["A", "C"]);
        let alone = read(&[(Field::Artists, "A")]);
        assert_eq!(alone.artists, ["A"]);
    }

    #[test]
    fn positions_are_read_in_every_form() {
        let at = |track: &str, total: &str| {
            let meta = read(&[(Field::Track, track), (Field::TrackTotal, total)]);
            (meta.track, meta.track_total)
        };
        assert_eq!(at("3/12", ""), (Some(3), Some(12)));
        assert_eq!(at("03", "12"), (Some(3), Some(12)));
        assert_eq!(at("3/11", "12"), (Some(3), Some(12)));
        assert_eq!(at("A3", ""), (Some(3), None));
        assert_eq!(at("0/0", ""), (None, None));
        assert_eq!(at("99999999999", ""), (None, None));
        assert_eq!(at("drei", ""), (None, None));
    }

    #[test]
    fn first_tag_that_has_a_field_gives_all_of_it() {
        let mut fields = Fields::default();
        fields.add(Field::Title, "one");
        fields.add(Field::Artist, "A");
        fields.next_tag();
        fields.add(Field::Title, "two");
        fields.add(Field::Artist, "B");
        fields.add(Field::Album, "L");
        fields.next_tag();
        fields.add(Field::Album, "M");
        let mut meta = AudioMeta::default();
        fields.finish(&mut meta);
        assert_eq!(meta.title.as_deref(), Some("one"));
        assert_eq!(meta.artists, ["A"]);
        assert_eq!(meta.album.as_deref(), Some("L"));
    }

    #[test]
    fn dates_prefer_the_release_to_the_original() {
        let date = |values: &[(Field, &str)]| read(values).date.unwrap();
        assert_eq!(date(&[(Field::OriginalDate, "1959"), (Field::Date, "1997-03-25")]), "1997-03-25");
        assert_eq!(date(&[(Field::OriginalDate, "1959"), (Field::Year, "1997")]), "1997");
        assert_eq!(date(&[(Field::OriginalDate, "1959")]), "1959");
        assert_eq!(date(&[(Field::Year, "1997"), (Field::DayMonth, "2503")]), "1997-03-25");
        assert_eq!(date(&[(Field::Year, "1997"), (Field::DayMonth, "éé")]), "1997");
    }

    #[test]
    fn gains_are_decibels_relative_to_replay_gain() {
        let meta = read(&[
            (Field::TrackGain, "-7.23 dB"),
            (Field::TrackPeak, "0,988553"),
            (Field::R128AlbumGain, "-3174"),
            (Field::AlbumPeak, "loud"),
        ]);
        assert_eq!(meta.replay_gain.track_gain, Some(-7.23));
        assert_eq!(meta.replay_gain.track_peak, Some(0.988_553));
        assert_eq!(meta.replay_gain.album_gain, Some(-3174.0 / 256.0 + 5.0));
        assert_eq!(meta.replay_gain.album_peak, None);
        assert_eq!(read(&[(Field::TrackGain, "+1.5 dB")]).replay_gain.track_gain, Some(1.5));
        assert_eq!(read(&[(Field::TrackGain, "1e99")]).replay_gain.track_gain, None);
    }

    #[test]
    fn ids_in_one_text_are_split() {
        let meta = read(&[(Field::MbArtist, "a-1/b-2; c-3"), (Field::MbArtist, "d-4")]);
        assert_eq!(meta.musicbrainz.artists, ["a-1", "b-2", "c-3", "d-4"]);
    }
}
