//! A small library with one of everything.

use std::path::{Path, PathBuf};

use super::{Cover, Sample, Track, TrackError, write_file, write_track};

/// A written track and where it is, relative to the library.
pub type Written = (PathBuf, Track);

/// Writes a library that shows what MusicFS does: an album with cover, cue sheet, log and lyrics; a double album in
/// folders of their own; a compilation; names in several scripts; every format; two different files with the same
/// tags; a file without tags; and a broken one. Returns the tracks, of which each is playable.
///
/// # Errors
/// [`TrackError`] when the disk refuses.
pub fn demo_library(dir: &Path) -> Result<Vec<Written>, TrackError> {
    let mut out = Vec::new();
    album(dir, &mut out)?;
    double_album(dir, &mut out)?;
    compilation(dir, &mut out)?;
    scripts(dir, &mut out)?;
    oddities(dir, &mut out)?;
    out.extend(library_of_every_format(&dir.join("formats"))?.into_iter().map(in_folder("formats")));
    Ok(out)
}

/// Writes one album with a track in each [`Sample`]'s format to `dir`.
///
/// # Errors
/// [`TrackError`] when the disk refuses.
pub fn library_of_every_format(dir: &Path) -> Result<Vec<Written>, TrackError> {
    let mut out = Vec::new();
    for (n, sample) in Sample::ALL.into_iter().enumerate() {
        let track = Track::new(sample)
            .title(format!("{sample:?}"))
            .artist("Test Tones")
            .album("One of Each")
            .track(n as u32 + 1, Sample::ALL.len() as u32)
            .date("2024")
            .cover(if n % 2 == 0 { Cover::Jpeg } else { Cover::Png });
        put(dir, &mut out, format!("{:02}.{}", n + 1, sample.extension()), track)?;
    }
    Ok(out)
}

fn in_folder(folder: &'static str) -> impl Fn(Written) -> Written {
    move |(path, track)| (Path::new(folder).join(path), track)
}

fn put(dir: &Path, out: &mut Vec<Written>, path: impl Into<PathBuf>, track: Track) -> Result<(), TrackError> {
    let path = path.into();
    write_track(dir, &path, &track)?;
    out.push((path, track));
    Ok(())
}

fn beside(dir: &Path, path: &str, bytes: &[u8]) -> Result<(), TrackError> {
    write_file(dir, Path::new(path), bytes).map(drop)
}

/// A FLAC album as a ripper leaves it.
fn album(dir: &Path, out: &mut Vec<Written>) -> Result<(), TrackError> {
    const FOLDER: &str = "rips/The_Harbour_Lights-Low_Water-2019-FLAC";
    const TITLES: [&str; 4] = ["Low Water", "Tide Table", "Slack", "Half Past the Buoy"];
    let mut cue = "PERFORMER \"The Harbour Lights\"\nTITLE \"Low Water\"\n".to_owned();
    for (n, title) in TITLES.into_iter().enumerate() {
        let number = n as u32 + 1;
        let file = format!("{number:02}-{}.flac", title.to_lowercase().replace(' ', "_"));
        let track = Track::new(Sample::Flac)
            .title(title)
            .artist("The Harbour Lights")
            .album("Low Water")
            .album_artist("The Harbour Lights")
            .track(number, 4)
            .date("2019-03-08")
            .genre("Folk")
            .cover(Cover::Jpeg);
        put(dir, out, format!("{FOLDER}/{file}"), track)?;
        cue.push_str(&format!("FILE \"{file}\" WAVE\n  TRACK {number:02} AUDIO\n    INDEX 01 00:00:00\n"));
    }
    beside(dir, &format!("{FOLDER}/cover.jpg"), Cover::Jpeg.bytes())?;
    beside(dir, &format!("{FOLDER}/Low Water.cue"), cue.as_bytes())?;
    beside(dir, &format!("{FOLDER}/rip.log"), b"Four tracks read without errors.\n")?;
    beside(dir, &format!("{FOLDER}/02-tide_table.lrc"), b"[00:00.00]The moon is late again\n")
}

