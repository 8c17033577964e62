//! Tracks without files: a catalogue of any size, with words as tags have them.
//!
//! What a track is called follows from its number alone, so that any part of a library can be made again. Few words
//! are frequent and many are rare, as in tags: the word of rank `r` comes about `1 / r` as often as the first. A tenth of them
//! are written with diacritics.

use musicfs_core::layout::{LayoutInput, render};
use musicfs_core::{
    AudioIdentity, AudioMeta, Batch, Codec, FileId, FileKind, FileMeta, FileState, FileVersion, Format,
    MetaDb, MetaError, Op, OriginId, OriginPath, Placement, Template, UnixNanos,
};

/// The origin that the tracks say they are of.
pub const ORIGIN: &str = "bench";
/// Tracks of an album.
pub const TRACKS_PER_ALBUM: u64 = 12;
/// Different words: about as many as the titles of a million tracks have.
pub const WORDS: u64 = 60_000;
/// Albums of an artist.
const ALBUMS_PER_ARTIST: u64 = 4;
/// Tracks in a batch, as a scan makes them.
const BATCH: u64 = 2_000;
/// When all of it was written.
const AT: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

const GENRES: [&str; 12] = [
    "Jazz",
    "Rock",
    "Classical",
    "Electronic",
    "Hip Hop",
    "Folk",
    "Blues",
    "Reggae",
    "Metal",
    "Ambient",
    "Soul",
    "Soundtrack",
];

/// Returns the word of a rank, from 0, the most frequent.
pub fn word(rank: u64) -> String {
    const HEADS: [&str; 15] = ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st"];
    const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];
    const MARKED: [&str; 5] = ["á", "é", "í", "ö", "ü"];
    let mut left = rank;
    let mut text = String::new();
    loop {
        let (head, vowel) = ((left % 15) as usize, (left / 15 % 5) as usize);
        let vowels = if rank % 10 == 7 { MARKED } else { VOWELS };
        text.push_str(HEADS[head]);
        text.push_str(vowels[vowel]);
        left /= 75;
        if left == 0 {
            break;
        }
        left -= 1;
    }
    // A last letter, so that short words are not the beginnings of long ones alone.
    text.push_str(["n", "r", "", "l", "s"][(rank % 5) as usize]);
    text
}

