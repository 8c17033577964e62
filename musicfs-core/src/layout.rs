//! From tags to a path in the tree: pure, the same for the same input.

mod trace;

use std::borrow::Cow;
use std::fmt;

use crate::template::{Alternative, Field, Part};
use crate::{AudioMeta, Codec, Format, InvalidName, Name, OriginId, OriginPath, Template};

pub use trace::{FieldUse, trace};

/// What compilations have for an album artist.
pub const VARIOUS_ARTISTS: &str = "Various Artists";
/// The directory of files that could not be parsed.
pub const UNSORTED: &str = "Unsorted";

/// Ends a component while a path is rendered. No tag holds a NUL by then.
const END: char = '\0';

/// A path in the tree: one or more names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualPath(Vec<Name>);

impl VirtualPath {
    /// Makes a path of names from the root down, or `None` of none.
    pub fn new(names: Vec<Name>) -> Option<Self> {
        (!names.is_empty()).then_some(Self(names))
    }

    /// Makes a path of text with `/` between names; a leading or doubled `/` counts for nothing.
    ///
    /// # Errors
    /// [`InvalidName`] when a name is not legal, or there is none.
    pub fn from_text(text: &str) -> Result<Self, InvalidName> {
        let names =
            text.split('/').filter(|part| !part.is_empty()).map(Name::new).collect::<Result<_, _>>()?;
        match Self::new(names) {
            Some(path) => Ok(path),
            None => Name::new("").map(|name| Self(vec![name])),
        }
    }

    /// Returns all names from the root down.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Returns the names of the directories.
    pub fn dirs(&self) -> &[Name] {
        &self.0[..self.0.len() - 1]
    }

    /// Returns the last name.
    pub fn leaf(&self) -> &Name {
        &self.0[self.0.len() - 1]
    }

    /// Returns the path of `name` in the same directory.
    pub fn sibling(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.pop();
        names.push(name);
        Self(names)
    }

    /// Returns the path as bytes with `/` between names; no name holds one.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }

    /// Reads what [`VirtualPath::to_bytes`] gave.
    ///
    /// # Errors
    /// [`InvalidName`] when a name is not legal.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidName> {
        Ok(Self(bytes.split(|b| *b == b'/').map(Name::new).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, name) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("/")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualPath({self})")
    }
}

/// What a template is applied to.
#[derive(Clone, Copy, Debug)]
pub struct LayoutInput<'a> {
    /// The file's tags.
    pub audio: &'a AudioMeta,
    /// Its path on its origin.
    pub path: &'a OriginPath,
    /// The origin.
    pub origin: &'a OriginId,
    /// The extension to show, without its dot; see [`extension_for`].
    pub extension: &'a str,
    /// Whether another file of the album says that it has several discs.
    pub multi_disc: bool,
}

/// Applies a template. Every result is a legal path.
pub fn render(template: &Template, input: &LayoutInput<'_>) -> VirtualPath {
    let mut out = String::new();
    render_parts(&template.parts, input, &mut out);
    let mut components: Vec<&str> = out.split(END).collect();
    let leaf = components.pop().unwrap_or_default();
    // A directory of which nothing is left is left out; a file must have a name.
    let mut names: Vec<Name> =
        components.into_iter().filter(|c| !c.trim().is_empty()).map(Name::from_text).collect();
    let dotted = format!(".{}", input.extension);
    names.push(match leaf.strip_suffix(&dotted) {
        Some(stem) => Name::from_stem(stem, Some(input.extension)),
        None if template.has_extension() => Name::from_text(leaf),
        None => Name::from_stem(leaf, Some(input.extension)),
    });
    VirtualPath(names)
}

/// Returns where a file that cannot be parsed is shown: under `Unsorted/`, by its path on its origin.
pub fn unsorted(path: &OriginPath) -> VirtualPath {
    let names = path.components().map(Name::from_bytes);
    VirtualPath(std::iter::once(Name::from_text(UNSORTED)).chain(names).collect())
}