/// Two discs in folders of their own, with the cover beside them.
fn double_album(dir: &Path, out: &mut Vec<Written>) -> Result<(), TrackError> {
    const FOLDER: &str = "mp3/Ana Ferreira - Night Trains";
    for disc in 1..=2 {
        for number in 1..=3 {
            let track = Track::new(if disc == 1 { Sample::Mp3Vbr } else { Sample::Mp3Cbr })
                .title(format!("Night Train {}", (disc - 1) * 3 + number))
                .artist("Ana Ferreira")
                .album("Night Trains")
                .track(number, 3)
                .disc(disc, 2)
                .date("1998")
                .genre("Jazz");
            put(dir, out, format!("{FOLDER}/CD{disc}/{number:02}.mp3"), track)?;
        }
    }
    beside(dir, &format!("{FOLDER}/cover.jpg"), Cover::Jpeg.bytes())
}

/// Several artists on one record.
fn compilation(dir: &Path, out: &mut Vec<Written>) -> Result<(), TrackError> {
    let tracks = [
        (Sample::Aac, "Ana Ferreira", "Kettle"),
        (Sample::Vorbis, "Up/Down", "Toast & $marmalade"),
        (Sample::Opus, "Sigrún Ólafsdóttir", "Skeið"),
    ];
    for (n, (sample, artist, title)) in tracks.into_iter().enumerate() {
        let track = Track::new(sample)
            .title(title)
            .artist(artist)
            .album("Kitchen Radio")
            .track(n as u32 + 1, 3)
            .date("2011")
            .compilation()
            .cover(Cover::Png);
        put(dir, out, format!("compilations/kitchen/{}.{}", n + 1, sample.extension()), track)?;
    }
    Ok(())
}

/// Names outside ASCII; one tagged in decomposed form, as macOS writes it.
fn scripts(dir: &Path, out: &mut Vec<Written>) -> Result<(), TrackError> {
    let japanese = |n: u32, title: &str| {
        Track::new(Sample::Alac).title(title).artist("高原").album("春の音").track(n, 2).date("2005")
    };
    put(dir, out, "高原/春の音/01 朝.m4a", japanese(1, "朝"))?;
    put(dir, out, "高原/春の音/02 夕方.m4a", japanese(2, "夕方"))?;
    let decomposed = Track::new(Sample::WavPack)
        .title("Ljo\u{301}s")
        .artist("Sigru\u{301}n O\u{301}lafsdo\u{301}ttir")
        .album("Vetur")
        .track(1, 1);
    put(dir, out, "sigrun/ljos.wv", decomposed)
}

/// What goes wrong in real collections.
fn oddities(dir: &Path, out: &mut Vec<Written>) -> Result<(), TrackError> {
    let twin = |sample| Track::new(sample).title("Twin").artist("The Doubles").album("Alike").track(1, 1);
    put(dir, out, "twins/one/twin.mp3", twin(Sample::Mp3Vbr))?;
    put(dir, out, "twins/two/twin.mp3", twin(Sample::Mp3Cbr))?;
    put(dir, out, "voice memo.wav", Track::new(Sample::Wav))?;
    beside(dir, "downloads/interrupted.flac", b"This download stopped before any music came.\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn demo_holds_what_it_says_and_repeats_byte_for_byte() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tracks = demo_library(one.path()).unwrap();
        assert_eq!(demo_library(two.path()).unwrap().len(), tracks.len());
        assert_eq!(tracks.len(), 4 + 6 + 3 + 3 + 3 + 16);
        for (path, _) in &tracks {
            let read = |dir: &Path| fs::read(dir.join(path)).unwrap();
            assert!(read(one.path()) == read(two.path()), "{} differs", path.display());
        }
    }
}