/// A number that follows from two others and looks like chance.
fn chance(n: u64, salt: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Some words, the frequent ones often.
fn words(n: u64, salt: u64, least: u64, most: u64) -> String {
    let count = least + chance(n, salt) % (most - least + 1);
    let each = |k| {
        let part = chance(n, salt + 1000 * (k + 1)) as f64 / u64::MAX as f64;
        let mut text = word(((WORDS as f64).powf(part) as u64 - 1).min(WORDS - 1));
        if let Some(first) = text.get(..1).map(str::to_uppercase) {
            text.replace_range(..1, &first);
        }
        text
    };
    (0..count).map(each).collect::<Vec<_>>().join(" ")
}

/// Returns the track of a number, and where the default template shows it.
///
/// # Panics
/// Never: its path is a legal one.
pub fn track(n: u64) -> (FileMeta, musicfs_core::VirtualPath) {
    let album = n / TRACKS_PER_ALBUM;
    let artist = words(album / ALBUMS_PER_ARTIST, 1, 1, 3);
    let number = n % TRACKS_PER_ALBUM + 1;
    let origin = OriginId::from(ORIGIN);
    let path = format!("{:06}/{:02}.flac", album, number);
    let path = OriginPath::new(path).expect("a path that an origin can have");
    let mut md5 = [0; 16];
    md5[..8].copy_from_slice(&chance(n, 9).to_le_bytes());
    md5[8..].copy_from_slice(&n.to_le_bytes());
    let audio = AudioMeta {
        title: Some(words(n, 2, 1, 5)),
        artists: vec![artist.clone()],
        album: Some(words(album, 3, 1, 4)),
        album_artists: vec![artist],
        track: Some(number as u32),
        track_total: Some(TRACKS_PER_ALBUM as u32),
        date: Some((1950 + chance(album, 4) % 75).to_string()),
        genres: vec![GENRES[(chance(album, 5) % GENRES.len() as u64) as usize].to_owned()],
        composers: if album.is_multiple_of(5) { vec![words(album, 6, 2, 3)] } else { Vec::new() },
        duration_ms: 180_000 + n % 120_000,
        sample_rate: 44_100,
        channels: 2,
        bit_depth: 16,
        bitrate_kbps: 900,
        codec: Some(Codec::Flac),
        identity: Some(AudioIdentity::FlacMd5 { md5, samples: 7_938_000 + n }),
        ..AudioMeta::default()
    };
    let input =
        LayoutInput { audio: &audio, path: &path, origin: &origin, extension: "flac", multi_disc: false };
    let shown_at = render(&Template::default(), &input);
    let file = FileMeta {
        id: FileId::derive(&origin, &path, 0),
        origin,
        path,
        version: FileVersion {
            size: 20_000_000 + n,
            mtime: Some(UnixNanos(1_600_000_000_000_000_000 + n as i64 * 1_000_003)),
            etag: None,
        },
        kind: FileKind::Audio,
        state: FileState::Present,
        format: Some(Format::Flac),
        audio: Some(Box::new(audio)),
        problem: None,
        shown_at: None,
    };
    (file, shown_at)
}

/// Puts the tracks of some numbers into a catalogue, where the default template has them.
///
/// # Errors
/// When the catalogue fails.
pub fn fill(db: &dyn MetaDb, numbers: std::ops::Range<u64>) -> Result<(), MetaError> {
    for first in numbers.clone().step_by(BATCH as usize) {
        let mut ops = Vec::new();
        for n in first..numbers.end.min(first + BATCH) {
            let (file, path) = track(n);
            let id = file.id;
            ops.push(Op::PutFile(Box::new(file)));
            ops.push(Op::Place(Placement { id, path, prefer: 0 }));
        }
        db.apply(&Batch { at: AT, ops })?;
    }
    Ok(())
}

/// The kinds of queries that [`query`] makes.
pub const QUERY_KINDS: [&str; 27] = [
    "word",
    "two words",
    "three words",
    "beginning",
    "words and a beginning",
    "first letter",
    "word and a first letter",
    "field",
    "first letter of a field",
    "first letter of a path",
    "beginning in a field",
    "beginning in a path",
    "several beginnings",
    "several first letters",
    "phrase",
    "phrase and a beginning",
    "phrase and a first letter",
    "phrase and a first letter in a path",
    "misspelt",
    "misspelt twice",
    "misspelt in a field",
    "years",
    "words and years",
    "either",
    "either, the last begun",
    "not",
    "not, begun",
];

/// Returns a query of a kind for such tracks: the `n`th of as many as are wanted.
///
/// # Panics
/// When the kind is none of [`QUERY_KINDS`].
pub fn query(kind: &str, n: u64) -> String {
    // Tracks that are there, so that most queries find something.
    let file = |salt| track(chance(n, salt) % 1_000_000).0.audio.map(|audio| *audio).unwrap_or_default();
    let some = file(20);
    let title = some.title.unwrap_or_default();
    let first = title.split(' ').next().unwrap_or_default().to_owned();
    let (artist, album) = (some.artists.concat(), some.album.unwrap_or_default());
    let second = title.split(' ').nth(1).unwrap_or(&album);
    let year = 1950 + chance(n, 21) % 75;
    let cut = |word: &str, letters: usize| word.chars().take(letters).collect::<String>();
    let wrong = |word: &str| format!("{}x{}", cut(word, 2), word.chars().skip(3).collect::<String>());
    match kind {
        "word" => format!("{first} "),
        "two words" => format!("{first} {} ", artist.split(' ').next().unwrap_or_default()),
        "three words" => format!("{first} {artist} {album} "),
        "beginning" => cut(&first, 2 + (n % 3) as usize),
        "words and a beginning" => format!("{artist} {}", cut(&first, 2)),
        "first letter" => cut(&first, 1),
        "word and a first letter" => format!("{first} {}", cut(&artist, 1)),
        "field" => format!("artist:{} title:{first} ", artist.split(' ').next().unwrap_or_default()),
        "first letter of a field" => {
            let field = ["title", "artist", "album", "albumartist", "genre", "composer"][(n % 6) as usize];
            format!("{field}:{}", cut(&first, 1))
        }
        "first letter of a path" => format!("path:{}", cut(&artist, 1)),
        "beginning in a field" => {
            let field = ["title", "artist", "album"][(n % 3) as usize];
            format!("{field}:{}", cut(&first, 2 + (n % 2) as usize))
        }
        "beginning in a path" => format!("path:{}", cut(&artist, 2 + (n % 2) as usize)),
        "several beginnings" => format!("{}* {}* {}", cut(&first, 2), cut(&artist, 2), cut(&album, 2)),
        "several first letters" => format!("{}* {}* {}", cut(&first, 1), cut(&artist, 1), cut(&album, 1)),
        "phrase and a beginning" => format!("{first}-{}", cut(second, 2 + (n % 2) as usize)),
        "phrase and a first letter" => format!("{first}-{}", cut(second, 1)),
        "phrase and a first letter in a path" => format!("path:{first}-{}", cut(second, 1)),
        "phrase" => format!("\"{title}\""),
        "misspelt" => format!("{}~1 ", wrong(&first)),
        "misspelt twice" => format!("{}~2 ", wrong(&first)),
        "misspelt in a field" => format!("title:{}~{} ", wrong(&first), 1 + n % 2),
        "years" => format!("year:{year}..{}", year + 9),
        "words and years" => format!("{first} year:{year}.."),
        "either" => format!("{first} OR {album} "),
        "either, the last begun" => format!("{first} OR {}", cut(&album, 1 + (n % 3) as usize)),
        "not" => format!("NOT {first} "),
        "not, begun" => format!("NOT {}", cut(&first, 1 + (n % 3) as usize)),
        other => panic!("there are no queries '{other}'"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::MemoryMetaDb;

    #[test]
    fn words_differ_and_frequent_ones_are_short() {
        let all: HashSet<String> = (0..WORDS).map(word).collect();
        assert_eq!(all.len() as u64, WORDS);
        assert!(word(0).len() <= 3 && word(WORDS - 1).len() >= 5);
    }

    #[test]
    fn tracks_fill_a_catalogue_and_are_the_same_each_time() {
        let db = MemoryMetaDb::new();
        fill(&db, 0..50).unwrap();
        fill(&db, 25..50).unwrap();
        assert_eq!(db.totals().unwrap().tracks, 50);
        assert_eq!(track(7).0, track(7).0);
        assert_ne!(track(7).0.audio, track(8).0.audio);
    }
}