/// Returns the extension to show for a file of `format`: its own, in lower case, when players take it for that
/// format, else the format's usual one.
pub fn extension_for(path: &OriginPath, format: Format, codec: Option<Codec>) -> String {
    let own =
        path.stem_and_extension().1.map(|e| String::from_utf8_lossy(e).to_lowercase()).unwrap_or_default();
    let accepted: &[&str] = match format {
        Format::Flac => &["flac", "fla"],
        Format::Mp3 => &["mp3", "mp2", "mp1", "mpga"],
        Format::Mp4 => &["m4a", "m4b", "mp4", "alac", "m4r", "m4p", "aac"],
        Format::Aac => &["aac", "adts"],
        Format::Ogg => &["ogg", "oga", "opus", "spx"],
        Format::Wav => &["wav", "wave", "rf64", "bwf"],
        Format::Aiff => &["aiff", "aif", "aifc", "afc"],
        Format::WavPack => &["wv"],
        Format::Ape => &["ape"],
        Format::Mpc => &["mpc", "mp+", "mpp"],
        Format::Dsf => &["dsf"],
    };
    if accepted.contains(&own.as_str()) {
        return own;
    }
    match (format, codec) {
        (Format::Ogg, Some(Codec::Opus)) => "opus",
        (Format::Ogg, Some(Codec::Flac)) => "oga",
        (Format::Ogg, Some(Codec::Speex)) => "spx",
        _ => format.default_extension(),
    }
    .to_owned()
}

fn render_parts(parts: &[Part], input: &LayoutInput<'_>, out: &mut String) {
    let mut swallow = false;
    for part in parts {
        let take = std::mem::take(&mut swallow);
        match part {
            Part::Text(text) if take => out.push_str(without_separator(text)),
            Part::Text(text) => out.push_str(text),
            Part::Slash => out.push(END),
            Part::Field(field) => match value(*field, input) {
                Some(value) => push_value(out, &value),
                None => swallow = true,
            },
            Part::Chain(alternatives) => push_value(out, &chain(alternatives, input).unwrap_or_default()),
            Part::Group(group) => {
                if is_shown(group, input) {
                    render_parts(group, input, out);
                }
            }
        }
    }
}

/// A group is shown when every field directly in it has a value; one that holds only groups, when any is shown.
fn is_shown(group: &[Part], input: &LayoutInput<'_>) -> bool {
    let mut groups =
        group.iter().filter_map(|part| if let Part::Group(inner) = part { Some(inner) } else { None });
    let fields = || group.iter().filter(|part| matches!(part, Part::Field(_) | Part::Chain(_)));
    if fields().next().is_none() {
        return groups.any(|inner| is_shown(inner, input));
    }
    fields().all(|part| match part {
        Part::Field(field) => value(*field, input).is_some(),
        Part::Chain(alternatives) => chain(alternatives, input).is_some(),
        Part::Text(_) | Part::Slash | Part::Group(_) => true,
    })
}

fn chain<'a>(alternatives: &'a [Alternative], input: &LayoutInput<'a>) -> Option<Cow<'a, str>> {
    alternatives.iter().find_map(|alternative| match alternative {
        Alternative::Field(field) => value(*field, input),
        Alternative::Text(text) => Some(Cow::Borrowed(text.as_str())),
    })
}

/// Values end no component, whatever is in them.
fn push_value(out: &mut String, value: &str) {
    out.extend(value.chars().map(|c| if c == END { '_' } else { c }));
}

/// Cuts what separated a missing field from what follows: blanks and dashes, a dot only when a blank follows.
fn without_separator(text: &str) -> &str {
    let rest = text.trim_start_matches([' ', '-', '–', '—', '_']);
    match rest.strip_prefix(". ") {
        Some(rest) => rest.trim_start(),
        None => rest,
    }
}

