//! Many small files, or a few large ones, for measuring.

use std::fs;
use std::path::Path;
use std::thread;

use musicfs_core::AudioMeta;

use super::flac::{Template, noise_flac};
use super::{Sample, TrackError, write_file};

/// Tracks of an album.
const ALBUM: usize = 12;
/// Albums of an artist.
const ARTIST: usize = 8;
/// Size of each small file in bytes: enough that several do not share a page, little enough that 100,000 of them
/// fit a laptop's page cache.
const SMALL: usize = 12 * 1024;

/// Writes `count` valid FLAC files of 12 KiB to `dir`: `Artist 00001/Album 000001/01 Track 0000001.flac`, twelve to
/// an album, each with tags of its own.
///
/// # Errors
/// [`TrackError`] when the disk refuses.
pub fn bench_library(dir: &Path, count: usize) -> Result<(), TrackError> {
    bench_library_of(dir, count, SMALL)
}

/// As [`bench_library`], with files of `size` bytes, or a little more where their tags need it.
///
/// # Errors
/// [`TrackError`] when the disk refuses.
pub fn bench_library_of(dir: &Path, count: usize, size: usize) -> Result<(), TrackError> {
    let Some(template) = Template::of(Sample::Flac.bytes()) else {
        return Err(TrackError::Tags { sample: Sample::Flac, reason: "the sample is not FLAC".to_owned() });
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let albums = count.div_ceil(ALBUM);
    let share = albums.div_ceil(workers).max(1);
    let template = &template;
    thread::scope(|scope| {
        let spawned: Vec<_> = (0..albums)
            .step_by(share)
            .map(|first| {
                let last = (first + share).min(albums);
                scope.spawn(move || {
                    let mut buffer = Vec::with_capacity(size);
                    let mut write = |album| write_album(dir, template, (album, count), size, &mut buffer);
                    (first..last).try_for_each(&mut write)
                })
            })
            .collect();
        spawned.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn write_album(
    dir: &Path,
    template: &Template,
    (album, count): (usize, usize),
    size: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), TrackError> {
    let artist = format!("Artist {:05}", album / ARTIST + 1);
    let title = format!("Album {:06}", album + 1);
    let year = (1950 + album % 75).to_string();
    let folder = dir.join(&artist).join(&title);
    fs::create_dir_all(&folder).map_err(TrackError::io(&folder))?;
    for index in album * ALBUM..((album + 1) * ALBUM).min(count) {
        let number = format!("{:02}", index % ALBUM + 1);
        let name = format!("Track {:07}", index + 1);
        let items = [
            ("TITLE", name.as_str()),
            ("ARTIST", &artist),
            ("ALBUM", &title),
            ("ALBUMARTIST", &artist),
            ("TRACKNUMBER", &number),
            ("TRACKTOTAL", "12"),
            ("DATE", &year),
            ("GENRE", "Test Tone"),
        ];
        template.write(buffer, items.into_iter(), size);
        let path = folder.join(format!("{number} {name}.flac"));
        fs::write(&path, &buffer).map_err(TrackError::io(&path))?;
    }
    Ok(())
}

/// Writes `count` valid FLAC files of `megabytes` MiB of noise to `dir`: `Noise/01.flac` and on, as one album.
///
/// # Errors
/// [`TrackError`] when the disk refuses.
pub fn bench_large(dir: &Path, count: usize, megabytes: usize) -> Result<(), TrackError> {
    for number in 1..=count {
        let audio = AudioMeta {
            title: Some(format!("Noise {number:02}")),
            artists: vec!["Noise".to_owned()],
            album: Some("Noise".to_owned()),
            track: Some(number as u32),
            ..AudioMeta::default()
        };
        let path = format!("Noise/{number:02}.flac");
        write_file(dir, Path::new(&path), &noise_flac(&audio, megabytes << 20))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use lofty::file::TaggedFileExt;
    use lofty::probe::Probe;
    use lofty::tag::Accessor;

    use super::*;

    #[test]
    fn small_files_are_twelve_to_an_album_and_tagged_apart() {
        let dir = tempfile::tempdir().unwrap();
        bench_library(dir.path(), 30).unwrap();
        let folder = dir.path().join("Artist 00001");
        let count = |album: &str| fs::read_dir(folder.join(album)).unwrap().count();
        assert_eq!([count("Album 000001"), count("Album 000002"), count("Album 000003")], [12, 12, 6]);
        let bytes = fs::read(folder.join("Album 000003/06 Track 0000030.flac")).unwrap();
        assert_eq!(bytes.len(), SMALL);
        let file = Probe::new(Cursor::new(bytes)).guess_file_type().unwrap().read().unwrap();
        let tag = file.primary_tag().unwrap();
        assert_eq!(tag.title().as_deref(), Some("Track 0000030"));
        assert_eq!(tag.track(), Some(6));
    }
}