fn value<'a>(field: Field, input: &LayoutInput<'a>) -> Option<Cow<'a, str>> {
    let audio = input.audio;
    let text = |value: &'a Option<String>| value.as_deref().map(Cow::Borrowed);
    let number = |value: Option<u32>| value.filter(|n| *n > 0).map(|n| Cow::Owned(n.to_string()));
    let value = match field {
        Field::Title => text(&audio.title),
        Field::Artist => joined(&audio.artists),
        Field::Album => text(&audio.album),
        Field::AlbumArtist if audio.compilation => Some(Cow::Borrowed(VARIOUS_ARTISTS)),
        Field::AlbumArtist => joined(&audio.album_artists),
        Field::Track => audio.track.filter(|n| *n > 0).map(|n| Cow::Owned(format!("{n:02}"))),
        Field::TrackTotal => number(audio.track_total),
        Field::Disc if input.multi_disc || audio.says_multi_disc() => number(audio.disc),
        Field::Disc => None,
        Field::DiscTotal => number(audio.disc_total),
        Field::Date => text(&audio.date),
        Field::Year => audio.year().map(|year| Cow::Owned(year.to_string())),
        Field::Genre => audio.genres.first().map(|genre| Cow::Borrowed(genre.as_str())),
        Field::Composer => joined(&audio.composers),
        Field::ArtistSort => text(&audio.sort.artist),
        Field::AlbumSort => text(&audio.sort.album),
        Field::AlbumArtistSort => text(&audio.sort.album_artist),
        Field::Codec => audio.codec.map(|codec| Cow::Owned(codec.to_string())),
        Field::BitDepth => number(Some(audio.bit_depth.into())),
        Field::SampleRate => number(Some(audio.sample_rate)),
        Field::Stem => Some(String::from_utf8_lossy(input.path.stem_and_extension().0)),
        Field::Ext => Some(Cow::Borrowed(input.extension)),
        Field::Origin => Some(Cow::Borrowed(input.origin.as_str())),
    };
    value.filter(|value| !value.trim().is_empty())
}

fn joined(values: &[String]) -> Option<Cow<'_, str>> {
    match values {
        [] => None,
        [one] => Some(Cow::Borrowed(one)),
        several => Some(Cow::Owned(several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn audio() -> AudioMeta {
        AudioMeta {
            title: Some("T".into()),
            artists: vec!["A".into()],
            album: Some("L".into()),
            track: Some(3),
            ..Default::default()
        }
    }

    fn shown(template: &str, audio: &AudioMeta, multi_disc: bool) -> String {
        let path = OriginPath::new("x/file.flac").unwrap();
        let origin = OriginId::from("nas");
        let input = LayoutInput { audio, path: &path, origin: &origin, extension: "flac", multi_disc };
        render(&Template::parse(template).unwrap(), &input).to_string()
    }

    fn default(audio: &AudioMeta) -> String {
        shown(Template::default().as_str(), audio, false)
    }

    #[test]
    fn default_template_shows_what_is_there() {
        assert_eq!(default(&audio()), "A/L/03 - T.flac");
        assert_eq!(default(&AudioMeta::default()), "Unknown Artist/Unknown Album/file.flac");
        assert_eq!(default(&AudioMeta { track: None, ..audio() }), "A/L/T.flac");
        assert_eq!(default(&AudioMeta { title: Some("  ".into()), ..audio() }), "A/L/03 - file.flac");
        assert_eq!(default(&AudioMeta { compilation: true, ..audio() }), "Various Artists/L/03 - T.flac");
        let two = AudioMeta { album_artists: vec!["X".into(), "Y".into()], ..audio() };
        assert_eq!(default(&two), "X, Y/L/03 - T.flac");
    }

    #[test]
    fn disc_is_shown_for_albums_of_several_discs_only() {
        let one = AudioMeta { disc: Some(1), ..audio() };
        assert_eq!(default(&one), "A/L/03 - T.flac");
        assert_eq!(shown(Template::default().as_str(), &one, true), "A/L/1-03 - T.flac");
        assert_eq!(default(&AudioMeta { disc: Some(2), ..audio() }), "A/L/2-03 - T.flac");
        assert_eq!(
            default(&AudioMeta { disc: Some(1), disc_total: Some(2), ..audio() }),
            "A/L/1-03 - T.flac"
        );
        assert_eq!(default(&AudioMeta { disc: Some(1), disc_total: Some(1), ..audio() }), "A/L/03 - T.flac");
    }

    #[test]
    fn tags_are_text_and_not_syntax() {
        let hostile = AudioMeta {
            title: Some("${album}/[$disc]\0$$".into()),
            artists: vec!["AC/DC".into()],
            album: Some("..".into()),
            ..audio()
        };
        assert_eq!(default(&hostile), "AC_DC/__/03 - ${album}_[$disc]_$$.flac");
    }

    #[test]
    fn groups_chains_and_escapes() {
        assert_eq!(shown("[$disc/]$title", &audio(), false), "T.flac");
        assert_eq!(shown("[CD $disc/]$title", &AudioMeta { disc: Some(2), ..audio() }, false), "CD 2/T.flac");
        assert_eq!(shown("$album[ ($year)]/$title.$ext", &audio(), false), "L/T.flac");
        let dated = AudioMeta { date: Some("1999-01-02".into()), ..audio() };
        assert_eq!(shown("$album[ ($year)]/$title.$ext", &dated, false), "L (1999)/T.flac");
        assert_eq!(shown("${composer|'it''s'}/$$$[$title$]", &audio(), false), "it's/$[T].flac");
        assert_eq!(shown("[[$disc-]$track. ]$title", &audio(), false), "03. T.flac");
        assert_eq!(shown("$composer/$genre/$title", &audio(), false), "T.flac");
        assert_eq!(shown("$disc. $title", &audio(), false), "T.flac");
    }

    #[test]
    fn extension_follows_the_content() {
        let ext = |path: &str, format| extension_for(&OriginPath::new(path).unwrap(), format, None);
        assert_eq!(ext("a.FLAC", Format::Flac), "flac");
        assert_eq!(ext("a.mp3", Format::Flac), "flac");
        assert_eq!(ext("a", Format::Mp3), "mp3");
        assert_eq!(ext("a.m4b", Format::Mp4), "m4b");
        let opus = extension_for(&OriginPath::new("a.dat").unwrap(), Format::Ogg, Some(Codec::Opus));
        assert_eq!(opus, "opus");
    }

    #[test]
    fn unsorted_keeps_names_that_are_not_utf8() {
        let path = OriginPath::new(b"a\xff/b.flac").unwrap();
        assert_eq!(unsorted(&path).to_bytes(), b"Unsorted/a\xff/b.flac");
    }

    proptest! {
        #[test]
        fn any_tags_give_a_legal_path(
            title in proptest::option::of(any::<String>()),
            artist in any::<String>(),
            album in proptest::option::of(any::<String>()),
            track in proptest::option::of(any::<u32>()),
            disc in proptest::option::of(any::<u32>()),
        ) {
            let audio = AudioMeta { title, artists: vec![artist], album, track, disc, ..Default::default() };
            for template in [Template::default().as_str(), "$artist/$title", "$title$album", "[$disc/]$stem"] {
                let path = OriginPath::new(b"d/\xff.flac").unwrap();
                let origin = OriginId::from("o");
                let input = LayoutInput { audio: &audio, path: &path, origin: &origin, extension: "flac", multi_disc: true };
                let shown = render(&Template::parse(template).unwrap(), &input);
                prop_assert!(shown.leaf().as_bytes().ends_with(b".flac"));
                prop_assert_eq!(VirtualPath::from_bytes(&shown.to_bytes()).unwrap(), shown);
            }
        }
    }
}
